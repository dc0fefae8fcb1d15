//! The hook before a message is stored (docs/bots.md): what it may do, that it never reorders, and what happens without it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::node::{Node, Settings};
use crate::support::person::Person;
use crate::support::receiver::{Received, Receiver, Reply};

const ROOM: &str = "lobby";

async fn node(receiver: &Receiver, more: Settings<'_>) -> Node {
    let url = receiver.url();
    let settings = [
        ("hooks.before_send.url", &*url),
        ("limits.messages_per_minute", "0"),
        ("hooks.before_send.deadline_ms", "5000"),
    ];
    Node::with(&[&settings[..], more].concat()).await
}

/// Lets everything pass but texts that say what to do with them.
fn obeys(request: &Received) -> Reply {
    let text = request.body["text"].as_str().unwrap_or_default();
    Reply::json(&match text.split_once(':') {
        Some(("change", to)) => json!({"action": "change", "text": to}),
        Some(("refuse", why)) => json!({"action": "refuse", "reason": why}),
        _ => json!({"action": "allow"}),
    })
}

fn send(id: &str, text: &str) -> Value {
    json!({"type": "send", "room": ROOM, "id": id, "text": text})
}

#[tokio::test]
async fn it_lets_pass_changes_and_refuses() {
    let hook = Receiver::start().await;
    hook.answers(obeys);
    let node = node(&hook, &[("hooks.before_send.secret", "hush")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, ROOM).await;
    assert_eq!(alice.sends(ROOM, "m1", "fine").await, 1);
    alice.sees(ROOM, 1, "fine").await;
    assert_eq!(alice.sends(ROOM, "m2", "change:e\u{301}\r\nx").await, 2);
    alice.sees(ROOM, 2, "é\nx").await;
    let refusal = alice.refused(send("m3", "refuse:mind your words"), "forbidden").await;
    assert_eq!(refusal["message"], "mind your words");
    let with = json!({"type": "send", "room": ROOM, "id": "m4", "text": "x", "reply_to": 1, "data": {"a": [1]}});
    alice.does(with).await;
    // Edits as well; over HTTP too.
    alice.does(json!({"type": "edit", "room": ROOM, "target": 1, "text": "change:edited"})).await;
    assert_eq!(alice.sees_entry(ROOM, 4).await["text"], "edited");
    alice.refused(json!({"type": "edit", "room": ROOM, "target": 1, "text": "refuse:no"}), "forbidden").await;
    let api = node.api("alice");
    let path = format!("rooms/{ROOM}/messages");
    api.post(&path, json!({"id": "h1", "text": "refuse:no"})).await.problem(403, "forbidden");
    assert_eq!(api.post(&path, json!({"id": "h2", "text": "change:y"})).await.expect(201)["seq"], 5);
    alice.sees(ROOM, 5, "y").await;

    let asked = hook.received();
    assert_eq!(asked[0].body, json!({"room": ROOM, "user": "alice", "kind": "message", "id": "m1", "text": "fine"}));
    assert_eq!((&asked[3].body["reply_to"], &asked[3].body["data"]), (&json!(1), &json!({"a": [1]})));
    let edit = json!({"room": ROOM, "user": "alice", "kind": "edit", "target": 1, "text": "change:edited"});
    assert_eq!(asked[4].body, edit);
    asked.iter().for_each(|request| request.is_signed_with("hush"));
    assert!(!node.log().contains("mind your words"));
    assert_eq!(node.metric("roundtable_hook_before_send_answers_total{answer=\"refuse\"}").await, 3.0);
}

#[tokio::test]
async fn a_repeat_is_answered_as_one_whatever_it_says() {
    let hook = Receiver::start().await;
    let node = node(&hook, &[("hooks.before_send.when_away", "refuse")]).await;
    let mut alice = Person::at(&node, "alice").await;
    hook.answers(obeys);
    alice.opens(&node, ROOM).await;
    assert_eq!(alice.sends(ROOM, "m1", "fine").await, 1);
    hook.answers(|_| Reply::json(&json!({"action": "refuse"})));
    assert_eq!(alice.repeats(ROOM, "m1", "fine").await, 1);
    alice.refused(send("m2", "fine"), "forbidden").await;
    hook.answers(|_| Reply::status(500));
    assert_eq!(alice.repeats(ROOM, "m1", "fine").await, 1);
    let refusal = alice.refused(send("m2", "fine"), "unavailable").await;
    assert!(refusal["retry_after_ms"].as_u64().is_some(), "{refusal}");
    let api = node.api("alice");
    let again = api.post(&format!("rooms/{ROOM}/messages"), json!({"id": "m1", "text": "fine"})).await.expect(200);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    hook.answers(obeys);
    assert_eq!(alice.sends(ROOM, "m2", "fine").await, 2, "what was refused as unavailable is stored by its repeat");
}

#[tokio::test]
async fn requests_of_one_connection_keep_their_order() {
    let hook = Receiver::start().await;
    // Each answer comes sooner than the one before it.
    hook.answers(|request| {
        let n: u64 = request.body["id"].as_str().and_then(|id| id[1..].parse().ok()).unwrap_or(0);
        let reply = if n % 7 == 3 { json!({"action": "refuse"}) } else { json!({"action": "allow"}) };
        Reply::json(&reply).after(Duration::from_millis(600 - 20 * n))
    });
    let node = node(&hook, &[]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, ROOM).await;
    let mut sent = Vec::new();
    let begin = Instant::now();
    for n in 0..20 {
        sent.push(alice.starts(send(&format!("m{n}"), "x")).await);
    }
    // What needs no hook waits for its turn all the same.
    let history = alice.starts(json!({"type": "history", "room": ROOM, "limit": 200})).await;
    let react = alice.starts(json!({"type": "react", "room": ROOM, "target": 1, "emoji": "x", "active": true})).await;
    let mut next = 1;
    for (n, request) in sent.into_iter().enumerate() {
        let answer = alice.answer(request).await;
        if n % 7 == 3 {
            assert_eq!(answer["code"], "forbidden", "{n}: {answer}");
        } else {
            assert_eq!(answer["seq"], next, "{n}: {answer}");
            next += 1;
        }
    }
    let page = alice.answer(history).await;
    let ids: Vec<&str> = page["events"].as_array().expect("events").iter().filter_map(|e| e["id"].as_str()).collect();
    let wanted: Vec<String> = (0..20).filter(|n| n % 7 != 3).map(|n| format!("m{n}")).collect();
    assert_eq!(ids, wanted, "a history sent behind them sees them");
    assert_eq!(alice.answer(react).await["seq"], next);
    assert!(begin.elapsed() < Duration::from_secs(4), "they are asked at once: {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_hook_that_hangs_on_one_holds_up_no_other() {
    let hook = Receiver::start().await;
    hook.answers(|request| {
        let reply = Reply::json(&json!({"action": "allow"}));
        if request.body["user"] == "alice" { reply.after(Duration::from_secs(4)) } else { reply }
    });
    let node = node(&hook, &[("hooks.before_send.rooms", "lobby,other")]).await;
    let (mut alice, mut bob) = (Person::at(&node, "alice").await, Person::at(&node, "bob").await);
    for room in [ROOM, "free"] {
        alice.opens(&node, room).await;
        bob.joins(room).await;
    }
    let slow = alice.starts(send("m1", "x")).await;
    hook.until_count(1).await;
    let begin = Instant::now();
    assert_eq!(bob.sends(ROOM, "b1", "x").await, 1);
    assert_eq!(alice.sends("free", "f1", "x").await, 1, "it is not asked for this room");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(hook.received().iter().all(|request| request.body["room"] == ROOM));
    // A connection that goes while it waits takes its requests along, and harms nobody.
    let mut carol = Person::at(&node, "alice").await;
    carol.resumes(ROOM, 0).await;
    carol.starts(send("m2", "x")).await;
    carol.starts(json!({"type": "subscribe", "room": ROOM, "after": 0})).await;
    hook.until("it is asked", |all| all.iter().any(|request| request.body["id"] == "m2").then_some(())).await;
    drop(carol);
    assert_eq!(alice.answer(slow).await["seq"], 2);
    assert_eq!(bob.sends(ROOM, "b2", "x").await, 3);
}

#[tokio::test]
async fn while_it_is_away_messages_pass_or_are_refused_and_soon_nobody_waits() {
    for (when_away, passes) in [("allow", true), ("refuse", false)] {
        let hook = Receiver::start().await;
        hook.answers(|_| Reply::status(200).after(Duration::from_secs(600)));
        let more = [("hooks.before_send.when_away", when_away), ("hooks.before_send.deadline_ms", "200")];
        let node = node(&hook, &more).await;
        let mut alice = Person::at(&node, "alice").await;
        alice.opens(&node, ROOM).await;
        for n in 0..30 {
            let request = alice.starts(send(&format!("m{n}"), "x")).await;
            let answer = alice.answer(request).await;
            assert_eq!(answer["type"] == "sent", passes, "{answer}");
            assert!(passes || answer["code"] == "unavailable" && answer["retry_after_ms"].is_u64(), "{answer}");
        }
        // Five in turn, and perhaps a probe.
        let asked = hook.received().len();
        assert!((5..=8).contains(&asked), "{asked} were asked");
        assert_eq!(node.metric("roundtable_hook_before_send_answers_total{answer=\"away\"}").await, 30.0);
        // It comes back: a probe finds out.
        hook.answers(|_| Reply::json(&json!({"action": "refuse", "reason": "back"})));
        crate::support::within("the hook is asked again", async {
            for n in 30.. {
                let request = alice.starts(send(&format!("m{n}"), "x")).await;
                if alice.answer(request).await["message"] == "back" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_back_end_may_repeat_a_post_for_ever() {
    let node = Node::with(&[("limits.messages_per_minute", "60"), ("limits.messages_burst", "2")]).await;
    let api = node.api("bot");
    api.post("rooms", json!({"id": ROOM, "kind": "public"})).await.expect(201);
    let path = format!("rooms/{ROOM}/messages");
    let body = json!({"id": "answer-1", "text": "hi", "data": {"to": 1}});
    let first = api.post(&path, body.clone()).await.expect(201);
    for _ in 0..20 {
        let again = api.post(&path, body.clone()).await.expect(200);
        assert_eq!((&again["seq"], &again["at"], &again["duplicate"]), (&first["seq"], &first["at"], &json!(true)));
    }
    // Also when the room takes no new ones, and after a restart.
    api.patch(&format!("rooms/{ROOM}"), json!({"archived": true})).await.expect(200);
    api.post(&path, body.clone()).await.expect(200);
    api.post(&path, json!({"id": "answer-2", "text": "hi"})).await.problem(409, "conflict");
    node.kill();
    node.restart().await;
    assert_eq!(api.post(&path, body).await.expect(200)["seq"], first["seq"]);
}
