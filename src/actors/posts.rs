//! Brings a post to the session of its stream: on this thread, another one, or another node by the bus. No connection is
//! bound to a node that way.
//!
//! The bus may lose anything, so a post that is not answered within [`WITHIN`] is unknown, and its client repeats it with
//! the same number. Bounds: [`CALLS`] posts and [`CALL_BYTES`] of theirs are under way to other nodes at a time, more are
//! refused; only nodes of the cluster are ever sent anything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix::Recipient;
use tokio::sync::oneshot;

use super::envelope::Envelope;
use super::hub::streams::{Handed, gone};
use super::messages::{Post, SessionKey, ToHub, ToNode};
use super::room::feed::Hubs;
use super::stream_id::StreamId;
use crate::ids::NodeId;
use crate::metrics::{Forward, Metrics};
use crate::refusal::Refusal;

/// How long a post may wait until its session has it.
pub const WITHIN: Duration = Duration::from_secs(5);
/// Posts under way to other nodes.
const CALLS: usize = 1_024;
/// Bytes of frames under way to other nodes.
const CALL_BYTES: usize = 16 * 1024 * 1024;

/// The nodes whose leases live, as the cluster saw them last; this node among them.
#[derive(Clone, Default)]
pub struct Peers(Arc<RwLock<HashSet<NodeId>>>);

impl Peers {
    /// These are all.
    pub fn set<'a>(&self, nodes: impl Iterator<Item = &'a NodeId> + Clone) {
        let same = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.len() == nodes.clone().count() && nodes.clone().all(|node| known.contains(node))
        };
        if !same {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes.cloned().collect();
        }
    }

    fn has(&self, node: &NodeId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(node)
    }
}

/// Shared by all worker threads and the router.
pub struct Posts {
    node: NodeId,
    hubs: Hubs,
    peers: Peers,
    bus: Recipient<ToNode>,
    metrics: Arc<Metrics>,
    calls: Mutex<Calls>,
    next: AtomicU64,
}

/// What waits for answers of other nodes.
#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, Handed>,
    bytes: usize,
}

impl Posts {
    pub fn new(node: NodeId, hubs: Hubs, peers: Peers, bus: Recipient<ToNode>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { node, hubs, peers, bus, metrics, calls: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Hands the frames of a post to the session of `stream`.
    ///
    /// # Errors
    /// `not_found` where the stream is gone, `conflict` for a number out of turn; `unavailable` and `overloaded`: repeat with
    /// the same number.
    pub async fn post(&self, stream: StreamId, n: u64, frames: Vec<String>) -> Result<(), Refusal> {
        let StreamId { node, key, proof } = stream;
        let post = Post { proof, n, frames };
        if node == self.node {
            let (call, told) = oneshot::channel();
            self.hand(key, post, call);
            return waited(told).await;
        }
        if !self.peers.has(&node) {
            return Err(gone());
        }
        let answer = self.forward(&node, key, post).await;
        self.metrics.forwarded(match &answer {
            Ok(()) => Forward::Handed,
            Err(refusal) if refusal.code.retryable() => Forward::Unknown,
            Err(_) => Forward::Refused,
        });
        match answer {
            Err(refusal) if refusal.code.retryable() && !self.peers.has(&node) => Err(gone()),
            answer => answer,
        }
    }

    async fn forward(&self, node: &NodeId, key: SessionKey, post: Post) -> Result<(), Refusal> {
        let bytes = post.frames.iter().map(String::len).sum();
        let (call, told) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut calls = self.calls();
            if calls.waiting.len() >= CALLS || calls.bytes + bytes > CALL_BYTES {
                return Err(Refusal::overloaded("too much is under way to other nodes; repeat with the same n"));
            }
            calls.waiting.insert(number, call);
            calls.bytes += bytes;
        }
        let _under_way = UnderWay { posts: self, number, bytes };
        self.bus.do_send(ToNode { node: node.clone(), envelope: Envelope::Post { call: number, key, post }.encode() });
        waited(told).await
    }

    /// Another node passed a post on; called on the core thread.
    pub fn arrived(&self, from: NodeId, number: u64, key: SessionKey, post: Post) {
        let (call, told) = oneshot::channel();
        self.hand(key, post, call);
        let bus = self.bus.clone();
        // Ends within the deadline; as many of a node as it may have under way.
        actix_rt::spawn(async move {
            let result = waited(told).await;
            bus.do_send(ToNode { node: from, envelope: Envelope::Posted { call: number, result }.encode() });
        });
    }

    /// Another node answered.
    pub fn answered(&self, number: u64, result: Result<(), Refusal>) {
        if let Some(call) = self.calls().waiting.remove(&number) {
            let _ = call.send(result);
        }
    }

    fn hand(&self, key: SessionKey, post: Post, call: Handed) {
        let hub = {
            let hubs = self.hubs.read().unwrap_or_else(PoisonError::into_inner);
            hubs.get(usize::from(key.hub.0)).cloned().flatten()
        };
        match hub {
            Some(hub) => hub.do_send(ToHub::Post { key, post, call }),
            None => {
                let _ = call.send(Err(gone()));
            }
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn waited(told: oneshot::Receiver<Result<(), Refusal>>) -> Result<(), Refusal> {
    match tokio::time::timeout(WITHIN, told).await {
        Ok(Ok(answer)) => answer,
        // Its session ended meanwhile.
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Refusal::unavailable("the session did not take it in time; repeat with the same n")),
    }
}

/// Gives back what a call under way took, however it ends.
struct UnderWay<'a> {
    posts: &'a Posts,
    number: u64,
    bytes: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut calls = self.posts.calls();
        calls.waiting.remove(&self.number);
        calls.bytes -= self.bytes;
    }
}
