//! What carries out the ports: stores and buses.

pub mod changes;
pub mod codes;
pub mod loopback;
pub mod postgres;
pub mod redis;
pub mod rows;
pub mod sqlite;
