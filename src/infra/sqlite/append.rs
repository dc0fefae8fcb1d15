//! Appending to logs: one transaction over all rooms of the call, each by the shared plan (`infra::changes`).

use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, TransactionBehavior, params};

use super::rooms::{ROOM, collect, room_of};
use super::threads::store_error;
use super::{audit, encryption};
use crate::ids::Millis;
use crate::infra::changes::{self, Before, Invited, MessageKey, Needs, NewEntry, Person, Plan, Target};
use crate::infra::sealed::{Place, RoomKey, Sealing, present, sealed};
use crate::infra::{codes, rows};
use crate::ports::{Appended, Outcome, RoomAppend, RoomNo, StoreError};

pub fn append(
    connection: &mut Connection,
    sealing: &Sealing,
    batch: Vec<RoomAppend>,
) -> Result<Vec<Appended>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let mut results = Vec::with_capacity(batch.len());
    for RoomAppend { no, epoch, items } in batch {
        let key = encryption::append_key(&transaction, sealing, no.0, rows::seq_in(epoch.0))?;
        let key = key.as_ref();
        let Some(before) = read(&transaction, key, no, rows::seq_in(epoch.0), &changes::needs(no, &items))? else {
            results.push(Appended::Fenced);
            continue;
        };
        let plan = changes::plan(before, items);
        results.push(Appended::Done(write(&transaction, key, no, plan)?));
    }
    transaction.commit().map_err(store_error)?;
    Ok(results)
}

/// `None`: the room has another epoch, or is gone.
fn read(
    transaction: &Transaction<'_>,
    key: Option<&RoomKey>,
    no: RoomNo,
    epoch: i64,
    needs: &Needs,
) -> Result<Option<Before>, StoreError> {
    let sql = format!(
        "SELECT {ROOM}, r.messages AS messages FROM rooms r WHERE r.no = ?1 AND r.epoch = ?2 AND r.deleted = 0"
    );
    let record = |row: &Row<'_>| Ok((room_of(row)?, row.get::<_, i64>("messages").map_err(store_error)?));
    let Some((room, count)) = collect(transaction, &sql, params![no.0, epoch], record)?.pop() else { return Ok(None) };
    let mut before = Before::of(no, room, rows::seq_out(count));

    each(transaction, KNOWN, &needs.keys, |known, &key| {
        let found = known.query_row([key.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Millis>(1)?)));
        if let Some((seq, at)) = found.optional().map_err(store_error)? {
            before.known.insert(key, (rows::seq_out(seq), at));
        }
        Ok(())
    })?;
    each(transaction, MESSAGE, &needs.messages, |message, &seq| {
        let found = message.query_row(params![no.0, rows::seq_in(seq)], |row| {
            let root = row.get::<_, Option<i64>>(2)?.map(rows::seq_out);
            let (author, id) = (row.get::<_, String>(0)?, row.get::<_, Option<String>>(5)?);
            Ok((author, id, row.get::<_, Option<String>>(1)?, root, row.get(3)?, row.get(4)?))
        });
        if let Some((author, id, text, root, at, edited_at)) = found.optional().map_err(store_error)? {
            let (author, id) = (rows::user_id(&author)?, rows::message_id(seq, id.as_deref())?);
            let text = text.map(|text| present(key, no.0, &author, &id, text));
            before.messages.insert(seq, Target { author, id, text, root, at, edited_at });
        }
        Ok(())
    })?;
    each(transaction, REACTION, &needs.reactions, |reaction, wanted| {
        let (target, user, emoji) = wanted;
        if reaction.exists(params![no.0, rows::seq_in(*target), user.as_str(), emoji]).map_err(store_error)? {
            before.reactions.insert(wanted.clone());
        }
        Ok(())
    })?;
    each(transaction, PERSON, &needs.people, |person, user| {
        let found = person.query_row(params![no.0, user.as_str()], |row| {
            Ok((row.get::<_, Option<i16>>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
        });
        if let Some((role, muted, banned)) = found.optional().map_err(store_error)? {
            let role = role.map(codes::parse_role).transpose()?;
            before.people.insert(user.clone(), Person { role, muted, banned });
        }
        Ok(())
    })?;
    each(transaction, USER, &needs.people, |exists, user| {
        if exists.exists([user.as_str()]).map_err(store_error)? {
            before.users.insert(user.clone());
        }
        Ok(())
    })?;
    each(transaction, INVITATION, &needs.invitations, |invited, token| {
        let found = invited
            .query_row(params![token, no.0], |row| Ok(Invited { expires_at: row.get(0)?, uses_left: row.get(1)? }));
        if let Some(invited) = found.optional().map_err(store_error)? {
            before.invitations.insert(*token, invited);
        }
        Ok(())
    })?;
    Ok(Some(before))
}

const KNOWN: &str = "SELECT seq, at FROM entries WHERE key = ?1";
const MESSAGE: &str =
    "SELECT user_id, text, root, at, edited_at, message_id FROM entries WHERE room_no = ?1 AND seq = ?2 AND kind = 0";
const REACTION: &str = "SELECT 1 FROM reactions WHERE room_no = ?1 AND target = ?2 AND user_id = ?3 AND emoji = ?4";
const PERSON: &str = "SELECT role, muted, banned FROM people WHERE room_no = ?1 AND user_id = ?2";
const USER: &str = "SELECT 1 FROM users WHERE id = ?1 AND erased = 0";

const INVITATION: &str = "SELECT expires_at, uses_left FROM invitations WHERE secret_hash = ?1 AND room_no = ?2";

const INSERT: &str = "INSERT INTO entries \
    (room_no, key, seq, at, kind, user_id, message_id, text, data, reply_to, edited_at, target, active, mentions, \
    root, messages) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
const HEAD: &str = "UPDATE rooms SET head = ?2, messages = ?3 WHERE no = ?1";
const EDIT: &str = "UPDATE entries SET text = ?3, edited_at = ?4, mentions = ?5 WHERE room_no = ?1 AND seq = ?2";
const ERASE: &str = "UPDATE entries SET text = NULL, data = NULL WHERE room_no = ?1 AND seq = ?2";
/// Left alone, the planner would walk along the room's whole log.
const ERASE_EDITS: &str =
    "UPDATE entries INDEXED BY entries_edits SET text = NULL WHERE room_no = ?1 AND target = ?2 AND kind = 1";
const REPLACED: &str = "INSERT INTO revisions (room_no, target, replaced_by, at, text) VALUES (?1, ?2, ?3, ?4, ?5)";
const ERASE_REVISIONS: &str = "DELETE FROM revisions WHERE room_no = ?1 AND target = ?2";
const UNPIN: &str = "DELETE FROM pins WHERE room_no = ?1 AND target = ?2";
const USE_INVITATION: &str = "UPDATE invitations SET uses_left = uses_left - ?2 WHERE secret_hash = ?1";
const EXPIRING: &str =
    "INSERT INTO expiring_rooms (room_no, due) VALUES (?1, 0) ON CONFLICT (room_no) DO UPDATE SET due = 0";
const SET_REACTION: &str = "INSERT INTO reactions (room_no, target, user_id, emoji) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT DO NOTHING";
const CLEAR_REACTION: &str = "DELETE FROM reactions \
    WHERE room_no = ?1 AND target = ?2 AND user_id = ?3 AND emoji = ?4";
const SET_PERSON: &str = "INSERT INTO people (room_no, user_id, role, muted, banned) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (room_no, user_id) \
    DO UPDATE SET role = excluded.role, muted = excluded.muted, banned = excluded.banned";
const HOOKS_OFF: &str = "UPDATE webhooks \
    SET active = 0, off_reason = 'whoever made it may not manage the room any more' \
    WHERE room_no = ?1 AND made_by = ?2 AND active = 1";
const SET_RECORD: &str = "UPDATE rooms SET name = ?2, topic = ?3, slow_mode_s = ?4, archived = ?5, ttl_s = ?6, \
    expired_before = ?7, edit_history = ?8 WHERE no = ?1";
/// The room is gone at once; what is left of it goes later (`purge`). The record stays, as a tombstone: its id is taken
/// for ever.
const DELETE_ROOM: [&str; 4] = [
    "DELETE FROM room_keys WHERE room_no = ?1",
    "UPDATE rooms SET deleted = 1, name = NULL, topic = NULL WHERE no = ?1",
    "DELETE FROM expiring_rooms WHERE room_no = ?1",
    "INSERT INTO doomed_rooms (no) VALUES (?1)",
];

fn write(
    transaction: &Transaction<'_>,
    room_key: Option<&RoomKey>,
    RoomNo(no): RoomNo,
    plan: Plan,
) -> Result<Vec<Outcome>, StoreError> {
    let head = (!plan.entries.is_empty()).then(|| rows::seq_in(plan.room.head));
    each(transaction, INSERT, plan.entries, |insert, NewEntry { entry, key, root, count }| {
        let mut row = rows::EntryRow::of(entry);
        row.seal(no, room_key)?;
        let key = key.map(|MessageKey(key)| key);
        let values = params![
            no,
            key,
            row.seq,
            row.at,
            row.kind,
            row.user,
            row.message_id,
            row.text,
            row.data,
            row.reply_to,
            row.edited_at,
            row.target,
            row.active,
            row.mentions,
            root.map(rows::seq_in),
            rows::seq_in(count)
        ];
        done(insert.execute(values))
    })?;
    each(transaction, HEAD, head, |raise, head| done(raise.execute([no, head, rows::seq_in(plan.count)])))?;
    each(transaction, EDIT, plan.edited, |edit, (seq, new)| {
        let place = Place::Text { user: new.author.as_str(), id: new.id.as_str() };
        let text = sealed(room_key, no, place, new.text)?;
        done(edit.execute(params![no, rows::seq_in(seq), text, new.at, rows::mentions_in(&new.mentions)]))
    })?;
    each(transaction, ERASE, plan.erased, |erase, seq| done(erase.execute([no, rows::seq_in(seq)])))?;
    for sql in [ERASE_EDITS, ERASE_REVISIONS, UNPIN] {
        each(transaction, sql, &plan.erased_edits, |erase, &seq| done(erase.execute([no, rows::seq_in(seq)])))?;
    }
    each(transaction, REPLACED, plan.revisions, |keep, revision| {
        let (target, by) = (rows::seq_in(revision.target), rows::seq_in(revision.replaced_by));
        let text = sealed(room_key, no, Place::Revision { target, replaced_by: by }, revision.text)?;
        done(keep.execute(params![no, target, by, revision.at, text]))
    })?;
    each(transaction, USE_INVITATION, plan.invitations_used, |take, (token, uses)| {
        done(take.execute(params![token, uses]))
    })?;
    each(transaction, EXPIRING, plan.expiry_changed.then_some(no), |note, no| done(note.execute([no])))?;
    for (sql, reactions) in [(SET_REACTION, plan.reactions_set), (CLEAR_REACTION, plan.reactions_cleared)] {
        each(transaction, sql, reactions, |change, (target, user, emoji)| {
            done(change.execute(params![no, rows::seq_in(target), user.as_str(), emoji]))
        })?;
    }
    each(transaction, SET_PERSON, plan.people, |set, (user, Person { role, muted, banned })| {
        done(set.execute(params![no, user.as_str(), role.map(codes::role), muted, banned]))
    })?;
    each(transaction, HOOKS_OFF, plan.stepped_down, |off, user| done(off.execute(params![no, user.as_str()])))?;
    each(transaction, SET_RECORD, plan.room_changed.then_some(plan.room), |set, room| {
        let (ttl_s, before) = (room.ttl_s, room.expired_before);
        let values =
            params![no, room.name, room.topic, room.slow_mode_s, room.archived, ttl_s, before, room.edit_history];
        done(set.execute(values))
    })?;
    plan.deeds.iter().try_for_each(|deed| audit::insert(transaction, Some(RoomNo(no)), deed))?;
    if plan.room_deleted {
        for sql in DELETE_ROOM {
            each(transaction, sql, [no], |delete, no| done(delete.execute([no])))?;
        }
    }
    Ok(plan.outcomes)
}

/// Does something with a statement for each of `things`; where there are none, not even the statement is made.
fn each<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    things: impl IntoIterator<Item = T>,
    mut with: impl FnMut(&mut Statement<'_>, T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut things = things.into_iter().peekable();
    if things.peek().is_none() {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(sql).map_err(store_error)?;
    things.try_for_each(|thing| with(&mut statement, thing))
}

fn done(changed: rusqlite::Result<usize>) -> Result<(), StoreError> {
    changed.map(drop).map_err(store_error)
}
