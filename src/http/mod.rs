//! The front door: the HTTP API, the WebSocket upgrade, and the admin listener.
//!
//! Invariant: nothing here decides what a caller may do in a room; every change of a room and every permission is
//! asked of the room itself, in the order of its other requests. Reads of lists and pages go to the store.

pub mod admin;
pub mod api;
pub mod app;
pub mod attachments;
pub mod client_address;
pub mod limits;
mod links;
mod operator;
pub mod overview;
pub mod problem;
mod query;
pub mod redirect;
mod request_id;
pub mod security;
pub mod server;
mod sniff;
pub mod socket;
pub mod stream;
pub mod tls;
