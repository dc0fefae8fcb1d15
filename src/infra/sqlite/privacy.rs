//! Erasure of people, bans from the server, and what an export reads.
//!
//! Invariant: what is erased, how far that is and who has to forget it change in one transaction.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};

use super::expiry::ERASE_MESSAGE;
use super::rooms::collect;
use super::threads::store_error;
use super::{SqliteStore, attachments, audit, encryption};
use crate::domain::audit::{Deed, What};
use crate::entry::{Data, Role};
use crate::ids::{MessageId, Millis, UserId};
use crate::infra::erasing::{Progress, ROOMS_A_STEP, Stage};
use crate::infra::rows::EntryRow;
use crate::infra::sealed::{self, RoomKey};
use crate::infra::{codes, rows};
use crate::ports::{
    CutOff, Erasing, OwnMessage, OwnReaction, OwnReport, OwnRoom, Place, PrivacyStore, RoomNo, Standing, StoreError,
};

/// Milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Entries of one step at most: the writer is busy for a few milliseconds.
const STEP: u32 = 500;

/// By what somebody (`?1`) could come in: gone with the wish to be erased.
const CREDENTIALS: &[&str] = &["DELETE FROM logins WHERE user_id = ?1", "DELETE FROM oidc_people WHERE user_id = ?1"];

/// A reaction keeps its place in the log, and sets nothing any more.
const OF_REACTED: &[&str] = &["UPDATE entries SET text = '', active = 0 WHERE room_no = ?1 AND seq = ?2"];

/// What else is somebody's (`?1`) by their name, at most `?2` of it at a time.
const REACTIONS: &str = "DELETE FROM reactions WHERE (room_no, target, user_id, emoji) IN
    (SELECT room_no, target, user_id, emoji FROM reactions WHERE user_id = ?1 LIMIT ?2)";
const REPORTS: &str = "UPDATE reports SET reason = NULL
    WHERE no IN (SELECT no FROM reports WHERE reporter = ?1 AND reason IS NOT NULL LIMIT ?2)";
const NOTES: &str = "UPDATE reports SET note = NULL
    WHERE no IN (SELECT no FROM reports WHERE closed_by = ?1 AND note IS NOT NULL LIMIT ?2)";

/// Nobody is there any more who could be asked about them.
const HOOKS_OFF: &str = "UPDATE webhooks SET active = 0, off_reason = 'whoever made it is gone'
    WHERE room_no = ?1 AND made_by = ?2 AND active = 1";

fn execute(connection: &Connection, sql: &str, params: impl Params) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(store_error)
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)
}

/// Does something and writes down who did it, or neither where `act` changed nothing.
pub fn with_deed(
    connection: &mut Connection,
    room: Option<RoomNo>,
    deed: &Deed,
    act: impl FnOnce(&Connection) -> Result<usize, StoreError>,
) -> Result<bool, StoreError> {
    let transaction = begin(connection)?;
    if act(&transaction)? == 0 {
        return Ok(false);
    }
    audit::insert(&transaction, room, deed)?;
    transaction.commit().map_err(store_error)?;
    Ok(true)
}

fn erase(connection: &mut Connection, deed: &Deed) -> Result<bool, StoreError> {
    let user = deed.by.as_str();
    with_deed(connection, None, deed, |transaction| {
        let gone = "UPDATE users SET erased = 1, name = NULL, password_hash = NULL WHERE id = ?1 AND erased = 0";
        if execute(transaction, gone, [user])? == 0 {
            return Ok(0);
        }
        for sql in CREDENTIALS {
            execute(transaction, sql, [user])?;
        }
        let listed =
            format!("INSERT INTO erasures (user_id, asked_at, due_at, told_at) VALUES (?1, {NOW}, {NOW}, {NOW})");
        execute(transaction, &listed, [user])
    })
}

fn erase_some(connection: &mut Connection, limit: u32) -> Result<Erasing, StoreError> {
    let transaction = begin(connection)?;
    let take = format!(
        "SELECT user_id, asked_at, round, stage, room_no, seq, {NOW} FROM erasures WHERE due_at <= {NOW}
         ORDER BY due_at LIMIT 1"
    );
    let taken = collect(&transaction, &take, [], |row| {
        let user = rows::user_id(&row.get::<_, String>(0).map_err(store_error)?)?;
        let now: Millis = row.get(6).map_err(store_error)?;
        let progress = Progress {
            asked_at: row.get(1).map_err(store_error)?,
            round: row.get(2).map_err(store_error)?,
            stage: Stage::parse(row.get(3).map_err(store_error)?)?,
            place: Place { room_no: row.get(4).map_err(store_error)?, seq: row.get(5).map_err(store_error)? },
            due_at: Some(now),
        };
        Ok((user, now, progress))
    });
    let Some((user, now, mut progress)) = taken?.pop() else { return Ok(Erasing::Nothing) };
    let left = step(&transaction, &user, &progress, limit.clamp(1, STEP))?;
    let ended = progress.advance(left, now);
    let advance = "UPDATE erasures SET round = ?2, stage = ?3, room_no = ?4, seq = ?5, due_at = ?6,
                       told_at = CASE WHEN ?7 THEN ?8 ELSE told_at END WHERE user_id = ?1";
    let Progress { round, stage, place, due_at, .. } = progress;
    execute(
        &transaction,
        advance,
        params![user.as_str(), round, stage.code(), place.room_no, place.seq, due_at, ended, now],
    )?;
    transaction.commit().map_err(store_error)?;
    Ok(if ended { Erasing::Round(user) } else { Erasing::Step(user) })
}

/// Gives the place to go on from; `None`: nothing of this kind is left.
fn step(connection: &Connection, user: &UserId, progress: &Progress, limit: u32) -> Result<Option<Place>, StoreError> {
    let place = progress.place;
    let whole = |count: usize| (count >= limit as usize).then_some(place);
    Ok(match progress.stage {
        Stage::Rooms => leave_rooms(connection, user)?.then_some(place),
        Stage::Messages => entries(connection, user, codes::MESSAGE, place, limit, &ERASE_MESSAGE)?,
        Stage::Reacted => entries(connection, user, codes::REACTION, place, limit, OF_REACTED)?,
        Stage::Reactions => whole(execute(connection, REACTIONS, params![user.as_str(), limit])?),
        Stage::Reports => whole(execute(connection, REPORTS, params![user.as_str(), limit])?),
        Stage::Notes => whole(execute(connection, NOTES, params![user.as_str(), limit])?),
        Stage::Attachments => whole(attachments::doom_of(connection, user, limit)?),
        Stage::Credentials => {
            for sql in CREDENTIALS {
                execute(connection, sql, [user.as_str()])?;
            }
            None
        }
    })
}

/// Whether there may be more.
fn leave_rooms(connection: &Connection, user: &UserId) -> Result<bool, StoreError> {
    let own = "SELECT room_no, role FROM people WHERE user_id = ?1 ORDER BY room_no LIMIT ?2";
    let rooms: Vec<(i64, Option<i16>)> = collect(connection, own, params![user.as_str(), ROOMS_A_STEP], |row| {
        Ok((row.get(0).map_err(store_error)?, row.get(1).map_err(store_error)?))
    })?;
    for &(no, role) in &rooms {
        if role.is_some() {
            // What an owner has cached of the room is not true any more: its next append is refused, and it reads the
            // room again.
            execute(connection, "UPDATE rooms SET epoch = epoch + 1 WHERE no = ?1", [no])?;
        }
        execute(connection, HOOKS_OFF, params![no, user.as_str()])?;
        execute(connection, "DELETE FROM people WHERE room_no = ?1 AND user_id = ?2", params![no, user.as_str()])?;
        if role == Some(codes::role(Role::Owner)) {
            inherit(connection, no, user)?;
        }
    }
    Ok(!rooms.is_empty())
}

/// Makes the next owner of a room that lost its last one.
fn inherit(connection: &Connection, no: i64, user: &UserId) -> Result<(), StoreError> {
    let owned = "SELECT 1 FROM people WHERE room_no = ?1 AND role = 0";
    let mut owned = connection.prepare_cached(owned).map_err(store_error)?;
    if owned.exists([no]).map_err(store_error)? {
        return Ok(());
    }
    let heir = "SELECT user_id FROM people WHERE room_no = ?1 AND role IN (1, 2)
                ORDER BY role, known_since, user_id LIMIT 1";
    let mut heir = connection.prepare_cached(heir).map_err(store_error)?;
    let heir = heir.query_row([no], |row| row.get::<_, String>(0)).optional().map_err(store_error)?;
    let Some(heir) = heir else { return Ok(()) };
    execute(connection, "UPDATE people SET role = 0 WHERE room_no = ?1 AND user_id = ?2", params![no, heir])?;
    let now = format!("SELECT {NOW}");
    let now = connection.query_row(&now, [], |row| row.get(0)).map_err(store_error)?;
    let whom = Some(rows::user_id(&heir)?);
    let detail = Some(Role::Owner.as_str().to_owned());
    let deed = Deed { at: now, by: user.clone(), from: None, what: What::RoleGiven, whom, seq: None, detail };
    audit::insert(connection, Some(RoomNo(no)), &deed)
}

/// Does each of `erase` to entries of one kind, from `place` on.
fn entries(
    connection: &Connection,
    user: &UserId,
    kind: i16,
    place: Place,
    limit: u32,
    erase: &[&str],
) -> Result<Option<Place>, StoreError> {
    // The kind is part of the statement, so that the index over this kind alone serves.
    let own = format!(
        "SELECT room_no, seq FROM entries WHERE user_id = ?1 AND kind = {kind} AND (room_no, seq) > (?2, ?3)
         ORDER BY room_no, seq LIMIT ?4"
    );
    let found: Vec<(i64, i64)> =
        collect(connection, &own, params![user.as_str(), place.room_no, place.seq, limit], |row| {
            Ok((row.get(0).map_err(store_error)?, row.get(1).map_err(store_error)?))
        })?;
    for &(no, seq) in &found {
        for sql in erase {
            execute(connection, sql, [no, seq])?;
        }
    }
    Ok(found.last().map(|&(room_no, seq)| Place { room_no, seq }))
}

fn own_room(row: &Row<'_>) -> Result<OwnRoom, StoreError> {
    Ok(OwnRoom {
        room_no: row.get(0).map_err(store_error)?,
        room: rows::room_id(&row.get::<_, String>(1).map_err(store_error)?)?,
        role: row.get::<_, Option<i16>>(2).map_err(store_error)?.map(codes::parse_role).transpose()?,
        banned: row.get(3).map_err(store_error)?,
        read_seq: rows::seq_out(row.get(4).map_err(store_error)?),
    })
}

fn own_message(
    row: &Row<'_>,
    user: &UserId,
    key: impl Fn(i64) -> Result<RoomKey, StoreError>,
) -> Result<(Place, Option<OwnMessage>), StoreError> {
    let place = Place { room_no: row.get(0).map_err(store_error)?, seq: row.get(1).map_err(store_error)? };
    if row.get::<_, bool>(9).map_err(store_error)? {
        return Ok((place, None));
    }
    let text = |index| row.get::<_, Option<String>>(index).map_err(store_error);
    let broken = |why: &str| StoreError::Fault(format!("message {} is broken in the store: {why}", place.seq));
    let stored = EntryRow {
        room: place.room_no,
        user: user.as_str().to_owned(),
        message_id: text(4)?,
        text: text(5)?,
        data: text(6)?,
        ..EntryRow::default()
    };
    let read = stored.open(key)?;
    let data = read.data.map(Data::from_compact).transpose();
    let message = OwnMessage {
        place,
        room: rows::room_id(&row.get::<_, String>(2).map_err(store_error)?)?,
        seq: rows::seq_out(place.seq),
        at: row.get(3).map_err(store_error)?,
        id: MessageId::parse(&text(4)?.unwrap_or_default()).map_err(broken)?,
        text: read.text,
        data: data.map_err(|error| broken(&error.to_string()))?,
        reply_to: row.get::<_, Option<i64>>(7).map_err(store_error)?.map(rows::seq_out),
        edited_at: row.get(8).map_err(store_error)?,
    };
    Ok((place, Some(message)))
}

#[async_trait]
impl PrivacyStore for SqliteStore {
    async fn erase(&self, deed: &Deed) -> Result<bool, StoreError> {
        let deed = deed.clone();
        self.writer.run(move |connection| erase(connection, &deed)).await
    }

    async fn erase_some(&self, limit: u32) -> Result<Erasing, StoreError> {
        self.writer.run(move |connection| erase_some(connection, limit)).await
    }

    async fn cut_off(&self, since: Millis) -> Result<(Millis, Vec<CutOff>), StoreError> {
        let read = move |connection: &mut Connection| {
            let now = format!("SELECT {NOW}");
            let now = connection.query_row(&now, [], |row| row.get(0)).map_err(store_error)?;
            let sql = "SELECT user_id, told_at, 1 FROM erasures WHERE told_at > ?1
                       UNION ALL SELECT user_id, at, 0 FROM server_bans WHERE at > ?1";
            let found = collect(connection, sql, [since], |row| {
                let user = rows::user_id(&row.get::<_, String>(0).map_err(store_error)?)?;
                let (at, erased) = (row.get(1).map_err(store_error)?, row.get(2).map_err(store_error)?);
                Ok(CutOff { user, at, erased })
            });
            Ok((now, found?))
        };
        self.readers.run(read).await
    }

    async fn standing(&self, user: &UserId) -> Result<Standing, StoreError> {
        let user = user.clone();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT coalesce((SELECT erased FROM users WHERE id = ?1), 0),
                           EXISTS (SELECT 1 FROM server_bans WHERE user_id = ?1)";
            let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
            let found =
                statement.query_row([user.as_str()], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?)));
            Ok(match found.map_err(store_error)? {
                (true, _) => Standing::Erased,
                (_, true) => Standing::Banned,
                _ => Standing::Good,
            })
        };
        self.readers.run(read).await
    }

    async fn ban_from_server(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError> {
        let (user, deed) = (user.clone(), deed.clone());
        let ban = move |connection: &mut Connection| {
            with_deed(connection, None, &deed, |transaction| {
                let sql = format!(
                    "INSERT INTO server_bans (user_id, at, by_user) VALUES (?1, {NOW}, ?2) ON CONFLICT DO NOTHING"
                );
                execute(transaction, &sql, [user.as_str(), deed.by.as_str()])
            })
        };
        self.writer.run(ban).await
    }

    async fn lift_server_ban(&self, user: &UserId, deed: &Deed) -> Result<bool, StoreError> {
        let (user, deed) = (user.clone(), deed.clone());
        let lift = move |connection: &mut Connection| {
            with_deed(connection, None, &deed, |transaction| {
                execute(transaction, "DELETE FROM server_bans WHERE user_id = ?1", [user.as_str()])
            })
        };
        self.writer.run(lift).await
    }

    async fn server_bans(
        &self,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Millis, UserId)>, StoreError> {
        let cursor = cursor.map_or(String::new(), |cursor| cursor.as_str().to_owned());
        let read = move |connection: &mut Connection| {
            let sql = "SELECT user_id, at, by_user FROM server_bans WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
            collect(connection, sql, params![cursor, limit], |row| {
                let user = |index| rows::user_id(&row.get::<_, String>(index).map_err(store_error)?);
                Ok((user(0)?, row.get(1).map_err(store_error)?, user(2)?))
            })
        };
        self.readers.run(read).await
    }

    async fn own_rooms(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnRoom>, StoreError> {
        let user = user.clone();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT p.room_no, r.id, p.role, p.banned, p.read_seq
                       FROM people p JOIN rooms r ON r.no = p.room_no
                       WHERE p.user_id = ?1 AND p.room_no > ?2 AND r.deleted = 0 ORDER BY p.room_no LIMIT ?3";
            collect(connection, sql, params![user.as_str(), after, limit], own_room)
        };
        self.readers.run(read).await
    }

    async fn own_messages(
        &self,
        user: &UserId,
        after: Place,
        limit: u32,
    ) -> Result<Vec<(Place, Option<OwnMessage>)>, StoreError> {
        let (user, sealing) = (user.clone(), self.sealing());
        let read = move |connection: &mut Connection| {
            let sql = "SELECT e.room_no, e.seq, r.id, e.at, e.message_id, e.text, e.data, e.reply_to, e.edited_at,
                           r.deleted
                       FROM entries e JOIN rooms r ON r.no = e.room_no
                       WHERE e.user_id = ?1 AND e.kind = 0 AND (e.room_no, e.seq) > (?2, ?3)
                       ORDER BY e.room_no, e.seq LIMIT ?4";
            collect(connection, sql, params![user.as_str(), after.room_no, after.seq, limit], |row| {
                own_message(row, &user, |no| encryption::key(connection, &sealing, no))
            })
        };
        self.readers.run(read).await
    }

    async fn own_reactions(
        &self,
        user: &UserId,
        after: (Place, &str),
        limit: u32,
    ) -> Result<Vec<OwnReaction>, StoreError> {
        let (user, Place { room_no, seq }, emoji) = (user.clone(), after.0, after.1.to_owned());
        let read = move |connection: &mut Connection| {
            let sql = "SELECT c.room_no, c.target, r.id, c.emoji FROM reactions c JOIN rooms r ON r.no = c.room_no
                       WHERE c.user_id = ?1 AND (c.room_no, c.target, c.emoji) > (?2, ?3, ?4) AND r.deleted = 0
                       ORDER BY c.room_no, c.target, c.emoji LIMIT ?5";
            collect(connection, sql, params![user.as_str(), room_no, seq, emoji, limit], |row| {
                let place = Place { room_no: row.get(0).map_err(store_error)?, seq: row.get(1).map_err(store_error)? };
                let room = rows::room_id(&row.get::<_, String>(2).map_err(store_error)?)?;
                Ok(OwnReaction {
                    place,
                    room,
                    target: rows::seq_out(place.seq),
                    emoji: row.get(3).map_err(store_error)?,
                })
            })
        };
        self.readers.run(read).await
    }

    async fn own_reports(&self, user: &UserId, after: i64, limit: u32) -> Result<Vec<OwnReport>, StoreError> {
        let (user, sealing) = (user.clone(), self.sealing());
        let read = move |connection: &mut Connection| {
            let sql =
                "SELECT p.no, r.id, p.seq, p.at, p.reason, p.room_no FROM reports p JOIN rooms r ON r.no = p.room_no
                       WHERE p.reporter = ?1 AND p.reason IS NOT NULL AND p.no > ?2 AND r.deleted = 0
                       ORDER BY p.no LIMIT ?3";
            collect(connection, sql, params![user.as_str(), after, limit], |row| {
                let reason: Option<String> = row.get(4).map_err(store_error)?;
                let (seq, room_no) = (row.get(2).map_err(store_error)?, row.get(5).map_err(store_error)?);
                let place = sealed::Place::Reason { seq, reporter: user.as_str() };
                let key = |no| encryption::key(connection, &sealing, no);
                let reason = reason.map(|reason| sealed::opened(key, room_no, place, reason)).transpose()?;
                Ok(OwnReport {
                    no: row.get(0).map_err(store_error)?,
                    room: rows::room_id(&row.get::<_, String>(1).map_err(store_error)?)?,
                    seq: rows::seq_out(seq),
                    at: row.get(3).map_err(store_error)?,
                    reason,
                })
            })
        };
        self.readers.run(read).await
    }
}
