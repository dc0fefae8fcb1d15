//! The actors: thin shells that carry out what `domain` decides.

pub mod cluster;
pub mod messages;
