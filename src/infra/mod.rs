//! What carries out the ports: stores and buses.

pub mod loopback;
pub mod redis;
