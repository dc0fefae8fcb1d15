//! The bus of a single process: the semantics of `infra::redis` in memory, behind one mutex.
//!
//! Several nodes may share one bus (tests run clusters that way). Leases run out by the monotonic clock. Invariant, kept
//! by `State::expire` in front of every step: each owner in the table has a lease that has not run out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::ids::{NodeId, SHARDS, ShardId};
use crate::ports::{BusError, BusEvent, ClusterBus, ClusterView, NodeRecord};

/// See the module.
pub struct LoopbackBus {
    state: Mutex<State>,
}

struct State {
    leases: BTreeMap<NodeId, Lease>,
    /// Nodes of which a beat came and whose lease then ended without their doing.
    lapsed: BTreeSet<NodeId>,
    owners: Vec<Option<NodeId>>,
    version: u64,
    inboxes: HashMap<NodeId, UnboundedSender<BusEvent>>,
}

struct Lease {
    ends: Instant,
    record: NodeRecord,
}

impl LoopbackBus {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                leases: BTreeMap::new(),
                lapsed: BTreeSet::new(),
                owners: vec![None; usize::from(SHARDS)],
                version: 1,
                inboxes: HashMap::new(),
            }),
        }
    }

    /// The state as of now. Every step changes it as a whole, so a panic elsewhere can't leave it half done.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire(Instant::now());
        state
    }
}

impl Default for LoopbackBus {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        let over: Vec<NodeId> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(node, _)| node.clone()).collect();
        for node in over {
            self.drop_node(&node);
            self.lapsed.insert(node);
        }
    }

    /// Ends a lease and frees what the node owns.
    fn drop_node(&mut self, node: &NodeId) {
        if self.leases.remove(node).is_none() {
            return;
        }
        for owner in &mut self.owners {
            if owner.as_ref() == Some(node) {
                *owner = None;
            }
        }
        self.changed();
    }

    fn changed(&mut self) {
        self.version += 1;
        self.inboxes.retain(|_, inbox| inbox.send(BusEvent::TableChanged).is_ok());
    }

    fn owner(&mut self, shard: ShardId) -> Option<&mut Option<NodeId>> {
        self.owners.get_mut(usize::from(shard.0))
    }

    fn deliver(&mut self, node: &NodeId, frame: &Bytes) -> u64 {
        let taken = self.inboxes.get(node).is_some_and(|inbox| inbox.send(BusEvent::Frame(frame.clone())).is_ok());
        if !taken {
            self.inboxes.remove(node);
        }
        u64::from(taken)
    }

    fn listens(&self, node: &NodeId) -> bool {
        self.inboxes.get(node).is_some_and(|inbox| !inbox.is_closed())
    }
}

#[async_trait]
impl ClusterBus for LoopbackBus {
    fn inbox(&self, node: &NodeId) -> UnboundedReceiver<BusEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.now().inboxes.insert(node.clone(), sender);
        receiver
    }

    async fn publish(&self, frames: &[(NodeId, Bytes)]) -> Result<Vec<u64>, BusError> {
        let mut state = self.now();
        Ok(frames.iter().map(|(node, frame)| state.deliver(node, frame)).collect())
    }

    async fn beat(&self, node: &NodeRecord, lease: Duration) -> Result<ClusterView, BusError> {
        let mut state = self.now();
        let lapsed = state.lapsed.remove(&node.id);
        let ends = Instant::now() + lease;
        state.leases.insert(node.id.clone(), Lease { ends, record: node.clone() });
        Ok(ClusterView {
            nodes: state.leases.values().map(|lease| lease.record.clone()).collect(),
            version: state.version,
            birth: 1,
            lapsed,
        })
    }

    async fn table(&self) -> Result<(u64, Vec<Option<NodeId>>), BusError> {
        let state = self.now();
        Ok((state.version, state.owners.clone()))
    }

    async fn claim(&self, node: &NodeId, shards: &[ShardId]) -> Result<Vec<ShardId>, BusError> {
        let mut state = self.now();
        if !state.leases.contains_key(node) {
            return Ok(Vec::new());
        }
        let mut taken = false;
        let mut own = Vec::new();
        for &shard in shards {
            match state.owner(shard) {
                Some(owner @ None) => {
                    *owner = Some(node.clone());
                    taken = true;
                    own.push(shard);
                }
                Some(Some(owner)) if owner == node => own.push(shard),
                _ => {}
            }
        }
        if taken {
            state.changed();
        }
        Ok(own)
    }

    async fn give(&self, node: &NodeId, gifts: &[(ShardId, NodeId)]) -> Result<(), BusError> {
        let mut state = self.now();
        let mut given = false;
        for (shard, receiver) in gifts {
            let leased = state.leases.contains_key(receiver);
            if let Some(owner) = state.owner(*shard)
                && leased
                && owner.as_ref() == Some(node)
            {
                *owner = Some(receiver.clone());
                given = true;
            }
        }
        if given {
            state.changed();
        }
        Ok(())
    }

    async fn depose(&self, node: &NodeId) -> Result<bool, BusError> {
        let mut state = self.now();
        if state.listens(node) || !state.leases.contains_key(node) {
            return Ok(false);
        }
        state.drop_node(node);
        state.lapsed.insert(node.clone());
        Ok(true)
    }

    async fn leave(&self, node: &NodeId) -> Result<(), BusError> {
        let mut state = self.now();
        state.drop_node(node);
        state.lapsed.remove(node);
        Ok(())
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }
}
