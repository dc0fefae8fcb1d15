//! Asking the index of texts. FTS5 walks from the newest match on, so it is asked for one after the other until there are
//! enough.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pins::CUTOFF;
use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, encryption, index};
use crate::domain::search::{CANDIDATES, FEW, RANKED_CHARS};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::index::{Clauses, OWN_ROOMS, Sight, clauses, readable, say};
use crate::infra::rows;
use crate::ports::{Match, Matches, RoomNo, Search, SearchStore, StoreError, Swept};

/// Matches that are looked at: some may be in rooms that the asker may not read.
const LOOKED_AT: i64 = 20_000;
/// Words that the index is asked for within words; the others are looked for in what it gives.
const PATTERNS: usize = 4;

#[async_trait]
impl SearchStore for SqliteStore {
    async fn search(&self, search: Search) -> Result<Matches, StoreError> {
        let _turn = self.searches.take().await?;
        self.readers.run(move |connection| run(connection, &search)).await
    }

    async fn present_texts(&self, messages: &[(RoomNo, Seq)]) -> Result<Vec<Option<String>>, StoreError> {
        let (messages, sealing) = (messages.to_vec(), self.sealing());
        let read = move |connection: &mut Connection| {
            let sql = format!(
                "SELECT CASE WHEN e.at > {CUTOFF} THEN e.text END, e.user_id, e.message_id FROM rooms r JOIN entries e ON e.room_no = r.no
                WHERE r.no = ?1 AND e.seq = ?2 AND e.kind = 0"
            );
            let mut text = connection.prepare_cached(&sql).map_err(store_error)?;
            let now = rows::now();
            let read = |&(no, seq): &(RoomNo, Seq)| {
                let stored = |row: &Row<'_>| {
                    let (room, message_id) = (no.0, row.get(2)?);
                    Ok(rows::EntryRow {
                        room,
                        text: row.get(0)?,
                        user: row.get(1)?,
                        message_id,
                        ..rows::EntryRow::default()
                    })
                };
                let found = text.query_row([no.0, rows::seq_in(seq), now], stored).optional().map_err(store_error)?;
                let Some(found) = found else { return Ok(None) };
                Ok(found.open(|no| encryption::key(connection, &sealing, no))?.text)
            };
            messages.iter().map(read).collect()
        };
        self.readers.run(read).await
    }

    async fn index_news(&self) -> Result<u64, StoreError> {
        let some = self.news.take(index::ROOMS);
        if some.is_empty() {
            return Ok(0);
        }
        let rooms = some.clone();
        match self.writer.run(move |connection| index::rooms(connection, &rooms)).await {
            Ok(done) => {
                self.news.give_back(done.more);
                // Rooms without anything new are no reason to stop: others may wait behind them.
                Ok(done.entries.max(1))
            }
            Err(error) => {
                self.news.give_back(some);
                Err(error)
            }
        }
    }

    async fn index_behind(&self, after: RoomNo) -> Result<Swept, StoreError> {
        let (rooms, next) = self.readers.run(move |connection| index::behind(connection, after)).await?;
        if rooms.is_empty() {
            return Ok(Swept { next, entries: 0 });
        }
        let done = self.writer.run(move |connection| index::rooms(connection, &rooms)).await?;
        // What a long log has left is done with the news.
        self.news.give_back(done.more);
        Ok(Swept { next, entries: done.entries })
    }

    async fn forget_texts(&self, room: RoomNo, seqs: &[Seq]) -> Result<(), StoreError> {
        let seqs = seqs.to_vec();
        self.writer.run(move |connection| index::forget(connection, room, &seqs)).await
    }

    async fn forget_texts_of(&self, user: &UserId) -> Result<bool, StoreError> {
        let user = user.clone();
        self.writer.run(move |connection| index::forget_of(connection, &user)).await
    }
}

fn run(connection: &mut Connection, search: &Search) -> Result<Matches, StoreError> {
    let last = "SELECT coalesce(max(id), 0) FROM search";
    let last: i64 = connection.query_row(last, [], |row| row.get(0)).map_err(store_error)?;
    let newest = search.newest.map_or(last, |newest| newest.clamp(0, last));
    let Some(sight) = sight(connection, search)? else { return Ok(Matches { newest, found: Vec::new() }) };

    let wanted = &search.wanted;
    let mut sift = Sift { search, found: Vec::new(), known: HashSet::new() };
    let mut asked = clauses(search, &sight, &wanted.terms());
    asked.extend(readable(&sight));
    let terms = say(&asked, '"', " AND ", " OR ");
    let sql = "SELECT rowid FROM search_terms WHERE search_terms MATCH ?1 AND rowid <= ?2 ORDER BY rowid DESC LIMIT ?3";
    sift.all(connection, sql, params![terms, newest, LOOKED_AT], &Vec::new(), &wanted.untold())?;

    let within = wanted.within();
    if sift.found.len() < FEW && !within.is_empty() {
        let (asked, rest) = within.split_at(within.len().min(PATTERNS));
        let literals: Vec<&str> = wanted.untold().into_iter().chain(rest.iter().copied()).collect();
        // The words hold letters and digits alone, so nothing of them means anything to LIKE.
        let like = vec!["body LIKE '%' || ? || '%'"; asked.len()].join(" AND ");
        let sql = format!(
            "SELECT rowid FROM search_within WHERE {like} AND rowid <= {newest} ORDER BY rowid DESC LIMIT {LOOKED_AT}"
        );
        let mut also = clauses(search, &sight, &wanted.whole_terms());
        also.extend(readable(&sight));
        sift.all(connection, &sql, rusqlite::params_from_iter(asked), &also, &literals)?;
    }
    Ok(Matches { newest, found: sift.found })
}

/// `None`: there is no such room.
fn sight(connection: &Connection, search: &Search) -> Result<Option<Sight>, StoreError> {
    let number = |row: &Row<'_>| row.get::<_, i64>(0).map_err(store_error);
    if let Some(room) = &search.room {
        let sql = "SELECT no FROM rooms WHERE id = ?1 AND deleted = 0";
        return Ok(collect(connection, sql, [room.as_str()], number)?.pop().map(Sight::Room));
    }
    let Some(asker) = &search.asker else { return Ok(Some(Sight::All)) };
    let sql = "SELECT r.no FROM people p JOIN rooms r ON r.no = p.room_no
        WHERE p.user_id = ?1 AND p.role IS NOT NULL AND r.kind = 1 AND r.deleted = 0 LIMIT ?2";
    let rooms = collect(connection, sql, params![asker.as_str(), OWN_ROOMS as i64 + 1], number)?;
    Ok(Some(Sight::Own(asker.clone(), rooms)))
}

/// Looks at what the index gives, and keeps what the asker may read and wanted.
struct Sift<'a> {
    search: &'a Search,
    found: Vec<Match>,
    known: HashSet<i64>,
}

impl Sift<'_> {
    fn all(
        &mut self,
        connection: &Connection,
        sql: &str,
        params: impl rusqlite::Params,
        also: &Clauses,
        literals: &[&str],
    ) -> Result<(), StoreError> {
        let one = "SELECT s.room_no, r.id, s.seq, s.user_id, s.at, s.body, s.terms
            FROM search s JOIN rooms r ON r.no = s.room_no
            LEFT JOIN people p ON p.room_no = s.room_no AND p.user_id = ?2
            WHERE s.id = ?1 AND r.deleted = 0
                AND (?2 IS NULL OR p.role IS NOT NULL OR (r.kind = 0 AND coalesce(p.banned, 0) = 0))";
        let mut one = connection.prepare_cached(one).map_err(store_error)?;
        let asker = self.search.asker.as_ref().map(UserId::as_str);
        let mut walk = connection.prepare_cached(sql).map_err(store_error)?;
        let mut ids = walk.query(params).map_err(store_error)?;
        while self.found.len() < CANDIDATES
            && let Some(id) = ids.next().map_err(store_error)?
        {
            let id: i64 = id.get(0).map_err(store_error)?;
            let mut rows = one.query(params![id, asker]).map_err(store_error)?;
            let Some(row) = rows.next().map_err(store_error)? else { continue };
            let (body, terms): (String, String) = (row.get(5).map_err(store_error)?, row.get(6).map_err(store_error)?);
            // The index knows no case in a sender's name.
            let one = match_of(id, row, &body)?;
            let sender = self.search.from.as_ref().is_none_or(|from| *from == one.user);
            if sender
                && has(&terms, also)
                && literals.iter().all(|literal| body.contains(literal))
                && self.known.insert(id)
            {
                self.found.push(one);
            }
        }
        Ok(())
    }
}

/// Whether terms, with blanks between, have one of each clause.
fn has(terms: &str, clauses: &Clauses) -> bool {
    if clauses.is_empty() {
        return true;
    }
    let terms: HashSet<&str> = terms.split(' ').collect();
    clauses.iter().all(|any| any.iter().any(|term| terms.contains(term.as_str())))
}

fn match_of(id: i64, row: &Row<'_>, body: &str) -> Result<Match, StoreError> {
    let room = RoomId::parse(&row.get::<_, String>(1).map_err(store_error)?);
    Ok(Match {
        id,
        no: RoomNo(row.get(0).map_err(store_error)?),
        room: room.map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))?,
        seq: rows::seq_out(row.get(2).map_err(store_error)?),
        user: rows::user_id(&row.get::<_, String>(3).map_err(store_error)?)?,
        at: row.get(4).map_err(store_error)?,
        body: body.chars().take(RANKED_CHARS).collect(),
    })
}
