//! What a client says. Fields stand in the order of the wire, `type` and `ref` first.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One frame of a client. `r#ref` comes back with the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    Hello {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
    },
    Refresh {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        token: String,
    },
    Subscribe {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
    },
    Unsubscribe {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
    },
    Join {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
    },
    Leave {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
    },
    Send {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        id: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::present")]
        data: Option<Value>,
    },
    Edit {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        target: u64,
        text: String,
    },
    Delete {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        target: u64,
    },
    React {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        target: u64,
        emoji: String,
        active: bool,
    },
    Typing {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        active: bool,
    },
    Read {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        seq: u64,
    },
    History {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
        room: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    Ping {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#ref: Option<u64>,
    },
}

impl ClientFrame {
    /// The same with this `ref`.
    #[must_use]
    pub fn with_ref(mut self, number: u64) -> Self {
        match &mut self {
            Self::Hello { r#ref, .. }
            | Self::Refresh { r#ref, .. }
            | Self::Subscribe { r#ref, .. }
            | Self::Unsubscribe { r#ref, .. }
            | Self::Join { r#ref, .. }
            | Self::Leave { r#ref, .. }
            | Self::Send { r#ref, .. }
            | Self::Edit { r#ref, .. }
            | Self::Delete { r#ref, .. }
            | Self::React { r#ref, .. }
            | Self::Typing { r#ref, .. }
            | Self::Read { r#ref, .. }
            | Self::History { r#ref, .. }
            | Self::Ping { r#ref } => *r#ref = Some(number),
        }
        self
    }

    /// Follows `room` from behind `after`, with the `last` so many entries, or from its head.
    pub fn subscribe(room: &str, after: Option<u64>, last: Option<u64>) -> Self {
        Self::Subscribe { r#ref: None, room: room.to_owned(), after, last }
    }

    pub fn unsubscribe(room: &str) -> Self {
        Self::Unsubscribe { r#ref: None, room: room.to_owned() }
    }

    pub fn history(room: &str, before: Option<u64>, after: Option<u64>, limit: Option<u64>) -> Self {
        Self::History { r#ref: None, room: room.to_owned(), before, after, limit }
    }
}
