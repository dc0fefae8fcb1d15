//! One example of every frame as a file, for authors of clients: `tests/golden/<direction>-<name>.json` with the frame
//! as JSON and as MessagePack in hexadecimal. With `ROUNDTABLE_WRITE_GOLDEN=1` the files are written anew.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::entry::{Body, Data, Entry, Mentions, Message, ReactionCount, Role, RoomPatch, Shown, Tally};
use crate::ids::{MessageId, NodeId, RoomId, UserId};
use crate::refusal::{Code, Refusal};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Holds one frame against its file.
fn hold(name: &str, json: &[u8], msgpack: &[u8]) {
    let path = folder().join(format!("{name}.json"));
    let frame: &RawValue = serde_json::from_slice(json).expect("valid JSON");
    let text = format!("{{\n  \"frame\": {frame},\n  \"msgpack\": \"{}\"\n}}\n", hex(msgpack));
    if std::env::var_os("ROUNDTABLE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(folder()).expect("a folder");
        std::fs::write(&path, &text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(kept, text, "{name}: the wire changed; that is a new version of the protocol or a mistake");
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a valid id")
}

fn at() -> i64 {
    1_767_225_600_123
}

fn entry(seq: u64, body: Body) -> Entry {
    Entry { seq, user: user("alice"), at: at(), body }
}

fn message(text: Option<&str>, data: Option<Value>) -> Body {
    Body::Message(Message {
        id: MessageId::parse("m-1").expect("a valid id"),
        text: text.map(str::to_owned),
        reply_to: text.map(|_| 1),
        data: data.map(|data| Data::from_compact(data.to_string()).expect("valid JSON")),
        edited_at: text.map(|_| at() + 1_000),
        mentions: Mentions::default(),
    })
}

#[test]
fn frames_to_clients_are_as_documented() {
    let room = RoomId::parse("lobby").expect("a valid id");
    let limits = WelcomeLimits {
        frame_bytes: 65_536,
        text_chars: 4_000,
        data_bytes: 4_096,
        inflight: 64,
        subscriptions: 1_000,
        replay: 10_000,
        messages_per_minute: 120,
        messages_burst: 20,
    };
    let welcome = ServerFrame::Welcome {
        user: user("alice"),
        name: Some("Alice".into()),
        session: "s-1".into(),
        node: NodeId::parse("node-1").expect("a valid id"),
        server: "roundtable/0.1.0".into(),
        heartbeat_s: 25,
        jitter_ms: 2_000,
        backoff_max_ms: 30_000,
        limits,
    };
    let id = MessageId::parse("m-1").expect("a valid id");
    for (name, frame, reference) in [
        ("welcome", welcome, Some(1)),
        ("ok", ServerFrame::Ok(Accepted::Done), Some(2)),
        ("ok-role", ServerFrame::Ok(Accepted::Role(Some(Role::Member))), Some(3)),
        ("ok-seq", ServerFrame::Ok(Accepted::Seq(Some(7))), Some(4)),
        ("ok-unchanged", ServerFrame::Ok(Accepted::Seq(None)), Some(4)),
        ("ok-expires", ServerFrame::Ok(Accepted::ExpiresAt(Some(at()))), Some(5)),
        (
            "subscribed",
            ServerFrame::Subscribed {
                room: room.clone(),
                head: 9,
                verdict: Verdict::Replay,
                role: Some(Role::Owner),
                online: 2,
            },
            Some(6),
        ),
        (
            "subscribed-visitor",
            ServerFrame::Subscribed { room: room.clone(), head: 9, verdict: Verdict::Live, role: None, online: 3 },
            Some(7),
        ),
        ("sent", ServerFrame::Sent { room: room.clone(), id, seq: 10, at: at(), duplicate: false }, Some(8)),
        ("pong", ServerFrame::Pong { at: at() }, Some(9)),
        (
            "presence",
            ServerFrame::Presence {
                room: room.clone(),
                online: 2,
                changed: Some((vec![user("bob")], vec![user("carol")])),
            },
            None,
        ),
        ("presence-many", ServerFrame::Presence { room: room.clone(), online: 201, changed: None }, None),
        ("typing", ServerFrame::Typing { room: room.clone(), users: vec![user("bob")] }, None),
        ("read", ServerFrame::Read { room: room.clone(), user: user("bob"), seq: 10 }, None),
        ("unsubscribed", ServerFrame::Unsubscribed { room: room.clone(), code: "kicked" }, None),
        (
            "notice",
            ServerFrame::Notice {
                code: "draining",
                message: "this node is about to stop".into(),
                reconnect_after_ms: Some(1_500),
            },
            None,
        ),
        ("error", ServerFrame::Error(Refusal::bad_request("text: missing")), Some(10)),
        (
            "error-retry",
            ServerFrame::Error(Refusal::new(Code::Overloaded, "too much waits").retry_after(1_000)),
            Some(11),
        ),
    ] {
        hold(
            &format!("server-{name}"),
            &encode(Encoding::Json, &frame, reference),
            &encode(Encoding::MsgPack, &frame, reference),
        );
    }
    let entries = [
        entry(1, message(Some("hi"), Some(json!({"mood": [1, 2.5, null]})))),
        entry(2, message(None, None)),
        entry(3, Body::Edit { target: 1, text: Some("hello".into()), mentions: Mentions::default() }),
        entry(4, Body::Edit { target: 2, text: None, mentions: Mentions::default() }),
        entry(5, Body::Delete { target: 2 }),
        entry(6, Body::Reaction { target: 1, emoji: "👍".into(), active: true }),
        entry(
            7,
            Body::Room(RoomPatch {
                name: Some("The lobby".into()),
                topic: Some(String::new()),
                slow_mode_s: Some(5),
                archived: Some(false),
                ttl_s: Some(86_400),
                edit_history: Some(true),
            }),
        ),
    ];
    let frame = |encoding| {
        let encoded: Vec<Bytes> = entries.iter().map(|entry| encode_entry(encoding, entry)).collect();
        events(encoding, &room, encoded.iter().map(|entry| &entry[..]))
    };
    hold("server-events", &frame(Encoding::Json), &frame(Encoding::MsgPack));
    let shown = |tally: Tally| {
        let [first, second] = [entries[0].clone(), entries[1].clone()];
        [Shown { entry: first, tally }, Shown { entry: second, tally: Tally::default() }]
    };
    let page = |encoding| history(encoding, &room, &shown(Tally::default()), true, Some(12));
    hold("server-history", &page(Encoding::Json), &page(Encoding::MsgPack));
    let count = |emoji: &str, count, mine| ReactionCount { emoji: emoji.into(), count, mine };
    let tally = Tally { replies: 3, reactions: vec![count("👍", 2, true), count("🎉", 1, false)] };
    let page = |encoding| history(encoding, &room, &shown(tally.clone()), false, Some(13));
    hold("server-history-tallies", &page(Encoding::Json), &page(Encoding::MsgPack));

    let calls = |text: &str, mentions| {
        let id = MessageId::parse("m-1").expect("a valid id");
        let text = Some(text.to_owned());
        Body::Message(Message { id, text, reply_to: None, data: None, edited_at: None, mentions })
    };
    let entries = [
        entry(1, calls("@bob @carol?", Mentions::new(vec![user("bob"), user("carol")], false))),
        entry(2, calls("@room: lunch", Mentions::new(Vec::new(), true))),
        entry(
            3,
            Body::Edit {
                target: 1,
                text: Some("@room, @bob?".into()),
                mentions: Mentions::new(vec![user("bob")], true),
            },
        ),
    ];
    let frame = |encoding| {
        let encoded: Vec<Bytes> = entries.iter().map(|entry| encode_entry(encoding, entry)).collect();
        events(encoding, &room, encoded.iter().map(|entry| &entry[..]))
    };
    hold("server-events-mentions", &frame(Encoding::Json), &frame(Encoding::MsgPack));
}

#[test]
fn frames_from_clients_are_as_documented() {
    for (name, json) in [
        ("hello", r#"{"type":"hello","ref":1,"token":"…","client":"example/1.0"}"#),
        ("refresh", r#"{"type":"refresh","ref":2,"token":"…"}"#),
        ("subscribe", r#"{"type":"subscribe","ref":3,"room":"lobby"}"#),
        ("subscribe-after", r#"{"type":"subscribe","ref":3,"room":"lobby","after":41}"#),
        ("subscribe-last", r#"{"type":"subscribe","ref":3,"room":"lobby","last":50}"#),
        ("unsubscribe", r#"{"type":"unsubscribe","ref":4,"room":"lobby"}"#),
        ("join", r#"{"type":"join","ref":5,"room":"lobby"}"#),
        ("leave", r#"{"type":"leave","ref":6,"room":"lobby"}"#),
        (
            "send",
            r#"{"type":"send","ref":7,"room":"lobby","id":"m-1","text":"hi","reply_to":3,"data":{"mood":[1,2.5,null]}}"#,
        ),
        ("edit", r#"{"type":"edit","ref":8,"room":"lobby","target":3,"text":"hello"}"#),
        ("delete", r#"{"type":"delete","ref":9,"room":"lobby","target":3}"#),
        ("react", r#"{"type":"react","ref":10,"room":"lobby","target":3,"emoji":"👍","active":true}"#),
        ("typing", r#"{"type":"typing","room":"lobby","active":true}"#),
        ("read", r#"{"type":"read","room":"lobby","seq":42}"#),
        ("history", r#"{"type":"history","ref":11,"room":"lobby","before":42,"limit":50}"#),
        ("ping", r#"{"type":"ping","ref":12}"#),
    ] {
        decoded(json).expect(name);
        hold(&format!("client-{name}"), json.as_bytes(), &transcode::to_msgpack(json.as_bytes()));
    }
}
