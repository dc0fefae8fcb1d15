//! The two seams to the outside: the store that makes entries durable and the bus that joins nodes. Each has two
//! implementations in `infra/` and one conformance suite in `tests/` that both must pass.
//!
//! The store's methods stand in one trait a topic; [`MessageStore`] is all of them.
//!
//! Invariants: the store alone numbers entries; it refuses an append whose epoch is not the room's newest; what it
//! acknowledged it never forgets. The bus may lose, and after a reconnect repeat, anything; nothing durable depends on it.

mod attachments;
mod audit;
mod backups;
mod bus;
mod credentials;
mod encryption;
mod expiry;
mod history;
mod invitations;
mod jobs;
mod moderation;
mod news;
mod oidc;
mod past;
mod pins;
mod privacy;
mod search;
mod webhooks;

use std::collections::HashMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::attachments::{Attachment, AttachmentStore, Bounds, Kept};
pub use self::audit::{AuditStore, Audited};
pub use self::backups::BackupStore;
pub use self::bus::{BusError, BusEvent, ClusterBus, ClusterView, NodeRecord, NodeState};
pub use self::credentials::{
    Credential, CredentialId, CredentialStore, Device, Keep, Kind, Login, NEVER, NewCredential, Revocations, RevokedAt,
    SecretHash,
};
pub use self::encryption::{EncryptionLeft, EncryptionStore};
pub use self::expiry::ExpiryStore;
pub use self::history::{HistoryStore, Thread};
pub use self::invitations::{Invitation, InvitationStore, Invited};
pub use self::jobs::JobStore;
pub use self::moderation::{Closed, ModerationStore, Report, ReportQuery, Reported};
pub use self::news::{News, Noted};
pub use self::oidc::{OidcStore, Subject};
pub use self::past::{PastStore, Revision};
pub use self::pins::{Pin, PinStore, Pinned};
pub use self::privacy::{CutOff, Erasing, OwnMessage, OwnReaction, OwnReport, OwnRoom, Place, PrivacyStore, Standing};
pub use self::search::{Match, Matches, Search, SearchStore, Swept};
pub use self::webhooks::{
    Changed, DEAD_MAX, DeadLetter, Delivery, HOOKS_MAX, Made, NewWebhook, Settled, SweepPlace, Webhook, WebhookPatch,
    WebhookStore,
};
pub use crate::domain::append::{AppendItem, Change, Outcome};
use crate::entry::{Entry, Role, Room};
use crate::ids::{Epoch, RoomId, Seq, UserId};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    pub id: UserId,
    pub name: Option<String>,
}

/// Where an account's proof of identity comes from; the kinds of account are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    Password,
    Jwt,
    Oidc,
}

/// A room in somebody's list.
#[derive(Clone, Debug)]
pub struct MyRoom {
    pub room: Room,
    pub role: Role,
    pub read_seq: Seq,
    /// Messages of others after `read_seq`, deleted ones among them.
    pub unread: u64,
    /// Those of them that call the user, or everybody; not the deleted ones.
    pub mentions: u64,
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
pub trait MessageStore:
    AttachmentStore
    + AuditStore
    + CredentialStore
    + EncryptionStore
    + ExpiryStore
    + HistoryStore
    + InvitationStore
    + JobStore
    + BackupStore
    + ModerationStore
    + OidcStore
    + PastStore
    + PinStore
    + PrivacyStore
    + SearchStore
    + WebhookStore
    + Send
    + Sync
    + 'static
{
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
}
