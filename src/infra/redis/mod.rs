//! The bus between nodes on Redis: leases, the shard table and inboxes.
//!
//! Invariants: all keys of a cluster begin with its name and live in one slot, so each change is one script and one step;
//! nothing here waits for Redis longer than a second; losing all of Redis loses nothing that is durable. A node holds a
//! lease only while it listens on its inbox, so an inbox without listeners means a dead node.
//!
//! Three connections a node: one for scripts, one for publishing (a large frame must not hold up a beat), one that
//! subscribes.

mod inbox;
mod link;
mod scripts;
mod target;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::RedisResult;
use tokio::sync::mpsc::UnboundedReceiver;

use self::inbox::Inbox;
use self::link::{Home, Link};
use self::scripts::Scripts;
use self::target::{Connection, Target};
use crate::ids::{NodeId, SHARDS, ShardId};
use crate::ports::{BusError, BusEvent, ClusterBus, ClusterView, NodeRecord};

/// How long a beat waits for the inbox to be subscribed.
const INBOX_DEADLINE: Duration = Duration::from_millis(500);

/// See the module.
pub struct RedisBus {
    target: Arc<Target>,
    home: Home,
    scripts: Scripts,
    publishing: Link,
    /// The cluster's name; a valid name can't break out of the hash tag.
    name: String,
    /// What each node of ours saw at its last beat: the table's birth.
    beaten: Mutex<HashMap<NodeId, u64>>,
    inboxes: Mutex<HashMap<NodeId, Inbox>>,
}

impl RedisBus {
    /// Connects to nothing yet. `cluster_name` prefixes every key and channel.
    ///
    /// # Errors
    /// One line that says what is wrong with the URL or the name and what is allowed; secrets are masked.
    pub fn new(url: &str, cluster_name: &str) -> Result<Self, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if cluster_name.is_empty() || cluster_name.len() > 64 || !cluster_name.chars().all(named) {
            return Err(format!("{cluster_name:?}: a cluster's name is 1–64 of A–Z a–z 0–9 . _ -"));
        }
        // The only provider of the build, but the library asks for the process's. A second call finds the first's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let target = Arc::new(Target::parse(url)?);
        let home = Home::default();
        let link = || Link::new(Arc::clone(&target), home.clone());
        Ok(Self {
            scripts: Scripts::new(link(), cluster_name, target.is_cluster()),
            publishing: link(),
            name: cluster_name.to_owned(),
            beaten: Mutex::default(),
            inboxes: Mutex::default(),
            target,
            home,
        })
    }

    fn inbox_channel(&self, node: &NodeId) -> String {
        format!("{}:inbox:{node}", self.name)
    }

    /// Waits, not for long, until the node's inbox is subscribed, if it has one here.
    async fn listening(&self, node: &NodeId) -> Result<(), BusError> {
        let up = lock(&self.inboxes).get(node).map(|inbox| inbox.up.clone());
        let Some(mut up) = up else { return Ok(()) };
        match tokio::time::timeout(INBOX_DEADLINE, up.wait_for(|&up| up)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(BusError("the inbox is not subscribed".to_owned())),
        }
    }
}

#[async_trait]
impl ClusterBus for RedisBus {
    fn inbox(&self, node: &NodeId) -> UnboundedReceiver<BusEvent> {
        let (inbox, receiver) = inbox::start(
            Arc::clone(&self.target),
            &self.home,
            self.inbox_channel(node),
            scripts::events_channel(&self.name),
        );
        lock(&self.inboxes).insert(node.clone(), inbox);
        receiver
    }

    async fn publish(&self, frames: &[(NodeId, Bytes)]) -> Result<Vec<u64>, BusError> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let to: Vec<(String, &Bytes)> = frames.iter().map(|(node, frame)| (self.inbox_channel(node), frame)).collect();
        // Never tried again: a frame must not overtake or repeat an earlier one on a link that stands.
        self.publishing
            .run(false, |connection| {
                let to = &to;
                async move {
                    match connection {
                        Connection::Node(_) => publish_pipelined(connection, "PUBLISH", to).await,
                        Connection::Cluster(_) => publish_spread(connection, to).await,
                    }
                }
            })
            .await
    }

    async fn beat(&self, node: &NodeRecord, lease: Duration) -> Result<ClusterView, BusError> {
        self.listening(&node.id).await?;
        let beat = self.scripts.beat(node, lease).await?;
        let before = lock(&self.beaten).insert(node.id.clone(), beat.birth);
        Ok(ClusterView {
            nodes: beat.nodes,
            version: beat.version,
            birth: beat.birth,
            lapsed: before == Some(beat.birth) && !beat.held,
        })
    }

    async fn table(&self) -> Result<(u64, Vec<Option<NodeId>>), BusError> {
        self.scripts.table().await
    }

    async fn claim(&self, node: &NodeId, shards: &[ShardId]) -> Result<Vec<ShardId>, BusError> {
        self.scripts.claim(node, shards).await
    }

    async fn give(&self, node: &NodeId, gifts: &[(ShardId, NodeId)]) -> Result<(), BusError> {
        self.scripts.give(node, gifts).await
    }

    async fn depose(&self, node: &NodeId) -> Result<bool, BusError> {
        self.scripts.depose(node, &self.inbox_channel(node)).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), BusError> {
        lock(&self.beaten).remove(node);
        self.scripts.leave(node).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.scripts.ping().await
    }
}

async fn publish_pipelined(
    mut connection: Connection,
    publish: &str,
    to: &[(String, &Bytes)],
) -> RedisResult<Vec<u64>> {
    let mut pipeline = redis::Pipeline::with_capacity(to.len());
    for (channel, frame) in to {
        pipeline.cmd(publish).arg(channel).arg(frame.as_ref());
    }
    pipeline.query_async(&mut connection).await
}

/// One pipeline a channel, side by side: channels live on different nodes of a Redis Cluster.
async fn publish_spread(connection: Connection, to: &[(String, &Bytes)]) -> RedisResult<Vec<u64>> {
    let mut by_channel: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, (channel, _)) in to.iter().enumerate() {
        by_channel.entry(channel).or_default().push(at);
    }
    let exchanges = by_channel.into_values().map(|places| {
        let connection = connection.clone();
        async move {
            let part: Vec<_> = places.iter().map(|&at| to[at].clone()).collect();
            let counts = publish_pipelined(connection, "SPUBLISH", &part).await?;
            RedisResult::Ok((places, counts))
        }
    });
    let mut counts = vec![0; to.len()];
    for (places, taken) in try_join_all(exchanges).await? {
        for (at, count) in places.into_iter().zip(taken) {
            counts[at] = count;
        }
    }
    Ok(counts)
}

/// One owner or nobody a shard, from what a table holds.
fn owners(pairs: impl IntoIterator<Item = (u16, NodeId)>) -> Vec<Option<NodeId>> {
    let mut owners = vec![None; usize::from(SHARDS)];
    for (shard, node) in pairs {
        if let Some(owner) = owners.get_mut(usize::from(shard)) {
            *owner = Some(node);
        }
    }
    owners
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps behind these locks are whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
