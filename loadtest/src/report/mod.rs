//! From what was measured to what people and programs read: a table, JSON, one HTML page, objectives.

pub mod outcome;
pub mod table;
