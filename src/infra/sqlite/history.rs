//! Threads, and what others made of messages.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, logs};
use crate::entry::{ReactionCount, Tally};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::rows;
use crate::limits::REACTIONS_SHOWN;
use crate::ports::{HistoryStore, StoreError, Thread};

/// The most frequent reactions of each message, then (without an emoji) how many replies there are.
const TALLIES: &str = "SELECT k.target, k.emoji, k.times, k.mine FROM (
        SELECT r.target, r.emoji, count(*) AS times, max(r.user_id = ?3) AS mine,
            row_number() OVER (PARTITION BY r.target ORDER BY count(*) DESC, r.emoji) AS place
        FROM reactions r
        WHERE r.room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0)
            AND r.target IN (SELECT value FROM json_each(?2))
        GROUP BY r.target, r.emoji
    ) k WHERE k.place <= ?4
    UNION ALL
    SELECT e.root, NULL, count(*), 0 FROM entries e
    WHERE e.room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0)
        AND e.root IN (SELECT value FROM json_each(?2)) AND e.root IS NOT NULL
    GROUP BY e.root
    ORDER BY 1, 3 DESC, 2";

fn tallies(
    connection: &mut Connection,
    room: &RoomId,
    viewer: &UserId,
    messages: &[Seq],
) -> Result<HashMap<Seq, Tally>, StoreError> {
    let messages: Vec<String> = messages.iter().map(|&seq| rows::seq_in(seq).to_string()).collect();
    let messages = format!("[{}]", messages.join(","));
    let found =
        collect(connection, TALLIES, params![room.as_str(), messages, viewer.as_str(), REACTIONS_SHOWN], |row| {
            let read = || Ok((row.get(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?, row.get::<_, bool>(3)?));
            read().map_err(store_error)
        })?;
    let mut tallies: HashMap<Seq, Tally> = HashMap::new();
    for (target, emoji, count, mine) in found {
        let tally = tallies.entry(rows::seq_out(target)).or_default();
        let count = rows::seq_out(count);
        match emoji {
            Some(emoji) => tally.reactions.push(ReactionCount { emoji, count, mine }),
            None => tally.replies = count,
        }
    }
    Ok(tallies)
}

#[async_trait]
impl HistoryStore for SqliteStore {
    async fn tallies(
        &self,
        room: &RoomId,
        viewer: &UserId,
        messages: &[Seq],
    ) -> Result<HashMap<Seq, Tally>, StoreError> {
        let (room, viewer, messages) = (room.clone(), viewer.clone(), messages.to_vec());
        self.readers.run(move |connection| tallies(connection, &room, &viewer, &messages)).await
    }

    async fn thread(
        &self,
        room: &RoomId,
        message: Seq,
        after: Seq,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Option<Thread>, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        self.readers
            .run(move |connection| logs::thread(connection, &sealing, &room, message, after, limit, max_bytes))
            .await
    }
}
