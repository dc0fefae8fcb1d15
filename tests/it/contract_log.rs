//! What a room promises (the promises are numbered as in docs/protocol.md, "What a room promises").

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::load::whole_log;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person, makes, names};

fn message(room: &str, id: &str, text: &str) -> Value {
    json!({"type": "send", "room": room, "id": id, "text": text})
}

#[tokio::test]
async fn promise_1_two_people_talk_and_see_the_same_log() {
    let node = Node::alone().await;
    let (mut alice, mut bob) = (Person::at(&node, "alice").await, Person::at(&node, "bob").await);
    alice.opens(&node, "lobby").await;
    bob.joins("lobby").await;
    assert_eq!(alice.sends("lobby", "a1", "hi").await, 1);
    assert_eq!(bob.sends("lobby", "b1", "やあ 👋").await, 2);
    for person in [&mut alice, &mut bob] {
        person.sees("lobby", 1, "hi").await;
        let entry = person.sees("lobby", 2, "やあ 👋").await;
        assert_eq!((&entry["kind"], &entry["user"], &entry["id"]), (&json!("message"), &json!("bob"), &json!("b1")));
        let at = entry["at"].as_str().expect("at is text");
        assert!(at.len() == 24 && at.ends_with('Z') && at.as_bytes()[10] == b'T', "{at}");
    }
    assert_eq!(alice.seen("lobby"), bob.seen("lobby"));
}

#[tokio::test]
async fn promise_1_many_senders_at_once_make_one_order_without_gaps() {
    let node = Node::alone().await;
    makes(&node, "owner", "busy").await;
    let senders = join_all((0..8).map(|n| {
        let node = &node;
        async move {
            let mut person = Person::at(node, &format!("sender{n}")).await;
            person.joins("busy").await;
            let mut refs = Vec::new();
            for i in 0..50 {
                refs.push(person.starts(message("busy", &format!("m{i}"), &format!("{n}/{i}"))).await);
            }
            let mut last = 0;
            for (i, request) in refs.into_iter().enumerate() {
                let sent = person.answer(request).await;
                let seq = sent["seq"].as_u64().unwrap_or_else(|| panic!("{sent}"));
                assert!(seq > last, "message {i} of sender {n} is out of order");
                last = seq;
            }
            person
        }
    }))
    .await;
    let log = whole_log(&node, "busy").await;
    assert_eq!(log.len(), 400);
    for mut person in senders {
        person.sees_entry("busy", 400).await;
        let seen = person.seen("busy");
        assert_eq!(seen, &log[log.len() - seen.len()..], "everyone sees the same");
    }
}

#[tokio::test]
async fn promise_2_what_was_shown_or_acknowledged_survives_kill_9() {
    let node = Node::alone().await;
    let (mut alice, mut bob) = (Person::at(&node, "alice").await, Person::at(&node, "bob").await);
    alice.opens(&node, "lobby").await;
    bob.joins("lobby").await;
    let mut acked = 0;
    for i in 1..=40 {
        acked = alice.sends("lobby", &format!("m{i}"), &format!("text {i}")).await;
    }
    // These are under way when the process dies: each may be there or not, but what anybody was shown must be.
    for i in 41..=60 {
        alice.starts(message("lobby", &format!("m{i}"), &format!("text {i}"))).await;
    }
    bob.sees_entry("lobby", acked).await;
    node.kill();
    let _ = bob.closed().await;
    node.restart().await;
    let log = whole_log(&node, "lobby").await;
    assert!(log.len() >= acked as usize);
    assert!(log.starts_with(bob.seen("lobby")), "bob was shown something that is not there");
    let mut alice = Person::at(&node, "alice").await;
    let next = alice.sends("lobby", "after", "and on it goes").await;
    assert_eq!(next, log.len() as u64 + 1, "seq goes on");
    assert_eq!(alice.repeats("lobby", "m1", "text 1").await, 1, "ids are remembered");
}

#[tokio::test]
async fn promise_3_the_same_id_again_answers_with_the_first_seq() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let first = alice.does(message("lobby", "same", "first")).await;
    assert_eq!(first["duplicate"], false);
    let again = alice.does(message("lobby", "same", "another text")).await;
    assert_eq!((&again["seq"], &again["at"], &again["duplicate"]), (&first["seq"], &first["at"], &json!(true)));
    // On another connection, at the same time, and in one go.
    let mut other = Person::at(&node, "alice").await;
    assert_eq!(other.repeats("lobby", "same", "x").await, 1);
    let refs = [
        alice.starts(message("lobby", "twin", "1")).await,
        alice.starts(message("lobby", "twin", "2")).await,
        alice.starts(message("lobby", "twin", "3")).await,
    ];
    let mut seqs = Vec::new();
    for (i, request) in refs.into_iter().enumerate() {
        let sent = alice.answer(request).await;
        assert_eq!(sent["duplicate"], i > 0, "{sent}");
        seqs.push(sent["seq"].clone());
    }
    assert_eq!(seqs, [2, 2, 2]);
    // Ids are compared exactly and belong to their sender.
    assert_eq!(alice.sends("lobby", "Same", "capital").await, 3);
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    assert_eq!(bob.sends("lobby", "same", "mine").await, 4);
    // After a restart too.
    node.kill();
    node.restart().await;
    let mut alice = Person::at(&node, "alice").await;
    assert_eq!(alice.repeats("lobby", "same", "first").await, 1);
    assert_eq!(whole_log(&node, "lobby").await.len(), 4);
}

#[tokio::test]
async fn promise_3_a_repeat_is_answered_where_a_new_message_would_be_refused() {
    let node = Node::with(&[("limits.messages_per_minute", "6"), ("limits.messages_burst", "3")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    for i in 1..=3 {
        alice.sends("lobby", &format!("m{i}"), "x").await;
    }
    let refused = alice.refused(message("lobby", "m4", "x"), "rate_limited").await;
    assert!(refused["retry_after_ms"].as_u64().expect("when") <= 10_000, "{refused}");
    assert_eq!(alice.repeats("lobby", "m2", "x").await, 2, "over the rate");
    let api = node.api("alice");
    api.patch("rooms/lobby", json!({"slow_mode_s": 3600})).await.expect(200);
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    bob.sends("lobby", "b1", "x").await;
    bob.refused(message("lobby", "b2", "x"), "rate_limited").await;
    assert_eq!(bob.repeats("lobby", "b1", "x").await, 5, "in slow mode");
    api.patch("rooms/lobby", json!({"archived": true})).await.expect(200);
    bob.refused(message("lobby", "b3", "x"), "conflict").await;
    assert_eq!(bob.repeats("lobby", "b1", "x").await, 5, "in an archived room");
    // Membership and bans come first.
    api.put("rooms/lobby/bans/bob", json!({})).await.expect(204);
    bob.refused(message("lobby", "b1", "x"), "forbidden").await;
}

#[tokio::test]
async fn promise_4_a_cursor_resumes_exactly_where_it_was() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    for i in 1..=30 {
        alice.sends("lobby", &format!("m{i}"), &format!("{i}")).await;
    }
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let mut bob = Person::at_url(&node.ws_url(), "bob", encoding).await;
        let live = bob.resumes("lobby", 30).await;
        assert_eq!((&live["verdict"], &live["head"], &live["role"]), (&json!("live"), &json!(30), &Value::Null));
        drop(bob);
        let mut bob = Person::at_url(&node.ws_url(), "bob", encoding).await;
        assert_eq!(bob.resumes("lobby", 12).await["verdict"], "replay");
        bob.sees("lobby", 30, "30").await;
        assert_eq!(bob.seen("lobby").len(), 18);
        let mut carol = Person::at_url(&node.ws_url(), "carol", encoding).await;
        assert_eq!(carol.resumes("lobby", 0).await["verdict"], "replay");
        carol.sees("lobby", 30, "30").await;
        assert_eq!(carol.seen("lobby").len(), 30);
    }
}

#[tokio::test]
async fn promise_4_a_resume_across_many_entries_and_a_live_room_has_no_seam() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let text = "x".repeat(500);
    let mut sent = 0;
    let mut behind = None;
    for round in 0..30 {
        let mut refs = Vec::new();
        for i in 0..60 {
            refs.push(alice.starts(message("lobby", &format!("{round}-{i}"), &text)).await);
        }
        for request in refs {
            alice.answer(request).await;
            sent += 1;
        }
        // Somebody comes in from the start while the next rounds are sent: from the store, from the ring, live.
        if round == 10 {
            let url = node.ws_url();
            behind = Some(tokio::spawn(async move {
                let mut late = Person::at_url(&url, "late", Encoding::Json).await;
                assert_eq!(late.resumes("lobby", 0).await["verdict"], "replay");
                late.sees_entry("lobby", 1_800).await;
                let mut again = Person::at_url(&url, "late", Encoding::MessagePack).await;
                again.resumes("lobby", 900).await;
                again.sees_entry("lobby", 1_800).await;
                assert_eq!(again.seen("lobby"), &late.seen("lobby")[900..]);
            }));
        }
    }
    assert_eq!(sent, 1_800);
    behind.expect("there was a round 10").await.expect("the late reader");
    let mut late = Person::at(&node, "late").await;
    late.resumes("lobby", 0).await;
    late.sees_entry("lobby", sent).await;
    assert_eq!(late.seen("lobby"), whole_log(&node, "lobby").await);
}

#[tokio::test]
async fn promise_5_every_request_of_a_burst_is_answered() {
    let node = Node::with(&[("limits.inflight", "8")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut refs = Vec::new();
    for i in 0..300 {
        refs.push(alice.starts(message("lobby", &format!("m{i}"), "x")).await);
    }
    let (mut sent, mut refused) = (0, 0);
    for request in refs {
        let answer = alice.answer(request).await;
        if answer["type"] == "sent" {
            sent += 1;
        } else {
            assert!(["rate_limited", "overloaded"].contains(&answer["code"].as_str().unwrap_or("")), "{answer}");
            assert!(answer["retry_after_ms"].as_u64().is_some(), "{answer}");
            refused += 1;
        }
    }
    assert_eq!(sent + refused, 300);
    assert!(sent >= 8);
    assert_eq!(whole_log(&node, "lobby").await.len(), sent, "what was refused was not stored");
}

#[tokio::test]
async fn promise_6_hints_are_told_to_others_and_never_logged() {
    let node = Node::alone().await;
    let (mut alice, mut bob) = (Person::at(&node, "alice").await, Person::at(&node, "bob").await);
    alice.opens(&node, "lobby").await;
    bob.joins("lobby").await;
    let seq = alice.sends("lobby", "m1", "hi").await;
    bob.writes(&json!({"type": "typing", "room": "lobby", "active": true})).await;
    let typing = alice.next_where("bob types", |f| f["type"] == "typing" && f["users"] == json!(["bob"])).await;
    assert_eq!(typing["room"], "lobby");
    bob.writes(&json!({"type": "typing", "room": "lobby", "active": false})).await;
    alice.next_where("bob stops typing", |f| f["type"] == "typing" && f["users"] == json!([])).await;
    bob.writes(&json!({"type": "read", "room": "lobby", "seq": seq})).await;
    let read = alice.next_where("bob has read", |f| f["type"] == "read" && f["user"] == "bob").await;
    assert_eq!((&read["room"], &read["seq"]), (&json!("lobby"), &json!(seq)));
    // A mark beyond the head counts up to the head, and never falls.
    bob.writes(&json!({"type": "read", "room": "lobby", "seq": 1_000_000})).await;
    bob.writes(&json!({"type": "read", "room": "lobby", "seq": 0})).await;
    bob.catches_up().await;
    let second = alice.sends("lobby", "m2", "there").await;
    bob.sees("lobby", second, "there").await;
    bob.writes(&json!({"type": "read", "room": "lobby", "seq": second})).await;
    alice.next_where("bob has read on", |f| f["type"] == "read" && f["seq"] == second).await;
    bob.writes(&json!({"type": "read", "room": "lobby", "seq": 1})).await;
    assert_eq!(whole_log(&node, "lobby").await.len(), 2);
    // One's own mark is durable.
    let api = node.api("bob");
    crate::support::until("the read mark is stored", || async {
        let rooms = api.get("me/rooms").await.expect(200);
        (rooms["items"][0]["read_seq"] == second).then_some(())
    })
    .await;
    node.kill();
    node.restart().await;
    let rooms = node.api("bob").get("me/rooms").await.expect(200);
    assert_eq!(rooms["items"][0]["read_seq"], second);
    assert_eq!(rooms["items"][0]["unread"], 0);
    assert_eq!(node.api("alice").get("me/rooms").await.expect(200)["items"][0]["unread"], 0, "own ones don't count");
}

#[tokio::test]
async fn promise_6_presence_counts_people_not_connections() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    alice.next_where("bob comes", |f| names(f, "joined", "bob")).await;
    let mut phone = Person::at(&node, "bob").await;
    let subscribed = phone.does(json!({"type": "subscribe", "room": "lobby"})).await;
    assert_eq!((&subscribed["online"], &subscribed["role"]), (&json!(2), &json!("member")));
    drop(bob);
    let mut carol = Person::at(&node, "carol").await;
    carol.joins("lobby").await;
    let next = alice.next_where("carol comes", |f| f["type"] == "presence" && f["online"] == 3).await;
    assert!(!names(&next, "left", "bob"), "bob's phone is still there");
    drop(phone);
    alice.next_where("bob is gone", |f| names(f, "left", "bob") && f["online"] == 2).await;
}

#[tokio::test]
async fn promise_7_edits_deletes_and_reactions_are_harmless_to_repeat() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", "hi").await;
    let requests = [
        (json!({"type": "edit", "room": "lobby", "target": 1, "text": "hello"}), 2),
        (json!({"type": "react", "room": "lobby", "target": 1, "emoji": "👍", "active": true}), 3),
        (json!({"type": "react", "room": "lobby", "target": 1, "emoji": "👍", "active": false}), 4),
        (json!({"type": "delete", "room": "lobby", "target": 1}), 5),
    ];
    for (request, seq) in requests {
        assert_eq!(alice.does(request.clone()).await["seq"], seq, "{request}");
        let again = alice.does(request.clone()).await;
        assert!(again.as_object().expect("an object").contains_key("seq"), "{again}");
        assert_eq!(again["seq"], Value::Null, "{request} again");
    }
    assert_eq!(whole_log(&node, "lobby").await.len(), 5);
}
