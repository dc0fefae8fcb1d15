//! Frames of log entries. An entry is encoded once per encoding; a frame of entries is a header and their bytes in a row.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::{Encoding, transcode};
use crate::entry::{Entry, Shown};
use crate::ids::RoomId;

/// One entry in the form in which [`events`] takes it.
pub fn encode_entry(encoding: Encoding, entry: &Entry) -> Bytes {
    let json = json_of(entry);
    match encoding {
        Encoding::Json => Bytes::from(json),
        Encoding::MsgPack => transcode::to_msgpack(&json),
    }
}

/// The MessagePack form of an entry, from its JSON form.
pub fn transcode_entry(json: &[u8]) -> Bytes {
    transcode::to_msgpack(json)
}

fn json_of(entry: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(entry).expect("maps with text keys into memory can't fail")
}

/// The frame `events` of entries that [`encode_entry`] made in the same encoding; at least one.
pub fn events<'a, I>(encoding: Encoding, room: &RoomId, entries: I) -> Bytes
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: ExactSizeIterator + Clone,
{
    let entries = entries.into_iter();
    let bytes: usize = entries.clone().map(<[u8]>::len).sum();
    let mut frame = BytesMut::with_capacity(events_overhead(encoding, room, entries.len()) + bytes);
    match encoding {
        Encoding::Json => {
            frame.put_slice(JSON_ROOM);
            frame.put_slice(room.as_str().as_bytes());
            frame.put_slice(JSON_EVENTS);
            put_joined(&mut frame, entries);
            frame.put_slice(b"]}");
        }
        Encoding::MsgPack => {
            frame.put_slice(MSGPACK_ROOM);
            transcode::put_str(&mut frame, room.as_str());
            transcode::put_str(&mut frame, "events");
            transcode::put_array(&mut frame, entries.len());
            for entry in entries {
                frame.put_slice(entry);
            }
        }
    }
    frame.freeze()
}

/// Bytes of the frame [`events`] besides those of its `n` entries.
pub fn events_overhead(encoding: Encoding, room: &RoomId, n: usize) -> usize {
    match encoding {
        Encoding::Json => JSON_ROOM.len() + room.as_str().len() + JSON_EVENTS.len() + n.saturating_sub(1) + 2,
        Encoding::MsgPack => {
            MSGPACK_ROOM.len()
                + transcode::str_header(room.as_str().len())
                + room.as_str().len()
                + 7
                + transcode::array_header(n)
        }
    }
}

const JSON_ROOM: &[u8] = br#"{"type":"events","room":""#;
const JSON_EVENTS: &[u8] = br#"","events":["#;
/// A map of three; `type: events`; the key `room`.
const MSGPACK_ROOM: &[u8] = b"\x83\xa4type\xa6events\xa4room";

/// The frame `history`, which answers a request. `entries` are in rising `seq`.
pub fn history(encoding: Encoding, room: &RoomId, entries: &[Shown], more: bool, reference: Option<u64>) -> Bytes {
    let entries: Vec<Vec<u8>> = entries.iter().map(json_of).collect();
    let mut frame = BytesMut::with_capacity(160 + entries.iter().map(|entry| entry.len() + 1).sum::<usize>());
    frame.put_slice(br#"{"type":"history","#);
    if let Some(reference) = reference {
        frame.put_slice(format!(r#""ref":{reference},"#).as_bytes());
    }
    frame.put_slice(br#""room":""#);
    frame.put_slice(room.as_str().as_bytes());
    frame.put_slice(JSON_EVENTS);
    put_joined(&mut frame, entries.iter().map(Vec::as_slice));
    frame.put_slice(if more { br#"],"more":true}"# } else { br#"],"more":false}"# });
    match encoding {
        Encoding::Json => frame.freeze(),
        Encoding::MsgPack => transcode::to_msgpack(&frame),
    }
}

fn put_joined<'a>(frame: &mut BytesMut, entries: impl Iterator<Item = &'a [u8]>) {
    for (i, entry) in entries.enumerate() {
        if i > 0 {
            frame.put_u8(b',');
        }
        frame.put_slice(entry);
    }
}
