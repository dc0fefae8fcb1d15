//! What is due to be delivered to webhooks: noted, claimed, settled, swept for.
//!
//! Invariants: a hook's `due_at` is not later than the earliest of its cursors'; a claimed cursor that has news says so
//! in `again`.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::rooms::collect;
use super::threads::store_error;
use super::webhooks::NOW;
use crate::infra::rows::{self, kinds_out};
use crate::ports::{DEAD_MAX, Delivery, RoomNo, Settled, StoreError, SweepPlace};

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
}

fn finds(connection: &Connection, sql: &str) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    Ok(statement.query_row([], |_| Ok(())).optional().map_err(store_error)?.is_some())
}

pub fn any_active(connection: &Connection) -> Result<bool, StoreError> {
    finds(connection, "SELECT no FROM webhooks WHERE active = 1 LIMIT 1")
}

pub fn anything_due(connection: &mut Connection) -> Result<bool, StoreError> {
    let hooks = format!(
        "SELECT no FROM webhooks WHERE active = 1 AND due_at IS NOT NULL AND max(due_at, resume_at) <= {NOW} LIMIT 1"
    );
    let dead = format!("SELECT no FROM webhook_dead WHERE due_at <= {NOW} LIMIT 1");
    Ok(finds(connection, &hooks)? || finds(connection, &dead)?)
}

pub fn note(connection: &mut Connection, rooms: &[RoomNo]) -> Result<(), StoreError> {
    let transaction = begin(connection)?;
    // A room without a cursor that is newer than a hook for all rooms begins with its first entry.
    let fresh = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
        SELECT w.no, ?1, 0 FROM webhooks w WHERE w.room_no = 0 AND w.active = 1 AND (w.ready = 1 OR ?1 >= w.first_new)
        ON CONFLICT (hook_no, room_no) DO NOTHING";
    let due = format!(
        "UPDATE webhook_cursors
         SET due_at = CASE WHEN claim IS NULL THEN {NOW} ELSE due_at END, again = claim IS NOT NULL
         WHERE room_no = ?1 AND (due_at IS NULL OR (claim IS NOT NULL AND again = 0))
           AND seq < (SELECT r.head FROM rooms r WHERE r.no = ?1)
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.no = hook_no AND w.active = 1)"
    );
    let lower = format!(
        "UPDATE webhooks SET due_at = {NOW} WHERE active = 1 AND (due_at IS NULL OR due_at > {NOW})
         AND no IN (SELECT c.hook_no FROM webhook_cursors c WHERE c.room_no = ?1 AND c.due_at <= {NOW})"
    );
    for room in rooms {
        execute(&transaction, fresh, [room.0])?;
        execute(&transaction, &due, [room.0])?;
        execute(&transaction, &lower, [room.0])?;
    }
    transaction.commit().map_err(store_error)
}

/// The columns that [`hook_of`] reads, of `webhooks w`.
fn hook_columns() -> String {
    format!("w.no, w.id, w.url, w.secret, CASE WHEN w.old_until > {NOW} THEN w.old_secret END, w.kinds")
}

/// A delivery that knows its hook, and nothing yet of what is due.
fn hook_of(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let text = |column| row.get::<_, String>(column).map_err(store_error);
    let old: Option<String> = row.get(4).map_err(store_error)?;
    Ok(Delivery {
        hook_no: row.get(0).map_err(store_error)?,
        hook: text(1)?,
        url: text(2)?,
        secrets: std::iter::once(text(3)?).chain(old).collect(),
        kinds: kinds_out(&text(5)?),
        room_no: RoomNo(0),
        room: None,
        after: 0,
        to: None,
        attempts: 0,
        claim: 0,
        dead: None,
    })
}

/// Fills in what is due, from columns `room_no, after, to, attempts, room` that start at `first`.
fn due_of(hook: Delivery, row: &Row<'_>, first: usize) -> Result<Delivery, StoreError> {
    let get = |column| row.get::<_, i64>(first + column).map_err(store_error);
    let room: Option<String> = row.get(first + 4).map_err(store_error)?;
    Ok(Delivery {
        room_no: RoomNo(get(0)?),
        after: rows::seq_out(get(1)?),
        to: row.get::<_, Option<i64>>(first + 2).map_err(store_error)?.map(rows::seq_out),
        attempts: u32::try_from(get(3)?).unwrap_or(0),
        room: room.as_deref().map(rows::room_id).transpose()?,
        ..hook
    })
}

pub fn claim(
    connection: &mut Connection,
    busy: &[i64],
    hooks: u32,
    each: u32,
    claim_for: Duration,
) -> Result<Vec<Delivery>, StoreError> {
    let transaction = begin(connection)?;
    let columns = hook_columns();
    let claim_ms = claim_for.as_millis() as i64;
    let due = format!(
        "SELECT {columns} FROM webhooks w
         WHERE w.active = 1 AND w.due_at IS NOT NULL AND max(w.due_at, w.resume_at) <= {NOW}
         ORDER BY max(w.due_at, w.resume_at) LIMIT ?1"
    );
    let rooms = format!(
        "SELECT c.room_no, c.seq, c.tried_to, c.attempts, (SELECT r.id FROM rooms r WHERE r.no = c.room_no AND r.deleted = 0)
         FROM webhook_cursors c WHERE c.hook_no = ?1 AND c.due_at <= {NOW} ORDER BY c.due_at LIMIT ?2"
    );
    let take = format!(
        "UPDATE webhook_cursors SET due_at = {NOW} + ?3, claim = ?4, again = 0 WHERE hook_no = ?1 AND room_no = ?2"
    );
    // What is overdue still goes to the back of the queue: others are next.
    let raise = format!(
        "UPDATE webhooks SET due_at =
             (SELECT max(min(c.due_at), {NOW}) FROM webhook_cursors c WHERE c.hook_no = ?1 AND c.due_at IS NOT NULL)
         WHERE no = ?1"
    );
    // Those that are busy may be among the first: as many more are looked at.
    let look_at = u64::from(hooks) + busy.len() as u64;
    let found = collect(&transaction, &due, [i64::try_from(look_at).unwrap_or(i64::MAX)], hook_of)?;
    let mut deliveries = Vec::new();
    for hook in found.into_iter().filter(|hook| !busy.contains(&hook.hook_no)).take(hooks as usize) {
        let no = hook.hook_no;
        let claim: i64 = rand::random();
        let claimed =
            collect(&transaction, &rooms, params![no, each], |row| due_of(Delivery { claim, ..hook.clone() }, row, 0))?;
        for delivery in &claimed {
            execute(&transaction, &take, params![no, delivery.room_no.0, claim_ms, claim])?;
        }
        execute(&transaction, &raise, [no])?;
        deliveries.extend(claimed);
    }
    let dead = format!(
        "SELECT {columns}, d.no, d.room_no, d.after_seq, d.to_seq, d.attempts,
             (SELECT r.id FROM rooms r WHERE r.no = d.room_no AND r.deleted = 0)
         FROM webhook_dead d CROSS JOIN webhooks w ON w.no = d.hook_no
         WHERE d.due_at <= {NOW} AND w.active = 1 ORDER BY d.due_at LIMIT ?1"
    );
    let dead = collect(&transaction, &dead, [each], |row| {
        let hook = Delivery { dead: Some(row.get(6).map_err(store_error)?), ..hook_of(row)? };
        due_of(hook, row, 7)
    })?;
    for delivery in dead.into_iter().filter(|delivery| !busy.contains(&delivery.hook_no)) {
        let sql = format!("UPDATE webhook_dead SET due_at = {NOW} + ?2 WHERE no = ?1");
        execute(&transaction, &sql, params![delivery.dead, claim_ms])?;
        deliveries.push(delivery);
    }
    transaction.commit().map_err(store_error)?;
    Ok(deliveries)
}

pub fn settle(connection: &mut Connection, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError> {
    let transaction = begin(connection)?;
    match delivery.dead {
        Some(no) => settle_dead(&transaction, no, delivery.hook_no, settled)?,
        None => settle_live(&transaction, delivery, settled)?,
    }
    transaction.commit().map_err(store_error)
}

fn settle_live(transaction: &Transaction<'_>, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError> {
    let (hook, room, claim) = (delivery.hook_no, delivery.room_no.0, delivery.claim);
    let on = format!(
        "UPDATE webhook_cursors SET seq = max(seq, ?4), attempts = 0, tried_to = NULL, claim = NULL, again = 0,
             due_at = CASE WHEN again = 1 OR (SELECT r.head FROM rooms r WHERE r.no = room_no) > ?4 THEN {NOW} END
         WHERE hook_no = ?1 AND room_no = ?2 AND claim = ?3"
    );
    let wait = format!(
        "UPDATE webhook_cursors SET attempts = attempts + ?4, tried_to = coalesce(?5, tried_to), claim = NULL, again = 0,
             due_at = {NOW} + ?6
         WHERE hook_no = ?1 AND room_no = ?2 AND claim = ?3"
    );
    let lower = || {
        let sql =
            "UPDATE webhooks SET due_at = min(coalesce(webhooks.due_at, c.due_at), c.due_at) FROM webhook_cursors c
            WHERE no = ?1 AND c.hook_no = ?1 AND c.room_no = ?2 AND c.due_at IS NOT NULL";
        execute(transaction, sql, params![hook, room])
    };
    let millis = |wait: &Duration| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
    match settled {
        Settled::Done { to } => {
            execute(transaction, &on, params![hook, room, claim, rows::seq_in(*to)])?;
            lower()?;
        }
        Settled::Again { to, wait: after, pause } => {
            let to = rows::seq_in(*to);
            execute(transaction, &wait, params![hook, room, claim, 1, to, millis(after)])?;
            lower()?;
            let sql = format!("UPDATE webhooks SET resume_at = max(resume_at, {NOW} + ?2) WHERE no = ?1");
            execute(transaction, &sql, params![hook, millis(pause)])?;
        }
        Settled::Left { wait: after } => {
            execute(transaction, &wait, params![hook, room, claim, 0, None::<i64>, millis(after)])?;
            lower()?;
        }
        Settled::Dead { to, reason } => {
            let to = rows::seq_in(*to);
            let sql = format!(
                "INSERT INTO webhook_dead (hook_no, room_no, after_seq, to_seq, at, attempts, reason)
                 SELECT hook_no, room_no, seq, ?4, {NOW}, attempts + 1, ?5 FROM webhook_cursors
                 WHERE hook_no = ?1 AND room_no = ?2 AND claim = ?3"
            );
            execute(transaction, &sql, params![hook, room, claim, to, reason])?;
            execute(transaction, &on, params![hook, room, claim, to])?;
            lower()?;
            let full = "UPDATE webhooks SET active = 0, off_reason = 'too many dead letters'
                WHERE no = ?1 AND active = 1 AND (SELECT count(*) FROM webhook_dead WHERE hook_no = ?1) >= ?2";
            execute(transaction, full, params![hook, DEAD_MAX])?;
        }
        Settled::Gone => {
            let park = "UPDATE webhook_cursors SET claim = NULL, again = 0, due_at = NULL
                WHERE hook_no = ?1 AND room_no = ?2 AND claim = ?3";
            execute(transaction, park, params![hook, room, claim])?;
            execute(transaction, GONE, [hook])?;
        }
        Settled::NoRoom => {
            let cursor = "DELETE FROM webhook_cursors WHERE hook_no = ?1 AND room_no = ?2 AND claim = ?3";
            execute(transaction, cursor, params![hook, room, claim])?;
            execute(transaction, "DELETE FROM webhooks WHERE no = ?1 AND room_no = ?2", params![hook, room])?;
        }
    }
    Ok(())
}

const GONE: &str = "UPDATE webhooks SET active = 0, off_reason = 'the receiver answered 410 Gone' WHERE no = ?1";

/// A batch that was given up has one more try for each time it is asked for.
fn settle_dead(transaction: &Transaction<'_>, no: i64, hook: i64, settled: &Settled) -> Result<(), StoreError> {
    match settled {
        Settled::Done { .. } | Settled::NoRoom => {
            execute(transaction, "DELETE FROM webhook_dead WHERE no = ?1", [no])?;
        }
        Settled::Left { wait } => {
            let sql = format!("UPDATE webhook_dead SET due_at = {NOW} + ?2 WHERE no = ?1");
            execute(transaction, &sql, params![no, wait.as_millis() as i64])?;
        }
        Settled::Again { .. } | Settled::Gone => {
            let sql = "UPDATE webhook_dead SET due_at = NULL, attempts = attempts + 1 WHERE no = ?1";
            execute(transaction, sql, [no])?;
            if matches!(settled, Settled::Gone) {
                execute(transaction, GONE, [hook])?;
            }
        }
        Settled::Dead { reason, .. } => {
            let sql = "UPDATE webhook_dead SET due_at = NULL, attempts = attempts + 1, reason = ?2 WHERE no = ?1";
            execute(transaction, sql, params![no, reason])?;
        }
    }
    Ok(())
}

pub fn fill(connection: &mut Connection, limit: u32) -> Result<bool, StoreError> {
    let transaction = begin(connection)?;
    let three = |row: &Row<'_>| {
        let get = |column| row.get::<_, i64>(column).map_err(store_error);
        Ok((get(0)?, get(1)?, get(2)?))
    };
    let number = |row: &Row<'_>| row.get::<_, i64>(0).map_err(store_error);
    // Those before the hook begin at their heads …
    let begun = "SELECT no, filled_to, first_new FROM webhooks WHERE room_no = 0 AND ready = 0 ORDER BY url LIMIT 1";
    if let Some((no, from, first_new)) = collect(&transaction, begun, [], three)?.pop() {
        let rooms = "SELECT no FROM rooms WHERE no > ?1 AND no < ?2 ORDER BY no LIMIT ?3";
        let rooms = collect(&transaction, rooms, params![from, first_new, limit], number)?;
        let cursor = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
            SELECT ?1, no, head FROM rooms WHERE no = ?2 AND deleted = 0 ON CONFLICT (hook_no, room_no) DO NOTHING";
        for room in &rooms {
            execute(&transaction, cursor, params![no, room])?;
        }
        let (to, ready) = (rooms.last().copied().unwrap_or(from), rooms.len() < limit as usize);
        execute(&transaction, "UPDATE webhooks SET filled_to = ?2, ready = ?3 WHERE no = ?1", params![no, to, ready])?;
        transaction.commit().map_err(store_error)?;
        return Ok(true);
    }
    // … and newer ones, whose first entry somebody should have noted, at nothing.
    let mut more = false;
    let filled = "SELECT no, filled_to, 0 FROM webhooks WHERE room_no = 0 AND active = 1 ORDER BY url";
    for (no, filled_to, _) in collect(&transaction, filled, [], three)? {
        let rooms = "SELECT no FROM rooms WHERE no > ?1 AND deleted = 0 ORDER BY no LIMIT ?2";
        let rooms = collect(&transaction, rooms, params![filled_to, limit], number)?;
        let Some(last) = rooms.last() else { continue };
        let cursor = "INSERT INTO webhook_cursors (hook_no, room_no, seq) VALUES (?1, ?2, 0)
            ON CONFLICT (hook_no, room_no) DO NOTHING";
        for room in &rooms {
            execute(&transaction, cursor, params![no, room])?;
        }
        execute(&transaction, "UPDATE webhooks SET filled_to = ?2 WHERE no = ?1", params![no, last])?;
        more |= rooms.len() == limit as usize;
    }
    transaction.commit().map_err(store_error)?;
    Ok(more)
}

pub fn sweep(
    connection: &mut Connection,
    after: SweepPlace,
    limit: u32,
) -> Result<(Vec<RoomNo>, Option<SweepPlace>), StoreError> {
    let sql = "SELECT c.hook_no, c.room_no, c.due_at IS NULL
            AND EXISTS (SELECT 1 FROM webhooks w WHERE w.no = c.hook_no AND w.active = 1)
            AND coalesce((SELECT r.head FROM rooms r WHERE r.no = c.room_no) > c.seq, 0)
        FROM webhook_cursors c WHERE (c.hook_no, c.room_no) > (?1, ?2) ORDER BY c.hook_no, c.room_no LIMIT ?3";
    let found = collect(connection, sql, params![after.0, after.1, limit], |row| {
        let get = |column| row.get::<_, i64>(column).map_err(store_error);
        Ok((get(0)?, get(1)?, get(2)? != 0))
    })?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|&(hook, room, _)| (hook, room));
    Ok((found.iter().filter(|(.., behind)| *behind).map(|&(_, room, _)| RoomNo(room)).collect(), next))
}
