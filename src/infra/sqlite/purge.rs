//! Removes what is left of deleted rooms in the background, a little at a time, so that a long log holds nobody up.
//!
//! Invariant: a room stays on the list (`doomed_rooms`) until nothing of it is left, so a crash only delays.

use std::sync::{Arc, Weak};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::threads::{Workers, store_error};
use crate::ports::StoreError;

/// Entries removed in one transaction: the writer is busy for a few milliseconds.
const CHUNK: usize = 500;

/// What there may be much of, in the order in which it goes.
const MUCH: [&str; 6] = [
    "DELETE FROM entries WHERE room_no = ?1
        AND seq IN (SELECT seq FROM entries WHERE room_no = ?1 ORDER BY seq LIMIT ?2)",
    "DELETE FROM revisions WHERE room_no = ?1 AND (target, replaced_by) IN
        (SELECT target, replaced_by FROM revisions WHERE room_no = ?1 ORDER BY target, replaced_by LIMIT ?2)",
    "DELETE FROM search WHERE id IN (SELECT id FROM search WHERE room_no = ?1 LIMIT ?2)",
    "DELETE FROM reactions WHERE room_no = ?1 AND (target, user_id, emoji) IN
        (SELECT target, user_id, emoji FROM reactions WHERE room_no = ?1 LIMIT ?2)",
    "DELETE FROM people WHERE room_no = ?1 AND user_id IN (SELECT user_id FROM people WHERE room_no = ?1 LIMIT ?2)",
    "DELETE FROM reports WHERE no IN (SELECT no FROM reports WHERE room_no = ?1 LIMIT ?2)",
];

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
    for sql in MUCH {
        if transaction.execute(sql, params![no, CHUNK]).map_err(store_error)? == CHUNK {
            transaction.commit().map_err(store_error)?;
            return Ok(true);
        }
    }
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
    transaction.commit().map_err(store_error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Room, RoomKind};
    use crate::ids::{RoomId, UserId};
    use crate::infra::sqlite::SqliteStore;
    use crate::ports::MessageStore;

    #[tokio::test]
    async fn however_much_is_left_of_a_room_it_goes_a_little_at_a_time() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let path = data.path().join("a.db");
        let store = SqliteStore::open(&path).expect("a store");
        store.migrate().await.expect("a fresh database");
        let room = Room::new(RoomId::parse("one").expect("a valid id"), RoomKind::Public);
        let owner = UserId::parse("alice").expect("a valid id");
        store.create_room(&room, &owner, None).await.expect("made");
        drop(store);
        let mut connection = Connection::open(&path).expect("the database");
        let many = CHUNK * 5 / 2;
        let fill = format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {many})
             INSERT INTO people (room_no, user_id, role) SELECT 1, 'u' || n, 2 FROM n;
             INSERT INTO reactions (room_no, target, user_id, emoji) SELECT 1, 1, user_id, 'x' FROM people;
             INSERT INTO reports (room_no, seq, reporter, at) SELECT 1, 1, user_id, 0 FROM people;
             UPDATE rooms SET deleted = 1; INSERT INTO doomed_rooms (no) VALUES (1);"
        );
        connection.execute_batch(&fill).expect("filled");
        let tables = ["people", "reactions", "reports"];
        let counts = |connection: &Connection| {
            tables.map(|table| {
                let sql = format!("SELECT count(*) FROM {table}");
                connection.query_row(&sql, [], |row| row.get::<_, usize>(0)).expect("a count")
            })
        };
        let mut before = counts(&connection);
        assert!(before.iter().all(|count| *count >= many), "{before:?}");
        while chunk(&mut connection).expect("the database is there") {
            let now = counts(&connection);
            assert!(before.iter().zip(now).all(|(before, now)| before - now <= CHUNK), "{before:?} {now:?}");
            before = now;
        }
        assert_eq!(before, [0; 3]);
    }
}
