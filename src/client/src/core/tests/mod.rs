//! The core against a model of a room's log, by a clock and chances that the tests make.

mod model;
mod steps;
