//! Asking the index of texts.
//!
//! Neither the index nor the planner can give the newest of many matches at once: so the index is asked a stretch at a
//! time, newest first (`domain::search::mark`), each by the one GIN index, which takes the stretch, the room and the words
//! together. What is common is found in the first; what is rare is little in any.

use std::collections::HashSet;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::pins::CUTOFF;
use super::pool::Lease;
use super::{PostgresStore, encryption, index};
use crate::domain::search::mark::{self, Window};
use crate::domain::search::{CANDIDATES, FEW, RANKED_CHARS};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::index::{Clauses, OWN_ROOMS, Sight, clauses, readable, say};
use crate::infra::rows;
use crate::ports::{Match, Matches, RoomNo, Search, SearchStore, StoreError, Swept};

/// Newest matches of a stretch that are sifted for what the asker may read.
const LOOKED_AT: i64 = 4_000;
/// The same where private rooms of others are among them.
const LOOKED_AT_WIDE: i64 = 20_000;
/// Words that the index is asked for within words; the others are looked for in what it gives.
const PATTERNS: usize = 4;
/// Where older messages hold no more than this, about, they are asked for all at once.
const AT_ONCE: i64 = 2_000;
/// Messages with the words of a phrase that are looked at, about.
const SEEN: i64 = 10_000;

#[async_trait]
impl SearchStore for PostgresStore {
    async fn search(&self, search: Search) -> Result<Matches, StoreError> {
        let _turn = self.searches.take().await?;
        run(&mut self.lease().await?, &search).await
    }

    async fn present_texts(&self, messages: &[(RoomNo, Seq)]) -> Result<Vec<Option<String>>, StoreError> {
        let (nos, seqs): (Vec<i64>, Vec<i64>) = messages.iter().map(|&(no, seq)| (no.0, rows::seq_in(seq))).unzip();
        let sql = format!(
            "SELECT CASE WHEN e.at > {CUTOFF} THEN e.text END, n.room_no, e.user_id, e.message_id
            FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS n (room_no, seq, ord)
            LEFT JOIN rooms r ON r.no = n.room_no
            LEFT JOIN entries e ON e.room_no = n.room_no AND e.seq = n.seq AND e.kind = 0 ORDER BY n.ord"
        );
        let mut lease = self.lease().await?;
        let found = lease.query(&sql, &[&nos, &seqs, &rows::now()]).await?;
        let row = |row: &Row| rows::EntryRow {
            text: row.get(0),
            room: row.get(1),
            user: row.get::<_, Option<String>>(2).unwrap_or_default(),
            message_id: row.get(3),
            ..rows::EntryRow::default()
        };
        let read = encryption::opened(&mut lease, &self.sealing, found.iter().map(row).collect()).await?;
        Ok(read.into_iter().map(|row| row.text).collect())
    }

    async fn index_news(&self) -> Result<u64, StoreError> {
        let some = self.news.take(index::ROOMS);
        if some.is_empty() {
            return Ok(0);
        }
        let done = async { index::rooms(&mut self.lease().await?, &some).await };
        match done.await {
            Ok(done) => {
                // Rooms without anything new are no reason to stop: others may wait behind them.
                let entries = done.entries.max(u64::from(done.more.is_empty()));
                self.news.give_back(done.more);
                Ok(entries)
            }
            Err(error) => {
                self.news.give_back(some);
                Err(error)
            }
        }
    }

    async fn index_behind(&self, after: RoomNo) -> Result<Swept, StoreError> {
        let mut lease = self.lease().await?;
        let (rooms, next) = index::behind(&mut lease, after).await?;
        if rooms.is_empty() {
            return Ok(Swept { next, entries: 0 });
        }
        let done = index::rooms(&mut lease, &rooms).await?;
        // What a long log has left is done with the news.
        self.news.give_back(done.more);
        Ok(Swept { next, entries: done.entries })
    }

    async fn forget_texts(&self, room: RoomNo, seqs: &[Seq]) -> Result<(), StoreError> {
        index::forget(&mut self.lease().await?, room, seqs).await
    }

    async fn forget_texts_of(&self, user: &UserId) -> Result<bool, StoreError> {
        index::forget_of(&mut self.lease().await?, user).await
    }
}

async fn run(lease: &mut Lease, search: &Search) -> Result<Matches, StoreError> {
    let last = lease.query_opt("SELECT id FROM search ORDER BY id DESC LIMIT 1", &[]).await?;
    let last: i64 = last.map_or(0, |row| row.get(0));
    let newest = search.newest.map_or(last, |newest| newest.clamp(0, last));
    let Some(sight) = sight(lease, search).await? else { return Ok(Matches { newest, found: Vec::new() }) };

    let wanted = &search.wanted;
    let mut found = Vec::new();
    let whole = clauses(search, &sight, &wanted.terms());
    stretches(
        lease,
        search,
        &sight,
        newest,
        &Ask { clauses: whole, patterns: Vec::new(), literals: wanted.untold() },
        &mut found,
    )
    .await?;
    let within = wanted.within();
    if found.len() < FEW && !within.is_empty() {
        let (asked, rest) = within.split_at(within.len().min(PATTERNS));
        let ask = Ask {
            clauses: clauses(search, &sight, &wanted.whole_terms()),
            patterns: asked.iter().map(|word| format!("%{word}%")).collect(),
            literals: wanted.untold().into_iter().chain(rest.iter().copied()).collect(),
        };
        stretches(lease, search, &sight, newest, &ask, &mut found).await?;
    }
    Ok(Matches { newest, found })
}

/// `None`: there is no such room.
async fn sight(lease: &mut Lease, search: &Search) -> Result<Option<Sight>, StoreError> {
    if let Some(room) = &search.room {
        let sql = "SELECT no FROM rooms WHERE id = $1 AND NOT deleted";
        let found = lease.query_opt(sql, &[&room.as_str()]).await?;
        return Ok(found.map(|row| Sight::Room(row.get(0))));
    }
    let Some(asker) = &search.asker else { return Ok(Some(Sight::All)) };
    let sql = "SELECT r.no FROM people p JOIN rooms r ON r.no = p.room_no
        WHERE p.user_id = $1 AND p.role IS NOT NULL AND r.kind = 1 AND NOT r.deleted LIMIT $2";
    let rooms = lease.query(sql, &[&asker.as_str(), &(OWN_ROOMS as i64 + 1)]).await?;
    Ok(Some(Sight::Own(asker.clone(), rooms.iter().map(|row| row.get(0)).collect())))
}

/// What messages must have.
struct Ask<'a> {
    /// Terms and marks.
    clauses: Clauses,
    /// For `LIKE`.
    patterns: Vec<String>,
    /// What must stand in the text besides.
    literals: Vec<&'a str>,
}

/// Asks one stretch after the other until there are enough.
///
/// What the asker may read is sifted out behind the index first: naming all their rooms makes it ten times slower. Only
/// where most of what is found is in others' rooms are they named.
async fn stretches(
    lease: &mut Lease,
    search: &Search,
    sight: &Sight,
    newest: i64,
    ask: &Ask<'_>,
    found: &mut Vec<Match>,
) -> Result<(), StoreError> {
    let mut known: HashSet<i64> = found.iter().map(|found| found.id).collect();
    let readable = readable(sight);
    let mut named = sight.is_wide();
    let mut windows = mark::windows(newest);
    let mut next = windows.next();
    let mut seen: i64 = 0;
    while let Some(window) = next {
        let rooms = readable.as_ref().filter(|_| named);
        let (looked_at, said) = stretch(lease, search, sight, ask, rooms, &window, &mut known, found).await?;
        if found.len() >= CANDIDATES {
            break;
        }
        if !named && readable.is_some() && said > LOOKED_AT {
            // Some of this stretch was not looked at for others' messages.
            named = true;
            seen = found.len() as i64;
            next = Some(window);
            continue;
        }
        seen += looked_at;
        // If what is older is like what was seen.
        let covered = newest.saturating_sub(window.from).max(1);
        let expected = |messages: i64| (seen + 1).saturating_mul(messages) / covered;
        next = if expected(window.from) <= AT_ONCE {
            window.rest()
        } else {
            let enough = |after: &Window| !ask.literals.is_empty() && seen + expected(after.to - after.from) > SEEN;
            windows.next().filter(|after| !enough(after))
        };
    }
    Ok(())
}

/// Adds the newest matches of a stretch that are not known yet. Gives how many messages had to be looked at, and how many
/// of them say what was wanted.
#[expect(clippy::too_many_arguments, reason = "what a stretch is of, and where it goes")]
async fn stretch(
    lease: &mut Lease,
    search: &Search,
    sight: &Sight,
    ask: &Ask<'_>,
    rooms: Option<&Vec<String>>,
    window: &Window,
    known: &mut HashSet<i64>,
    found: &mut Vec<Match>,
) -> Result<(i64, i64), StoreError> {
    let mut clauses = ask.clauses.clone();
    clauses.extend(rooms.cloned());
    if !window.bands.is_empty() {
        clauses.push(window.bands.clone());
    }
    let query = say(&clauses, '\'', " & ", " | ");
    let looked_at = if sight.is_wide() { LOOKED_AT_WIDE } else { LOOKED_AT };
    let (most, ranked) = (CANDIDATES as i64, RANKED_CHARS as i32);
    let asker = search.asker.as_ref().map(UserId::as_str);
    let mut params: Vec<&(dyn ToSql + Sync)> =
        vec![&query, &window.from, &window.to, &looked_at, &asker, &most, &ranked];
    let mut patterns = String::new();
    for pattern in &ask.patterns {
        params.push(pattern);
        patterns.push_str(&format!(" AND s.body LIKE ${}", params.len()));
    }
    let mut said = "true".to_owned();
    for literal in &ask.literals {
        params.push(literal);
        said.push_str(&format!(" AND strpos(s.body, ${}) > 0", params.len()));
    }
    // Bounds and order are said so that the planner can't take them for a way to walk: it would go through all messages for
    // the few that were found. Where there is no term, there is a pattern.
    let terms = if clauses.is_empty() { "$1::text IS NOT NULL" } else { "s.terms @@ ($1::text)::tsquery" };
    let sql = format!(
        "WITH seen AS MATERIALIZED (
            SELECT s.id, s.room_no, s.seq, s.user_id, s.at, left(s.body, $7) AS body, {said} AS said
            FROM search s WHERE {terms} AND s.id + 0 >= $2 AND s.id + 0 < $3{patterns}
        ), newest AS MATERIALIZED (
            SELECT * FROM seen WHERE said ORDER BY id DESC LIMIT $4
        )
        SELECT c.seen, c.said, m.id, m.room_no, m.room, m.seq, m.user_id, m.at, m.body
        FROM (SELECT count(*) AS seen, count(*) FILTER (WHERE said) AS said FROM seen) AS c LEFT JOIN (
            SELECT n.id, n.room_no, r.id AS room, n.seq, n.user_id, n.at, n.body
            FROM newest n JOIN rooms r ON r.no = n.room_no
            LEFT JOIN people p ON p.room_no = n.room_no AND p.user_id = $5
            WHERE NOT r.deleted AND ($5 IS NULL OR p.role IS NOT NULL OR (r.kind = 0 AND p.banned IS NOT TRUE))
            ORDER BY n.id DESC LIMIT $6
        ) AS m ON true"
    );
    let rows = lease.query(&sql, &params).await?;
    for row in rows.iter().filter(|row| row.get::<_, Option<i64>>(2).is_some()) {
        let one = match_of(row)?;
        if found.len() < CANDIDATES && known.insert(one.id) {
            found.push(one);
        }
    }
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}

fn match_of(row: &Row) -> Result<Match, StoreError> {
    let room = RoomId::parse(row.get(4));
    Ok(Match {
        id: row.get(2),
        no: RoomNo(row.get(3)),
        room: room.map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))?,
        seq: rows::seq_out(row.get(5)),
        user: rows::user_id(row.get(6))?,
        at: row.get(7),
        body: row.get(8),
    })
}
