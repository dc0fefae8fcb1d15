//! Reports of messages, for the moderators of their rooms and for administrators.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::audit::Deed;
use crate::ids::{Millis, RoomId, Seq, UserId};

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    New(i64),
    /// They had reported this message already, with this number.
    Known(i64),
    /// They have as many open ones as they may.
    TooMany,
    /// `seq` is no message of the room.
    NoSuchMessage,
}

/// A report with the message it is about, as that is now: a report keeps no copy of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub no: i64,
    pub room: RoomId,
    pub seq: Seq,
    pub reporter: UserId,
    pub at: Millis,
    /// `None`: the reporter was erased.
    pub reason: Option<String>,
    /// Who wrote the message; `None` where its place is not kept any more.
    pub author: Option<UserId>,
    /// `None`: it was deleted.
    pub text: Option<String>,
    pub closed: Option<Closed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub at: Millis,
    pub by: UserId,
    pub action: String,
    pub note: Option<String>,
}

/// Which reports to list.
#[derive(Clone, Copy, Debug)]
pub struct ReportQuery<'a> {
    /// `None`: of all rooms.
    pub room: Option<&'a RoomId>,
    pub open: bool,
    /// Those after this number.
    pub after: i64,
    pub limit: u32,
}

/// The queue of the moderators.
#[async_trait]
pub trait ModerationStore: Send + Sync + 'static {
    /// Takes a report, unless the reporter has `most` open ones.
    async fn report(
        &self,
        room: &RoomId,
        seq: Seq,
        reporter: &UserId,
        at: Millis,
        reason: &str,
        most: u32,
    ) -> Result<Reported, StoreError>;

    /// Oldest first.
    async fn reports(&self, query: ReportQuery<'_>) -> Result<Vec<Report>, StoreError>;

    /// One of `room`; `None` where there is no such one.
    async fn report_of(&self, room: &RoomId, no: i64) -> Result<Option<Report>, StoreError>;

    /// Closes it by `deed.by` at `deed.at`. False: it was closed already, nothing is written.
    async fn close_report(
        &self,
        room: &RoomId,
        no: i64,
        action: &str,
        note: Option<&str>,
        deed: &Deed,
    ) -> Result<bool, StoreError>;
}
