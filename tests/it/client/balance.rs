//! Sessions that are asked to come again since another node has room (`cluster.rebalance_per_minute`): they resume there.

use roundtable_client::{Options, Subscribe};

use super::{Reader, online, options};
use crate::support::cluster::Cluster;
use crate::support::person::makes;
use crate::support::{until, within};

const PEOPLE: usize = 90;
const A_MINUTE: usize = 1_200;

#[actix_rt::test]
async fn a_node_without_sessions_gets_its_share_and_nobody_misses_anything() {
    let per_minute = A_MINUTE.to_string();
    let cluster = Cluster::start_with(2, &[("cluster.rebalance_per_minute", &per_minute)]).await;
    let [full, empty] = &cluster.nodes[..] else { panic!("two nodes") };
    makes(full, "alice", "lobby").await;
    // Whoever has to go tries the other address next, as a load balancer would choose it.
    let mut clients = Vec::new();
    let mut readers = Vec::new();
    for n in 0..PEOPLE {
        let addresses = vec![full.http(), empty.http()];
        let client = online(Options { addresses, ..options("", &format!("person-{n}")) }).await;
        let room = client.room("lobby");
        room.join().await.expect("joined");
        readers.push(Reader::of(&room, 0));
        room.subscribe(Subscribe::after(0)).await.expect("subscribed");
        clients.push(client);
    }
    let alice = online(options(empty.http(), "alice")).await;
    let room = alice.room("lobby");
    // With alice; near enough is four more.
    let enough = (PEOPLE + 1).div_ceil(2) + 4;
    let sessions = async || full.metric("roundtable_sessions").await as usize;
    let asked = async || full.metric("roundtable_sessions_rebalanced_total").await as usize;
    let mut head = 0;
    within("the shares are about even", async {
        while sessions().await > enough {
            head = room.send(format!("while some move {head}")).await.expect("committed").seq;
        }
    })
    .await;
    let moved = asked().await;
    assert_eq!(moved, PEOPLE - enough, "no more than it takes");
    assert_eq!(empty.metric("roundtable_sessions").await as usize, moved + 1);
    for _ in 0..20 {
        head = room.send("afterwards").await.expect("committed").seq;
    }
    for reader in &readers {
        reader.sees(head).await;
        reader.is_right();
        assert_eq!(reader.all().len() as u64, head);
    }
    // Many beats later nobody else was asked, and the other node asked nobody.
    let steps = async || full.metric("roundtable_job_steps_total").await;
    let before = steps().await;
    until("its jobs have gone on for seconds", || async { (steps().await >= before + 20.0).then_some(()) }).await;
    assert_eq!(asked().await, moved);
    assert_eq!(empty.metric("roundtable_sessions_rebalanced_total").await, 0.0);
}
