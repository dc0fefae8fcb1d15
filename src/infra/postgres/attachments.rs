//! Records of files that belong to messages.
//!
//! Invariants: the row of `attachment_usage` is locked first by whoever keeps a file of a person, so quota, count and
//! id are decided one after the other; an object that is due is nobody's any more, so whoever removes it and whoever
//! keeps it never mean the same one.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::pool::{Lease, Step};
use crate::ids::{AttachmentId, MessageId, ObjectId, RoomId, UserId};
use crate::infra::changes::MessageKey;
use crate::infra::rows;
use crate::ports::{Attachment, AttachmentStore, Bounds, Kept, RoomNo, StoreError};

/// Milliseconds since 1970 by the server's clock.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// What [`attachment_of`] reads, of `attachments a JOIN rooms r`.
const RECORD: &str = "a.id, a.object, r.id, a.user_id, a.message_id, a.name, a.type, a.bytes, a.sha256, a.at";
const FROM: &str = "FROM attachments a JOIN rooms r ON r.no = a.room_no AND NOT r.deleted";
const SHOWN: &str = "EXISTS (SELECT FROM entries e WHERE e.key = a.key AND e.text IS NOT NULL)";

/// The room, for somebody who was not erased while they uploaded.
const WHERE_TO: &str = "SELECT no FROM rooms WHERE id = $1 AND NOT deleted
    AND NOT EXISTS (SELECT FROM users WHERE id = $2 AND erased)";

fn attachment_of(row: &Row) -> Result<Attachment, StoreError> {
    let sha256: &[u8] = row.get(8);
    Ok(Attachment {
        id: AttachmentId::parse(row.get(0)).map_err(rows::broken_file)?,
        object: ObjectId::parse(row.get(1)).map_err(rows::broken_file)?,
        room: RoomId::parse(row.get(2)).map_err(rows::broken_file)?,
        user: rows::user_id(row.get(3))?,
        message: MessageId::parse(row.get(4)).map_err(rows::broken_file)?,
        name: row.get(5),
        mime: row.get(6),
        bytes: rows::seq_out(row.get(7)),
        sha256: sha256.try_into().map_err(|_| rows::broken_file("its hash has another length"))?,
        at: row.get(9),
    })
}

/// Removes records of what `user` uploaded, at most `limit`, and dooms the objects.
pub async fn doom_of(lease: &mut Lease, user: &UserId, limit: i64) -> Result<u64, StoreError> {
    let sql = "WITH gone AS (
            DELETE FROM attachments a
            USING (SELECT id FROM attachments WHERE user_id = $1 ORDER BY id LIMIT $2) AS c
            WHERE a.id = c.id RETURNING a.object, a.user_id, a.bytes
        )
        INSERT INTO doomed_objects (object, user_id, bytes, due) SELECT object, user_id, bytes, 0 FROM gone";
    lease.execute(sql, &[&user.as_str(), &limit]).await
}

#[async_trait]
impl AttachmentStore for PostgresStore {
    async fn begin_upload(&self, object: &ObjectId, user: &UserId, within: Duration) -> Result<u64, StoreError> {
        let sql = format!(
            "WITH noted AS (INSERT INTO doomed_objects (object, due) VALUES ($1, {NOW} + $2))
             SELECT bytes FROM attachment_usage WHERE user_id = $3"
        );
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&object.as_str(), &rows::millis(within), &user.as_str()];
        let used = self.lease().await?.query_opt(&sql, &params).await?;
        Ok(used.map_or(0, |row| rows::seq_out(row.get(0))))
    }

    async fn keep_upload(&self, attachment: &Attachment, bounds: Bounds) -> Result<Kept, StoreError> {
        let Attachment { id, object, room, user, message, name, mime, bytes, sha256, at } = attachment;
        let (id, object, user_id) = (id.as_str(), object.as_str(), user.as_str());
        let bytes = rows::seq_in(*bytes);
        let mut lease = self.lease().await?;
        let usage = "INSERT INTO attachment_usage AS u (user_id, bytes) VALUES ($1, 0)
            ON CONFLICT (user_id) DO UPDATE SET bytes = u.bytes RETURNING bytes";
        let waiting = format!("SELECT 1 FROM doomed_objects WHERE object = $1 AND due > {NOW} FOR UPDATE");
        let known = format!("SELECT {RECORD} {FROM} WHERE a.id = $1");
        let asked = [
            Step::Begin,
            Step::Ask(usage, &[&user_id]),
            Step::Ask(&waiting, &[&object]),
            Step::Ask(WHERE_TO, &[&room.as_str(), &user_id]),
            Step::Ask(&known, &[&id]),
        ];
        let answers = lease.transaction(&asked).await?;
        let [_, usage, waiting, no, known] = answers.as_slice() else {
            return Err(StoreError::Fault("an answer a question was expected".into()));
        };
        let used: i64 = usage.first().map_or(0, |row| row.get(0));
        let no: Option<i64> = no.first().map(|row| row.get(0));
        let known = known.first().map(attachment_of).transpose()?;
        let key = MessageKey::of(RoomNo(no.unwrap_or(0)), user, message);
        let count = lease.query("SELECT count(*) FROM attachments WHERE key = $1", &[&key]).await?;
        let count: i64 = count.first().map_or(0, |row| row.get(0));
        let verdict =
            rows::keep(attachment, bounds, known, no.is_some() && !waiting.is_empty(), rows::seq_out(used), count);
        if verdict != Kept::New {
            let drop = "UPDATE doomed_objects SET due = 0 WHERE object = $1";
            lease.transaction(&[Step::Ask(drop, &[&object]), Step::Commit]).await?;
            return Ok(verdict);
        }
        let insert = format!(
            "INSERT INTO attachments (id, object, room_no, user_id, key, message_id, name, type, bytes, sha256, at, due)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, {NOW} + $12)"
        );
        let steps = [
            Step::Ask(
                &insert,
                &[
                    &id,
                    &object,
                    &no,
                    &user_id,
                    &key,
                    &message.as_str(),
                    name,
                    mime,
                    &bytes,
                    &sha256.as_slice(),
                    at,
                    &rows::millis(bounds.unreferenced),
                ],
            ),
            Step::Ask("DELETE FROM doomed_objects WHERE object = $1", &[&object]),
            Step::Ask("UPDATE attachment_usage SET bytes = bytes + $2 WHERE user_id = $1", &[&user_id, &bytes]),
            Step::Commit,
        ];
        lease.transaction(&steps).await?;
        Ok(Kept::New)
    }

    async fn drop_upload(&self, object: &ObjectId) -> Result<(), StoreError> {
        let sql = "UPDATE doomed_objects SET due = 0 WHERE object = $1";
        self.lease().await?.execute(sql, &[&object.as_str()]).await?;
        Ok(())
    }

    async fn attachment(&self, id: &AttachmentId) -> Result<Option<Attachment>, StoreError> {
        let sql = format!("SELECT {RECORD} {FROM} WHERE a.id = $1");
        let row = self.lease().await?.query_opt(&sql, &[&id.as_str()]).await?;
        row.as_ref().map(attachment_of).transpose()
    }

    async fn attachments(
        &self,
        room: &RoomId,
        ids: &[AttachmentId],
        user: &UserId,
    ) -> Result<Vec<Attachment>, StoreError> {
        let sql = format!(
            "SELECT {RECORD} {FROM} WHERE a.id = ANY ($1) AND r.id = $2 AND (a.user_id = $3 OR {SHOWN}) ORDER BY a.id"
        );
        let ids: Vec<&str> = ids.iter().map(AttachmentId::as_str).collect();
        let found = self.lease().await?.query(&sql, &[&ids, &room.as_str(), &user.as_str()]).await?;
        found.iter().map(attachment_of).collect()
    }

    async fn attachments_of(
        &self,
        user: &UserId,
        cursor: Option<&AttachmentId>,
        limit: u32,
    ) -> Result<Vec<Attachment>, StoreError> {
        let sql = format!("SELECT {RECORD} {FROM} WHERE a.user_id = $1 AND a.id > $2 ORDER BY a.id LIMIT $3");
        let cursor = cursor.map_or("", AttachmentId::as_str);
        let found = self.lease().await?.query(&sql, &[&user.as_str(), &cursor, &i64::from(limit)]).await?;
        found.iter().map(attachment_of).collect()
    }

    /// One snapshot for all of it, so each file is either found to be shown or goes.
    async fn sweep_attachments(&self, limit: u32) -> Result<u64, StoreError> {
        let sql = format!(
            "WITH look AS MATERIALIZED (
                SELECT a.id, {SHOWN} AS shown FROM attachments a WHERE a.due <= {NOW} ORDER BY a.due LIMIT $1
            ), stay AS (
                UPDATE attachments a SET due = NULL FROM look WHERE a.id = look.id AND look.shown
            ), gone AS (
                DELETE FROM attachments a USING look WHERE a.id = look.id AND NOT look.shown
                RETURNING a.object, a.user_id, a.bytes
            ), doomed AS (
                INSERT INTO doomed_objects (object, user_id, bytes, due) SELECT object, user_id, bytes, 0 FROM gone
            )
            SELECT count(*) FROM look"
        );
        let looked_at = self.lease().await?.query_opt(&sql, &[&i64::from(limit)]).await?;
        Ok(looked_at.map_or(0, |row| rows::seq_out(row.get(0))))
    }

    async fn doomed_objects(&self, limit: u32) -> Result<Vec<ObjectId>, StoreError> {
        let sql = format!("SELECT object FROM doomed_objects WHERE due <= {NOW} ORDER BY due LIMIT $1");
        let found = self.lease().await?.query(&sql, &[&i64::from(limit)]).await?;
        found.iter().map(|row| ObjectId::parse(row.get(0)).map_err(rows::broken_file)).collect()
    }

    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let sql = "WITH gone AS (
                DELETE FROM doomed_objects WHERE object = ANY ($1) RETURNING user_id, bytes
            ), freed AS (
                SELECT user_id, sum(bytes)::bigint AS bytes FROM gone WHERE bytes > 0 GROUP BY user_id
            )
            UPDATE attachment_usage u SET bytes = u.bytes - freed.bytes FROM freed WHERE u.user_id = freed.user_id";
        let objects: Vec<&str> = objects.iter().map(ObjectId::as_str).collect();
        self.lease().await?.execute(sql, &[&objects]).await?;
        Ok(())
    }

    async fn link_key(&self, fresh: &[u8; 32]) -> Result<[u8; 32], StoreError> {
        let mut lease = self.lease().await?;
        let sql = "INSERT INTO attachment_link_key (key) VALUES ($1) ON CONFLICT (one) DO NOTHING";
        lease.execute(sql, &[&fresh.as_slice()]).await?;
        let row = lease.query_opt("SELECT key FROM attachment_link_key WHERE one", &[]).await?;
        let key = row.and_then(|row| row.get::<_, &[u8]>(0).try_into().ok());
        key.ok_or_else(|| StoreError::Fault("the key of addresses is broken in the store".into()))
    }
}
