//! Threads, and what others made of messages.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{PostgresStore, logs};
use crate::entry::{ReactionCount, Tally};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::rows;
use crate::limits::REACTIONS_SHOWN;
use crate::ports::{HistoryStore, StoreError, Thread};

/// The most frequent reactions of each message, then (without an emoji) how many replies there are.
const TALLIES: &str = "SELECT k.target, k.emoji, k.times, k.mine FROM (
        SELECT r.target, r.emoji, count(*) AS times, bool_or(r.user_id = $3) AS mine,
            row_number() OVER (PARTITION BY r.target ORDER BY count(*) DESC, r.emoji) AS place
        FROM reactions r
        WHERE r.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND r.target = ANY ($2)
        GROUP BY r.target, r.emoji
    ) k WHERE k.place <= $4
    UNION ALL
    SELECT e.root, NULL, count(*), false FROM entries e
    WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND e.root = ANY ($2) AND e.root IS NOT NULL
    GROUP BY e.root
    ORDER BY 1, 3 DESC, 2";

#[async_trait]
impl HistoryStore for PostgresStore {
    async fn tallies(
        &self,
        room: &RoomId,
        viewer: &UserId,
        messages: &[Seq],
    ) -> Result<HashMap<Seq, Tally>, StoreError> {
        let messages: Vec<i64> = messages.iter().map(|&seq| rows::seq_in(seq)).collect();
        let shown = REACTIONS_SHOWN as i64;
        let found = self.lease().await?.query(TALLIES, &[&room.as_str(), &messages, &viewer.as_str(), &shown]).await?;
        let mut tallies: HashMap<Seq, Tally> = HashMap::new();
        for row in found {
            let tally = tallies.entry(rows::seq_out(row.get(0))).or_default();
            let count = rows::seq_out(row.get(2));
            match row.get(1) {
                Some(emoji) => tally.reactions.push(ReactionCount { emoji, count, mine: row.get(3) }),
                None => tally.replies = count,
            }
        }
        Ok(tallies)
    }

    async fn thread(
        &self,
        room: &RoomId,
        message: Seq,
        after: Seq,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Option<Thread>, StoreError> {
        logs::thread(&mut self.lease().await?, &self.sealing, room, message, after, limit, max_bytes).await
    }
}
