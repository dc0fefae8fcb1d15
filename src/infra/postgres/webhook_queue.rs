//! What is due to be delivered to webhooks: noted, claimed, settled, swept for.
//!
//! Invariants: a hook's `due_at` is not later than the earliest of its cursors' (it is lowered behind a cursor in the
//! same transaction, and raised only under the hook's lock with what was read behind it); locks are taken on cursors
//! first, then on hooks in the order of their numbers; a claimed cursor that has news says so in `again`.

use std::time::Duration;

use tokio_postgres::Row;

use super::pool::{Lease, Step};
use super::webhooks::NOW;
use crate::infra::rows::{self, kinds_out};
use crate::ports::{DEAD_MAX, Delivery, RoomNo, Settled, StoreError, SweepPlace};

/// How far behind the last room looked at the next look begins: numbers may become visible out of order.
const OUT_OF_ORDER: i64 = 1_000;

/// Says of hooks that something of theirs is due, as far as it is: those with a cursor in these rooms.
const LOWER: &str =
    "UPDATE webhooks w SET due_at = least(w.due_at, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)
    WHERE w.no IN (
        SELECT l.no FROM webhooks l WHERE l.active AND l.no IN (
            SELECT c.hook_no FROM webhook_cursors c
            WHERE c.room_no = ANY ($1) AND c.due_at <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint
        ) ORDER BY l.no FOR UPDATE
    )";

pub async fn note(lease: &mut Lease, rooms: &[RoomNo]) -> Result<bool, StoreError> {
    if lease.query_opt("SELECT no FROM webhooks WHERE active ORDER BY no LIMIT 1", &[]).await?.is_none() {
        return Ok(false);
    }
    let mut rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
    rooms.sort_unstable();
    // A room without a cursor that is newer than a hook for all rooms begins with its first entry.
    let fresh = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
        SELECT w.no, n.no, 0 FROM webhooks w CROSS JOIN unnest($1::bigint[]) AS n (no)
        WHERE w.room_no = 0 AND w.active AND (w.ready OR n.no >= w.first_new) AND NOT EXISTS (
            SELECT FROM webhook_cursors c WHERE c.hook_no = w.no AND c.room_no = n.no
        )
        ON CONFLICT (hook_no, room_no) DO NOTHING";
    let due = format!(
        "UPDATE webhook_cursors c
         SET due_at = CASE WHEN c.claim IS NULL THEN {NOW} ELSE c.due_at END, again = c.claim IS NOT NULL
         WHERE c.room_no = ANY ($1) AND (c.due_at IS NULL OR (c.claim IS NOT NULL AND NOT c.again))
           AND c.seq < (SELECT h.head FROM room_heads h WHERE h.no = c.room_no)
           AND EXISTS (SELECT FROM webhooks w WHERE w.no = c.hook_no AND w.active)"
    );
    let steps = [
        Step::Begin,
        Step::Ask(fresh, &[&rooms]),
        Step::Ask(&due, &[&rooms]),
        Step::Ask(LOWER, &[&rooms]),
        Step::Commit,
    ];
    lease.transaction(&steps).await?;
    Ok(true)
}

/// The columns that [`delivery_of`] reads, of `webhooks w`.
const HOOK: &str = "w.no, w.id, w.url, w.secret, CASE WHEN w.old_until > (extract(epoch FROM statement_timestamp()) * 1000)::bigint \
                    THEN w.old_secret END, w.kinds";

/// Of a row of `hook` with [`HOOK`], and one of the cursor or dead letter.
fn delivery_of(hook: &Row, rest: &Row, claim: i64, dead: bool) -> Result<Delivery, StoreError> {
    let old: Option<String> = hook.get(4);
    Ok(Delivery {
        hook_no: hook.get(0),
        hook: hook.get(1),
        url: hook.get(2),
        secrets: std::iter::once(hook.get(3)).chain(old).collect(),
        kinds: kinds_out(hook.get(5)),
        room_no: RoomNo(rest.get("room_no")),
        room: rest.get::<_, Option<&str>>("room").map(rows::room_id).transpose()?,
        after: rows::seq_out(rest.get("after")),
        to: rest.get::<_, Option<i64>>("upto").map(rows::seq_out),
        attempts: u32::try_from(rest.get::<_, i32>("attempts")).unwrap_or(0),
        claim,
        dead: dead.then(|| rest.get("no")),
    })
}

pub async fn claim(
    lease: &mut Lease,
    busy: &[i64],
    hooks: u32,
    each: u32,
    claim_for: Duration,
) -> Result<Vec<Delivery>, StoreError> {
    let due = format!(
        "SELECT {HOOK} FROM webhooks w
         WHERE w.active AND w.due_at IS NOT NULL AND greatest(w.due_at, w.resume_at) <= {NOW} AND w.no <> ALL ($1)
         ORDER BY greatest(w.due_at, w.resume_at) LIMIT $2"
    );
    let take = format!(
        "UPDATE webhook_cursors c SET due_at = {NOW} + $3, claim = $4, again = false
         FROM (
             SELECT p.room_no FROM webhook_cursors p WHERE p.hook_no = $1 AND p.due_at <= {NOW}
             ORDER BY p.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ) AS p
         WHERE c.hook_no = $1 AND c.room_no = p.room_no
         RETURNING c.room_no, c.seq AS after, c.tried_to AS upto, c.attempts,
             (SELECT r.id FROM rooms r WHERE r.no = c.room_no AND NOT r.deleted) AS room"
    );
    let lock = "SELECT no FROM webhooks WHERE no = $1 FOR UPDATE";
    // What is overdue still goes to the back of the queue: others are next.
    let raise = format!(
        "UPDATE webhooks SET due_at =
             (SELECT greatest(min(c.due_at), {NOW}) FROM webhook_cursors c WHERE c.hook_no = $1 AND c.due_at IS NOT NULL)
         WHERE no = $1"
    );
    let (claim_ms, each) = (claim_for.as_millis() as i64, i64::from(each));
    let mut deliveries = Vec::new();
    for hook in lease.query(&due, &[&busy, &i64::from(hooks)]).await? {
        let (no, claim): (i64, i64) = (hook.get(0), rand::random());
        for row in lease.query(&take, &[&no, &each, &claim_ms, &claim]).await? {
            deliveries.push(delivery_of(&hook, &row, claim, false)?);
        }
        lease.transaction(&[Step::Begin, Step::Ask(lock, &[&no]), Step::Ask(&raise, &[&no]), Step::Commit]).await?;
    }
    let dead = format!(
        "UPDATE webhook_dead d SET due_at = {NOW} + $2
         FROM (
             SELECT p.no FROM webhook_dead p WHERE p.due_at <= {NOW}
               AND EXISTS (SELECT FROM webhooks a WHERE a.no = p.hook_no AND a.active AND a.no <> ALL ($3))
             ORDER BY p.due_at LIMIT $1 FOR UPDATE SKIP LOCKED
         ) AS p, webhooks w
         WHERE d.no = p.no AND w.no = d.hook_no
         RETURNING {HOOK}, d.no, d.room_no, d.after_seq AS after, d.to_seq AS upto, d.attempts,
             (SELECT r.id FROM rooms r WHERE r.no = d.room_no AND NOT r.deleted) AS room"
    );
    for row in lease.query(&dead, &[&each, &claim_ms, &busy]).await? {
        deliveries.push(delivery_of(&row, &row, 0, true)?);
    }
    Ok(deliveries)
}

pub async fn settle(lease: &mut Lease, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError> {
    if let Some(no) = delivery.dead {
        return settle_dead(lease, no, delivery.hook_no, settled).await;
    }
    let (hook, room, claim) = (delivery.hook_no, delivery.room_no.0, delivery.claim);
    let on = format!(
        "UPDATE webhook_cursors c SET seq = greatest(c.seq, $4), attempts = 0, tried_to = NULL, claim = NULL, again = false,
             due_at = CASE WHEN c.again OR (SELECT h.head FROM room_heads h WHERE h.no = c.room_no) > $4 THEN {NOW} END
         WHERE c.hook_no = $1 AND c.room_no = $2 AND c.claim = $3"
    );
    let wait = format!(
        "UPDATE webhook_cursors SET attempts = attempts + $4, tried_to = coalesce($5, tried_to), claim = NULL,
             again = false, due_at = {NOW} + $6
         WHERE hook_no = $1 AND room_no = $2 AND claim = $3"
    );
    let lower = "UPDATE webhooks w SET due_at = least(w.due_at, c.due_at) FROM webhook_cursors c
        WHERE w.no = $1 AND c.hook_no = $1 AND c.room_no = $2 AND c.due_at IS NOT NULL";
    let pause = format!("UPDATE webhooks SET resume_at = greatest(resume_at, {NOW} + $2) WHERE no = $1");
    let millis = |wait: &Duration| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
    match settled {
        Settled::Done { to } => {
            let to = rows::seq_in(*to);
            let steps = [
                Step::Begin,
                Step::Ask(&on, &[&hook, &room, &claim, &to]),
                Step::Ask(lower, &[&hook, &room]),
                Step::Commit,
            ];
            lease.transaction(&steps).await?;
        }
        Settled::Again { to, wait: after, pause: rest } => {
            let steps = [
                Step::Begin,
                Step::Ask(&wait, &[&hook, &room, &claim, &1_i32, &Some(rows::seq_in(*to)), &millis(after)]),
                Step::Ask(lower, &[&hook, &room]),
                Step::Ask(&pause, &[&hook, &millis(rest)]),
                Step::Commit,
            ];
            lease.transaction(&steps).await?;
        }
        Settled::Left { wait: after } => {
            let steps = [
                Step::Begin,
                Step::Ask(&wait, &[&hook, &room, &claim, &0_i32, &None::<i64>, &millis(after)]),
                Step::Ask(lower, &[&hook, &room]),
                Step::Commit,
            ];
            lease.transaction(&steps).await?;
        }
        Settled::Dead { to, reason } => {
            let note = format!(
                "INSERT INTO webhook_dead (hook_no, room_no, after_seq, to_seq, at, attempts, reason)
                 SELECT hook_no, room_no, seq, $4::bigint, {NOW}, attempts + 1, $5 FROM webhook_cursors
                 WHERE hook_no = $1 AND room_no = $2 AND claim = $3"
            );
            let full = "UPDATE webhooks SET active = false, off_reason = 'too many dead letters'
                WHERE no = $1 AND active AND (SELECT count(*) FROM webhook_dead WHERE hook_no = $1) >= $2";
            let to = rows::seq_in(*to);
            let steps = [
                Step::Begin,
                Step::Ask(&note, &[&hook, &room, &claim, &to, reason]),
                Step::Ask(&on, &[&hook, &room, &claim, &to]),
                Step::Ask(lower, &[&hook, &room]),
                Step::Ask(full, &[&hook, &DEAD_MAX]),
                Step::Commit,
            ];
            lease.transaction(&steps).await?;
        }
        Settled::Gone => {
            let park = "UPDATE webhook_cursors SET claim = NULL, again = false, due_at = NULL
                WHERE hook_no = $1 AND room_no = $2 AND claim = $3";
            let steps =
                [Step::Begin, Step::Ask(park, &[&hook, &room, &claim]), Step::Ask(GONE, &[&hook]), Step::Commit];
            lease.transaction(&steps).await?;
        }
        Settled::NoRoom => {
            let cursor = "DELETE FROM webhook_cursors WHERE hook_no = $1 AND room_no = $2 AND claim = $3";
            let own = "DELETE FROM webhooks WHERE no = $1 AND room_no = $2";
            let steps = [
                Step::Begin,
                Step::Ask(cursor, &[&hook, &room, &claim]),
                Step::Ask(own, &[&hook, &room]),
                Step::Commit,
            ];
            lease.transaction(&steps).await?;
        }
    }
    Ok(())
}

const GONE: &str = "UPDATE webhooks SET active = false, off_reason = 'the receiver answered 410 Gone' WHERE no = $1";

/// A batch that was given up has one more try for each time it is asked for.
async fn settle_dead(lease: &mut Lease, no: i64, hook: i64, settled: &Settled) -> Result<(), StoreError> {
    match settled {
        Settled::Done { .. } | Settled::NoRoom => {
            lease.execute("DELETE FROM webhook_dead WHERE no = $1", &[&no]).await?;
        }
        Settled::Left { wait } => {
            let sql = format!("UPDATE webhook_dead SET due_at = {NOW} + $2 WHERE no = $1");
            lease.execute(&sql, &[&no, &(wait.as_millis() as i64)]).await?;
        }
        Settled::Again { .. } | Settled::Gone => {
            let sql = "UPDATE webhook_dead SET due_at = NULL, attempts = attempts + 1 WHERE no = $1";
            lease.execute(sql, &[&no]).await?;
            if matches!(settled, Settled::Gone) {
                lease.execute(GONE, &[&hook]).await?;
            }
        }
        Settled::Dead { reason, .. } => {
            let sql = "UPDATE webhook_dead SET due_at = NULL, attempts = attempts + 1, reason = $2 WHERE no = $1";
            lease.execute(sql, &[&no, reason]).await?;
        }
    }
    Ok(())
}

pub async fn fill(lease: &mut Lease, limit: u32) -> Result<bool, StoreError> {
    let limit = i64::from(limit);
    // Those before the hook begin at their heads …
    let begun = "SELECT no, filled_to, first_new FROM webhooks WHERE room_no = 0 AND NOT ready ORDER BY url LIMIT 1";
    if let Some(row) = lease.query_opt(begun, &[]).await? {
        let (no, from, first_new): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let rooms = "SELECT h.no FROM room_heads h WHERE h.no > $1 AND h.no < $2 ORDER BY h.no LIMIT $3";
        let rooms: Vec<i64> =
            lease.query(rooms, &[&from, &first_new, &limit]).await?.iter().map(|row| row.get(0)).collect();
        let ready = (rooms.len() as i64) < limit;
        let to = rooms.last().copied().unwrap_or(from);
        let cursors = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
            SELECT $1, h.no, h.head FROM room_heads h WHERE h.no = ANY ($2) ON CONFLICT (hook_no, room_no) DO NOTHING";
        let done = "UPDATE webhooks SET filled_to = $2, ready = $3 WHERE no = $1";
        let steps =
            [Step::Begin, Step::Ask(cursors, &[&no, &rooms]), Step::Ask(done, &[&no, &to, &ready]), Step::Commit];
        lease.transaction(&steps).await?;
        return Ok(true);
    }
    // … and newer ones, whose first entry somebody should have noted, at nothing.
    let mut more = false;
    for row in lease.query("SELECT no, filled_to FROM webhooks WHERE room_no = 0 AND active ORDER BY url", &[]).await? {
        let (no, filled_to): (i64, i64) = (row.get(0), row.get(1));
        let rooms = "SELECT h.no FROM room_heads h WHERE h.no > $1 ORDER BY h.no LIMIT $2";
        let from = (filled_to - OUT_OF_ORDER).max(0);
        let look_at = limit + OUT_OF_ORDER;
        let rooms: Vec<i64> = lease.query(rooms, &[&from, &look_at]).await?.iter().map(|row| row.get(0)).collect();
        let Some(&last) = rooms.last().filter(|&&last| last > filled_to) else { continue };
        let cursors = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
            SELECT $1, n.no, 0 FROM unnest($2::bigint[]) AS n (no) ON CONFLICT (hook_no, room_no) DO NOTHING";
        let done = "UPDATE webhooks SET filled_to = $2 WHERE no = $1";
        let steps = [Step::Begin, Step::Ask(cursors, &[&no, &rooms]), Step::Ask(done, &[&no, &last]), Step::Commit];
        lease.transaction(&steps).await?;
        more |= rooms.len() as i64 == look_at;
    }
    Ok(more)
}

pub async fn sweep(
    lease: &mut Lease,
    after: SweepPlace,
    limit: u32,
) -> Result<(Vec<RoomNo>, Option<SweepPlace>), StoreError> {
    let sql = "SELECT c.hook_no, c.room_no, c.due_at IS NULL
            AND EXISTS (SELECT FROM webhooks w WHERE w.no = c.hook_no AND w.active)
            AND coalesce((SELECT h.head FROM room_heads h WHERE h.no = c.room_no) > c.seq, false)
        FROM webhook_cursors c WHERE (c.hook_no, c.room_no) > ($1, $2) ORDER BY c.hook_no, c.room_no LIMIT $3";
    let found = lease.query(sql, &[&after.0, &after.1, &i64::from(limit)]).await?;
    let behind = found.iter().filter(|row| row.get(2)).map(|row| RoomNo(row.get(1))).collect();
    let next = found.last().filter(|_| found.len() == limit as usize).map(|row| (row.get(0), row.get(1)));
    Ok((behind, next))
}
