//! Appending to logs: one transaction over all rooms of the call, each by the shared plan (`infra::changes`).

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::rooms::{ROOM, collect, room_of};
use super::threads::store_error;
use crate::ids::{Millis, UserId};
use crate::infra::changes::{self, Before, MessageKey, Needs, Person, Plan, Target};
use crate::infra::{codes, rows};
use crate::ports::{Appended, RoomAppend, RoomNo, StoreError};

pub fn append(connection: &mut Connection, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    let mut results = Vec::with_capacity(batch.len());
    for RoomAppend { no, epoch, items } in batch {
        let Some(before) = read(&transaction, no, rows::seq_in(epoch.0), &changes::needs(no, &items))? else {
            results.push(Appended::Fenced);
            continue;
        };
        let plan = changes::plan(before, items);
        results.push(Appended::Done(write(&transaction, no, plan)?));
    }
    transaction.commit().map_err(store_error)?;
    Ok(results)
}

/// `None`: the room has another epoch, or is gone.
fn read(transaction: &Transaction<'_>, no: RoomNo, epoch: i64, needs: &Needs) -> Result<Option<Before>, StoreError> {
    let sql = format!("SELECT {ROOM} FROM rooms r WHERE r.no = ?1 AND r.epoch = ?2 AND r.deleted = 0");
    let Some(room) = collect(transaction, &sql, params![no.0, epoch], room_of)?.pop() else { return Ok(None) };
    let mut before = Before::of(no, room);
    let prepare = |sql| transaction.prepare_cached(sql).map_err(store_error);

    let mut known = prepare("SELECT seq, at FROM entries WHERE key = ?1")?;
    for &MessageKey(key) in &needs.keys {
        let found = known.query_row([key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Millis>(1)?)));
        if let Some((seq, at)) = found.optional().map_err(store_error)? {
            before.known.insert(MessageKey(key), (rows::seq_out(seq), at));
        }
    }

    let mut message = prepare("SELECT user_id, text FROM entries WHERE room_no = ?1 AND seq = ?2 AND kind = 0")?;
    for &seq in &needs.messages {
        let found = message.query_row(params![no.0, rows::seq_in(seq)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        });
        if let Some((author, text)) = found.optional().map_err(store_error)? {
            before.messages.insert(seq, Target { author: rows::user_id(&author)?, text });
        }
    }

    let mut reaction =
        prepare("SELECT 1 FROM reactions WHERE room_no = ?1 AND target = ?2 AND user_id = ?3 AND emoji = ?4")?;
    for wanted in &needs.reactions {
        let (target, user, emoji) = wanted;
        if reaction.exists(params![no.0, rows::seq_in(*target), user.as_str(), emoji]).map_err(store_error)? {
            before.reactions.insert(wanted.clone());
        }
    }

    let mut person = prepare("SELECT role, muted, banned FROM people WHERE room_no = ?1 AND user_id = ?2")?;
    let mut exists = prepare("SELECT 1 FROM users WHERE id = ?1 AND erased = 0")?;
    for user in &needs.people {
        let found = person.query_row(params![no.0, user.as_str()], |row| {
            Ok((row.get::<_, Option<i16>>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
        });
        if let Some((role, muted, banned)) = found.optional().map_err(store_error)? {
            let role = role.map(codes::parse_role).transpose()?;
            before.people.insert(user.clone(), Person { role, muted, banned });
        }
        if exists.exists([user.as_str()]).map_err(store_error)? {
            before.users.insert(user.clone());
        }
    }
    Ok(Some(before))
}

fn write(
    transaction: &Transaction<'_>,
    RoomNo(no): RoomNo,
    plan: Plan,
) -> Result<Vec<crate::ports::Outcome>, StoreError> {
    let prepare = |sql| transaction.prepare_cached(sql).map_err(store_error);

    let mut insert = prepare(
        "INSERT INTO entries \
         (room_no, key, seq, at, kind, user_id, message_id, text, data, reply_to, edited_at, target, active) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let head = rows::seq_in(plan.room.head);
    let logged = !plan.entries.is_empty();
    for (entry, key) in plan.entries {
        let row = rows::EntryRow::of(entry);
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
            row.active
        ];
        insert.execute(values).map_err(store_error)?;
    }
    if logged {
        prepare("UPDATE rooms SET head = ?2 WHERE no = ?1")?.execute(params![no, head]).map_err(store_error)?;
    }

    let mut edit = prepare("UPDATE entries SET text = ?3, edited_at = ?4 WHERE room_no = ?1 AND seq = ?2")?;
    for (seq, (text, at)) in plan.edited {
        edit.execute(params![no, rows::seq_in(seq), text, at]).map_err(store_error)?;
    }
    let mut erase = prepare("UPDATE entries SET text = NULL, data = NULL WHERE room_no = ?1 AND seq = ?2")?;
    for seq in plan.erased {
        erase.execute(params![no, rows::seq_in(seq)]).map_err(store_error)?;
    }
    let mut erase_edits = prepare("UPDATE entries SET text = NULL WHERE room_no = ?1 AND target = ?2 AND kind = 1")?;
    for target in plan.erased_edits {
        erase_edits.execute(params![no, rows::seq_in(target)]).map_err(store_error)?;
    }

    let reaction = |statement: &mut rusqlite::Statement<'_>, target, user: &UserId, emoji: &str| {
        statement.execute(params![no, rows::seq_in(target), user.as_str(), emoji]).map_err(store_error)
    };
    let mut set = prepare(
        "INSERT INTO reactions (room_no, target, user_id, emoji) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    for (target, user, emoji) in &plan.reactions_set {
        reaction(&mut set, *target, user, emoji)?;
    }
    let mut clear =
        prepare("DELETE FROM reactions WHERE room_no = ?1 AND target = ?2 AND user_id = ?3 AND emoji = ?4")?;
    for (target, user, emoji) in &plan.reactions_cleared {
        reaction(&mut clear, *target, user, emoji)?;
    }

    let mut person = prepare(
        "INSERT INTO people (room_no, user_id, role, muted, banned) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (room_no, user_id) \
         DO UPDATE SET role = excluded.role, muted = excluded.muted, banned = excluded.banned",
    )?;
    for (user, Person { role, muted, banned }) in plan.people {
        let values = params![no, user.as_str(), role.map(codes::role), muted, banned];
        person.execute(values).map_err(store_error)?;
    }

    if plan.room_changed {
        let room = &plan.room;
        prepare("UPDATE rooms SET name = ?2, topic = ?3, slow_mode_s = ?4, archived = ?5 WHERE no = ?1")?
            .execute(params![no, room.name, room.topic, room.slow_mode_s, room.archived])
            .map_err(store_error)?;
    }
    if plan.room_deleted {
        // The record stays, as a tombstone: its id is taken for ever.
        for sql in [
            "UPDATE rooms SET deleted = 1, name = NULL, topic = NULL WHERE no = ?1",
            "DELETE FROM people WHERE room_no = ?1",
            "DELETE FROM reactions WHERE room_no = ?1",
            "DELETE FROM entries WHERE room_no = ?1",
        ] {
            prepare(sql)?.execute([no]).map_err(store_error)?;
        }
    }
    Ok(plan.outcomes)
}
