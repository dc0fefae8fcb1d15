//! Invitations: links that let somebody into a room. Taking one is a change of the room (`Change::Accept`), so that uses are
//! counted in the transaction that makes the member.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{Millis, RoomId, UserId};

/// An invitation as the room's people see it; its token is known to nobody but who has the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub id: String,
    pub made_by: UserId,
    pub made_at: Millis,
    pub expires_at: Millis,
    /// `None`: any number.
    pub uses_left: Option<u32>,
}

/// How making one went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invited {
    New,
    /// The room has as many as it may.
    TooMany,
    NoSuchRoom,
}

#[async_trait]
pub trait InvitationStore: Send + Sync + 'static {
    /// `secret_hash`: SHA-256 of the token. At most `max` a room that can still be used, exactly so when many are made at
    /// once.
    async fn invite(
        &self,
        room: &RoomId,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
        max: u32,
    ) -> Result<Invited, StoreError>;

    /// The room that a token leads to; `None`: unknown, revoked or ended at `now`. (One that is used up still leads there,
    /// for those who came in by it and ask again.)
    async fn invitation_room(&self, secret_hash: &[u8; 32], now: Millis) -> Result<Option<RoomId>, StoreError>;

    /// Those that have not ended at `now`, by id, after `cursor`.
    async fn invitations(
        &self,
        room: &RoomId,
        now: Millis,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError>;

    /// Harmless where it is not there.
    async fn revoke_invitation(&self, room: &RoomId, id: &str) -> Result<(), StoreError>;

    /// Removes up to `limit` that have ended at `now`; gives how many.
    async fn sweep_invitations(&self, now: Millis, limit: u32) -> Result<u64, StoreError>;
}
