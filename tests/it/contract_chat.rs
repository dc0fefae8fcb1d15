//! What a chat asks of the log (docs/protocol.md): mentions, threads, counts of reactions, what is unread, read marks.

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::until;

/// `me/rooms` of somebody who is in one room: `read_seq`, `unread`, `mentions`.
async fn counts(node: &Node, who: &str) -> [Value; 3] {
    let rooms = node.api(who).get("me/rooms").await.expect(200);
    ["read_seq", "unread", "mentions"].map(|field| rooms["items"][0][field].clone())
}

#[tokio::test]
async fn whom_a_text_calls_is_said_in_the_entry() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at_url(&node.ws_url(), "bob", Encoding::MessagePack).await;
    bob.joins("lobby").await;
    let (mut stranger, room) = (Person::at(&node, "stranger").await, "lobby");
    stranger.does(json!({"type": "subscribe", "room": room})).await;

    alice.sends(room, "1", "hi @bob, @stranger and @bob; a@bob").await;
    alice.sends(room, "2", "@room: lunch").await;
    bob.sends(room, "3", "@room, @alice.").await;
    alice.sends(room, "4", "nobody").await;
    for person in [&mut alice, &mut bob, &mut stranger] {
        assert_eq!(person.sees_entry(room, 1).await["mentions"], json!(["bob"]));
        let second = person.sees_entry(room, 2).await;
        assert_eq!((&second["mentions"], &second["mentions_room"]), (&Value::Null, &json!(true)));
        let third = person.sees_entry(room, 3).await;
        assert_eq!(
            (&third["mentions"], &third["mentions_room"]),
            (&json!(["alice"]), &Value::Null),
            "a member may not"
        );
        let fourth = person.sees_entry(room, 4).await;
        assert!(fourth.get("mentions").is_none() && fourth.get("mentions_room").is_none(), "{fourth}");
    }
    assert_eq!(counts(&node, "bob").await, [0, 3, 2].map(Value::from));
    assert_eq!(counts(&node, "alice").await, [0, 1, 1].map(Value::from));

    alice.does(json!({"type": "edit", "room": room, "target": 4, "text": "@bob after all"})).await;
    assert_eq!(bob.sees_entry(room, 5).await["mentions"], json!(["bob"]));
    alice.does(json!({"type": "delete", "room": room, "target": 1})).await;
    // From the ring and from the store it is the same.
    let mut later = Person::at(&node, "bob").await;
    later.resumes(room, 0).await;
    let replayed = later.sees_entry(room, 4).await;
    assert_eq!((&replayed["text"], &replayed["mentions"]), (&json!("@bob after all"), &json!(["bob"])));
    let history = bob.history(room, json!({})).await;
    assert_eq!(history["events"][3]["mentions"], json!(["bob"]), "{history}");
    for erased in [&later.sees_entry(room, 1).await, &history["events"][0]] {
        assert!(erased["deleted"] == true && erased.get("mentions").is_none(), "{erased}");
    }
    assert_eq!(counts(&node, "bob").await, [0, 3, 2].map(Value::from), "one came, one went");
}

#[tokio::test]
async fn history_counts_reactions_and_replies_and_live_entries_do_not() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at_url(&node.ws_url(), "bob", Encoding::MessagePack).await;
    bob.joins("lobby").await;
    alice.sends("lobby", "1", "root").await;
    bob.does(json!({"type": "send", "room": "lobby", "id": "2", "text": "re", "reply_to": 1})).await;
    bob.does(json!({"type": "send", "room": "lobby", "id": "3", "text": "re re", "reply_to": 2})).await;
    for (person, emoji) in [(&mut alice, "👍"), (&mut bob, "👍")] {
        person.does(json!({"type": "react", "room": "lobby", "target": 1, "emoji": emoji, "active": true})).await;
    }
    alice.does(json!({"type": "react", "room": "lobby", "target": 1, "emoji": "🎉", "active": true})).await;
    let expected =
        |mine: bool| json!([{"emoji": "👍", "count": 2, "mine": true}, {"emoji": "🎉", "count": 1, "mine": mine}]);
    let page = node.api("alice").get("rooms/lobby/messages").await.expect(200);
    for (who, shown) in [
        (true, &alice.history("lobby", json!({})).await["events"]),
        (false, &bob.history("lobby", json!({"limit": 200})).await["events"]),
        (true, &page["items"]),
    ] {
        assert_eq!((&shown[0]["reactions"], &shown[0]["replies"]), (&expected(who), &json!(2)), "{shown}");
        for entry in &shown.as_array().expect("entries")[1..] {
            assert!(entry.get("reactions").is_none() && entry.get("replies").is_none(), "{entry}");
        }
    }
    let mut later = Person::at(&node, "bob").await;
    later.resumes("lobby", 0).await;
    for person in [&mut later, &mut alice] {
        let root = person.sees_entry("lobby", 1).await;
        assert!(root.get("reactions").is_none() && root.get("replies").is_none(), "{root}");
    }
}

#[tokio::test]
async fn a_thread_is_read_in_pages() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "1", "root").await;
    for n in 2..=6 {
        let request = json!({"type": "send", "room": "lobby", "id": n.to_string(), "text": "re", "reply_to": n - 1});
        alice.does(request).await;
    }
    alice.sends("lobby", "other", "no reply").await;
    alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": "the root"})).await;
    let api = node.api("alice");
    let seqs = |page: &Value| {
        page["items"].as_array().expect("items").iter().map(|entry| entry["seq"].as_u64()).collect::<Vec<_>>()
    };
    let first = api.get("rooms/lobby/messages/3/thread?limit=4").await.expect(200);
    assert_eq!((seqs(&first), &first["root"]), ([1, 2, 3, 4].map(Some).to_vec(), &json!(1)), "{first}");
    assert_eq!((&first["items"][0]["text"], &first["items"][0]["replies"]), (&json!("the root"), &json!(5)));
    let next = first["next"].as_str().expect("a cursor");
    let second = api.get(&format!("rooms/lobby/messages/3/thread?limit=4&cursor={next}")).await.expect(200);
    assert_eq!((seqs(&second), &second["next"]), ([5, 6].map(Some).to_vec(), &Value::Null));
    let after = api.get("rooms/lobby/messages/1/thread?after=5").await.expect(200);
    assert_eq!(seqs(&after), [Some(6)]);
    assert_eq!(seqs(&api.get("rooms/lobby/messages/7/thread").await.expect(200)), [Some(7)]);

    api.get("rooms/lobby/messages/8/thread").await.problem(404, "not_found");
    api.get("rooms/lobby/messages/99/thread").await.problem(404, "not_found");
    api.get("rooms/nowhere/messages/1/thread").await.problem(404, "not_found");
    for bad in ["x/thread", "-1/thread", "1.5/thread", "99999999999999999999/thread", "1/thread?limit=0"] {
        api.get(&format!("rooms/lobby/messages/{bad}")).await.problem(400, "bad_request");
    }
    api.get(&format!("rooms/lobby/messages/1/thread?after=1&cursor={next}")).await.problem(400, "bad_request");
    api.get("rooms/lobby/messages/1/thread?cursor=!").await.problem(400, "bad_request");
    let private = json!({"id": "secret", "kind": "private"});
    api.post("rooms", private).await.expect(201);
    node.api("bob").get("rooms/secret/messages/1/thread").await.problem(404, "not_found");
    api.post("rooms/lobby/messages/1/thread", json!({})).await.problem(405, "bad_request");
}

#[tokio::test]
async fn a_read_mark_over_http_is_durable_at_once() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    for n in 1..=5 {
        alice.sends("lobby", &n.to_string(), "hi").await;
    }
    let api = node.api("bob");
    api.put("rooms/lobby/read", json!({"seq": 3})).await.expect(204);
    assert_eq!(counts(&node, "bob").await, [3, 2, 0].map(Value::from));
    alice.next_where("bob has read", |f| f["type"] == "read" && f["user"] == "bob" && f["seq"] == 3).await;
    bob.next_where("his own session hears of it", |f| f["type"] == "read" && f["user"] == "bob").await;
    api.put("rooms/lobby/read", json!({"seq": 1})).await.expect(204);
    assert_eq!(counts(&node, "bob").await, [3, 2, 0].map(Value::from), "only rises");
    api.put("rooms/lobby/read", json!({"seq": 1_000_000})).await.expect(204);
    assert_eq!(counts(&node, "bob").await, [5, 0, 0].map(Value::from), "at most to the head");

    for bad in [json!({}), json!({"seq": -1}), json!({"seq": "3"}), json!({"seq": 1.5}), json!([])] {
        api.put("rooms/lobby/read", bad).await.problem(400, "bad_request");
    }
    node.api("eve").put("rooms/lobby/read", json!({"seq": 1})).await.problem(403, "forbidden");
    node.api("eve").put("rooms/nowhere/read", json!({"seq": 1})).await.problem(404, "not_found");
    node.api("alice").post("rooms", json!({"id": "secret", "kind": "private"})).await.expect(201);
    api.put("rooms/secret/read", json!({"seq": 1})).await.problem(404, "not_found");
}

#[tokio::test]
async fn what_one_session_reads_the_others_hear_on_every_node() {
    let cluster = Cluster::start(2).await;
    let room = cluster.room_on(0, "alice").await;
    let mut alice = Person::at(&cluster.nodes[0], "alice").await;
    alice.joins(&room).await;
    let (mut phone, mut desk) =
        (Person::at(&cluster.nodes[0], "bob").await, Person::at(&cluster.nodes[1], "bob").await);
    phone.joins(&room).await;
    desk.joins(&room).await;
    alice.sends(&room, "1", "hi @bob").await;
    assert_eq!(desk.sees_entry(&room, 1).await["mentions"], json!(["bob"]), "on the other node too");
    phone.writes(&json!({"type": "read", "room": room, "seq": 1})).await;
    desk.next_where("bob has read", |f| f["type"] == "read" && f["user"] == "bob" && f["seq"] == 1).await;
    until("the mark is stored", || async {
        (counts(&cluster.nodes[1], "bob").await == [1, 0, 0].map(Value::from)).then_some(())
    })
    .await;
    alice.sends(&room, "2", "again").await;
    desk.sees(&room, 2, "again").await;
    cluster.nodes[1].api("bob").put(&format!("rooms/{room}/read"), json!({"seq": 2})).await.expect(204);
    phone.next_where("bob has read on", |f| f["type"] == "read" && f["user"] == "bob" && f["seq"] == 2).await;
}
