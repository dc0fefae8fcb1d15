//! What carries out the ports: stores and buses.

mod changes;
mod codes;
mod erasing;
mod expiring;
mod index;
pub mod loopback;
pub mod postgres;
pub mod redis;
mod rows;
pub mod schema;
pub mod sealed;
pub mod sqlite;
