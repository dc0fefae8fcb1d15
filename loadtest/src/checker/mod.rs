//! Is what the server showed and said true? Every client logs what it sent, what was acked and what it saw
//! ([`ledger`]); at the end the rooms' histories are read back ([`readback`]) and everything is held against them
//! ([`judge`]).
//!
//! Memory is bounded by what was sent: 24 bytes a message and 4 (up to 8 while a room grows) an entry for each worker
//! process that watches its room, however many watchers there are; 10 million entries fit into half a gibibyte.

pub mod entry;
pub mod faults;
pub mod judge;
pub mod ledger;
pub mod readback;
