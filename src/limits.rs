//! Fixed bounds of the contract and of the server's own queues. Settings (`config::Limits`) tune some; the rest is here,
//! so that ARCHITECTURE.md's sum of memory can be read off one place.

/// Unicode scalar values of a message's text.
pub const TEXT_CHARS: usize = 4_000;
/// Unicode scalar values of a user's or room's name.
pub const NAME_CHARS: usize = 100;
/// Unicode scalar values of a room's topic.
pub const TOPIC_CHARS: usize = 1_000;
/// Unicode scalar values of a report's reason and of a moderator's note.
pub const NOTE_CHARS: usize = 1_000;
/// Unicode scalar values of a reaction.
pub const EMOJI_CHARS: usize = 32;
/// Unicode scalar values of a password.
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=200;
/// Users that a message calls; the ones behind them are text like any other.
pub const MENTIONS: usize = 50;
/// Kinds of reactions that history shows of one message: the most frequent.
pub const REACTIONS_SHOWN: usize = 50;
/// Compact UTF-8 bytes of a message's `data`.
pub const DATA_BYTES: usize = 4_096;
/// Nesting of a message's `data`; a scalar has depth 0.
pub const DATA_DEPTH: usize = 32;
/// Largest `ref`, `seq` and the like on the wire: what a JavaScript number holds exactly.
pub const WIRE_INTEGER_MAX: u64 = 1 << 53;
/// Entries of one page of history.
pub const PAGE_MAX: u32 = 200;
/// Entries of a page of history where none is asked for.
pub const PAGE_DEFAULT: u32 = 50;
/// Users named in presence; above, `online` alone.
pub const PRESENCE_NAMED: usize = 200;

/// Bytes of memory a room's ring of recent entries takes at most (see [`ring_entry_bytes`]), on the owner and on every
/// mirror.
pub const RING_BYTES: usize = 256 * 1024;
/// Entries a room's ring holds at most.
pub const RING_ENTRIES: usize = 1_024;

/// Bytes of memory that an entry of `json_bytes` takes in a ring, about: its JSON, the same once more as parts (ids, text,
/// data), and what is around them. Measured with mimalloc: 979 bytes of an entry of 239 (texts of 100).
pub fn ring_entry_bytes(json_bytes: usize) -> usize {
    2 * json_bytes + 500
}

/// Entries an owner loads into its ring when it opens a room.
pub const RING_PRELOAD: u32 = 128;
/// Requests a room on one node holds at most (queued, in flight or waiting for an owner).
pub const ROOM_REQUESTS: usize = 16_384;
/// Bytes of requests a room on one node holds at most.
pub const ROOM_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Items of one room in one group commit.
pub const APPEND_ITEMS: usize = 512;
/// Items of one group commit over all rooms.
pub const COMMIT_ITEMS: usize = 2_048;
/// Bytes of one frame on the bus, about.
pub const BUS_FRAME_BYTES: usize = 512 * 1024;
/// Bytes waiting for one other node on the bus.
pub const LINK_BYTES: usize = 32 * 1024 * 1024;
/// How long a request may wait for its room before it is answered `unavailable`.
pub const REQUEST_DEADLINE_MS: i64 = 5_000;
