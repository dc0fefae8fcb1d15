//! Messages that are pinned in a room.

use async_trait::async_trait;

use super::StoreError;
use crate::entry::Entry;
use crate::ids::{Millis, RoomId, Seq, UserId};

/// A message that is pinned, in its present form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub entry: Entry,
    pub by: UserId,
    pub at: Millis,
}

/// How pinning went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// It is pinned: now, or since somebody did it before.
    Done,
    NoSuchMessage,
    /// It was deleted, or has disappeared.
    Deleted,
    /// The room has as many as it may.
    TooMany,
}

#[async_trait]
pub trait PinStore: Send + Sync + 'static {
    /// At most `max` a room, exactly so when many pin at once.
    async fn pin(&self, room: &RoomId, target: Seq, by: &UserId, at: Millis, max: u32) -> Result<Pinned, StoreError>;

    /// Harmless where it is not pinned.
    async fn unpin(&self, room: &RoomId, target: Seq) -> Result<(), StoreError>;

    /// Those that are there, the newest pin first; at most `limit`.
    async fn pins(&self, room: &RoomId, limit: u32) -> Result<Vec<Pin>, StoreError>;
}
