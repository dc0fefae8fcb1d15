//! Webhooks: the hooks themselves and what was given up. What is due is `webhook_queue`'s.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, webhook_queue};
use crate::ids::RoomId;
use crate::infra::rows::{self, kinds_in, kinds_out};
use crate::ports::{
    Changed, DeadLetter, Delivery, HOOKS_MAX, Made, NewWebhook, RoomNo, Settled, StoreError, SweepPlace, Webhook,
    WebhookPatch, WebhookStore,
};

/// Milliseconds since 1970.
pub const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// The columns that [`hook_of`] reads, of `webhooks w`.
const HOOK: &str = "w.id, (SELECT r.id FROM rooms r WHERE r.no = w.room_no), w.url, w.kinds, w.active, w.off_reason, \
                    w.made_by, w.made_at, w.ready";

fn hook_of(row: &Row<'_>) -> Result<Webhook, StoreError> {
    let text = |column| row.get::<_, String>(column).map_err(store_error);
    let room: Option<String> = row.get(1).map_err(store_error)?;
    Ok(Webhook {
        id: text(0)?,
        room: room.as_deref().map(rows::room_id).transpose()?,
        url: text(2)?,
        kinds: kinds_out(&text(3)?),
        active: row.get(4).map_err(store_error)?,
        off_reason: row.get(5).map_err(store_error)?,
        made_by: rows::user_id(&text(6)?)?,
        made_at: row.get(7).map_err(store_error)?,
        ready: row.get(8).map_err(store_error)?,
    })
}

/// The number of a room, 0 for all rooms; `None` where there is no such room.
fn scope(connection: &Connection, room: Option<&RoomId>) -> Result<Option<i64>, StoreError> {
    let Some(room) = room else { return Ok(Some(0)) };
    let sql = "SELECT no FROM rooms WHERE id = ?1 AND deleted = 0";
    connection.query_row(sql, [room.as_str()], |row| row.get(0)).optional().map_err(store_error)
}

fn hook(connection: &Connection, scope: i64, id: &str) -> Result<Option<Webhook>, StoreError> {
    let sql = format!("SELECT {HOOK} FROM webhooks w WHERE w.id = ?1 AND w.room_no = ?2");
    Ok(collect(connection, &sql, params![id, scope], hook_of)?.pop())
}

fn create(connection: &mut Connection, new: &NewWebhook) -> Result<Made, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let hook = &new.hook;
    let Some(scope) = scope(&transaction, hook.room.as_ref())? else { return Ok(Made::NoSuchRoom) };
    let known = format!("SELECT {HOOK} FROM webhooks w WHERE w.room_no = ?1 AND w.url = ?2");
    if let Some(known) = collect(&transaction, &known, params![scope, hook.url], hook_of)?.pop() {
        return Ok(Made::Known(known));
    }
    let insert = "INSERT INTO webhooks (id, room_no, url, secret, kinds, made_by, made_at, ready, first_new)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?2 <> 0, coalesce((SELECT max(no) FROM rooms), 0) + 1
        WHERE (SELECT count(*) FROM webhooks WHERE room_no = ?2) < ?8";
    let values = params![
        hook.id,
        scope,
        hook.url,
        new.secret,
        kinds_in(&hook.kinds),
        hook.made_by.as_str(),
        hook.made_at,
        HOOKS_MAX
    ];
    if transaction.execute(insert, values).map_err(store_error)? == 0 {
        return Ok(Made::TooMany);
    }
    let cursor = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
        SELECT w.no, r.no, r.head FROM webhooks w JOIN rooms r ON r.no = w.room_no WHERE w.id = ?1";
    transaction.execute(cursor, [&hook.id]).map_err(store_error)?;
    let made = self::hook(&transaction, scope, &hook.id)?;
    transaction.commit().map_err(store_error)?;
    made.map(Made::New).ok_or_else(|| StoreError::Fault("a hook that was just made is not there".into()))
}

fn change(
    connection: &mut Connection,
    room: Option<&RoomId>,
    id: &str,
    patch: &WebhookPatch,
) -> Result<Changed, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let Some(scope) = scope(&transaction, room)? else { return Ok(Changed::NoSuchHook) };
    if let Some(url) = &patch.url {
        let taken = "SELECT 1 FROM webhooks WHERE room_no = ?1 AND url = ?2 AND id <> ?3";
        let found = transaction.query_row(taken, params![scope, url, id], |_| Ok(())).optional();
        if found.map_err(store_error)?.is_some() {
            return Ok(Changed::Taken);
        }
    }
    let sql = format!(
        "UPDATE webhooks SET url = coalesce(?3, url), kinds = coalesce(?4, kinds), active = coalesce(?5, active),
            off_reason = CASE WHEN ?5 IS NULL THEN off_reason END,
            resume_at = CASE WHEN ?5 = 1 OR ?3 IS NOT NULL THEN 0 ELSE resume_at END,
            due_at = CASE WHEN ?5 = 1 THEN {NOW} ELSE due_at END,
            old_secret = CASE WHEN ?6 IS NULL THEN old_secret ELSE secret END,
            old_until = CASE WHEN ?6 IS NULL THEN old_until ELSE {NOW} + ?7 END,
            secret = coalesce(?6, secret)
         WHERE id = ?1 AND room_no = ?2"
    );
    let kinds = patch.kinds.as_deref().map(kinds_in);
    let (secret, keep) = match &patch.secret {
        Some((secret, keep)) => (Some(secret), keep.as_millis() as i64),
        None => (None, 0),
    };
    let values = params![id, scope, patch.url, kinds, patch.active, secret, keep];
    transaction.execute(&sql, values).map_err(store_error)?;
    if patch.active == Some(true) && scope != 0 {
        // What was logged meanwhile was not noted. (Of a hook for all rooms the sweep finds it.)
        let due = format!(
            "UPDATE webhook_cursors SET due_at = coalesce(due_at, {NOW})
             WHERE hook_no = (SELECT no FROM webhooks WHERE id = ?1 AND room_no = ?2)"
        );
        transaction.execute(&due, params![id, scope]).map_err(store_error)?;
    }
    let changed = hook(&transaction, scope, id)?;
    transaction.commit().map_err(store_error)?;
    Ok(changed.map_or(Changed::NoSuchHook, Changed::Done))
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter, StoreError> {
    let number = |column| row.get::<_, i64>(column).map_err(store_error);
    let room: Option<String> = row.get(1).map_err(store_error)?;
    Ok(DeadLetter {
        no: number(0)?,
        room: room.as_deref().map(rows::room_id).transpose()?,
        after: rows::seq_out(number(2)?),
        to: rows::seq_out(number(3)?),
        at: number(4)?,
        attempts: u32::try_from(number(5)?).unwrap_or(0),
        reason: row.get(6).map_err(store_error)?,
        waiting: row.get(7).map_err(store_error)?,
    })
}

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn create_webhook(&self, new: &NewWebhook) -> Result<Made, StoreError> {
        let new = new.clone();
        self.writer.run(move |connection| create(connection, &new)).await
    }

    async fn webhooks(&self, room: Option<&RoomId>) -> Result<Vec<Webhook>, StoreError> {
        let room = room.cloned();
        let read = move |connection: &mut Connection| {
            let Some(scope) = scope(connection, room.as_ref())? else { return Ok(Vec::new()) };
            let sql = format!("SELECT {HOOK} FROM webhooks w WHERE w.room_no = ?1 ORDER BY w.no");
            collect(connection, &sql, [scope], hook_of)
        };
        self.readers.run(read).await
    }

    async fn webhook(&self, room: Option<&RoomId>, id: &str) -> Result<Option<Webhook>, StoreError> {
        let (room, id) = (room.cloned(), id.to_owned());
        let read = move |connection: &mut Connection| match scope(connection, room.as_ref())? {
            Some(scope) => hook(connection, scope, &id),
            None => Ok(None),
        };
        self.readers.run(read).await
    }

    async fn change_webhook(
        &self,
        room: Option<&RoomId>,
        id: &str,
        patch: &WebhookPatch,
    ) -> Result<Changed, StoreError> {
        let (room, id, patch) = (room.cloned(), id.to_owned(), patch.clone());
        self.writer.run(move |connection| change(connection, room.as_ref(), &id, &patch)).await
    }

    async fn delete_webhook(&self, room: Option<&RoomId>, id: &str) -> Result<bool, StoreError> {
        let (room, id) = (room.cloned(), id.to_owned());
        let delete = move |connection: &mut Connection| {
            let Some(scope) = scope(connection, room.as_ref())? else { return Ok(false) };
            let sql = "DELETE FROM webhooks WHERE id = ?1 AND room_no = ?2";
            Ok(connection.execute(sql, params![id, scope]).map_err(store_error)? > 0)
        };
        self.writer.run(delete).await
    }

    async fn dead_letters(&self, id: &str, cursor: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let id = id.to_owned();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT d.no, (SELECT r.id FROM rooms r WHERE r.no = d.room_no AND r.deleted = 0), d.after_seq,
                    d.to_seq, d.at, d.attempts, d.reason, d.due_at IS NOT NULL
                FROM webhook_dead d WHERE d.hook_no = (SELECT no FROM webhooks WHERE id = ?1) AND d.no > ?2
                ORDER BY d.no LIMIT ?3";
            collect(connection, sql, params![id, cursor.unwrap_or(0), limit], dead_letter)
        };
        self.readers.run(read).await
    }

    async fn retry_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError> {
        let id = id.to_owned();
        let retry = move |connection: &mut Connection| {
            let sql = format!(
                "UPDATE webhook_dead SET due_at = coalesce(due_at, {NOW})
                 WHERE no = ?2 AND hook_no = (SELECT no FROM webhooks WHERE id = ?1)"
            );
            Ok(connection.execute(&sql, params![id, no]).map_err(store_error)? > 0)
        };
        self.writer.run(retry).await
    }

    async fn drop_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError> {
        let id = id.to_owned();
        let drop = move |connection: &mut Connection| {
            let sql = "DELETE FROM webhook_dead WHERE no = ?2 AND hook_no = (SELECT no FROM webhooks WHERE id = ?1)";
            Ok(connection.execute(sql, params![id, no]).map_err(store_error)? > 0)
        };
        self.writer.run(drop).await
    }

    async fn fill_webhooks(&self, limit: u32) -> Result<bool, StoreError> {
        self.writer.run(move |connection| webhook_queue::fill(connection, limit)).await
    }

    async fn note_webhook_news(&self, rooms: &[RoomNo]) -> Result<bool, StoreError> {
        // Looked at by a reader first: mostly there are no hooks, and the writer has other things to do.
        if !self.readers.run(|connection| webhook_queue::any_active(connection)).await? {
            return Ok(false);
        }
        let rooms = rooms.to_vec();
        self.writer.run(move |connection| webhook_queue::note(connection, &rooms)).await?;
        Ok(true)
    }

    async fn claim_deliveries(
        &self,
        busy: &[i64],
        hooks: u32,
        each: u32,
        claim_for: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        if !self.readers.run(webhook_queue::anything_due).await? {
            return Ok(Vec::new());
        }
        let busy = busy.to_vec();
        self.writer.run(move |connection| webhook_queue::claim(connection, &busy, hooks, each, claim_for)).await
    }

    async fn settle_delivery(&self, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError> {
        let (delivery, settled) = (delivery.clone(), settled.clone());
        self.writer.run(move |connection| webhook_queue::settle(connection, &delivery, &settled)).await
    }

    async fn sweep_webhooks(
        &self,
        after: SweepPlace,
        limit: u32,
    ) -> Result<(Vec<RoomNo>, Option<SweepPlace>), StoreError> {
        self.readers.run(move |connection| webhook_queue::sweep(connection, after, limit)).await
    }
}
