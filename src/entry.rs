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
use utoipa::ToSchema;

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
        mentions: Mentions,
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
    /// Of the present text; erased with it.
    pub mentions: Mentions,
}

/// Whom a text calls. Nearly every text calls nobody, which takes one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions(Option<Box<Called>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Called {
    users: Vec<UserId>,
    room: bool,
}

impl Mentions {
    /// `room`: everybody in the room.
    pub fn new(users: Vec<UserId>, room: bool) -> Self {
        Self((room || !users.is_empty()).then(|| Box::new(Called { users, room })))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Each once, in the order of the text.
    pub fn users(&self) -> &[UserId] {
        self.0.as_ref().map_or(&[], |called| &called.users)
    }

    pub fn room(&self) -> bool {
        self.0.as_ref().is_some_and(|called| called.room)
    }

    fn fields(&self) -> usize {
        usize::from(!self.users().is_empty()) + usize::from(self.room())
    }

    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if !self.users().is_empty() {
            map.serialize_entry("mentions", self.users())?;
        }
        if self.room() {
            map.serialize_entry("mentions_room", &true)?;
        }
        Ok(())
    }
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
    /// Seconds until a message disappears; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// Whether the texts that edits replace are kept for moderators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit_history: Option<bool>,
}

impl RoomPatch {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Entry {
    /// Takes text and data out; what is left keeps its place. False: it held none.
    pub fn erase(&mut self) -> bool {
        match &mut self.body {
            Body::Message(message) => {
                message.mentions = Mentions::default();
                message.text.take().is_some() | message.data.take().is_some()
            }
            Body::Edit { text, mentions, .. } => {
                *mentions = Mentions::default();
                text.take().is_some()
            }
            _ => false,
        }
    }

    /// As [`Self::erase`], for all that a person said: their reactions go as well. False: nothing of it was there.
    pub fn forget(&mut self) -> bool {
        match &mut self.body {
            Body::Reaction { emoji, active, .. } => {
                *active = false;
                !std::mem::take(emoji).is_empty()
            }
            _ => self.erase(),
        }
    }

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
                    + m.mentions.fields()
            }
            Body::Edit { text, mentions, .. } => 1 + usize::from(text.is_some()) + mentions.fields(),
            Body::Delete { .. } => 1,
            Body::Reaction { .. } => 3,
            Body::Room(p) => {
                usize::from(p.name.is_some())
                    + usize::from(p.topic.is_some())
                    + usize::from(p.slow_mode_s.is_some())
                    + usize::from(p.archived.is_some())
                    + usize::from(p.ttl_s.is_some())
                    + usize::from(p.edit_history.is_some())
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
                m.mentions.serialize_into(&mut map)?;
            }
            Body::Edit { target, text, mentions } => {
                map.serialize_entry("target", target)?;
                if let Some(text) = text {
                    map.serialize_entry("text", text)?;
                }
                mentions.serialize_into(&mut map)?;
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
                if let Some(ttl_s) = patch.ttl_s {
                    map.serialize_entry("ttl_s", &ttl_s)?;
                }
                if let Some(edit_history) = patch.edit_history {
                    map.serialize_entry("edit_history", &edit_history)?;
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
    #[serde(default)]
    mentions: Vec<UserId>,
    #[serde(default)]
    mentions_room: bool,
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
                mentions: Mentions::new(wire.mentions, wire.mentions_room),
            }),
            "edit" => Body::Edit {
                target: target()?,
                text: wire.text,
                mentions: Mentions::new(wire.mentions, wire.mentions_room),
            },
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

/// An entry on a page of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub entry: Entry,
    #[serde(flatten)]
    pub tally: Tally,
}

/// What others made of a message, as one person sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Messages of the thread that began with it.
    #[serde(skip_serializing_if = "is_zero")]
    pub replies: u64,
    /// The most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<ReactionCount>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A reaction that is set, by `count` people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: u64,
    /// Whether the one who looks is one of them.
    pub mine: bool,
}

/// What a member may do. Stored and sent by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    pub name: Option<String>,
    pub topic: Option<String>,
    pub slow_mode_s: u32,
    pub archived: bool,
    /// Seconds until a message disappears; 0: never.
    pub ttl_s: u32,
    /// Whether the texts that edits replace are kept for moderators.
    pub edit_history: bool,
    /// Of the newest entry; 0: none yet.
    #[schema(value_type = u64)]
    pub head: Seq,
    /// [`Expiry::before`]; nobody else's business.
    #[serde(skip)]
    pub expired_before: Millis,
    /// Whether its texts are encrypted in the store, and so not searched; nobody's business but the server's.
    #[serde(skip)]
    pub encrypted: bool,
}

/// Which messages of a room have disappeared. A message that has once expired stays so, whatever becomes of `ttl_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Seconds that a message lasts; 0: for ever.
    pub ttl_s: u32,
    /// Messages sent until then have expired, by a `ttl_s` that the room once had.
    pub before: Millis,
}

impl Expiry {
    /// Messages whose `at` is at or before this have expired at `now`; `None`: none have.
    pub fn cutoff(self, now: Millis) -> Option<Millis> {
        let by_age = if self.ttl_s > 0 { now - i64::from(self.ttl_s) * 1_000 } else { 0 };
        Some(by_age.max(self.before)).filter(|cutoff| *cutoff > 0)
    }

    /// Another `ttl_s` holds from `at` on; what has expired by then stays expired.
    pub fn change(&mut self, ttl_s: u32, at: Millis) {
        self.before = self.cutoff(at).unwrap_or(0);
        self.ttl_s = ttl_s;
    }
}

impl Room {
    /// An empty room with nothing set.
    pub fn new(id: RoomId, kind: RoomKind) -> Self {
        Self {
            id,
            kind,
            name: None,
            topic: None,
            slow_mode_s: 0,
            archived: false,
            ttl_s: 0,
            edit_history: false,
            head: 0,
            expired_before: 0,
            encrypted: false,
        }
    }

    pub fn expiry(&self) -> Expiry {
        Expiry { ttl_s: self.ttl_s, before: self.expired_before }
    }

    /// What of `patch` would change anything.
    pub fn effective(&self, patch: &RoomPatch) -> RoomPatch {
        RoomPatch {
            name: patch.name.clone().filter(|name| self.name.as_ref() != Some(name)),
            topic: patch.topic.clone().filter(|topic| self.topic.as_ref() != Some(topic)),
            slow_mode_s: patch.slow_mode_s.filter(|&s| s != self.slow_mode_s),
            archived: patch.archived.filter(|&archived| archived != self.archived),
            ttl_s: patch.ttl_s.filter(|&s| s != self.ttl_s),
            edit_history: patch.edit_history.filter(|&kept| kept != self.edit_history),
        }
    }

    /// `at`: when it was changed.
    pub fn apply(&mut self, patch: &RoomPatch, at: Millis) {
        if let Some(name) = &patch.name {
            self.name = Some(name.clone());
        }
        if let Some(topic) = &patch.topic {
            self.topic = Some(topic.clone());
        }
        self.slow_mode_s = patch.slow_mode_s.unwrap_or(self.slow_mode_s);
        self.archived = patch.archived.unwrap_or(self.archived);
        self.edit_history = patch.edit_history.unwrap_or(self.edit_history);
        if let Some(ttl_s) = patch.ttl_s {
            let mut expiry = self.expiry();
            expiry.change(ttl_s, at);
            (self.ttl_s, self.expired_before) = (expiry.ttl_s, expiry.before);
        }
    }
}
