//! Reports of messages.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::SqliteStore;
use super::rooms::collect;
use super::threads::store_error;
use super::{audit, encryption, privacy};
use crate::domain::audit::Deed;
use crate::entry::Expiry;
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::infra::rows;
use crate::infra::sealed::{Place, Sealing, opened, sealed};
use crate::ports::{Closed, ModerationStore, Report, ReportQuery, Reported, RoomNo, StoreError};

/// What [`report_of_row`] reads.
const REPORT: &str = "p.no, r.id, p.seq, p.reporter, p.at, p.reason, e.user_id, e.text, p.closed_at, p.closed_by,
    p.action, p.note, p.room_no, e.message_id, e.at, r.ttl_s, r.expired_before
    FROM reports p JOIN rooms r ON r.no = p.room_no LEFT JOIN entries e ON e.room_no = p.room_no AND e.seq = p.seq";

fn report_of_row(connection: &Connection, sealing: &Sealing, row: &Row<'_>) -> Result<Report, StoreError> {
    let text = |index| row.get::<_, Option<String>>(index).map_err(store_error);
    let user = |index| text(index)?.as_deref().map(rows::user_id).transpose();
    let (no, seq): (i64, i64) = (row.get(0).map_err(store_error)?, row.get(2).map_err(store_error)?);
    let (room, reporter): (i64, String) = (row.get(12).map_err(store_error)?, row.get(3).map_err(store_error)?);
    let read = |column, place: Place<'_>| {
        let key = |no| encryption::key(connection, sealing, no);
        text(column)?.map(|stored| opened(key, room, place, stored)).transpose()
    };
    let (author, id) = (text(6)?.unwrap_or_default(), text(13)?.unwrap_or_default());
    let closed = match (row.get::<_, Option<i64>>(8).map_err(store_error)?, user(9)?) {
        (Some(at), Some(by)) => {
            Some(Closed { at, by, action: text(10)?.unwrap_or_default(), note: read(11, Place::Note(no))? })
        }
        _ => None,
    };
    let expiry = Expiry { ttl_s: row.get(15).map_err(store_error)?, before: row.get(16).map_err(store_error)? };
    let (cutoff, said) = (expiry.cutoff(rows::now()), row.get::<_, Option<Millis>>(14).map_err(store_error)?);
    // Though it may not be erased yet.
    let expired = said.is_some_and(|at| cutoff.is_some_and(|cutoff| at <= cutoff));
    Ok(Report {
        no,
        room: rows::room_id(&row.get::<_, String>(1).map_err(store_error)?)?,
        seq: rows::seq_out(seq),
        reporter: rows::user_id(&reporter)?,
        at: row.get(4).map_err(store_error)?,
        reason: read(5, Place::Reason { seq, reporter: &reporter })?,
        author: user(6)?,
        text: read(7, Place::Text { user: &author, id: &id })?.filter(|_| !expired),
        closed,
    })
}

/// One number, where there is one.
fn number(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    statement.query_row(params, |row| row.get(0)).optional().map_err(store_error)
}

fn report(
    connection: &mut Connection,
    sealing: &Sealing,
    room: &RoomId,
    seq: Seq,
    reporter: &UserId,
    (at, reason): (Millis, &str),
    most: u32,
) -> Result<Reported, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let (seq, reporter) = (rows::seq_in(seq), reporter.as_str());
    let message = "SELECT r.no FROM rooms r JOIN entries e ON e.room_no = r.no
        WHERE r.id = ?1 AND r.deleted = 0 AND e.seq = ?2 AND e.kind = 0";
    let Some(no) = number(&transaction, message, params![room.as_str(), seq])? else {
        return Ok(Reported::NoSuchMessage);
    };
    let known = "SELECT no FROM reports WHERE room_no = ?1 AND seq = ?2 AND reporter = ?3";
    if let Some(no) = number(&transaction, known, params![no, seq, reporter])? {
        return Ok(Reported::Known(no));
    }
    let open = "SELECT count(*) FROM (SELECT 1 FROM reports WHERE reporter = ?1 AND closed_at IS NULL LIMIT ?2)";
    if number(&transaction, open, params![reporter, most])? >= Some(i64::from(most)) {
        return Ok(Reported::TooMany);
    }
    let key = encryption::held(&transaction, sealing, no)?;
    let reason = sealed(key.as_ref(), no, Place::Reason { seq, reporter }, reason.to_owned())?;
    let sql = "INSERT INTO reports (room_no, seq, reporter, at, reason) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.execute(sql, params![no, seq, reporter, at, reason]).map_err(store_error)?;
    let made = transaction.last_insert_rowid();
    transaction.commit().map_err(store_error)?;
    Ok(Reported::New(made))
}

#[async_trait]
impl ModerationStore for SqliteStore {
    async fn report(
        &self,
        room: &RoomId,
        seq: Seq,
        reporter: &UserId,
        at: Millis,
        reason: &str,
        most: u32,
    ) -> Result<Reported, StoreError> {
        let (room, reporter, reason) = (room.clone(), reporter.clone(), reason.to_owned());
        let sealing = self.sealing();
        self.writer
            .run(move |connection| report(connection, &sealing, &room, seq, &reporter, (at, &reason), most))
            .await
    }

    async fn reports(&self, query: ReportQuery<'_>) -> Result<Vec<Report>, StoreError> {
        let ReportQuery { room, open, after, limit } = query;
        let (room, sealing) = (room.cloned(), self.sealing());
        let read = move |connection: &mut Connection| {
            let of_room = if room.is_some() { "AND p.room_no = (SELECT no FROM rooms WHERE id = ?3)" } else { "" };
            let state = if open { "IS NULL" } else { "IS NOT NULL" };
            let sql = format!(
                "SELECT {REPORT} WHERE r.deleted = 0 AND p.closed_at {state} AND p.no > ?1 {of_room}
                 ORDER BY p.no LIMIT ?2"
            );
            let report = |row: &Row<'_>| report_of_row(connection, &sealing, row);
            match &room {
                Some(room) => collect(connection, &sql, params![after, limit, room.as_str()], report),
                None => collect(connection, &sql, params![after, limit], report),
            }
        };
        self.readers.run(read).await
    }

    async fn report_of(&self, room: &RoomId, no: i64) -> Result<Option<Report>, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        let read = move |connection: &mut Connection| {
            let sql = format!("SELECT {REPORT} WHERE r.id = ?1 AND r.deleted = 0 AND p.no = ?2");
            Ok(collect(connection, &sql, params![room.as_str(), no], |row| report_of_row(connection, &sealing, row))?
                .pop())
        };
        self.readers.run(read).await
    }

    async fn close_report(
        &self,
        room: &RoomId,
        no: i64,
        action: &str,
        note: Option<&str>,
        deed: &Deed,
    ) -> Result<bool, StoreError> {
        let (room, action, note, deed) = (room.clone(), action.to_owned(), note.map(str::to_owned), deed.clone());
        let sealing = self.sealing();
        let close = move |connection: &mut Connection| {
            let room_no = audit::room_no(connection, Some(&room))?.unwrap_or(RoomNo(0));
            privacy::with_deed(connection, Some(room_no), &deed, |transaction| {
                let sql = "UPDATE reports SET closed_at = ?3, closed_by = ?4, action = ?5, note = ?6
                    WHERE no = ?1 AND room_no = ?2 AND closed_at IS NULL";
                let key = encryption::held(transaction, &sealing, room_no.0)?;
                let seal = |note| sealed(key.as_ref(), room_no.0, Place::Note(no), note);
                let note = note.map(seal).transpose()?;
                let values = params![no, room_no.0, deed.at, deed.by.as_str(), action, note];
                transaction.execute(sql, values).map_err(store_error)
            })
        };
        self.writer.run(close).await
    }
}
