//! The audit log. Triggers refuse every change of what is in it.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::SqliteStore;
use super::rooms::collect;
use super::threads::store_error;
use crate::domain::audit::Deed;
use crate::ids::{RoomId, UserId};
use crate::infra::rows;
use crate::ports::{AuditStore, Audited, RoomNo, StoreError};

const INSERT: &str = "INSERT INTO audit (room_no, at, by_user, act, whom, seq, detail, came_from) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Writes one line, within whatever transaction is open.
pub fn insert(connection: &Connection, room: Option<RoomNo>, deed: &Deed) -> Result<(), StoreError> {
    let values = params![
        room.map(|no| no.0),
        deed.at,
        deed.by.as_str(),
        deed.what.as_str(),
        deed.whom.as_ref().map(UserId::as_str),
        deed.seq.map(rows::seq_in),
        deed.detail,
        deed.from.as_ref().map(|from| from.0.as_str()),
    ];
    let mut insert = connection.prepare_cached(INSERT).map_err(store_error)?;
    insert.execute(values).map_err(store_error)?;
    Ok(())
}

/// The number of a room, also of one that is gone.
pub fn room_no(connection: &Connection, room: Option<&RoomId>) -> Result<Option<RoomNo>, StoreError> {
    let Some(room) = room else { return Ok(None) };
    let sql = "SELECT no FROM rooms WHERE id = ?1";
    Ok(collect(connection, sql, [room.as_str()], |row| row.get(0).map(RoomNo).map_err(store_error))?.pop())
}

fn audited_of(row: &Row<'_>) -> Result<Audited, StoreError> {
    let text = |index| row.get::<_, Option<String>>(index).map_err(store_error);
    Ok(Audited {
        no: row.get(0).map_err(store_error)?,
        at: row.get(1).map_err(store_error)?,
        by: rows::user_id(&row.get::<_, String>(2).map_err(store_error)?)?,
        act: row.get(3).map_err(store_error)?,
        room: text(4)?.as_deref().map(rows::room_id).transpose()?,
        whom: text(5)?.as_deref().map(rows::user_id).transpose()?,
        seq: row.get::<_, Option<i64>>(6).map_err(store_error)?.map(rows::seq_out),
        detail: text(7)?,
        from: text(8)?,
    })
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn audit(&self, room: Option<&RoomId>, deed: &Deed) -> Result<(), StoreError> {
        let (room, deed) = (room.cloned(), deed.clone());
        let write = move |connection: &mut Connection| {
            let room = room_no(connection, room.as_ref())?;
            insert(connection, room, &deed)
        };
        self.writer.run(write).await
    }

    async fn audited(
        &self,
        room: Option<&RoomId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Audited>, StoreError> {
        let (room, before) = (room.cloned(), before.unwrap_or(i64::MAX));
        let read = move |connection: &mut Connection| {
            let of_room = if room.is_some() { "AND a.room_no = (SELECT no FROM rooms WHERE id = ?3)" } else { "" };
            let sql = format!(
                "SELECT a.no, a.at, a.by_user, a.act, r.id, a.whom, a.seq, a.detail, a.came_from
                 FROM audit a LEFT JOIN rooms r ON r.no = a.room_no
                 WHERE a.no < ?1 {of_room} ORDER BY a.no DESC LIMIT ?2"
            );
            match &room {
                Some(room) => collect(connection, &sql, params![before, limit, room.as_str()], audited_of),
                None => collect(connection, &sql, params![before, limit], audited_of),
            }
        };
        self.readers.run(read).await
    }
}
