//! The seed corpus of the fuzz targets (`tests/fuzz/corpus`), and that every seed is handled as its name says: `good-…`
//! is understood, `bad-…` is refused. With `ROUNDTABLE_WRITE_SEEDS=1` the seeds are written anew.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use roundtable::actors::envelope::{Envelope, Frame, PeerMessage};
use roundtable::domain::command::{Caller, Command, Hint, Reply, Signal};
use roundtable::domain::revoked::{Ending, Revoked};
use roundtable::ids::{MessageId, NodeId, RoomId, UserId};
use roundtable::protocol::{self, Encoding};
use roundtable::refusal::Refusal;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Writes seeds of a target, if asked to.
fn write(target: &str, seeds: &[(String, Vec<u8>)]) {
    if std::env::var_os("ROUNDTABLE_WRITE_SEEDS").is_some() {
        let folder = corpus().join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes).expect("written");
        }
    }
}

/// Every seed of a target against whether it is understood.
fn hold(target: &str, understood: impl Fn(&[u8]) -> bool) {
    let mut seen = 0;
    for file in fs::read_dir(corpus().join(target)).expect("seeds") {
        let path = file.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("readable");
        assert_eq!(understood(&bytes), name.starts_with("good-"), "{target}/{name}");
        seen += 1;
    }
    assert!(seen >= 10, "{target} has only {seen} seeds");
}

/// The frames of clients that the golden files have, as (name, JSON, MessagePack).
fn golden() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut frames = Vec::new();
    for file in fs::read_dir(folder).expect("golden files") {
        let path = file.expect("readable").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix("client-") else { continue };
        let file: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("readable")).expect("golden files are JSON");
        let hex = file["msgpack"].as_str().expect("a text");
        let msgpack = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal"));
        frames.push((format!("good-{name}"), file["frame"].to_string().into_bytes(), msgpack.collect()));
    }
    frames
}

#[test]
fn seeds_of_json_frames() {
    let mut seeds: Vec<_> = golden().into_iter().map(|(name, json, _)| (name, json)).collect();
    for (name, json) in [
        (
            "good-escapes",
            r#"{"t\u0079pe":"send","room":"a","id":"1","text":"\ud83d\ude00\r\ne\u0301","data":{"a":"\u0000\/"}}"#,
        ),
        (
            "good-numbers",
            r#"{"type":"send","room":"a","id":"1","text":"x","data":[1e400,-0,0.10,123456789012345678901234567890]}"#,
        ),
        ("bad-surrogate", r#"{"type":"send","room":"a","id":"1","text":"x","data":{"\ud83d":1}}"#),
        ("bad-ref", r#"{"ref":-1,"type":"ping"}"#),
        ("bad-list", "[[[[[[[[]]]]]]]]"),
        ("bad-cut", r#"{"type":"send","room":"a","data":{"a":[1,2"#),
    ] {
        seeds.push((name.to_owned(), json.as_bytes().to_vec()));
    }
    write("frame_json", &seeds);
    hold("frame_json", |bytes| protocol::decode(Encoding::Json, bytes).is_ok());
}

#[test]
fn seeds_of_messagepack_frames() {
    let mut seeds: Vec<_> = golden().into_iter().map(|(name, _, msgpack)| (name, msgpack)).collect();
    for (name, bytes) in [
        ("good-float-ref", b"\x82\xa4type\xa4ping\xa3ref\xcb\x42\x00\x00\x00\x00\x00\x00\x00".as_slice()),
        ("bad-binary", b"\x82\xa4type\xa4ping\xa1x\xc4\x03abc"),
        ("bad-extension", b"\x82\xa4type\xa4ping\xa1x\xd6\x010123"),
        ("bad-nan", b"\x82\xa4type\xa4ping\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("bad-key", b"\x82\xa4type\xa4ping\xa1x\x81\x01\x02"),
        ("bad-length", b"\x82\xa4type\xa4ping\xa1x\xdd\xff\xff\xff\xff\x01"),
        ("bad-behind", b"\x81\xa4type\xa4ping\xc0"),
    ] {
        seeds.push((name.to_owned(), bytes.to_vec()));
    }
    write("frame_msgpack", &seeds);
    hold("frame_msgpack", |bytes| protocol::decode(Encoding::MsgPack, bytes).is_ok());
}

#[test]
fn seeds_of_the_bus() {
    let user = |id: &str| UserId::parse(id).expect("a valid id");
    let room = RoomId::parse("lobby").expect("a valid id");
    let caller = Caller { user: user("alice"), admin: false, from: None };
    let data = roundtable::entry::Data::from_compact(r#"{"a":[1,1e400,null]}"#.to_owned()).expect("valid JSON");
    let send = Command::Send {
        id: MessageId::parse("m-1").expect("a valid id"),
        text: "hi".to_owned(),
        reply_to: Some(1),
        data: Some(data),
        over_rate_ms: None,
        refused: None,
        trace: None,
    };
    let messages = [
        ("watch", PeerMessage::Watch { stream: 1, have: 2, users: vec![user("alice"), user("bob")], head: 3 }),
        ("unwatch", PeerMessage::Unwatch),
        ("ask", PeerMessage::Ask { stream: 1, n: 3, have: 2, caller: caller.clone(), command: send }),
        ("signal", PeerMessage::Signal { caller, signal: Signal::Typing { active: true } }),
        ("left", PeerMessage::Left { users: vec![user("bob")] }),
        ("watched", PeerMessage::Watched { stream: 1, next_n: 4, head: 9, evict: vec![user("carol")], expiry: None }),
        (
            "answer",
            PeerMessage::Answer {
                stream: 1,
                n: 3,
                result: Ok(Reply::Sent { seq: 10, at: 1_767_225_600_123, duplicate: false }),
            },
        ),
        ("refused", PeerMessage::Answer { stream: 1, n: 4, result: Err(Refusal::overloaded("too much waits")) }),
        ("resend", PeerMessage::Resend { stream: 1, from: 2 }),
        ("commit", PeerMessage::Commit { first: 10, entries: vec![Bytes::from_static(b"{}"); 3] }),
        ("hint", PeerMessage::Hint(Hint::Presence { online: 2, joined: vec![user("alice")], left: vec![] })),
        ("no-room", PeerMessage::NoRoom),
    ];
    let envelopes: Vec<(&str, Bytes)> =
        messages.into_iter().map(|(name, message)| (name, Envelope::Room(room.clone(), message).encode())).collect();
    let frame = Frame {
        from: NodeId::parse("n-1").expect("a valid id"),
        link: 7,
        number: 8,
        envelopes: envelopes.iter().map(|(_, envelope)| envelope.clone()).collect(),
    }
    .encode();
    let mut seeds: Vec<_> = envelopes.iter().map(|(name, bytes)| (format!("good-{name}"), bytes.to_vec())).collect();
    let everything = Revoked::User { user: user("dave"), but: Some([8; 32]), ending: Ending::SignIn };
    let person = Revoked::Person(user("erin"));
    for (name, revoked) in
        [("good-revoke", Revoked::Login([7; 32])), ("good-revoke-user", everything), ("good-revoke-person", person)]
    {
        seeds.push((name.to_owned(), Envelope::Revoked(revoked).encode().to_vec()));
    }
    seeds.push(("bad-cut".to_owned(), frame[..frame.len() / 2].to_vec()));
    seeds.push(("bad-length".to_owned(), b"\x94\xa3n-1\x07\x08\xdd\xff\xff\xff\xff".to_vec()));
    seeds.push(("bad-empty".to_owned(), Vec::new()));
    seeds.push(("good-frame".to_owned(), frame.to_vec()));
    write("bus_envelope", &seeds);
    hold("bus_envelope", |bytes| Envelope::decode(bytes).is_ok() || Frame::decode(bytes).is_ok());
}
