//! Rooms, who is in them, and how far they have read.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::threads::store_error;
use crate::entry::{Role, Room, RoomKind};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::rows::CALLS_ROOM;
use crate::infra::{codes, rows};
use crate::ports::{Created, MyRoom, StoreError};

/// The columns that [`room_of`] reads, of `rooms r`.
pub const ROOM: &str = "r.id, r.kind, r.name, r.topic, r.slow_mode_s, r.archived, r.head, r.ttl_s, r.expired_before, \
                        r.edit_history, r.encrypted";
/// How many columns [`ROOM`] has: the place of the first one behind them.
pub const ROOM_COLUMNS: usize = 11;

/// Reads [`ROOM`] from the row's first columns.
pub fn room_of(row: &Row<'_>) -> Result<Room, StoreError> {
    let id: String = row.get(0).map_err(store_error)?;
    Ok(Room {
        id: RoomId::parse(&id)
            .map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))?,
        kind: codes::parse_room_kind(row.get(1).map_err(store_error)?)?,
        name: row.get(2).map_err(store_error)?,
        topic: row.get(3).map_err(store_error)?,
        slow_mode_s: row.get(4).map_err(store_error)?,
        archived: row.get(5).map_err(store_error)?,
        head: rows::seq_out(row.get(6).map_err(store_error)?),
        ttl_s: row.get(7).map_err(store_error)?,
        expired_before: row.get(8).map_err(store_error)?,
        edit_history: row.get(9).map_err(store_error)?,
        encrypted: row.get(10).map_err(store_error)?,
    })
}

/// All rows of a query, each through `read`.
pub fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut found = statement.query(params).map_err(store_error)?;
    let mut all = Vec::new();
    while let Some(row) = found.next().map_err(store_error)? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub fn create_room(
    connection: &mut Connection,
    room: &Room,
    owner: &UserId,
    other: Option<&UserId>,
) -> Result<Created, StoreError> {
    let owner_role = if room.kind == RoomKind::Direct { Role::Member } else { Role::Owner };
    let transaction = connection.transaction().map_err(store_error)?;
    let sql = "INSERT INTO rooms (id, kind, name, topic, slow_mode_s, archived, ttl_s, edit_history) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";
    let kind = codes::room_kind(room.kind);
    let values = params![
        room.id.as_str(),
        kind,
        room.name,
        room.topic,
        room.slow_mode_s,
        room.archived,
        room.ttl_s,
        room.edit_history
    ];
    if transaction.execute(sql, values).map_err(store_error)? == 0 {
        return Ok(Created::Taken);
    }
    let no = transaction.last_insert_rowid();
    if room.ttl_s > 0 {
        transaction.execute("INSERT INTO expiring_rooms (room_no, due) VALUES (?1, 0)", [no]).map_err(store_error)?;
    }
    for (user, role) in std::iter::once((owner, owner_role)).chain(other.map(|other| (other, Role::Member))) {
        let sql = "INSERT INTO people (room_no, user_id, role) VALUES (?1, ?2, ?3)";
        transaction.execute(sql, params![no, user.as_str(), codes::role(role)]).map_err(store_error)?;
    }
    transaction.commit().map_err(store_error)?;
    Ok(Created::New)
}

pub fn room(connection: &mut Connection, room: &RoomId) -> Result<Option<Room>, StoreError> {
    let sql = format!("SELECT {ROOM} FROM rooms r WHERE r.id = ?1 AND r.deleted = 0");
    Ok(collect(connection, &sql, [room.as_str()], room_of)?.pop())
}

pub fn role(connection: &mut Connection, room: &RoomId, user: &UserId) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT p.role FROM rooms r JOIN people p ON p.room_no = r.no \
               WHERE r.id = ?1 AND r.deleted = 0 AND p.user_id = ?2 AND p.role IS NOT NULL";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let found = statement.query_row([room.as_str(), user.as_str()], |row| row.get(0)).optional();
    found.map_err(store_error)?.map(codes::parse_role).transpose()
}

/// Two walks along an index, merged: neither passes over the private rooms of others.
pub fn rooms(
    connection: &mut Connection,
    user: &UserId,
    cursor: Option<&RoomId>,
    limit: u32,
) -> Result<Vec<(Room, Option<Role>)>, StoreError> {
    let sql = format!(
        "WITH visible AS (
            SELECT * FROM (SELECT no FROM rooms WHERE kind = 0 AND deleted = 0 AND id > ?2 ORDER BY id LIMIT ?3)
            UNION
            SELECT * FROM (SELECT r.no FROM people p JOIN rooms r ON r.no = p.room_no
             WHERE p.user_id = ?1 AND p.role IS NOT NULL AND r.deleted = 0 AND r.id > ?2 ORDER BY r.id LIMIT ?3)
        )
        SELECT {ROOM}, p.role FROM visible v JOIN rooms r ON r.no = v.no
        LEFT JOIN people p ON p.room_no = v.no AND p.user_id = ?1 ORDER BY r.id LIMIT ?3"
    );
    let cursor = cursor.map_or("", RoomId::as_str);
    collect(connection, &sql, params![user.as_str(), cursor, limit], |row| {
        let role: Option<i16> = row.get(ROOM_COLUMNS).map_err(store_error)?;
        Ok((room_of(row)?, role.map(codes::parse_role).transpose()?))
    })
}

/// What is unread is a difference of counts that are there already: the room's messages, less those up to the read mark,
/// less one's own behind it, which an index counts. Mentions are counted along an index of nothing else. Both only for
/// the rooms of this page, which is found from one's memberships (CROSS JOIN keeps the planner from walking all rooms).
pub fn my_rooms(
    connection: &mut Connection,
    user: &UserId,
    cursor: Option<&RoomId>,
    limit: u32,
) -> Result<Vec<MyRoom>, StoreError> {
    let sql = format!(
        "SELECT {ROOM}, p.role AS my_role, p.read_seq AS read_seq, r.messages - p.read_messages - (
                SELECT count(*) FROM entries e INDEXED BY entries_own
                WHERE e.user_id = ?1 AND e.room_no = r.no AND e.seq > p.read_seq AND e.kind = 0
            ) AS unread, (
                SELECT count(*) FROM mentions m WHERE m.user_id = ?1 AND m.room_no = r.no AND m.seq > p.read_seq
            ) + (
                SELECT count(*) FROM mentions m
                WHERE m.user_id = '{CALLS_ROOM}' AND m.room_no = r.no AND m.seq > p.read_seq AND m.author <> ?1
            ) AS mentions
        FROM (
            SELECT p.room_no, p.role, p.read_seq, p.read_messages FROM people p CROSS JOIN rooms r ON r.no = p.room_no
            WHERE p.user_id = ?1 AND p.role IS NOT NULL AND r.deleted = 0 AND r.id > ?2 ORDER BY r.id LIMIT ?3
        ) p JOIN rooms r ON r.no = p.room_no ORDER BY r.id"
    );
    let cursor = cursor.map_or("", RoomId::as_str);
    collect(connection, &sql, params![user.as_str(), cursor, limit], |row| {
        let number = |column: &str| row.get::<_, i64>(column).map(rows::seq_out).map_err(store_error);
        Ok(MyRoom {
            room: room_of(row)?,
            role: codes::parse_role(row.get("my_role").map_err(store_error)?)?,
            read_seq: number("read_seq")?,
            unread: number("unread")?,
            mentions: number("mentions")?,
        })
    })
}

pub fn members(
    connection: &mut Connection,
    room: &RoomId,
    cursor: Option<&UserId>,
    limit: u32,
) -> Result<Vec<(UserId, Role)>, StoreError> {
    let sql = "SELECT p.user_id, p.role FROM people p
        WHERE p.room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0) AND p.role IS NOT NULL AND p.user_id > ?2
        ORDER BY p.user_id LIMIT ?3";
    let cursor = cursor.map_or("", UserId::as_str);
    collect(connection, sql, params![room.as_str(), cursor, limit], |row| {
        let user: String = row.get(0).map_err(store_error)?;
        Ok((rows::user_id(&user)?, codes::parse_role(row.get(1).map_err(store_error)?)?))
    })
}

pub fn bans(
    connection: &mut Connection,
    room: &RoomId,
    cursor: Option<&UserId>,
    limit: u32,
) -> Result<Vec<UserId>, StoreError> {
    let sql = "SELECT p.user_id FROM people p
        WHERE p.room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0) AND p.banned = 1 AND p.user_id > ?2
        ORDER BY p.user_id LIMIT ?3";
    let cursor = cursor.map_or("", UserId::as_str);
    collect(connection, sql, params![room.as_str(), cursor, limit], |row| {
        rows::user_id(&row.get::<_, String>(0).map_err(store_error)?)
    })
}

pub fn raise_read_marks(connection: &mut Connection, marks: &[(RoomId, UserId, Seq)]) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(store_error)?;
    for (room, user, seq) in marks {
        let sql = "UPDATE people SET read_seq = min(?3, r.head), read_messages = coalesce((
                SELECT e.messages FROM entries e WHERE e.room_no = r.no AND e.seq <= ?3 ORDER BY e.seq DESC LIMIT 1
            ), 0)
            FROM rooms r
            WHERE r.id = ?1 AND r.deleted = 0 AND people.room_no = r.no AND people.user_id = ?2
            AND people.role IS NOT NULL AND people.read_seq < min(?3, r.head)";
        let mut statement = transaction.prepare_cached(sql).map_err(store_error)?;
        statement.execute(params![room.as_str(), user.as_str(), rows::seq_in(*seq)]).map_err(store_error)?;
    }
    transaction.commit().map_err(store_error)
}
