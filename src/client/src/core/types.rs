//! What goes into the core and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::closing::Ending;
use crate::error::Error;
use crate::frames::{ClientFrame, Entry, History, Notice, Presence, Read, Sent, Subscribed, Typing, User};

/// What a core is told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many addresses there are; another one is tried after each failure.
    pub addresses: usize,
    pub token: Option<String>,
    /// Whether there is somebody to ask for a token ([`Output::WantToken`]).
    pub token_source: bool,
    /// Whose client this is, where it is known.
    pub user: Option<String>,
    /// The application's name and version, for the server's log.
    pub client: String,
    pub transport: Transports,
    /// Keep messages that the server refused in the outbox, for `retry` and `discard`.
    pub keep_failed: bool,
    pub bounds: Bounds,
    pub patience: Patience,
}

/// What may carry a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// WebSocket, and events over HTTP where that is blocked (and the crate has the feature `http`).
    #[default]
    Auto,
    WebSocket,
    Stream,
}

/// What carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    /// Server-sent events and posts.
    Stream,
}

/// What may wait at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Unsent messages, and their bytes; `outbox_full` beyond.
    pub outbox_messages: usize,
    pub outbox_bytes: usize,
    /// Entries of a room that the application has not taken; the cursor pauses beyond (by up to one frame).
    pub queued_entries: usize,
    /// Requests besides messages; `queue_full` beyond.
    pub requests: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { outbox_messages: 1000, outbox_bytes: 4 << 20, queued_entries: 10_000, requests: 1000 }
    }
}

/// How long to wait before a connection counts as broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub connect: Duration,
    pub pong: Duration,
    pub answer: Duration,
    /// For a read (`history`) as a whole, reconnects included; then it fails with `timeout`.
    pub read: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { connect: s(10), pong: s(10), answer: s(30), read: s(60) }
    }
}

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenReason {
    /// The first connection.
    Connect,
    /// The server says that the token ends within a minute.
    Expiring,
    /// It ended.
    Expired,
    /// The server refused it.
    Rejected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    Idle,
    Connecting,
    Online,
    /// For the next attempt, see `retry_in`.
    Waiting,
    /// Needs a new token: `set_token`, or `connect` where a source gives one.
    Unauthorized,
    /// By `close`, or the server does not want it back: see `error`.
    Closed,
}

/// How the connection is.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub phase: Phase,
    /// Of the present connection.
    pub transport: Option<Transport>,
    pub node: Option<String>,
    /// The node said that it is about to stop; the client moves by itself.
    pub draining: bool,
    /// Round trip to the server, from the last heartbeat; or how long the present one waits already, where that is more.
    pub lag: Option<Duration>,
    /// The lag is over 1.5 s.
    pub slow: bool,
    /// Rooms that are not up to date yet.
    pub catching_up: usize,
    /// Attempts that failed since the last connection.
    pub attempt: u32,
    /// How long the wait before the next attempt was when it began.
    pub retry_in: Option<Duration>,
    /// Why the last connection or attempt ended.
    pub error: Option<Error>,
}

/// How a room's subscription is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Not subscribed.
    #[default]
    Idle,
    /// For a connection, or for the answer.
    Waiting,
    /// Entries up to the head are on their way.
    CatchingUp,
    Live,
    /// The application is slow: nothing more is fetched until it has taken half of what waits.
    Paused,
}

/// What is known of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomState {
    pub status: Status,
    /// The last entry that the application has taken.
    pub seq: u64,
    /// The highest `seq` that is known of.
    pub head: u64,
    /// None: not a member.
    pub role: Option<String>,
    pub online: u64,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    after: Option<u64>,
    last: Option<u64>,
    fill: bool,
}

impl Subscribe {
    /// From now on.
    pub fn from_now() -> Self {
        Self::default()
    }

    /// Behind what was handled before.
    pub fn after(seq: u64) -> Self {
        Self { after: Some(seq), ..Self::default() }
    }

    /// With so many of the newest entries.
    pub fn last(count: u64) -> Self {
        Self { last: Some(count), ..Self::default() }
    }

    /// After a reset, read what is missing from the history instead of leaving it out.
    #[must_use]
    pub fn filled(self) -> Self {
        Self { fill: true, ..self }
    }

    pub(super) fn parts(self) -> (Option<u64>, Option<u64>, bool) {
        (self.after, self.last, self.fill)
    }
}

/// What a subscription tells, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The next entry of the log.
    Entry(Box<Entry>),
    /// The cursor could not go on from where it was: entries behind `from` up to `head` are not told.
    Reset { from: u64, head: u64 },
}

/// A request that waits for its answer; numbers are whoever asks' own.
pub type Ticket = u64;

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Online(User),
    Subscribed(Subscribed),
    Sent(Sent),
    /// Of `edit`, `delete`, `react`: the entry's seq, none where nothing changed. Of `join`: the role.
    Ok {
        seq: Option<u64>,
        role: Option<String>,
    },
    History(History),
    Pong(Duration),
    Done,
}

/// What can be done in a room besides sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Edit { target: u64, text: String },
    Delete { target: u64 },
    React { target: u64, emoji: String, active: bool },
    Join,
    Leave,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub room: String,
    /// Unique per room and sender, for ever.
    pub id: String,
    pub text: String,
    pub reply_to: Option<u64>,
    pub data: Option<Value>,
    /// When it was given, in milliseconds of the wall's clock, for people.
    pub at_ms: u64,
}

/// A message that is not sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxItem {
    pub draft: Draft,
    pub state: OutboxState,
    /// Why it failed, or why it has to wait.
    pub error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// For its turn or a connection.
    Waiting,
    /// Asked, not answered.
    Sending,
    /// Refused, and kept for `retry` or `discard`.
    Failed,
}

/// What became of a message in the outbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Added,
    Updated,
    Sent(Sent),
    Failed,
    Discarded,
}

/// A message as a storage keeps it; named by user, room and id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMessage {
    pub user: String,
    pub room: String,
    pub id: String,
    /// The order in which they were given.
    pub n: u64,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    pub at_ms: u64,
    /// Code and message of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<(String, String)>,
}

/// What an application may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A connection is there. `resumed`: not the first one.
    Online {
        user: User,
        node: String,
        resumed: bool,
    },
    Offline {
        error: Error,
    },
    Notice(Notice),
    /// Time jumped: the machine slept, the process stood still, or the clock was set.
    Woke,
    /// `resumed`: again, after a reconnect or a pause.
    Subscribed(Subscribed),
    /// A subscription ended for good: `kicked`, `banned`, `deleted`, `left`, or the code of a refusal.
    Unsubscribed {
        room: String,
        code: String,
    },
    Presence(Presence),
    Typing(Typing),
    Read(Read),
    Outbox {
        item: Box<OutboxItem>,
        change: Change,
    },
    /// The storage failed: from now on messages wait in memory, and do not outlive the process.
    Volatile {
        why: String,
    },
}

/// What the core wants done, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a connection to the address of that place; what is known by `connection` before is over.
    Open {
        connection: u64,
        address: usize,
        transport: Transport,
        token: Option<String>,
    },
    Write {
        connection: u64,
        frame: ClientFrame,
    },
    /// End it; nothing needs to be said of it any more.
    Close {
        connection: u64,
    },
    /// Ask for a token; the answer comes by `token` with the same number.
    WantToken {
        attempt: u64,
        why: TokenReason,
    },
    /// Read the unsent messages of that user from the storage, and answer by `loaded`.
    Load {
        user: String,
    },
    Put(StoredMessage),
    Remove {
        user: String,
        room: String,
        id: String,
    },
    /// What a request came to.
    Done {
        ticket: Ticket,
        result: Result<Answer, Error>,
    },
    State(State),
    Room {
        room: String,
        state: RoomState,
    },
    /// For the application, which says by `taken` how many it is done with. `restart`: what it has not taken yet is void.
    Told {
        room: String,
        told: Vec<Told>,
    },
    /// What the application has not taken of that room is void: it subscribed anew.
    Void {
        room: String,
    },
    /// The subscription ended: after what was told nothing comes.
    End {
        room: String,
    },
    Event(Event),
}

impl From<&Ending> for Error {
    fn from(ending: &Ending) -> Self {
        let reason = if ending.reason.is_empty() {
            format!("the connection ended with {}", ending.code)
        } else {
            ending.reason.clone()
        };
        let mut error = Self::new(crate::error::Code::Network, reason);
        error.close_code = Some(ending.code);
        error.status = ending.status;
        error.retry_after = ending.retry_after;
        error
    }
}
