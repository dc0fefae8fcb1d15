//! A room's past beside its pages: what edits replaced, and where in the log a time is.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{Millis, RoomId, Seq};

/// A text that a message once had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub text: String,
    /// When it was set.
    pub at: Millis,
    /// `seq` of the edit that replaced it.
    pub replaced_by: Seq,
}

#[async_trait]
pub trait PastStore: Send + Sync + 'static {
    /// The texts kept of a message, the oldest first, from behind the one that the edit `after` replaced. Nothing of one
    /// that was deleted or has disappeared.
    async fn revisions(&self, room: &RoomId, target: Seq, after: Seq, limit: u32) -> Result<Vec<Revision>, StoreError>;

    /// Where in the log `at` is, found by halving: the entry there is of that time or later, the one before it earlier.
    /// Where times step back there may be several such places; it is one of them. Behind the head: all are earlier.
    async fn seq_at(&self, room: &RoomId, at: Millis) -> Result<Seq, StoreError>;
}
