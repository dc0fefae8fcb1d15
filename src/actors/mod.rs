//! The actors: thin shells that carry out what `domain` decides.

pub mod bus;
pub mod envelope;
pub mod messages;
pub mod persistence;
pub mod room;
pub mod router;
