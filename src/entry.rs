//! The log's data model: entries, rooms and roles. Pure data, shared by every layer.
//!
//! Invariant: `seq`, `user`, `at`, the kind and a message's `id` never change after the commit; `text` and `data` may
//! be erased (`None`), and a message shows its latest text where it is read again.

use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::ids::{MessageId, Millis, RoomId, Seq, UserId};

/// Free JSON that travels with a message: compact UTF-8, kept as given (numbers to the digit).
#[derive(Clone, Debug)]
pub struct Data(Arc<RawValue>);

impl Data {
    /// `json` must be compact and valid; `protocol::data` makes it so at the edge, the store gives back what it got.
    ///
    /// # Errors
    /// When `json` is not valid JSON.
    pub fn from_compact(json: String) -> Result<Self, serde_json::Error> {
        Ok(Self(Arc::from(RawValue::from_string(json)?)))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Data {}

impl Serialize for Data {
    /// JSON gets the text as it is; between nodes it travels as a text, so that digits and the order of keys survive.
    /// (The MessagePack that clients get is made from the JSON, by `protocol`.)
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_str())
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Ok(Self(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
        } else {
            Self::from_compact(String::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// Where the field is there it is data, null among them.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Data>, D::Error> {
    Data::deserialize(deserializer).map(Some)
}

/// The kinds of entries, as [`Entry::kind`] names them.
pub const KINDS: [&str; 5] = ["message", "edit", "delete", "reaction", "room"];

/// One entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: Seq,
    pub user: UserId,
    pub at: Millis,
    pub body: Body,
}

/// What an entry says, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Message(Message),
    /// `text` is `None` once the target was deleted.
    Edit {
        target: Seq,
        text: Option<String>,
    },
    Delete {
        target: Seq,
    },
    Reaction {
        target: Seq,
        emoji: String,
        active: bool,
    },
    /// A change of the room's own settings: what changed, and only that.
    Room(RoomPatch),
}

/// A message; `text: None` means erased (`deleted: true` on the wire).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub text: Option<String>,
    pub reply_to: Option<Seq>,
    pub data: Option<Data>,
    pub edited_at: Option<Millis>,
}

/// Fields of a room that an owner or moderator may change; `None`: unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Seconds between two messages of one member; 0: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_mode_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

impl RoomPatch {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Entry {
    /// The name of the entry's kind on the wire and in the store.
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::Message(_) => "message",
            Body::Edit { .. } => "edit",
            Body::Delete { .. } => "delete",
            Body::Reaction { .. } => "reaction",
            Body::Room(_) => "room",
        }
    }
}

const RFC3339_MS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// RFC 3339 UTC with milliseconds, as every `at` on the wire.
pub fn rfc3339(at: Millis) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(RFC3339_MS)
        .unwrap_or_default()
}

/// The reverse of [`rfc3339`]; `None` where the text has another form.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    let parsed = PrimitiveDateTime::parse(text, RFC3339_MS).ok()?;
    Some((parsed.assume_utc().unix_timestamp_nanos() / 1_000_000) as Millis)
}

impl Serialize for Entry {
    /// The wire form of the contract, a map: `seq, kind, user, at` and then the fields of the kind.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // MessagePack writes a map's length first, so it is counted beforehand.
        let extra = match &self.body {
            Body::Message(m) => {
                2 + usize::from(m.reply_to.is_some())
                    + usize::from(m.data.is_some() && m.text.is_some())
                    + usize::from(m.edited_at.is_some())
            }
            Body::Edit { text, .. } => 1 + usize::from(text.is_some()),
            Body::Delete { .. } => 1,
            Body::Reaction { .. } => 3,
            Body::Room(p) => {
                usize::from(p.name.is_some())
                    + usize::from(p.topic.is_some())
                    + usize::from(p.slow_mode_s.is_some())
                    + usize::from(p.archived.is_some())
            }
        };
        let mut map = serializer.serialize_map(Some(4 + extra))?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("kind", self.kind())?;
        map.serialize_entry("user", &self.user)?;
        map.serialize_entry("at", &rfc3339(self.at))?;
        match &self.body {
            Body::Message(m) => {
                map.serialize_entry("id", &m.id)?;
                match &m.text {
                    Some(text) => map.serialize_entry("text", text)?,
                    None => map.serialize_entry("deleted", &true)?,
                }
                if let Some(reply_to) = m.reply_to {
                    map.serialize_entry("reply_to", &reply_to)?;
                }
                if let (Some(data), true) = (&m.data, m.text.is_some()) {
                    map.serialize_entry("data", data)?;
                }
                if let Some(at) = m.edited_at {
                    map.serialize_entry("edited_at", &rfc3339(at))?;
                }
            }
            Body::Edit { target, text } => {
                map.serialize_entry("target", target)?;
                if let Some(text) = text {
                    map.serialize_entry("text", text)?;
                }
            }
            Body::Delete { target } => map.serialize_entry("target", target)?,
            Body::Reaction { target, emoji, active } => {
                map.serialize_entry("target", target)?;
                map.serialize_entry("emoji", emoji)?;
                map.serialize_entry("active", active)?;
            }
            Body::Room(patch) => {
                if let Some(name) = &patch.name {
                    map.serialize_entry("name", name)?;
                }
                if let Some(topic) = &patch.topic {
                    map.serialize_entry("topic", topic)?;
                }
                if let Some(slow_mode_s) = patch.slow_mode_s {
                    map.serialize_entry("slow_mode_s", &slow_mode_s)?;
                }
                if let Some(archived) = patch.archived {
                    map.serialize_entry("archived", &archived)?;
                }
            }
        }
        map.end()
    }
}

/// Every field an entry of any kind may have; turned into an [`Entry`] by its `kind`.
#[derive(Deserialize)]
struct WireEntry {
    seq: Seq,
    kind: String,
    user: UserId,
    at: String,
    id: Option<MessageId>,
    text: Option<String>,
    reply_to: Option<Seq>,
    #[serde(default, deserialize_with = "given")]
    data: Option<Data>,
    edited_at: Option<String>,
    target: Option<Seq>,
    emoji: Option<String>,
    active: Option<bool>,
    #[serde(flatten)]
    patch: RoomPatch,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireEntry::deserialize(deserializer)?;
        let instant = |text: &str| parse_rfc3339(text).ok_or_else(|| D::Error::custom("at: not RFC 3339 with ms"));
        let target = || wire.target.ok_or_else(|| D::Error::missing_field("target"));
        let body = match wire.kind.as_str() {
            "message" => Body::Message(Message {
                id: wire.id.ok_or_else(|| D::Error::missing_field("id"))?,
                text: wire.text,
                reply_to: wire.reply_to,
                data: wire.data,
                edited_at: wire.edited_at.as_deref().map(instant).transpose()?,
            }),
            "edit" => Body::Edit { target: target()?, text: wire.text },
            "delete" => Body::Delete { target: target()? },
            "reaction" => Body::Reaction {
                target: target()?,
                emoji: wire.emoji.ok_or_else(|| D::Error::missing_field("emoji"))?,
                active: wire.active.ok_or_else(|| D::Error::missing_field("active"))?,
            },
            "room" => Body::Room(wire.patch),
            _ => return Err(D::Error::custom("kind: unknown")),
        };
        Ok(Self { seq: wire.seq, user: wire.user, at: instant(&wire.at)?, body })
    }
}

/// What a member may do. Stored and sent by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Moderator,
    Member,
    /// Reads, but writes nothing.
    Muted,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Moderator => "moderator",
            Self::Member => "member",
            Self::Muted => "muted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Owner, Self::Moderator, Self::Member, Self::Muted].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who may find and read a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    Public,
    Private,
    /// A private room of exactly two, made by `POST direct`.
    Direct,
}

impl RoomKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Direct => "direct",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Public, Self::Private, Self::Direct].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A room's own record, without its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    pub name: Option<String>,
    pub topic: Option<String>,
    pub slow_mode_s: u32,
    pub archived: bool,
    /// Of the newest entry; 0: none yet.
    pub head: Seq,
}

impl Room {
    /// What of `patch` would change anything.
    pub fn effective(&self, patch: &RoomPatch) -> RoomPatch {
        RoomPatch {
            name: patch.name.clone().filter(|name| self.name.as_ref() != Some(name)),
            topic: patch.topic.clone().filter(|topic| self.topic.as_ref() != Some(topic)),
            slow_mode_s: patch.slow_mode_s.filter(|&s| s != self.slow_mode_s),
            archived: patch.archived.filter(|&archived| archived != self.archived),
        }
    }

    pub fn apply(&mut self, patch: &RoomPatch) {
        if let Some(name) = &patch.name {
            self.name = Some(name.clone());
        }
        if let Some(topic) = &patch.topic {
            self.topic = Some(topic.clone());
        }
        self.slow_mode_s = patch.slow_mode_s.unwrap_or(self.slow_mode_s);
        self.archived = patch.archived.unwrap_or(self.archived);
    }
}
