//! What can be asked of a room and what it answers: the same for a session, an HTTP call and another node's mirror.

use serde::{Deserialize, Serialize};

use crate::domain::audit::Whence;
use crate::domain::trace::TraceContext;
use crate::entry::{Data, Role, RoomPatch};
use crate::ids::{MessageId, Millis, Seq, UserId};
use crate::refusal::Refusal;

/// Who asks, as authenticated at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub user: UserId,
    /// May do in every room what an owner may (a JWT's role `admin`).
    pub admin: bool,
    /// For the audit log; known of HTTP calls. Boxed, since every idle session has a caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Box<Whence>>,
}

/// A request to a room. Texts are normalised and checked for length before they become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Send {
        id: MessageId,
        text: String,
        reply_to: Option<Seq>,
        data: Option<Data>,
        /// The sender is over their rate: refuse with this `retry_after_ms` unless the message is a repeat.
        over_rate_ms: Option<u64>,
        /// It was found at the edge that it must not be stored: refuse with this unless the message is a repeat.
        refused: Option<Refusal>,
        /// Where it stands in a trace, if it is traced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<Box<TraceContext>>,
    },
    Edit {
        target: Seq,
        text: String,
    },
    Delete {
        target: Seq,
    },
    React {
        target: Seq,
        emoji: String,
        active: bool,
    },
    Patch(RoomPatch),
    DeleteRoom,
    Join,
    /// Become a member by what the caller holds, though the room may be private.
    Enter(Proof),
    Leave,
    SetRole {
        user: UserId,
        role: Role,
    },
    RemoveMember {
        user: UserId,
    },
    Ban {
        user: UserId,
    },
    Unban {
        user: UserId,
    },
    /// May the caller read? Takes its place in the order of requests, so that a read behind a send sees it. With
    /// `subscribe` the node's room starts to deliver to the asking hub, from the `head` in the answer on.
    Admit {
        subscribe: bool,
    },
}

/// Why somebody may come into a room that they are a stranger to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// They hold the token of an invitation; its SHA-256. The store has the last word, since it counts the uses.
    Invitation([u8; 32]),
    /// It is the room of the caller and this one.
    Pair(UserId),
}

impl Command {
    /// About how many bytes it holds while it waits, for the room's budget.
    pub fn weight(&self) -> usize {
        let text = match self {
            Self::Send { text, data, .. } => text.len() + data.as_ref().map_or(0, |data| data.as_str().len()),
            Self::Edit { text, .. } => text.len(),
            Self::React { emoji, .. } => emoji.len(),
            Self::Patch(patch) => patch.topic.as_ref().map_or(0, String::len),
            _ => 0,
        };
        256 + text
    }
}

/// A room's answer to a [`Command`] that was not refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Send`.
    Sent { seq: Seq, at: Millis, duplicate: bool },
    /// To `Edit`, `Delete`, `React` and `Patch`; `None` where nothing changed.
    Changed { seq: Option<Seq> },
    /// To `Join`, `Enter`, `Leave`, `SetRole`, `RemoveMember`, `Ban`, `Unban`, `DeleteRoom`: the role after it of whom it concerns.
    Member { role: Option<Role> },
    /// To `Admit`. `oldest`: of the oldest entry kept (`head + 1` where there is none). `online`: distinct users.
    Admitted { role: Option<Role>, head: Seq, oldest: Seq, online: u32 },
}

/// What a person does that others may like to see; latest value wins, may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    Typing {
        active: bool,
    },
    /// Also made durable for the reader.
    Read {
        seq: Seq,
    },
}

/// What the readers of a room are told besides its log; never logged, dropped first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hint {
    Presence { online: u32, joined: Vec<UserId>, left: Vec<UserId> },
    Typing { users: Vec<UserId> },
    Read { user: UserId, seq: Seq },
}

/// Why a subscription was ended by the room; `code` of the frame `unsubscribed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    Kicked,
    Banned,
    Left,
    Deleted,
}

impl Eviction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Banned => "banned",
            Self::Left => "left",
            Self::Deleted => "deleted",
        }
    }
}
