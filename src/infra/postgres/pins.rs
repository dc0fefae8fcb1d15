//! Messages that are pinned.
//!
//! Invariant: the room's record is locked while one is pinned, so that there are never more than there may be; nothing else
//! is waited for meanwhile.

use async_trait::async_trait;

use super::PostgresStore;
use super::encryption;
use super::logs::{ENTRY, row_of};
use super::pool::Step;
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::infra::rows;
use crate::ports::{Pin, PinStore, Pinned, StoreError};

/// Messages of `rooms r` whose `at` is at or before this have expired at `$3`.
pub const CUTOFF: &str =
    "greatest(r.expired_before, CASE WHEN r.ttl_s > 0 THEN $3::bigint - r.ttl_s::bigint * 1000 ELSE 0 END)";

const LOCK: &str = "SELECT no FROM rooms WHERE id = $1 AND NOT deleted FOR NO KEY UPDATE";

const ADD: &str = "INSERT INTO pins (room_no, target, user_id, at)
    SELECT r.no, $2, $3, $4 FROM rooms r WHERE r.id = $1 ON CONFLICT DO NOTHING";

#[async_trait]
impl PinStore for PostgresStore {
    async fn pin(&self, room: &RoomId, target: Seq, by: &UserId, at: Millis, max: u32) -> Result<Pinned, StoreError> {
        // Those whose messages have gone since are not counted, and make room.
        let clean = format!(
            "DELETE FROM pins p USING rooms r, entries e
            WHERE r.id = $1 AND $2::bigint > 0 AND p.room_no = r.no AND e.room_no = r.no AND e.seq = p.target
            AND (e.text IS NULL OR e.at <= {CUTOFF})"
        );
        let look = format!(
            "SELECT e.text IS NOT NULL AND e.at > {CUTOFF}, EXISTS (
                SELECT FROM pins p WHERE p.room_no = r.no AND p.target = e.seq
            ), (SELECT count(*) FROM pins p WHERE p.room_no = r.no)
            FROM rooms r JOIN entries e ON e.room_no = r.no AND e.seq = $2 AND e.kind = 0
            WHERE r.id = $1 AND NOT r.deleted"
        );
        let (id, target) = (room.as_str(), rows::seq_in(target));
        let mut lease = self.lease().await?;
        let steps = [
            Step::Begin,
            Step::Ask(LOCK, &[&id]),
            Step::Ask(&clean, &[&id, &target, &at]),
            Step::Ask(&look, &[&id, &target, &at]),
        ];
        let answers = lease.transaction(&steps).await?;
        let found = answers.last().and_then(|rows| rows.first());
        let outcome = match found.map(|row| (row.get(0), row.get(1), row.get::<_, i64>(2))) {
            None => Pinned::NoSuchMessage,
            Some((false, _, _)) => Pinned::Deleted,
            Some((true, false, count)) if count >= i64::from(max) => Pinned::TooMany,
            Some((true, _, _)) => Pinned::Done,
        };
        if outcome == Pinned::Done {
            lease.transaction(&[Step::Ask(ADD, &[&id, &target, &by.as_str(), &at]), Step::Commit]).await?;
        } else {
            lease.transaction(&[Step::Commit]).await?;
        }
        Ok(outcome)
    }

    async fn unpin(&self, room: &RoomId, target: Seq) -> Result<(), StoreError> {
        let sql =
            "DELETE FROM pins WHERE room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND target = $2";
        self.lease().await?.execute(sql, &[&room.as_str(), &rows::seq_in(target)]).await?;
        Ok(())
    }

    async fn pins(&self, room: &RoomId, limit: u32) -> Result<Vec<Pin>, StoreError> {
        let sql = format!(
            "SELECT {ENTRY}, p.user_id AS pinned_by, p.at AS pinned_at
            FROM rooms r JOIN pins p ON p.room_no = r.no JOIN entries e ON e.room_no = p.room_no AND e.seq = p.target
            WHERE r.id = $1 AND NOT r.deleted AND e.text IS NOT NULL AND e.at > {CUTOFF}
            ORDER BY p.at DESC, p.target DESC LIMIT $2"
        );
        let mut lease = self.lease().await?;
        let found = lease.query(&sql, &[&room.as_str(), &i64::from(limit), &rows::now()]).await?;
        let read = encryption::opened(&mut lease, &self.sealing, found.iter().map(row_of).collect()).await?;
        let pin = |(row, read): (&tokio_postgres::Row, rows::EntryRow)| {
            Ok(Pin { entry: read.into_entry()?, by: rows::user_id(row.get("pinned_by"))?, at: row.get("pinned_at") })
        };
        found.iter().zip(read).map(pin).collect()
    }
}
