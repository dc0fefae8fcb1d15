//! Redis and PostgreSQL away, emptied and back, under load: nobody is disconnected, nothing acknowledged is lost, and
//! everything works again soon after the server does.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::load::{Load, Report};
use crate::support::node;
use crate::support::person::Person;
use crate::support::proxy::Flow;
use crate::support::until;

/// How long a server stays away.
const AWAY: Duration = Duration::from_secs(5);
/// The contract says 3 s; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(6);

fn nobody_was_disconnected(report: &Report) {
    assert!(report.closes.is_empty(), "{:?}", report.closes);
    let known = |code: &String| ["unavailable", "overloaded"].contains(&code.as_str());
    assert!(report.retried.iter().all(known), "{:?}", report.retried);
}

#[tokio::test]
async fn redis_may_stop_and_come_back_empty() {
    let mut cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    cluster.redis.stop_hard();
    load.goes_on_for(AWAY).await;
    cluster.redis.start_again().await;
    let back = load.first_ack_after(Instant::now()).await;
    println!("first acknowledgement {back:?} after Redis was back");
    assert!(back <= BACK_WITHIN, "{back:?}");
    cluster.settled().await;
    load.until_acks(50).await;
    nobody_was_disconnected(&load.finish(&cluster.nodes[1]).await);
}

#[tokio::test]
async fn redis_may_restart_in_a_moment() {
    let mut cluster = Cluster::start(3).await;
    let room = cluster.room_on(1, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    cluster.redis.stop_hard();
    cluster.redis.start_again().await;
    load.until_acks(80).await;
    cluster.settled().await;
    nobody_was_disconnected(&load.finish(&cluster.nodes[0]).await);
}

#[tokio::test]
async fn redis_may_lose_everything() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(1, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    for _ in 0..3 {
        cluster.redis.flush_all().await;
        load.until_acks(60).await;
    }
    cluster.settled().await;
    nobody_was_disconnected(&load.finish(&cluster.nodes[2]).await);
}

#[tokio::test]
async fn redis_may_stand_still() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(2, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    cluster.redis.freeze();
    load.goes_on_for(AWAY).await;
    cluster.redis.thaw();
    let back = load.first_ack_after(Instant::now()).await;
    assert!(back <= BACK_WITHIN, "{back:?}");
    cluster.settled().await;
    load.until_acks(50).await;
    nobody_was_disconnected(&load.finish(&cluster.nodes[0]).await);
}

#[tokio::test]
async fn postgres_may_stop_and_come_back() {
    let cluster = Cluster::with_own_postgres(3).await;
    let room = cluster.room_on(0, "owner").await;
    let quiet = cluster.room_on(0, "reader").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    let mut reader = Person::at(&cluster.nodes[1], "reader").await;
    reader.resumes(&room, 0).await;
    // Known to this node by now, so that coming back needs no store.
    drop(Person::at(&cluster.nodes[0], "late").await);
    reader.sends(&quiet, "before", "x").await;
    cluster.postgres().stop_hard().await;
    load.goes_on_for(Duration::from_secs(1)).await;
    // Reads of the recent past go on where no append was under way, and a send is refused soon, with a word on when to
    // come back.
    let mut late = Person::at(&cluster.nodes[0], "late").await;
    late.resumes(&quiet, 0).await;
    late.sees(&quiet, 1, "x").await;
    let begun = Instant::now();
    let answer = reader.asks(serde_json::json!({"type": "send", "room": quiet, "id": "now", "text": "x"})).await;
    assert_eq!(answer["code"], "unavailable", "{answer}");
    assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
    println!("refused after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    load.goes_on_for(AWAY).await;
    assert_eq!(cluster.nodes[0].metric("roundtable_store_up").await, 0.0);
    cluster.postgres().start_again().await;
    let back = load.first_ack_after(Instant::now()).await;
    println!("first acknowledgement {back:?} after PostgreSQL was back");
    assert!(back <= BACK_WITHIN, "{back:?}");
    load.until_acks(50).await;
    let again = reader.does(serde_json::json!({"type": "send", "room": quiet, "id": "now", "text": "x"})).await;
    assert_eq!(again["seq"], 2, "once, whenever it was: {again}");
    nobody_was_disconnected(&load.finish(&cluster.nodes[2]).await);
    assert!(reader.reads_for(Duration::from_millis(50)).await, "the reader is still connected");
}

#[tokio::test]
async fn postgres_may_restart_in_a_moment() {
    let cluster = Cluster::with_own_postgres(2).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 2).await;
    for _ in 0..2 {
        cluster.postgres().stop_hard().await;
        cluster.postgres().start_again().await;
        load.until_acks(50).await;
    }
    nobody_was_disconnected(&load.finish(&cluster.nodes[1]).await);
}

#[tokio::test]
async fn a_node_cut_off_from_redis_gives_up_its_rooms_and_comes_back() {
    let (cluster, cut) = Cluster::with_first_behind_proxies(3).await;
    let room = cluster.room_on(0, "owner").await;
    let others = cluster.ws_urls().split_off(1);
    let load = Load::start(others, &room, 3, 3).await;
    // Nothing is refused: packets are just lost, both ways.
    cut.redis.set_both(Flow::Drop);
    let ready = format!("{}/readyz", cluster.nodes[0].admin());
    until("the cut off node is not ready", || async { (node::status(&ready).await == Some(503)).then_some(()) }).await;
    assert!(cluster.nodes[0].metric("roundtable_lease_losses_total").await >= 1.0);
    load.until_acks(50).await;
    let view = cluster.nodes[1].owner_of(&room).await.expect("an owner");
    assert_ne!(view, cluster.nodes[0].id().await, "it owned the room and can't any more");
    cut.redis.set_both(Flow::Pass);
    cut.redis.cut();
    until("it is ready again", || async { (node::status(&ready).await == Some(200)).then_some(()) }).await;
    cluster.settled().await;
    let mut back = Person::at(&cluster.nodes[0], "back").await;
    back.resumes(&room, 0).await;
    load.until_acks(50).await;
    let report = load.finish(&cluster.nodes[0]).await;
    back.sees_entry(&room, report.entries as u64).await;
    nobody_was_disconnected(&report);
}

#[tokio::test]
async fn a_node_cut_off_from_the_store_refuses_and_comes_back() {
    let (cluster, cut) = Cluster::with_first_behind_proxies(3).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    cut.postgres.close();
    load.goes_on_for(AWAY).await;
    cut.postgres.open();
    let back = load.first_ack_after(Instant::now()).await;
    println!("first acknowledgement {back:?} after the node reached the store again");
    load.until_acks(50).await;
    cluster.settled().await;
    nobody_was_disconnected(&load.finish(&cluster.nodes[1]).await);
}
