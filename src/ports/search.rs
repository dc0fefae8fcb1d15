//! The index of texts: filled behind the logs, asked by whoever searches.

use async_trait::async_trait;

use super::{RoomNo, StoreError};
use crate::domain::search::wanted::Wanted;
use crate::ids::{Millis, RoomId, Seq, UserId};

/// What to look for, and where.
#[derive(Clone, Debug)]
pub struct Search {
    pub wanted: Wanted,
    /// Who asks: only what they may read now is found. `None`: an admin, who may read everything.
    pub asker: Option<UserId>,
    /// In this room alone.
    pub room: Option<RoomId>,
    /// Of this sender alone.
    pub from: Option<UserId>,
    /// Only what was indexed up to here, as an earlier answer said: so that pages fit together.
    pub newest: Option<i64>,
}

/// A message that has what was looked for.
#[derive(Clone, Debug)]
pub struct Match {
    /// Its number in the index.
    pub id: i64,
    pub no: RoomNo,
    pub room: RoomId,
    pub seq: Seq,
    pub user: UserId,
    pub at: Millis,
    /// The beginning of its folded text as it is in the index: the message may have another text by now, or none.
    pub body: String,
}

/// The newest matches, of which there may be more.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// The newest number in the index when it was asked, for [`Search::newest`].
    pub newest: i64,
    /// At most [`crate::domain::search::CANDIDATES`], in no order that means anything.
    pub found: Vec<Match>,
}

/// How far a look at all rooms came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Where the next look begins; `None`: all rooms were looked at.
    pub next: Option<RoomNo>,
    /// Entries that were brought into the index.
    pub entries: u64,
}

/// The index of texts (V7). It follows the logs: what was committed is found within about a second, what was edited or
/// deleted is removed as soon, and never shown in between, since texts are shown from the log.
#[async_trait]
pub trait SearchStore: Send + Sync + 'static {
    async fn search(&self, search: Search) -> Result<Matches, StoreError>;

    /// The present texts of messages, in order; `None`: it has none any more.
    async fn present_texts(&self, messages: &[(RoomNo, Seq)]) -> Result<Vec<Option<String>>, StoreError>;

    /// Brings entries into the index of rooms that this store object committed to since the last call, as many as are
    /// quickly done. Gives their number; 0: nothing is left.
    async fn index_news(&self) -> Result<u64, StoreError>;

    /// The same for some of the rooms behind `after` whose log is ahead of the index for whatever reason (another node
    /// died before it got to it; there was no index yet).
    async fn index_behind(&self, after: RoomNo) -> Result<Swept, StoreError>;

    /// Removes messages from the index whose texts were erased without an entry in the log that says so.
    async fn forget_texts(&self, room: RoomNo, seqs: &[Seq]) -> Result<(), StoreError>;

    /// Removes messages of somebody from the index, a thousand or so; false: none are left. Messages whose text is still
    /// in the log stay out of the index too.
    async fn forget_texts_of(&self, user: &UserId) -> Result<bool, StoreError>;
}
