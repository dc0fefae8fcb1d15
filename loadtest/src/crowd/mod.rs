//! The people of a run: who they are and what they do ([`job`]), the processes that play them ([`worker`], [`player`]),
//! and what their conductor hears of them ([`session`], [`news`]).

pub mod crew;
pub mod figures;
pub mod gate;
pub mod gathered;
pub mod job;
pub mod names;
pub mod news;
pub mod person;
pub mod player;
pub mod schedule;
pub mod session;
pub mod tally;
pub mod web;
pub mod worker;
