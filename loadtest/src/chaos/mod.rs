//! Chaos: a private cluster under load while a seeded schedule of faults breaks it; then everything is healed, everyone
//! catches up, and the checker says whether anything was lost, repeated, reordered or invented.

pub mod chance;
pub mod command;
mod conductor;
mod executor;
mod fault;
mod schedule;
mod statistics;
