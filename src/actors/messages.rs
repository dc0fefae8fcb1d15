//! Every message that passes between actors, in one place. Actors hold `Recipient`s of these, never each other's `Addr`.
//!
//! `do_send` ignores a mailbox's capacity, so each edge that carries client traffic has a credit of its own, written
//! beside its message: nothing here can grow without a bound.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix::{Message, Recipient};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::actors::envelope::{Envelope, PeerMessage};
use crate::actors::stream_id::Proof;
use crate::domain::command::{Caller, Command, Eviction, Hint, Reply, Signal};
use crate::domain::revoked::Revoked;
use crate::domain::trace::TraceContext;
use crate::entry::Entry;
use crate::ids::{NodeId, RoomId, Seq, ShardId, UserId};
use crate::ports::{Appended, NodeRecord, NodeState, RoomAppend, StoreError};
use crate::refusal::Refusal;

// ------------------------------------------------------------------------------------------------- session ↔ room

/// Which worker thread's hub, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HubIndex(pub u16);

/// A session within its hub: slot and generation, never reused while an answer may be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    pub hub: HubIndex,
    pub slot: u32,
    pub generation: u32,
}

/// As log lines have it.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.hub.0, self.slot, self.generation)
    }
}

/// Where the answer to a request goes.
#[derive(Debug)]
pub enum Origin {
    /// To a session, by its hub; `corr` is the session's own number for the request.
    Session { key: SessionKey, corr: u32 },
    /// To a waiting HTTP call.
    Call(oneshot::Sender<Result<Reply, Refusal>>),
    /// To a mirror on another node: its stream's number of the request.
    Peer { node: NodeId, stream: u64, n: u64 },
}

/// To a room on this node, from hubs (sessions, HTTP) on this node. Credit: a session's inflight window, an HTTP
/// worker's own limit; one `Fetch` a hub, room and position.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToRoom {
    /// Answered exactly once through `origin`, unless the room is lost.
    Ask { origin: Origin, caller: Caller, command: Command },
    /// Not answered.
    Signal { caller: Caller, signal: Signal },
    /// A cursor (or several at the same place) needs the entries behind `after`; answered with [`ToHub::Fetched`].
    Fetch { hub: HubIndex, after: Seq, max_bytes: usize },
    /// A subscription is over: exactly one for each `Admitted` to an `Admit {subscribe: true}`, whatever ended it (the
    /// client, the session's end before or after the answer, a second subscribe, an `Evict`).
    Unsubscribed { hub: HubIndex, caller: Caller },
    /// The store has this entry, so the log goes at least so far, whatever the room knows.
    Behind { head: Seq },
    /// Answer to [`ToHub::Release`]: whether this hub let go of its handle.
    Released { hub: HubIndex, token: u64, released: bool },
}

/// An entry with its encodings, made once and shared by everyone it goes to.
#[derive(Debug)]
pub struct LogEntry {
    pub entry: Entry,
    /// The entry as a JSON object.
    pub json: Bytes,
    msgpack: OnceLock<Bytes>,
}

impl LogEntry {
    /// `json` must be the encoding of `entry`.
    pub fn new(entry: Entry, json: Bytes) -> Self {
        Self { entry, json, msgpack: OnceLock::new() }
    }

    /// The entry as a MessagePack map, by `encode` the first time.
    pub fn msgpack(&self, encode: impl FnOnce(&Entry) -> Bytes) -> &Bytes {
        self.msgpack.get_or_init(|| encode(&self.entry))
    }
}

/// What a client posted to its stream. Credit: one a call of the HTTP API, and `actors::posts`' own between nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    pub proof: Proof,
    /// 1, 2, 3, … in the stream.
    pub n: u64,
    /// JSON, one frame each.
    pub frames: Vec<String>,
}

/// One answer to a session's request.
#[derive(Debug)]
pub struct Answer {
    pub key: SessionKey,
    pub corr: u32,
    pub result: Result<Reply, Refusal>,
}

/// To the hub of a worker thread. From one room they arrive in the order of its log: an `Admitted` with head `h` comes
/// before anything that was committed after `h`. Credit: one `Deliver` a commit and hub, answers to requests in flight.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToHub {
    /// The router's answer to [`Lookup`].
    Handle {
        room: RoomId,
        handle: Recipient<ToRoom>,
    },
    Answers {
        room: RoomId,
        answers: Vec<Answer>,
    },
    /// Consecutive entries, just committed.
    Deliver {
        room: RoomId,
        entries: Arc<[Arc<LogEntry>]>,
    },
    /// The log goes up to `head`, but these entries are not at hand: cursors must fetch.
    Advance {
        room: RoomId,
        head: Seq,
    },
    /// Answer to [`ToRoom::Fetch`]: entries from `after + 1` on (none: the cursor is at the head); `None`: the store could
    /// not be read, try again later. `head` as the room knows it.
    Fetched {
        room: RoomId,
        after: Seq,
        entries: Option<Vec<Arc<LogEntry>>>,
        head: Seq,
    },
    Hint {
        room: RoomId,
        hint: Hint,
    },
    /// Ends this user's (`None`: everybody's) subscriptions to the room; each is answered with `Unsubscribed`.
    Evict {
        room: RoomId,
        user: Option<UserId>,
        why: Eviction,
    },
    /// The room is idle and would like to stop: let go of the handle if nothing uses it; answered with
    /// [`ToRoom::Released`] to `reply`, which nobody keeps.
    Release {
        room: RoomId,
        token: u64,
        reply: Recipient<ToRoom>,
    },
    /// The sessions on this thread that stand on it close; `at`: when it was revoked, or a little before.
    Revoked {
        revoked: Revoked,
        at: Instant,
    },
    /// To a stream: frames of its client, answered through `call` once its session has them.
    Post {
        key: SessionKey,
        post: Post,
        call: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Tell a few sessions to go: other nodes have room.
    LetGo {
        count: usize,
    },
    /// Tell every session to go, in a spread over `over_ms`.
    Drain {
        over_ms: u64,
    },
}

// --------------------------------------------------------------------------------------------------------- router

/// Asks the router for a room's handle; answered with [`ToHub::Handle`], always. Credit: one a hub and room.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Lookup {
    pub hub: HubIndex,
    pub room: RoomId,
}

/// From the cluster: what changed in the shard table, as this node sees it. A shard is this node's to serve from when
/// this names it until this, or [`ReleaseShards`], takes it away.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct OwnersChanged {
    pub changes: Vec<(ShardId, Option<NodeId>)>,
}

/// From the cluster: nodes that are gone (their users leave every room, links to them close).
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NodesLost {
    pub nodes: Vec<NodeId>,
}

/// From the cluster: fence the rooms of these shards and let their appends in flight finish; then [`ShardsReleased`].
/// The rooms hold what comes in until [`OwnersChanged`] names the next owner.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ReleaseShards {
    pub shards: Vec<ShardId>,
}

/// To the router: something was revoked at `at`, or a little later, as far as this node is concerned.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RevokedHere {
    pub revoked: Revoked,
    pub at: Instant,
}

// -------------------------------------------------------------------------------------------------------- cluster

/// To the cluster: these shards of [`ReleaseShards`] have no room that writes any more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ShardsReleased {
    pub shards: Vec<ShardId>,
}

/// To the cluster, from the bus.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum BusNews {
    /// A publish to this node's inbox met nobody.
    NobodyAt(NodeId),
    TableChanged,
    Reconnected,
}

/// To the cluster: hand everything over and take nothing; answered when no shard is left here (or nobody can take them).
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct DrainShards;

/// To the cluster: end this node's lease and take no part any more; answered when that is done or has failed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LeaveCluster;

/// To the cluster: its part of `GET /cluster` and of readiness.
#[derive(Clone, Debug, Message)]
#[rtype(result = "ClusterStatus")]
pub struct Describe;

#[derive(Clone, Debug, actix::MessageResponse)]
pub struct ClusterStatus {
    pub node: NodeId,
    pub state: NodeState,
    /// Every node seen lately.
    pub nodes: Vec<KnownNode>,
    /// One owner or nobody a shard, in shard order.
    pub owners: Vec<Option<NodeId>>,
    /// Whether this node's lease lives by its own clock.
    pub leased: bool,
    /// When the nodes' records were last read; `None`: never.
    pub heard: Option<Instant>,
}

/// A node as another one, or itself, knows it.
#[derive(Clone, Debug)]
pub struct KnownNode {
    pub record: NodeRecord,
    /// With a living lease; else lost, less than a minute ago.
    pub alive: bool,
    /// Since when it is so, as far as the one who tells this saw it.
    pub since: Instant,
}

// ------------------------------------------------------------------------------------------------------------ bus

/// To the bus: an encoded envelope for another node, see `actors::bus`. Credit: `limits::LINK_BYTES` a link; what does
/// not fit is dropped and the link's number skips, so that the receiver notices.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ToNode {
    pub node: NodeId,
    pub envelope: Bytes,
}

/// To the router, from the bus: what another node sent, in the order of its link.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FromNode {
    pub node: NodeId,
    pub envelopes: Vec<Envelope>,
}

/// To the router, from the bus: something that `node` (`None`: any node) sent here was lost, or may have been.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LinkBroken {
    pub node: Option<NodeId>,
}

// ------------------------------------------------------------------------------------------------- router ↔ room

/// To a room, from the router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum RoomControl {
    /// Who is to own the room's shard now, as far as this node knows.
    Owner(Option<NodeId>),
    /// Stop writing: finish the append under way, say [`RoomNews::Fenced`], hold what comes in.
    Release,
    /// A node is gone, with its mirror and its users.
    NodeLost(NodeId),
    /// Something from that node (`None`: any) may be lost.
    LinkBroken(Option<NodeId>),
    Peer {
        from: NodeId,
        message: PeerMessage,
    },
    /// A person was erased: nothing of theirs may be shown from memory, and no membership of theirs counts.
    Forget(UserId),
    /// Answer to [`RoomNews::Idle`]: how often the room was handed out so far.
    HandedOut(u64),
    /// Answer to [`RoomNews::Stopping`]: nobody can have a handle, stop now (or else: stay).
    Stop(bool),
}

/// To the router, from a room.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum RoomNews {
    /// Nothing of this room is being written here any more, after [`RoomControl::Release`].
    Fenced(RoomId),
    /// The room has nothing to do and would like to stop.
    Idle(RoomId),
    /// Every hub let go of the handle; stop if it was not handed out since it was `handed_out` times.
    Stopping { room: RoomId, handed_out: u64 },
}

// -------------------------------------------------------------------------------------------------- persistence

/// To the persistence actor. Credit: one a room.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Append {
    pub append: RoomAppend,
    /// The requests in it that are traced.
    pub traced: Vec<TraceContext>,
    pub reply: Recipient<AppendDone>,
}

/// Answer to [`Append`], always, within a bounded time.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AppendDone(pub Result<Appended, StoreError>);

/// To the persistence actor: written behind, coalesced by reader and room.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ReadMark {
    pub room: RoomId,
    pub user: UserId,
    pub seq: Seq,
}

/// To the persistence actor: answered when everything accepted so far is written (or can't be).
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Flush;
