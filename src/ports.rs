//! The two seams to the outside: the store that makes entries durable and the bus that joins nodes. Each has two
//! implementations in `infra/` and one conformance suite in `tests/` that both must pass.
//!
//! Invariants: the store alone numbers entries; it refuses an append whose epoch is not the room's newest; what it
//! acknowledged it never forgets. The bus may lose, and after a reconnect repeat, anything; nothing durable depends on it.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::domain::append::{AppendItem, Change, Outcome};
use crate::entry::{Entry, Role, Room};
use crate::ids::{Epoch, Millis, NodeId, RoomId, Seq, ShardId, UserId};

// ---------------------------------------------------------------------------------------------------------- store

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Can't be reached, or the connection ended before the answer: whether it was done is unknown. Try again later.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// A fault that trying again will not mend; logged where it is handled.
    #[error("the store failed: {0}")]
    Fault(String),
}

/// The store's own number for a room: small, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomNo(pub i64);

/// What an owner needs to run a room, read in the transaction that raised the epoch.
#[derive(Clone, Debug)]
pub struct OpenedRoom {
    pub no: RoomNo,
    pub room: Room,
    pub epoch: Epoch,
    /// `seq` of the oldest entry kept; `head + 1` for an empty log, so 1 for a new room.
    pub oldest: Seq,
    pub members: HashMap<UserId, Role>,
    pub bans: Vec<UserId>,
    /// The newest entries in rising `seq`, in their present form, at most as many as asked for.
    pub recent: Vec<Entry>,
}

/// One room's part of a group commit; its items take effect in order, each seeing the ones before.
#[derive(Clone, Debug)]
pub struct RoomAppend {
    pub no: RoomNo,
    pub epoch: Epoch,
    pub items: Vec<AppendItem>,
}

impl RoomAppend {
    /// Whether it ends the room.
    pub fn deletes(&self) -> bool {
        matches!(self.items.last(), Some(AppendItem { change: Change::DeleteRoom, .. }))
    }
}

/// What became of one room's append. All or nothing per room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// One outcome an item.
    Done(Vec<Outcome>),
    /// The room has a newer epoch (another owner), or is gone: nothing was done.
    Fenced,
}

/// Which entries of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    /// Rising from the first entry with `seq > after`.
    After(Seq),
    /// The newest entries with `seq < before`, in rising order.
    Before(Seq),
    /// The newest entries, in rising order.
    Newest,
}

/// One page of a log in rising `seq`.
#[derive(Clone, Debug)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Whether there are more in the direction read.
    pub more: bool,
}

/// A person as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: Option<String>,
}

/// Where an account's proof of identity comes from; the two kinds of account are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    Password,
    Jwt,
}

/// A login's result; `secret_hash` is SHA-256 of the token, the token itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: User,
    /// Unix milliseconds.
    pub expires_at: Millis,
}

/// A room in somebody's list.
#[derive(Clone, Debug)]
pub struct MyRoom {
    pub room: Room,
    pub role: Role,
    pub read_seq: Seq,
    /// Messages of others after `read_seq`.
    pub unread: u64,
}

/// How creating something that must be unique went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// The id is taken, was once taken, or belongs to the other kind of account.
    Taken,
}

/// The durable side: PostgreSQL (`infra::postgres`) or SQLite (`infra::sqlite`).
///
/// Every method may be called from any thread and at any time; each is one transaction and is done or not done as a
/// whole. All return [`StoreError::Unavailable`] where the outcome is unknown.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// Brings the schema to this release's version, under a lock that other nodes respect. Gives the names of the
    /// migrations that were run.
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;

    // ---- logs

    /// Makes the caller the room's one writer: raises its epoch, so that appends with an older one are refused, and
    /// reads what an owner needs. `None`: there is no such room (never was, or deleted).
    async fn open_room(&self, room: &RoomId, recent: u32) -> Result<Option<OpenedRoom>, StoreError>;

    /// One transaction over all given rooms (each at most once); one result a room, in order. A fenced room does not
    /// hold back the others.
    async fn append(&self, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError>;

    /// One page of at most `limit` entries and about `max_bytes` of text and data (at least one entry), in present form.
    async fn page(&self, room: &RoomId, range: Range, limit: u32, max_bytes: usize) -> Result<Page, StoreError>;

    // ---- rooms and members (changes of an open room go through `append`)

    /// Makes a room with `owner` as its owner (for a direct room, both of `owner` and `other` as members).
    async fn create_room(&self, room: &Room, owner: &UserId, other: Option<&UserId>) -> Result<Created, StoreError>;

    async fn room(&self, room: &RoomId) -> Result<Option<Room>, StoreError>;

    /// `None`: not a member (or no such room).
    async fn role(&self, room: &RoomId, user: &UserId) -> Result<Option<Role>, StoreError>;

    /// Public rooms and the user's own, by id, after `cursor`; each with the user's role.
    async fn rooms(
        &self,
        user: &UserId,
        cursor: Option<&RoomId>,
        limit: u32,
    ) -> Result<Vec<(Room, Option<Role>)>, StoreError>;

    async fn my_rooms(&self, user: &UserId, cursor: Option<&RoomId>, limit: u32) -> Result<Vec<MyRoom>, StoreError>;

    async fn members(
        &self,
        room: &RoomId,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Role)>, StoreError>;

    async fn bans(&self, room: &RoomId, cursor: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError>;

    /// Raises read marks; one that is lower than the stored one changes nothing; one of a non-member is dropped.
    async fn raise_read_marks(&self, marks: &[(RoomId, UserId, Seq)]) -> Result<(), StoreError>;

    // ---- accounts

    /// `password_hash`: PHC string of argon2id.
    async fn create_account(&self, user: &User, password_hash: &str) -> Result<Created, StoreError>;

    /// The PHC string of a password account; `None` where there is no such one.
    async fn password_hash(&self, user: &UserId) -> Result<Option<(User, String)>, StoreError>;

    /// Makes sure that the user of a JWT exists; `name` updates the stored one where given. [`Created::Taken`]: the id
    /// belongs to a password account or was erased.
    async fn ensure_jwt_user(&self, user: &UserId, name: Option<&str>) -> Result<Created, StoreError>;

    async fn user(&self, user: &UserId) -> Result<Option<User>, StoreError>;

    /// False where there is no such user.
    async fn rename_user(&self, user: &UserId, name: &str) -> Result<bool, StoreError>;

    async fn create_login(&self, secret_hash: &[u8; 32], user: &UserId, expires_at: Millis) -> Result<(), StoreError>;

    /// `None`: unknown, revoked or expired at `now`.
    async fn login(&self, secret_hash: &[u8; 32], now: Millis) -> Result<Option<Login>, StoreError>;

    /// False where it was not there.
    async fn revoke_login(&self, secret_hash: &[u8; 32]) -> Result<bool, StoreError>;
}

// ------------------------------------------------------------------------------------------------------------ bus

/// Why the bus did not do it; all pass when it is back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus can't be reached: {0}")]
pub struct BusError(pub String);

/// What a node says of itself with each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    pub state: NodeState,
    pub sessions: u64,
    pub rooms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Starting,
    Ready,
    Draining,
}

/// What the cluster looks like, as read in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Nodes whose lease lives, the asking one included.
    pub nodes: Vec<NodeRecord>,
    /// Rises with every change of the shard table. A table that was emptied starts again at another value.
    pub version: u64,
    /// Of the table: another number means that it was emptied since (and that leases went with it).
    pub birth: u64,
    /// Whether the asking node's lease had run out (or was ended by `depose`) since its last beat: it owns nothing now.
    /// False when the table was emptied meanwhile: then nobody else had a chance to take what it owned.
    pub lapsed: bool,
}

/// What comes in from the bus.
#[derive(Clone, Debug)]
pub enum BusEvent {
    /// A frame that another node sent to this one.
    Frame(Bytes),
    /// The shard table changed (a hint: a beat tells the same, later).
    TableChanged,
    /// The subscription was made again after a break: anything may have been lost.
    Reconnected,
}

/// The coordination side: Redis (`infra::redis`) or, for a single node, loopback.
///
/// Shards belong to a node only as long as its lease lives; owners whose lease is gone count as nobody. Time is the
/// bus's own, so nodes need no common clock.
#[async_trait]
pub trait ClusterBus: Send + Sync + 'static {
    /// Starts this node's inbox; events come out of the receiver until the bus is dropped. Connects in the background
    /// and again after every break. Called once.
    fn inbox(&self, node: &NodeId) -> tokio::sync::mpsc::UnboundedReceiver<BusEvent>;

    /// Sends frames, each to one node, in order; all that are given go in one round trip. Gives for each how many inboxes took
    /// it (0: nobody listens there).
    async fn publish(&self, frames: &[(NodeId, Bytes)]) -> Result<Vec<u64>, BusError>;

    /// Renews the node's lease for `lease` and stores its record.
    async fn beat(&self, node: &NodeRecord, lease: Duration) -> Result<ClusterView, BusError>;

    /// The shard table: one owner or nobody a shard, in shard order, with its version. Owners without a living lease
    /// count as nobody.
    async fn table(&self) -> Result<(u64, Vec<Option<NodeId>>), BusError>;

    /// Takes those of `shards` that nobody owns (or an owner without a lease); gives the ones that are this node's now.
    /// Takes nothing for a node without a lease.
    async fn claim(&self, node: &NodeId, shards: &[ShardId]) -> Result<Vec<ShardId>, BusError>;

    /// Hands over own shards: each pair names the shard and who gets it. Pairs that are not `node`'s to give, or whose
    /// receiver has no lease, leave the shard free or with whoever has it.
    async fn give(&self, node: &NodeId, gifts: &[(ShardId, NodeId)]) -> Result<(), BusError>;

    /// Ends the lease of a node whose inbox nobody listens on; true where it was ended. A node that does listen keeps it.
    async fn depose(&self, node: &NodeId) -> Result<bool, BusError>;

    /// Ends one's own lease and frees what it still owns.
    async fn leave(&self, node: &NodeId) -> Result<(), BusError>;

    /// Whether the bus answers.
    async fn ping(&self) -> Result<(), BusError>;
}
