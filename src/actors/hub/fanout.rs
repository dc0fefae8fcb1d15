//! A run of entries on its way to many readers: cut into frames once per encoding, each frame made once per way of
//! sending it and then only shared.
//!
//! Invariant: a frame holds consecutive entries and at most `frame_bytes` of payload, or one entry.

use std::sync::Arc;

use bytes::Bytes;

use crate::actors::frame::{Framing, Payload, Wire};
use crate::actors::messages::LogEntry;
use crate::ids::{RoomId, Seq};
use crate::protocol::{self, Encoding};

/// Consecutive entries for the readers of one room on one thread.
pub struct Run<'a> {
    room: &'a RoomId,
    entries: &'a [Arc<LogEntry>],
    frame_bytes: usize,
    json: Option<Vec<Piece>>,
    msgpack: Option<Vec<Piece>>,
}

/// One `events` frame.
pub struct Piece {
    pub first: Seq,
    pub last: Seq,
    payload: Payload,
}

impl Piece {
    pub fn frame(&mut self, framing: Framing) -> Bytes {
        self.payload.frame(framing)
    }
}

impl<'a> Run<'a> {
    /// `entries` must be consecutive.
    pub fn new(room: &'a RoomId, entries: &'a [Arc<LogEntry>], frame_bytes: usize) -> Self {
        Self { room, entries, frame_bytes, json: None, msgpack: None }
    }

    /// The first and last `seq`; `None` for no entries.
    pub fn bounds(&self) -> Option<(Seq, Seq)> {
        Some((self.entries.first()?.entry.seq, self.entries.last()?.entry.seq))
    }

    /// The frames for connections of this encoding.
    pub fn pieces(&mut self, wire: Wire) -> &mut [Piece] {
        let (room, entries, frame_bytes) = (self.room, self.entries, self.frame_bytes);
        let made = match wire.encoding {
            Encoding::Json => &mut self.json,
            Encoding::MsgPack => &mut self.msgpack,
        };
        made.get_or_insert_with(|| cut(wire.encoding, room, entries, frame_bytes))
    }

    /// The entries from `next` on, for the rare cursor that stands within a frame.
    pub fn rest(&self, next: Seq) -> Run<'a> {
        let start = self.entries.partition_point(|entry| entry.entry.seq < next);
        Self::new(self.room, &self.entries[start..], self.frame_bytes)
    }
}

fn encoded(encoding: Encoding, entry: &LogEntry) -> &[u8] {
    match encoding {
        Encoding::Json => &entry.json,
        Encoding::MsgPack => entry.msgpack(|_| protocol::transcode_entry(&entry.json)),
    }
}

fn cut(encoding: Encoding, room: &RoomId, entries: &[Arc<LogEntry>], frame_bytes: usize) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(1);
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let mut count = 0;
        for entry in rest {
            bytes += encoded(encoding, entry).len();
            if count > 0 && bytes + protocol::events_overhead(encoding, room, count + 1) > frame_bytes {
                break;
            }
            count += 1;
        }
        let (now, later) = rest.split_at(count);
        let payload = protocol::events(encoding, room, now.iter().map(|entry| encoded(encoding, entry)));
        pieces.push(Piece {
            first: now[0].entry.seq,
            last: now[count - 1].entry.seq,
            payload: Payload::new(encoding, &payload),
        });
        rest = later;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Body, Entry};
    use crate::ids::UserId;

    fn log(count: u64) -> Vec<Arc<LogEntry>> {
        (1..=count)
            .map(|seq| {
                let user = UserId::parse("alice").expect("a valid id");
                let entry = Entry { seq, user, at: 0, body: Body::Delete { target: seq } };
                let json = protocol::encode_entry(Encoding::Json, &entry);
                Arc::new(LogEntry::new(entry, json))
            })
            .collect()
    }

    #[test]
    fn frames_are_consecutive_and_within_the_limit() {
        let room = RoomId::parse("lobby").expect("a valid id");
        let entries = log(100);
        for encoding in Encoding::ALL {
            let wire = Wire { encoding, framing: Framing::Plain };
            let mut run = Run::new(&room, &entries, 1_000);
            assert_eq!(run.bounds(), Some((1, 100)));
            let mut next = 1;
            let count = run.pieces(wire).len();
            assert!(count > 1);
            for piece in run.pieces(wire) {
                assert_eq!(piece.first, next);
                assert!(piece.frame(Framing::Plain).len() <= 1_000 + 4);
                next = piece.last + 1;
            }
            assert_eq!(next, 101);
            assert_eq!(run.rest(98).pieces(wire)[0].first, 98);
            assert_eq!(Run::new(&room, &entries[..3], 1).pieces(wire).len(), 3, "one entry always fits");
        }
    }
}
