//! Opening a room and reading its log.

use std::collections::{HashMap, VecDeque};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::encryption::{self, GIVE_KEY, wrapped_of};
use super::pool::{Lease, Step};
use super::rooms::{ROOM, ROOM_COLUMNS, room_of};
use crate::entry::Expiry;
use crate::ids::{Epoch, RoomId, Seq};
use crate::infra::sealed::{Sealing, Wrapped, no_key};
use crate::infra::{codes, rows};
use crate::ports::{OpenedRoom, Page, Range, RoomNo, StoreError, Thread};

/// The columns that [`row_of`] reads, of `entries e`.
pub const ENTRY: &str = "e.seq, e.at, e.kind, e.user_id, e.message_id, e.text, e.data, e.reply_to, e.edited_at, e.target, e.active, \
     e.mentions, e.room_no";

pub fn row_of(row: &Row) -> rows::EntryRow {
    rows::EntryRow {
        seq: row.get(0),
        at: row.get(1),
        kind: row.get(2),
        user: row.get(3),
        message_id: row.get(4),
        text: row.get(5),
        data: row.get(6),
        reply_to: row.get(7),
        edited_at: row.get(8),
        target: row.get(9),
        active: row.get(10),
        mentions: row.get(11),
        room: row.get(12),
    }
}

/// When the message was sent that an edit is about, of `entries e` and `rooms r`; only where something may have expired.
const SAID_AT: &str = "CASE WHEN e.kind = 1 AND (r.ttl_s > 0 OR r.expired_before > 0) \
                       THEN (SELECT t.at FROM entries t WHERE t.room_no = r.no AND t.seq = e.target) END AS said_at";

/// The raised epoch is written under the row's lock, and the statements behind it read while that is held, each with a
/// snapshot of its own: what an older owner committed is seen, and it commits nothing more.
pub async fn open_room(
    lease: &mut Lease,
    sealing: &Sealing,
    room: &RoomId,
    recent: u32,
) -> Result<Option<OpenedRoom>, StoreError> {
    let id = room.as_str();
    let limit = i64::from(recent);
    let raise = "UPDATE room_heads SET epoch = epoch + 1 \
                 WHERE no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted)";
    let record = format!(
        "SELECT {ROOM}, h.no, h.epoch, h.oldest, k.ring_key, k.wrapped \
         FROM rooms r JOIN room_heads h ON h.no = r.no LEFT JOIN room_keys k ON k.room_no = r.no \
         WHERE r.id = $1 AND NOT r.deleted"
    );
    let people = "SELECT user_id, role, banned FROM people \
                  WHERE room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) \
                  AND (role IS NOT NULL OR banned) ORDER BY user_id";
    let newest = format!(
        "SELECT {ENTRY}, {SAID_AT} FROM rooms r JOIN (
            SELECT {ENTRY} FROM entries e WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted)
            ORDER BY e.seq DESC LIMIT $2
        ) e ON true WHERE r.id = $1 AND NOT r.deleted ORDER BY e.seq DESC"
    );
    let kinds = sealing.kinds();
    let new_key = if kinds.is_empty() { None } else { Some(sealing.new_key(id)?) };
    let give: [&(dyn ToSql + Sync); 4] = match &new_key {
        Some(Wrapped { ring_key, bytes }) => [&id, ring_key, bytes, &kinds],
        None => [&id, &"", &"", &""],
    };
    let of_room: [&(dyn ToSql + Sync); 1] = [&id];
    let mut steps = vec![Step::Begin, Step::Ask(raise, &of_room)];
    if new_key.is_some() {
        steps.push(Step::Ask(GIVE_KEY, &give));
    }
    let newest_params: [&(dyn ToSql + Sync); 2] = [&id, &limit];
    steps.extend([
        Step::Ask(&record, &of_room),
        Step::Ask(people, &of_room),
        Step::Ask(&newest, &newest_params),
        Step::Commit,
    ]);
    let answers = lease.transaction(&steps).await?;
    let [.., record, people, newest, _] = answers.as_slice() else {
        return Err(StoreError::Fault("an answer a question was expected".into()));
    };
    let Some(record) = record.first() else { return Ok(None) };

    let mut members = HashMap::new();
    let mut bans = Vec::new();
    for person in people {
        let user = rows::user_id(person.get(0))?;
        if person.get(2) {
            bans.push(user.clone());
        }
        if let Some(role) = person.get(1) {
            members.insert(user, codes::parse_role(role)?);
        }
    }
    let room = room_of(record)?;
    let (no, epoch): (i64, i64) = (record.get(ROOM_COLUMNS), record.get(ROOM_COLUMNS + 1));
    let key = wrapped_of(record, ROOM_COLUMNS + 3).map(|wrapped| sealing.unwrap(id, &wrapped)).transpose()?;
    if sealing.is_on() {
        sealing.remember(no, epoch, key.clone());
    }
    let cutoff = room.expiry().cutoff(rows::now());
    let mut recent = VecDeque::with_capacity(newest.len());
    for row in newest {
        // A room with a damaged text can still be used: what is behind the damage is told here, the rest asked for.
        let entry = match row_of(row).open(|no| key.clone().ok_or_else(|| no_key(no))) {
            Ok(entry) => entry.into_entry()?,
            Err(error) => {
                tracing::error!(error = %error, "store.sealed.damaged");
                break;
            }
        };
        recent.push_front(rows::present(entry, row.get("said_at"), cutoff));
    }
    Ok(Some(OpenedRoom {
        no: RoomNo(no),
        room,
        epoch: Epoch(rows::seq_out(epoch)),
        oldest: rows::seq_out(record.get(ROOM_COLUMNS + 2)),
        members,
        bans,
        recent: recent.into(),
    }))
}

pub async fn page(
    lease: &mut Lease,
    sealing: &Sealing,
    room: &RoomId,
    range: Range,
    limit: u32,
    max_bytes: usize,
) -> Result<Page, StoreError> {
    let (bound, condition, order) = match range {
        Range::After(seq) => (rows::seq_in(seq), "e.seq > $2", "ASC"),
        Range::Before(seq) => (rows::seq_in(seq), "e.seq < $2", "DESC"),
        Range::Newest => (i64::MAX, "e.seq <= $2", "DESC"),
    };
    let source = format!(
        "SELECT {ENTRY} FROM entries e
         WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND {condition}
         ORDER BY e.seq {order} LIMIT $3::bigint + 1"
    );
    let (limit, max_bytes) = bounds(limit, max_bytes);
    let found = lease.query(&cut(&source, order), &[&room.as_str(), &bound, &limit, &max_bytes]).await?;
    let mut page = page_of(lease, sealing, &found).await?;
    if order == "DESC" {
        page.entries.reverse();
    }
    Ok(page)
}

/// A thread's root lies before every reply to it.
pub async fn thread(
    lease: &mut Lease,
    sealing: &Sealing,
    room: &RoomId,
    message: Seq,
    after: Seq,
    limit: u32,
    max_bytes: usize,
) -> Result<Option<Thread>, StoreError> {
    let of = "SELECT coalesce(e.root, e.seq) FROM entries e
        WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND e.seq = $2 AND e.kind = 0";
    let Some(row) = lease.query_opt(of, &[&room.as_str(), &rows::seq_in(message)]).await? else { return Ok(None) };
    let root: i64 = row.get(0);
    let source = format!(
        "SELECT {ENTRY} FROM (
            (SELECT * FROM entries e
             WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND e.seq = $5 AND e.seq > $2)
            UNION ALL
            (SELECT * FROM entries e
             WHERE e.room_no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted) AND e.root = $5 AND e.seq > $2
             ORDER BY e.seq LIMIT $3::bigint + 1)
        ) e ORDER BY e.seq LIMIT $3::bigint + 1"
    );
    let (limit, max_bytes) = bounds(limit, max_bytes);
    let found =
        lease.query(&cut(&source, "ASC"), &[&room.as_str(), &rows::seq_in(after), &limit, &max_bytes, &root]).await?;
    Ok(Some(Thread { root: rows::seq_out(root), page: page_of(lease, sealing, &found).await? }))
}

fn bounds(limit: u32, max_bytes: usize) -> (i64, i64) {
    (i64::from(limit.max(1)), i64::try_from(max_bytes).unwrap_or(i64::MAX))
}

/// Cuts a page from `source`, entries of the room `$1`, which gives one row more than `$3` to know whether there are more; the sum over the sizes
/// (`$4`) cuts it before anything is sent.
fn cut(source: &str, order: &str) -> String {
    format!(
        "SELECT {ENTRY}, e.looked_at, r.ttl_s, r.expired_before, {SAID_AT} FROM rooms r JOIN (
            SELECT e.*, count(*) OVER () AS looked_at, row_number() OVER walk AS n,
                sum(e.size) OVER walk - e.size AS before
            FROM (
                SELECT e.*, coalesce(octet_length(e.text), 0) + coalesce(octet_length(e.data), 0) AS size
                FROM ({source}) e
            ) e
            WINDOW walk AS (ORDER BY e.seq {order})
        ) e ON true
        WHERE r.id = $1 AND NOT r.deleted AND e.n <= $3 AND (e.n = 1 OR e.before < $4::bigint) ORDER BY e.n"
    )
}

/// What [`cut`] gave.
async fn page_of(lease: &mut Lease, sealing: &Sealing, found: &[Row]) -> Result<Page, StoreError> {
    let looked_at: i64 = found.first().map_or(0, |row| row.get("looked_at"));
    let expiry = found.first().map_or_else(Expiry::default, |row| Expiry {
        ttl_s: u32::try_from(row.get::<_, i32>("ttl_s")).unwrap_or(0),
        before: row.get("expired_before"),
    });
    let cutoff = expiry.cutoff(rows::now());
    let read = encryption::opened(lease, sealing, found.iter().map(row_of).collect()).await?;
    let present =
        |(row, read): (&Row, rows::EntryRow)| Ok(rows::present(read.into_entry()?, row.get("said_at"), cutoff));
    let entries = found.iter().zip(read).map(present).collect::<Result<Vec<_>, StoreError>>()?;
    let more = looked_at > i64::try_from(entries.len()).unwrap_or(i64::MAX);
    Ok(Page { entries, more })
}
