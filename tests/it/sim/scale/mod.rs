//! A cluster of a thousand nodes: the real placement, envelopes and leases, and the rules of `actors/bus` and
//! `actors/room` about who is told what, counted instead of carried out. It shows that a node that joins or leaves moves
//! its own shards only, and that what a node or a link carries grows no faster than the number of nodes.
//!
//! `cargo test --test it scale -- --nocapture` prints the tables that `loadtest/RESULTS.md` has.

mod moves;
mod traffic;

use roundtable::ids::NodeId;

use super::chance::Chance;

/// Ids as nodes choose them (`startup`).
fn nodes(count: usize, chance: &mut Chance) -> Vec<NodeId> {
    (0..count).map(|_| NodeId::parse(&format!("n-{:012x}", chance.bits() >> 16)).expect("a valid id")).collect()
}
