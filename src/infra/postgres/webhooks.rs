//! Webhooks: the hooks themselves and what was given up. What is due is `webhook_queue`'s.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::pool::{Lease, Step};
use super::{PostgresStore, webhook_queue};
use crate::ids::RoomId;
use crate::infra::rows::{self, kinds_in, kinds_out};
use crate::ports::{
    Changed, DeadLetter, Delivery, HOOKS_MAX, Made, NewWebhook, RoomNo, Settled, StoreError, SweepPlace, Webhook,
    WebhookPatch, WebhookStore,
};

/// Milliseconds since 1970 by the server's clock; the same within a statement, so that indexes can be searched for it.
pub const NOW: &str = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint";

/// The columns that [`hook_of`] reads, of `webhooks w`.
const HOOK: &str = "w.id, (SELECT r.id FROM rooms r WHERE r.no = w.room_no), w.url, w.kinds, w.active, w.off_reason, \
                    w.made_by, w.made_at, w.ready";

fn hook_of(row: &Row) -> Result<Webhook, StoreError> {
    Ok(Webhook {
        id: row.get(0),
        room: row.get::<_, Option<&str>>(1).map(rows::room_id).transpose()?,
        url: row.get(2),
        kinds: kinds_out(row.get(3)),
        active: row.get(4),
        off_reason: row.get(5),
        made_by: rows::user_id(row.get(6))?,
        made_at: row.get(7),
        ready: row.get(8),
    })
}

/// The number of a room, 0 for all rooms; `None` where there is no such room.
async fn scope(lease: &mut Lease, room: Option<&RoomId>) -> Result<Option<i64>, StoreError> {
    let Some(room) = room else { return Ok(Some(0)) };
    let sql = "SELECT no FROM rooms WHERE id = $1 AND NOT deleted";
    Ok(lease.query_opt(sql, &[&room.as_str()]).await?.map(|row| row.get(0)))
}

async fn hook(lease: &mut Lease, scope: i64, id: &str) -> Result<Option<Webhook>, StoreError> {
    let sql = format!("SELECT {HOOK} FROM webhooks w WHERE w.id = $1 AND w.room_no = $2");
    lease.query_opt(&sql, &[&id, &scope]).await?.as_ref().map(hook_of).transpose()
}

async fn create(lease: &mut Lease, new: &NewWebhook) -> Result<Made, StoreError> {
    let hook = &new.hook;
    let Some(scope) = scope(lease, hook.room.as_ref()).await? else { return Ok(Made::NoSuchRoom) };
    let known = format!("SELECT {HOOK} FROM webhooks w WHERE w.room_no = $1 AND w.url = $2");
    if let Some(row) = lease.query_opt(&known, &[&scope, &hook.url]).await? {
        return hook_of(&row).map(Made::Known);
    }
    // The room's head is read with the row of the hook there, so that nothing later is missed.
    let insert = "INSERT INTO webhooks (id, room_no, url, secret, kinds, made_by, made_at, ready, first_new)
        SELECT $1, $2::bigint, $3, $4, $5, $6, $7, $2::bigint <> 0, coalesce((SELECT max(no) FROM rooms), 0) + 1
        WHERE (SELECT count(*) FROM webhooks WHERE room_no = $2::bigint) < $8
        ON CONFLICT (room_no, url) DO NOTHING";
    let cursor = "INSERT INTO webhook_cursors (hook_no, room_no, seq)
        SELECT w.no, h.no, h.head FROM webhooks w JOIN room_heads h ON h.no = w.room_no WHERE w.id = $1";
    let kinds = kinds_in(&hook.kinds);
    let made_by = hook.made_by.as_str();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&hook.id, &scope, &hook.url, &new.secret, &kinds, &made_by, &hook.made_at, &HOOKS_MAX];
    let steps = [Step::Begin, Step::Ask(insert, &values), Step::Ask(cursor, &[&hook.id]), Step::Commit];
    lease.transaction(&steps).await?;
    match self::hook(lease, scope, &hook.id).await? {
        Some(made) => Ok(Made::New(made)),
        None => match lease.query_opt(&known, &[&scope, &hook.url]).await? {
            Some(row) => hook_of(&row).map(Made::Known),
            None => Ok(Made::TooMany),
        },
    }
}

async fn change(
    lease: &mut Lease,
    room: Option<&RoomId>,
    id: &str,
    patch: &WebhookPatch,
) -> Result<Changed, StoreError> {
    let Some(scope) = scope(lease, room).await? else { return Ok(Changed::NoSuchHook) };
    if let Some(url) = &patch.url {
        let taken = "SELECT 1 FROM webhooks WHERE room_no = $1 AND url = $2 AND id <> $3";
        if lease.query_opt(taken, &[&scope, url, &id]).await?.is_some() {
            return Ok(Changed::Taken);
        }
    }
    let sql = format!(
        "UPDATE webhooks SET url = coalesce($3, url), kinds = coalesce($4, kinds), active = coalesce($5, active),
            off_reason = CASE WHEN $5 IS NULL THEN off_reason END,
            resume_at = CASE WHEN $5 OR $3 IS NOT NULL THEN 0 ELSE resume_at END,
            due_at = CASE WHEN $5 THEN {NOW} ELSE due_at END,
            old_secret = CASE WHEN $6::text IS NULL THEN old_secret ELSE secret END,
            old_until = CASE WHEN $6::text IS NULL THEN old_until ELSE {NOW} + $7 END,
            secret = coalesce($6, secret)
         WHERE id = $1 AND room_no = $2"
    );
    let kinds = patch.kinds.as_deref().map(kinds_in);
    let (secret, keep) = match &patch.secret {
        Some((secret, keep)) => (Some(secret), keep.as_millis() as i64),
        None => (None, 0),
    };
    lease.execute(&sql, &[&id, &scope, &patch.url, &kinds, &patch.active, &secret, &keep]).await?;
    if patch.active == Some(true) && scope != 0 {
        // What was logged meanwhile was not noted. (Of a hook for all rooms the sweep finds it.)
        let due = format!(
            "UPDATE webhook_cursors SET due_at = coalesce(due_at, {NOW})
             WHERE hook_no = (SELECT no FROM webhooks WHERE id = $1 AND room_no = $2)"
        );
        lease.execute(&due, &[&id, &scope]).await?;
    }
    Ok(hook(lease, scope, id).await?.map_or(Changed::NoSuchHook, Changed::Done))
}

#[async_trait]
impl WebhookStore for PostgresStore {
    async fn create_webhook(&self, new: &NewWebhook) -> Result<Made, StoreError> {
        create(&mut self.lease().await?, new).await
    }

    async fn webhooks(&self, room: Option<&RoomId>) -> Result<Vec<Webhook>, StoreError> {
        let mut lease = self.lease().await?;
        let Some(scope) = scope(&mut lease, room).await? else { return Ok(Vec::new()) };
        let sql = format!("SELECT {HOOK} FROM webhooks w WHERE w.room_no = $1 ORDER BY w.no");
        lease.query(&sql, &[&scope]).await?.iter().map(hook_of).collect()
    }

    async fn webhook(&self, room: Option<&RoomId>, id: &str) -> Result<Option<Webhook>, StoreError> {
        let mut lease = self.lease().await?;
        let Some(scope) = scope(&mut lease, room).await? else { return Ok(None) };
        hook(&mut lease, scope, id).await
    }

    async fn change_webhook(
        &self,
        room: Option<&RoomId>,
        id: &str,
        patch: &WebhookPatch,
    ) -> Result<Changed, StoreError> {
        change(&mut self.lease().await?, room, id, patch).await
    }

    async fn delete_webhook(&self, room: Option<&RoomId>, id: &str) -> Result<bool, StoreError> {
        let mut lease = self.lease().await?;
        let Some(scope) = scope(&mut lease, room).await? else { return Ok(false) };
        // Cursors before the hook, as everybody takes their locks.
        let cursors =
            "DELETE FROM webhook_cursors WHERE hook_no = (SELECT no FROM webhooks WHERE id = $1 AND room_no = $2)";
        let hook = "DELETE FROM webhooks WHERE id = $1 AND room_no = $2 RETURNING no";
        let steps = [Step::Begin, Step::Ask(cursors, &[&id, &scope]), Step::Ask(hook, &[&id, &scope]), Step::Commit];
        let done = lease.transaction(&steps).await?;
        Ok(done.get(2).is_some_and(|rows| !rows.is_empty()))
    }

    async fn dead_letters(&self, id: &str, cursor: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT d.no, (SELECT r.id FROM rooms r WHERE r.no = d.room_no AND NOT r.deleted), d.after_seq,
                d.to_seq, d.at, d.attempts, d.reason, d.due_at IS NOT NULL
            FROM webhook_dead d WHERE d.hook_no = (SELECT no FROM webhooks WHERE id = $1) AND d.no > $2
            ORDER BY d.no LIMIT $3";
        let rows = self.lease().await?.query(sql, &[&id, &cursor.unwrap_or(0), &i64::from(limit)]).await?;
        rows.iter()
            .map(|row| {
                Ok(DeadLetter {
                    no: row.get(0),
                    room: row.get::<_, Option<&str>>(1).map(rows::room_id).transpose()?,
                    after: rows::seq_out(row.get(2)),
                    to: rows::seq_out(row.get(3)),
                    at: row.get(4),
                    attempts: u32::try_from(row.get::<_, i32>(5)).unwrap_or(0),
                    reason: row.get(6),
                    waiting: row.get(7),
                })
            })
            .collect()
    }

    async fn retry_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE webhook_dead SET due_at = coalesce(due_at, {NOW})
             WHERE no = $2 AND hook_no = (SELECT no FROM webhooks WHERE id = $1)"
        );
        Ok(self.lease().await?.execute(&sql, &[&id, &no]).await? > 0)
    }

    async fn drop_dead_letter(&self, id: &str, no: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM webhook_dead WHERE no = $2 AND hook_no = (SELECT no FROM webhooks WHERE id = $1)";
        Ok(self.lease().await?.execute(sql, &[&id, &no]).await? > 0)
    }

    async fn fill_webhooks(&self, limit: u32) -> Result<bool, StoreError> {
        webhook_queue::fill(&mut self.lease().await?, limit).await
    }

    async fn note_webhook_news(&self, rooms: &[RoomNo]) -> Result<bool, StoreError> {
        webhook_queue::note(&mut self.lease().await?, rooms).await
    }

    async fn claim_deliveries(
        &self,
        busy: &[i64],
        hooks: u32,
        each: u32,
        claim_for: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        webhook_queue::claim(&mut self.lease().await?, busy, hooks, each, claim_for).await
    }

    async fn settle_delivery(&self, delivery: &Delivery, settled: &Settled) -> Result<(), StoreError> {
        webhook_queue::settle(&mut self.lease().await?, delivery, settled).await
    }

    async fn sweep_webhooks(
        &self,
        after: SweepPlace,
        limit: u32,
    ) -> Result<(Vec<RoomNo>, Option<SweepPlace>), StoreError> {
        webhook_queue::sweep(&mut self.lease().await?, after, limit).await
    }
}
