//! Frames to clients: exact bytes, and the two encodings against each other by other people's readers.

use serde_json::{Value, json};

use super::*;
use crate::entry::{Body, Data, Entry, Mentions, Message, Shown, Tally};
use crate::ids::{MessageId, RoomId, UserId};
use crate::refusal::Refusal;

fn room() -> RoomId {
    RoomId::parse("lobby").expect("a valid id")
}

fn message(seq: u64, text: &str, data: Option<&str>) -> Entry {
    Entry {
        seq,
        user: UserId::parse("alice").expect("a valid id"),
        at: 1_700_000_000_123,
        body: Body::Message(Message {
            id: MessageId::parse("m1").expect("a valid id"),
            text: Some(text.to_owned()),
            reply_to: None,
            data: data.map(|data| Data::from_compact(data.to_owned()).expect("valid JSON")),
            edited_at: None,
            mentions: Mentions::default(),
        }),
    }
}

/// MessagePack as an independent reader understands it.
pub(super) fn read_msgpack(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).expect("valid MessagePack");
    assert!(rest.is_empty(), "bytes behind the frame");
    serde_json::to_value(value).expect("text keys")
}

fn both(frame: &ServerFrame, reference: Option<u64>) -> Value {
    let json: Value = serde_json::from_slice(&encode(Encoding::Json, frame, reference)).expect("valid JSON");
    assert_eq!(read_msgpack(&encode(Encoding::MsgPack, frame, reference)), json);
    json
}

#[test]
fn type_comes_first_and_ref_second() {
    let frame = encode(Encoding::Json, &ServerFrame::Pong { at: 0 }, Some(1 << 53));
    assert_eq!(frame, r#"{"type":"pong","ref":9007199254740992,"at":"1970-01-01T00:00:00.000Z"}"#.as_bytes());
    let frame = encode(Encoding::MsgPack, &ServerFrame::Ok(Accepted::Seq(None)), Some(5));
    assert_eq!(&frame[..], b"\x83\xa4type\xa2ok\xa3ref\x05\xa3seq\xc0");
}

#[test]
fn what_is_optional_is_absent_and_only_role_and_seq_may_be_null() {
    assert_eq!(both(&ServerFrame::Ok(Accepted::Done), Some(1)), json!({"type": "ok", "ref": 1}));
    assert_eq!(both(&ServerFrame::Ok(Accepted::Role(None)), None), json!({"type": "ok", "role": null}));
    assert_eq!(both(&ServerFrame::Ok(Accepted::ExpiresAt(None)), None), json!({"type": "ok"}));
    let error = ServerFrame::Error(Refusal::bad_request("text: missing"));
    assert_eq!(
        both(&error, None),
        json!({"type": "error", "code": "bad_request", "message": "text: missing", "retryable": false})
    );
    let error = ServerFrame::Error(Refusal::rate_limited("slowly", 0));
    assert_eq!(both(&error, Some(2))["retry_after_ms"], 1);
    let presence = ServerFrame::Presence { room: room(), online: 201, changed: None };
    assert_eq!(both(&presence, None), json!({"type": "presence", "room": "lobby", "online": 201}));
}

#[test]
fn event_frames_are_their_entries_in_a_row() {
    for n in [1_usize, 2, 15, 16, 300, 70_000] {
        for encoding in Encoding::ALL {
            let entry = encode_entry(encoding, &message(7, "hi \"é\"\n", Some(r#"{"a":[1,-1,1.5,"\u0000"]}"#)));
            let frame = events(encoding, &room(), std::iter::repeat_n(&entry[..], n));
            assert_eq!(frame.len(), events_overhead(encoding, &room(), n) + n * entry.len());
            let value = match encoding {
                Encoding::Json => serde_json::from_slice(&frame).expect("valid JSON"),
                Encoding::MsgPack => read_msgpack(&frame),
            };
            assert_eq!(value["type"], "events");
            assert_eq!(value["room"], "lobby");
            assert_eq!(value["events"].as_array().map(Vec::len), Some(n));
            assert_eq!(
                value["events"][n - 1],
                json!({"seq": 7, "kind": "message", "user": "alice", "at": "2023-11-14T22:13:20.123Z", "id": "m1",
                       "text": "hi \"é\"\n", "data": {"a": [1, -1, 1.5, "\u{0}"]}})
            );
        }
    }
    let long = RoomId::parse(&"r".repeat(64)).expect("a valid id");
    for encoding in Encoding::ALL {
        assert_eq!(events(encoding, &long, std::iter::empty()).len(), events_overhead(encoding, &long, 0));
    }
}

#[test]
fn history_frames_hold_the_page() {
    let shown = |entry| Shown { entry, tally: Tally::default() };
    let entries = [message(1, "a", None), message(2, "b", Some("null"))].map(shown);
    for reference in [None, Some(3)] {
        let frame = history(Encoding::Json, &room(), &entries, true, reference);
        let value: Value = serde_json::from_slice(&frame).expect("valid JSON");
        assert_eq!(read_msgpack(&history(Encoding::MsgPack, &room(), &entries, true, reference)), value);
        assert_eq!(value["ref"], reference.map_or(Value::Null, Value::from));
        assert_eq!((&value["more"], value["events"].as_array().map(Vec::len)), (&json!(true), Some(2)));
        assert_eq!(value["events"][1].as_object().and_then(|entry| entry.get("data")), Some(&Value::Null));
    }
    assert_eq!(
        history(Encoding::Json, &room(), &[], false, None),
        r#"{"type":"history","room":"lobby","events":[],"more":false}"#.as_bytes()
    );
}

#[test]
fn numbers_of_data_reach_messagepack_as_integers_or_doubles() {
    let entry = message(
        1,
        "a",
        Some(
            "[0,127,128,65536,4294967296,18446744073709551615,-1,-32,-33,-129,-32769,-2147483649,-9223372036854775808,-0,1.5,1e400,18446744073709551616]",
        ),
    );
    let bytes = encode_entry(Encoding::MsgPack, &entry);
    let value = rmpv::decode::read_value(&mut &bytes[..]).expect("valid MessagePack");
    let data = value.as_map().expect("a map").iter().find(|(key, _)| key.as_str() == Some("data")).expect("data");
    let numbers = data.1.as_array().expect("a list");
    let integers: Vec<i128> = numbers[..13]
        .iter()
        .map(|n| n.as_u64().map(i128::from).or(n.as_i64().map(i128::from)).expect("whole"))
        .collect();
    assert_eq!(
        integers,
        [0, 127, 128, 65_536, 1 << 32, u64::MAX.into(), -1, -32, -33, -129, -32_769, -2_147_483_649, i64::MIN.into()]
    );
    let doubles: Vec<f64> = numbers[13..].iter().map(|n| n.as_f64().expect("a double")).collect();
    assert_eq!(doubles, [-0.0, 1.5, f64::INFINITY, 18_446_744_073_709_551_616.0]);
}

#[test]
fn broken_json_makes_no_panic() {
    for broken in
        ["", "{", "[1", "{\"a", "{\"a\\", "\"\\u12", "{\"a\":}", "{]", "[}", "nul", "[,,]", "{\"a\" 1}", "-", "\u{e9}"]
    {
        transcode_entry(broken.as_bytes());
    }
    transcode_entry(&[0xff, 0xfe]);
    transcode_entry("[".repeat(100_000).as_bytes());
}
