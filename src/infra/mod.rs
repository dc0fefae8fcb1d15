//! What carries out the ports: stores and buses.

pub mod changes;
pub mod codes;
pub mod postgres;
pub mod rows;
pub mod sqlite;
