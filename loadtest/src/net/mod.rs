//! Talking to servers: WebSocket framing and scanning, thousands of connections on one thread, the few HTTP calls beside
//! them, and the tokens that sessions show.

pub mod fleet;
pub mod http;
pub mod token;
pub mod wire;
