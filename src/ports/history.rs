//! What history shows beside the log: threads, and what others made of a message.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{Page, StoreError};
use crate::entry::{Body, Entry, Shown, Tally};
use crate::ids::{RoomId, Seq, UserId};

/// A page of a thread: the message that it began with and the replies to it, and to those.
#[derive(Clone, Debug)]
pub struct Thread {
    pub root: Seq,
    pub page: Page,
}

#[async_trait]
pub trait HistoryStore {
    /// Replies to and reactions on these messages as `viewer` sees them; a message that has none is not there.
    async fn tallies(
        &self,
        room: &RoomId,
        viewer: &UserId,
        messages: &[Seq],
    ) -> Result<HashMap<Seq, Tally>, StoreError>;

    /// The thread that a message is of, from the first entry behind `after`: rising `seq`, present form, bounds as of a
    /// page of the log. `None`: there is no such message.
    async fn thread(
        &self,
        room: &RoomId,
        message: Seq,
        after: Seq,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Option<Thread>, StoreError>;

    /// Entries of one room with their tallies.
    async fn shown(&self, room: &RoomId, viewer: &UserId, entries: Vec<Entry>) -> Result<Vec<Shown>, StoreError> {
        let messages: Vec<Seq> =
            entries.iter().filter(|entry| matches!(entry.body, Body::Message(_))).map(|entry| entry.seq).collect();
        let mut tallies =
            if messages.is_empty() { HashMap::new() } else { self.tallies(room, viewer, &messages).await? };
        let shown = |entry: Entry| Shown { tally: tallies.remove(&entry.seq).unwrap_or_default(), entry };
        Ok(entries.into_iter().map(shown).collect())
    }
}
