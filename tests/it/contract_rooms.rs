//! Rooms as people expect them: settings, disappearing messages, edit history, pins, links, invitations, direct rooms
//! (docs/protocol.md, "HTTP").

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::until;

async fn says(api: &Api, room: &str, id: &str, text: &str) -> u64 {
    let sent = api.post(&format!("rooms/{room}/messages"), json!({"id": id, "text": text})).await.expect(201);
    sent["seq"].as_u64().expect("a seq")
}

fn seqs(page: &Value) -> Vec<u64> {
    page["items"].as_array().expect("items").iter().filter_map(|entry| entry["seq"].as_u64()).collect()
}

#[tokio::test]
async fn settings_are_given_at_the_start_and_changed_later() {
    let node = Node::alone().await;
    let api = node.api("alice");
    let made = json!({"id": "brief", "kind": "public", "ttl_s": 3600, "edit_history": true});
    let made = api.post("rooms", made).await.expect(201);
    assert_eq!((&made["ttl_s"], &made["edit_history"]), (&json!(3600), &json!(true)), "{made}");
    assert!(made.get("expired_before").is_none(), "{made}");
    for bad in [json!({"ttl_s": 59}), json!({"ttl_s": 31_536_001}), json!({"ttl_s": -1}), json!({"ttl_s": "60"})] {
        let problem = api.patch("rooms/brief", bad.clone()).await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("ttl_s: must be 0, or ")), "{problem}");
        let mut room = json!({"id": "other", "kind": "public"});
        room["ttl_s"] = bad["ttl_s"].clone();
        api.post("rooms", room).await.problem(400, "bad_request");
    }
    api.patch("rooms/brief", json!({"edit_history": "yes"})).await.problem(400, "bad_request");
    let mut json_reader = Person::at(&node, "bob").await;
    let mut msgpack_reader = Person::at_url(&node.ws_url(), "carol", Encoding::MessagePack).await;
    for reader in [&mut json_reader, &mut msgpack_reader] {
        reader.does(json!({"type": "subscribe", "room": "brief"})).await;
    }
    let patched = api.patch("rooms/brief", json!({"ttl_s": 60, "edit_history": true, "topic": "t"})).await.expect(200);
    assert_eq!((&patched["seq"], &patched["ttl_s"]), (&json!(1), &json!(60)), "{patched}");
    let same = api.patch("rooms/brief", json!({"ttl_s": 60})).await.expect(200);
    assert_eq!(same["seq"], Value::Null);
    api.patch("rooms/brief", json!({"ttl_s": 0, "edit_history": false})).await.expect(200);
    for reader in [&mut json_reader, &mut msgpack_reader] {
        let entry = reader.sees_entry("brief", 1).await;
        assert_eq!((&entry["kind"], &entry["ttl_s"], &entry["topic"]), (&json!("room"), &json!(60), &json!("t")));
        assert!(entry.get("edit_history").is_none(), "only what changed: {entry}");
        let entry = reader.sees_entry("brief", 2).await;
        assert_eq!((&entry["ttl_s"], &entry["edit_history"]), (&json!(0), &json!(false)), "{entry}");
    }
    let record = api.get("rooms/brief").await.expect(200);
    assert_eq!((&record["ttl_s"], &record["edit_history"]), (&json!(0), &json!(false)));
}

#[tokio::test]
async fn an_archived_room_is_read_and_answers_repeats() {
    let node = Node::alone().await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    says(&api, "lobby", "a", "hi").await;
    api.patch("rooms/lobby", json!({"archived": true})).await.expect(200);
    let again = api.post("rooms/lobby/messages", json!({"id": "a", "text": "hi"})).await.expect(200);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    api.post("rooms/lobby/messages", json!({"id": "b", "text": "hi"})).await.problem(409, "conflict");
    assert_eq!(seqs(&api.get("rooms/lobby/messages").await.expect(200)), [1, 2]);
    api.patch("rooms/lobby", json!({"archived": false})).await.expect(200);
    says(&api, "lobby", "b", "hi").await;
}

/// The clock can't be turned, so what was said is made older while the node is away.
#[tokio::test]
async fn messages_disappear_from_every_reading_and_then_from_the_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("roundtable.db");
    let node = Node::with(&[("store.url", &format!("sqlite://{}", path.display()))]).await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "lobby", "kind": "public", "edit_history": true})).await.expect(201);
    let mut alice = Person::at(&node, "alice").await;
    alice.sends("lobby", "a", "said long ago").await;
    alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": "edited since"})).await;
    api.put("rooms/lobby/pins/1", json!({})).await.expect(204);
    node.kill();
    let database = rusqlite::Connection::open(&path).expect("the database");
    database.execute("UPDATE entries SET at = at - 3600000 WHERE seq = 1", []).expect("an older message");
    node.restart().await;

    let mut alice = Person::at(&node, "alice").await;
    alice.does(json!({"type": "subscribe", "room": "lobby"})).await;
    alice.sends("lobby", "b", "said now").await;
    api.patch("rooms/lobby", json!({"ttl_s": 60})).await.expect(200);
    alice.sees_entry("lobby", 4).await;
    // From the ring, from the store, and one by one.
    let mut bob = Person::at(&node, "bob").await;
    bob.resumes("lobby", 0).await;
    bob.sees_entry("lobby", 4).await;
    let page = bob.history("lobby", json!({})).await;
    let http = api.get("rooms/lobby/messages").await.expect(200);
    for entries in [bob.seen("lobby").to_vec(), page["events"].as_array().expect("events").clone(), {
        http["items"].as_array().expect("items").clone()
    }] {
        assert_eq!((&entries[0]["deleted"], entries[0].get("text")), (&json!(true), None), "{entries:?}");
        assert_eq!((&entries[1]["kind"], entries[1].get("text")), (&json!("edit"), None), "{entries:?}");
        assert_eq!(entries[2]["text"], "said now", "{entries:?}");
    }
    assert_eq!(api.get("rooms/lobby/messages/1").await.expect(200)["deleted"], true);
    assert_eq!(api.get("rooms/lobby/messages/1/revisions").await.expect(200)["items"], json!([]));
    assert_eq!(api.get("rooms/lobby/pins").await.expect(200)["items"], json!([]));
    alice.refused(json!({"type": "edit", "room": "lobby", "target": 1, "text": "x"}), "conflict").await;
    assert_eq!(alice.repeats("lobby", "a", "said long ago").await, 1);
    until("the store holds it no more", || async {
        let sql = "SELECT count(*) FROM (SELECT text FROM entries WHERE kind < 2 AND text <> 'said now'
                   UNION ALL SELECT text FROM revisions)";
        let left: u32 = database.query_row(sql, [], |row| row.get(0)).expect("a count");
        (left == 0).then_some(())
    })
    .await;
    api.patch("rooms/lobby", json!({"ttl_s": 0})).await.expect(200);
    assert_eq!(api.get("rooms/lobby/messages/1").await.expect(200)["deleted"], true, "and does not come back");
    assert_eq!(api.get("rooms/lobby/messages/3").await.expect(200)["text"], "said now");
}

#[tokio::test]
async fn moderators_see_what_was_edited() {
    let node = Node::alone().await;
    let (api, bob) = (node.api("alice"), node.api("bob"));
    api.post("rooms", json!({"id": "lobby", "kind": "public", "edit_history": true})).await.expect(201);
    let mut alice = Person::at(&node, "alice").await;
    alice.sends("lobby", "a", "one").await;
    let at = api.get("rooms/lobby/messages/1").await.expect(200)["at"].clone();
    for text in ["two", "two", "three"] {
        alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": text})).await;
    }
    let kept = api.get("rooms/lobby/messages/1/revisions").await.expect(200);
    let (first, second) = (&kept["items"][0], &kept["items"][1]);
    assert_eq!((&first["text"], &first["at"], &first["replaced_by"]), (&json!("one"), &at, &json!(2)), "{kept}");
    assert_eq!((&second["text"], &second["replaced_by"]), (&json!("two"), &json!(3)), "{kept}");
    let page = api.get("rooms/lobby/messages/1/revisions?limit=1").await.expect(200);
    let next = page["next"].as_str().expect("a cursor");
    let rest = api.get(&format!("rooms/lobby/messages/1/revisions?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&rest["items"][0], &rest["next"]), (second, &Value::Null));
    bob.get("rooms/lobby/messages/1/revisions").await.problem(403, "forbidden");
    api.get("rooms/lobby/messages/2/revisions").await.problem(404, "not_found");
    alice.does(json!({"type": "delete", "room": "lobby", "target": 1})).await;
    assert_eq!(api.get("rooms/lobby/messages/1/revisions").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn pins_are_listed_with_the_newest_first() {
    let node = Node::alone().await;
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    for n in 1..=101 {
        says(&alice, "lobby", &n.to_string(), "hi").await;
    }
    let pin = async |seq: u64| alice.put(&format!("rooms/lobby/pins/{seq}"), json!({})).await;
    for seq in [3, 1, 3] {
        pin(seq).await.expect(204);
    }
    let pins = bob.get("rooms/lobby/pins").await.expect(200);
    let seqs = |pins: &Value| -> Vec<Value> {
        pins["items"].as_array().expect("items").iter().map(|pin| pin["message"]["seq"].clone()).collect()
    };
    assert_eq!(seqs(&pins), [1, 3], "a repeat moves nothing: {pins}");
    let newest = &pins["items"][0];
    assert_eq!((&newest["pinned_by"], &newest["message"]["text"]), (&json!("alice"), &json!("hi")));
    assert!(newest["pinned_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{newest}");
    let page = bob.get("rooms/lobby/pins?limit=1").await.expect(200);
    let next = page["next"].as_str().expect("a cursor");
    assert_eq!(seqs(&bob.get(&format!("rooms/lobby/pins?limit=1&cursor={next}")).await.expect(200)), [3]);
    pin(999).await.problem(404, "not_found");
    alice.put("rooms/lobby/pins/x", json!({})).await.problem(400, "bad_request");
    for seq in 1..=100 {
        pin(seq).await.expect(204);
    }
    pin(101).await.problem(409, "conflict");
    Person::at(&node, "alice").await.does(json!({"type": "delete", "room": "lobby", "target": 7})).await;
    pin(7).await.problem(409, "conflict");
    pin(101).await.expect(204);
    alice.delete("rooms/lobby/pins/101").await.expect(204);
    alice.delete("rooms/lobby/pins/101").await.expect(204);
    assert_eq!(seqs(&bob.get("rooms/lobby/pins?limit=200").await.expect(200)).len(), 99);
}

#[tokio::test]
async fn a_message_a_page_around_it_and_a_time_have_addresses() {
    let node = Node::alone().await;
    let api = node.api("alice");
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    for n in 1..=20 {
        says(&api, "lobby", &n.to_string(), &format!("text {n}")).await;
    }
    api.patch("rooms/lobby", json!({"topic": "t"})).await.expect(200);
    let one = api.get("rooms/lobby/messages/7").await.expect(200);
    let (text, link) = (json!("text 7"), json!("/r/lobby/7"));
    assert_eq!((&one["seq"], &one["text"], &one["link"], &one["room"]), (&json!(7), &text, &link, &json!("lobby")));
    for missing in ["0", "21", "22", "9007199254740992"] {
        api.get(&format!("rooms/lobby/messages/{missing}")).await.problem(404, "not_found");
    }
    api.get("rooms/lobby/messages/-1").await.problem(400, "bad_request");

    let page = api.get("rooms/lobby/messages?around=10&limit=5").await.expect(200);
    assert_eq!((seqs(&page), &page["more"]), (vec![8, 9, 10, 11, 12], &json!(true)));
    let cursor = |key: &str| format!("rooms/lobby/messages?limit=3&cursor={}", page[key].as_str().expect("a cursor"));
    assert_eq!(seqs(&api.get(&cursor("next")).await.expect(200)), [13, 14, 15]);
    assert_eq!(seqs(&api.get(&cursor("previous")).await.expect(200)), [5, 6, 7]);
    let start = api.get("rooms/lobby/messages?around=1&limit=4").await.expect(200);
    assert_eq!((seqs(&start), &start["previous"]), (vec![1, 2, 3, 4], &Value::Null));
    let end = api.get("rooms/lobby/messages?around=21&limit=4").await.expect(200);
    assert_eq!((seqs(&end), &end["more"], &end["next"]), (vec![19, 20, 21], &json!(false), &Value::Null));

    let at = api.get("rooms/lobby/messages/7").await.expect(200)["at"].as_str().expect("a time").to_owned();
    let page = api.get(&format!("rooms/lobby/messages?at={at}&limit=200")).await.expect(200);
    let first = &page["items"][0];
    assert!(first["at"].as_str() >= Some(at.as_str()) && seqs(&page)[0] <= 7, "{first}");
    assert_eq!(seqs(&api.get("rooms/lobby/messages?at=2020-01-01T00:00:00%2B09:00&limit=2").await.expect(200)), [1, 2]);
    let future = api.get("rooms/lobby/messages?at=2999-01-01T00:00:00Z").await.expect(200);
    assert_eq!((seqs(&future), &future["more"]), (vec![], &json!(false)));
    let back = future["previous"].as_str().expect("a cursor");
    assert_eq!(seqs(&api.get(&format!("rooms/lobby/messages?limit=1&cursor={back}")).await.expect(200)), [21]);
    for bad in ["at=yesterday", "at=2020-01-01T00:00:00Z&around=1", "around=0", "around=1&before=3"] {
        api.get(&format!("rooms/lobby/messages?{bad}")).await.problem(400, "bad_request");
    }

    let stranger = Api::with(&node.http(), None);
    let page = stranger.get("/r/lobby/7").await;
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert_eq!(stranger.get("/r/nowhere/7").await.status, 200, "a link tells nobody what there is");
    stranger.get("/r/lobby/x").await.problem(404, "not_found");
}

#[tokio::test]
async fn an_invitation_is_a_link_into_a_private_room() {
    let node = Node::alone().await;
    let (alice, bob, carol) = (node.api("alice"), node.api("bob"), node.api("carol"));
    alice.post("rooms", json!({"id": "den", "kind": "private"})).await.expect(201);
    for bad in [json!({"uses": 0}), json!({"uses": 100_001}), json!({"expires_in_s": 59}), json!({"expires_in_s": "x"})]
    {
        alice.post("rooms/den/invitations", bad).await.problem(400, "bad_request");
    }
    let made = alice.post("rooms/den/invitations", json!({"uses": 1, "expires_in_s": 3600})).await.expect(201);
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert_eq!((&made["uses_left"], &made["made_by"], &made["room"]), (&json!(1), &json!("alice"), &json!("den")));
    let listed = alice.get("rooms/den/invitations").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert!(listed["items"][0].get("token").is_none() && !listed.to_string().contains(token), "{listed}");
    bob.get("rooms/den").await.problem(404, "not_found");

    let accept = format!("invitations/{token}/accept");
    let mut watcher = Person::at(&node, "bob").await;
    for _ in 0..2 {
        let room = bob.post(&accept, json!({})).await.expect(200);
        assert_eq!((&room["id"], &room["role"]), (&json!("den"), &json!("member")), "{room}");
    }
    watcher.does(json!({"type": "subscribe", "room": "den"})).await;
    says(&bob, "den", "a", "hi").await;
    watcher.sees("den", 1, "hi").await;

    // Used up, revoked and unknown look alike.
    let used_up = carol.post(&accept, json!({})).await.problem(404, "not_found");
    let other = alice.post("rooms/den/invitations", json!({})).await.expect(201);
    assert_eq!(other["uses_left"], Value::Null);
    let revoke = format!("rooms/den/invitations/{}", other["id"].as_str().expect("an id"));
    let revoked = format!("invitations/{}/accept", other["token"].as_str().expect("a token"));
    for _ in 0..2 {
        alice.delete(&revoke).await.expect(204);
        assert_eq!(carol.post(&revoked, json!({})).await.problem(404, "not_found"), used_up);
    }
    for unknown in ["x", &format!("rti_{}", "A".repeat(43)), &format!("rts_{}", &token[4..])] {
        let answer = carol.post(&format!("invitations/{unknown}/accept"), json!({})).await;
        assert_eq!(answer.problem(404, "not_found"), used_up, "{unknown}");
    }
    alice.delete(&format!("rooms/den/invitations/{id}x")).await.problem(400, "bad_request");
    assert!(!node.log().contains(token), "a token is in the log");

    let open = alice.post("rooms/den/invitations", json!({})).await.expect(201);
    let open = format!("invitations/{}/accept", open["token"].as_str().expect("a token"));
    carol.post(&open, json!({})).await.expect(200);
    alice.put("rooms/den/bans/carol", json!({})).await.expect(204);
    carol.post(&open, json!({})).await.problem(403, "forbidden");
    alice.delete("rooms/den").await.expect(204);
    assert_eq!(bob.post(&open, json!({})).await.problem(404, "not_found"), used_up);
}

#[tokio::test]
async fn invitations_are_counted_exactly_over_all_nodes() {
    let cluster = Cluster::start(3).await;
    let nodes = &cluster.nodes;
    let alice = nodes[0].api("alice");
    alice.post("rooms", json!({"id": "den", "kind": "private"})).await.expect(201);
    let made = alice.post("rooms/den/invitations", json!({"uses": 4})).await.expect(201);
    let accept = format!("invitations/{}/accept", made["token"].as_str().expect("a token"));
    let mut guests = tokio::task::JoinSet::new();
    for n in 0..12 {
        // Everybody asks twice at once, on two nodes.
        for node in [&nodes[n % 3], &nodes[(n + 1) % 3]] {
            let (api, accept) = (node.api(&format!("guest-{n}")), accept.clone());
            guests.spawn(async move { (n, api.post(&accept, json!({})).await.status) });
        }
    }
    let mut answers = guests.join_all().await;
    answers.sort_unstable();
    let both = |n: usize| answers.iter().filter(|answer| answer.0 == n).map(|answer| answer.1).collect::<Vec<_>>();
    let let_in: Vec<usize> = (0..12).filter(|n| both(*n) == [200, 200]).collect();
    assert_eq!(let_in.len(), 4, "{answers:?}");
    assert!((0..12).filter(|n| !let_in.contains(n)).all(|n| both(n) == [404, 404]), "{answers:?}");
    for node in nodes {
        // Every node's room knows them.
        let guest = node.api(&format!("guest-{}", let_in[0]));
        assert_eq!(guest.get("rooms/den").await.expect(200)["role"], "member");
    }
    let members = alice.get("rooms/den/members").await.expect(200);
    assert_eq!(members["items"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn the_two_of_a_direct_room_are_equals_and_stay_two() {
    let node = Node::alone().await;
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    bob.get("me").await.expect(200);
    let room = alice.post("direct", json!({"user": "bob"})).await.expect(201)["id"].as_str().expect("an id").to_owned();
    let path = format!("rooms/{room}");
    for (n, api) in [&alice, &bob].into_iter().enumerate() {
        let patched = api.patch(&path, json!({"ttl_s": 60 + n})).await.expect(200);
        assert_eq!(patched["ttl_s"], json!(60 + n));
        api.call(Method::DELETE, &path, None, &[]).await.problem(403, "forbidden");
        api.put(&format!("{path}/members/carol"), json!({"role": "member"})).await.problem(409, "conflict");
    }
    bob.post(&format!("{path}/leave"), json!({})).await.expect(204);
    bob.get(&path).await.problem(404, "not_found");
    let back = bob.post("direct", json!({"user": "alice"})).await.expect(200);
    assert_eq!((&back["id"], &back["role"]), (&json!(room), &json!("member")));
    says(&bob, &room, "a", "back").await;
}
