//! The audit log: appended to, read, and never changed.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::audit::Deed;
use crate::ids::{Millis, RoomId, Seq, UserId};

/// A line of the audit log as it is read; `act` may be one that an earlier release wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Rises; not without gaps.
    pub no: i64,
    pub at: Millis,
    pub by: UserId,
    pub act: String,
    /// Also of a room that is gone.
    pub room: Option<RoomId>,
    pub whom: Option<UserId>,
    pub seq: Option<Seq>,
    pub detail: Option<String>,
    pub from: Option<String>,
}

/// Who did what, when, and from where. What is done to an open room is written in the transaction of
/// [`append`](super::MessageStore::append); what other traits do takes its [`Deed`] along; the rest comes through
/// [`AuditStore::audit`].
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Adds a line. `room` that does not exist: a line without one.
    async fn audit(&self, room: Option<&RoomId>, deed: &Deed) -> Result<(), StoreError>;

    /// The newest lines of a room (`None`: of everything) with a number below `before`, newest first.
    async fn audited(&self, room: Option<&RoomId>, before: Option<i64>, limit: u32)
    -> Result<Vec<Audited>, StoreError>;
}
