//! Malformed and hostile input: answered as the contract says, and nobody else notices.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::raw::RawSocket;
use crate::support::tokens;

async fn greeted_raw(node: &Node, protocol: &str) -> RawSocket {
    let mut socket = RawSocket::open(node, &format!("Sec-WebSocket-Protocol: {protocol}\r\n")).await;
    let hello = json!({"type": "hello", "token": tokens::of("mallory"), "ref": 0});
    if protocol.ends_with("json") {
        socket.text(&hello.to_string()).await;
    } else {
        socket.frame(0x82, &rmp_serde::to_vec_named(&hello).expect("MessagePack")).await;
    }
    assert_eq!(socket.next().await.expect("a welcome").first & 0x0f, if protocol.ends_with("json") { 1 } else { 2 });
    socket
}

#[tokio::test]
async fn what_is_no_json_gets_bad_request_and_the_connection_stays() {
    let node = Node::alone().await;
    let mut mallory = Person::at(&node, "mallory").await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000));
    for text in [
        "",
        " ",
        "{",
        "null",
        "[]",
        "1",
        "\"hello\"",
        "{}",
        "{\"type\":1}",
        "{\"type\":null}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"\\ud800\"}",
        "{'type':'ping'}",
        "\u{feff}{\"type\":\"ping\"}",
        &deep,
        &objects,
    ] {
        mallory.writes_raw(Message::text(text.to_owned())).await;
        let error = mallory.next("error").await;
        assert_eq!(error["code"], "bad_request", "{text:.60}");
        assert!(error.get("ref").is_none_or(Value::is_null), "{error}");
    }
    mallory.catches_up().await;
}

#[tokio::test]
async fn what_is_no_messagepack_gets_bad_request_and_the_connection_stays() {
    let node = Node::alone().await;
    let mut mallory = Person::at_url(&node.ws_url(), "mallory", Encoding::MessagePack).await;
    let mut deep = vec![0x91; 20_000];
    deep.push(0xc0);
    let pair = |value: &[u8]| {
        let mut bytes = b"\x82\xa4type\xa4ping\xa1x".to_vec();
        bytes.extend(value);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("the reserved byte", vec![0xc1]),
        ("a map that promises 4 billion pairs", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        ("an array that promises 4 billion", vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
        ("a text that promises 4 GB", vec![0xdb, 0xff, 0xff, 0xff, 0xff]),
        ("a number", vec![1]),
        ("depth", deep),
        ("half a map", b"\x82\xa4type\xa4ping".to_vec()),
        ("bytes behind the object", b"\x81\xa4type\xa4ping\xc0".to_vec()),
        ("bin", pair(&[0xc4, 1, 0])),
        ("ext", pair(&[0xd4, 1, 0])),
        ("NaN", pair(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0])),
        ("a key that is no text", b"\x82\xa4type\xa4ping\x01\x01".to_vec()),
        ("a text that is no UTF-8", b"\x82\xa4type\xa4ping\xa1x\xa2\xff\xfe".to_vec()),
    ];
    for (what, bytes) in cases {
        mallory.writes_raw(Message::binary(bytes)).await;
        assert_eq!(mallory.next("error").await["code"], "bad_request", "{what}");
    }
    mallory.catches_up().await;
}

#[tokio::test]
async fn fields_of_the_wrong_kind_get_bad_request_with_their_ref() {
    let node = Node::alone().await;
    let mut mallory = Person::at(&node, "mallory").await;
    mallory.opens(&node, "lobby").await;
    for request in [
        json!({"type": "nonsense"}),
        json!({"type": "PING"}),
        json!({"type": "welcome"}),
        json!({"type": "events", "room": "lobby", "events": []}),
        json!({"type": "send"}),
        json!({"type": "send", "room": "lobby", "id": "x"}),
        json!({"type": "send", "room": "lobby", "text": "x"}),
        json!({"type": "send", "room": "lobby", "id": 1, "text": "x"}),
        json!({"type": "send", "room": "lobby", "id": "x", "text": ["x"]}),
        json!({"type": "send", "room": "lobby", "id": "x", "text": "x", "reply_to": "1"}),
        json!({"type": "send", "room": "lobby", "id": "x", "text": "x", "reply_to": -1}),
        json!({"type": "send", "room": "lobby", "id": "x", "text": "x", "reply_to": 1.5}),
        json!({"type": "send", "room": "Lobby", "id": "x", "text": "x"}),
        json!({"type": "send", "room": "../lobby", "id": "x", "text": "x"}),
        json!({"type": "send", "room": "x".repeat(65), "id": "x", "text": "x"}),
        json!({"type": "subscribe", "room": ""}),
        json!({"type": "subscribe", "room": null}),
        json!({"type": "subscribe", "room": "lobby", "after": 1e300}),
        json!({"type": "subscribe", "room": "lobby", "after": 18_446_744_073_709_551_615_u64}),
        json!({"type": "history", "room": "lobby", "limit": "many"}),
        json!({"type": "react", "room": "lobby", "target": 1, "emoji": "", "active": true}),
        json!({"type": "react", "room": "lobby", "target": 1, "emoji": "x".repeat(33), "active": true}),
        json!({"type": "react", "room": "lobby", "target": 1, "emoji": "x", "active": "yes"}),
        json!({"type": "edit", "room": "lobby", "target": 1, "text": ""}),
        json!({"type": "refresh"}),
    ] {
        mallory.refused(request, "bad_request").await;
    }
    // A ref that is none.
    for reference in [json!("x"), json!(-1), json!(1.5), json!(9_007_199_254_740_994_u64)] {
        mallory.writes(&json!({"type": "ping", "ref": reference})).await;
        assert_eq!(mallory.next("error").await["code"], "bad_request", "{reference}");
    }
    mallory.writes(&json!({"type": "ping", "ref": 9_007_199_254_740_992_u64})).await;
    assert_eq!(mallory.next("pong").await["ref"], 9_007_199_254_740_992_u64);
    // Unknown fields are no fault.
    assert_eq!(mallory.does(json!({"type": "ping", "__proto__": {"x": 1}, "future": [1]})).await["type"], "pong");
}

#[tokio::test]
async fn breaches_of_the_websocket_protocol_close_with_the_right_code() {
    let node = Node::alone().await;
    let json_name = "roundtable.v1.json";
    let cases: [(&str, u8, &[u8], u16); 9] = [
        ("RSV1 without compression", 0xc1, b"{}", 1002),
        ("RSV2", 0xa1, b"{}", 1002),
        ("RSV3", 0x91, b"{}", 1002),
        ("a reserved opcode", 0x83, b"{}", 1002),
        ("a reserved control opcode", 0x8b, b"", 1002),
        ("a continuation of nothing", 0x80, b"{}", 1002),
        ("a fragmented ping", 0x09, b"x", 1002),
        ("a ping that is too long", 0x89, &[b'x'; 126], 1002),
        ("text that is no UTF-8", 0x81, b"{\"type\":\"\xff\"}", 1007),
    ];
    for (what, first, payload, code) in cases {
        let mut socket = greeted_raw(&node, json_name).await;
        socket.frame(first, payload).await;
        assert_eq!(socket.close_code().await, code, "{what}");
    }
    // Binary on a JSON connection and text on a MessagePack one.
    let mut socket = greeted_raw(&node, json_name).await;
    socket.frame(0x82, b"{\"type\":\"ping\"}").await;
    assert_eq!(socket.close_code().await, 4000);
    let mut socket = greeted_raw(&node, "roundtable.v1.msgpack").await;
    socket.text("{\"type\":\"ping\"}").await;
    assert_eq!(socket.close_code().await, 4000);
    // Not masked.
    let mut socket = greeted_raw(&node, json_name).await;
    socket.write(b"\x81\x0f{\"type\":\"ping\"}").await;
    assert_eq!(socket.close_code().await, 1002, "not masked");
    // A new message inside another.
    let mut socket = greeted_raw(&node, json_name).await;
    socket.frame(0x01, b"{\"type\":").await;
    socket.text("{}").await;
    assert_eq!(socket.close_code().await, 1002);
    // A length that nobody would send.
    let mut socket = greeted_raw(&node, json_name).await;
    socket.write(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]).await;
    let code = socket.close_code().await;
    assert!([1009, 1002].contains(&code), "{code}");
    // Fragments that together are too large.
    let mut socket = greeted_raw(&node, json_name).await;
    socket.frame(0x01, &[b' '; 40_000]).await;
    socket.frame(0x80, &[b' '; 40_000]).await;
    assert_eq!(socket.close_code().await, 1009);
}

#[tokio::test]
async fn fragments_and_control_frames_between_them_are_fine() {
    let node = Node::alone().await;
    let mut socket = greeted_raw(&node, "roundtable.v1.json").await;
    // Cut in the middle of a character, with a ping in between.
    let frame = json!({"type": "ping", "ref": 7, "x": "ロ"}).to_string().into_bytes();
    let middle = frame.iter().position(|byte| *byte >= 0x80).expect("the character") + 1;
    socket.frame(0x01, &frame[..middle]).await;
    socket.frame(0x89, b"hey").await;
    socket.frame(0x00, &[]).await;
    socket.frame(0x80, &frame[middle..]).await;
    let pong = socket.next().await.expect("a pong");
    assert_eq!((pong.first, &pong.payload[..]), (0x8a, &b"hey"[..]));
    let answer = socket.next().await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!((&answer["type"], &answer["ref"]), (&json!("pong"), &json!(7)));
    // A close is answered with a close.
    socket.frame(0x88, &1000_u16.to_be_bytes()).await;
    assert_eq!(socket.close_code().await, 1000);
}

#[tokio::test]
async fn an_upgrade_that_is_none_is_refused() {
    let node = Node::alone().await;
    let api = crate::support::api::Api::with(&node.http(), None);
    let plain = api.get("/ws").await;
    assert!((400..500).contains(&plain.status), "{plain:?}");
    let wrong = api
        .call(
            reqwest::Method::GET,
            "/ws",
            None,
            &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "8")],
        )
        .await;
    assert!((400..500).contains(&wrong.status), "{wrong:?}");
}

#[tokio::test]
async fn others_do_not_notice_a_flood_of_garbage() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    for seed in 0..40_u32 {
        let mut socket = greeted_raw(&node, "roundtable.v1.json").await;
        // Bytes that look like anything, the same on every run.
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let garbage: Vec<u8> = (0..2_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            })
            .collect();
        socket.write(&garbage).await;
        let seq = alice.sends("lobby", &format!("m{seed}"), "still here").await;
        bob.sees("lobby", seq, "still here").await;
    }
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
