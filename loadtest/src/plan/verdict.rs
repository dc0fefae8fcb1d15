//! Puts the sum together: what is asked, each step with its costs, what comes of it, and where it stands on thin ice.

use serde_json::{Value, json};

use super::account::{Account, bytes, counted, number};
use super::costs::Costs;
use super::demand::{Bus, Demand};
use super::fleet::{self, Need};
use super::options::Load;
use super::spread::SHARDS;
use super::steps::{self, Store};
use crate::fail::Result;

/// A cost used this many times beyond where it was measured is called extrapolated.
const FAR: f64 = 2.0;
/// Above it, PostgreSQL spends itself on connections; a pooler or `store.connections` has to keep it below.
const STORE_CONNECTIONS: f64 = 500.0;

/// What comes of the sum.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verdict {
    pub nodes: u32,
    pub working_nodes: u32,
    pub binds: Need,
    pub nodes_by_need: Vec<(Need, u32)>,
    /// 0 where one node needs no bus.
    pub redis_shards: f64,
    pub postgres: Store,
}

pub struct Plan {
    load: Load,
    costs: Costs,
    account: Account,
    verdict: Verdict,
}

/// # Errors
/// Where no cluster carries the load.
pub fn plan(load: &Load, costs: &Costs) -> Result<Plan> {
    let fleet = fleet::smallest(load, costs)?;
    let total = f64::from(fleet.working) + load.failures;
    let demand = Demand::of(fleet.working.into(), load, costs);
    let everyone = Demand::of(total, load, costs);
    let bus = Bus::of(&everyone, load, costs);
    let mut account = Account::default();
    steps::work(&mut account, &demand, load);
    steps::node(&mut account, &demand, load, costs);
    steps::nodes(&mut account, &fleet, &demand, load);
    let redis_shards = steps::redis(&mut account, &everyone, &bus, load, costs);
    let nodes = fleet.working + load.failures as u32;
    let verdict = Verdict {
        nodes,
        working_nodes: fleet.working,
        binds: fleet.binds(),
        redis_shards,
        postgres: steps::store(&mut account, nodes, load, costs),
        nodes_by_need: fleet.alone,
    };
    limits(&mut account, &demand, &bus, &verdict, load, costs);
    Ok(Plan { load: load.clone(), costs: costs.clone(), account, verdict })
}

/// Where the sum leaves what was measured, or what the design can do.
fn limits(account: &mut Account, demand: &Demand, bus: &Bus, verdict: &Verdict, load: &Load, costs: &Costs) {
    if verdict.postgres.databases > 1.0 {
        account.warn(format!(
            "One cluster has one PostgreSQL, and the fastest that was measured took {} sends/s. {} sends/s need a machine \
             that is faster by as much, which nobody measured, or {} clusters with the rooms divided among them by whoever \
             sends clients there.",
            number(costs.store_most.value), number(load.sends_per_s), number(verdict.postgres.databases)
        ));
    }
    if verdict.postgres.connections > STORE_CONNECTIONS {
        account.warn(format!(
            "{} connections are more than one PostgreSQL serves well: lower store.connections.",
            number(verdict.postgres.connections)
        ));
    }
    if f64::from(verdict.nodes) > SHARDS / 8.0 {
        account.warn(format!(
            "{} shards on {} nodes: the fullest has {}, the mean {}. The sum counts with the fullest, the others have \
             room to spare; where there are few a node, some own nothing.",
            number(SHARDS),
            number(verdict.nodes.into()),
            number(demand.owner_share * SHARDS),
            number(SHARDS / f64::from(verdict.nodes))
        ));
    }
    if bus.beats_cpu > load.use_cpu {
        account.warn(format!(
            "Leases and the shard table live in one slot, and every beat lists every node: {} cores on one shard. With \
             cluster.lease_ms of {} or more it fits; a killed node is noticed that much later.",
            number(bus.beats_cpu),
            number((load.lease_s * 1e3 * bus.beats_cpu / load.use_cpu).ceil())
        ));
    }
    if demand.room_copies * (demand.room_bytes - costs.room_memory.value) > demand.node_bytes / 2.0 {
        account.warn(format!(
            "Most of a node's memory are rings of recent entries, one for each room that a reader on it is in. Fewer, larger \
             nodes hold fewer copies; so do clients of one room that connect to the same nodes. With rings of {} entries they \
             are {} a node.",
            number(demand.ring_entries),
            bytes(demand.room_copies * (demand.room_bytes - costs.room_memory.value))
        ));
    }
    if verdict.redis_shards > 1.0 {
        account.warn(
            "A Redis Cluster was not measured: that shards share the frames evenly, at the cost of one Redis, is hope.",
        );
    }
    if load.failures == 0.0 {
        account.warn("No node may fail: with --failures 0 nothing is kept for one that dies or is restarted.");
    }
    let nodes = demand.nodes;
    let used: [(&str, f64); 12] = [
        ("session_memory", load.connections / nodes),
        ("subscription_memory", load.rooms_per_connection),
        ("room_memory", demand.room_copies),
        ("delivery_node", demand.deliveries_per_s / nodes),
        ("send_node", load.sends_per_s * demand.owner_share),
        ("envelope_node", nodes),
        ("session_idle", load.connections / nodes),
        ("session_enter", demand.enters_per_s / nodes),
        ("send_store", load.sends_per_s),
        ("ring_entry_memory", demand.room_copies * demand.ring_entries),
        ("frame_redis", bus.frames_per_s / verdict.redis_shards.max(1.0)),
        ("beat_member_redis", nodes),
    ];
    for (key, use_) in used {
        let Some((_, _, cost)) = costs.all().into_iter().find(|(name, ..)| *name == key) else { continue };
        let times = use_ / cost.measured_to;
        if times > FAR {
            account.warn(format!(
                "Extrapolated: {key} was measured up to {} {}, and is used at {}, {} times as many.",
                number(cost.measured_to),
                cost.of,
                number(use_),
                number(times)
            ));
        }
    }
    if load.cores > 2.0 {
        account.warn(format!(
            "That a node does on {} cores what as many single ones would was not measured: nothing here was measured on \
             more than 2.",
            number(load.cores)
        ));
    }
}

/// What no step counts.
const LEFT_OUT: &str = "Not in the sum: presence, typing and read marks; history pages and replays; logins with passwords; \
    opening the rooms of a dead node; TLS; compression; the clients' distance; backups and replicas of PostgreSQL; replicas \
    of Redis.";

impl Plan {
    pub fn render(&self) -> String {
        let verdict = &self.verdict;
        let mut text = self.account.render();
        text += "\nVerdict\n";
        text += &format!(
            "  {} of {} and {} each ({} at work, {} may be dead); what asks for most of them: {}\n",
            counted(verdict.nodes.into(), "node"),
            counted(self.load.cores, "core"),
            bytes(self.load.memory_bytes),
            number(verdict.working_nodes.into()),
            number(self.load.failures),
            verdict.binds.name()
        );
        text += &match verdict.redis_shards {
            0.0 => "  no Redis: one node\n".to_owned(),
            1.0 => "  Redis: 1 (no Redis Cluster needed)\n".to_owned(),
            shards => format!("  Redis Cluster: {} shards\n", number(shards)),
        };
        text += &format!(
            "  PostgreSQL: {}, {}/s of write-ahead log, {} more on disk a day\n",
            counted(verdict.postgres.cores, "core"),
            bytes(verdict.postgres.wal_bytes_per_s),
            bytes(verdict.postgres.disk_bytes_per_day)
        );
        if !self.account.warnings.is_empty() {
            text += "\nMind\n";
            for warning in &self.account.warnings {
                text += &format!("  - {warning}\n");
            }
        }
        text += &format!("\n{LEFT_OUT}\n\nCosts\n");
        for (key, unit, cost) in self.costs.all() {
            text += &format!(
                "  {key} = {} {unit}, up to {} {}: {}\n",
                number(cost.value),
                number(cost.measured_to),
                cost.of,
                cost.source
            );
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "load": self.load,
            "verdict": self.verdict,
            "steps": self.account.steps,
            "warnings": self.account.warnings,
            "left_out": LEFT_OUT,
            "costs": self.costs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::costs::tests::costs;
    use super::*;

    /// Ten nodes' worth, in numbers that can be done by hand.
    fn load() -> Load {
        Load {
            connections: 100_000.0,
            rooms: 1_000.0,
            sends_per_s: 1_000.0,
            rooms_per_connection: 1.0,
            room_readers: 100.0,
            readers: 100.0,
            text_bytes: 100.0,
            hours: 0.0,
            reconnect_s: 10.0,
            failures: 1.0,
            cores: 2.0,
            memory_bytes: 1e9,
            use_cpu: 0.5,
            use_cpu_storm: 0.75,
            use_memory: 0.5,
            lease_s: 2.0,
        }
    }

    fn figures() -> Vec<(&'static str, f64)> {
        let zero = Costs::built_in().expect("good");
        let given = [
            ("session_memory", 30_000.0),
            ("session_kernel", 10_000.0),
            ("entry_json", 100.0),
            ("commit_frame", 50.0),
            ("delivery_node", 10.0),
            ("send_node", 50.0),
            ("send_store", 2_000.0),
            ("store_most", 400.0),
            ("send_wal", 400.0),
            ("text_wal", 2.0),
            ("entry_disk", 200.0),
            ("node_store_connections", 12.0),
            ("link_frames", 1e9),
            ("beat_redis", 100.0),
            ("beat_member_redis", 10.0),
        ];
        let of = |key| given.iter().find(|(name, _)| *name == key).map_or(0.0, |(_, value)| *value);
        zero.all().into_iter().map(|(key, ..)| (key, of(key))).collect()
    }

    fn value(plan: &Plan, what: &str) -> f64 {
        let steps = plan.account.steps.iter();
        let found: Vec<f64> = steps.filter(|step| step.what == what).map(|step| step.value).collect();
        assert_eq!(found.len(), 1, "{what}");
        found[0]
    }

    #[test]
    fn the_sum_is_the_one_done_by_hand() {
        let plan = plan(&load(), &costs(&figures())).expect("fits");
        // 100,000 × 40 kB = 4 GB, of which a node may hold 0.5: eight; a ninth may die. CPU asks for less:
        // 100,000 deliveries/s × 10 µs + 1,000 × 50 µs = 1.05 cores, of which a node has 1.
        let verdict = &plan.verdict;
        assert_eq!((verdict.nodes, verdict.working_nodes, verdict.binds), (9, 8, Need::Memory));
        let close = |what: &str, by_hand: f64| {
            let value = value(&plan, what);
            assert!((value - by_hand).abs() < by_hand.abs() * 1e-6 + 1e-9, "{what}: {value}, by hand {by_hand}");
        };
        close("sessions in the mean room", 100.0);
        close("deliveries", 100_000.0);
        close("delivering", 1.0);
        close("taking sends", 0.05);
        close("a session", 40_000.0);
        close("together", 5e8);
        // (7/8)^100 = 1.5897e-6.
        close("other nodes that a commit goes to", 7.0 * (1.0 - 1.589_7e-6));
        close("requests and answers between nodes", 1_750.0);
        close("sessions that come back after failures", 100_000.0 / 9.0 / 10.0);
        // 9 × 1.5 beats/s × (100 + 9 × 10) µs.
        close("beats", 13.5);
        close("CPU for them, all on one shard; each lists all nodes", 13.5 * 190e-6);
        // (8 × (1 − (8/9)^100) + 2 × 8/9) × 1,000 × 250 B; (8/9)^100 = 7.6705e-6.
        close("bytes of commits and requests, as much in as out", (8.0 * (1.0 - 7.670_5e-6) + 16.0 / 9.0) * 250_000.0);
        assert_eq!(verdict.redis_shards, 1.0);
        let by_hand = Store {
            cores: 4.0,
            databases: 3.0,
            connections: 108.0,
            wal_bytes_per_s: 600_000.0,
            disk_bytes_per_day: 25.92e9,
        };
        assert_eq!(verdict.postgres, by_hand);
        assert!(plan.account.warnings[0].starts_with("One cluster has one PostgreSQL"), "{:?}", plan.account.warnings);
    }

    #[test]
    fn every_cost_is_named_by_a_step_and_every_name_is_a_cost() {
        let load = Load { rooms_per_connection: 5.0, hours: 1.0, ..load() };
        let plan = plan(&load, &costs(&figures())).expect("fits");
        let named: std::collections::BTreeSet<&str> =
            plan.account.steps.iter().flat_map(|step| step.costs.iter().copied()).collect();
        let known: std::collections::BTreeSet<&str> = plan.costs.all().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn one_node_needs_no_bus_and_a_cost_far_from_home_is_called_so() {
        let small = Load { connections: 1_000.0, readers: 1.0, sends_per_s: 1.0, failures: 0.0, ..load() };
        let built_in = Costs::built_in().expect("good");
        let small = plan(&small, &built_in).expect("fits");
        assert_eq!((small.verdict.nodes, small.verdict.redis_shards), (1, 0.0));
        assert!(small.render().contains("no Redis"));
        assert!(small.account.warnings.iter().all(|warning| !warning.starts_with("Extrapolated")));
        let large = Load { connections: 5e6, rooms: 1e6, cores: 32.0, memory_bytes: 1e12, ..load() };
        let large = plan(&large, &built_in).expect("fits");
        assert!(large.account.warnings.iter().any(|warning| warning.starts_with("Extrapolated: session_memory")));
        let json = large.json();
        assert_eq!(json["verdict"]["working_nodes"], large.verdict.working_nodes);
        assert!(json["steps"].as_array().is_some_and(|steps| steps.len() > 30));
    }
}
