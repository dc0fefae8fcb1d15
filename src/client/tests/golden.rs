//! The golden frames of the protocol, which the server is held to as well: read and written in both encodings.

use std::path::Path;

use roundtable_client::frames::{ClientFrame, Encoding, Kind, ServerFrame, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

struct Golden {
    name: String,
    frame: Value,
    /// As it stands in the file.
    json: String,
    msgpack: Vec<u8>,
}

fn golden(prefix: &str) -> Vec<Golden> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut all = Vec::new();
    for file in std::fs::read_dir(dir).expect("the golden frames").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        let text = std::fs::read_to_string(file.path()).expect("a text");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let hex = value["msgpack"].as_str().expect("hexadecimal digits");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix("\"frame\": ")).expect("a line with the frame");
        all.push(Golden {
            name,
            frame: value["frame"].clone(),
            json: line.trim_end_matches(',').to_owned(),
            msgpack: (0..hex.len()).step_by(2).map(byte).collect(),
        });
    }
    assert!(all.len() >= 16, "only {} golden frames begin with {prefix}", all.len());
    all
}

/// The frame, read from both encodings.
fn read<T: DeserializeOwned + PartialEq + std::fmt::Debug>(golden: &Golden) -> T {
    let name = &golden.name;
    let json: T = decode(golden.json.as_bytes(), Encoding::Json).unwrap_or_else(|why| panic!("{name}: {why}"));
    let msgpack: T = decode(&golden.msgpack, Encoding::MessagePack).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(json, msgpack, "{name}");
    json
}

/// Nothing of the frame is lost between reading and writing.
fn keeps<T: Serialize>(golden: &Golden, frame: &T) {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let written = encode(frame, encoding).expect("bytes");
        let again: Value = decode(&written, encoding).expect("a value");
        assert_eq!(again, golden.frame, "{} as {encoding:?}", golden.name);
    }
}

#[test]
fn frames_of_clients_are_read_and_written_byte_for_byte() {
    for golden in golden("client-") {
        let frame: ClientFrame = read(&golden);
        keeps(&golden, &frame);
        let json = encode(&frame, Encoding::Json).expect("bytes");
        assert_eq!(String::from_utf8_lossy(&json), golden.json, "{}", golden.name);
        assert_eq!(encode(&frame, Encoding::MessagePack).expect("bytes"), golden.msgpack, "{}", golden.name);
    }
}

#[test]
fn frames_of_servers_are_read_whole() {
    for golden in golden("server-") {
        let frame: ServerFrame = read(&golden);
        assert_ne!(frame, ServerFrame::Unknown, "{}", golden.name);
        assert_eq!(frame.answers(), golden.frame["ref"].as_u64(), "{}", golden.name);
        keeps(&golden, &frame);
    }
}

#[test]
fn what_a_newer_server_says_is_read_over() {
    let frame = |json: &str| decode::<ServerFrame>(json.as_bytes(), Encoding::Json).expect("a frame");
    assert_eq!(frame(r#"{"type":"sparkle","ref":1,"what":[1]}"#), ServerFrame::Unknown);
    let events =
        r#"{"type":"events","room":"r","more":1,"events":[{"seq":1,"kind":"poll","user":"a","at":"x","votes":3}]}"#;
    let ServerFrame::Events { events, .. } = frame(events) else { panic!("no events") };
    assert_eq!((events[0].seq, &events[0].kind), (1, &Kind::Unknown));
}

#[test]
fn what_is_no_frame_is_an_error_in_words() {
    for bytes in [&b""[..], b"{", b"[]", b"{\"type\":5}", b"{\"type\":\"sent\"}", b"\xff"] {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            assert!(decode::<ServerFrame>(bytes, encoding).is_err(), "{bytes:?} as {encoding:?}");
        }
    }
}
