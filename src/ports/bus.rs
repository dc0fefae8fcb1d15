//! The bus that joins nodes. It may lose, and after a reconnect repeat, anything; nothing durable depends on it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, ShardId};

/// Why the bus did not do it; all pass when it is back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus can't be reached: {0}")]
pub struct BusError(pub String);

/// What a node says of itself with each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    pub state: NodeState,
    pub sessions: u64,
    pub rooms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Starting,
    Ready,
    Draining,
}

/// What the cluster looks like, as read in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Nodes whose lease lives, the asking one included.
    pub nodes: Vec<NodeRecord>,
    /// Rises with every change of the shard table. A table that was emptied starts again at another value.
    pub version: u64,
    /// Of the table: another number means that it was emptied since (and that leases went with it).
    pub birth: u64,
    /// Whether the asking node's lease had run out (or was ended by `depose`) since its last beat: it owns nothing now.
    /// False when the table was emptied meanwhile: then nobody else had a chance to take what it owned.
    pub lapsed: bool,
}

/// What comes in from the bus.
#[derive(Clone, Debug)]
pub enum BusEvent {
    /// A frame that another node sent to this one.
    Frame(Bytes),
    /// The shard table changed (a hint: a beat tells the same, later).
    TableChanged,
    /// The subscription was made again after a break: anything may have been lost.
    Reconnected,
}

/// The coordination side: Redis (`infra::redis`) or, for a single node, loopback.
///
/// Shards belong to a node only as long as its lease lives; owners whose lease is gone count as nobody. Time is the
/// bus's own, so nodes need no common clock.
#[async_trait]
pub trait ClusterBus: Send + Sync + 'static {
    /// Starts this node's inbox; events come out of the receiver until the bus is dropped. Connects in the background
    /// and again after every break. Called once.
    fn inbox(&self, node: &NodeId) -> tokio::sync::mpsc::UnboundedReceiver<BusEvent>;

    /// Sends frames, each to one node, in order; all that are given go in one round trip. Gives for each how many inboxes took
    /// it (0: nobody listens there).
    async fn publish(&self, frames: &[(NodeId, Bytes)]) -> Result<Vec<u64>, BusError>;

    /// Renews the node's lease for `lease` and stores its record.
    async fn beat(&self, node: &NodeRecord, lease: Duration) -> Result<ClusterView, BusError>;

    /// The shard table: one owner or nobody a shard, in shard order, with its version. Owners without a living lease
    /// count as nobody.
    async fn table(&self) -> Result<(u64, Vec<Option<NodeId>>), BusError>;

    /// Takes those of `shards` that nobody owns (or an owner without a lease); gives the ones that are this node's now.
    /// Takes nothing for a node without a lease.
    async fn claim(&self, node: &NodeId, shards: &[ShardId]) -> Result<Vec<ShardId>, BusError>;

    /// Hands over own shards: each pair names the shard and who gets it. Pairs that are not `node`'s to give, or whose
    /// receiver has no lease, leave the shard free or with whoever has it.
    async fn give(&self, node: &NodeId, gifts: &[(ShardId, NodeId)]) -> Result<(), BusError>;

    /// Ends the lease of a node whose inbox nobody listens on; true where it was ended. A node that does listen keeps it.
    async fn depose(&self, node: &NodeId) -> Result<bool, BusError>;

    /// Ends one's own lease and frees what it still owns.
    async fn leave(&self, node: &NodeId) -> Result<(), BusError>;

    /// Whether the bus answers.
    async fn ping(&self) -> Result<(), BusError>;
}
