//! Identifiers: validated once where they enter, then cheap to copy and impossible to confuse.
//!
//! Invariant: a value of one of these types satisfies its rule (length and alphabet); decoding a frame, a path, a bus
//! envelope or a row goes through `parse`, so nothing behind the edge checks again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Position of an entry in its room's log: 1, 2, 3, … per room. 0 means "before the first".
pub type Seq = u64;

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = i64;

/// How many shards rooms are spread over. Fixed: changing it moves every room.
pub const SHARDS: u16 = 1024;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The rule in words, for error messages.
            pub const RULE: &'static str = $rule;

            /// Checks `text` against the rule.
            ///
            /// # Errors
            /// The rule in words, to be shown to whoever sent it.
            pub fn parse(text: &str) -> Result<Self, &'static str> {
                if $valid(text) { Ok(Self(Arc::from(text))) } else { Err($rule) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A person or bot. Case matters.
    UserId, "a user id is 1–64 of A–Z a–z 0–9 . _ -, starting with a letter or digit", valid_user
);
text_id!(
    /// A room.
    RoomId, "a room id is 1–64 of a–z 0–9 . _ -, starting with a letter or digit", valid_room
);
text_id!(
    /// The sender's own name for a message, unique per room and sender, compared exactly.
    MessageId, "a message id is 1–64 printable characters", valid_message
);
text_id!(
    /// One run of one server process: a restarted process is another node.
    NodeId, "a node id is 1–64 of A–Z a–z 0–9 . _ -, starting with a letter or digit", valid_user
);

text_id!(
    /// A file that belongs to a message.
    AttachmentId, "an attachment id is 32 of 0–9 a–f", valid_hash
);
text_id!(
    /// Where a file's bytes are: a random name.
    ObjectId, "an object id is 32 of 0–9 a–f", valid_hash
);

fn valid_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn valid_user(text: &str) -> bool {
    valid_name(text, |b| b.is_ascii_alphanumeric())
}

fn valid_room(text: &str) -> bool {
    valid_name(text, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn valid_name(text: &str, letter: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && letter(bytes[0])
        && bytes.iter().all(|&b| letter(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn valid_message(text: &str) -> bool {
    let count = text.chars().take(65).count();
    (1..=64).contains(&count) && !text.chars().any(char::is_control)
}

/// A slice of the rooms, the unit of ownership: `0..SHARDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard of a room; the same on every node and in every release.
    pub fn of(room: &RoomId) -> Self {
        Self((fnv1a(room.as_str().as_bytes()) % u64::from(SHARDS)) as u16)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

/// FNV-1a with a final mix (the public-domain hash by Fowler, Noll and Vo; mixing steps of SplitMix64): stable across
/// releases and platforms, which the standard library's hasher is not.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Raised in the store each time a room gets an owner; an append with an older one is refused there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_their_rules() {
        assert!(UserId::parse("Alice.b_c-9").is_ok());
        assert!(UserId::parse("").is_err());
        assert!(UserId::parse("-a").is_err());
        assert!(UserId::parse(&"a".repeat(65)).is_err());
        assert!(RoomId::parse("lobby").is_ok());
        assert!(RoomId::parse("Lobby").is_err());
        assert!(RoomId::parse("ロビー").is_err());
        assert!(MessageId::parse("é ロ 1").is_ok());
        assert!(MessageId::parse("a\u{0}").is_err());
        assert!(MessageId::parse(&"ロ".repeat(64)).is_ok());
        assert!(MessageId::parse(&"ロ".repeat(65)).is_err());
    }

    #[test]
    fn the_shard_of_a_room_never_changes() {
        let shard = |room: &str| ShardId::of(&RoomId::parse(room).expect("a valid id")).0;
        assert_eq!([shard("lobby"), shard("a"), shard("general")], [125, 248, 345]);
    }
}
