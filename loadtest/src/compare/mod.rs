//! `compare PEER…`: the same work against Roundtable, the bare broadcaster and what people would pick instead, by the
//! same clients on the same schedule. Rows alternate between the peers within each round, each against a server started
//! for it alone, so that what else the machine does meets all of them and nobody inherits another row's memory.

mod broadcast;
mod crowd;
mod dialect;
mod durable;
mod figures;
mod idle;
mod install;
mod ledger;
mod options;
mod peers;
mod readback;
mod rounds;
mod server;
mod tag;

pub use options::Options;
pub use rounds::run;
