//! Owners that die, go, or come back from the dead, under load. Each test ends in a judgement of the whole history.
//!
//! Times are printed and bounded by what the contract calls the worst case (with room for a busy machine), never tightly.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::person::Person;

/// Longest pause of a room whose owner was killed, on a machine that has other things to do.
const KILLED_WORST: Duration = Duration::from_secs(5);
/// The same for one that was drained: the contract's worst case, twice.
const DRAINED_WORST: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_killed_owner_costs_a_pause_and_nothing_else() {
    let cluster = Cluster::start(3).await;
    let mut pauses = Vec::new();
    for round in 0..3 {
        let victim = round % 3;
        let room = cluster.room_on(victim, &format!("owner{round}")).await;
        let load = Load::start(cluster.ws_urls(), &room, 4, 3).await;
        let killed = Instant::now();
        cluster.nodes[victim].kill();
        load.until_acks(40).await;
        pauses.push(load.longest_pause_since(killed));
        cluster.nodes[victim].restart().await;
        cluster.settled().await;
        let report = load.finish(&cluster.nodes[(victim + 1) % 3]).await;
        assert!(report.entries > 40);
    }
    pauses.sort();
    println!("pause after kill -9 of the owner: median {:?}, worst {:?}", pauses[1], pauses[2]);
    assert!(pauses[2] <= KILLED_WORST, "{pauses:?}");
}

#[tokio::test]
async fn a_drained_owner_costs_no_send() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 4, 3).await;
    let drained = Instant::now();
    cluster.nodes[0].terminate();
    assert_eq!(cluster.nodes[0].exit().await.code(), Some(0));
    assert!(drained.elapsed() < Duration::from_secs(30), "longer than server.shutdown_s");
    load.until_acks(60).await;
    let pause = load.longest_pause_since(drained);
    let report = load.finish(&cluster.nodes[1]).await;
    println!("pause while the owner was drained: {pause:?}; retried: {:?}", report.retried);
    assert!(pause <= DRAINED_WORST, "{pause:?}");
    assert!(report.closes.iter().all(|code| *code == 4200), "{:?}", report.closes);
}

#[tokio::test]
async fn a_rolling_restart_is_not_noticed() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(1, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    for node in &cluster.nodes {
        node.terminate();
        assert_eq!(node.exit().await.code(), Some(0));
        node.restart().await;
        cluster.settled().await;
        load.until_acks(30).await;
    }
    let report = load.finish(&cluster.nodes[0]).await;
    assert!(report.closes.iter().all(|code| *code == 4200), "{:?}", report.closes);
}

#[tokio::test]
async fn a_frozen_owner_that_comes_back_writes_nothing() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(2, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 4, 3).await;
    let frozen = Instant::now();
    cluster.nodes[2].freeze();
    load.goes_on_for(Duration::from_secs(15)).await;
    let pause = load.first_ack_after(frozen + Duration::from_millis(500)).await;
    cluster.nodes[2].thaw();
    load.until_acks(60).await;
    // Whoever is still connected to it is served as before, by way of the new owner.
    let mut late = Person::at(&cluster.nodes[2], "late").await;
    late.joins(&room).await;
    cluster.settled().await;
    let owner = cluster.owner_of(&room).await;
    println!("acknowledged again {pause:?} after 0.5 s of standing still; owned by node {owner} in the end");
    load.until_acks(20).await;
    load.finish(&cluster.nodes[2]).await;
}

#[tokio::test]
async fn all_nodes_at_once_may_die() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 2).await;
    for node in &cluster.nodes {
        node.kill();
    }
    for node in &cluster.nodes {
        node.restart().await;
    }
    load.until_acks(40).await;
    cluster.settled().await;
    load.finish(&cluster.nodes[0]).await;
}
