//! What edits replaced, and where in a log a time is.

use async_trait::async_trait;
use rusqlite::params;

use super::pins::CUTOFF;
use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, encryption};
use crate::ids::{Millis, RoomId, Seq};
use crate::infra::rows;
use crate::infra::sealed::{Place, opened};
use crate::ports::{PastStore, Revision, StoreError};

/// As many steps as the head has bits, each a look at one entry.
const SEQ_AT: &str = "WITH RECURSIVE bounds AS (
        SELECT r.no, r.oldest AS low, r.head + 1 AS high FROM rooms r WHERE r.id = ?1 AND r.deleted = 0
        UNION ALL
        SELECT b.no, CASE WHEN e.at < ?2 THEN e.seq + 1 ELSE b.low END, CASE WHEN e.at < ?2 THEN b.high ELSE e.seq END
        FROM bounds b JOIN entries e ON e.room_no = b.no AND e.seq = (b.low + b.high) / 2
        WHERE b.low < b.high
    )
    SELECT low FROM bounds WHERE low >= high";

#[async_trait]
impl PastStore for SqliteStore {
    async fn revisions(&self, room: &RoomId, target: Seq, after: Seq, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        let read = move |connection: &mut rusqlite::Connection| {
            let sql = format!(
                "SELECT v.text, v.at, v.replaced_by, v.room_no
                FROM rooms r JOIN entries e ON e.room_no = r.no AND e.seq = ?2
                JOIN revisions v ON v.room_no = r.no AND v.target = e.seq
                WHERE r.id = ?1 AND r.deleted = 0 AND e.text IS NOT NULL AND e.at > {CUTOFF} AND v.replaced_by > ?4
                ORDER BY v.replaced_by LIMIT ?5"
            );
            let values = params![room.as_str(), rows::seq_in(target), rows::now(), rows::seq_in(after), limit];
            collect(connection, &sql, values, |row| {
                let get = || Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?));
                let (text, at, replaced_by, no) = get().map_err(store_error)?;
                let place = Place::Revision { target: rows::seq_in(target), replaced_by };
                let text = opened(|no| encryption::key(connection, &sealing, no), no, place, text)?;
                Ok(Revision { text, at, replaced_by: rows::seq_out(replaced_by) })
            })
        };
        self.readers.run(read).await
    }

    async fn seq_at(&self, room: &RoomId, at: Millis) -> Result<Seq, StoreError> {
        let room = room.clone();
        let find = move |connection: &mut rusqlite::Connection| {
            let found = collect(connection, SEQ_AT, params![room.as_str(), at], |row| row.get(0).map_err(store_error))?;
            Ok(found.first().map_or(1, |seq| rows::seq_out(*seq)))
        };
        self.readers.run(find).await
    }
}
