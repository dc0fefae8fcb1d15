//! Erasing messages that have disappeared, a little at a time; one transaction of the one writer a step.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::SqliteStore;
use super::rooms::{ROOM, ROOM_COLUMNS, collect, room_of};
use super::threads::store_error;
use crate::ids::Millis;
use crate::infra::expiring::{self, Seen};
use crate::ports::{ExpiryStore, StoreError};

const DUE: &str = "SELECT room_no FROM expiring_rooms WHERE due <= ?1 ORDER BY due LIMIT 1";

const WINDOW: &str = "SELECT e.seq, e.at, e.kind = 0 AND e.text IS NOT NULL
    FROM expiring_rooms x JOIN entries e ON e.room_no = x.room_no AND e.seq > x.upto
    WHERE x.room_no = ?1 ORDER BY e.seq LIMIT ?2";

const AGAIN: &str = "UPDATE expiring_rooms SET due = ?2, upto = max(upto, ?3) WHERE room_no = ?1";

const DONE: &str = "DELETE FROM expiring_rooms WHERE room_no = ?1";

/// Erase all that holds a text of a message (`?2`) of a room (`?1`), except for the names of reactions.
pub const ERASE_MESSAGE: [&str; 5] = [
    "UPDATE entries SET text = NULL, data = NULL WHERE room_no = ?1 AND seq = ?2 AND kind = 0",
    "UPDATE entries INDEXED BY entries_edits SET text = NULL WHERE room_no = ?1 AND target = ?2 AND kind = 1",
    "DELETE FROM revisions WHERE room_no = ?1 AND target = ?2",
    "DELETE FROM pins WHERE room_no = ?1 AND target = ?2",
    "DELETE FROM search WHERE room_no = ?1 AND seq = ?2",
];

/// Erases messages of a room with all that holds their texts.
pub fn erase_messages(transaction: &Transaction<'_>, room_no: i64, seqs: &[i64]) -> Result<(), StoreError> {
    for sql in ERASE_MESSAGE {
        let mut erase = transaction.prepare_cached(sql).map_err(store_error)?;
        for seq in seqs {
            erase.execute([room_no, *seq]).map_err(store_error)?;
        }
    }
    Ok(())
}

#[async_trait]
impl ExpiryStore for SqliteStore {
    async fn expire(&self, now: Millis, limit: u32) -> Result<bool, StoreError> {
        self.writer.run(move |connection| expire(connection, now, limit.max(1))).await
    }
}

fn expire(connection: &mut Connection, now: Millis, asked: u32) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let due = {
        let mut due = transaction.prepare_cached(DUE).map_err(store_error)?;
        due.query_row([now], |row| row.get::<_, i64>(0)).optional().map_err(store_error)?
    };
    let Some(no) = due else { return Ok(false) };
    let sql = format!(
        "SELECT {ROOM}, x.upto FROM rooms r JOIN expiring_rooms x ON x.room_no = r.no WHERE r.no = ?1 AND r.deleted = 0"
    );
    let record = |row: &Row<'_>| Ok((room_of(row)?, row.get::<_, i64>(ROOM_COLUMNS).map_err(store_error)?));
    let due = match collect(&transaction, &sql, [no], record)?.pop() {
        None => None,
        Some((room, upto)) => {
            let seen = collect(&transaction, WINDOW, params![no, asked], |row| seen(row).map_err(store_error))?;
            let step = expiring::step(&room, &seen, upto, asked as usize, now);
            erase_messages(&transaction, no, &step.erased)?;
            step.due.map(|due| (due, step.upto))
        }
    };
    match due {
        Some((due, upto)) => transaction.execute(AGAIN, [no, due, upto]),
        None => transaction.execute(DONE, [no]),
    }
    .map_err(store_error)?;
    transaction.commit().map_err(store_error)?;
    Ok(true)
}

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    Ok(Seen { seq: row.get(0)?, at: row.get(1)?, has_text: row.get(2)? })
}
