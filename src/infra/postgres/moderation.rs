//! Reports of messages.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::audit::{self, Line};
use crate::domain::audit::Deed;
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::infra::rows;
use crate::ports::{Closed, ModerationStore, Report, ReportQuery, Reported, StoreError};

/// What [`report_of_row`] reads.
const REPORT: &str = "p.no, r.id, p.seq, p.reporter, p.at, p.reason, e.user_id, e.text, p.closed_at, p.closed_by,
    p.action, p.note
    FROM reports p JOIN rooms r ON r.no = p.room_no LEFT JOIN entries e ON e.room_no = p.room_no AND e.seq = p.seq";

fn report_of_row(row: &Row) -> Result<Report, StoreError> {
    let closed = match (row.get::<_, Option<i64>>(8), row.get::<_, Option<&str>>(9)) {
        (Some(at), Some(by)) => Some(Closed {
            at,
            by: rows::user_id(by)?,
            action: row.get::<_, Option<String>>(10).unwrap_or_default(),
            note: row.get(11),
        }),
        _ => None,
    };
    Ok(Report {
        no: row.get(0),
        room: rows::room_id(row.get(1))?,
        seq: rows::seq_out(row.get(2)),
        reporter: rows::user_id(row.get(3))?,
        at: row.get(4),
        reason: row.get(5),
        author: row.get::<_, Option<&str>>(6).map(rows::user_id).transpose()?,
        text: row.get(7),
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
        // Twice: somebody else's insert of the same may have come between the look and ours.
        for _ in 0..2 {
            let row = lease.query_opt(sql, &[&room.as_str(), &seq, &reporter.as_str(), &at, &reason, &most]).await?;
            let Some(row) = row else { break };
            match (row.get::<_, bool>(0), row.get::<_, Option<i64>>(1), row.get::<_, Option<i64>>(2)) {
                (false, ..) => return Ok(Reported::NoSuchMessage),
                (_, Some(no), _) => return Ok(Reported::Known(no)),
                (.., Some(no)) => return Ok(Reported::New(no)),
                _ => {}
            }
        }
        Ok(Reported::TooMany)
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
        self.lease().await?.query(&sql, &params).await?.iter().map(report_of_row).collect()
    }

    async fn report_of(&self, room: &RoomId, no: i64) -> Result<Option<Report>, StoreError> {
        let sql = format!("SELECT {REPORT} WHERE r.id = $1 AND NOT r.deleted AND p.no = $2");
        let found = self.lease().await?.query_opt(&sql, &[&room.as_str(), &no]).await?;
        found.as_ref().map(report_of_row).transpose()
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
        Ok(self.lease().await?.execute(&sql, &line.params(&[&no, &action, &note])).await? == 1)
    }
}
