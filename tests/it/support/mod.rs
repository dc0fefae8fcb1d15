//! What the tests stand on: real servers, started and ended by the tests themselves, and a breakable network.

pub mod proxy;
pub mod redis;
