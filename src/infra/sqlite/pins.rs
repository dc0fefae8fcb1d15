//! Messages that are pinned. The one writer counts and adds in one transaction.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::logs::{ENTRY, row_of};
use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, encryption};
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::infra::rows;
use crate::ports::{Pin, PinStore, Pinned, StoreError};

/// Messages of `rooms r` whose `at` is at or before this have expired at `?3`.
pub const CUTOFF: &str = "max(r.expired_before, CASE WHEN r.ttl_s > 0 THEN ?3 - r.ttl_s * 1000 ELSE 0 END)";

#[async_trait]
impl PinStore for SqliteStore {
    async fn pin(&self, room: &RoomId, target: Seq, by: &UserId, at: Millis, max: u32) -> Result<Pinned, StoreError> {
        let (room, by) = (room.clone(), by.clone());
        self.writer.run(move |connection| pin(connection, &room, rows::seq_in(target), &by, at, max)).await
    }

    async fn unpin(&self, room: &RoomId, target: Seq) -> Result<(), StoreError> {
        let room = room.clone();
        let unpin = move |connection: &mut Connection| {
            let sql =
                "DELETE FROM pins WHERE room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0) AND target = ?2";
            let mut unpin = connection.prepare_cached(sql).map_err(store_error)?;
            unpin.execute(params![room.as_str(), rows::seq_in(target)]).map_err(store_error)?;
            Ok(())
        };
        self.writer.run(unpin).await
    }

    async fn pins(&self, room: &RoomId, limit: u32) -> Result<Vec<Pin>, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        // `CROSS JOIN` keeps the order: left alone, the planner would walk along the room's whole log.
        let read = move |connection: &mut Connection| {
            let sql = format!(
                "SELECT {ENTRY}, p.user_id AS pinned_by, p.at AS pinned_at
                FROM rooms r CROSS JOIN pins p ON p.room_no = r.no
                CROSS JOIN entries e ON e.room_no = p.room_no AND e.seq = p.target
                WHERE r.id = ?1 AND r.deleted = 0 AND e.text IS NOT NULL AND e.at > {CUTOFF}
                ORDER BY p.at DESC, p.target DESC LIMIT ?2"
            );
            collect(connection, &sql, params![room.as_str(), limit, rows::now()], |row| {
                let by: String = row.get("pinned_by").map_err(store_error)?;
                let read = row_of(row).map_err(store_error)?;
                let read = read.open(|no| encryption::key(connection, &sealing, no))?;
                Ok(Pin {
                    entry: read.into_entry()?,
                    by: rows::user_id(&by)?,
                    at: row.get("pinned_at").map_err(store_error)?,
                })
            })
        };
        self.readers.run(read).await
    }
}

fn pin(
    connection: &mut Connection,
    room: &RoomId,
    target: i64,
    by: &UserId,
    at: Millis,
    max: u32,
) -> Result<Pinned, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let look = format!(
        "SELECT r.no, e.text IS NOT NULL AND e.at > {CUTOFF}
        FROM rooms r JOIN entries e ON e.room_no = r.no AND e.seq = ?2 AND e.kind = 0
        WHERE r.id = ?1 AND r.deleted = 0"
    );
    let found = transaction.query_row(&look, params![room.as_str(), target, at], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
    });
    let Some((no, there)) = found.optional().map_err(store_error)? else { return Ok(Pinned::NoSuchMessage) };
    if !there {
        return Ok(Pinned::Deleted);
    }
    // Those whose messages have gone since are not counted, and make room.
    let clean = format!(
        "DELETE FROM pins WHERE room_no = ?1 AND target IN (
            SELECT p.target FROM pins p JOIN rooms r ON r.no = p.room_no
            JOIN entries e ON e.room_no = p.room_no AND e.seq = p.target
            WHERE p.room_no = ?1 AND (e.text IS NULL OR e.at <= {CUTOFF})
        ) AND ?2 > 0"
    );
    transaction.execute(&clean, params![no, target, at]).map_err(store_error)?;
    let (pinned, count) = transaction
        .query_row("SELECT coalesce(max(target = ?2), 0), count(*) FROM pins WHERE room_no = ?1", [no, target], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, u32>(1)?))
        })
        .map_err(store_error)?;
    if !pinned && count >= max {
        return Ok(Pinned::TooMany);
    }
    let add = "INSERT INTO pins (room_no, target, user_id, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    transaction.execute(add, params![no, target, by.as_str(), at]).map_err(store_error)?;
    transaction.commit().map_err(store_error)?;
    Ok(Pinned::Done)
}
