//! What edits replaced, and where in a log a time is.

use async_trait::async_trait;

use super::PostgresStore;
use super::encryption::{Keys, sealed_of};
use super::pins::CUTOFF;
use crate::ids::{Millis, RoomId, Seq};
use crate::infra::rows;
use crate::infra::sealed::{Place, opened};
use crate::ports::{PastStore, Revision, StoreError};

/// As many steps as the head has bits, each a look at one entry.
const SEQ_AT: &str = "WITH RECURSIVE bounds AS (
        SELECT h.no, h.oldest AS low, h.head + 1 AS high
        FROM rooms r JOIN room_heads h ON h.no = r.no WHERE r.id = $1 AND NOT r.deleted
        UNION ALL
        SELECT b.no, CASE WHEN e.at < $2 THEN e.seq + 1 ELSE b.low END, CASE WHEN e.at < $2 THEN b.high ELSE e.seq END
        FROM bounds b JOIN entries e ON e.room_no = b.no AND e.seq = (b.low + b.high) / 2
        WHERE b.low < b.high
    )
    SELECT low FROM bounds WHERE low >= high";

#[async_trait]
impl PastStore for PostgresStore {
    async fn revisions(&self, room: &RoomId, target: Seq, after: Seq, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let sql = format!(
            "SELECT v.text, v.at, v.replaced_by, v.room_no
            FROM rooms r JOIN entries e ON e.room_no = r.no AND e.seq = $2
            JOIN revisions v ON v.room_no = r.no AND v.target = e.seq
            WHERE r.id = $1 AND NOT r.deleted AND e.text IS NOT NULL AND e.at > {CUTOFF} AND v.replaced_by > $4
            ORDER BY v.replaced_by LIMIT $5"
        );
        let (target, after, limit) = (rows::seq_in(target), rows::seq_in(after), i64::from(limit));
        let mut lease = self.lease().await?;
        let found = lease.query(&sql, &[&room.as_str(), &target, &rows::now(), &after, &limit]).await?;
        let texts = found.iter().map(|row| (row.get(3), row.get(0)));
        let keys = Keys::to_read(&mut lease, &self.sealing, sealed_of(texts)).await?;
        let revision = |row: &tokio_postgres::Row| {
            let place = Place::Revision { target, replaced_by: row.get(2) };
            let text = opened(|no| keys.need(no), row.get(3), place, row.get(0))?;
            Ok(Revision { text, at: row.get(1), replaced_by: rows::seq_out(row.get(2)) })
        };
        found.iter().map(revision).collect()
    }

    async fn seq_at(&self, room: &RoomId, at: Millis) -> Result<Seq, StoreError> {
        let found = self.lease().await?.query_opt(SEQ_AT, &[&room.as_str(), &at]).await?;
        Ok(found.map_or(1, |row| rows::seq_out(row.get(0))))
    }
}
