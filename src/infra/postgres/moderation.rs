//! Reports of messages.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::audit::{self, Line};
use super::encryption::{Keys, held, sealed_of};
use super::pool::{Lease, Step};
use crate::domain::audit::Deed;
use crate::entry::Expiry;
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::infra::rows;
use crate::infra::sealed::{Place, Sealing, opened};
use crate::ports::{Closed, ModerationStore, Report, ReportQuery, Reported, StoreError};

/// What [`report_of_row`] reads.
const REPORT: &str = "p.no, r.id, p.seq, p.reporter, p.at, p.reason, e.user_id, e.text, p.closed_at, p.closed_by,
    p.action, p.note, p.room_no, e.message_id, e.at, r.ttl_s, r.expired_before
    FROM reports p JOIN rooms r ON r.no = p.room_no LEFT JOIN entries e ON e.room_no = p.room_no AND e.seq = p.seq";

/// Reads reports with their texts.
async fn reports_of(lease: &mut Lease, sealing: &Sealing, found: &[Row]) -> Result<Vec<Report>, StoreError> {
    let texts = [5, 7, 11].into_iter().flat_map(|column| found.iter().map(move |row| (row.get(12), row.get(column))));
    let keys = Keys::to_read(lease, sealing, sealed_of(texts)).await?;
    found.iter().map(|row| report_of_row(row, &keys)).collect()
}

fn report_of_row(row: &Row, keys: &Keys) -> Result<Report, StoreError> {
    let read = |column: usize, place: Place<'_>| {
        let stored = row.get::<_, Option<String>>(column);
        stored.map(|stored| opened(|no| keys.need(no), row.get(12), place, stored)).transpose()
    };
    let text = Place::Text {
        user: row.get::<_, Option<&str>>(6).unwrap_or_default(),
        id: row.get::<_, Option<&str>>(13).unwrap_or_default(),
    };
    let closed = match (row.get::<_, Option<i64>>(8), row.get::<_, Option<&str>>(9)) {
        (Some(at), Some(by)) => Some(Closed {
            at,
            by: rows::user_id(by)?,
            action: row.get::<_, Option<String>>(10).unwrap_or_default(),
            note: read(11, Place::Note(row.get(0)))?,
        }),
        _ => None,
    };
    let ttl_s = u32::try_from(row.get::<_, i32>(15)).unwrap_or(0);
    let cutoff = Expiry { ttl_s, before: row.get(16) }.cutoff(rows::now());
    // Though it may not be erased yet.
    let expired = row.get::<_, Option<Millis>>(14).is_some_and(|at| cutoff.is_some_and(|cutoff| at <= cutoff));
    Ok(Report {
        no: row.get(0),
        room: rows::room_id(row.get(1))?,
        seq: rows::seq_out(row.get(2)),
        reporter: rows::user_id(row.get(3))?,
        at: row.get(4),
        reason: read(5, Place::Reason { seq: row.get(2), reporter: row.get(3) })?,
        author: row.get::<_, Option<&str>>(6).map(rows::user_id).transpose()?,
        text: read(7, text)?.filter(|_| !expired),
        closed,
    })
}

#[async_trait]
impl ModerationStore for PostgresStore {
    async fn report(
        &self,
        room: &RoomId,
        seq: Seq,
        reporter: &UserId,
        at: Millis,
        reason: &str,
        most: u32,
    ) -> Result<Reported, StoreError> {
        let sql = "WITH message AS (
                SELECT r.no, e.seq FROM rooms r JOIN entries e ON e.room_no = r.no
                WHERE r.id = $1 AND NOT r.deleted AND e.seq = $2 AND e.kind = 0
            ), known AS (
                SELECT p.no FROM message m JOIN reports p ON p.room_no = m.no AND p.seq = m.seq WHERE p.reporter = $3
            ), made AS (
                INSERT INTO reports (room_no, seq, reporter, at, reason)
                SELECT m.no, m.seq, $3, $4, $5 FROM message m
                WHERE NOT EXISTS (SELECT FROM known) AND $6 > (
                    SELECT count(*) FROM (
                        SELECT FROM reports o WHERE o.reporter = $3 AND o.closed_at IS NULL LIMIT $6
                    ) AS o
                )
                ON CONFLICT (room_no, seq, reporter) DO NOTHING RETURNING no
            )
            SELECT EXISTS (SELECT FROM message), (SELECT no FROM known), (SELECT no FROM made)";
        let (seq, most) = (rows::seq_in(seq), i64::from(most));
        let mut lease = self.lease().await?;
        let held = if self.sealing.is_on() { held(&mut lease, &self.sealing, room).await? } else { None };
        let reason = match &held {
            Some((no, key)) => &key.seal(*no, Place::Reason { seq, reporter: reporter.as_str() }, reason)?,
            None => reason,
        };
        let mut reported = Reported::TooMany;
        // Twice: somebody else's insert of the same may have come between the look and ours.
        for _ in 0..2 {
            let row = lease.query_opt(sql, &[&room.as_str(), &seq, &reporter.as_str(), &at, &reason, &most]).await?;
            let Some(row) = row else { break };
            reported = match (row.get::<_, bool>(0), row.get::<_, Option<i64>>(1), row.get::<_, Option<i64>>(2)) {
                (false, ..) => Reported::NoSuchMessage,
                (_, Some(no), _) => Reported::Known(no),
                (.., Some(no)) => Reported::New(no),
                _ => continue,
            };
            break;
        }
        if self.sealing.is_on() {
            lease.transaction(&[Step::Commit]).await?;
        }
        Ok(reported)
    }

    async fn reports(&self, query: ReportQuery<'_>) -> Result<Vec<Report>, StoreError> {
        let of_room = if query.room.is_some() { "AND p.room_no = (SELECT no FROM rooms WHERE id = $3)" } else { "" };
        let state = if query.open { "IS NULL" } else { "IS NOT NULL" };
        let sql = format!(
            "SELECT {REPORT} WHERE NOT r.deleted AND p.closed_at {state} AND p.no > $1 {of_room} ORDER BY p.no LIMIT $2"
        );
        let limit = i64::from(query.limit);
        let room = query.room.map(RoomId::as_str);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&query.after, &limit];
        if room.is_some() {
            params.push(&room);
        }
        let mut lease = self.lease().await?;
        let found = lease.query(&sql, &params).await?;
        reports_of(&mut lease, &self.sealing, &found).await
    }

    async fn report_of(&self, room: &RoomId, no: i64) -> Result<Option<Report>, StoreError> {
        let sql = format!("SELECT {REPORT} WHERE r.id = $1 AND NOT r.deleted AND p.no = $2");
        let mut lease = self.lease().await?;
        let found = lease.query(&sql, &[&room.as_str(), &no]).await?;
        Ok(reports_of(&mut lease, &self.sealing, &found).await?.pop())
    }

    async fn close_report(
        &self,
        room: &RoomId,
        no: i64,
        action: &str,
        note: Option<&str>,
        deed: &Deed,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "WITH done AS (
                UPDATE reports SET closed_at = $1, closed_by = $2, action = $10, note = $11
                WHERE no = $9 AND room_no = (SELECT no FROM rooms WHERE id = $8 AND NOT deleted) AND closed_at IS NULL
                RETURNING no
            ) {}",
            audit::insert("FROM done")
        );
        let line = Line::new(Some(room), deed);
        let mut lease = self.lease().await?;
        if !self.sealing.is_on() {
            return Ok(lease.execute(&sql, &line.params(&[&no, &action, &note])).await? == 1);
        }
        let held = held(&mut lease, &self.sealing, room).await?;
        let seal = |note| held.as_ref().map(|(room, key)| key.seal(*room, Place::Note(no), note));
        let sealed = note.and_then(seal).transpose()?;
        let note = sealed.as_deref().or(note);
        let done = lease.execute(&sql, &line.params(&[&no, &action, &note])).await? == 1;
        lease.transaction(&[Step::Commit]).await?;
        Ok(done)
    }
}
