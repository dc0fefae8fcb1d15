//! What a server says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_false, present};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One frame of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    Welcome(Welcome),
    Subscribed(Subscribed),
    Sent(Sent),
    Ok(Ok),
    History(History),
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        at: String,
    },
    Events {
        room: String,
        events: Vec<Entry>,
    },
    Presence(Presence),
    Typing(Typing),
    Read(Read),
    Unsubscribed {
        room: String,
        code: String,
    },
    Notice(Notice),
    Error(Refusal),
    /// Of a server that is newer than this.
    #[serde(other)]
    Unknown,
}

impl ServerFrame {
    /// The `ref` of the request that this answers.
    pub fn answers(&self) -> Option<u64> {
        match self {
            Self::Welcome(Welcome { r#ref, .. })
            | Self::Subscribed(Subscribed { r#ref, .. })
            | Self::Sent(Sent { r#ref, .. })
            | Self::Ok(Ok { r#ref, .. })
            | Self::History(History { r#ref, .. })
            | Self::Pong { r#ref, .. }
            | Self::Error(Refusal { r#ref, .. }) => *r#ref,
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    pub user: User,
    pub session: String,
    pub node: String,
    pub server: String,
    pub heartbeat_s: u64,
    pub reconnect: Reconnect,
    pub limits: Limits,
}

/// How fast to come back after a connection that just broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnect {
    pub jitter_ms: u64,
    pub backoff_max_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub frame_bytes: u64,
    pub text_chars: u64,
    pub data_bytes: u64,
    pub inflight: u64,
    pub subscriptions: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_burst: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was missed.
    Live,
    /// Entries up to the head follow.
    Replay,
    /// The cursor starts at the head; what is between is in the history.
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    pub room: String,
    pub head: u64,
    pub verdict: Verdict,
    /// Null: not a member.
    pub role: Option<String>,
    pub online: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    pub room: String,
    pub id: String,
    pub seq: u64,
    pub at: String,
    pub duplicate: bool,
}

/// The answer to what has no other one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ok {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Null: nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub seq: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    pub room: String,
    /// In rising `seq`.
    pub events: Vec<Entry>,
    /// There are more in the direction that was asked for.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub room: String,
    pub online: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    pub room: String,
    pub users: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub room: String,
    pub user: String,
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_after_ms: Option<u64>,
}

/// An `error` frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<u64>,
    pub code: String,
    pub message: String,
    pub retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One entry of a room's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub user: String,
    pub at: String,
    #[serde(flatten)]
    pub kind: Kind,
}

impl Entry {
    /// Its text, where it is a message or an edit that has one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Message(message) => message.text.as_deref(),
            Kind::Edit { text, .. } => text.as_deref(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    Message(Message),
    Edit {
        target: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mentions: Vec<String>,
        #[serde(default, skip_serializing_if = "is_false")]
        mentions_room: bool,
    },
    Delete {
        target: u64,
    },
    Reaction {
        target: u64,
        emoji: String,
        active: bool,
    },
    Room(RoomChange),
    /// Of a server that is newer than this.
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    /// Absent where the message was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub data: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub mentions_room: bool,
    /// Only in histories: how many messages its thread has besides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replies: Option<u64>,
    /// Only in histories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
}

/// How many gave one emoji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub emoji: String,
    pub count: u64,
    pub mine: bool,
}

/// What of the room's settings changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_mode_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit_history: Option<bool>,
}
