//! Invitations. A use is taken in `append`, with the membership it gives. The one writer counts and adds in one transaction.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::SqliteStore;
use super::rooms::collect;
use super::threads::store_error;
use crate::ids::{Millis, RoomId};
use crate::infra::rows;
use crate::ports::{Invitation, InvitationStore, Invited, StoreError};

#[async_trait]
impl InvitationStore for SqliteStore {
    async fn invite(
        &self,
        room: &RoomId,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
        max: u32,
    ) -> Result<Invited, StoreError> {
        let (room, invitation, hash) = (room.clone(), invitation.clone(), *secret_hash);
        self.writer.run(move |connection| invite(connection, &room, &invitation, hash, max)).await
    }

    async fn invitation_room(&self, secret_hash: &[u8; 32], now: Millis) -> Result<Option<RoomId>, StoreError> {
        let hash = *secret_hash;
        let read = move |connection: &mut Connection| {
            let sql = "SELECT r.id FROM invitations i JOIN rooms r ON r.no = i.room_no
                WHERE i.secret_hash = ?1 AND i.expires_at > ?2 AND r.deleted = 0";
            let id = |row: &Row<'_>| rows::room_id(&row.get::<_, String>(0).map_err(store_error)?);
            Ok(collect(connection, sql, params![hash, now], id)?.pop())
        };
        self.readers.run(read).await
    }

    async fn invitations(
        &self,
        room: &RoomId,
        now: Millis,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        let (room, cursor) = (room.clone(), cursor.unwrap_or_default().to_owned());
        let read = move |connection: &mut Connection| {
            let sql = "SELECT i.id, i.made_by, i.made_at, i.expires_at, i.uses_left
                FROM rooms r JOIN invitations i ON i.room_no = r.no
                WHERE r.id = ?1 AND r.deleted = 0 AND i.id > ?2 AND i.expires_at > ?3 ORDER BY i.id LIMIT ?4";
            collect(connection, sql, params![room.as_str(), cursor, now, limit], of_row)
        };
        self.readers.run(read).await
    }

    async fn revoke_invitation(&self, room: &RoomId, id: &str) -> Result<(), StoreError> {
        let (room, id) = (room.clone(), id.to_owned());
        let revoke = move |connection: &mut Connection| {
            let sql = "DELETE FROM invitations WHERE id = ?2
                AND room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0)";
            connection.execute(sql, params![room.as_str(), id]).map_err(store_error)?;
            Ok(())
        };
        self.writer.run(revoke).await
    }

    async fn sweep_invitations(&self, now: Millis, limit: u32) -> Result<u64, StoreError> {
        let sweep = move |connection: &mut Connection| {
            let sql = "DELETE FROM invitations WHERE id IN
                (SELECT id FROM invitations WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
            Ok(connection.execute(sql, params![now, limit]).map_err(store_error)? as u64)
        };
        self.writer.run(sweep).await
    }
}

fn of_row(row: &Row<'_>) -> Result<Invitation, StoreError> {
    let made_by: String = row.get(1).map_err(store_error)?;
    let read = |made_by| {
        Ok(Invitation {
            id: row.get(0)?,
            made_by,
            made_at: row.get(2)?,
            expires_at: row.get(3)?,
            uses_left: row.get(4)?,
        })
    };
    read(rows::user_id(&made_by)?).map_err(store_error)
}

fn invite(
    connection: &mut Connection,
    room: &RoomId,
    invitation: &Invitation,
    hash: [u8; 32],
    max: u32,
) -> Result<Invited, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let found = "SELECT no FROM rooms WHERE id = ?1 AND deleted = 0";
    let found = transaction.query_row(found, [room.as_str()], |row| row.get::<_, i64>(0)).optional();
    let Some(no) = found.map_err(store_error)? else { return Ok(Invited::NoSuchRoom) };
    let live = "SELECT count(*) FROM invitations
        WHERE room_no = ?1 AND expires_at > ?2 AND (uses_left IS NULL OR uses_left > 0)";
    let live: u32 = transaction.query_row(live, [no, invitation.made_at], |row| row.get(0)).map_err(store_error)?;
    if live >= max {
        return Ok(Invited::TooMany);
    }
    let Invitation { id, made_by, made_at, expires_at, uses_left } = invitation;
    let add = "INSERT INTO invitations (id, room_no, secret_hash, made_by, made_at, expires_at, uses_left)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![id, no, hash, made_by.as_str(), made_at, expires_at, uses_left];
    transaction.execute(add, values).map_err(store_error)?;
    transaction.commit().map_err(store_error)?;
    Ok(Invited::New)
}
