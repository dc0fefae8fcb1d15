//! Several `ClusterActor`s on one bus, each with a router that only writes down what it is told: who owns what, when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Recipient};
use roundtable::actors::cluster::{ClusterActor, ClusterConfig, RouterPort};
use roundtable::actors::messages::{
    BusNews, ClusterStatus, Describe, DrainShards, LeaveCluster, NodesLost, OwnersChanged, ReleaseShards,
    ShardsReleased,
};
use roundtable::domain::placement;
use roundtable::ids::{NodeId, SHARDS, ShardId};
use roundtable::infra::loopback::LoopbackBus;
use roundtable::infra::redis::RedisBus;
use roundtable::metrics::Metrics;
use roundtable::ports::{BusEvent, ClusterBus, NodeState};
use tokio::sync::oneshot;

use crate::support::redis::Redis;

const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a valid id")
}

/// What all routers were told, as one story.
#[derive(Default)]
struct Story {
    told: BTreeMap<NodeId, Vec<Option<NodeId>>>,
    lost: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// When a shard was last let go of by an owner.
    released: BTreeMap<ShardId, Instant>,
    longest_pause: Duration,
    /// Times that a router got a shard which another living one still believed its own.
    overlaps: usize,
    killed: BTreeSet<NodeId>,
}

impl Story {
    fn owned(&self, name: &str) -> usize {
        let told = self.told.get(&node(name));
        told.map_or(0, |told| told.iter().flatten().filter(|owner| **owner == node(name)).count())
    }

    fn tell(&mut self, me: &NodeId, changes: &[(ShardId, Option<NodeId>)]) {
        for (shard, owner) in changes {
            let at = usize::from(shard.0);
            if owner.as_ref() == Some(me) {
                let others = self.told.iter().filter(|(other, _)| *other != me && !self.killed.contains(*other));
                self.overlaps += others.filter(|(other, told)| told[at].as_ref() == Some(*other)).count();
                if let Some(since) = self.released.remove(shard) {
                    self.longest_pause = self.longest_pause.max(since.elapsed());
                }
            }
            let told = self.told.entry(me.clone()).or_insert_with(|| vec![None; usize::from(SHARDS)]);
            told[at].clone_from(owner);
        }
    }
}

/// A router that lets go at once and remembers.
struct Recorder {
    node: NodeId,
    story: Arc<Mutex<Story>>,
    cluster: Option<Recipient<ShardsReleased>>,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<OwnersChanged> for Recorder {
    type Result = ();

    fn handle(&mut self, OwnersChanged { changes }: OwnersChanged, _: &mut Context<Self>) {
        self.story.lock().expect("a story").tell(&self.node, &changes);
    }
}

impl Handler<NodesLost> for Recorder {
    type Result = ();

    fn handle(&mut self, NodesLost { nodes }: NodesLost, _: &mut Context<Self>) {
        self.story.lock().expect("a story").lost.entry(self.node.clone()).or_default().extend(nodes);
    }
}

impl Handler<ReleaseShards> for Recorder {
    type Result = ();

    fn handle(&mut self, ReleaseShards { shards }: ReleaseShards, ctx: &mut Context<Self>) {
        let mut story = self.story.lock().expect("a story");
        for shard in &shards {
            story.released.insert(*shard, Instant::now());
            story.told.entry(self.node.clone()).or_insert_with(|| vec![None; usize::from(SHARDS)])
                [usize::from(shard.0)] = None;
        }
        // As long as an append in flight may take.
        ctx.run_later(Duration::from_millis(3), |recorder, _| {
            recorder.cluster.as_ref().expect("it was introduced").do_send(ShardsReleased { shards });
        });
    }
}

/// Introduces the cluster to its router.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Introduce(Recipient<ShardsReleased>);

impl Handler<Introduce> for Recorder {
    type Result = ();

    fn handle(&mut self, Introduce(cluster): Introduce, _: &mut Context<Self>) {
        self.cluster = Some(cluster);
    }
}

/// A node on a thread of its own, so that it can be ended like a process.
struct Member {
    arbiter: Arbiter,
    cluster: Addr<ClusterActor>,
}

enum Bus {
    Loopback(Arc<LoopbackBus>),
    Redis(Redis),
}

struct Cluster {
    bus: Bus,
    story: Arc<Mutex<Story>>,
    members: BTreeMap<String, Member>,
}

impl Cluster {
    fn on_loopback() -> Self {
        Self::on(Bus::Loopback(Arc::new(LoopbackBus::new())))
    }

    async fn on_redis() -> Self {
        Self::on(Bus::Redis(Redis::start().await))
    }

    fn on(bus: Bus) -> Self {
        Self { bus, story: Arc::default(), members: BTreeMap::new() }
    }

    fn redis(&mut self) -> &mut Redis {
        match &mut self.bus {
            Bus::Redis(redis) => redis,
            Bus::Loopback(_) => panic!("this cluster has no Redis"),
        }
    }

    /// A bus for one node: its own connections, where there are any.
    fn connect(&self) -> Arc<dyn ClusterBus> {
        match &self.bus {
            Bus::Loopback(bus) => Arc::clone(bus) as Arc<dyn ClusterBus>,
            Bus::Redis(redis) => Arc::new(RedisBus::new(&redis.url(), "test").expect("a valid URL")),
        }
    }

    async fn joins(&mut self, name: &str) {
        let arbiter = Arbiter::new();
        let (started, cluster) = oneshot::channel();
        let (bus, story, me) = (self.connect(), Arc::clone(&self.story), node(name));
        story.lock().expect("a story").told.insert(me.clone(), vec![None; usize::from(SHARDS)]);
        arbiter.spawn(async move {
            let router = Recorder { node: me.clone(), story, cluster: None }.start();
            let port = RouterPort {
                owners: router.clone().recipient(),
                lost: router.clone().recipient(),
                release: router.clone().recipient(),
            };
            let mut inbox = bus.inbox(&me);
            let config = ClusterConfig { node: me, lease: LEASE };
            let cluster = ClusterActor::new(config, bus, port, Metrics::new()).start();
            router.do_send(Introduce(cluster.clone().recipient()));
            assert!(started.send(cluster.clone()).is_ok(), "the test waits for it");
            while let Some(event) = inbox.recv().await {
                match event {
                    BusEvent::TableChanged => cluster.do_send(BusNews::TableChanged),
                    BusEvent::Reconnected => cluster.do_send(BusNews::Reconnected),
                    BusEvent::Frame(_) => {}
                }
            }
        });
        let cluster = cluster.await.expect("it starts");
        self.members.insert(name.to_owned(), Member { arbiter, cluster });
    }

    /// Ends it without a word, as kill -9 would.
    fn kill(&mut self, name: &str) {
        let member = self.members.remove(name).expect("a member");
        self.story.lock().expect("a story").killed.insert(node(name));
        member.arbiter.stop();
        member.arbiter.join().expect("the thread ends");
    }

    async fn drains(&self, name: &str) {
        let drained = self.members[name].cluster.send(DrainShards);
        tokio::time::timeout(PATIENCE, drained).await.expect("a drain ends").expect("it answers");
    }

    async fn describe(&self, name: &str) -> ClusterStatus {
        self.members[name].cluster.send(Describe).await.expect("it answers")
    }

    fn story<T>(&self, read: impl FnOnce(&Story) -> T) -> T {
        read(&self.story.lock().expect("a story"))
    }

    /// Whether every member was told that these own everything, as placement wishes.
    fn settled(&self, owners: &[&str]) -> bool {
        let owners: Vec<NodeId> = owners.iter().map(|name| node(name)).collect();
        let wishes = placement::wishes(&owners);
        self.story(|story| {
            self.members
                .keys()
                .all(|name| story.told[&node(name)].iter().map(Option::as_ref).eq(wishes.iter().copied()))
        })
    }

    async fn until(&self, what: &str, within: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            let owned: Vec<_> = self.members.keys().map(|name| (name, self.story(|story| story.owned(name)))).collect();
            assert!(began.elapsed() < within, "{what}: not within {within:?}: {owned:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        began.elapsed()
    }

    async fn until_settled(&self, owners: &[&str], within: Duration) -> Duration {
        self.until("settled", within, |cluster| cluster.settled(owners)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in std::mem::take(&mut self.members).into_values() {
            member.arbiter.stop();
        }
    }
}

#[actix_rt::test]
async fn a_single_node_owns_every_shard_within_milliseconds() {
    let mut cluster = Cluster::on_loopback();
    let began = Instant::now();
    cluster.joins("a").await;
    cluster.until_settled(&["a"], Duration::from_secs(1)).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let status = cluster.describe("a").await;
    assert!(status.leased && status.state == NodeState::Ready && status.nodes.len() == 1);
    assert_eq!(status.owners, vec![Some(node("a")); usize::from(SHARDS)]);
    cluster.drains("a").await;
    assert_eq!(cluster.story(|story| story.owned("a")), usize::from(SHARDS), "nobody else can take them");
}

async fn nodes_share_and_hand_over(mut cluster: Cluster) {
    cluster.joins("a").await;
    cluster.until_settled(&["a"], PATIENCE).await;
    cluster.joins("b").await;
    cluster.joins("c").await;
    cluster.until_settled(&["a", "b", "c"], PATIENCE).await;
    assert!(cluster.story(|story| story.owned("b")) > 200);

    cluster.drains("b").await;
    assert_eq!(cluster.story(|story| story.owned("b")), 0);
    cluster.until_settled(&["a", "c"], PATIENCE).await;
    assert_eq!(cluster.describe("b").await.state, NodeState::Draining);
    cluster.members["b"].cluster.send(LeaveCluster).await.expect("it answers");
    cluster
        .until("b is seen to leave", PATIENCE, |cluster| {
            cluster.story(|story| story.lost.get(&node("a")).is_some_and(|lost| lost.contains(&node("b"))))
        })
        .await;
    let status = cluster.describe("a").await;
    assert!(status.nodes.iter().any(|known| known.record.id == node("b") && !known.alive));
    cluster.story(|story| {
        assert_eq!(story.overlaps, 0, "two owners at a time");
        // The contract aims at 250 ms; a crowded test machine gets its worst case.
        assert!(story.longest_pause < Duration::from_secs(1), "a pause of {:?}", story.longest_pause);
    });
}

#[actix_rt::test]
async fn nodes_share_and_hand_over_on_loopback() {
    nodes_share_and_hand_over(Cluster::on_loopback()).await;
}

#[actix_rt::test]
async fn nodes_share_and_hand_over_on_redis() {
    nodes_share_and_hand_over(Cluster::on_redis().await).await;
}

async fn a_killed_node_is_replaced(mut cluster: Cluster) {
    for name in ["a", "b", "c"] {
        cluster.joins(name).await;
    }
    cluster.until_settled(&["a", "b", "c"], PATIENCE).await;
    cluster.kill("b");
    let took = cluster.until_settled(&["a", "c"], PATIENCE).await;
    assert!(took < Duration::from_millis(2_500), "replaced after {took:?}");
    cluster.story(|story| {
        assert_eq!(story.overlaps, 0, "two owners at a time");
        assert!(story.lost[&node("a")].contains(&node("b")) && story.lost[&node("c")].contains(&node("b")));
    });
}

#[actix_rt::test]
async fn a_killed_node_is_replaced_on_loopback() {
    a_killed_node_is_replaced(Cluster::on_loopback()).await;
}

#[actix_rt::test]
async fn a_killed_node_is_replaced_on_redis() {
    a_killed_node_is_replaced(Cluster::on_redis().await).await;
}

#[actix_rt::test]
async fn an_outage_of_redis_moves_nothing_for_good() {
    let mut cluster = Cluster::on_redis().await;
    for name in ["a", "b", "c"] {
        cluster.joins(name).await;
    }
    cluster.until_settled(&["a", "b", "c"], PATIENCE).await;
    let before = cluster.story(|story| story.told[&node("a")].clone());
    cluster.redis().stop_hard();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in ["a", "b", "c"] {
        assert!(!cluster.describe(name).await.leased, "{name} goes on without a lease");
        assert_eq!(cluster.story(|story| story.owned(name)), 0, "{name} still owns");
    }
    cluster.redis().start_again().await;
    let took = cluster.until_settled(&["a", "b", "c"], PATIENCE).await;
    assert!(took < Duration::from_secs(3), "back after {took:?}");
    cluster.story(|story| {
        assert_eq!(story.told[&node("a")], before);
        assert_eq!(story.overlaps, 0, "two owners at a time");
        assert!(story.lost.is_empty(), "nobody was gone: {:?}", story.lost);
    });
}

#[actix_rt::test]
async fn flushing_redis_moves_nothing() {
    let mut cluster = Cluster::on_redis().await;
    for name in ["a", "b"] {
        cluster.joins(name).await;
    }
    cluster.until_settled(&["a", "b"], PATIENCE).await;
    cluster.redis().flush_all().await;
    let own: Vec<_> = ["a", "b"].map(|name| cluster.story(|story| story.owned(name))).into();
    let watched = Instant::now();
    while watched.elapsed() < LEASE * 2 {
        let now: Vec<_> = ["a", "b"].map(|name| cluster.story(|story| story.owned(name))).into();
        assert_eq!(now, own, "a shard moved");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(cluster.settled(&["a", "b"]));
    cluster.story(|story| assert!(story.overlaps == 0 && story.lost.is_empty()));
    let (version, owners) = cluster.connect().table().await.expect("the table");
    assert!(version > 0 && owners.iter().all(Option::is_some), "the table was made again");
    assert_eq!(owners[7], placement::wished(ShardId(7), &[node("a"), node("b")]).cloned());
}

#[actix_rt::test]
async fn a_frozen_redis_ends_leases_in_time() {
    let mut cluster = Cluster::on_redis().await;
    for name in ["a", "b"] {
        cluster.joins(name).await;
    }
    cluster.until_settled(&["a", "b"], PATIENCE).await;
    cluster.redis().freeze();
    let frozen = Instant::now();
    cluster
        .until("own leases end", LEASE, |cluster| cluster.story(|story| story.owned("a") == 0 && story.owned("b") == 0))
        .await;
    assert!(frozen.elapsed() < LEASE, "ended after {:?}", frozen.elapsed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.redis().thaw();
    let took = cluster.until_settled(&["a", "b"], PATIENCE).await;
    assert!(took < Duration::from_secs(3), "back after {took:?}");
    cluster.story(|story| assert_eq!(story.overlaps, 0, "two owners at a time"));
}
