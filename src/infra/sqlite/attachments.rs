//! Records of files that belong to messages. The one writer decides quota, count and id one after the other.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::SqliteStore;
use super::rooms::collect;
use super::threads::store_error;
use crate::ids::{AttachmentId, MessageId, ObjectId, RoomId, UserId};
use crate::infra::changes::MessageKey;
use crate::infra::rows;
use crate::ports::{Attachment, AttachmentStore, Bounds, Kept, RoomNo, StoreError};

/// Milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// What [`attachment_of`] reads, of `attachments a JOIN rooms r`.
const RECORD: &str = "a.id, a.object, r.id, a.user_id, a.message_id, a.name, a.type, a.bytes, a.sha256, a.at";
const FROM: &str = "FROM attachments a JOIN rooms r ON r.no = a.room_no AND r.deleted = 0";
const SHOWN: &str = "EXISTS (SELECT 1 FROM entries e WHERE e.key = a.key AND e.text IS NOT NULL)";
const DROP: &str = "UPDATE doomed_objects SET due = 0 WHERE object = ?1";

/// The room, for somebody who was not erased while they uploaded.
const WHERE_TO: &str = "SELECT no FROM rooms WHERE id = ?1 AND deleted = 0
    AND NOT EXISTS (SELECT 1 FROM users WHERE id = ?2 AND erased = 1)";

fn attachment_of(row: &Row<'_>) -> Result<Attachment, StoreError> {
    let text = |column| row.get::<_, String>(column).map_err(store_error);
    Ok(Attachment {
        id: AttachmentId::parse(&text(0)?).map_err(rows::broken_file)?,
        object: ObjectId::parse(&text(1)?).map_err(rows::broken_file)?,
        room: RoomId::parse(&text(2)?).map_err(rows::broken_file)?,
        user: rows::user_id(&text(3)?)?,
        message: MessageId::parse(&text(4)?).map_err(rows::broken_file)?,
        name: text(5)?,
        mime: text(6)?,
        bytes: rows::seq_out(row.get(7).map_err(store_error)?),
        sha256: row.get(8).map_err(store_error)?,
        at: row.get(9).map_err(store_error)?,
    })
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)
}

/// The first column of the first row.
fn one<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Option<T>, StoreError> {
    Ok(collect(connection, sql, params, |row| row.get(0).map_err(store_error))?.into_iter().next())
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
}

fn keep(connection: &mut Connection, new: &Attachment, bounds: Bounds) -> Result<Kept, StoreError> {
    let transaction = begin(connection)?;
    let (user, object) = (new.user.as_str(), new.object.as_str());
    let used: Option<i64> = one(&transaction, "SELECT bytes FROM attachment_usage WHERE user_id = ?1", [user])?;
    let waiting = format!("SELECT 1 FROM doomed_objects WHERE object = ?1 AND due > {NOW}");
    let waiting: Option<i64> = one(&transaction, &waiting, [object])?;
    let no: Option<i64> = one(&transaction, WHERE_TO, [new.room.as_str(), user])?;
    let known = format!("SELECT {RECORD} {FROM} WHERE a.id = ?1");
    let known = collect(&transaction, &known, [new.id.as_str()], attachment_of)?.pop();
    let MessageKey(key) = MessageKey::of(RoomNo(no.unwrap_or(0)), &new.user, &new.message);
    let count: Option<i64> = one(&transaction, "SELECT count(*) FROM attachments WHERE key = ?1", [key])?;
    let in_time = no.is_some() && waiting.is_some();
    let used = rows::seq_out(used.unwrap_or(0));
    let verdict = rows::keep(new, bounds, known, in_time, used, count.unwrap_or(0));
    if verdict == Kept::New {
        let insert = format!(
            "INSERT INTO attachments (id, object, room_no, user_id, key, message_id, name, type, bytes, sha256, at, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {NOW} + ?12)"
        );
        let bytes = rows::seq_in(new.bytes);
        let values = params![
            new.id.as_str(),
            object,
            no,
            user,
            key,
            new.message.as_str(),
            new.name,
            new.mime,
            bytes,
            new.sha256,
            new.at,
            rows::millis(bounds.unreferenced)
        ];
        execute(&transaction, &insert, values)?;
        execute(&transaction, "DELETE FROM doomed_objects WHERE object = ?1", [object])?;
        let add = "INSERT INTO attachment_usage (user_id, bytes) VALUES (?1, ?2)
            ON CONFLICT (user_id) DO UPDATE SET bytes = bytes + excluded.bytes";
        execute(&transaction, add, params![user, bytes])?;
    } else {
        execute(&transaction, DROP, [object])?;
    }
    transaction.commit().map_err(store_error)?;
    Ok(verdict)
}

/// Removes records and dooms their objects.
fn doom(transaction: &Connection, ids: &[String]) -> Result<(), StoreError> {
    for id in ids {
        let doom = "INSERT INTO doomed_objects (object, user_id, bytes, due)
            SELECT object, user_id, bytes, 0 FROM attachments WHERE id = ?1";
        execute(transaction, doom, [id])?;
        execute(transaction, "DELETE FROM attachments WHERE id = ?1", [id])?;
    }
    Ok(())
}

/// Removes records of what `user` uploaded, at most `limit`, and dooms the objects.
pub fn doom_of(transaction: &Connection, user: &UserId, limit: u32) -> Result<usize, StoreError> {
    let sql = "SELECT id FROM attachments WHERE user_id = ?1 ORDER BY id LIMIT ?2";
    let ids =
        collect(transaction, sql, params![user.as_str(), limit], |row| row.get::<_, String>(0).map_err(store_error))?;
    doom(transaction, &ids)?;
    Ok(ids.len())
}

fn sweep(connection: &mut Connection, limit: u32) -> Result<u64, StoreError> {
    let transaction = begin(connection)?;
    let sql = format!("SELECT a.id, {SHOWN} FROM attachments a WHERE a.due <= {NOW} ORDER BY a.due LIMIT ?1");
    let due = collect(&transaction, &sql, [limit], |row| {
        Ok((row.get::<_, String>(0).map_err(store_error)?, row.get::<_, bool>(1).map_err(store_error)?))
    })?;
    let looked_at = due.len() as u64;
    let (shown, gone): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, shown)| *shown);
    for (id, _) in shown {
        execute(&transaction, "UPDATE attachments SET due = NULL WHERE id = ?1", [id])?;
    }
    doom(&transaction, &gone.into_iter().map(|(id, _)| id).collect::<Vec<_>>())?;
    transaction.commit().map_err(store_error)?;
    Ok(looked_at)
}

fn forget(connection: &mut Connection, objects: &[ObjectId]) -> Result<(), StoreError> {
    let transaction = begin(connection)?;
    for object in objects {
        let free = "UPDATE attachment_usage SET bytes = attachment_usage.bytes - d.bytes FROM doomed_objects d
            WHERE d.object = ?1 AND attachment_usage.user_id = d.user_id";
        execute(&transaction, free, [object.as_str()])?;
        execute(&transaction, "DELETE FROM doomed_objects WHERE object = ?1", [object.as_str()])?;
    }
    transaction.commit().map_err(store_error)
}

#[async_trait]
impl AttachmentStore for SqliteStore {
    async fn begin_upload(&self, object: &ObjectId, user: &UserId, within: Duration) -> Result<u64, StoreError> {
        let (object, user) = (object.clone(), user.clone());
        let begin = move |connection: &mut Connection| {
            let note = format!("INSERT INTO doomed_objects (object, due) VALUES (?1, {NOW} + ?2)");
            execute(connection, &note, params![object.as_str(), rows::millis(within)])?;
            let used = "SELECT bytes FROM attachment_usage WHERE user_id = ?1";
            Ok(rows::seq_out(one(connection, used, [user.as_str()])?.unwrap_or(0)))
        };
        self.writer.run(begin).await
    }

    async fn keep_upload(&self, attachment: &Attachment, bounds: Bounds) -> Result<Kept, StoreError> {
        let attachment = attachment.clone();
        self.writer.run(move |connection| keep(connection, &attachment, bounds)).await
    }

    async fn drop_upload(&self, object: &ObjectId) -> Result<(), StoreError> {
        let object = object.clone();
        self.writer.run(move |connection| execute(connection, DROP, [object.as_str()]).map(drop)).await
    }

    async fn attachment(&self, id: &AttachmentId) -> Result<Option<Attachment>, StoreError> {
        let id = id.clone();
        let sql = format!("SELECT {RECORD} {FROM} WHERE a.id = ?1");
        let find = move |connection: &mut Connection| collect(connection, &sql, [id.as_str()], attachment_of);
        Ok(self.readers.run(find).await?.pop())
    }

    async fn attachments(
        &self,
        room: &RoomId,
        ids: &[AttachmentId],
        user: &UserId,
    ) -> Result<Vec<Attachment>, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        let mut ids = ids.to_vec();
        ids.sort();
        ids.dedup();
        let sql = format!("SELECT {RECORD} {FROM} WHERE a.id = ?1 AND r.id = ?2 AND (a.user_id = ?3 OR {SHOWN})");
        let find = move |connection: &mut Connection| {
            let mut found = Vec::new();
            for id in ids {
                let params = [id.as_str(), room.as_str(), user.as_str()];
                found.extend(collect(connection, &sql, params, attachment_of)?);
            }
            Ok(found)
        };
        self.readers.run(find).await
    }

    async fn attachments_of(
        &self,
        user: &UserId,
        cursor: Option<&AttachmentId>,
        limit: u32,
    ) -> Result<Vec<Attachment>, StoreError> {
        let (user, cursor) = (user.clone(), cursor.map_or(String::new(), |cursor| cursor.as_str().to_owned()));
        let sql = format!("SELECT {RECORD} {FROM} WHERE a.user_id = ?1 AND a.id > ?2 ORDER BY a.id LIMIT ?3");
        let find = move |connection: &mut Connection| {
            collect(connection, &sql, params![user.as_str(), cursor, limit], attachment_of)
        };
        self.readers.run(find).await
    }

    async fn sweep_attachments(&self, limit: u32) -> Result<u64, StoreError> {
        self.writer.run(move |connection| sweep(connection, limit)).await
    }

    async fn doomed_objects(&self, limit: u32) -> Result<Vec<ObjectId>, StoreError> {
        let sql = format!("SELECT object FROM doomed_objects WHERE due <= {NOW} ORDER BY due LIMIT ?1");
        let find = move |connection: &mut Connection| {
            collect(connection, &sql, [limit], |row| {
                ObjectId::parse(&row.get::<_, String>(0).map_err(store_error)?).map_err(rows::broken_file)
            })
        };
        self.readers.run(find).await
    }

    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let objects = objects.to_vec();
        self.writer.run(move |connection| forget(connection, &objects)).await
    }

    async fn link_key(&self, fresh: &[u8; 32]) -> Result<[u8; 32], StoreError> {
        let fresh = *fresh;
        let key = move |connection: &mut Connection| {
            let set = "INSERT INTO attachment_link_key (one, key) VALUES (1, ?1) ON CONFLICT (one) DO NOTHING";
            execute(connection, set, [fresh])?;
            let key: Option<[u8; 32]> = one(connection, "SELECT key FROM attachment_link_key WHERE one = 1", [])?;
            key.ok_or_else(|| StoreError::Fault("the key of addresses is missing in the store".into()))
        };
        self.writer.run(key).await
    }
}
