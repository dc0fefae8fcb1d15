//! Several nodes, one log: what a client sees does not depend on where it is connected.

use serde_json::json;

use crate::support::cluster::{Cluster, members};
use crate::support::load::{Load, whole_log};
use crate::support::person::{Encoding, Person, names};
use crate::support::until;

#[tokio::test]
async fn an_entry_sent_on_one_node_is_the_same_on_all() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(1, "alice").await;
    let mut people = Vec::new();
    for (index, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
        let encoding = if index == 2 { Encoding::MessagePack } else { Encoding::Json };
        let mut person = Person::at_url(&cluster.nodes[index].ws_url(), name, encoding).await;
        person.joins(&room).await;
        people.push(person);
    }
    for round in 0..10 {
        for (n, sender) in (1..).zip(&mut people) {
            let seq = sender.sends(&room, &format!("m{round}"), &format!("{round} of {n}")).await;
            assert_eq!(seq, round * 3 + n);
        }
    }
    for person in &mut people {
        person.sees_entry(&room, 30).await;
    }
    for node in &cluster.nodes {
        let log = whole_log(node, &room).await;
        for person in &people {
            assert_eq!(person.seen(&room), log);
        }
    }
    // The same id on another node: the first seq.
    let mut elsewhere = Person::at(&cluster.nodes[2], "alice").await;
    assert_eq!(elsewhere.repeats(&room, "m3", "again").await, 10);
    let (api, path) = (cluster.nodes[1].api("alice"), format!("rooms/{room}/messages"));
    let sent = api.post(&path, json!({"id": "m4", "text": "x"})).await;
    assert_eq!((&sent.body["seq"], &sent.body["duplicate"]), (&json!(13), &json!(true)));
}

#[tokio::test]
async fn the_same_id_at_once_on_all_nodes_is_one_entry() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "alice").await;
    let mut connections = Vec::new();
    for node in &cluster.nodes {
        connections.push(Person::at(node, "alice").await);
    }
    for round in 0..20 {
        let send = json!({"type": "send", "room": room, "id": format!("m{round}"), "text": "x"});
        let mut refs = Vec::new();
        for connection in &mut connections {
            refs.push(connection.starts(send.clone()).await);
        }
        let mut first = 0;
        for (connection, request) in connections.iter_mut().zip(refs) {
            let sent = connection.answer(request).await;
            assert_eq!(sent["seq"], round + 1, "{sent}");
            first += u32::from(sent["duplicate"] == false);
        }
        assert_eq!(first, 1);
    }
    assert_eq!(whole_log(&cluster.nodes[1], &room).await.len(), 20);
}

#[tokio::test]
async fn a_client_moves_between_nodes_without_a_seam() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 3).await;
    let mut seen = Vec::new();
    for turn in 0..9 {
        let mut nomad = Person::at(&cluster.nodes[turn % 3], "nomad").await;
        nomad.resumes(&room, seen.len() as u64).await;
        let goal = seen.len() as u64 + 15;
        nomad.sees_entry(&room, goal).await;
        seen.extend_from_slice(nomad.seen(&room));
    }
    let report = load.finish(&cluster.nodes[2]).await;
    assert!(report.closes.is_empty() && report.retried.is_empty(), "{:?} {:?}", report.closes, report.retried);
    assert_eq!(seen, whole_log(&cluster.nodes[0], &room).await[..seen.len()]);
}

#[tokio::test]
async fn requests_of_a_connection_keep_their_order_on_every_node() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(2, "alice").await;
    for node in &cluster.nodes {
        let mut alice = Person::at(node, "alice").await;
        let prefix = node.http_port();
        let head = whole_log(node, &room).await.len() as u64;
        let mut refs = Vec::new();
        for i in 0..60 {
            let send = json!({"type": "send", "room": room, "id": format!("{prefix}-{i}"), "text": "x"});
            refs.push(alice.starts(send).await);
        }
        let history = alice.starts(json!({"type": "history", "room": room, "limit": 1})).await;
        for (i, request) in refs.into_iter().enumerate() {
            assert_eq!(alice.answer(request).await["seq"], head + i as u64 + 1);
        }
        let page = alice.answer(history).await;
        assert_eq!(page["events"][0]["seq"], head + 60, "a read behind a write sees it");
    }
}

#[tokio::test]
async fn hints_and_roles_reach_people_on_other_nodes() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(1, "alice").await;
    let mut alice = Person::at(&cluster.nodes[0], "alice").await;
    alice.joins(&room).await;
    let mut bob = Person::at(&cluster.nodes[2], "bob").await;
    bob.joins(&room).await;
    alice.next_where("bob comes", |f| names(f, "joined", "bob")).await;
    bob.writes(&json!({"type": "typing", "room": room, "active": true})).await;
    alice.next_where("bob types", |f| f["type"] == "typing" && f["users"] == json!(["bob"])).await;
    alice.sends(&room, "m1", "hi").await;
    bob.sees(&room, 1, "hi").await;
    bob.writes(&json!({"type": "read", "room": room, "seq": 1})).await;
    alice.next_where("bob has read", |f| f["type"] == "read" && f["user"] == "bob" && f["seq"] == 1).await;
    cluster.nodes[0].api("alice").put(&format!("rooms/{room}/bans/bob"), json!({})).await.expect(204);
    assert_eq!(bob.next("unsubscribed").await["code"], "banned");
    alice.next_where("bob is gone", |f| names(f, "left", "bob")).await;
}

#[tokio::test]
async fn the_people_of_a_dead_node_leave() {
    let cluster = Cluster::start(2).await;
    let room = cluster.room_on(0, "alice").await;
    let mut alice = Person::at(&cluster.nodes[0], "alice").await;
    alice.joins(&room).await;
    let mut bob = Person::at(&cluster.nodes[1], "bob").await;
    bob.joins(&room).await;
    alice.next_where("bob comes", |f| f["type"] == "presence" && f["online"] == 2).await;
    cluster.nodes[1].kill();
    alice.next_where("bob is gone", |f| names(f, "left", "bob")).await;
}

#[tokio::test]
async fn a_session_that_logs_out_on_one_node_is_closed_on_all() {
    let cluster = Cluster::start(2).await;
    let anonymous = crate::support::api::Api::with(&cluster.nodes[0].http(), None);
    let body = anonymous.post("register", json!({"user": "carol", "password": "correct horse"})).await.expect(201);
    let token = body["token"].as_str().expect("a token").to_owned();
    let mut carol =
        Person::upgraded(&cluster.nodes[1].ws_url(), "carol", Encoding::Json, &[]).await.expect("the upgrade");
    carol.does(json!({"type": "hello", "token": token})).await;
    let api = crate::support::api::Api::with(&cluster.nodes[0].http(), Some(token));
    api.post("logout", json!({})).await.expect(204);
    cluster.nodes[1].api("x").get("me").await.expect(200);
    assert_eq!(carol.closed().await, 4003);
}

#[tokio::test]
async fn a_node_that_joins_takes_its_share_and_gives_it_back_when_it_goes() {
    let mut cluster = Cluster::start(2).await;
    let room = cluster.room_on(0, "owner").await;
    let load = Load::start(cluster.ws_urls(), &room, 3, 2).await;
    cluster.add().await;
    cluster.settled().await;
    load.until_acks(50).await;
    cluster.nodes[2].terminate();
    assert_eq!(cluster.nodes[2].exit().await.code(), Some(0));
    cluster.settled().await;
    load.until_acks(50).await;
    let report = load.finish(&cluster.nodes[1]).await;
    assert!(report.closes.is_empty(), "nobody was connected to the third node: {:?}", report.closes);
    until("the third node is forgotten or called lost", || async {
        let view = cluster.nodes[0].cluster().await;
        members(&view).iter().all(|node| node["state"] == "ready" || node["shards"] == 0).then_some(())
    })
    .await;
}
