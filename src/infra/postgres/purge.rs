//! Removes what is left of deleted rooms in the background, a little at a time, so that a long log holds nobody up.
//!
//! Invariant: a room stays on the list (`doomed_rooms`) until nothing of it is left, so a crash or an outage only
//! delays; nodes that work on the list at the same time take different rooms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::runtime::Handle;

use super::pool::{Lease, Step};
use crate::ports::StoreError;

/// Entries removed in one transaction.
const CHUNK: i64 = 2_000;
/// Between an attempt that failed and the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts the work when there may be some; at most one task a store does it.
pub struct Purge {
    pool: Pool,
    answer_within: Duration,
    under_way: Arc<AtomicBool>,
}

impl Purge {
    pub fn new(pool: Pool, answer_within: Duration) -> Self {
        Self { pool, answer_within, under_way: Arc::default() }
    }

    /// There may be rooms on the list.
    pub fn start(&self, on: &Handle) {
        if self.under_way.swap(true, Ordering::AcqRel) {
            // The task looks at the list again before it ends.
            return;
        }
        let (pool, answer_within, under_way) = (self.pool.clone(), self.answer_within, Arc::clone(&self.under_way));
        on.spawn(async move {
            loop {
                match chunk(&pool, answer_within).await {
                    Ok(true) => {}
                    Ok(false) => {
                        under_way.store(false, Ordering::Release);
                        // A room that was put on the list since the last look found the flag still up.
                        if !matches!(chunk(&pool, answer_within).await, Ok(true))
                            || under_way.swap(true, Ordering::AcqRel)
                        {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "what is left of deleted rooms could not be removed yet");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }
}

const TAKE: &str = "SELECT no FROM doomed_rooms ORDER BY no LIMIT 1 FOR UPDATE SKIP LOCKED";

const ENTRIES: &str = "DELETE FROM entries e
    USING (SELECT room_no, seq FROM entries WHERE room_no = $1 ORDER BY seq LIMIT $2) AS c
    WHERE e.room_no = c.room_no AND e.seq = c.seq";

const REVISIONS: &str = "DELETE FROM revisions v
    USING (SELECT room_no, target, replaced_by FROM revisions WHERE room_no = $1 ORDER BY target, replaced_by LIMIT $2) AS c
    WHERE v.room_no = c.room_no AND v.target = c.target AND v.replaced_by = c.replaced_by";

const FOUND: &str = "DELETE FROM search s
    USING (SELECT id FROM search WHERE room_no = $1 ORDER BY seq LIMIT $2) AS c WHERE s.id = c.id";

const REACTIONS: &str = "DELETE FROM reactions r
    USING (SELECT target, user_id, emoji FROM reactions WHERE room_no = $1 ORDER BY target, user_id, emoji LIMIT $2) AS c
    WHERE r.room_no = $1 AND r.target = c.target AND r.user_id = c.user_id AND r.emoji = c.emoji";

const PEOPLE: &str = "DELETE FROM people p
    USING (SELECT user_id FROM people WHERE room_no = $1 ORDER BY user_id LIMIT $2) AS c
    WHERE p.room_no = $1 AND p.user_id = c.user_id";

const REPORTS: &str = "DELETE FROM reports
    WHERE no = ANY (ARRAY(SELECT no FROM reports WHERE room_no = $1 ORDER BY seq, reporter LIMIT $2))";

/// What there may be much of, in the order in which it goes.
const MUCH: [&str; 6] = [ENTRIES, FOUND, REVISIONS, REACTIONS, PEOPLE, REPORTS];

/// Whether there was something to remove.
async fn chunk(pool: &Pool, answer_within: Duration) -> Result<bool, StoreError> {
    let mut lease = Lease::take(pool, answer_within).await?;
    let taken = lease.transaction(&[Step::Begin, Step::Ask(TAKE, &[])]).await?;
    let Some(no) = taken.get(1).and_then(|rows| rows.first()).map(|row| row.get::<_, i64>(0)) else {
        lease.transaction(&[Step::Commit]).await?;
        return Ok(false);
    };
    for sql in MUCH {
        if lease.execute(sql, &[&no, &CHUNK]).await? == CHUNK.unsigned_abs() {
            lease.transaction(&[Step::Commit]).await?;
            return Ok(true);
        }
    }
    let rest = [
        Step::Ask("DELETE FROM pins WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM invitations WHERE room_no = $1", &[&no]),
        // Waits for a step of the index that may have begun before the room was deleted; a later one finds no room.
        Step::Ask("INSERT INTO search_progress (room_no, seq) VALUES ($1, 0) ON CONFLICT DO NOTHING", &[&no]),
        Step::Ask("DELETE FROM search_progress WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM search WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM reactions WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM people WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM reports WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM webhook_dead WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM webhook_cursors WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM webhooks WHERE room_no = $1", &[&no]),
        Step::Ask("DELETE FROM doomed_rooms WHERE no = $1", &[&no]),
        Step::Commit,
    ];
    lease.transaction(&rest).await?;
    Ok(true)
}
