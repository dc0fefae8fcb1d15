//! What the tests stand on: real servers, started and ended by the tests themselves, and a breakable network.
//! What the tests need around the server: the real things it talks to, started and ended by the tests themselves.

pub mod postgres;
pub mod redis;
