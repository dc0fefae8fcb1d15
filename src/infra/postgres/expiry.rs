//! Erasing messages that have disappeared, a little at a time.
//!
//! Invariant: the room's head is locked meanwhile, as by an append, so that an edit is wholly before (its text goes too) or
//! behind (it finds no text to replace).

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::pool::Step;
use super::rooms::{ROOM, ROOM_COLUMNS, room_of};
use crate::ids::Millis;
use crate::infra::expiring::{self, Seen};
use crate::ports::{ExpiryStore, StoreError};

const DUE: &str = "SELECT room_no FROM expiring_rooms WHERE due <= $1 ORDER BY due LIMIT 1";

const LOCK: &str = "SELECT 1 FROM room_heads WHERE no = $1 FOR UPDATE";

const WINDOW: &str = "SELECT e.seq, e.at, e.kind = 0 AND e.text IS NOT NULL
    FROM entries e WHERE e.room_no = $1 AND e.seq > (SELECT upto FROM expiring_rooms WHERE room_no = $1)
    ORDER BY e.seq LIMIT $2";

const AGAIN: &str = "UPDATE expiring_rooms SET due = $2, upto = greatest(upto, $3) WHERE room_no = $1";

const DONE: &str = "DELETE FROM expiring_rooms WHERE room_no = $1";

/// Erase all that holds a text of these messages (`$2`) of a room (`$1`), except for the names of reactions.
pub const ERASE_MESSAGES: [&str; 5] = [
    "UPDATE entries SET text = NULL, data = NULL WHERE room_no = $1 AND seq = ANY ($2) AND kind = 0",
    "UPDATE entries e SET text = NULL FROM unnest($2::bigint[]) AS n (target)
        WHERE e.room_no = $1 AND e.target = n.target AND e.kind = 1 AND e.text IS NOT NULL",
    "DELETE FROM revisions v USING unnest($2::bigint[]) AS n (target) WHERE v.room_no = $1 AND v.target = n.target",
    "DELETE FROM pins p USING unnest($2::bigint[]) AS n (target) WHERE p.room_no = $1 AND p.target = n.target",
    "SELECT forget_texts(array_fill($1::bigint, ARRAY[cardinality($2::bigint[])]), $2::bigint[])",
];

type Param<'a> = &'a (dyn ToSql + Sync);

#[async_trait]
impl ExpiryStore for PostgresStore {
    async fn expire(&self, now: Millis, limit: u32) -> Result<bool, StoreError> {
        let mut lease = self.lease().await?;
        let Some(due) = lease.query_opt(DUE, &[&now]).await? else { return Ok(false) };
        let no: i64 = due.get(0);
        let record = format!(
            "SELECT {ROOM}, x.upto FROM rooms r JOIN room_heads h ON h.no = r.no JOIN expiring_rooms x ON x.room_no = r.no \
             WHERE r.no = $1"
        );
        let asked = limit.max(1);
        let look = [
            Step::Begin,
            Step::Ask(LOCK, &[&no]),
            Step::Ask(&record, &[&no]),
            Step::Ask(WINDOW, &[&no, &i64::from(asked)]),
        ];
        let answers = lease.transaction(&look).await?;
        let [_, _, record, window] = answers.as_slice() else {
            return Err(StoreError::Fault("an answer a question was expected".into()));
        };
        let Some(record) = record.first() else {
            // Deleted since it was found.
            lease.transaction(&[Step::Ask(DONE, &[&no]), Step::Commit]).await?;
            return Ok(true);
        };
        let seen: Vec<Seen> =
            window.iter().map(|row| Seen { seq: row.get(0), at: row.get(1), has_text: row.get(2) }).collect();
        let upto: i64 = record.get(ROOM_COLUMNS);
        let step = expiring::step(&room_of(record)?, &seen, upto, asked as usize, now);
        let erase: [Param<'_>; 2] = [&no, &step.erased];
        let again: [Param<'_>; 3] = [&no, &step.due, &step.upto];
        let mut steps = Vec::with_capacity(ERASE_MESSAGES.len() + 2);
        if !step.erased.is_empty() {
            steps.extend(ERASE_MESSAGES.map(|sql| Step::Ask(sql, &erase)));
        }
        steps.push(if step.due.is_some() { Step::Ask(AGAIN, &again) } else { Step::Ask(DONE, &again[..1]) });
        steps.push(Step::Commit);
        lease.transaction(&steps).await?;
        Ok(true)
    }
}
