//! `upgrade`: from one release of the server to another and back, node by node, while everybody goes on writing and reading.

pub mod command;
mod gauges;
mod picture;
mod roll;
