//! What the server decides, apart from doing it: no IO, no clock, no randomness, no actix. Inputs (time among them) go
//! in, effects come out, so that a seeded simulation can drive all of it.

pub mod acts;
pub mod append;
pub mod audit;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod command;
pub mod cursor;
pub mod ddl;
pub mod direct;
pub mod gather;
pub mod lease;
pub mod membership;
pub mod mentions;
pub mod owner;
pub mod placement;
pub mod presence;
pub mod revoked;
pub mod ring;
pub mod rules;
pub mod scopes;
pub mod search;
pub mod stream;
pub mod trace;
