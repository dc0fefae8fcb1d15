//! Opening a room and reading its log.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Row, ToSql, TransactionBehavior, params};

use super::encryption;
use super::rooms::{ROOM, ROOM_COLUMNS, collect, room_of};
use super::threads::store_error;
use crate::entry::{Entry, Expiry};
use crate::ids::{Epoch, RoomId, Seq};
use crate::infra::sealed::{Sealing, no_key};
use crate::infra::{codes, rows};
use crate::ports::{OpenedRoom, Page, Range, RoomNo, StoreError, Thread};

/// The columns that [`row_of`] reads, of `entries e`.
pub const ENTRY: &str = "e.seq, e.at, e.kind, e.user_id, e.message_id, e.text, e.data, e.reply_to, e.edited_at, e.target, e.active, \
     e.mentions, e.room_no";

pub fn row_of(row: &Row<'_>) -> rusqlite::Result<rows::EntryRow> {
    Ok(rows::EntryRow {
        seq: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        user: row.get(3)?,
        message_id: row.get(4)?,
        text: row.get(5)?,
        data: row.get(6)?,
        reply_to: row.get(7)?,
        edited_at: row.get(8)?,
        target: row.get(9)?,
        active: row.get(10)?,
        mentions: row.get(11)?,
        room: row.get(12)?,
    })
}

/// When the message was sent that an edit is about, of `entries e` and `rooms r`; only where something may have expired.
const SAID_AT: &str = "CASE WHEN e.kind = 1 AND (r.ttl_s > 0 OR r.expired_before > 0) \
                       THEN (SELECT t.at FROM entries t WHERE t.room_no = r.no AND t.seq = e.target) END AS said_at";

pub fn open_room(
    connection: &mut Connection,
    sealing: &Sealing,
    room: &RoomId,
    recent: u32,
) -> Result<Option<OpenedRoom>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let raise = "UPDATE rooms SET epoch = epoch + 1 WHERE id = ?1 AND deleted = 0";
    if transaction.execute(raise, [room.as_str()]).map_err(store_error)? == 0 {
        return Ok(None);
    }
    encryption::give_key(&transaction, sealing, room)?;
    let sql = format!("SELECT {ROOM}, r.no, r.epoch, r.oldest FROM rooms r WHERE r.id = ?1");
    let record = |row: &Row<'_>| {
        let get = |column| row.get::<_, i64>(column).map_err(store_error);
        Ok((room_of(row)?, get(ROOM_COLUMNS)?, get(ROOM_COLUMNS + 1)?, get(ROOM_COLUMNS + 2)?))
    };
    let found = collect(&transaction, &sql, [room.as_str()], record)?.pop();
    let Some((record, no, epoch, oldest)) = found else {
        return Err(StoreError::Fault("a room without a record".into()));
    };
    let key = encryption::room_key(&transaction, sealing, no)?;
    if sealing.is_on() {
        sealing.remember(no, epoch, key.clone());
    }
    let mut members = HashMap::new();
    let mut bans = Vec::new();
    let sql = "SELECT user_id, role, banned FROM people WHERE room_no = ?1 AND (role IS NOT NULL OR banned = 1) \
               ORDER BY user_id";
    let people = collect(&transaction, sql, [no], |row| {
        let person = (row.get::<_, String>(0), row.get::<_, Option<i16>>(1), row.get::<_, bool>(2));
        Ok((person.0.map_err(store_error)?, person.1.map_err(store_error)?, person.2.map_err(store_error)?))
    })?;
    for (user, role, banned) in people {
        let user = rows::user_id(&user)?;
        if banned {
            bans.push(user.clone());
        }
        if let Some(role) = role {
            members.insert(user, codes::parse_role(role)?);
        }
    }
    let sql = format!(
        "SELECT {ENTRY}, {SAID_AT} FROM rooms r JOIN entries e ON e.room_no = r.no WHERE r.no = ?1 \
         ORDER BY e.seq DESC LIMIT ?2"
    );
    let cutoff = record.expiry().cutoff(rows::now());
    let read = |row: &Row<'_>| Ok((row_of(row).map_err(store_error)?, row.get("said_at").map_err(store_error)?));
    let mut newest = VecDeque::new();
    for (row, said_at) in collect(&transaction, &sql, params![no, recent], read)? {
        // A room with a damaged text can still be used: what is behind the damage is told here, the rest asked for.
        let entry = match row.open(|no| key.clone().ok_or_else(|| no_key(no))) {
            Ok(entry) => entry.into_entry()?,
            Err(error) => {
                tracing::error!(error = %error, "store.sealed.damaged");
                break;
            }
        };
        newest.push_front(rows::present(entry, said_at, cutoff));
    }
    transaction.commit().map_err(store_error)?;
    Ok(Some(OpenedRoom {
        no: RoomNo(no),
        room: record,
        epoch: Epoch(rows::seq_out(epoch)),
        oldest: rows::seq_out(oldest),
        members,
        bans,
        recent: newest.into(),
    }))
}

pub fn page(
    connection: &mut Connection,
    sealing: &Sealing,
    room: &RoomId,
    range: Range,
    limit: u32,
    max_bytes: usize,
) -> Result<Page, StoreError> {
    let (bound, condition, order) = match range {
        Range::After(seq) => (rows::seq_in(seq), "e.seq > ?2", "ASC"),
        Range::Before(seq) => (rows::seq_in(seq), "e.seq < ?2", "DESC"),
        Range::Newest => (i64::MAX, "e.seq <= ?2", "DESC"),
    };
    let sql = format!(
        "SELECT {ENTRY}, r.ttl_s, r.expired_before, {SAID_AT} FROM rooms r JOIN entries e ON e.room_no = r.no \
         WHERE r.id = ?1 AND r.deleted = 0 AND {condition} ORDER BY e.seq {order} LIMIT ?3"
    );
    let mut page = cut(
        connection,
        sealing,
        &sql,
        params![room.as_str(), bound, looked_at(limit)],
        limit.max(1) as usize,
        max_bytes,
    )?;
    if order == "DESC" {
        page.entries.reverse();
    }
    Ok(page)
}

/// A thread's root lies before every reply to it.
pub fn thread(
    connection: &mut Connection,
    sealing: &Sealing,
    room: &RoomId,
    message: Seq,
    after: Seq,
    limit: u32,
    max_bytes: usize,
) -> Result<Option<Thread>, StoreError> {
    let of = "SELECT coalesce(e.root, e.seq) FROM entries e
        WHERE e.room_no = (SELECT no FROM rooms WHERE id = ?1 AND deleted = 0) AND e.seq = ?2 AND e.kind = 0";
    let seq = |row: &Row<'_>| row.get::<_, i64>(0).map_err(store_error);
    let Some(root) = collect(connection, of, params![room.as_str(), rows::seq_in(message)], seq)?.pop() else {
        return Ok(None);
    };
    let shown =
        format!("{ENTRY}, r.ttl_s, r.expired_before, {SAID_AT} FROM rooms r JOIN entries e ON e.room_no = r.no");
    let sql = format!(
        "SELECT {shown} WHERE r.id = ?1 AND r.deleted = 0 AND e.seq = ?4 AND e.seq > ?2
         UNION ALL
         SELECT * FROM (
            SELECT {shown} WHERE r.id = ?1 AND r.deleted = 0 AND e.root = ?4 AND e.seq > ?2
            ORDER BY e.seq LIMIT ?3
         )
         ORDER BY 1 LIMIT ?3"
    );
    let values = params![room.as_str(), rows::seq_in(after), looked_at(limit), root];
    let page = cut(connection, sealing, &sql, values, limit.max(1) as usize, max_bytes)?;
    Ok(Some(Thread { root: rows::seq_out(root), page }))
}

/// One row further than the page goes, to know whether there are more.
fn looked_at(limit: u32) -> i64 {
    i64::from(limit.max(1)) + 1
}

/// Reads row by row until the page is full.
fn cut(
    connection: &Connection,
    sealing: &Sealing,
    sql: &str,
    values: &[&dyn ToSql],
    limit: usize,
    max_bytes: usize,
) -> Result<Page, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut found = statement.query(values).map_err(store_error)?;
    let now = rows::now();
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    let mut more = false;
    while let Some(row) = found.next().map_err(store_error)? {
        if entries.len() == limit || (!entries.is_empty() && bytes >= max_bytes) {
            more = true;
            break;
        }
        let expiry = Expiry {
            ttl_s: row.get("ttl_s").map_err(store_error)?,
            before: row.get("expired_before").map_err(store_error)?,
        };
        let said_at = row.get("said_at").map_err(store_error)?;
        let row = row_of(row).map_err(store_error)?;
        bytes += row.text.as_ref().map_or(0, String::len) + row.data.as_ref().map_or(0, String::len);
        let row = row.open(|no| encryption::key(connection, sealing, no))?;
        entries.push(rows::present(row.into_entry()?, said_at, expiry.cutoff(now)));
    }
    Ok(Page { entries, more })
}
