//! What every `ClusterBus` must do, run over loopback, Redis and a Redis Cluster; and what Redis must survive.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roundtable::ids::{NodeId, SHARDS, ShardId};
use roundtable::infra::loopback::LoopbackBus;
use roundtable::infra::redis::RedisBus;
use roundtable::ports::{BusEvent, ClusterBus, ClusterView, NodeRecord, NodeState};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::proxy::{Flow, Proxy, Way};
use crate::support::redis::Redis;

const LEASE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a valid id")
}

fn record(name: &str) -> NodeRecord {
    NodeRecord { id: node(name), state: NodeState::Ready, sessions: 3, rooms: 2 }
}

fn shards(numbers: impl IntoIterator<Item = u16>) -> Vec<ShardId> {
    numbers.into_iter().map(ShardId).collect()
}

async fn beat(bus: &dyn ClusterBus, name: &str) -> ClusterView {
    bus.beat(&record(name), LEASE).await.expect("a beat")
}

async fn owner(bus: &dyn ClusterBus, shard: u16) -> Option<NodeId> {
    bus.table().await.expect("the table").1[usize::from(shard)].clone()
}

async fn version(bus: &dyn ClusterBus) -> u64 {
    bus.table().await.expect("the table").0
}

/// Tries until it holds; fails the test when it takes longer than `within`.
async fn until<F: Future<Output = bool>>(what: &str, within: Duration, mut holds: impl FnMut() -> F) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

async fn next(inbox: &mut UnboundedReceiver<BusEvent>) -> BusEvent {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("an event in time").expect("the bus lives")
}

/// The next frame; other events are passed over.
async fn frame(inbox: &mut UnboundedReceiver<BusEvent>) -> Bytes {
    loop {
        if let BusEvent::Frame(frame) = next(inbox).await {
            return frame;
        }
    }
}

async fn event(inbox: &mut UnboundedReceiver<BusEvent>, wanted: fn(&BusEvent) -> bool) {
    while !wanted(&next(inbox).await) {}
}

/// An inbox that is known to be subscribed.
async fn inbox(bus: &dyn ClusterBus, name: &str) -> UnboundedReceiver<BusEvent> {
    let mut inbox = bus.inbox(&node(name));
    let nudge = [(node(name), Bytes::from_static(b"nudge"))];
    until("the inbox is subscribed", PATIENCE, || async { bus.publish(&nudge).await.is_ok_and(|taken| taken == [1]) })
        .await;
    assert_eq!(frame(&mut inbox).await, "nudge");
    inbox
}

/// One suite for every bus: `$start` gives the bus and whatever must live as long.
macro_rules! conformance {
    ($name:ident, $start:expr) => {
        mod $name {
            use super::*;

            conformance!(@each $start;
                frames_arrive_in_order_and_are_counted,
                a_lease_lives_as_long_as_it_is_renewed,
                a_shard_has_one_owner_however_many_claim_it,
                shards_are_given_and_only_by_their_owner,
                only_who_does_not_listen_is_deposed,
                leaving_frees_everything,
                every_change_raises_the_version_and_is_told
            );
        }
    };
    (@each $start:expr; $($check:ident),*) => {
        $(#[tokio::test]
        async fn $check() {
            let (bus, _server) = $start.await;
            super::$check(bus).await;
        })*
    };
}

async fn loopback() -> (Arc<dyn ClusterBus>, ()) {
    (Arc::new(LoopbackBus::new()), ())
}

async fn redis() -> (Arc<dyn ClusterBus>, Redis) {
    let redis = Redis::start().await;
    (connect(&redis.url()), redis)
}

async fn redis_cluster() -> (Arc<dyn ClusterBus>, Redis) {
    let redis = Redis::start_cluster().await;
    (connect(&format!("{0},{0}", redis.url())), redis)
}

async fn redis_cluster_of_three() -> (Arc<dyn ClusterBus>, Vec<Redis>) {
    let nodes = Redis::start_cluster_of(3).await;
    (connect(&format!("{},{}", nodes[0].url(), nodes[2].url())), nodes)
}

fn connect(url: &str) -> Arc<dyn ClusterBus> {
    Arc::new(RedisBus::new(url, "test").expect("a valid URL"))
}

conformance!(on_loopback, loopback());
conformance!(on_redis, redis());
conformance!(on_redis_cluster, redis_cluster());
conformance!(on_redis_cluster_of_three, redis_cluster_of_three());

// ------------------------------------------------------------------------------------------------------ the suite

async fn frames_arrive_in_order_and_are_counted(bus: Arc<dyn ClusterBus>) {
    let (mut a, mut b) = (inbox(&*bus, "a").await, inbox(&*bus, "b").await);
    let mut sent = Vec::new();
    for n in 0_u32..300 {
        let to = if n % 3 == 0 { "b" } else { "a" };
        sent.push((node(to), Bytes::copy_from_slice(&n.to_be_bytes())));
    }
    for batch in sent.chunks(50) {
        assert_eq!(bus.publish(batch).await.expect("a publish"), vec![1; batch.len()]);
    }
    for (to, expected) in &sent {
        let inbox = if *to == node("a") { &mut a } else { &mut b };
        assert_eq!(frame(inbox).await, expected);
    }
    let big = Bytes::from(vec![0xA5; 512 * 1024]);
    let mixed = [(node("nobody"), Bytes::from_static(b"x")), (node("a"), big.clone()), (node("b"), Bytes::new())];
    assert_eq!(bus.publish(&mixed).await.expect("a publish"), [0, 1, 1]);
    assert_eq!(frame(&mut a).await, big);
    assert_eq!(frame(&mut b).await, "");
    assert_eq!(bus.publish(&[]).await.expect("a publish"), Vec::<u64>::new());
    bus.ping().await.expect("an answer");
}

async fn a_lease_lives_as_long_as_it_is_renewed(bus: Arc<dyn ClusterBus>) {
    let first = bus.beat(&record("a"), SHORT).await.expect("a beat");
    assert!(!first.lapsed, "a first beat can't have lapsed");
    assert_eq!(first.nodes, [record("a")]);
    assert_eq!(bus.claim(&node("a"), &shards([1, 2])).await.expect("a claim").len(), 2);
    let renewed = Instant::now();
    while renewed.elapsed() < SHORT * 3 {
        let view = bus.beat(&record("a"), SHORT).await.expect("a beat");
        assert!(!view.lapsed);
        tokio::time::sleep(SHORT / 5).await;
    }
    assert_eq!(owner(&*bus, 1).await, Some(node("a")));

    let mut view = beat(&*bus, "b").await;
    assert_eq!(view.nodes.len(), 2);
    until("the lease runs out", PATIENCE, || async { owner(&*bus, 1).await.is_none() }).await;
    view = ClusterView { version: view.version, ..beat(&*bus, "b").await };
    assert_eq!(view.nodes, [record("b")]);
    assert_ne!(version(&*bus).await, view.version, "an end of a lease is a change of the table");
    assert_eq!(bus.claim(&node("a"), &shards([1])).await.expect("a claim"), [], "without a lease nothing is taken");

    let back = beat(&*bus, "a").await;
    assert!(back.lapsed, "a node must learn that its lease had run out");
    assert_eq!(owner(&*bus, 1).await, None, "what it owned is not its own again by itself");
    assert!(!beat(&*bus, "a").await.lapsed);
    assert_eq!(back.birth, view.birth);
}

async fn a_shard_has_one_owner_however_many_claim_it(bus: Arc<dyn ClusterBus>) {
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    for name in &names {
        beat(&*bus, name).await;
    }
    let all: Vec<ShardId> = ShardId::all().collect();
    let claims = names.iter().map(|name| {
        let (bus, all, me) = (Arc::clone(&bus), all.clone(), node(name));
        tokio::spawn(async move {
            let mut own = Vec::new();
            for part in all.chunks(100) {
                own.extend(bus.claim(&me, part).await.expect("a claim"));
            }
            (me, own)
        })
    });
    let mut claimed = vec![None; usize::from(SHARDS)];
    for claim in claims.collect::<Vec<_>>() {
        let (me, own) = claim.await.expect("a claimer");
        for shard in own {
            assert_eq!(claimed[usize::from(shard.0)].replace(me.clone()), None, "{shard:?} has two owners");
        }
    }
    assert!(claimed.iter().all(Option::is_some));
    assert_eq!(bus.table().await.expect("the table").1, claimed);
    let mine = ShardId::all().find(|shard| claimed[usize::from(shard.0)] == Some(node("n0")));
    if let Some(mine) = mine {
        assert_eq!(bus.claim(&node("n0"), &[mine]).await.expect("a claim"), [mine], "claiming again changes nothing");
    }
}

async fn shards_are_given_and_only_by_their_owner(bus: Arc<dyn ClusterBus>) {
    for name in ["a", "b", "c"] {
        beat(&*bus, name).await;
    }
    bus.claim(&node("a"), &shards([1, 2, 3])).await.expect("a claim");
    bus.claim(&node("b"), &shards([4])).await.expect("a claim");
    let gifts = [(ShardId(1), node("b")), (ShardId(2), node("gone")), (ShardId(4), node("c")), (ShardId(5), node("c"))];
    bus.give(&node("a"), &gifts).await.expect("a gift");
    let (_, owners) = bus.table().await.expect("the table");
    let now: Vec<_> = owners[1..6].iter().map(|owner| owner.as_ref().map(NodeId::as_str)).collect();
    assert_eq!(now, [Some("b"), Some("a"), Some("a"), Some("b"), None]);
    bus.give(&node("a"), &[(ShardId(1), node("a"))]).await.expect("a gift");
    assert_eq!(owner(&*bus, 1).await, Some(node("b")), "it was given away already");
}

async fn only_who_does_not_listen_is_deposed(bus: Arc<dyn ClusterBus>) {
    let listening = inbox(&*bus, "a").await;
    for name in ["a", "b", "c"] {
        beat(&*bus, name).await;
    }
    bus.claim(&node("a"), &shards([1])).await.expect("a claim");
    bus.claim(&node("b"), &shards([2])).await.expect("a claim");
    assert!(!bus.depose(&node("a")).await.expect("an answer"));
    assert!(bus.depose(&node("b")).await.expect("an answer"));
    assert!(!bus.depose(&node("b")).await.expect("an answer"), "only once");
    assert!(!bus.depose(&node("stranger")).await.expect("an answer"));
    assert_eq!((owner(&*bus, 1).await, owner(&*bus, 2).await), (Some(node("a")), None));
    let view = beat(&*bus, "a").await;
    assert_eq!(view.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>().len(), 2);
    assert!(beat(&*bus, "b").await.lapsed, "it must learn of it");
    drop(listening);
}

async fn leaving_frees_everything(bus: Arc<dyn ClusterBus>) {
    beat(&*bus, "a").await;
    beat(&*bus, "b").await;
    bus.claim(&node("a"), &shards([1, 2])).await.expect("a claim");
    bus.leave(&node("a")).await.expect("an answer");
    bus.leave(&node("a")).await.expect("again changes nothing");
    assert_eq!(owner(&*bus, 1).await, None);
    assert_eq!(beat(&*bus, "b").await.nodes, [record("b")]);
    assert!(!beat(&*bus, "a").await.lapsed, "who left by itself did not lapse");
}

async fn every_change_raises_the_version_and_is_told(bus: Arc<dyn ClusterBus>) {
    let mut watching = inbox(&*bus, "w").await;
    let changed = |event: &BusEvent| matches!(event, BusEvent::TableChanged);
    beat(&*bus, "a").await;
    beat(&*bus, "b").await;
    let mut before = version(&*bus).await;
    assert_eq!(beat(&*bus, "a").await.version, before, "a beat is no change");

    for step in 0..4 {
        match step {
            0 => drop(bus.claim(&node("a"), &shards([1])).await.expect("a claim")),
            1 => bus.give(&node("a"), &[(ShardId(1), node("b"))]).await.expect("a gift"),
            2 => assert!(bus.depose(&node("b")).await.expect("an answer")),
            _ => bus.leave(&node("a")).await.expect("an answer"),
        }
        event(&mut watching, changed).await;
        let after = version(&*bus).await;
        assert!(after > before, "step {step}: {after} after {before}");
        before = after;
    }
    bus.claim(&node("a"), &shards([1])).await.expect("a claim");
    assert_eq!(version(&*bus).await, before, "nothing was taken");
}

// ----------------------------------------------------------------------------------------------- Redis in trouble

fn reconnected(event: &BusEvent) -> bool {
    matches!(event, BusEvent::Reconnected)
}

/// A bus whose every connection goes through a breakable proxy.
async fn through_proxy() -> (Redis, Proxy, Arc<dyn ClusterBus>) {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let bus = connect(&format!("redis://127.0.0.1:{}", proxy.port()));
    (redis, proxy, bus)
}

#[tokio::test]
async fn a_cut_connection_comes_back_and_says_so() {
    let (redis, proxy, bus) = through_proxy().await;
    let direct = connect(&redis.url());
    let mut a = inbox(&*bus, "a").await;
    beat(&*bus, "a").await;
    for round in 0..3 {
        proxy.cut();
        event(&mut a, reconnected).await;
        let frames = [(node("a"), Bytes::from(format!("after cut {round}")))];
        assert_eq!(direct.publish(&frames).await.expect("a publish"), [1]);
        assert_eq!(frame(&mut a).await, frames[0].1);
        assert!(!beat(&*bus, "a").await.lapsed);
    }
}

#[tokio::test]
async fn a_silent_network_is_noticed_in_both_directions() {
    for (way, flow) in [(Way::Down, Flow::Drop), (Way::Up, Flow::Drop), (Way::Up, Flow::Hold)] {
        let (redis, proxy, bus) = through_proxy().await;
        let direct = connect(&redis.url());
        let mut a = inbox(&*bus, "a").await;
        proxy.set(way, flow);
        let began = Instant::now();
        bus.ping().await.expect_err("no answer can come");
        bus.beat(&record("a"), LEASE).await.expect_err("no answer can come");
        assert!(began.elapsed() < Duration::from_millis(2_100), "two calls took {:?}", began.elapsed());
        // Long enough for the subscription to be given up as well.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        proxy.set(way, Flow::Pass);
        let back = Instant::now();
        event(&mut a, reconnected).await;
        until("the bus is back", PATIENCE, || async { bus.ping().await.is_ok() }).await;
        assert!(back.elapsed() < Duration::from_secs(2), "{way:?} {flow:?}: back after {:?}", back.elapsed());
        direct.publish(&[(node("a"), Bytes::from_static(b"again"))]).await.expect("a publish");
        assert_eq!(frame(&mut a).await, "again");
    }
}

#[tokio::test]
async fn what_is_published_while_the_subscriber_is_cut_is_lost_and_told() {
    let (redis, proxy, bus) = through_proxy().await;
    let direct = connect(&redis.url());
    let mut a = inbox(&*bus, "a").await;
    proxy.close();
    let lost = [(node("a"), Bytes::from_static(b"lost"))];
    until("nobody listens", PATIENCE, || async { direct.publish(&lost).await.expect("a publish") == [0] }).await;
    proxy.open();
    event(&mut a, reconnected).await;
    direct.publish(&[(node("a"), Bytes::from_static(b"kept"))]).await.expect("a publish");
    assert_eq!(frame(&mut a).await, "kept");
}

#[tokio::test]
async fn redis_may_be_killed_and_start_again_empty() {
    let mut redis = Redis::start().await;
    let bus = connect(&redis.url());
    let mut a = inbox(&*bus, "a").await;
    let before = beat(&*bus, "a").await;
    bus.claim(&node("a"), &shards([1])).await.expect("a claim");
    let version_before = version(&*bus).await;

    redis.stop_hard();
    for _ in 0..3 {
        let began = Instant::now();
        bus.ping().await.expect_err("it is away");
        bus.publish(&[(node("a"), Bytes::new())]).await.expect_err("it is away");
        bus.beat(&record("a"), LEASE).await.expect_err("it is away");
        bus.table().await.expect_err("it is away");
        assert!(began.elapsed() < Duration::from_secs(4), "each within a second");
    }
    redis.start_again().await;
    let took = until("beats work again", PATIENCE, || async { bus.beat(&record("a"), LEASE).await.is_ok() }).await;
    assert!(took < Duration::from_secs(1), "back after {took:?}");
    event(&mut a, reconnected).await;
    let after = beat(&*bus, "a").await;
    assert_ne!(after.birth, before.birth);
    assert!(version(&*bus).await > version_before);
    assert_eq!(owner(&*bus, 1).await, None);
    assert_eq!(bus.claim(&node("a"), &shards([1])).await.expect("a claim"), shards([1]));
}

#[tokio::test]
async fn flushing_redis_is_noticed() {
    let (redis, _proxy, bus) = through_proxy().await;
    let before = beat(&*bus, "a").await;
    bus.claim(&node("a"), &shards(0..500)).await.expect("a claim");
    let version_before = version(&*bus).await;
    redis.flush_all().await;
    assert_eq!(redis.command(&["SCRIPT", "FLUSH"]).await, "+OK");
    let after = beat(&*bus, "a").await;
    assert!(!after.lapsed && after.birth != before.birth, "emptied is not the same as lapsed");
    let (version_after, owners) = bus.table().await.expect("the table");
    assert!(version_after > version_before);
    assert!(owners.iter().all(Option::is_none));
}

#[tokio::test]
async fn a_frozen_redis_fails_promptly_and_recovers() {
    let redis = Redis::start().await;
    let bus = connect(&redis.url());
    let mut a = inbox(&*bus, "a").await;
    bus.beat(&record("a"), Duration::from_secs(2)).await.expect("a beat");
    bus.claim(&node("a"), &shards([1])).await.expect("a claim");
    redis.freeze();
    let frozen = Instant::now();
    while frozen.elapsed() < Duration::from_secs(5) {
        let call = Instant::now();
        bus.beat(&record("a"), LEASE).await.expect_err("it is frozen");
        assert!(call.elapsed() < Duration::from_millis(1_500), "a call took {:?}", call.elapsed());
    }
    redis.thaw();
    let took = until("beats work again", PATIENCE, || async { bus.beat(&record("a"), LEASE).await.is_ok() }).await;
    assert!(took < Duration::from_secs(2), "back after {took:?}");
    event(&mut a, reconnected).await;
    bus.publish(&[(node("a"), Bytes::from_static(b"thawed"))]).await.expect("a publish");
    assert_eq!(frame(&mut a).await, "thawed");
}

#[tokio::test]
async fn a_bus_may_start_before_its_redis() {
    let mut redis = Redis::start().await;
    redis.stop_hard();
    let bus = connect(&redis.url());
    let mut a = bus.inbox(&node("a"));
    bus.beat(&record("a"), LEASE).await.expect_err("it is away");
    redis.start_again().await;
    until("beats work", PATIENCE, || async { bus.beat(&record("a"), LEASE).await.is_ok() }).await;
    bus.publish(&[(node("a"), Bytes::from_static(b"first"))]).await.expect("a publish");
    assert!(matches!(next(&mut a).await, BusEvent::Frame(frame) if frame == "first"), "nothing was lost before");
}

#[tokio::test]
async fn a_restarted_redis_cluster_is_found_again() {
    let mut redis = Redis::start_cluster().await;
    let bus = connect(&format!("{0},{0}", redis.url()));
    let mut a = inbox(&*bus, "a").await;
    beat(&*bus, "a").await;
    redis.stop_hard();
    bus.ping().await.expect_err("it is away");
    redis.start_again().await;
    let took = until("beats work again", PATIENCE, || async { bus.beat(&record("a"), LEASE).await.is_ok() }).await;
    assert!(took < Duration::from_secs(2), "back after {took:?}");
    event(&mut a, reconnected).await;
    bus.publish(&[(node("a"), Bytes::from_static(b"again"))]).await.expect("a publish");
    assert_eq!(frame(&mut a).await, "again");
}

#[tokio::test]
async fn a_sentinel_leads_to_the_master() {
    let redis = Redis::start().await;
    let sentinel = Redis::start_sentinel(&redis).await;
    let bus = connect(&format!("redis+sentinel://127.0.0.1:{}/main/0", sentinel.port()));
    let mut a = inbox(&*bus, "a").await;
    assert_eq!(beat(&*bus, "a").await.nodes, [record("a")]);
    redis.cut_clients().await;
    event(&mut a, reconnected).await;
    beat(&*bus, "a").await;
}

#[tokio::test]
async fn a_failover_by_sentinel_is_followed() {
    let mut master = Redis::start().await;
    let replica = Redis::start_replica(&master).await;
    let sentinel = Redis::start_sentinel(&master).await;
    until("the sentinel knows the replica", PATIENCE, || async {
        sentinel.command(&["INFO", "sentinel"]).await.contains("slaves=1")
    })
    .await;
    let bus = connect(&format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port()));
    let mut a = inbox(&*bus, "a").await;
    beat(&*bus, "a").await;
    bus.claim(&node("a"), &shards([1])).await.expect("a claim");
    master.stop_hard();
    until("beats work again", PATIENCE * 2, || async { bus.beat(&record("a"), LEASE).await.is_ok() }).await;
    event(&mut a, reconnected).await;
    assert!(replica.command(&["INFO", "replication"]).await.contains("role:master"));
    bus.publish(&[(node("a"), Bytes::from_static(b"over there"))]).await.expect("a publish");
    assert_eq!(frame(&mut a).await, "over there");
}

#[tokio::test]
async fn a_slow_network_keeps_the_order() {
    let (_redis, proxy, bus) = through_proxy().await;
    let mut a = inbox(&*bus, "a").await;
    proxy.set_both(Flow::Delay(Duration::from_millis(40)));
    let publishes = (0_u8..10).map(|n| {
        let bus = Arc::clone(&bus);
        async move { bus.publish(&[(node("a"), Bytes::copy_from_slice(&[n]))]).await }
    });
    for taken in futures_util::future::join_all(publishes).await {
        assert_eq!(taken.expect("a publish"), [1]);
    }
    for n in 0_u8..10 {
        assert_eq!(frame(&mut a).await[..], [n]);
    }
    assert!(!beat(&*bus, "a").await.lapsed);
}

#[tokio::test]
async fn clusters_with_different_names_share_a_redis_unseen() {
    let redis = Redis::start().await;
    let one: Arc<dyn ClusterBus> = Arc::new(RedisBus::new(&redis.url(), "one").expect("a valid URL"));
    let two: Arc<dyn ClusterBus> = Arc::new(RedisBus::new(&redis.url(), "two").expect("a valid URL"));
    let (mut in_one, mut in_two) = (inbox(&*one, "a").await, inbox(&*two, "a").await);
    beat(&*one, "a").await;
    beat(&*two, "a").await;
    beat(&*two, "b").await;
    one.claim(&node("a"), &shards([1])).await.expect("a claim");
    assert_eq!(owner(&*two, 1).await, None);
    assert_eq!(two.claim(&node("b"), &shards([1])).await.expect("a claim"), shards([1]));
    assert_eq!(beat(&*one, "a").await.nodes.len(), 1);
    one.publish(&[(node("a"), Bytes::from_static(b"for one"))]).await.expect("a publish");
    two.publish(&[(node("a"), Bytes::from_static(b"for two"))]).await.expect("a publish");
    assert_eq!(frame(&mut in_one).await, "for one");
    assert_eq!(frame(&mut in_two).await, "for two");
}

#[test]
fn a_wrong_url_or_name_is_refused_in_one_line() {
    for (url, name) in [("localhost", "x"), ("redis://:hush@h/x", "x"), ("redis://h", ""), ("redis://h", "a{b}")] {
        let error = RedisBus::new(url, name).err().expect("a refusal");
        assert!(error.lines().count() == 1 && !error.contains("hush"), "{error}");
    }
}
