//! Filling the index of texts, behind the logs. A step is one short transaction of the writer, so that no append waits
//! long behind it, and no erasure comes between what it reads and what it writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::rooms::collect;
use super::threads::store_error;
use crate::domain::search::mark;
use crate::ids::{Seq, UserId};
use crate::infra::index::Indexed;
use crate::infra::{codes, rows};
use crate::ports::{RoomNo, StoreError};

/// Rooms of one step.
pub const ROOMS: usize = 16;
/// Entries of one step, about.
const ENTRIES: usize = 64;
/// Rooms that one look at all rooms passes.
const LOOKED_AT: i64 = 2_000;
/// Messages forgotten at a time.
const FORGOTTEN: i64 = 200;

/// What a step did.
pub struct Done {
    pub entries: u64,
    /// Rooms that may have more.
    pub more: Vec<i64>,
}

const KIND: &str = "SELECT r.kind, coalesce(p.seq, 0) FROM rooms r LEFT JOIN search_progress p ON p.room_no = r.no
    WHERE r.no = ?1 AND r.deleted = 0";
const NEW: &str = "SELECT seq, kind, target FROM entries WHERE room_no = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
/// Of a room that is encrypted, none: what the index had of a message is removed then.
const TEXT: &str =
    "SELECT user_id, at, text FROM entries WHERE room_no = ?1 AND seq = ?2 AND kind = 0 AND text IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM room_keys k WHERE k.room_no = entries.room_no)";
const ID: &str = "SELECT id FROM search WHERE room_no = ?1 AND seq = ?2";
const NEXT_ID: &str = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'search'), 0) + 1";
const ADD: &str = "INSERT INTO search (id, room_no, seq, at, user_id, body, terms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const CHANGE: &str = "UPDATE search SET body = ?2, terms = ?3 WHERE id = ?1";
const REMOVE: &str = "DELETE FROM search WHERE room_no = ?1 AND seq = ?2";
const PROGRESS: &str = "INSERT INTO search_progress (room_no, seq) VALUES (?1, ?2)
    ON CONFLICT (room_no) DO UPDATE SET seq = excluded.seq";

/// Brings the next entries of these rooms into the index.
pub fn rooms(connection: &mut Connection, rooms: &[i64]) -> Result<Done, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let each = (ENTRIES / rooms.len().max(1)).max(1);
    let mut done = Done { entries: 0, more: Vec::new() };
    let mut touched: BTreeSet<(i64, i64, i64)> = BTreeSet::new();
    let mut kinds = HashMap::new();
    let mut progress = BTreeMap::new();
    for &no in rooms {
        let Some((room, from)) = indexed(&transaction, no)? else { continue };
        kinds.insert(no, room);
        let mut new = transaction.prepare_cached(NEW).map_err(store_error)?;
        let mut found = new.query(params![no, from, each as i64]).map_err(store_error)?;
        let mut count = 0;
        while let Some(row) = found.next().map_err(store_error)? {
            let get = || Ok((row.get::<_, i64>(0)?, row.get::<_, i16>(1)?, row.get::<_, Option<i64>>(2)?));
            let (seq, kind, target) = get().map_err(store_error)?;
            let message = match (kind, target) {
                (codes::MESSAGE, _) => Some(seq),
                (codes::EDIT | codes::DELETE, target) => target,
                _ => None,
            };
            if let Some(message) = message {
                touched.insert((at_of(&transaction, no, message)?, no, message));
            }
            progress.insert(no, seq);
            count += 1;
        }
        done.entries += count as u64;
        if count == each {
            done.more.push(no);
        }
    }
    // In the order of time over all rooms, about: what is newer gets the higher number.
    for (_, no, seq) in touched {
        if let Some(room) = kinds.get(&no) {
            write(&transaction, room, seq)?;
        }
    }
    for (no, seq) in progress {
        execute(&transaction, PROGRESS, params![no, seq])?;
    }
    transaction.commit().map_err(store_error)?;
    Ok(done)
}

/// A room that is there, and how far it is in the index.
fn indexed(transaction: &Transaction<'_>, no: i64) -> Result<Option<(Indexed, i64)>, StoreError> {
    let found = transaction
        .prepare_cached(KIND)
        .and_then(|mut kind| kind.query_row([no], |row| Ok((row.get::<_, i16>(0)?, row.get::<_, i64>(1)?))).optional())
        .map_err(store_error)?;
    let Some((kind, from)) = found else { return Ok(None) };
    let two = "SELECT p.user_id FROM rooms r JOIN people p ON p.room_no = r.no
        WHERE r.no = ?1 AND r.kind = 2 AND p.role IS NOT NULL";
    let two = collect(transaction, two, [no], |row| rows::user_id(&row.get::<_, String>(0).map_err(store_error)?))?;
    Ok(Some((Indexed { no, kind: codes::parse_room_kind(kind)?, two }, from)))
}

fn at_of(transaction: &Transaction<'_>, no: i64, seq: i64) -> Result<i64, StoreError> {
    let sql = "SELECT at FROM entries WHERE room_no = ?1 AND seq = ?2";
    let found = transaction.prepare_cached(sql).and_then(|mut at| at.query_row([no, seq], |row| row.get(0)).optional());
    Ok(found.map_err(store_error)?.unwrap_or_default())
}

/// Puts what a message says now into the index.
fn write(transaction: &Transaction<'_>, room: &Indexed, seq: i64) -> Result<(), StoreError> {
    let get = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
    let present = transaction
        .prepare_cached(TEXT)
        .and_then(|mut text| text.query_row([room.no, seq], get).optional())
        .map_err(store_error)?;
    let Some((user, at, text)) = present else { return execute(transaction, REMOVE, [room.no, seq]) };
    let number = |sql: &str, params: &[i64]| {
        let mut id = transaction.prepare_cached(sql).map_err(store_error)?;
        id.query_row(rusqlite::params_from_iter(params), |row| row.get::<_, i64>(0)).optional().map_err(store_error)
    };
    let parsed = rows::user_id(&user)?;
    if let Some(id) = number(ID, &[room.no, seq])? {
        let (body, terms) = room.row(id, &parsed, &text);
        return execute(transaction, CHANGE, params![id, body, terms]);
    }
    let id = number(NEXT_ID, &[])?.unwrap_or(1);
    let (body, terms) = room.row(id, &parsed, &text);
    execute(transaction, ADD, params![id, room.no, seq, at, user, body, terms])
}

fn execute(transaction: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
    transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)?;
    Ok(())
}

/// Rooms behind `after` that have more in their log than in the index, at most [`ROOMS`], and where to go on.
pub fn behind(connection: &mut Connection, after: RoomNo) -> Result<(Vec<i64>, Option<RoomNo>), StoreError> {
    let sql = "SELECT r.no, r.deleted = 0 AND r.head > coalesce(p.seq, 0)
        FROM rooms r LEFT JOIN search_progress p ON p.room_no = r.no WHERE r.no > ?1 ORDER BY r.no LIMIT ?2";
    let looked_at = collect(connection, sql, [after.0, LOOKED_AT], |row| {
        Ok((row.get::<_, i64>(0).map_err(store_error)?, row.get::<_, bool>(1).map_err(store_error)?))
    })?;
    let rooms: Vec<i64> = looked_at.iter().filter(|(_, behind)| *behind).take(ROOMS).map(|&(no, _)| no).collect();
    let next = if rooms.len() == ROOMS {
        rooms.last().copied()
    } else {
        looked_at.last().filter(|_| looked_at.len() as i64 == LOOKED_AT).map(|&(no, _)| no)
    };
    Ok((rooms, next.map(RoomNo)))
}

pub fn forget(connection: &mut Connection, room: RoomNo, seqs: &[Seq]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    for &seq in seqs {
        execute(&transaction, REMOVE, [room.0, rows::seq_in(seq)])?;
    }
    transaction.commit().map_err(store_error)
}

/// Whether there was something to forget.
pub fn forget_of(connection: &mut Connection, user: &UserId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM search WHERE id IN (
            SELECT s.id FROM (SELECT rowid AS id FROM search_terms WHERE search_terms MATCH ?1) f
            CROSS JOIN search s ON s.id = f.id WHERE s.user_id = ?2 LIMIT ?3
        )";
    let sender = format!("\"{}\"", mark::sender(user));
    let gone = connection.execute(sql, params![sender, user.as_str(), FORGOTTEN]).map_err(store_error)?;
    Ok(gone > 0)
}
