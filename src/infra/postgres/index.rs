//! Filling the index of texts, behind the logs.
//!
//! Invariant: whoever reads a room's log for the index holds the row of its progress, and so does whoever erases texts
//! without an entry (`forget_texts`): what was read before an erasure is written before it too, and removed by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pool::{Lease, Step};
use crate::ids::{Seq, UserId};
use crate::infra::index::Indexed;
use crate::infra::{codes, rows};
use crate::ports::{RoomNo, StoreError};

/// Rooms of one step.
pub const ROOMS: usize = 64;
/// Entries of one step, about: so few that a store under much else does them within a call's time.
const ENTRIES: usize = 500;
/// Rooms that one look at all rooms passes.
const LOOKED_AT: i64 = 2_000;
/// Messages forgotten at a time.
const FORGOTTEN: i64 = 1_000;

const MAKE_PROGRESS: &str = "INSERT INTO search_progress (room_no, seq)
    SELECT r.no, 0 FROM unnest($1::bigint[]) AS n (no) JOIN rooms r ON r.no = n.no WHERE NOT r.deleted
    ORDER BY 1 ON CONFLICT DO NOTHING";

/// A room that another node is at is passed over for now. One that is gone has no row.
const LOCK: &str = "SELECT room_no, seq FROM search_progress WHERE room_no = ANY ($1) ORDER BY room_no
    FOR UPDATE SKIP LOCKED";

const NEW: &str = "SELECT p.room_no, e.seq, e.kind, e.target
    FROM search_progress p JOIN rooms r ON r.no = p.room_no
    CROSS JOIN LATERAL (
        SELECT e.seq, e.kind, e.target FROM entries e WHERE e.room_no = p.room_no AND e.seq > p.seq
        ORDER BY e.seq LIMIT $2::bigint
    ) AS e
    WHERE p.room_no = ANY ($1) AND NOT r.deleted";

const KINDS: &str = "SELECT r.no, r.kind, (
        SELECT array_agg(p.user_id) FROM people p WHERE r.kind = 2 AND p.room_no = r.no AND p.role IS NOT NULL
    )
    FROM rooms r WHERE r.no = ANY ($1)";

/// A room that is encrypted has none: what the index had of a message is removed then.
const TEXTS: &str = "SELECT e.room_no, e.seq, e.user_id, e.at, e.text, s.id
    FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
    JOIN entries e ON e.room_no = n.room_no AND e.seq = n.seq
    LEFT JOIN search s ON s.room_no = n.room_no AND s.seq = n.seq
    WHERE e.kind = 0 AND e.text IS NOT NULL AND NOT EXISTS (SELECT FROM room_keys k WHERE k.room_no = e.room_no)
    ORDER BY e.at, e.room_no, e.seq";

const IDS: &str = "SELECT nextval('search_id_seq') FROM generate_series(1, $1::bigint)";

const PUT: &str = "INSERT INTO search (id, room_no, seq, at, user_id, body, terms)
    SELECT n.id, n.room_no, n.seq, n.at, n.user_id, n.body, array_to_tsvector(string_to_array(n.terms, ' '))
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])
        AS n (id, room_no, seq, at, user_id, body, terms)
    ON CONFLICT (room_no, seq) DO UPDATE SET body = excluded.body, terms = excluded.terms";

const REMOVE: &str = "DELETE FROM search s USING unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
    WHERE s.room_no = n.room_no AND s.seq = n.seq";

const PROGRESS: &str = "UPDATE search_progress p SET seq = n.seq
    FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq) WHERE p.room_no = n.room_no";

/// What a step did.
pub struct Done {
    pub entries: u64,
    /// Rooms that have more, or that another node was at.
    pub more: Vec<i64>,
}

/// Brings the next entries of these rooms into the index.
pub async fn rooms(lease: &mut Lease, rooms: &[i64]) -> Result<Done, StoreError> {
    let take = [Step::Begin, Step::Ask(MAKE_PROGRESS, &[&rooms]), Step::Ask(LOCK, &[&rooms])];
    let answers = lease.transaction(&take).await?;
    let held: Vec<i64> = answers.get(2).into_iter().flatten().map(|row| row.get(0)).collect();
    let locked = rooms.iter().copied().filter(|no| !held.contains(no));
    if held.is_empty() {
        lease.transaction(&[Step::Commit]).await?;
        return Ok(Done { entries: 0, more: locked.collect() });
    }
    let each = (ENTRIES / held.len()).max(1);
    let limit = i64::try_from(each).unwrap_or(i64::MAX);
    let mut progress: BTreeMap<i64, i64> = BTreeMap::new();
    let mut counts: HashMap<i64, usize> = HashMap::new();
    let mut touched: BTreeSet<(i64, i64)> = BTreeSet::new();
    for row in lease.query(NEW, &[&held, &limit]).await? {
        let (no, seq, kind): (i64, i64, i16) = (row.get(0), row.get(1), row.get(2));
        progress.entry(no).and_modify(|to| *to = seq.max(*to)).or_insert(seq);
        *counts.entry(no).or_default() += 1;
        match (kind, row.get::<_, Option<i64>>(3)) {
            (codes::MESSAGE, _) => touched.insert((no, seq)),
            (codes::EDIT | codes::DELETE, Some(target)) => touched.insert((no, target)),
            _ => false,
        };
    }
    write(lease, &progress, touched).await?;
    let full = counts.iter().filter(|&(_, &count)| count >= each).map(|(&no, _)| no);
    Ok(Done { entries: counts.values().map(|&count| count as u64).sum(), more: full.chain(locked).collect() })
}

/// Puts what `touched` messages say now into the index, and commits.
async fn write(
    lease: &mut Lease,
    progress: &BTreeMap<i64, i64>,
    mut touched: BTreeSet<(i64, i64)>,
) -> Result<(), StoreError> {
    let (nos, heads): (Vec<i64>, Vec<i64>) = progress.iter().map(|(&no, &seq)| (no, seq)).unzip();
    let (touched_nos, touched_seqs): (Vec<i64>, Vec<i64>) = touched.iter().copied().unzip();
    let mut kinds: HashMap<i64, Indexed> = HashMap::new();
    for row in lease.query(KINDS, &[&nos]).await? {
        let two: Option<Vec<String>> = row.get(2);
        let two = two.unwrap_or_default().iter().map(|user| rows::user_id(user)).collect::<Result<_, _>>()?;
        let no = row.get(0);
        kinds.insert(no, Indexed { no, kind: codes::parse_room_kind(row.get(1))?, two });
    }
    let texts = lease.query(TEXTS, &[&touched_nos, &touched_seqs]).await?;
    let new = texts.iter().filter(|row| row.get::<_, Option<i64>>(5).is_none()).count() as i64;
    let mut ids = lease.query(IDS, &[&new]).await?.into_iter().map(|row| row.get::<_, i64>(0));
    let mut put = Columns::default();
    for row in &texts {
        let (no, seq, text): (i64, i64, String) = (row.get(0), row.get(1), row.get(4));
        let user = rows::user_id(row.get(2))?;
        let (Some(room), Some(id)) = (kinds.get(&no), row.get::<_, Option<i64>>(5).or_else(|| ids.next())) else {
            return Err(StoreError::Fault("a text of no room, or no number for it".into()));
        };
        let (body, terms) = room.row(id, &user, &text);
        touched.remove(&(no, seq));
        put.ids.push(id);
        put.nos.push(no);
        put.seqs.push(seq);
        put.ats.push(row.get(3));
        put.users.push(user.as_str().to_owned());
        put.bodies.push(body);
        put.terms.push(terms);
    }
    let (gone_nos, gone_seqs): (Vec<i64>, Vec<i64>) = touched.into_iter().unzip();
    let steps = [
        Step::Ask(REMOVE, &[&gone_nos, &gone_seqs]),
        Step::Ask(PUT, &[&put.ids, &put.nos, &put.seqs, &put.ats, &put.users, &put.bodies, &put.terms]),
        Step::Ask(PROGRESS, &[&nos, &heads]),
        Step::Commit,
    ];
    lease.transaction(&steps).await?;
    Ok(())
}

/// The rows to write, a vector a column.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    nos: Vec<i64>,
    seqs: Vec<i64>,
    ats: Vec<i64>,
    users: Vec<String>,
    bodies: Vec<String>,
    terms: Vec<String>,
}

const BEHIND: &str = "SELECT no, behind FROM (
        SELECT h.no, h.head > coalesce(p.seq, 0) AS behind
        FROM room_heads h LEFT JOIN search_progress p ON p.room_no = h.no
        WHERE h.no > $1 ORDER BY h.no LIMIT $2
    ) AS looked_at";

/// Rooms behind `after` that have more in their log than in the index, at most [`ROOMS`], and where to go on.
pub async fn behind(lease: &mut Lease, after: RoomNo) -> Result<(Vec<i64>, Option<RoomNo>), StoreError> {
    let looked_at = lease.query(BEHIND, &[&after.0, &LOOKED_AT]).await?;
    let behind = |row: &&tokio_postgres::Row| row.get::<_, bool>(1);
    let rooms: Vec<i64> = looked_at.iter().filter(behind).take(ROOMS).map(|row| row.get(0)).collect();
    let next = if rooms.len() == ROOMS {
        rooms.last().copied()
    } else {
        looked_at.last().filter(|_| looked_at.len() as i64 == LOOKED_AT).map(|row| row.get(0))
    };
    Ok((rooms, next.map(RoomNo)))
}

pub async fn forget(lease: &mut Lease, room: RoomNo, seqs: &[Seq]) -> Result<(), StoreError> {
    let nos = vec![room.0; seqs.len()];
    let seqs: Vec<i64> = seqs.iter().map(|&seq| rows::seq_in(seq)).collect();
    lease.query("SELECT forget_texts($1::bigint[], $2::bigint[])", &[&nos, &seqs]).await?;
    Ok(())
}

/// Whether there was something to forget.
pub async fn forget_of(lease: &mut Lease, user: &UserId) -> Result<bool, StoreError> {
    let sql = "WITH few AS MATERIALIZED (
            SELECT s.room_no, s.seq FROM search s WHERE s.terms @@ ($1::text)::tsquery AND s.user_id = $2 LIMIT $3
        ), forgotten AS MATERIALIZED (
            SELECT count(*) AS messages, forget_texts(array_agg(room_no), array_agg(seq)) FROM few
        )
        SELECT messages FROM forgotten";
    let sender = format!("'{}'", crate::domain::search::mark::sender(user));
    let row = lease.query_opt(sql, &[&sender, &user.as_str(), &FORGOTTEN]).await?;
    Ok(row.is_some_and(|row| row.get::<_, i64>(0) > 0))
}
