//! Files that belong to messages: their records. The bytes are in `blobs`, each file's under a random name, its object.
//!
//! Invariant: every object has a row from before its first byte until after its last, so that a sweep finds what a crash
//! leaves. Where a message's text goes, its files' records go in the same transaction and their objects are doomed.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{AttachmentId, MessageId, Millis, ObjectId, RoomId, UserId};

/// A file of which all bytes are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: AttachmentId,
    pub object: ObjectId,
    pub room: RoomId,
    /// Who uploaded it, and sends the message.
    pub user: UserId,
    /// The message that it belongs to, by its sender's name for it.
    pub message: MessageId,
    pub name: String,
    /// By its content.
    pub mime: String,
    pub bytes: u64,
    pub sha256: [u8; 32],
    pub at: Millis,
}

/// What keeping an upload may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all files of one person; 0: no bound.
    pub per_user_bytes: u64,
    pub per_message: u32,
    /// How long the message may take to come.
    pub unreferenced: Duration,
}

/// What became of an upload. Where it was not kept, its object is doomed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    New,
    /// The same content was kept under this id before: that record counts.
    Known(Box<Attachment>),
    /// Other content, or for another message, was kept under this id.
    Taken,
    /// The person has `used` bytes already.
    OverQuota {
        used: u64,
    },
    /// The message has as many as it may.
    Full,
    /// It took longer than it was given, or the room is gone, or the person was erased meanwhile.
    Late,
}

#[async_trait]
pub trait AttachmentStore: Send + Sync + 'static {
    /// Notes an object before its first byte is written: unless it is kept within `within`, it is doomed. Gives the bytes
    /// that `user` has stored.
    async fn begin_upload(&self, object: &ObjectId, user: &UserId, within: Duration) -> Result<u64, StoreError>;

    /// Makes the record of an object that is wholly there.
    async fn keep_upload(&self, attachment: &Attachment, bounds: Bounds) -> Result<Kept, StoreError>;

    /// Dooms an object that is not kept. Harmless where it is.
    async fn drop_upload(&self, object: &ObjectId) -> Result<(), StoreError>;

    async fn attachment(&self, id: &AttachmentId) -> Result<Option<Attachment>, StoreError>;

    /// Those of `ids` in `room` that `user` uploaded, or whose message is in the log and not deleted; by id.
    async fn attachments(
        &self,
        room: &RoomId,
        ids: &[AttachmentId],
        user: &UserId,
    ) -> Result<Vec<Attachment>, StoreError>;

    /// What `user` uploaded, by id, after `cursor`.
    async fn attachments_of(
        &self,
        user: &UserId,
        cursor: Option<&AttachmentId>,
        limit: u32,
    ) -> Result<Vec<Attachment>, StoreError>;

    /// Looks at no more than `limit` files whose message had time to come, and dooms those whose did not; gives how many
    /// it looked at.
    async fn sweep_attachments(&self, limit: u32) -> Result<u64, StoreError>;

    /// Objects to remove now.
    async fn doomed_objects(&self, limit: u32) -> Result<Vec<ObjectId>, StoreError>;

    /// Objects that were removed.
    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError>;

    /// The key that addresses are signed with: the same for every node, `fresh` where there is none yet.
    async fn link_key(&self, fresh: &[u8; 32]) -> Result<[u8; 32], StoreError>;
}
