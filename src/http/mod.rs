//! The front door: HTTP and WebSocket.

pub mod client_address;
pub mod socket;
