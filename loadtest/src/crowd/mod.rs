//! The people of a run: who they are, what they do and when, the processes that play them, and what is heard from them.

pub mod job;
pub mod session;
