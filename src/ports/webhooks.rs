//! Outgoing webhooks in the store: the hooks, a cursor a hook and room, and what was given up.
//!
//! A delivery is claimed for a while, done, and settled; a claim that is not settled in time is anybody's again. So any
//! node may deliver, one at a time a hook and room, and a node that dies in the middle costs a repeat. Times are by the
//! store's own clock.

use std::time::Duration;

use async_trait::async_trait;

use super::{RoomNo, StoreError};
use crate::ids::{Millis, RoomId, Seq, UserId};

/// Hooks of one room, and hooks for all rooms, at most.
pub const HOOKS_MAX: i64 = 20;
/// Batches of one hook that were given up and are kept; at the bound the hook is switched off, so nothing more is lost.
pub const DEAD_MAX: i64 = 1_000;

/// A hook as its owners see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub id: String,
    /// `None`: all rooms.
    pub room: Option<RoomId>,
    pub url: String,
    /// Names of kinds of entries; none: all.
    pub kinds: Vec<String>,
    pub active: bool,
    /// Why the server switched it off.
    pub off_reason: Option<String>,
    pub made_by: UserId,
    pub made_at: Millis,
    /// Every room that was there before it has its cursor.
    pub ready: bool,
}

/// What making a hook takes besides its [`Webhook`].
#[derive(Clone)]
pub struct NewWebhook {
    pub hook: Webhook,
    pub secret: String,
}

/// How making a hook went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    New(Webhook),
    /// There is one with this address for the same room.
    Known(Webhook),
    /// [`HOOKS_MAX`].
    TooMany,
    NoSuchRoom,
}

/// What to change of a hook; `None`: nothing.
#[derive(Clone, Default)]
pub struct WebhookPatch {
    pub url: Option<String>,
    pub kinds: Option<Vec<String>>,
    /// Switching on forgets why it was switched off.
    pub active: Option<bool>,
    /// A new secret, and for how long the old one signs as well.
    pub secret: Option<(String, Duration)>,
}

/// How a change went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done(Webhook),
    NoSuchHook,
    /// Another hook of the same room has this address.
    Taken,
}

/// A batch that was given up: a stretch of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub no: i64,
    /// `None`: the room is gone.
    pub room: Option<RoomId>,
    pub after: Seq,
    pub to: Seq,
    pub at: Millis,
    pub attempts: u32,
    pub reason: String,
    /// It is about to be tried again.
    pub waiting: bool,
}

/// Something to deliver, claimed by whoever holds this.
#[derive(Clone)]
pub struct Delivery {
    pub hook_no: i64,
    pub hook: String,
    pub url: String,
    /// The newest first.
    pub secrets: Vec<String>,
    pub kinds: Vec<String>,
    pub room_no: RoomNo,
    /// `None`: the room is gone.
    pub room: Option<RoomId>,
    /// Deliver what is behind it …
    pub after: Seq,
    /// … up to here, where it was tried before.
    pub to: Option<Seq>,
    /// How often it failed.
    pub attempts: u32,
    /// Names the claim.
    pub claim: i64,
    /// A batch that was given up and is tried once more.
    pub dead: Option<i64>,
}

/// What became of a [`Delivery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Taken, or nothing in it was wanted: on behind `to`.
    Done { to: Seq },
    /// Failed: the same once more after `wait`, and nothing of this hook before `pause` is over.
    Again { to: Seq, wait: Duration, pause: Duration },
    /// Given up: noted as dead, on behind `to`.
    Dead { to: Seq, reason: String },
    /// The receiver wants nothing any more: the hook is switched off.
    Gone,
    /// Not tried: whoever comes next may after `wait`.
    Left { wait: Duration },
    /// The room is gone: so is the cursor, and a hook of that room alone.
    NoRoom,
}

/// A place in the sweep over all cursors: hook and room.
pub type SweepPlace = (i64, i64);

#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    // ---- hooks; `room`: `None` for hooks for all rooms

    /// Makes a hook that starts at the heads of the logs; of a hook for all rooms the cursors are made by
    /// [`Self::fill_webhooks`].
    async fn create_webhook(&self, new: &NewWebhook) -> Result<Made, StoreError>;

    /// By id.
    async fn webhooks(&self, room: Option<&RoomId>) -> Result<Vec<Webhook>, StoreError>;

    async fn webhook(&self, room: Option<&RoomId>, id: &str) -> Result<Option<Webhook>, StoreError>;

    async fn change_webhook(
        &self,
        room: Option<&RoomId>,
        id: &str,
        patch: &WebhookPatch,
    ) -> Result<Changed, StoreError>;

    /// False where it was not there.
    async fn delete_webhook(&self, room: Option<&RoomId>, id: &str) -> Result<bool, StoreError>;

    /// In the order they were given up, after `cursor`.
    async fn dead_letters(&self, id: &str, cursor: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Has one tried again. False where it is not there.
    async fn retry_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError>;

    /// False where it was not there.
    async fn drop_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError>;

    // ---- the work

    /// Gives at most `limit` rooms a cursor for a hook for all rooms that lacks some. True: there may be more.
    async fn fill_webhooks(&self, limit: u32) -> Result<bool, StoreError>;

    /// These rooms have new entries: what is concerned becomes due. False: no hook is active at all.
    async fn note_webhook_news(&self, rooms: &[RoomNo]) -> Result<bool, StoreError>;

    /// Claims what is due for `claim_for`: of at most `hooks` hooks, without those in `busy`, at most `each` rooms.
    async fn claim_deliveries(
        &self,
        busy: &[i64],
        hooks: u32,
        each: u32,
        claim_for: Duration,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Ends a claim. Changes nothing where it is another's by now.
    async fn settle_delivery(&self, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError>;

    /// Looks at `limit` cursors behind `after`, in their order, for rooms that have news and are not due. Gives those
    /// rooms, and where it came to; `None`: at the end.
    async fn sweep_webhooks(
        &self,
        after: SweepPlace,
        limit: u32,
    ) -> Result<(Vec<RoomNo>, Option<SweepPlace>), StoreError>;
}
