//! Shards among many nodes: how evenly they spread, how many move when nodes come and go, how soon everyone agrees.

use std::collections::HashMap;
use std::time::Instant;

use roundtable::domain::placement::{plan, wished, wishes};
use roundtable::ids::{NodeId, SHARDS, ShardId};

use super::{Chance, nodes};

/// Shards that a node hands over at a time (`domain/membership`).
const GIFTS: usize = 64;

type Owners = Vec<Option<NodeId>>;

fn wishes_of(members: &[NodeId]) -> Owners {
    wishes(members).into_iter().map(|wish| wish.cloned()).collect()
}

fn shares(owners: &Owners) -> HashMap<&NodeId, usize> {
    let mut shares = HashMap::new();
    owners.iter().flatten().for_each(|owner| *shares.entry(owner).or_default() += 1);
    shares
}

#[test]
fn shards_spread_as_evenly_as_chance_allows() {
    println!("\n| nodes | mean shards | fewest | most | most / mean | nodes without | one computation (this build) |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    let mut chance = Chance::new(7);
    // Most / mean, generously: about what the largest of so many Poisson numbers is.
    for (count, clusters, bound) in [(3, 5, 1.2), (10, 5, 1.5), (100, 3, 2.6), (300, 2, 4.0), (1_000, 2, 9.0)] {
        let (mut fewest, mut most, mut without, mut took) = (usize::MAX, 0, 0, 0.0);
        for _ in 0..clusters {
            let members = nodes(count, &mut chance);
            let began = Instant::now();
            let owners = wishes_of(&members);
            took += began.elapsed().as_secs_f64() * 1e3 / f64::from(clusters);
            let shares = shares(&owners);
            let share = |member| shares.get(member).copied().unwrap_or(0);
            fewest = members.iter().map(share).min().unwrap_or(0).min(fewest);
            most = members.iter().map(share).max().unwrap_or(0).max(most);
            without += members.iter().filter(|member| share(member) == 0).count();
        }
        let mean = f64::from(SHARDS) / count as f64;
        let skew = most as f64 / mean;
        let without = without as f64 / f64::from(clusters);
        println!("| {count} | {mean:.1} | {fewest} | {most} | {skew:.2} | {without:.0} | {took:.1} ms |");
        assert!(skew <= bound, "the fullest of {count} nodes has {skew:.2} times the mean, over {bound}");
    }
}

/// The table, everyone's wish, and what has moved.
struct Cluster {
    members: Vec<NodeId>,
    owners: Owners,
    wishes: Owners,
    /// Shards that changed hands, for every reason.
    moves: usize,
    /// Of these, to a node whose wish it was not at that moment.
    strayed: usize,
}

impl Cluster {
    fn new(members: Vec<NodeId>) -> Self {
        let owners = wishes_of(&members);
        Self { members, wishes: owners.clone(), owners, moves: 0, strayed: 0 }
    }

    /// The wish of a larger cluster is the old one or the newcomer; `check` holds that against the whole computation.
    fn joins(&mut self, node: NodeId) {
        for (shard, wish) in ShardId::all().zip(&mut self.wishes) {
            *wish = wished(shard, wish.iter().chain([&node])).cloned();
        }
        self.members.push(node);
    }

    /// A node that dies leaves its shards free; one that drains gives them away.
    fn leaves(&mut self, at: usize, dies: bool) {
        let node = self.members.swap_remove(at);
        for (shard, wish) in ShardId::all().zip(&mut self.wishes) {
            if *wish == Some(node.clone()) {
                *wish = wished(shard, &self.members).cloned();
            }
        }
        if dies {
            self.owners.iter_mut().filter(|owner| **owner == Some(node.clone())).for_each(|owner| *owner = None);
        }
    }

    fn check(&self) {
        let computed = wishes_of(&self.members);
        let differ = self.wishes.iter().zip(&computed).filter(|(here, there)| here != there).count();
        assert_eq!(differ, 0, "shards that every node would compute another owner for");
    }

    /// Everybody carries its plan out until nobody has one; gives the rounds.
    fn settles(&mut self) -> usize {
        for round in 0.. {
            // Whoever has something to do: it owns what is another's by wish, or wishes for what is free.
            let unsettled = self.owners.iter().zip(&self.wishes).filter(|(owner, wish)| owner != wish);
            let mut busy: Vec<NodeId> =
                unsettled.filter_map(|(owner, wish)| owner.clone().or_else(|| wish.clone())).collect();
            busy.sort();
            busy.dedup();
            if busy.is_empty() {
                return round;
            }
            assert!(round < 20, "{} nodes still have something to move", busy.len());
            for node in busy {
                let plan = plan(&self.wishes, &self.owners, &node, GIFTS);
                let claims = plan.claim.into_iter().map(|shard| (shard, node.clone()));
                for (shard, to) in claims.chain(plan.give) {
                    let at = usize::from(shard.0);
                    self.strayed += usize::from(self.wishes[at].as_ref() != Some(&to));
                    self.owners[at] = Some(to);
                    self.moves += 1;
                }
            }
        }
        unreachable!("the loop has no end but the return")
    }

    fn share(&self, node: &NodeId) -> usize {
        self.wishes.iter().filter(|wish| wish.as_ref() == Some(node)).count()
    }
}

#[test]
fn nodes_that_come_and_go_move_their_own_shards_only() {
    println!("\n| change | shards moved | least possible | fair share of as many nodes | most rounds to agree |");
    println!("|---|--:|--:|--:|--:|");
    let mut chance = Chance::new(11);
    let mut cluster = Cluster::new(nodes(900, &mut chance));
    for (name, dies) in
        [("100 join, one after another", None), ("100 drain", Some(false)), ("100 are killed", Some(true))]
    {
        if dies == Some(true) {
            nodes(100, &mut chance).into_iter().for_each(|node| cluster.joins(node));
            cluster.settles();
        }
        let (mut least, mut fair, mut rounds) = (0, 0.0, 0);
        cluster.moves = 0;
        for _ in 0..100 {
            if let Some(dies) = dies {
                fair += f64::from(SHARDS) / cluster.members.len() as f64;
                let at = chance.below(cluster.members.len() as u64) as usize;
                least += cluster.share(&cluster.members[at].clone());
                cluster.leaves(at, dies);
            } else {
                let node = nodes(1, &mut chance).remove(0);
                cluster.joins(node.clone());
                least += cluster.share(&node);
                fair += f64::from(SHARDS) / cluster.members.len() as f64;
            }
            rounds = rounds.max(cluster.settles());
        }
        cluster.check();
        let moves = cluster.moves;
        println!(
            "| {name} ({} → {}) | {moves} | {least} | {fair:.0} | {rounds} |",
            if dies.is_none() { 900 } else { 1_000 },
            cluster.members.len()
        );
        assert_eq!(moves, least, "{name}: only what belongs to who came or went");
        assert!((moves as f64) < fair * 1.5 && moves as f64 > fair / 1.5, "{name}: {moves} of a fair {fair:.0}");
        assert!(rounds <= 1, "{name}: {rounds} rounds, and nobody had more than {GIFTS} to give");
        assert_eq!(cluster.strayed, 0);
    }
}

#[test]
fn a_hundred_nodes_at_once_move_no_shard_twice() {
    let mut chance = Chance::new(13);
    let mut cluster = Cluster::new(nodes(200, &mut chance));
    let newcomers = nodes(100, &mut chance);
    newcomers.iter().for_each(|node| cluster.joins(node.clone()));
    cluster.check();
    let least: usize = newcomers.iter().map(|node| cluster.share(node)).sum();
    let rounds = cluster.settles();
    assert_eq!((cluster.moves, cluster.strayed), (least, 0));
    println!("\n200 nodes, 100 join at once: {least} shards moved, {rounds} round");
    // A third of all shards, as of the nodes.
    assert!((250..=440).contains(&least), "{least} of {SHARDS}");
}

/// What the assertions above would say of placement by remainder, which is simple and moves nearly everything.
#[test]
fn placement_by_remainder_would_be_caught() {
    let mut chance = Chance::new(17);
    let members = nodes(301, &mut chance);
    let by_remainder = |members: &[NodeId]| -> Owners {
        ShardId::all().map(|shard| Some(members[usize::from(shard.0) % members.len()].clone())).collect()
    };
    let (before, after) = (by_remainder(&members[..300]), by_remainder(&members));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    let newcomers = shares(&after).get(&members[300]).copied().unwrap_or(0);
    assert!(moved > 50 * newcomers, "{moved} moved for a share of {newcomers}");
}
