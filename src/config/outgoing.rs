//! What the server asks and tells others: the hook before a message is stored, and webhooks.

use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::types::{List, Network, Secret};
use crate::ids::RoomId;

/// Hooks of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    pub before_send: BeforeSend,
}

/// Every new text is shown to a server of the operator's before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeforeSend {
    /// Empty: no hook.
    pub url: HookUrl,
    /// Requests are signed with it, unless empty.
    pub secret: Secret,
    /// Read instead of it.
    pub secret_file: String,
    pub deadline_ms: u64,
    pub when_away: WhenAway,
    /// Only these rooms; empty: all.
    pub rooms: List<Room>,
    /// Questions under way at a time on a node.
    pub inflight: usize,
}

/// What happens to messages while the hook does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenAway {
    Allow,
    Refuse,
}

/// The id of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Room(pub RoomId);

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RoomId::parse(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

/// An http or https URL, or none (empty).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookUrl(pub Option<Url>);

impl FromStr for HookUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Self(Some(url))),
            _ => Err("empty, or a URL like https://moderation.example.org/check"),
        }
    }
}

impl<'de> Deserialize<'de> for HookUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for HookUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_ref().map_or("", Url::as_str))
    }
}

impl Default for BeforeSend {
    fn default() -> Self {
        Self {
            url: HookUrl::default(),
            secret: Secret::default(),
            secret_file: String::new(),
            deadline_ms: 500,
            when_away: WhenAway::Allow,
            rooms: List::default(),
            inflight: 256,
        }
    }
}

/// Deliveries of what was logged, to addresses that owners of rooms and admins name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Take http:// as well.
    pub allow_http: bool,
    /// Every address may be named, of private networks and of this machine too.
    pub allow_private: bool,
    /// These may, though they are private.
    pub allow_networks: List<Network>,
    /// How often a batch is tried.
    pub attempts: u32,
    /// The first wait after a failure; doubled each time, up to the next.
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// How long a receiver may take.
    pub timeout_ms: u64,
    /// Requests under way at a time on a node.
    pub inflight: usize,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private: false,
            allow_networks: List::default(),
            attempts: 36,
            backoff_ms: 1_000,
            backoff_max_ms: 3_600_000,
            timeout_ms: 10_000,
            inflight: 64,
        }
    }
}
