//! Which fault happens when: a pure function of the seed, so that a run can be repeated.
//!
//! Invariants: the same arguments give the same schedule, and a longer run only adds to it; every kind that is allowed
//! comes once in each round, in an order that is shuffled anew; a fault fits to those that are still going on, as far as
//! their length can be told beforehand (the executor looks again at what is).

use crate::chaos::chance::Chance;
use crate::chaos::fault::{Action, Cut, Kind, Link, Ways};
use crate::stack::postgres::Shutdown;

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Seconds from the start of the schedule.
    pub at_s: f64,
    /// How long it is left so before it is healed.
    pub length_s: f64,
    pub action: Action,
}

impl Fault {
    /// What is needed beyond its length until everything works again, roughly: drains, starts, a new lease.
    fn recovery_s(&self, members: usize) -> f64 {
        match self.action.kind() {
            Kind::Kill | Kind::CutRedis | Kind::CutPostgres | Kind::CutBoth => 2.0,
            Kind::Term | Kind::RemoveNode => 4.0,
            Kind::Freeze | Kind::Slow | Kind::RedisRestart | Kind::RedisFlushall => 1.0,
            Kind::Restart => 5.0 * members as f64,
            Kind::PostgresRestart | Kind::AddNode => 3.0,
        }
    }
}

struct Planner {
    chance: Chance,
    members: Vec<usize>,
    /// Nodes that could join.
    out: Vec<usize>,
    fewest_members: usize,
    /// Those that are drawn so far with the time when they are expected to be over.
    faults: Vec<(Fault, f64)>,
}

/// Faults of the `allowed` kinds for `length_s` seconds, in the order of their time, for a cluster of `nodes` and as
/// many `spare` ones that may join. A fault that would not be over in time is left out, and everything behind it.
///
/// `add-node` and `remove-node` undo each other: where no node is left for the one, the other happens in its place.
pub fn schedule(seed: u64, length_s: f64, allowed: &[Kind], nodes: usize, spare: usize) -> Vec<Fault> {
    let mut planner = Planner {
        chance: Chance::new(seed),
        members: (0..nodes).collect(),
        out: (nodes..nodes + spare).collect(),
        fewest_members: nodes.min(2),
        faults: Vec::new(),
    };
    let mut kinds = allowed.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    while !kinds.is_empty() {
        planner.chance.shuffle(&mut kinds);
        for &kind in &kinds {
            if !planner.add(kind, length_s) {
                return planner.faults.into_iter().map(|(fault, _)| fault).collect();
            }
        }
    }
    Vec::new()
}

impl Planner {
    /// Puts a fault of this kind behind the others. False: it would not be over in time.
    fn add(&mut self, kind: Kind, length_s: f64) -> bool {
        let kind = self.possible(kind);
        // Everything is drawn whether it is needed or not, so that one choice does not shift all later ones.
        let early = self.chance.below(4) == 0;
        let (share, gap) = (self.chance.between(0.1, 0.9), self.chance.between(0.5, 3.0));
        let pick = self.chance.next();
        let last = self.faults.last().map(|&(fault, end)| fault.at_s + share * (end - fault.at_s));
        let all_over = self.faults.iter().map(|&(_, end)| end).fold(0.0, f64::max);
        let drawn = self.draw(kind);
        let overlapping = last.filter(|_| early).and_then(|at| {
            let active = self.active(at);
            let action = self.aimed(drawn.action, pick, &active)?;
            action.fits(&active, &self.members).then_some((at, action))
        });
        let sequential = || Some((all_over + gap, self.aimed(drawn.action, pick, &[])?));
        let Some((at_s, action)) = overlapping.or_else(sequential) else { return false };
        let at_s = (at_s * 1e3).round() / 1e3;
        let fault = Fault { at_s, action, ..drawn };
        let end = at_s + fault.length_s + fault.recovery_s(self.members.len());
        if end > length_s {
            return false;
        }
        match action {
            Action::AddNode { node } => {
                self.out.retain(|&other| other != node);
                self.members.push(node);
            }
            Action::RemoveNode { node } => {
                self.members.retain(|&other| other != node);
                self.out.push(node);
            }
            _ => {}
        }
        self.faults.push((fault, end));
        true
    }

    fn possible(&self, kind: Kind) -> Kind {
        match kind {
            Kind::AddNode if self.out.is_empty() => Kind::RemoveNode,
            Kind::RemoveNode if self.members.len() <= self.fewest_members => Kind::AddNode,
            _ => kind,
        }
    }

    fn active(&self, at: f64) -> Vec<Action> {
        self.faults.iter().filter(|&&(_, end)| end > at).map(|(fault, _)| fault.action).collect()
    }

    /// The action with its node chosen among those that it can be done to; `None` where there is none.
    fn aimed(&self, action: Action, pick: u64, active: &[Action]) -> Option<Action> {
        let mut nodes = if action.kind() == Kind::AddNode { self.out.clone() } else { self.members.clone() };
        nodes.retain(|&node| active.iter().all(|action| action.node() != Some(node)));
        let at = |nodes: &[usize]| nodes.get((pick % nodes.len().max(1) as u64) as usize).copied();
        Some(match action {
            Action::Kill { .. } => Action::Kill { node: at(&nodes)? },
            Action::Term { .. } => Action::Term { node: at(&nodes)? },
            Action::Freeze { .. } => Action::Freeze { node: at(&nodes)? },
            Action::Cut { from, how, .. } => Action::Cut { node: at(&nodes)?, from, how },
            Action::Slow { link, by_ms, .. } => Action::Slow { node: at(&nodes)?, link, by_ms },
            Action::AddNode { .. } => Action::AddNode { node: at(&nodes)? },
            Action::RemoveNode { .. } => Action::RemoveNode { node: at(&nodes)? },
            other @ (Action::Restart
            | Action::RedisRestart
            | Action::RedisFlushall
            | Action::PostgresRestart { .. }) => other,
        })
    }

    /// One of this kind, not yet aimed at a node or put to a time.
    fn draw(&mut self, kind: Kind) -> Fault {
        let chance = &mut self.chance;
        let ways = chance.one_of(&[Ways::Out, Ways::In, Ways::OutAndIn]);
        let how = chance.one_of(&[Cut::Lose(ways), Cut::Hold(ways), Cut::Close]);
        let link = chance.one_of(&[Link::Redis, Link::Postgres, Link::Both]);
        let by = chance.one_of(&[Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill]);
        let by_ms = chance.between(5.0, 200.0) as u64;
        let paused = chance.below(2) == 0;
        let share = chance.between(0.0, 1.0);
        let node = 0;
        let (action, least, most) = match kind {
            Kind::Kill => (Action::Kill { node }, 0.0, 5.0),
            Kind::Term => (Action::Term { node }, 0.0, 2.0),
            Kind::Freeze => (Action::Freeze { node }, 5.0, 20.0),
            Kind::CutRedis => (Action::Cut { node, from: Link::Redis, how }, 1.0, 15.0),
            Kind::CutPostgres => (Action::Cut { node, from: Link::Postgres, how }, 1.0, 15.0),
            Kind::CutBoth => (Action::Cut { node, from: Link::Both, how }, 1.0, 15.0),
            Kind::Slow => (Action::Slow { node, link, by_ms }, 3.0, 15.0),
            Kind::Restart => (Action::Restart, 0.0, 0.0),
            Kind::RedisRestart => (Action::RedisRestart, 0.0, 5.0),
            Kind::RedisFlushall if paused => (Action::RedisFlushall, 0.5, 3.0),
            Kind::RedisFlushall => (Action::RedisFlushall, 0.0, 0.0),
            Kind::PostgresRestart => (Action::PostgresRestart { by }, 0.0, 5.0),
            Kind::AddNode => (Action::AddNode { node }, 0.0, 0.0),
            Kind::RemoveNode => (Action::RemoveNode { node }, 0.0, 0.0),
        };
        let length_s = ((least + (most - least) * share) * 1e3).round() / 1e3;
        Fault { at_s: 0.0, length_s, action }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;

    const ALL: &[Kind] = &[
        Kind::Kill,
        Kind::Term,
        Kind::Freeze,
        Kind::CutRedis,
        Kind::CutPostgres,
        Kind::CutBoth,
        Kind::Slow,
        Kind::Restart,
        Kind::RedisRestart,
        Kind::RedisFlushall,
        Kind::PostgresRestart,
        Kind::AddNode,
        Kind::RemoveNode,
    ];

    #[test]
    fn every_kind_is_tried_here() {
        assert_eq!(ALL, Kind::value_variants());
    }

    #[test]
    fn the_same_seed_gives_the_same_and_a_longer_run_only_adds() {
        for seed in 0..100 {
            let short = schedule(seed, 180.0, ALL, 3, 1);
            assert_eq!(short, schedule(seed, 180.0, ALL, 3, 1));
            let long = schedule(seed, 1_800.0, ALL, 3, 1);
            assert_eq!(short, long[..short.len()]);
            assert_ne!(short, schedule(seed + 1, 180.0, ALL, 3, 1));
        }
    }

    #[test]
    fn a_seed_means_this_schedule_for_ever() {
        let lines: Vec<String> = schedule(1, 60.0, ALL, 3, 1)
            .iter()
            .map(|fault| format!("{:.3} {:.3} {}", fault.at_s, fault.length_s, fault.action))
            .collect();
        let known = [
            "1.590 2.480 node 3: kill -9",
            "3.068 11.585 node 2: frozen",
            "17.512 0.000 Redis: FLUSHALL",
            "19.410 2.232 node 3: cut off from Redis and PostgreSQL, both ways, lost",
            "26.538 0.074 node 3: SIGTERM and start again",
            "28.799 0.000 node 4: joins",
            "33.923 0.000 node 2: drained away",
            "39.393 6.708 node 1: Redis 169 ms away each way",
            "49.264 6.404 node 3: cut off from Redis, refused",
        ];
        assert_eq!(lines, known);
    }

    #[test]
    fn every_kind_comes_in_the_first_round_and_four_faults_a_minute_happen() {
        for seed in 0..500 {
            let faults = schedule(seed, 180.0, ALL, 3, 1);
            assert!(faults.len() >= 12, "seed {seed}: {}", faults.len());
            let faults = schedule(seed, 600.0, ALL, 3, 1);
            let kinds: BTreeSet<Kind> = faults[..ALL.len()].iter().map(|fault| fault.action.kind()).collect();
            assert_eq!(kinds.len(), ALL.len(), "seed {seed}");
        }
    }

    #[test]
    fn one_member_is_always_left_in_peace() {
        for nodes in 1..=5 {
            let allowed: Vec<Kind> = ALL.iter().copied().filter(|kind| kind.needs_nodes() <= nodes).collect();
            for seed in 0..200 {
                let mut members: Vec<usize> = (0..nodes).collect();
                let mut open: Vec<(Fault, f64)> = Vec::new();
                let mut last_at = 0.0;
                for fault in schedule(seed, 900.0, &allowed, nodes, 1) {
                    assert!(fault.at_s >= last_at);
                    last_at = fault.at_s;
                    open.retain(|&(_, end)| end > fault.at_s);
                    let active: Vec<Action> = open.iter().map(|(fault, _)| fault.action).collect();
                    assert!(
                        fault.action.fits(&active, &members),
                        "{nodes} nodes, seed {seed}: {fault:?} in {active:?}"
                    );
                    open.push((fault, fault.at_s + fault.length_s + fault.recovery_s(members.len())));
                    match fault.action {
                        Action::AddNode { node } => members.push(node),
                        Action::RemoveNode { node } => members.retain(|&member| member != node),
                        _ => {}
                    }
                    let hit = |member: &&usize| open.iter().any(|(fault, _)| fault.action.node() == Some(**member));
                    let rolling = open.iter().any(|(fault, _)| fault.action == Action::Restart);
                    assert!(rolling || members.iter().any(|member| !hit(&member)), "{nodes} nodes, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn about_a_quarter_begin_before_the_last_is_healed() {
        let faults = schedule(3, 20_000.0, ALL, 5, 1);
        let early = faults.windows(2).filter(|pair| pair[1].at_s < pair[0].at_s + pair[0].length_s).count();
        let share = early as f64 / faults.len() as f64;
        assert!((0.08..0.3).contains(&share), "{share}");
    }

    #[test]
    fn one_kind_alone_goes_on_for_ever() {
        for &kind in ALL {
            let faults = schedule(5, 600.0, &[kind], 3, 1);
            assert!(faults.len() >= 20, "{kind:?}: {}", faults.len());
            assert!(faults.iter().any(|fault| fault.action.kind() == kind));
        }
        let lengths = schedule(5, 6_000.0, &[Kind::Freeze], 3, 1);
        assert!(lengths.iter().all(|fault| (5.0..=20.0).contains(&fault.length_s)));
    }
}
