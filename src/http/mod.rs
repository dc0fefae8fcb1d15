//! The front door: the HTTP API, the WebSocket upgrade, and the admin listener.
//!
//! Invariant: nothing here decides what a caller may do in a room; every change of a room and every permission is
//! asked of the room itself, in the order of its other requests. Reads of lists and pages go to the store.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub mod admin;
pub mod api;
pub mod client_address;
pub mod limits;
pub mod problem;
mod query;
pub mod security;
pub mod server;

use crate::actors::hub::MessageRates;
use crate::auth::Authenticator;
use crate::ports::MessageStore;

/// Tells every node that a login was revoked, by the hash of its token: its sessions close with 4003.
pub type RevokePort = Arc<dyn Fn([u8; 32]) + Send + Sync>;

/// What all worker threads share.
pub struct Shared {
    pub store: Arc<dyn MessageStore>,
    pub authenticator: Arc<Authenticator>,
    pub revoke: RevokePort,
    /// By client address.
    pub rates: limits::AddressRates,
    /// By user, shared with the sessions.
    pub message_rates: Arc<MessageRates>,
    pub origins: security::Origins,
    /// `server.trusted_proxies`.
    pub proxies: Vec<IpNet>,
    /// `server.hsts`: also without https.
    pub hsts: bool,
    /// How long a login lasts; the cookie's `Max-Age`.
    pub session: Duration,
}
