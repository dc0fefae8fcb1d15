//! The smallest number of nodes that can do and carry everything.
//!
//! Invariant: every count is tried from 1 up, because a sum may fit one node and not two (there is no bus then); so more
//! load, which makes every count's sum larger, never gives fewer nodes.

use super::costs::Costs;
use super::demand::Demand;
use super::options::Load;
use crate::fail::{Fail, Result};

/// Above it a single cluster is not worth a sum: each node keeps a link to every other.
pub const MOST_NODES: u32 = 20_000;

/// What a node must have enough of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    Cpu,
    CoreThread,
    Memory,
    Reconnect,
}

pub const NEEDS: [Need; 4] = [Need::Cpu, Need::CoreThread, Need::Memory, Need::Reconnect];

impl Need {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::CoreThread => "the one core thread of a node",
            Self::Memory => "memory",
            Self::Reconnect => "CPU while sessions come back",
        }
    }

    /// What a node needs of it, and has.
    pub fn of(self, demand: &Demand, load: &Load) -> (f64, f64) {
        match self {
            Self::Cpu => (demand.node_cpu, load.cores * load.use_cpu),
            Self::CoreThread => (demand.core_cpu, load.use_cpu),
            Self::Memory => (demand.node_bytes, load.memory_bytes * load.use_memory),
            Self::Reconnect => (demand.storm_cpu, load.cores * load.use_cpu_storm),
        }
    }

    fn is_met(self, demand: &Demand, load: &Load) -> bool {
        let (needed, there) = self.of(demand, load);
        needed <= there
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Nodes that are enough when the others are dead.
    pub working: u32,
    /// The same for each need alone: one more than the most that are too few for it.
    pub alone: Vec<(Need, u32)>,
}

impl Fleet {
    /// The need that asks for most nodes.
    pub fn binds(&self) -> Need {
        self.alone.iter().rev().max_by_key(|(_, nodes)| *nodes).map_or(Need::Cpu, |(need, _)| *need)
    }
}

/// # Errors
/// Names the need that no fleet meets.
pub fn smallest(load: &Load, costs: &Costs) -> Result<Fleet> {
    let mut alone: Vec<(Need, u32)> = NEEDS.map(|need| (need, 1)).to_vec();
    for nodes in 1..=MOST_NODES {
        let demand = Demand::of(nodes.into(), load, costs);
        // The same with nobody dead: where one node works alone there is no bus, and with the second one there is.
        let whole = Demand::of(f64::from(nodes) + load.failures, load, costs);
        let mut all = true;
        for (need, enough) in &mut alone {
            if !(need.is_met(&demand, load) && need.is_met(&whole, load)) {
                all = false;
                *enough = nodes + 1;
            }
        }
        if all {
            return Ok(Fleet { working: nodes, alone });
        }
    }
    let last = Demand::of(MOST_NODES.into(), load, costs);
    let short = NEEDS.iter().filter(|need| !need.is_met(&last, load)).map(|need| need.name());
    Err(Fail::Setup(format!(
        "no cluster of up to {MOST_NODES} such nodes carries this; short of {}: spread it over several clusters, or over \
         larger nodes",
        short.collect::<Vec<_>>().join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::super::costs::tests::costs;
    use super::*;

    pub fn load() -> Load {
        Load {
            connections: 200_000.0,
            rooms: 20_000.0,
            sends_per_s: 2_000.0,
            rooms_per_connection: 10.0,
            room_readers: 100.0,
            readers: 100.0,
            text_bytes: 100.0,
            hours: 1.0,
            reconnect_s: 30.0,
            failures: 1.0,
            cores: 4.0,
            memory_bytes: 8e9,
            use_cpu: 0.6,
            use_cpu_storm: 0.8,
            use_memory: 0.7,
            lease_s: 2.0,
        }
    }

    #[test]
    fn one_need_alone_is_a_division() {
        // 200,000 deliveries/s × 30 µs = 6 cores; 2.4 of a node may be used.
        let none: Vec<(&str, f64)> =
            Costs::built_in().expect("good").all().iter().map(|(key, ..)| (*key, 0.0)).collect();
        let only = |key: &str, value: f64| {
            let given: Vec<_> = none.iter().map(|(k, v)| (*k, if *k == key { value } else { *v })).collect();
            let given: Vec<_> = given.into_iter().filter(|(k, _)| *k != "store_most").collect();
            smallest(&Load { hours: 0.0, ..load() }, &costs(&given)).expect("fits")
        };
        let fleet = only("delivery_node", 30.0);
        assert_eq!((fleet.working, fleet.binds()), (3, Need::Cpu));
        // 200,000 sessions × 70 kB = 14 GB; 5.6 GB of a node may be used.
        let fleet = only("session_memory", 70_000.0);
        assert_eq!((fleet.working, fleet.binds()), (3, Need::Memory));
        // n nodes take 200,000 / (n + 1) / 30 s × 10,000 µs = 66.7 / (n + 1) cores, of 3.2 each: n (n + 1) ≥ 20.8.
        let fleet = only("session_enter", 10_000.0);
        assert_eq!((fleet.working, fleet.binds()), (5, Need::Reconnect));
        // 2,000 × 700 µs = 1.4 cores, of which a core thread has 0.6; with 3 nodes the fullest has over a third, 0.48.
        let fleet = only("send_core", 700.0);
        assert_eq!((fleet.working, fleet.binds()), (3, Need::CoreThread));
    }

    #[test]
    fn a_second_node_brings_a_bus_and_must_fit_too() {
        // Alone: no bus, nothing to do. With a second one: 2,000 × 2 × (1 − 1/2) requests and answers and 2,000 commits to
        // the one other node, 4,000 × 1,500 µs = 6 cores for two nodes that may use 2.4 each.
        let none = Costs::built_in().expect("good");
        let given: Vec<_> =
            none.all().iter().map(|(key, ..)| (*key, 0.0)).filter(|(key, _)| *key != "store_most").collect();
        let with = |us: f64| {
            let given: Vec<_> = given.iter().map(|(k, v)| (*k, if *k == "envelope_node" { us } else { *v })).collect();
            smallest(&Load { hours: 0.0, ..load() }, &costs(&given)).expect("fits").working
        };
        assert_eq!(with(100.0), 1);
        assert!(with(1_500.0) > 2, "{}", with(1_500.0));
    }

    #[test]
    fn what_nothing_can_carry_is_said() {
        let error = smallest(&load(), &costs(&[("session_idle", 1e12)])).expect_err("too much").to_string();
        assert!(error.contains("short of CPU") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn more_load_never_needs_fewer_nodes() {
        let costs = Costs::built_in().expect("good");
        type Grow = fn(&mut Load, f64);
        let grows: [(&str, Grow); 5] = [
            ("connections", |load, by| load.connections *= by),
            ("sends", |load, by| load.sends_per_s *= by),
            ("readers", |load, by| load.readers *= by),
            ("failures", |load, by| load.failures = (load.failures * by).floor()),
            ("less memory", |load, by| load.memory_bytes /= by.sqrt()),
        ];
        for (name, grow) in grows {
            let mut before = 0;
            let mut load = load();
            for _ in 0..14 {
                let nodes = smallest(&load, &costs).expect("fits").working;
                assert!(nodes >= before, "{name}: {nodes} after {before} at {load:?}");
                before = nodes;
                grow(&mut load, 1.3);
            }
            assert!(before > 1, "{name}: the load never grew past one node");
        }
    }
}
