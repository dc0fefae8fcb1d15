//! Webhooks (docs/bots.md): at least once, in order a room, signed; what a receiver says and what becomes of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::node::{Node, Settings};
use crate::support::person::Person;
use crate::support::receiver::{Receiver, Reply, seqs};
use crate::support::{tokens, until};

/// Hooks of the tests lead to this machine, and failures are tried again soon.
const OPEN: Settings<'_> = &[
    ("webhooks.allow_http", "true"),
    ("webhooks.allow_private", "true"),
    ("webhooks.backoff_ms", "40"),
    ("webhooks.backoff_max_ms", "400"),
    ("webhooks.timeout_ms", "2000"),
    ("limits.messages_per_minute", "0"),
    ("limits.http_per_minute", "0"),
];

async fn node(more: Settings<'_>) -> Node {
    Node::with(&[OPEN, more].concat()).await
}

async fn room(api: &Api, id: &str) {
    api.post("rooms", json!({"id": id, "kind": "public"})).await.expect(201);
}

async fn says(api: &Api, room: &str, id: &str) -> u64 {
    let sent = api.post(&format!("rooms/{room}/messages"), json!({"id": id, "text": format!("text of {id}")})).await;
    sent.expect(201)["seq"].as_u64().expect("a seq")
}

async fn hook(api: &Api, room: &str, body: Value) -> (String, String) {
    let made = api.post(&format!("rooms/{room}/webhooks"), body).await.expect(201);
    let text = |key: &str| made[key].as_str().expect(key).to_owned();
    (format!("rooms/{room}/webhooks/{}", text("id")), text("secret"))
}

#[tokio::test]
async fn a_receiver_gets_every_entry_in_order_and_signed() {
    let (node, receiver) = (node(&[]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    says(&alice, "lobby", "before").await;
    let (path, secret) = hook(&alice, "lobby", json!({"url": receiver.url()})).await;
    // Slow enough that what is sent meanwhile goes in batches.
    receiver.answers(|_| Reply::status(204).after(Duration::from_millis(30)));
    for n in 0..60 {
        says(&alice, "lobby", &format!("m{n}")).await;
    }
    receiver.until("all of them", |_| (receiver.seqs("lobby").len() >= 60).then_some(())).await;
    assert_eq!(receiver.seqs("lobby"), (2..=61).collect::<Vec<u64>>(), "from its head on, each once, in order");
    let requests = receiver.received();
    assert!(requests.len() < 60, "several in one request");
    let id = path.rsplit('/').next().expect("an id");
    for request in &requests {
        request.is_signed_with(&secret);
        assert_eq!((&request.body["hook"], &request.body["room"]), (&json!(id), &json!("lobby")));
        assert_eq!(request.headers["x-roundtable-delivery"], request.body["delivery"].as_str().expect("an id"));
        assert!(request.headers["user-agent"].starts_with("roundtable/"));
        assert_eq!(request.headers["content-type"], "application/json");
    }
    let first = &requests[0].body["events"][0];
    assert_eq!((&first["kind"], &first["user"], &first["id"]), (&json!("message"), &json!("alice"), &json!("m0")));
    assert_eq!(first["text"], "text of m0");

    // A rotated secret signs beside the old one.
    let rotated = alice.patch(&path, json!({"rotate_secret": true})).await.expect(200);
    let new = rotated["secret"].as_str().expect("shown once").to_owned();
    assert_ne!(new, secret);
    says(&alice, "lobby", "rotated").await;
    let last = receiver.until_count(requests.len() + 1).await.pop().expect("one more");
    last.is_signed_with(&new);
    last.is_signed_with(&secret);
    assert!(alice.get(&path).await.expect(200).get("secret").is_none());
    assert!(!node.log().contains(&secret) && !node.log().contains(&new), "a secret is in the log");
    until("it is counted", || async { (node.metric("roundtable_webhook_events_total").await >= 61.0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_batch_that_fails_is_sent_again_as_it_was_with_longer_and_longer_waits() {
    let (node, receiver) = (node(&[("webhooks.backoff_max_ms", "60000")]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    hook(&alice, "lobby", json!({"url": receiver.url()})).await;
    let mut left = vec![Reply::status(302), Reply::status(400), Reply::status(500)];
    receiver.answers(move |_| left.pop().unwrap_or(Reply::status(200)));
    says(&alice, "lobby", "m1").await;
    receiver.until_count(1).await;
    says(&alice, "lobby", "m2").await;
    let all = receiver.until_count(5).await;
    let sent: Vec<Vec<u64>> = all.iter().map(|request| seqs(&request.body)).collect();
    assert_eq!(sent, [vec![1], vec![1], vec![1], vec![1], vec![2]]);
    let names: Vec<&str> = all.iter().filter_map(|request| request.body["delivery"].as_str()).collect();
    assert!(names[..4].iter().all(|name| *name == names[0]) && names[4] != names[0], "{names:?}");
    // 40, 80 and 160 ms, less a quarter.
    for (n, least) in [30, 60, 120].into_iter().enumerate() {
        let waited = all[n + 1].at - all[n].at;
        assert!(waited >= Duration::from_millis(least), "{n}: {waited:?}");
    }
}

#[tokio::test]
async fn what_is_given_up_is_listed_and_the_cursor_goes_on() {
    let (node, receiver) = (node(&[("webhooks.attempts", "2")]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    let (path, _) = hook(&alice, "lobby", json!({"url": receiver.url()})).await;
    receiver.answers(|request| {
        let poison = request.body["events"][0]["id"] == "poison" && request.body.get("redelivery").is_none();
        Reply::status(if poison { 500 } else { 200 })
    });
    says(&alice, "lobby", "poison").await;
    let dead = until("it is given up", || async {
        alice.get(&format!("{path}/dead")).await.expect(200)["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&dead["room"], &dead["after"], &dead["to"]), (&json!("lobby"), &json!(0), &json!(1)));
    assert_eq!((&dead["attempts"], &dead["reason"]), (&json!(2), &json!("status 500")));
    assert!(!dead.to_string().contains("text of"), "no texts: {dead}");
    says(&alice, "lobby", "m2").await;
    let all = receiver.until_count(3).await;
    assert_eq!(all.iter().map(|request| seqs(&request.body)).collect::<Vec<_>>(), [vec![1], vec![1], vec![2]]);

    let letter = format!("{path}/dead/{}", dead["id"].as_str().expect("an id"));
    node.api("bob").post(&format!("{letter}/retry"), json!({})).await.problem(403, "forbidden");
    alice.post(&format!("{path}/dead/999999/retry"), json!({})).await.problem(404, "not_found");
    alice.post(&format!("{path}/dead/x/retry"), json!({})).await.problem(400, "bad_request");
    alice.post(&format!("{letter}/retry"), json!({})).await.expect(202);
    let again = receiver.until_count(4).await.pop().expect("one more");
    assert_eq!((seqs(&again.body), &again.body["redelivery"]), (vec![1], &json!(true)));
    assert_eq!(again.body["delivery"], all[0].body["delivery"]);
    until("it is gone from the list", || async {
        let list = alice.get(&format!("{path}/dead")).await.expect(200);
        list["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    alice.delete(&letter).await.problem(404, "not_found");
}

#[tokio::test]
async fn gone_switches_a_hook_off_until_it_is_switched_on() {
    let (node, receiver) = (node(&[]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    let (path, _) = hook(&alice, "lobby", json!({"url": receiver.url()})).await;
    receiver.answers(|_| Reply::status(410));
    says(&alice, "lobby", "m1").await;
    let off = until("it is switched off", || async {
        let hook = alice.get(&path).await.expect(200);
        (hook["active"] == false).then_some(hook)
    })
    .await;
    assert!(off["off_reason"].as_str().is_some_and(|why| why.contains("410")), "{off}");
    receiver.answers(|_| Reply::status(200));
    says(&alice, "lobby", "m2").await;
    let on = alice.patch(&path, json!({"active": true})).await.expect(200);
    assert_eq!((&on["active"], &on["off_reason"]), (&json!(true), &Value::Null));
    receiver.until("both", |_| (receiver.seqs("lobby") == [1, 1, 2]).then_some(())).await;
}

#[tokio::test]
async fn a_hook_is_told_of_the_kinds_it_asks_for() {
    let (node, receiver) = (node(&[]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    hook(&alice, "lobby", json!({"url": receiver.url(), "kinds": ["room", "reaction"]})).await;
    says(&alice, "lobby", "m1").await;
    alice.patch("rooms/lobby", json!({"topic": "t"})).await.expect(200);
    says(&alice, "lobby", "m2").await;
    let mut person = Person::at(&node, "alice").await;
    person.does(json!({"type": "react", "room": "lobby", "target": 1, "emoji": "👍", "active": true})).await;
    receiver.until("both", |_| (receiver.seqs("lobby").len() >= 2).then_some(())).await;
    assert_eq!(receiver.seqs("lobby"), [2, 4]);
    for bad in [json!("message"), json!(["message", "nonsense"]), json!([1])] {
        let body = json!({"url": receiver.url(), "kinds": bad});
        alice.post("rooms/lobby/webhooks", body).await.problem(400, "bad_request");
    }
}

#[tokio::test]
async fn owners_manage_the_hooks_of_a_room_and_admins_those_of_all() {
    let (node, receiver) = (node(&[]).await, Receiver::start().await);
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    let admin = Api::with(&node.http(), Some(tokens::admin("root")));
    room(&alice, "lobby").await;
    alice.post("rooms", json!({"id": "secret", "kind": "private"})).await.expect(201);
    bob.post("rooms/lobby/join", json!({})).await.expect(200);
    alice.put("rooms/lobby/members/bob", json!({"role": "moderator"})).await.expect(200);
    let body = || json!({"url": receiver.url()});
    for (api, path, status, code) in [
        (&bob, "rooms/lobby/webhooks", 403, "forbidden"),
        (&bob, "rooms/secret/webhooks", 404, "not_found"),
        (&bob, "rooms/nowhere/webhooks", 404, "not_found"),
        (&bob, "admin/webhooks", 403, "forbidden"),
        (&alice, "admin/webhooks", 403, "forbidden"),
    ] {
        api.post(path, body()).await.problem(status, code);
        api.get(path).await.problem(status, code);
        let one = format!("{path}/wh_1");
        api.get(&one).await.problem(status, code);
        api.patch(&one, json!({"active": true})).await.problem(status, code);
        api.delete(&one).await.problem(status, code);
        api.get(&format!("{one}/dead")).await.problem(status, code);
        api.post(&format!("{one}/dead/1/retry"), json!({})).await.problem(status, code);
        api.delete(&format!("{one}/dead/1")).await.problem(status, code);
    }
    let made = alice.post("rooms/lobby/webhooks", body()).await.expect(201);
    let again = alice.post("rooms/lobby/webhooks", body()).await.expect(200);
    assert_eq!(again["id"], made["id"], "a repeat makes no second one");
    assert!(again.get("secret").is_none(), "{again}");
    let path = format!("rooms/lobby/webhooks/{}", made["id"].as_str().expect("an id"));
    let list = admin.get("rooms/lobby/webhooks").await.expect(200);
    assert_eq!((&list["items"][0]["id"], &list["next"]), (&made["id"], &Value::Null));
    assert!(list["items"][0].get("secret").is_none());
    let other = json!({"url": format!("{}?two", receiver.url())});
    let second = alice.post("rooms/lobby/webhooks", other).await.expect(201)["id"].clone();
    let first_page = alice.get("rooms/lobby/webhooks?limit=1").await.expect(200);
    let next = first_page["next"].as_str().expect("a second page");
    let last_page = alice.get(&format!("rooms/lobby/webhooks?limit=1&cursor={next}")).await.expect(200);
    assert_eq!(last_page["next"], Value::Null);
    let ids: Vec<String> = [&first_page, &last_page].map(|page| page["items"][0]["id"].to_string()).into();
    assert!(ids.contains(&made["id"].to_string()) && ids.contains(&second.to_string()), "{ids:?}");
    for wrong in ["limit=0", "limit=201", "cursor=%00"] {
        alice.get(&format!("rooms/lobby/webhooks?{wrong}")).await.problem(400, "bad_request");
    }
    alice.delete(&format!("rooms/lobby/webhooks/{}", second.as_str().expect("an id"))).await.expect(204);
    alice.get("rooms/secret/webhooks/wh_1").await.problem(404, "not_found");
    let other = format!("rooms/secret/webhooks/{}", made["id"].as_str().expect("an id"));
    alice.get(&other).await.problem(404, "not_found");
    alice.delete(&path).await.expect(204);
    alice.delete(&path).await.problem(404, "not_found");

    let everywhere = admin.post("admin/webhooks", body()).await.expect(201);
    assert_eq!((&everywhere["room"], &everywhere["ready"]), (&Value::Null, &json!(true)));
    says(&alice, "lobby", "m1").await;
    says(&alice, "secret", "m1").await;
    room(&bob, "new").await;
    says(&bob, "new", "m1").await;
    for room in ["lobby", "secret", "new"] {
        receiver.until(room, |_| (receiver.seqs(room) == [1]).then_some(())).await;
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let (node, dead, living) = (node(&[]).await, Receiver::start().await, Receiver::start().await);
    let alice = node.api("alice");
    dead.answers(|_| Reply::status(200).after(Duration::from_secs(600)));
    for n in 0..12 {
        let id = format!("room{n}");
        room(&alice, &id).await;
        hook(&alice, &id, json!({"url": dead.url()})).await;
        hook(&alice, &id, json!({"url": living.url()})).await;
        says(&alice, &id, "m1").await;
    }
    living.until_count(12).await;
}

#[tokio::test]
async fn a_restarted_node_goes_on_where_it_stopped() {
    let (node, receiver) = (node(&[]).await, Receiver::start().await);
    let alice = node.api("alice");
    room(&alice, "lobby").await;
    hook(&alice, "lobby", json!({"url": receiver.url()})).await;
    receiver.answers(|_| Reply::status(503));
    says(&alice, "lobby", "m1").await;
    receiver.until_count(2).await;
    node.kill();
    let before = receiver.received().len();
    receiver.answers(|_| Reply::status(200));
    node.restart().await;
    says(&alice, "lobby", "m2").await;
    receiver.until("both", |all| (all[before..].iter().flat_map(|one| seqs(&one.body)).eq([1, 2])).then_some(())).await;
}

#[tokio::test]
async fn a_killed_node_in_the_middle_of_a_delivery_costs_a_repeat_and_no_order() {
    let cluster = Cluster::start_with(2, OPEN).await;
    let receiver = Receiver::start().await;
    // Which node delivers is nobody's business: the one that owns the room notes its news first, mostly.
    let room = cluster.room_on(0, "alice").await;
    let alice = cluster.nodes[1].api("alice");
    hook(&alice, &room, json!({"url": receiver.url()})).await;
    let delivering = || async {
        for (n, node) in cluster.nodes.iter().enumerate() {
            if node.ended().is_none() && node.metric("roundtable_webhook_events_total").await > 0.0 {
                return Some(n);
            }
        }
        None
    };
    says(&alice, &room, "m0").await;
    let victim = until("somebody delivers", delivering).await;
    let survivor = cluster.nodes[1 - victim].api("alice");
    // The next answer never comes, and the node that waits for it dies.
    receiver.answers(|_| Reply::status(200).after(Duration::from_secs(600)));
    says(&survivor, &room, "m1").await;
    receiver.until_count(2).await;
    cluster.nodes[victim].kill();
    receiver.answers(|_| Reply::status(200));
    for n in 2..10 {
        until("it is sent", || async {
            let body = json!({"id": format!("m{n}"), "text": "x"});
            let answer = survivor.post(&format!("rooms/{room}/messages"), body).await;
            matches!(answer.status, 200 | 201).then_some(())
        })
        .await;
    }
    receiver.until("all of them", |_| receiver.seqs(&room).contains(&10).then_some(())).await;
    let mut got = receiver.seqs(&room);
    assert_eq!(got[..3], [1, 2, 2], "the one in doubt is repeated: {got:?}");
    got.dedup();
    assert_eq!(got, (1..=10).collect::<Vec<u64>>(), "in order, none missing");
}
