//! Removes what is left of deleted rooms in the background, a little at a time, so that a long log holds nobody up.
//!
//! Invariant: a room stays on the list (`doomed_rooms`) until nothing of it is left, so a crash only delays.

use std::sync::{Arc, Weak};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::threads::{Workers, store_error};
use crate::ports::StoreError;

/// Entries removed in one transaction: the writer is busy for a few milliseconds.
const CHUNK: usize = 500;

/// There may be rooms on the list. Ends when there are none, or the store is closed; begun again at the next start.
pub fn start(writer: &Arc<Workers>) {
    let writer: Weak<Workers> = Arc::downgrade(writer);
    tokio::spawn(async move {
        loop {
            let Some(writer) = writer.upgrade() else { return };
            match writer.run(chunk).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(error = %error, "what is left of deleted rooms stays until the next start");
                    return;
                }
            }
        }
    });
}

/// Whether there was something to remove.
fn chunk(connection: &mut Connection) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let execute =
        |sql: &str, params: &[i64]| transaction.execute(sql, rusqlite::params_from_iter(params)).map_err(store_error);
    let taken = transaction.query_row("SELECT no FROM doomed_rooms LIMIT 1", [], |row| row.get(0)).optional();
    let Some(no) = taken.map_err(store_error)? else { return Ok(false) };
    let entries = "DELETE FROM entries WHERE room_no = ?1 \
                   AND seq IN (SELECT seq FROM entries WHERE room_no = ?1 ORDER BY seq LIMIT ?2)";
    let revisions = "DELETE FROM revisions WHERE room_no = ?1 AND (target, replaced_by) IN \
                     (SELECT target, replaced_by FROM revisions WHERE room_no = ?1 ORDER BY target, replaced_by LIMIT ?2)";
    let found = "DELETE FROM search WHERE id IN (SELECT id FROM search WHERE room_no = ?1 LIMIT ?2)";
    let removed = |sql: &str| transaction.execute(sql, params![no, CHUNK]).map_err(store_error);
    if removed(entries)? < CHUNK && removed(revisions)? < CHUNK && removed(found)? < CHUNK {
        execute("DELETE FROM pins WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM invitations WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM search_progress WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM reactions WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM people WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM reports WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM webhook_dead WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM webhook_cursors WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM webhooks WHERE room_no = ?1", &[no])?;
        execute("DELETE FROM doomed_rooms WHERE no = ?1", &[no])?;
    }
    transaction.commit().map_err(store_error)?;
    Ok(true)
}
