//! What must hold for any bytes, any text and any entry.

use proptest::prelude::*;

use super::*;
use crate::entry::{Body, Data, Entry, Mentions, Message, RoomPatch};
use crate::ids::{MessageId, UserId};

/// Any JSON value, as text.
fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (-1e9..1e9_f64).prop_map(|n| serde_json::to_string(&n).expect("finite")),
        any::<String>().prop_map(|s| serde_json::to_string(&s).expect("a string")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((any::<String>(), inner), 0..5).prop_map(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| format!("{}: {value}", serde_json::to_string(&key).expect("a string")));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(",\n"))
            }),
        ]
    })
}

fn mentions() -> impl Strategy<Value = Mentions> {
    let users = prop::collection::vec("[a-z]{1,8}", 0..3);
    let users = users.prop_map(|users| users.iter().map(|id| UserId::parse(id).expect("a valid id")).collect());
    (users, any::<bool>()).prop_map(|(users, room)| Mentions::new(users, room))
}

fn entry() -> impl Strategy<Value = Entry> {
    let text = prop::option::of(any::<String>());
    let body =
        prop_oneof![
            (
                "[ -~é😀]{1,64}",
                text.clone(),
                any::<Option<u64>>(),
                prop::option::of(json_value()),
                any::<Option<u32>>(),
                mentions()
            )
                .prop_map(|(id, text, reply_to, data, edited, mentions)| {
                    let data = data.map(|data| {
                        let value: serde_json::Value = serde_json::from_str(&data).expect("valid");
                        Data::from_compact(value.to_string()).expect("valid")
                    });
                    Body::Message(Message {
                        id: MessageId::parse(&id).expect("a valid id"),
                        data: data.filter(|_| text.is_some()),
                        text,
                        reply_to,
                        edited_at: edited.map(i64::from),
                        mentions,
                    })
                }),
            (any::<u64>(), text, mentions()).prop_map(|(target, text, mentions)| Body::Edit { target, text, mentions }),
            any::<u64>().prop_map(|target| Body::Delete { target }),
            (any::<u64>(), any::<String>(), any::<bool>()).prop_map(|(target, emoji, active)| Body::Reaction {
                target,
                emoji,
                active
            }),
            (
                prop::option::of(any::<String>()),
                prop::option::of(any::<String>()),
                any::<Option<u32>>(),
                any::<Option<bool>>(),
                any::<Option<u32>>(),
                any::<Option<bool>>()
            )
                .prop_map(|(name, topic, slow_mode_s, archived, ttl_s, edit_history)| Body::Room(
                    RoomPatch { name, topic, slow_mode_s, archived, ttl_s, edit_history }
                )),
        ];
    (any::<u64>(), 0..4_102_444_800_000_i64, body).prop_map(|(seq, at, body)| Entry {
        seq,
        user: UserId::parse("alice").expect("a valid id"),
        at,
        body,
    })
}

/// Bytes near to frames: pieces of good ones, cut, joined and disturbed.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let good = br#"{"type":"send","ref":12,"room":"lobby","id":"m1","text":"hi \u00e9\ud83d\ude00","reply_to":3,"data":{"a":[1,2.5,null]}}"#;
    let packed = transcode::to_msgpack(good).to_vec();
    let piece = prop_oneof![
        (0..good.len(), 0..good.len()).prop_map(move |(a, b)| good[a.min(b)..a.max(b)].to_vec()),
        (0..packed.len(), 0..packed.len()).prop_map(move |(a, b)| packed[a.min(b)..a.max(b)].to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
        Just(good.to_vec()),
    ];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly_frames()]) {
        for encoding in Encoding::ALL {
            if let Err(error) = decode(encoding, &bytes) {
                prop_assert_eq!(error.refusal.code, crate::refusal::Code::BadRequest);
                prop_assert!(error.refusal.message.len() < 400);
            }
        }
    }
}

proptest! {
    #[test]
    fn entries_are_the_same_after_a_round_trip_and_in_both_encodings(entry in entry()) {
        let json = encode_entry(Encoding::Json, &entry);
        let back: Entry = serde_json::from_slice(&json).expect("an entry");
        prop_assert_eq!(&back, &entry);
        let packed = encode_entry(Encoding::MsgPack, &entry);
        prop_assert_eq!(&packed, &transcode_entry(&json));
        // Whole numbers of data that have the form of doubles are the one place where the two may look different.
        let value: serde_json::Value = serde_json::from_slice(&json).expect("valid JSON");
        prop_assert_eq!(super::wire::read_msgpack(&packed), value);
    }

    #[test]
    fn entries_survive_the_bus(entry in entry()) {
        let bytes = rmp_serde::to_vec_named(&entry).expect("encoded");
        prop_assert_eq!(rmp_serde::from_slice::<Entry>(&bytes).expect("an entry"), entry);
    }

    #[test]
    fn data_means_the_same_whichever_way_it_came(value in json_value()) {
        let frame = format!(r#"{{"type":"send","room":"a","id":"1","text":"t","data":{value}}}"#);
        let data = |encoding, frame: &[u8]| match decode(encoding, frame) {
            Ok(ClientFrame { request: Request::Send { data, .. }, .. }) => data,
            _ => None,
        };
        let from_json = data(Encoding::Json, frame.as_bytes());
        let from_msgpack = data(Encoding::MsgPack, &transcode::to_msgpack(frame.as_bytes()));
        prop_assert_eq!(from_json.is_some(), from_msgpack.is_some());
        if let (Some(a), Some(b)) = (from_json, from_msgpack) {
            let given: serde_json::Value = serde_json::from_str(&value).expect("valid");
            let a: serde_json::Value = serde_json::from_str(a.as_str()).expect("valid");
            let b: serde_json::Value = serde_json::from_str(b.as_str()).expect("valid");
            prop_assert_eq!(&a, &given);
            prop_assert_eq!(&b, &given);
        }
    }
}
