//! The actors: thin shells that carry out what `domain` decides.

pub mod messages;
