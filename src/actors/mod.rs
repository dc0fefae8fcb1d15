//! The actors: thin shells that carry out what `domain` decides.

pub mod bus;
pub mod cluster;
pub mod deflate;
pub mod envelope;
pub mod frame;
pub mod hub;
pub mod messages;
pub mod outbox;
pub mod persistence;
pub mod posts;
pub mod room;
pub mod router;
pub mod session;
pub mod sink;
pub mod stream_id;
