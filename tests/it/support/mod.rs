//! What the tests need around the server: the real things it talks to, started and ended by the tests themselves.

pub mod postgres;
