//! The actors: thin shells that carry out what `domain` decides.

pub mod deflate;
pub mod frame;
pub mod hub;
pub mod messages;
pub mod outbox;
pub mod session;
