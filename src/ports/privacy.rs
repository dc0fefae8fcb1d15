//! What belongs to a person: taking it all away, giving it all to them, and keeping them out.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::audit::Deed;
use crate::entry::{Data, Role};
use crate::ids::{MessageId, Millis, RoomId, Seq, UserId};

/// Whether somebody with right credentials is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Banned,
    Erased,
}

/// What became of one step of erasing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasing {
    /// Nobody is to be erased now.
    Nothing,
    /// A step of this person was done, and there is more to do.
    Step(UserId),
    /// Everything of theirs that was found is gone: the nodes forget it.
    Round(UserId),
}

/// Somebody whom the nodes must not know any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CutOff {
    pub user: UserId,
    pub at: Millis,
    pub erased: bool,
}

/// A place in what somebody wrote, by the store's own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub room_no: i64,
    pub seq: i64,
}

/// A room that remembers somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoom {
    pub room_no: i64,
    pub room: RoomId,
    /// `None`: they left, or were removed.
    pub role: Option<Role>,
    pub banned: bool,
    pub read_seq: Seq,
}

/// A message of somebody's own, in its present form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMessage {
    pub place: Place,
    pub room: RoomId,
    pub seq: Seq,
    pub at: Millis,
    pub id: MessageId,
    pub text: Option<String>,
    pub data: Option<Data>,
    pub reply_to: Option<Seq>,
    pub edited_at: Option<Millis>,
}

/// A reaction that somebody has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnReaction {
    pub place: Place,
    pub room: RoomId,
    pub target: Seq,
    pub emoji: String,
}

/// A report that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnReport {
    pub no: i64,
    pub room: RoomId,
    pub seq: Seq,
    pub at: Millis,
    pub reason: Option<String>,
}

/// Erasure, export and bans from the server.
#[async_trait]
pub trait PrivacyStore: Send + Sync + 'static {
    // ---- erasure

    /// Begins to erase the person of `deed.by`: their name and credentials are gone with the return, everything else goes
    /// with [`Self::erase_some`]. False: there is no such person, or not any more.
    async fn erase(&self, deed: &Deed) -> Result<bool, StoreError>;

    /// One bounded step for somebody who is being erased: memberships end (a room without an owner gets the
    /// longest-known moderator, else the longest-known member who is not muted, as its owner), then texts go. Rooms
    /// concerned are fenced: their owners read them again. Harmless at any time, on several nodes at once, and cut off
    /// anywhere.
    async fn erase_some(&self, limit: u32) -> Result<Erasing, StoreError>;

    /// Who was erased or banned after `since` by the store's clock, which is given too. Somebody may appear again.
    async fn cut_off(&self, since: Millis) -> Result<(Millis, Vec<CutOff>), StoreError>;

    // ---- standing

    async fn standing(&self, user: &UserId) -> Result<Standing, StoreError>;

    /// Bans `user`, whether they exist or not. False: they were banned already, nothing is written.
    async fn ban_from_server(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError>;

    /// False: they were not banned, nothing is written.
    async fn lift_server_ban(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError>;

    /// By user id: who, when, by whom.
    async fn server_bans(
        &self,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Millis, UserId)>, StoreError>;

    // ---- export

    /// Rooms that remember `user`, by number after `after`; deleted ones are passed over.
    async fn own_rooms(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnRoom>, StoreError>;

    /// Messages of `user`, in the store's order after `after`. `None` in place of one of a deleted room.
    async fn own_messages(
        &self,
        user: &UserId,
        after: Place,
        limit: u32,
    ) -> Result<Vec<(Place, Option<OwnMessage>)>, StoreError>;

    /// Reactions that `user` has set, after this place and emoji.
    async fn own_reactions(
        &self,
        user: &UserId,
        after: (Place, &str),
        limit: u32,
    ) -> Result<Vec<OwnReaction>, StoreError>;

    /// Reports that `user` made, with their reasons, by number after `after`.
    async fn own_reports(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnReport>, StoreError>;
}
