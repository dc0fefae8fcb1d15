//! Rooms, who is in them, and how far they have read.

use tokio_postgres::Row;

use super::pool::Lease;
use crate::entry::{Role, Room, RoomKind};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::rows::CALLS_ROOM;
use crate::infra::{codes, rows};
use crate::ports::{Created, MyRoom, StoreError};

/// The columns that [`room_of`] reads, of `rooms r` and `room_heads h`.
pub const ROOM: &str = "r.id, r.kind, r.name, r.topic, r.slow_mode_s, r.archived, h.head, r.ttl_s, r.expired_before, \
                        r.edit_history, r.encrypted";
/// How many columns [`ROOM`] has: the place of the first one behind them.
pub const ROOM_COLUMNS: usize = 11;

/// Reads [`ROOM`] from the row's first columns.
pub fn room_of(row: &Row) -> Result<Room, StoreError> {
    let id: &str = row.get(0);
    Ok(Room {
        id: RoomId::parse(id).map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))?,
        kind: codes::parse_room_kind(row.get(1))?,
        name: row.get(2),
        topic: row.get(3),
        slow_mode_s: u32::try_from(row.get::<_, i32>(4)).unwrap_or(0),
        archived: row.get(5),
        head: rows::seq_out(row.get(6)),
        ttl_s: u32::try_from(row.get::<_, i32>(7)).unwrap_or(0),
        expired_before: row.get(8),
        edit_history: row.get(9),
        encrypted: row.get(10),
    })
}

/// Seconds as a column holds them: 68 years at most.
pub fn seconds(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

pub async fn create_room(
    lease: &mut Lease,
    room: &Room,
    owner: &UserId,
    other: Option<&UserId>,
) -> Result<Created, StoreError> {
    let owner_role = if room.kind == RoomKind::Direct { Role::Member } else { Role::Owner };
    let mut users = vec![owner.as_str()];
    let mut roles = vec![codes::role(owner_role)];
    if let Some(other) = other {
        users.push(other.as_str());
        roles.push(codes::role(Role::Member));
    }
    let sql = "WITH made AS (
            INSERT INTO rooms (id, kind, name, topic, slow_mode_s, archived, ttl_s, edit_history)
            VALUES ($1, $2, $3, $4, $5, $6, $9, $10) ON CONFLICT (id) DO NOTHING RETURNING no
        ), head AS (
            INSERT INTO room_heads (no) SELECT no FROM made
        ), expiring AS (
            INSERT INTO expiring_rooms (room_no, due) SELECT no, 0 FROM made WHERE $9 > 0
        )
        INSERT INTO people (room_no, user_id, role)
        SELECT made.no, p.user_id, p.role FROM made, unnest($7::text[], $8::smallint[]) AS p (user_id, role)";
    let made = lease
        .execute(
            sql,
            &[
                &room.id.as_str(),
                &codes::room_kind(room.kind),
                &room.name,
                &room.topic,
                &seconds(room.slow_mode_s),
                &room.archived,
                &users,
                &roles,
                &seconds(room.ttl_s),
                &room.edit_history,
            ],
        )
        .await?;
    Ok(if made > 0 { Created::New } else { Created::Taken })
}

pub async fn room(lease: &mut Lease, room: &RoomId) -> Result<Option<Room>, StoreError> {
    let sql = format!("SELECT {ROOM} FROM rooms r JOIN room_heads h ON h.no = r.no WHERE r.id = $1 AND NOT r.deleted");
    lease.query_opt(&sql, &[&room.as_str()]).await?.as_ref().map(room_of).transpose()
}

pub async fn role(lease: &mut Lease, room: &RoomId, user: &UserId) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT p.role FROM rooms r JOIN people p ON p.room_no = r.no \
               WHERE r.id = $1 AND NOT r.deleted AND p.user_id = $2 AND p.role IS NOT NULL";
    let row = lease.query_opt(sql, &[&room.as_str(), &user.as_str()]).await?;
    row.map(|row| codes::parse_role(row.get(0))).transpose()
}

/// Two walks along an index, merged: neither passes over the private rooms of others.
pub async fn rooms(
    lease: &mut Lease,
    user: &UserId,
    cursor: Option<&RoomId>,
    limit: u32,
) -> Result<Vec<(Room, Option<Role>)>, StoreError> {
    let sql = format!(
        "WITH visible AS (
            (SELECT no, id FROM rooms WHERE kind = 0 AND NOT deleted AND id > $2 ORDER BY id LIMIT $3)
            UNION
            (SELECT r.no, r.id FROM people p JOIN rooms r ON r.no = p.room_no
             WHERE p.user_id = $1 AND p.role IS NOT NULL AND NOT r.deleted AND r.id > $2 ORDER BY r.id LIMIT $3)
        )
        SELECT {ROOM}, p.role FROM visible v JOIN rooms r ON r.no = v.no JOIN room_heads h ON h.no = v.no
        LEFT JOIN people p ON p.room_no = v.no AND p.user_id = $1 ORDER BY r.id LIMIT $3"
    );
    let cursor = cursor.map_or("", RoomId::as_str);
    let found = lease.query(&sql, &[&user.as_str(), &cursor, &i64::from(limit)]).await?;
    let with_role = |row: &Row| {
        let role: Option<i16> = row.get(ROOM_COLUMNS);
        Ok((room_of(row)?, role.map(codes::parse_role).transpose()?))
    };
    found.iter().map(with_role).collect()
}

/// What is unread is a difference of counts that are there already: the room's messages, less those up to the read mark,
/// less one's own behind it, which an index counts. Mentions are counted along an index of nothing else. Both only for
/// the rooms of this page, which is found from one's memberships (OFFSET 0 keeps the planner from walking all rooms).
pub async fn my_rooms(
    lease: &mut Lease,
    user: &UserId,
    cursor: Option<&RoomId>,
    limit: u32,
) -> Result<Vec<MyRoom>, StoreError> {
    let sql = format!(
        "SELECT {ROOM}, p.role AS my_role, p.read_seq, CASE WHEN p.read_seq >= h.head THEN 0 ELSE
                h.messages - p.read_messages - (
                    SELECT count(*) FROM entries e
                    WHERE e.user_id = $1 AND e.room_no = p.room_no AND e.seq > p.read_seq AND e.kind = 0
                )
            END AS unread, CASE WHEN p.read_seq >= h.head THEN 0 ELSE (
                SELECT count(*) FROM mentions m WHERE m.user_id = $1 AND m.room_no = p.room_no AND m.seq > p.read_seq
            ) + (
                SELECT count(*) FROM mentions m
                WHERE m.user_id = '{CALLS_ROOM}' AND m.room_no = p.room_no AND m.seq > p.read_seq AND m.author <> $1
            ) END AS mentions
        FROM (
            SELECT p.room_no, p.role, p.read_seq, p.read_messages
            FROM people p, LATERAL (SELECT id, deleted FROM rooms WHERE no = p.room_no OFFSET 0) r
            WHERE p.user_id = $1 AND p.role IS NOT NULL AND NOT r.deleted AND r.id > $2 ORDER BY r.id LIMIT $3
        ) p JOIN rooms r ON r.no = p.room_no JOIN room_heads h ON h.no = p.room_no ORDER BY r.id"
    );
    let cursor = cursor.map_or("", RoomId::as_str);
    let found = lease.query(&sql, &[&user.as_str(), &cursor, &i64::from(limit)]).await?;
    let mine = |row: &Row| {
        Ok(MyRoom {
            room: room_of(row)?,
            role: codes::parse_role(row.get("my_role"))?,
            read_seq: rows::seq_out(row.get("read_seq")),
            unread: rows::seq_out(row.get("unread")),
            mentions: rows::seq_out(row.get("mentions")),
        })
    };
    found.iter().map(mine).collect()
}

pub async fn members(
    lease: &mut Lease,
    room: &RoomId,
    cursor: Option<&UserId>,
    limit: u32,
) -> Result<Vec<(UserId, Role)>, StoreError> {
    let sql = "SELECT p.user_id, p.role FROM people p
        WHERE p.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND p.role IS NOT NULL AND p.user_id > $2
        ORDER BY p.user_id LIMIT $3";
    let cursor = cursor.map_or("", UserId::as_str);
    let found = lease.query(sql, &[&room.as_str(), &cursor, &i64::from(limit)]).await?;
    found.iter().map(|row| Ok((rows::user_id(row.get(0))?, codes::parse_role(row.get(1))?))).collect()
}

pub async fn bans(
    lease: &mut Lease,
    room: &RoomId,
    cursor: Option<&UserId>,
    limit: u32,
) -> Result<Vec<UserId>, StoreError> {
    let sql = "SELECT p.user_id FROM people p
        WHERE p.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND p.banned AND p.user_id > $2
        ORDER BY p.user_id LIMIT $3";
    let cursor = cursor.map_or("", UserId::as_str);
    let found = lease.query(sql, &[&room.as_str(), &cursor, &i64::from(limit)]).await?;
    found.iter().map(|row| rows::user_id(row.get(0))).collect()
}

/// Locks the rows in one order, so that two nodes that raise the same marks don't wait for each other in a circle.
pub async fn raise_read_marks(lease: &mut Lease, marks: &[(RoomId, UserId, Seq)]) -> Result<(), StoreError> {
    if marks.is_empty() {
        return Ok(());
    }
    let rooms: Vec<&str> = marks.iter().map(|(room, _, _)| room.as_str()).collect();
    let users: Vec<&str> = marks.iter().map(|(_, user, _)| user.as_str()).collect();
    let seqs: Vec<i64> = marks.iter().map(|&(_, _, seq)| rows::seq_in(seq)).collect();
    let sql = "WITH marks AS (
            SELECT r.no, m.user_id, least(max(m.seq), h.head) AS seq
            FROM unnest($1::text[], $2::text[], $3::bigint[]) AS m (room, user_id, seq)
            JOIN rooms r ON r.id = m.room JOIN room_heads h ON h.no = r.no
            GROUP BY r.no, m.user_id, h.head
        ), rising AS (
            SELECT p.room_no, p.user_id, m.seq FROM marks m JOIN people p ON p.room_no = m.no AND p.user_id = m.user_id
            WHERE p.role IS NOT NULL AND p.read_seq < m.seq
            ORDER BY p.room_no, p.user_id FOR UPDATE OF p
        )
        UPDATE people p SET read_seq = rising.seq, read_messages = coalesce((
            SELECT e.messages FROM entries e WHERE e.room_no = rising.room_no AND e.seq <= rising.seq
            ORDER BY e.seq DESC LIMIT 1
        ), 0) FROM rising
        WHERE p.room_no = rising.room_no AND p.user_id = rising.user_id AND p.read_seq < rising.seq";
    lease.execute(sql, &[&rooms, &users, &seqs]).await?;
    Ok(())
}
