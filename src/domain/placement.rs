//! Which node should own which shard: rendezvous hashing (highest random weight), computed alike by every node from the
//! list of members, and the steps that lead there from the table as it is.
//!
//! Invariants: the wish depends on the set of candidate nodes only; a node that joins or leaves moves the shards that are
//! (to be) its own and no others; a plan takes only what is free and gives only what is one's own.

use std::collections::BTreeMap;

use crate::ids::{NodeId, ShardId, fnv1a};

/// What one node should do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free shards to take.
    pub claim: Vec<ShardId>,
    /// Own shards to hand over, each with its next owner; at most as many as asked for.
    pub give: Vec<(ShardId, NodeId)>,
}

/// The node that should own `shard`, of `candidates` in any order; `None` without candidates.
pub fn wished<'a>(shard: ShardId, candidates: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    Weights::new(candidates).heaviest(shard)
}

/// Every shard's wished owner, in shard order.
pub fn wishes<'a>(candidates: impl IntoIterator<Item = &'a NodeId>) -> Vec<Option<&'a NodeId>> {
    let weights = Weights::new(candidates);
    ShardId::all().map(|shard| weights.heaviest(shard)).collect()
}

/// The next step of `me`, given the owners wished for (see [`wishes`]) and who owns the shards now, both in shard order.
///
/// It claims free shards that are to be its own and gives away at most `gifts` that are to be somebody else's. So a node
/// that is no candidate claims nothing and wants to give everything; where nobody is a candidate, nothing moves.
pub fn plan(wishes: &[Option<NodeId>], owners: &[Option<NodeId>], me: &NodeId, gifts: usize) -> Plan {
    let mut plan = Plan::default();
    for ((shard, owner), wish) in ShardId::all().zip(owners).zip(wishes) {
        match (owner, wish) {
            (None, Some(wish)) if wish == me => plan.claim.push(shard),
            (Some(owner), Some(wish)) if owner == me && wish != me && plan.give.len() < gifts => {
                plan.give.push((shard, wish.clone()));
            }
            _ => {}
        }
    }
    plan
}

/// Candidates by the hash of their name; a map, so that neither order nor repeats matter.
struct Weights<'a>(BTreeMap<&'a NodeId, u64>);

impl<'a> Weights<'a> {
    fn new(candidates: impl IntoIterator<Item = &'a NodeId>) -> Self {
        Self(candidates.into_iter().map(|node| (node, fnv1a(node.as_str().as_bytes()))).collect())
    }

    fn heaviest(&self, shard: ShardId) -> Option<&'a NodeId> {
        self.0
            .iter()
            .max_by_key(|&(node, &hash)| {
                let mut bytes = [0; 10];
                bytes[..8].copy_from_slice(&hash.to_be_bytes());
                bytes[8..].copy_from_slice(&shard.0.to_be_bytes());
                // The name decides between equal weights.
                (fnv1a(&bytes), *node)
            })
            .map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::SHARDS;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).expect("a valid id")
    }

    fn wishes_of(members: &[NodeId]) -> Vec<Option<NodeId>> {
        wishes(members).into_iter().map(|wish| wish.cloned()).collect()
    }

    fn owned(owners: &[Option<&NodeId>]) -> HashMap<NodeId, usize> {
        let mut counts = HashMap::new();
        for owner in owners.iter().flatten() {
            *counts.entry((*owner).clone()).or_default() += 1;
        }
        counts
    }

    fn members() -> impl Strategy<Value = Vec<NodeId>> {
        prop::collection::btree_set("[a-z0-9]{1,12}", 1..8)
            .prop_map(|names| names.iter().map(|name| node(name)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_node_computes_the_same(mut members in members(), turn in 0_usize..12) {
            let wishes_here = wishes_of(&members);
            let turn = turn % members.len();
            members.rotate_left(turn);
            let repeated = members.iter().chain(&members);
            let wishes_there: Vec<_> = wishes(repeated).into_iter().map(|w| w.cloned()).collect();
            prop_assert_eq!(wishes_here, wishes_there);
        }

        #[test]
        fn a_join_or_leave_moves_only_what_is_the_nodes_own(members in members()) {
            let newcomer = node("NEWCOMER");
            let before = wishes(&members);
            let with: Vec<_> = members.iter().chain([&newcomer]).cloned().collect();
            let after = wishes(&with);
            let mut moved = 0;
            for (before, after) in before.iter().zip(&after) {
                if before != after {
                    prop_assert_eq!(*after, Some(&newcomer));
                    moved += 1;
                }
            }
            let fair = usize::from(SHARDS) / with.len();
            prop_assert!(moved > fair / 2 && moved < fair * 2, "{moved} of a fair {fair}");
        }

        #[test]
        fn following_the_plans_ends_where_everyone_wished(members in members(), gifts in 40_usize..300) {
            let mut owners: Vec<Option<NodeId>> = ShardId::all()
                .map(|shard| (shard.0 % 3 > 0).then(|| members[usize::from(shard.0) % members.len()].clone()))
                .collect();
            let wished = wishes_of(&members);
            for _round in 0..=usize::from(SHARDS) / gifts + 1 {
                for me in &members {
                    let plan = plan(&wished, &owners, me, gifts);
                    prop_assert!(plan.give.len() <= gifts);
                    for shard in plan.claim {
                        prop_assert_eq!(owners[usize::from(shard.0)].replace(me.clone()), None);
                    }
                    for (shard, next) in plan.give {
                        prop_assert_eq!(owners[usize::from(shard.0)].replace(next), Some(me.clone()));
                    }
                }
            }
            prop_assert_eq!(owners, wished);
        }
    }

    #[test]
    fn shares_are_balanced_within_reason() {
        for (count, tolerance) in [(3, 0.15), (10, 0.35), (100, 1.2)] {
            let members: Vec<_> = (0..count).map(|n| node(&format!("node-{n}-{:x}", fnv1a(&[n])))).collect();
            let counts = owned(&wishes(&members));
            let fair = f64::from(SHARDS) / f64::from(count);
            for member in &members {
                let share = counts.get(member).copied().unwrap_or(0) as f64;
                assert!((share - fair).abs() <= fair * tolerance, "{share} of a fair {fair} with {count} nodes");
            }
        }
    }

    #[test]
    fn a_draining_node_gives_everything_and_takes_nothing() {
        let (a, b) = (node("a"), node("b"));
        let mut owners = vec![Some(a.clone()); usize::from(SHARDS)];
        owners[7] = None;
        let everything = plan(&wishes_of(std::slice::from_ref(&b)), &owners, &a, usize::MAX);
        assert_eq!(everything.give.len(), usize::from(SHARDS) - 1);
        assert!(everything.claim.is_empty());
        assert_eq!(plan(&wishes_of(std::slice::from_ref(&b)), &owners, &b, 64).claim, [ShardId(7)]);
        // Nobody can take it: it stays.
        assert_eq!(plan(&wishes_of(&[]), &owners, &a, 64), Plan::default());
        assert_eq!(wished(ShardId(0), &[]), None);
    }
}
