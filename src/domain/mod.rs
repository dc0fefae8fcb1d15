//! What the server decides, apart from doing it: no IO, no clock, no randomness, no actix. Inputs (time among them) go
//! in, effects come out, so that a seeded simulation can drive all of it.

pub mod command;
pub mod lease;
pub mod placement;
