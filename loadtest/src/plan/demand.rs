//! What a fleet of so many nodes has to do each second and to carry. All CPU is in cores (seconds a second).
//!
//! Assumptions, all said in the output: sessions are spread evenly, each room's readers fall on nodes by chance, rooms
//! are alike, and a shard has an equal part of the rooms; the node with most shards has to do its part as well.

use super::costs::Costs;
use super::options::Load;
use super::spread::{SHARDS, most_shards, other_nodes, repeats};

/// Of the server's `limits`: what a room's ring of recent entries holds at most.
pub const RING_ENTRIES: f64 = 1_024.0;
pub const RING_BYTES: f64 = 262_144.0;
/// What the server takes an entry of a ring for in memory, for its bound: twice its JSON and this.
pub const RING_ENTRY_BYTES: f64 = 500.0;
/// A beat comes this often in a lease.
pub const BEATS_A_LEASE: f64 = 3.0;
/// Looks of a node after its own inbox, a second.
pub const LOOKS_PER_S: f64 = 2.0;

/// The fleet's work with `nodes` of them at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub nodes: f64,
    pub deliveries_per_s: f64,
    /// Nodes beside the owner that a commit goes to.
    pub other_nodes: f64,
    pub commits_per_s: f64,
    /// Requests and answers between a sender's node and the owner.
    pub asks_per_s: f64,
    /// Commits and asks of one directed link.
    pub link_envelopes_per_s: f64,
    /// Frames with content, and empty ones behind them.
    pub link_frames_per_s: f64,
    pub link_repeats_per_s: f64,
    pub deliver_cpu: f64,
    pub send_cpu: f64,
    pub bus_cpu: f64,
    pub idle_cpu: f64,
    /// Part of all shards that the fullest node has.
    pub owner_share: f64,
    /// Of that node.
    pub node_cpu: f64,
    /// Of its core thread.
    pub core_cpu: f64,
    /// Of a node, while the sessions of the dead come back.
    pub storm_cpu: f64,
    pub enters_per_s: f64,
    pub session_bytes: f64,
    pub ring_entries: f64,
    pub room_bytes: f64,
    /// Rooms in use on a node, its own and others'.
    pub room_copies: f64,
    pub node_bytes: f64,
}

impl Demand {
    /// `nodes` work; the load's `failures` more are dead.
    pub fn of(nodes: f64, load: &Load, costs: &Costs) -> Self {
        let us = |cost: &super::costs::Cost| cost.value / 1e6;
        let sends = load.sends_per_s;
        let deliveries_per_s = sends * load.readers;
        let other = other_nodes(nodes, load.readers);
        let commits_per_s = sends * other;
        let asks_per_s = 2.0 * sends * (nodes - 1.0) / nodes;
        let links = nodes * (nodes - 1.0);
        let link_envelopes_per_s = if links > 0.0 { (commits_per_s + asks_per_s) / links } else { 0.0 };
        let link_frames_per_s = link_envelopes_per_s.min(costs.link_frames.value);
        let link_repeats_per_s = link_frames_per_s * repeats(link_frames_per_s);

        let deliver_cpu = deliveries_per_s * us(&costs.delivery_node);
        let send_cpu = sends * us(&costs.send_node);
        let repeats_per_s = link_repeats_per_s * links;
        let bus_cpu =
            (commits_per_s + asks_per_s) * us(&costs.envelope_node) + repeats_per_s * us(&costs.envelope_core);
        let idle_cpu = load.connections * us(&costs.session_idle);
        let owner_share = most_shards(nodes) / SHARDS;
        // One end of every envelope is the room's owner.
        let node_cpu = (deliver_cpu + idle_cpu + bus_cpu / 2.0) / nodes + (send_cpu + bus_cpu / 2.0) * owner_share;
        let frames_cpu = (commits_per_s + asks_per_s + repeats_per_s) * us(&costs.envelope_core);
        let core_cpu = frames_cpu / 2.0 / nodes + (frames_cpu / 2.0 + sends * us(&costs.send_core)) * owner_share;
        let enters_per_s = load.connections * load.failures / (nodes + load.failures) / load.reconnect_s;
        let storm_cpu = node_cpu + enters_per_s * us(&costs.session_enter) / nodes;

        let session_bytes = costs.session_memory.value
            + costs.session_kernel.value
            + (load.rooms_per_connection - 1.0).max(0.0) * costs.subscription_memory.value;
        let ring_entries = RING_ENTRIES
            .min(RING_BYTES / (2.0 * (costs.entry_json.value + load.text_bytes) + RING_ENTRY_BYTES))
            .min(sends / load.rooms * 3_600.0 * load.hours);
        // A text stands in an entry's JSON and in the entry.
        let room_bytes = costs.room_memory.value
            + ring_entries * (costs.ring_entry_memory.value + costs.entry_json.value + 2.0 * load.text_bytes);
        let room_copies = load.rooms * (1.0 + other_nodes(nodes, load.room_readers)) / nodes;
        let node_bytes = load.connections / nodes * session_bytes + room_copies * room_bytes;
        Self {
            nodes,
            deliveries_per_s,
            other_nodes: other,
            commits_per_s,
            asks_per_s,
            link_envelopes_per_s,
            link_frames_per_s,
            link_repeats_per_s,
            deliver_cpu,
            send_cpu,
            bus_cpu,
            idle_cpu,
            owner_share,
            node_cpu,
            core_cpu,
            storm_cpu,
            enters_per_s,
            session_bytes,
            ring_entries,
            room_bytes,
            room_copies,
            node_bytes,
        }
    }

    /// Frames of all links, empty ones too.
    pub fn frames_per_s(&self) -> f64 {
        (self.link_frames_per_s + self.link_repeats_per_s) * self.nodes * (self.nodes - 1.0)
    }
}

/// What Redis has to do for `nodes` of a fleet. CPU in cores.
#[derive(Debug, Clone, PartialEq)]
pub struct Bus {
    pub frames_per_s: f64,
    /// Beats' probes of neighbours and looks at inboxes.
    pub probes_per_s: f64,
    pub frames_cpu: f64,
    pub bytes_per_s: f64,
    pub beats_per_s: f64,
    /// On the one shard that holds leases and table.
    pub beats_cpu: f64,
    pub beats_bytes_per_s: f64,
}

impl Bus {
    pub fn of(demand: &Demand, load: &Load, costs: &Costs) -> Self {
        let nodes = demand.nodes;
        let beats_per_s = nodes * BEATS_A_LEASE / load.lease_s;
        let probes_per_s = beats_per_s + nodes * LOOKS_PER_S;
        let frames_per_s = demand.frames_per_s();
        let envelope = costs.commit_frame.value + costs.entry_json.value + load.text_bytes;
        Self {
            frames_per_s,
            probes_per_s,
            frames_cpu: (frames_per_s + probes_per_s) * costs.frame_redis.value / 1e6,
            bytes_per_s: (demand.commits_per_s + demand.asks_per_s) * envelope,
            beats_per_s,
            beats_cpu: beats_per_s * (costs.beat_redis.value + nodes * costs.beat_member_redis.value) / 1e6,
            beats_bytes_per_s: beats_per_s * nodes * costs.beat_member.value,
        }
    }
}
