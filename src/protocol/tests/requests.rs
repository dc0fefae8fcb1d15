//! Requests that are taken and requests that are refused.

use super::*;
use crate::ids::{MessageId, RoomId};

fn lobby() -> RoomId {
    RoomId::parse("lobby").expect("a valid id")
}

#[test]
fn every_request_is_read() {
    let room = lobby();
    let id = MessageId::parse("m 1").expect("a valid id");
    for (json, expected) in [
        (r#"{"type":"hello"}"#, Request::Hello { token: None, client: None }),
        (
            r#"{"type":"hello","token":"t","client":"web/1"}"#,
            Request::Hello { token: Some("t".into()), client: Some("web/1".into()) },
        ),
        (r#"{"type":"refresh","token":"t"}"#, Request::Refresh { token: "t".into() }),
        (r#"{"type":"subscribe","room":"lobby"}"#, Request::Subscribe { room: room.clone(), from: From::Head }),
        (
            r#"{"type":"subscribe","room":"lobby","after":0}"#,
            Request::Subscribe { room: room.clone(), from: From::After(0) },
        ),
        (
            r#"{"type":"subscribe","room":"lobby","last":10,"after":null}"#,
            Request::Subscribe { room: room.clone(), from: From::Last(10) },
        ),
        (r#"{"type":"unsubscribe","room":"lobby"}"#, Request::Unsubscribe { room: room.clone() }),
        (r#"{"type":"join","room":"lobby"}"#, Request::Join { room: room.clone() }),
        (r#"{"type":"leave","room":"lobby"}"#, Request::Leave { room: room.clone() }),
        (
            r#"{"type":"send","room":"lobby","id":"m 1","text":"hi"}"#,
            Request::Send { room: room.clone(), id, text: "hi".into(), reply_to: None, data: None },
        ),
        (
            r#"{"type":"edit","room":"lobby","target":3,"text":"ho"}"#,
            Request::Edit { room: room.clone(), target: 3, text: "ho".into() },
        ),
        (r#"{"type":"delete","room":"lobby","target":3}"#, Request::Delete { room: room.clone(), target: 3 }),
        (
            r#"{"type":"react","room":"lobby","target":3,"emoji":"👍","active":false}"#,
            Request::React { room: room.clone(), target: 3, emoji: "👍".into(), active: false },
        ),
        (r#"{"type":"typing","room":"lobby","active":true}"#, Request::Typing { room: room.clone(), active: true }),
        (
            r#"{"type":"read","room":"lobby","seq":9007199254740992}"#,
            Request::Read { room: room.clone(), seq: 1 << 53 },
        ),
        (
            r#"{"type":"history","room":"lobby"}"#,
            Request::History { room: room.clone(), bound: Bound::Newest, limit: 50 },
        ),
        (
            r#"{"type":"history","room":"lobby","before":7,"limit":200}"#,
            Request::History { room: room.clone(), bound: Bound::Before(7), limit: 200 },
        ),
        (
            r#"{"type":"history","room":"lobby","after":7,"limit":1}"#,
            Request::History { room, bound: Bound::After(7), limit: 1 },
        ),
        (r#"{"type":"ping"}"#, Request::Ping),
    ] {
        assert_eq!(request(json), expected, "{json}");
    }
}

#[test]
fn texts_are_normalised_and_data_kept() {
    let json = r#"{"type":"send","room":"lobby","id":"1","text":"a\r\ne\u0301","reply_to":2,"data":{"b":[1,2.5,"\u0000"],"a":null}}"#;
    let Request::Send { text, reply_to, data, .. } = request(json) else { panic!("a send") };
    assert_eq!((text.as_str(), reply_to), ("a\né", Some(2)));
    assert_eq!(data.expect("given").as_str(), r#"{"b":[1,2.5,"\u0000"],"a":null}"#);
}

#[test]
fn null_data_is_data_and_elsewhere_null_is_nothing() {
    let json = r#"{"type":"send","ref":null,"room":"lobby","id":"1","text":"a","reply_to":null,"data":null}"#;
    let frame = decoded(json).expect("good");
    let Request::Send { reply_to, data, .. } = frame.request else { panic!("a send") };
    assert_eq!((frame.reference, reply_to), (None, None));
    assert_eq!(data.expect("given").as_str(), "null");
}

#[test]
fn numbers_in_json_data_are_kept_to_the_digit() {
    let json = br#"{"type":"send","room":"lobby","id":"1","text":"a","data":[1.0,1e400,0.10,12345678901234567890123]}"#;
    let Request::Send { data, .. } = decode(Encoding::Json, json).expect("good").request else { panic!("a send") };
    assert_eq!(data.expect("given").as_str(), "[1.0,1e400,0.10,12345678901234567890123]");
}

#[test]
fn what_we_do_not_know_is_ignored_and_of_what_is_repeated_the_last_counts() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let json = format!(r#"{{"x":{deep},"type":"join","type":"ping","é":{{"room":1}},"ref":1,"ref":2}}"#);
    let frame = decode(Encoding::Json, json.as_bytes()).expect("good");
    assert_eq!(frame, ClientFrame { reference: Some(2), request: Request::Ping });
    assert_eq!(request(r#"{"type":"ping","unknown":{"a":[1,2,{"b":null}]},"other":"x"}"#), Request::Ping);
    assert_eq!(request(r#"{"t\u0079pe":"p\u0069ng"}"#), Request::Ping);
    assert!(decode(Encoding::Json, br#"{"type":"ping","\ud83d":"\ud83d"}"#).is_ok());
}

#[test]
fn a_refusal_names_the_field_and_bears_the_ref() {
    for (json, field) in [
        (r#"{"ref":7}"#, "type"),
        (r#"{"ref":7,"type":null}"#, "type"),
        (r#"{"ref":7,"type":3}"#, "type"),
        (r#"{"ref":7,"type":"shout"}"#, "type"),
        (r#"{"type":"refresh","ref":7}"#, "token"),
        (r#"{"type":"hello","ref":7,"token":3}"#, "token"),
        (r#"{"type":"hello","ref":7,"client":"\u0001"}"#, "client"),
        (r#"{"type":"join","ref":7}"#, "room"),
        (r#"{"type":"join","room":"Lobby","ref":7}"#, "room"),
        (r#"{"type":"join","room":"","ref":7}"#, "room"),
        (r#"{"type":"join","room":["lobby"],"ref":7}"#, "room"),
        (r#"{"type":"subscribe","room":"lobby","after":1,"last":1,"ref":7}"#, "after"),
        (r#"{"type":"subscribe","room":"lobby","after":-1,"ref":7}"#, "after"),
        (r#"{"type":"subscribe","room":"lobby","last":1.5,"ref":7}"#, "last"),
        (r#"{"type":"subscribe","room":"lobby","last":"1","ref":7}"#, "last"),
        (r#"{"type":"read","room":"lobby","seq":9007199254740993,"ref":7}"#, "seq"),
        (r#"{"type":"read","room":"lobby","seq":true,"ref":7}"#, "seq"),
        (r#"{"type":"history","room":"lobby","limit":0,"ref":7}"#, "limit"),
        (r#"{"type":"history","room":"lobby","limit":201,"ref":7}"#, "limit"),
        (r#"{"type":"history","room":"lobby","before":1,"after":1,"ref":7}"#, "before"),
        (r#"{"type":"send","room":"lobby","text":"a","ref":7}"#, "id"),
        (r#"{"type":"send","room":"lobby","id":"","text":"a","ref":7}"#, "id"),
        (r#"{"type":"send","room":"lobby","id":"a\u0007","text":"a","ref":7}"#, "id"),
        (r#"{"type":"send","room":"lobby","id":"1","ref":7}"#, "text"),
        (r#"{"type":"send","room":"lobby","id":"1","text":" \n ","ref":7}"#, "text"),
        (r#"{"type":"send","room":"lobby","id":"1","text":"a\rb","ref":7}"#, "text"),
        (r#"{"type":"send","room":"lobby","id":"1","text":"\u0000","ref":7}"#, "text"),
        (r#"{"type":"send","room":"lobby","id":"1","text":{},"ref":7}"#, "text"),
        (r#"{"type":"send","room":"lobby","id":"1","text":"a","reply_to":-3,"ref":7}"#, "reply_to"),
        (r#"{"type":"edit","room":"lobby","text":"a","ref":7}"#, "target"),
        (r#"{"type":"react","room":"lobby","target":1,"emoji":"👍","ref":7}"#, "active"),
        (r#"{"type":"react","room":"lobby","target":1,"emoji":"👍","active":1,"ref":7}"#, "active"),
        (r#"{"type":"react","room":"lobby","target":1,"emoji":"","active":true,"ref":7}"#, "emoji"),
        (r#"{"type":"typing","room":"lobby","active":"true","ref":7}"#, "active"),
    ] {
        let (reference, message) = refused(json);
        assert_eq!(reference, Some(7), "{json}");
        assert!(message.starts_with(field), "{json}: {message}");
    }
    let long = format!(r#"{{"type":"send","room":"lobby","id":"1","text":"{}","ref":7}}"#, "é".repeat(4_001));
    assert!(refused(&long).1.starts_with("text: must have at most 4000"));
    let deep = format!(
        r#"{{"type":"send","room":"lobby","id":"1","text":"a","ref":7,"data":{}{}}}"#,
        "[".repeat(33),
        "]".repeat(33)
    );
    assert_eq!(refused(&deep).0, Some(7));
    let big = format!(r#"{{"type":"send","room":"lobby","id":"1","text":"a","ref":7,"data":"{}"}}"#, "x".repeat(4_095));
    assert!(refused(&big).1.starts_with("data: must have at most 4096"));
}

#[test]
fn a_bad_ref_is_refused_without_one() {
    for json in [
        r#"{"type":"ping","ref":-1}"#,
        r#"{"type":"ping","ref":1.5}"#,
        r#"{"type":"ping","ref":"1"}"#,
        r#"{"type":"ping","ref":9007199254740993}"#,
        r#"{"type":"ping","ref":1e400}"#,
        r#"{"type":"ping","ref":[]}"#,
    ] {
        let (reference, message) = refused(json);
        assert!(reference.is_none() && message.starts_with("ref: "), "{json}: {message}");
    }
    for json in [r#"{"type":"ping","ref":1.0}"#, r#"{"type":"ping","ref":-0}"#, r#"{"type":"ping","ref":1e2}"#] {
        assert!(decode(Encoding::Json, json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for (field, json) in [
        ("text", r#"{"type":"send","ref":1,"room":"lobby","id":"1","text":"\ud83d"}"#),
        ("id", r#"{"type":"send","ref":1,"room":"lobby","id":"\ude00","text":"a"}"#),
        ("data", r#"{"type":"send","ref":1,"room":"lobby","id":"1","text":"a","data":{"\ud83d":1}}"#),
    ] {
        let error = decode(Encoding::Json, json.as_bytes()).expect_err(json);
        assert_eq!(error.reference, Some(1));
        assert!(error.refusal.message.starts_with(field), "{}", error.refusal.message);
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for json in ["[]", "3", "null", "\"ping\"", "true"] {
        assert_eq!(refused(json).0, None);
    }
    for json in [
        "",
        " ",
        "{",
        "{\"type\":\"ping\"",
        "{\"type\":\"ping\"}}",
        "{\"type\":\"ping\"} x",
        "{'type':'ping'}",
        "{\"a\":01}",
    ] {
        let error = decode(Encoding::Json, json.as_bytes()).expect_err(json);
        assert_eq!(error.reference, None);
    }
    assert!(decode(Encoding::Json, b"{\"type\":\"\xff\"}").is_err());
    assert!(decode(Encoding::Json, "[".repeat(60_000).as_bytes()).is_err());
    assert!(decode(Encoding::Json, format!("{{\"x\":{}", "[".repeat(60_000)).as_bytes()).is_err());
    assert!(decode(Encoding::Json, format!("{{\"data\":{}", "[".repeat(60_000)).as_bytes()).is_err());
}

#[test]
fn messagepack_holds_only_what_json_holds() {
    // {type: ping, ref: 7, x: …} with every value that has no place in JSON.
    let frame = |value: &[u8]| [b"\x83\xa4type\xa4ping\xa3ref\x07\xa1x".as_slice(), value].concat();
    assert!(decode(Encoding::MsgPack, &frame(b"\xc0")).is_ok());
    for bad in [
        b"\xc4\x01a".as_slice(),
        b"\xc5\x00\x01a",
        b"\xc6\x00\x00\x00\x01a",
        b"\xc7\x01\x05a",
        b"\xd4\x05a",
        b"\xd8\x050123456789abcdef",
        b"\xca\x7f\xc0\x00\x00",
        b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x81\x01\x02",
        b"\x91\x81\xc0\xc0",
        b"\x81\x90\xc0",
        b"\xa2\xff\xfe",
        b"\x82\xa1a\x01\xc2\x02",
    ] {
        let error = decode(Encoding::MsgPack, &frame(bad)).expect_err("not allowed");
        assert_eq!(error.reference, Some(7), "{bad:x?}");
    }
    // A key of the frame itself that is no text.
    assert_eq!(decode(Encoding::MsgPack, b"\x82\xa3ref\x07\x01\x02").expect_err("not allowed").reference, Some(7));
}

#[test]
fn broken_messagepack_is_refused_without_a_ref() {
    for bad in [
        b"".as_slice(),
        b"\xc1",
        b"\x81",
        b"\x82\xa3ref\x07",
        b"\x81\xa4typ",
        b"\x81\xa4type\xa4ping\x00",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1x\xdd\xff\xff\xff\xff\xc0",
        b"\x81\xa1x\xdb\xff\xff\xff\xff",
        b"\x81\xa1x\xc6\xff\xff\xff\xff",
        b"\x81\xa1x\xc9\xff\xff\xff\xff",
        b"\x90",
        b"\x01",
    ] {
        assert_eq!(decode(Encoding::MsgPack, bad).expect_err("broken").reference, None, "{bad:x?}");
    }
    let bomb = [b"\x81\xa1x".as_slice(), &[0x91; 60_000]].concat();
    assert!(decode(Encoding::MsgPack, &bomb).is_err());
    let deep = [b"\x82\xa4type\xa4ping\xa1x".as_slice(), &[0x91; 60_000], b"\xc0"].concat();
    assert_eq!(decode(Encoding::MsgPack, &deep).expect("deep but ignored").request, Request::Ping);
}

#[test]
fn integers_come_in_every_width() {
    for value in [
        b"\x07".as_slice(),
        b"\xcc\x07",
        b"\xcd\x00\x07",
        b"\xce\x00\x00\x00\x07",
        b"\xcf\x00\x00\x00\x00\x00\x00\x00\x07",
        b"\xd0\x07",
        b"\xd1\x00\x07",
        b"\xd2\x00\x00\x00\x07",
        b"\xd3\x00\x00\x00\x00\x00\x00\x00\x07",
        b"\xca\x40\xe0\x00\x00",
        b"\xcb\x40\x1c\x00\x00\x00\x00\x00\x00",
    ] {
        let frame = [b"\x82\xa4type\xa4ping\xa3ref".as_slice(), value].concat();
        assert_eq!(decode(Encoding::MsgPack, &frame).expect("good").reference, Some(7), "{value:x?}");
    }
    for value in [
        b"\xff".as_slice(),
        b"\xd0\x80",
        b"\xcb\x40\x1c\x00\x00\x00\x00\x00\x01",
        b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01",
    ] {
        let frame = [b"\x82\xa4type\xa4ping\xa3ref".as_slice(), value].concat();
        assert!(decode(Encoding::MsgPack, &frame).is_err(), "{value:x?}");
    }
}

#[test]
fn messagepack_data_becomes_compact_json() {
    let send = |data: &[u8]| {
        let frame =
            [b"\x85\xa4type\xa4send\xa4room\xa5lobby\xa2id\xa11\xa4text\xa1a\xa4data".as_slice(), data].concat();
        match decode(Encoding::MsgPack, &frame).expect("good").request {
            Request::Send { data, .. } => data.expect("given").as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send(b"\xc0"), "null");
    assert_eq!(
        send(b"\x82\xa1b\x93\xc3\xe0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1a\xa3\"\0\n"),
        r#"{"b":[true,-32,1.5],"a":"\"\u0000\n"}"#
    );
    assert_eq!(send(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    assert_eq!(send(b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808");
    assert_eq!(send(b"\x82\xa1a\x01\xa1a\x02"), r#"{"a":1,"a":2}"#);
}
