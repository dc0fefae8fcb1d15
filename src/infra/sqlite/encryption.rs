//! Keys of rooms, and the steps that encrypt what was there before. All that writes is done by the one writer, so nothing
//! comes between.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::SqliteStore;
use super::logs::{ENTRY, row_of};
use super::rooms::collect;
use super::threads::store_error;
use crate::ids::RoomId;
use crate::infra::codes;
use crate::infra::rows::EntryRow;
use crate::infra::sealed::{Place, RoomKey, Sealing, Wrapped, no_key, sealed};
use crate::ports::{EncryptionLeft, EncryptionStore, StoreError};

/// Rooms that get a key in one step: their owners open them again.
const ROOMS: i64 = 10;
/// Keys brought under another in one step.
const KEYS: i64 = 200;

const OF_ROOM: &str =
    "SELECT k.ring_key, k.wrapped, r.id FROM room_keys k JOIN rooms r ON r.no = k.room_no WHERE k.room_no = ?1";

fn wrapped_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Wrapped> {
    Ok(Wrapped { ring_key: row.get(first)?, bytes: row.get(first + 1)? })
}

/// The key of a room, where it has one.
pub fn room_key(connection: &Connection, sealing: &Sealing, no: i64) -> Result<Option<RoomKey>, StoreError> {
    let mut of_room = connection.prepare_cached(OF_ROOM).map_err(store_error)?;
    let found = of_room.query_row([no], |row| Ok((wrapped_of(row, 0)?, row.get::<_, String>(2)?))).optional();
    found.map_err(store_error)?.map(|(wrapped, room)| sealing.unwrap(&room, &wrapped)).transpose()
}

/// The key to open a sealed value of a room with.
pub fn key(connection: &Connection, sealing: &Sealing, no: i64) -> Result<RoomKey, StoreError> {
    if let Some(key) = sealing.to_read(no) {
        return Ok(key);
    }
    let key = room_key(connection, sealing, no)?.ok_or_else(|| no_key(no))?;
    sealing.remember(no, 0, Some(key.clone()));
    Ok(key)
}

/// The key to append to a room with.
pub fn append_key(
    connection: &Connection,
    sealing: &Sealing,
    no: i64,
    epoch: i64,
) -> Result<Option<RoomKey>, StoreError> {
    if !sealing.is_on() {
        return Ok(None);
    }
    if let Some(key) = sealing.to_append(no, epoch) {
        return Ok(key);
    }
    let key = room_key(connection, sealing, no)?;
    // The room may have a newer epoch; nothing is appended with this one then.
    sealing.remember(no, epoch, key.clone());
    Ok(key)
}

/// The key to seal what somebody writes about a room, which is encrypted or not while the transaction lasts.
pub fn held(transaction: &Connection, sealing: &Sealing, no: i64) -> Result<Option<RoomKey>, StoreError> {
    if !sealing.is_on() {
        return Ok(None);
    }
    sealing.to_read(no).map_or_else(|| room_key(transaction, sealing, no), |key| Ok(Some(key)))
}

/// Gives the room a key where it is to have one and has none. In the transaction that raised its epoch.
pub fn give_key(transaction: &Transaction<'_>, sealing: &Sealing, room: &RoomId) -> Result<(), StoreError> {
    let kinds = sealing.kinds();
    if kinds.is_empty() {
        return Ok(());
    }
    let sql = "SELECT no, kind, head FROM rooms WHERE id = ?1 AND deleted = 0 AND encrypted = 0";
    let found = transaction.query_row(sql, [room.as_str()], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i16>(1)?, row.get::<_, i64>(2)?))
    });
    let Some((no, kind, head)) = found.optional().map_err(store_error)? else { return Ok(()) };
    if !kinds.contains(&kind) {
        return Ok(());
    }
    let Wrapped { ring_key, bytes } = sealing.new_key(room.as_str())?;
    let sql = "INSERT INTO room_keys (room_no, ring_key, wrapped, clear_to) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![no, ring_key, bytes, head]).map_err(store_error)?;
    transaction.execute("UPDATE rooms SET encrypted = 1 WHERE no = ?1", [no]).map_err(store_error)?;
    Ok(())
}

/// Whether there were rooms that are to have a key.
fn give_keys(connection: &mut Connection, sealing: &Sealing) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let mut any = false;
    for kind in sealing.kinds() {
        let sql = "SELECT id FROM rooms WHERE kind = ?1 AND encrypted = 0 AND deleted = 0 LIMIT ?2";
        let rooms = collect(&transaction, sql, [i64::from(*kind), ROOMS], |row| {
            crate::infra::rows::room_id(&row.get::<_, String>(0).map_err(store_error)?)
        })?;
        for room in rooms {
            let raise = "UPDATE rooms SET epoch = epoch + 1 WHERE id = ?1";
            transaction.execute(raise, [room.as_str()]).map_err(store_error)?;
            give_key(&transaction, sealing, &room)?;
            any = true;
        }
    }
    transaction.commit().map_err(store_error)?;
    Ok(any)
}

const IN_CLEAR: &str = "SELECT room_no, sealed_to, clear_to FROM room_keys WHERE sealed_to < clear_to LIMIT 1";
const SEAL: &str = "UPDATE entries SET text = ?3, data = ?4 WHERE room_no = ?1 AND seq = ?2";
const REPLACED: &str = "SELECT text FROM revisions WHERE room_no = ?1 AND target = ?2 AND replaced_by = ?3";
const SEAL_REPLACED: &str = "UPDATE revisions SET text = ?4 WHERE room_no = ?1 AND target = ?2 AND replaced_by = ?3";
const REPORTS: &str = "SELECT no, reporter, reason, note FROM reports WHERE room_no = ?1 AND seq = ?2";
const SEAL_REPORT: &str = "UPDATE reports SET reason = ?2, note = ?3 WHERE no = ?1";
const FORGET: &str = "DELETE FROM search WHERE room_no = ?1 AND seq = ?2";
const PROGRESS: &str = "UPDATE room_keys SET sealed_to = ?2 WHERE room_no = ?1";

fn execute(transaction: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
    transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)?;
    Ok(())
}

/// Whether there was a room with texts in the clear.
fn seal_older(connection: &mut Connection, sealing: &Sealing, limit: i64) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let place = transaction
        .query_row(IN_CLEAR, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
    let Some((no, from, to)) = place.optional().map_err(store_error)? else { return Ok(false) };
    let room_key = key(&transaction, sealing, no)?;
    let window = format!(
        "SELECT {ENTRY} FROM entries e WHERE e.room_no = ?1 AND e.seq > ?2 AND e.seq <= ?3 ORDER BY e.seq LIMIT ?4"
    );
    let read = |row: &Row<'_>| row_of(row).map_err(store_error);
    let found = collect(&transaction, &window, params![no, from, to, limit], read)?;
    // Where nothing is left of what there was, that is all of it.
    let full = found.len() as i64 == limit;
    let upto = found.last().filter(|_| full).map_or(i64::MAX, |last| last.seq);
    for row in found {
        seal_entry(&transaction, &room_key, no, row)?;
    }
    execute(&transaction, PROGRESS, [no, upto])?;
    transaction.commit().map_err(store_error)?;
    Ok(true)
}

/// Seals an entry and what is written elsewhere of it, and takes it out of the index of texts.
fn seal_entry(transaction: &Connection, key: &RoomKey, no: i64, mut row: EntryRow) -> Result<(), StoreError> {
    let (seq, kind, target) = (row.seq, row.kind, row.target);
    if matches!(kind, codes::MESSAGE | codes::EDIT) && row.text.is_some() {
        row.seal(no, Some(key))?;
        execute(transaction, SEAL, params![no, seq, row.text, row.data])?;
    }
    match (kind, target) {
        (codes::EDIT, Some(target)) => {
            let of_edit = [no, target, seq];
            let texts = collect(transaction, REPLACED, of_edit, |row| row.get::<_, String>(0).map_err(store_error))?;
            for text in texts {
                let text = sealed(Some(key), no, Place::Revision { target, replaced_by: seq }, text)?;
                execute(transaction, SEAL_REPLACED, params![no, target, seq, text])?;
            }
        }
        (codes::MESSAGE, _) => {
            execute(transaction, FORGET, [no, seq])?;
            let report = |row: &Row<'_>| {
                let text = |column| row.get::<_, Option<String>>(column);
                let get = || Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, text(2)?, text(3)?));
                get().map_err(store_error)
            };
            for (report, reporter, reason, note) in collect(transaction, REPORTS, [no, seq], report)? {
                let seal =
                    |place, text: Option<String>| text.map(|text| sealed(Some(key), no, place, text)).transpose();
                let reason = seal(Place::Reason { seq, reporter: &reporter }, reason)?;
                let note = seal(Place::Note(report), note)?;
                execute(transaction, SEAL_REPORT, params![report, reason, note])?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether there were keys under another than the active one.
fn rewrap(connection: &mut Connection, sealing: &Sealing) -> Result<bool, StoreError> {
    let Some(active) = sealing.active() else { return Ok(false) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let mut any = false;
    for other in ["<", ">"] {
        let sql = format!(
            "SELECT k.ring_key, k.wrapped, k.room_no, r.id FROM room_keys k JOIN rooms r ON r.no = k.room_no
             WHERE k.ring_key {other} ?1 LIMIT ?2"
        );
        let keys = collect(&transaction, &sql, params![active, KEYS], |row| {
            let get = || Ok((wrapped_of(row, 0)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?));
            get().map_err(store_error)
        })?;
        for (wrapped, no, room) in keys {
            let Wrapped { ring_key, bytes } = sealing.rewrap(&room, &wrapped)?;
            let sql = "UPDATE room_keys SET ring_key = ?2, wrapped = ?3 WHERE room_no = ?1";
            execute(&transaction, sql, params![no, ring_key, bytes])?;
            any = true;
        }
    }
    transaction.commit().map_err(store_error)?;
    Ok(any)
}

fn check_keys(connection: &Connection, sealing: &Sealing) -> Result<(), StoreError> {
    let next = "SELECT k.ring_key, k.wrapped, r.id FROM room_keys k JOIN rooms r ON r.no = k.room_no
        WHERE k.ring_key > ?1 ORDER BY k.ring_key LIMIT 1";
    let mut name = String::new();
    loop {
        let found = connection
            .query_row(next, [&name], |row| Ok((wrapped_of(row, 0)?, row.get::<_, String>(2)?)))
            .optional()
            .map_err(store_error)?;
        let Some((wrapped, room)) = found else { return Ok(()) };
        sealing.unwrap(&room, &wrapped)?;
        name = wrapped.ring_key;
    }
}

fn left(connection: &Connection, sealing: &Sealing) -> Result<EncryptionLeft, StoreError> {
    let Some(active) = sealing.active() else { return Ok(EncryptionLeft::default()) };
    let count = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        connection.query_row(sql, params, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs).map_err(store_error)
    };
    let mut left = EncryptionLeft {
        entries: count("SELECT coalesce(sum(clear_to - sealed_to), 0) FROM room_keys WHERE sealed_to < clear_to", &[])?,
        ..EncryptionLeft::default()
    };
    for kind in sealing.kinds() {
        left.rooms += count("SELECT count(*) FROM rooms WHERE kind = ?1 AND encrypted = 0 AND deleted = 0", &[kind])?;
    }
    for other in ["<", ">"] {
        left.keys += count(&format!("SELECT count(*) FROM room_keys WHERE ring_key {other} ?1"), &[&active])?;
    }
    Ok(left)
}

#[async_trait]
impl EncryptionStore for SqliteStore {
    async fn check_keys(&self) -> Result<(), StoreError> {
        let sealing = self.sealing();
        self.readers.run(move |connection| check_keys(connection, &sealing)).await
    }

    async fn encrypt_some(&self, limit: u32) -> Result<bool, StoreError> {
        let sealing = self.sealing();
        if !sealing.is_on() {
            return Ok(false);
        }
        let step = move |connection: &mut Connection| {
            Ok(give_keys(connection, &sealing)?
                || seal_older(connection, &sealing, i64::from(limit.max(1)))?
                || rewrap(connection, &sealing)?)
        };
        self.writer.run(step).await
    }

    async fn encryption_left(&self) -> Result<EncryptionLeft, StoreError> {
        let sealing = self.sealing();
        self.readers.run(move |connection| left(connection, &sealing)).await
    }
}
