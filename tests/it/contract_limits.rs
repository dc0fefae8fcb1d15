//! Bounds and what happens at them (docs/protocol.md, "Errors" and "Close codes"; docs/operations.md, "Limits").

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person, makes};
use crate::support::tokens;

fn message(id: &str) -> Value {
    json!({"type": "send", "room": "lobby", "id": id, "text": "x"})
}

#[tokio::test]
async fn rates_are_of_a_person_over_websocket_and_http_together() {
    let node = Node::with(&[("limits.messages_per_minute", "6"), ("limits.messages_burst", "4")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let api = node.api("alice");
    alice.does(message("1")).await;
    alice.does(message("2")).await;
    api.post("rooms/lobby/messages", json!({"id": "3", "text": "x"})).await.expect(201);
    let mut phone = Person::at(&node, "alice").await;
    phone.does(message("4")).await;
    // One comes back every ten seconds; whoever is too early is told when to come.
    let mut refused = 0;
    for id in ["5", "6", "7"] {
        let answer = phone.asks(message(id)).await;
        if answer["code"] == "rate_limited" {
            refused += 1;
            let wait = answer["retry_after_ms"].as_u64().expect("when");
            assert!((1..=10_000).contains(&wait), "{answer}");
        }
    }
    assert!(refused >= 1);
    let answer = api.post("rooms/lobby/messages", json!({"id": "8", "text": "x"})).await;
    if answer.status == 429 {
        assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s >= 1)));
        answer.problem(429, "rate_limited");
    }
    // Somebody else has a rate of their own.
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    bob.sends("lobby", "b", "x").await;
    // And waiting as told is enough.
    let mut wait = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let answer = phone.asks(message("9")).await;
        if answer["type"] == "sent" {
            break;
        }
        wait = answer["retry_after_ms"].as_u64().expect("when");
    }
}

#[tokio::test]
async fn the_inflight_window_refuses_one_more_and_hints_do_not_count() {
    let node = Node::with(&[("limits.inflight", "4")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    assert_eq!(alice.sends("lobby", "first", "x").await, 1);
    let mut refs = Vec::new();
    for i in 0..100 {
        alice.writes(&json!({"type": "typing", "room": "lobby", "active": true})).await;
        alice.writes(&json!({"type": "read", "room": "lobby", "seq": 1})).await;
        refs.push(alice.starts(message(&i.to_string())).await);
    }
    let ping = alice.starts(json!({"type": "ping"})).await;
    assert_eq!(alice.answer(ping).await["type"], "pong");
    let mut last = 0;
    for request in refs {
        let answer = alice.answer(request).await;
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "rate_limited", "{answer}");
        } else {
            let seq = answer["seq"].as_u64().expect("a seq");
            assert!(seq > last, "what was taken kept its order");
            last = seq;
        }
    }
    // The window is empty again.
    alice.sends("lobby", "last", "x").await;
}

#[tokio::test]
async fn subscriptions_of_a_connection_are_bounded() {
    let node = Node::with(&[("limits.subscriptions", "3")]).await;
    let mut alice = Person::at(&node, "alice").await;
    for i in 0..4 {
        makes(&node, "alice", &format!("r{i}")).await;
    }
    let subscribe = |i: u32| json!({"type": "subscribe", "room": format!("r{i}")});
    for i in 0..3 {
        alice.does(subscribe(i)).await;
    }
    let answer = alice.asks(subscribe(3)).await;
    assert_eq!(answer["type"], "error", "{answer}");
    alice.does(subscribe(2)).await;
    alice.does(json!({"type": "unsubscribe", "room": "r0"})).await;
    alice.does(subscribe(3)).await;
}

#[tokio::test]
async fn a_frame_that_is_too_large_closes_with_1009() {
    let node = Node::with(&[("limits.frame_bytes", "8192")]).await;
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let mut alice = Person::at_url(&node.ws_url(), "alice", encoding).await;
        let answer = alice.asks(json!({"type": "ping", "padding": "x".repeat(8_000)})).await;
        assert_eq!(answer["type"], "pong");
        alice.writes(&json!({"type": "ping", "padding": "x".repeat(9_000)})).await;
        assert_eq!(alice.closed().await, 1009, "{encoding:?}");
    }
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_where_set() {
    let node = Node::with(&[("limits.connections_per_ip", "2")]).await;
    let one = Person::at(&node, "alice").await;
    let _two = Person::at(&node, "bob").await;
    match Person::upgraded(&node.ws_url(), "carol", Encoding::Json, &[]).await {
        Ok(mut carol) => assert_eq!(carol.closed().await, 4100),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 429);
            assert!(response.headers().contains_key("Retry-After"));
        }
        Err(error) => panic!("{error}"),
    }
    drop(one);
    crate::support::until("there is room again", || async {
        let mut carol = Person::upgraded(&node.ws_url(), "carol", Encoding::Json, &[]).await.ok()?;
        let hello = carol.starts(json!({"type": "hello", "token": tokens::of("carol")})).await;
        let frame = carol.read().await?;
        (frame["ref"] == hello && frame["type"] == "welcome").then_some(())
    })
    .await;
}

#[tokio::test]
async fn http_and_logins_are_limited_by_address() {
    let node = Node::with(&[("limits.logins_per_minute", "3"), ("limits.http_per_minute", "0")]).await;
    let api = Api::with(&node.http(), None);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = api.post("login", json!({"user": "nobody", "password": "wrong horse"})).await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[5], 429, "{statuses:?}");
    let node = Node::with(&[("limits.http_per_minute", "5")]).await;
    let api = node.api("alice");
    let mut last = None;
    for _ in 0..12 {
        last = Some(api.get("me").await);
    }
    last.expect("twelve answers").problem(429, "rate_limited");
    // Somebody else's X-Forwarded-For is no way around it.
    let forged = api.call(reqwest::Method::GET, "me", None, &[("X-Forwarded-For", "203.0.113.9")]).await;
    forged.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_after_stall_s() {
    let node = Node::with(&[("limits.stall_s", "2"), ("limits.outbound_bytes", "65536")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut stuck = Person::at(&node, "stuck").await;
    stuck.joins("lobby").await;
    assert_eq!(node.metric("roundtable_sessions").await, 2.0);
    let text = "x".repeat(4_000);
    // It reads nothing; its socket's buffers fill, then nothing moves for two seconds.
    crate::support::within("the server gives the stuck reader up", async {
        for i in 0.. {
            alice.sends("lobby", &format!("m{i}"), &text).await;
            if i % 50 == 0 && node.metric("roundtable_sessions").await == 1.0 {
                return;
            }
        }
    })
    .await;
    let code = stuck.closed().await;
    assert!([4201, 1006].contains(&code), "{code}");
}
