//! What the server says, apart from log entries.
//!
//! Field names and their absence follow the contract: what is optional is left out; `role`, `seq` and a user's `name`
//! alone may be null.

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Encoding, transcode};
use crate::entry::{Role, rfc3339};
use crate::ids::{MessageId, Millis, NodeId, RoomId, Seq, UserId};
use crate::refusal::Refusal;

/// A frame to a client. Frames of log entries are made by [`super::events`] and [`super::history`], from encoded entries.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    Welcome {
        user: UserId,
        /// Null where the user has none.
        name: Option<String>,
        session: String,
        node: NodeId,
        /// Name and version of the server.
        server: String,
        heartbeat_s: u64,
        jitter_ms: u64,
        backoff_max_ms: u64,
        limits: WelcomeLimits,
    },
    Ok(Accepted),
    Subscribed {
        room: RoomId,
        head: Seq,
        verdict: Verdict,
        role: Option<Role>,
        online: u32,
    },
    Sent {
        room: RoomId,
        id: MessageId,
        seq: Seq,
        at: Millis,
        duplicate: bool,
    },
    Pong {
        at: Millis,
    },
    Presence {
        room: RoomId,
        online: u32,
        /// Both left out above `limits::PRESENCE_NAMED` online (`None`).
        changed: Option<(Vec<UserId>, Vec<UserId>)>,
    },
    Typing {
        room: RoomId,
        users: Vec<UserId>,
    },
    Read {
        room: RoomId,
        user: UserId,
        seq: Seq,
    },
    Unsubscribed {
        room: RoomId,
        /// kicked, banned, left or deleted.
        code: &'static str,
    },
    Notice {
        code: &'static str,
        message: String,
        reconnect_after_ms: Option<u64>,
    },
    Error(Refusal),
}

/// What `ok` tells besides that it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// To `unsubscribe` and `leave`.
    Done,
    /// To `join`.
    Role(Option<Role>),
    /// To `edit`, `delete` and `react`; null where nothing changed.
    Seq(Option<Seq>),
    /// To `refresh`. `None`, the field left out: the token has no end.
    ExpiresAt(Option<Millis>),
}

/// What a subscriber learns about what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was missed.
    Live,
    /// Entries up to `head` follow, then live ones.
    Replay,
    /// The cursor starts at `head`; load `history`.
    Reset,
}

/// `limits` of `welcome`; the names are those of the settings and of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WelcomeLimits {
    pub frame_bytes: u64,
    pub text_chars: u64,
    pub data_bytes: u64,
    pub inflight: u64,
    pub subscriptions: u64,
    pub replay: u64,
    pub messages_per_minute: u64,
    pub messages_burst: u64,
}

/// One frame's payload, without the WebSocket header. `reference`: the request's `ref`, where this answers one.
pub fn encode(encoding: Encoding, frame: &ServerFrame, reference: Option<u64>) -> Bytes {
    let json = serde_json::to_vec(&Outgoing { frame, reference }).expect("maps with text keys into memory can't fail");
    match encoding {
        Encoding::Json => Bytes::from(json),
        Encoding::MsgPack => transcode::to_msgpack(&json),
    }
}

struct Outgoing<'a> {
    frame: &'a ServerFrame,
    reference: Option<u64>,
}

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.frame.kind())?;
        if let Some(reference) = self.reference {
            map.serialize_entry("ref", &reference)?;
        }
        self.frame.fields(&mut map)?;
        map.end()
    }
}

impl ServerFrame {
    /// The frame's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::Ok(_) => "ok",
            Self::Subscribed { .. } => "subscribed",
            Self::Sent { .. } => "sent",
            Self::Pong { .. } => "pong",
            Self::Presence { .. } => "presence",
            Self::Typing { .. } => "typing",
            Self::Read { .. } => "read",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Notice { .. } => "notice",
            Self::Error(_) => "error",
        }
    }

    fn fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Welcome { user, name, session, node, server, heartbeat_s, jitter_ms, backoff_max_ms, limits } => {
                map.serialize_entry("user", &Person { id: user, name: name.as_deref() })?;
                map.serialize_entry("session", session)?;
                map.serialize_entry("node", node)?;
                map.serialize_entry("server", server)?;
                map.serialize_entry("heartbeat_s", heartbeat_s)?;
                let reconnect = Reconnect { jitter_ms: *jitter_ms, backoff_max_ms: *backoff_max_ms };
                map.serialize_entry("reconnect", &reconnect)?;
                map.serialize_entry("limits", limits)
            }
            Self::Ok(Accepted::Done | Accepted::ExpiresAt(None)) => Ok(()),
            Self::Ok(Accepted::Role(role)) => map.serialize_entry("role", role),
            Self::Ok(Accepted::Seq(seq)) => map.serialize_entry("seq", seq),
            Self::Ok(Accepted::ExpiresAt(Some(at))) => map.serialize_entry("expires_at", &rfc3339(*at)),
            Self::Subscribed { room, head, verdict, role, online } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("head", head)?;
                map.serialize_entry("verdict", verdict)?;
                map.serialize_entry("role", role)?;
                map.serialize_entry("online", online)
            }
            Self::Sent { room, id, seq, at, duplicate } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("id", id)?;
                map.serialize_entry("seq", seq)?;
                map.serialize_entry("at", &rfc3339(*at))?;
                map.serialize_entry("duplicate", duplicate)
            }
            Self::Pong { at } => map.serialize_entry("at", &rfc3339(*at)),
            Self::Presence { room, online, changed } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("online", online)?;
                if let Some((joined, left)) = changed {
                    map.serialize_entry("joined", joined)?;
                    map.serialize_entry("left", left)?;
                }
                Ok(())
            }
            Self::Typing { room, users } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("users", users)
            }
            Self::Read { room, user, seq } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("user", user)?;
                map.serialize_entry("seq", seq)
            }
            Self::Unsubscribed { room, code } => {
                map.serialize_entry("room", room)?;
                map.serialize_entry("code", code)
            }
            Self::Notice { code, message, reconnect_after_ms } => {
                map.serialize_entry("code", code)?;
                map.serialize_entry("message", message)?;
                if let Some(ms) = reconnect_after_ms {
                    map.serialize_entry("reconnect_after_ms", ms)?;
                }
                Ok(())
            }
            Self::Error(refusal) => {
                map.serialize_entry("code", &refusal.code)?;
                map.serialize_entry("message", &refusal.message)?;
                map.serialize_entry("retryable", &refusal.code.retryable())?;
                if let Some(ms) = refusal.retry_after_ms {
                    map.serialize_entry("retry_after_ms", &ms)?;
                }
                Ok(())
            }
        }
    }
}

#[derive(Serialize)]
struct Person<'a> {
    id: &'a UserId,
    /// Null where they have none, as over HTTP.
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Reconnect {
    jitter_ms: u64,
    backoff_max_ms: u64,
}
