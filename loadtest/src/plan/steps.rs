//! The steps of the sum as lines: the same arithmetic as [`super::demand`], with the numbers put in.

use super::account::{Account, bytes, counted, number};
use super::costs::{Cost, Costs};
use super::demand::{BEATS_A_LEASE, Bus, Demand, LOOKS_PER_S, RING_BYTES, RING_ENTRIES, RING_ENTRY_BYTES};
use super::fleet::{Fleet, NEEDS, Need};
use super::options::Load;
use super::spread::SHARDS;

/// What the store has to be.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Store {
    pub cores: f64,
    /// As often as the measured rate of one goes into the rate.
    pub databases: f64,
    pub connections: f64,
    pub wal_bytes_per_s: f64,
    pub disk_bytes_per_day: f64,
}

pub fn work(account: &mut Account, demand: &Demand, load: &Load) {
    const WORK: &str = "1. The work, all rooms together";
    let (sends, n) = (number(load.sends_per_s), number(demand.nodes));
    account.step(
        (WORK, "sessions in the mean room"),
        format!(
            "{} sessions × {} rooms each / {} rooms",
            number(load.connections),
            number(load.rooms_per_connection),
            number(load.rooms)
        ),
        (load.room_readers, ""),
        &[],
    );
    account.step(
        (WORK, "deliveries"),
        format!("{sends} sends/s × {} readers", number(load.readers)),
        (demand.deliveries_per_s, "/s"),
        &[],
    );
    if demand.nodes <= 1.0 {
        return;
    }
    account.step(
        (WORK, "other nodes that a commit goes to"),
        format!("({n} nodes − 1) × (1 − (1 − 1/{n})^{})", number(load.readers)),
        (demand.other_nodes, ""),
        &[],
    );
    account.step(
        (WORK, "commits between nodes"),
        format!("{sends} sends/s × {}", number(demand.other_nodes)),
        (demand.commits_per_s, "/s"),
        &[],
    );
    account.step(
        (WORK, "requests and answers between nodes"),
        format!("2 × {sends} sends/s × (1 − 1/{n})"),
        (demand.asks_per_s, "/s"),
        &[],
    );
    account.step(
        (WORK, "envelopes on each directed link"),
        format!("({} + {}) / ({n} × ({n} − 1))", number(demand.commits_per_s), number(demand.asks_per_s)),
        (demand.link_envelopes_per_s, "/s"),
        &[],
    );
    account.step(
        (WORK, "frames on it, and empty ones that repeat the last number"),
        format!("{} + {} /s", number(demand.link_frames_per_s), number(demand.link_repeats_per_s)),
        (demand.link_frames_per_s + demand.link_repeats_per_s, "/s"),
        &["link_frames"],
    );
}

pub fn node(account: &mut Account, demand: &Demand, load: &Load, costs: &Costs) {
    const CPU: &str = "2. CPU of the nodes";
    let (sends, n) = (number(load.sends_per_s), number(demand.nodes));
    let us = |cost: &Cost| format!("{} µs", number(cost.value));
    let cores = |value: f64| (value, "cores");
    account.step(
        (CPU, "delivering"),
        format!("{} /s × {}", number(demand.deliveries_per_s), us(&costs.delivery_node)),
        cores(demand.deliver_cpu),
        &["delivery_node"],
    );
    account.step(
        (CPU, "taking sends"),
        format!("{sends} /s × {}", us(&costs.send_node)),
        cores(demand.send_cpu),
        &["send_node"],
    );
    let envelopes = demand.commits_per_s + demand.asks_per_s;
    let repeats = demand.link_repeats_per_s * demand.nodes * (demand.nodes - 1.0);
    account.step(
        (CPU, "between nodes"),
        format!(
            "{} envelopes/s × {} + {} empty frames/s × {}",
            number(envelopes),
            us(&costs.envelope_node),
            number(repeats),
            us(&costs.envelope_core)
        ),
        cores(demand.bus_cpu),
        &["envelope_node", "envelope_core"],
    );
    account.step(
        (CPU, "idle sessions"),
        format!("{} × {} µs/s", number(load.connections), number(costs.session_idle.value)),
        cores(demand.idle_cpu),
        &["session_idle"],
    );
    account.step(
        (CPU, "part of the shards on the fullest node, by chance"),
        format!("{} of {SHARDS}", number(demand.owner_share * SHARDS)),
        (demand.owner_share, ""),
        &[],
    );
    account.step(
        (CPU, "that node (it owns one end of each envelope)"),
        format!(
            "({} + {} + {} / 2) / {n} + ({} + {} / 2) × {}",
            number(demand.deliver_cpu),
            number(demand.idle_cpu),
            number(demand.bus_cpu),
            number(demand.send_cpu),
            number(demand.bus_cpu),
            number(demand.owner_share)
        ),
        cores(demand.node_cpu),
        &[],
    );
    let frames = (envelopes + repeats) * costs.envelope_core.value / 1e6;
    account.step(
        (CPU, "of it on the core thread, which is one"),
        format!(
            "{} / 2 / {n} + ({} / 2 + {sends} /s × {}) × {}",
            number(frames),
            number(frames),
            us(&costs.send_core),
            number(demand.owner_share)
        ),
        cores(demand.core_cpu),
        &["envelope_core", "send_core"],
    );
    account.step(
        (CPU, "sessions that come back after failures"),
        format!(
            "{} × {} / {} nodes / {} s",
            number(load.connections),
            number(load.failures),
            number(demand.nodes + load.failures),
            number(load.reconnect_s)
        ),
        (demand.enters_per_s, "/s"),
        &[],
    );
    account.step(
        (CPU, "that node meanwhile"),
        format!(
            "{} + {} /s × {} / {n}",
            number(demand.node_cpu),
            number(demand.enters_per_s),
            us(&costs.session_enter)
        ),
        cores(demand.storm_cpu),
        &["session_enter"],
    );

    const MEMORY: &str = "3. Memory of a node";
    account.step(
        (MEMORY, "a session"),
        format!(
            "{} + {} of the kernel + {} more subscriptions × {}",
            bytes(costs.session_memory.value),
            bytes(costs.session_kernel.value),
            number((load.rooms_per_connection - 1.0).max(0.0)),
            bytes(costs.subscription_memory.value)
        ),
        (demand.session_bytes, "B"),
        &["session_memory", "session_kernel", "subscription_memory"],
    );
    account.step(
        (MEMORY, "entries in a room's ring, the least of"),
        format!(
            "min({} entries, {} / (2 × ({} + {} B of text) + {}), {sends} sends/s / {} rooms × {} h × 3,600 s)",
            number(RING_ENTRIES),
            bytes(RING_BYTES),
            bytes(costs.entry_json.value),
            number(load.text_bytes),
            bytes(RING_ENTRY_BYTES),
            number(load.rooms),
            number(load.hours)
        ),
        (demand.ring_entries, ""),
        &["entry_json"],
    );
    account.step(
        (MEMORY, "a room in use on a node"),
        format!(
            "{} + {} × ({} + {} + 2 × {} B of text)",
            bytes(costs.room_memory.value),
            number(demand.ring_entries),
            bytes(costs.ring_entry_memory.value),
            bytes(costs.entry_json.value),
            number(load.text_bytes)
        ),
        (demand.room_bytes, "B"),
        &["room_memory", "ring_entry_memory", "entry_json"],
    );
    account.step(
        (MEMORY, "rooms in use on a node, its own and those its readers are in"),
        format!("{} × (1 + ({n} − 1) × (1 − (1 − 1/{n})^{})) / {n}", number(load.rooms), number(load.room_readers)),
        (demand.room_copies, ""),
        &[],
    );
    account.step(
        (MEMORY, "together"),
        format!(
            "{} / {n} × {} + {} × {}",
            number(load.connections),
            bytes(demand.session_bytes),
            number(demand.room_copies),
            bytes(demand.room_bytes)
        ),
        (demand.node_bytes, "B"),
        &[],
    );
    let json = costs.entry_json.value + costs.events_frame.value + load.text_bytes;
    account.step(
        (MEMORY, "network to clients (uncompressed)"),
        format!(
            "{} /s / {n} × ({} + {} + {} B of text)",
            number(demand.deliveries_per_s),
            bytes(costs.entry_json.value),
            bytes(costs.events_frame.value),
            number(load.text_bytes)
        ),
        (demand.deliveries_per_s / demand.nodes * json, "B/s"),
        &["entry_json", "events_frame"],
    );
}

pub fn nodes(account: &mut Account, fleet: &Fleet, demand: &Demand, load: &Load) {
    const NODES: &str = "4. Nodes: the smallest number at which each of these fits";
    for need in NEEDS {
        let (needed, there) = need.of(demand, load);
        let show = |value: f64| if need == Need::Memory { bytes(value) } else { format!("{} cores", number(value)) };
        let alone = fleet.alone.iter().find(|(of, _)| *of == need).map_or(fleet.working, |(_, nodes)| *nodes);
        account.step(
            (NODES, need.name()),
            format!(
                "needs {} of {} in each of {}; for it alone",
                show(needed),
                show(there),
                counted(demand.nodes, "node")
            ),
            (alone.into(), "would do"),
            &[],
        );
    }
    account.step(
        (NODES, "with those that may be dead"),
        format!("{} + {}", number(demand.nodes), number(load.failures)),
        (f64::from(fleet.working) + load.failures, "nodes"),
        &[],
    );
}

/// `demand` and `bus`: of all nodes, also those that may die. Gives the shards.
pub fn redis(account: &mut Account, demand: &Demand, bus: &Bus, load: &Load, costs: &Costs) -> f64 {
    const REDIS: &str = "5. Redis, with no node dead";
    if demand.nodes <= 1.0 {
        return 0.0;
    }
    let n = number(demand.nodes);
    account.step(
        (REDIS, "beats"),
        format!("{n} nodes × {BEATS_A_LEASE} / {} s", number(load.lease_s)),
        (bus.beats_per_s, "/s"),
        &[],
    );
    account.step(
        (REDIS, "CPU for them, all on one shard; each lists all nodes"),
        format!(
            "{} /s × ({} µs + {n} × {} µs)",
            number(bus.beats_per_s),
            number(costs.beat_redis.value),
            number(costs.beat_member_redis.value)
        ),
        (bus.beats_cpu, "cores"),
        &["beat_redis", "beat_member_redis"],
    );
    account.step(
        (REDIS, "what they are answered"),
        format!("{} /s × {n} × {}", number(bus.beats_per_s), bytes(costs.beat_member.value)),
        (bus.beats_bytes_per_s, "B/s"),
        &["beat_member"],
    );
    account.step(
        (REDIS, "frames"),
        format!(
            "{n} × ({n} − 1) links × ({} + {} empty ones)/s",
            number(demand.link_frames_per_s),
            number(demand.link_repeats_per_s)
        ),
        (bus.frames_per_s, "/s"),
        &["link_frames"],
    );
    account.step(
        (REDIS, "probes of a neighbour with each beat, and looks at the own inbox"),
        format!("{} /s + {n} × {LOOKS_PER_S} /s", number(bus.beats_per_s)),
        (bus.probes_per_s, "/s"),
        &[],
    );
    account.step(
        (REDIS, "CPU for both, spread by node over the shards"),
        format!(
            "({} + {})/s × {} µs",
            number(bus.frames_per_s),
            number(bus.probes_per_s),
            number(costs.frame_redis.value)
        ),
        (bus.frames_cpu, "cores"),
        &["frame_redis"],
    );
    account.step(
        (REDIS, "bytes of commits and requests, as much in as out"),
        format!(
            "({} + {})/s × ({} + {} + {} B of text)",
            number(demand.commits_per_s),
            number(demand.asks_per_s),
            bytes(costs.commit_frame.value),
            bytes(costs.entry_json.value),
            number(load.text_bytes)
        ),
        (bus.bytes_per_s, "B/s"),
        &["commit_frame", "entry_json"],
    );
    let shards = ((bus.frames_cpu + bus.beats_cpu) / load.use_cpu).ceil().max(1.0);
    account.step(
        (REDIS, "shards, one core each"),
        format!(
            "({} + {}) / {} of a core, rounded up",
            number(bus.frames_cpu),
            number(bus.beats_cpu),
            number(load.use_cpu)
        ),
        (shards, "shards"),
        &[],
    );
    account.step((REDIS, "connections to each shard"), format!("3 × {n} nodes"), (3.0 * demand.nodes, ""), &[]);
    shards
}

/// What the database of a cluster of `nodes` has to be.
pub fn store(account: &mut Account, nodes: u32, load: &Load, costs: &Costs) -> Store {
    const STORE: &str = "6. PostgreSQL";
    let sends = number(load.sends_per_s);
    let cpu = load.sends_per_s * costs.send_store.value / 1e6;
    account.step(
        (STORE, "CPU for appends"),
        format!("{sends} sends/s × {} µs", number(costs.send_store.value)),
        (cpu, "cores"),
        &["send_store"],
    );
    let cores = (cpu / load.use_cpu).ceil().max(1.0);
    account.step(
        (STORE, "cores"),
        format!("{} / {} of a core, rounded up", number(cpu), number(load.use_cpu)),
        (cores, "cores"),
        &[],
    );
    let databases = (load.sends_per_s / costs.store_most.value).ceil().max(1.0);
    account.step(
        (STORE, "databases as fast as the measured one"),
        format!("{sends} sends/s / {} sends/s, rounded up", number(costs.store_most.value)),
        (databases, ""),
        &["store_most"],
    );
    let wal_bytes_per_s = load.sends_per_s * (costs.send_wal.value + load.text_bytes * costs.text_wal.value);
    account.step(
        (STORE, "write-ahead log"),
        format!(
            "{sends} sends/s × ({} + {} B of text × {})",
            bytes(costs.send_wal.value),
            number(load.text_bytes),
            number(costs.text_wal.value)
        ),
        (wal_bytes_per_s, "B/s"),
        &["send_wal", "text_wal"],
    );
    let disk_bytes_per_day = load.sends_per_s * 86_400.0 * (costs.entry_disk.value + load.text_bytes);
    account.step(
        (STORE, "growth of the disk a day at this rate"),
        format!(
            "{sends} sends/s × 86,400 s × ({} + {} B of text)",
            bytes(costs.entry_disk.value),
            number(load.text_bytes)
        ),
        (disk_bytes_per_day, "B"),
        &["entry_disk"],
    );
    let connections = f64::from(nodes) * costs.node_store_connections.value;
    account.step(
        (STORE, "connections at most"),
        format!("{} nodes × {}", number(nodes.into()), number(costs.node_store_connections.value)),
        (connections, ""),
        &["node_store_connections"],
    );
    Store { cores, databases, connections, wal_bytes_per_s, disk_bytes_per_day }
}
