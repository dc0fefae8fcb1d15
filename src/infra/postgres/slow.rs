//! Appends with more than messages: every change the port knows, item by item in order, by the shared plan
//! (`infra::changes`). One transaction: lock, read what the items could touch, plan, write.

use std::collections::HashMap;

use tokio_postgres::types::{FromSql, Type};

use super::pool::Lease;
use super::rooms::{ROOM, room_of, seconds};
use crate::entry::Room;
use crate::ids::{Millis, Seq, UserId};
use crate::infra::changes::{self, Before, MessageKey, Needs, Person, Plan, Target};
use crate::infra::{codes, rows};
use crate::ports::{Appended, RoomAppend, RoomNo, StoreError};

impl<'a> FromSql<'a> for MessageKey {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

pub async fn append(lease: &mut Lease, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
    lease.begin().await?;
    let epochs = lock(lease, &batch).await?;
    let live = |room: &RoomAppend| epochs.get(&room.no.0) == Some(&rows::seq_in(room.epoch.0));
    let needs: Vec<(i64, Needs)> =
        batch.iter().filter(|room| live(room)).map(|room| (room.no.0, changes::needs(room.no, &room.items))).collect();
    let mut found = read(lease, &needs).await?;
    let mut results = Vec::with_capacity(batch.len());
    let mut plans = Vec::new();
    for room in batch {
        let Some(before) = found.remove(&room.no.0) else {
            results.push(Appended::Fenced);
            continue;
        };
        let mut plan = changes::plan(before, room.items);
        results.push(Appended::Done(std::mem::take(&mut plan.outcomes)));
        plans.push((room.no.0, plan));
    }
    write(lease, plans).await?;
    lease.commit().await?;
    Ok(results)
}

/// Locks the rooms, in the same order as everybody else; the epochs of those that exist.
async fn lock(lease: &mut Lease, batch: &[RoomAppend]) -> Result<HashMap<i64, i64>, StoreError> {
    let nos: Vec<i64> = batch.iter().map(|room| room.no.0).collect();
    let sql = "SELECT no, epoch FROM room_heads WHERE no = ANY ($1) ORDER BY no FOR UPDATE";
    Ok(lease.query(sql, &[&nos]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Reads what is needed, for all rooms together: a statement for each kind of thing that is needed at all.
async fn read(lease: &mut Lease, needs: &[(i64, Needs)]) -> Result<HashMap<i64, Before>, StoreError> {
    let mut found: HashMap<i64, Before> = HashMap::new();
    if needs.is_empty() {
        return Ok(found);
    }
    let nos: Vec<i64> = needs.iter().map(|&(no, _)| no).collect();
    let sql = format!("SELECT {ROOM}, r.no FROM rooms r JOIN room_heads h ON h.no = r.no WHERE r.no = ANY ($1)");
    for row in lease.query(&sql, &[&nos]).await? {
        let no = row.get(7);
        found.insert(no, Before::of(RoomNo(no), room_of(&row)?));
    }

    let keys: Vec<MessageKey> = needs.iter().flat_map(|(_, needs)| needs.keys.iter().copied()).collect();
    if !keys.is_empty() {
        let sql = "SELECT room_no, key, seq, at FROM entries WHERE key = ANY ($1)";
        for row in lease.query(sql, &[&keys]).await? {
            if let Some(before) = found.get_mut(&row.get(0)) {
                before.known.insert(row.get(1), (rows::seq_out(row.get(2)), row.get(3)));
            }
        }
    }

    let (nos, seqs) = flat(needs, |needs| needs.messages.iter().map(|&seq| rows::seq_in(seq)));
    if !seqs.is_empty() {
        let sql = "SELECT e.room_no, e.seq, e.user_id, e.text FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq) \
                   JOIN entries e ON e.room_no = n.room_no AND e.seq = n.seq WHERE e.kind = 0";
        for row in lease.query(sql, &[&nos, &seqs]).await? {
            if let Some(before) = found.get_mut(&row.get(0)) {
                let target = Target { author: rows::user_id(row.get(2))?, text: row.get(3) };
                before.messages.insert(rows::seq_out(row.get(1)), target);
            }
        }
    }

    let (nos, reactions) = flat(needs, |needs| needs.reactions.iter());
    if !reactions.is_empty() {
        let (seqs, users, emojis) = reaction_columns(reactions.into_iter());
        let sql = "SELECT r.room_no, r.target, r.user_id, r.emoji \
                   FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS n (room_no, target, user_id, emoji) \
                   JOIN reactions r ON r.room_no = n.room_no AND r.target = n.target \
                       AND r.user_id = n.user_id AND r.emoji = n.emoji";
        for row in lease.query(sql, &[&nos, &seqs, &users, &emojis]).await? {
            if let Some(before) = found.get_mut(&row.get(0)) {
                before.reactions.insert((rows::seq_out(row.get(1)), rows::user_id(row.get(2))?, row.get(3)));
            }
        }
    }

    let (nos, people) = flat(needs, |needs| needs.people.iter().map(UserId::as_str));
    if !people.is_empty() {
        let sql = "SELECT n.room_no, n.user_id, p.role, coalesce(p.muted, false), coalesce(p.banned, false), \
                       EXISTS (SELECT FROM users u WHERE u.id = n.user_id AND NOT u.erased) \
                   FROM unnest($1::bigint[], $2::text[]) AS n (room_no, user_id) \
                   LEFT JOIN people p ON p.room_no = n.room_no AND p.user_id = n.user_id";
        for row in lease.query(sql, &[&nos, &people]).await? {
            if let Some(before) = found.get_mut(&row.get(0)) {
                let user = rows::user_id(row.get(1))?;
                let role = row.get::<_, Option<i16>>(2).map(codes::parse_role).transpose()?;
                before.people.insert(user.clone(), Person { role, muted: row.get(3), banned: row.get(4) });
                if row.get(5) {
                    before.users.insert(user);
                }
            }
        }
    }
    Ok(found)
}

/// Writes the plans of all rooms together: a statement for each kind of thing that changes at all.
async fn write(lease: &mut Lease, mut plans: Vec<(i64, Plan)>) -> Result<(), StoreError> {
    insert_entries(lease, &mut plans).await?;

    let (nos, heads): (Vec<i64>, Vec<i64>) = plans.iter().map(|(no, plan)| (*no, rows::seq_in(plan.room.head))).unzip();
    let sql = "UPDATE room_heads h SET head = n.head FROM unnest($1::bigint[], $2::bigint[]) AS n (no, head) \
               WHERE h.no = n.no AND h.head <> n.head";
    lease.execute(sql, &[&nos, &heads]).await?;

    let (nos, edited) = flat_plans(&plans, |plan| plan.edited.iter());
    if !edited.is_empty() {
        let seqs: Vec<i64> = edited.iter().map(|&(&seq, _)| rows::seq_in(seq)).collect();
        let texts: Vec<&str> = edited.iter().map(|(_, (text, _))| text.as_str()).collect();
        let ats: Vec<Millis> = edited.iter().map(|&(_, &(_, at))| at).collect();
        let sql = "UPDATE entries e SET text = n.text, edited_at = n.at \
                   FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS n (room_no, seq, text, at) \
                   WHERE e.room_no = n.room_no AND e.seq = n.seq";
        lease.execute(sql, &[&nos, &seqs, &texts, &ats]).await?;
    }

    let (nos, erased) = flat_plans(&plans, |plan| plan.erased.iter().map(|&seq| rows::seq_in(seq)));
    if !erased.is_empty() {
        let sql = "UPDATE entries e SET text = NULL, data = NULL FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq) \
                   WHERE e.room_no = n.room_no AND e.seq = n.seq";
        lease.execute(sql, &[&nos, &erased]).await?;
    }

    let (nos, erased) = flat_plans(&plans, |plan| plan.erased_edits.iter().map(|&seq| rows::seq_in(seq)));
    if !erased.is_empty() {
        let sql = "UPDATE entries e SET text = NULL FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, target) \
                   WHERE e.room_no = n.room_no AND e.target = n.target AND e.kind = 1 AND e.text IS NOT NULL";
        lease.execute(sql, &[&nos, &erased]).await?;
    }

    let (nos, set) = flat_plans(&plans, |plan| plan.reactions_set.iter());
    if !set.is_empty() {
        let (seqs, users, emojis) = reaction_columns(set.into_iter());
        let sql = "INSERT INTO reactions (room_no, target, user_id, emoji) \
                   SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING";
        lease.execute(sql, &[&nos, &seqs, &users, &emojis]).await?;
    }

    let (nos, cleared) = flat_plans(&plans, |plan| plan.reactions_cleared.iter());
    if !cleared.is_empty() {
        let (seqs, users, emojis) = reaction_columns(cleared.into_iter());
        let sql = "DELETE FROM reactions r \
                   USING unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS n (room_no, target, user_id, emoji) \
                   WHERE r.room_no = n.room_no AND r.target = n.target AND r.user_id = n.user_id AND r.emoji = n.emoji";
        lease.execute(sql, &[&nos, &seqs, &users, &emojis]).await?;
    }

    let (nos, people) = flat_plans(&plans, |plan| plan.people.iter());
    if !people.is_empty() {
        let users: Vec<&str> = people.iter().map(|(user, _)| user.as_str()).collect();
        let roles: Vec<Option<i16>> = people.iter().map(|(_, person)| person.role.map(codes::role)).collect();
        let muted: Vec<bool> = people.iter().map(|(_, person)| person.muted).collect();
        let banned: Vec<bool> = people.iter().map(|(_, person)| person.banned).collect();
        let sql = "INSERT INTO people (room_no, user_id, role, muted, banned) \
                   SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::boolean[], $5::boolean[]) \
                   ON CONFLICT (room_no, user_id) \
                   DO UPDATE SET role = excluded.role, muted = excluded.muted, banned = excluded.banned";
        lease.execute(sql, &[&nos, &users, &roles, &muted, &banned]).await?;
    }

    for (no, plan) in &plans {
        if plan.room_changed {
            record(lease, *no, &plan.room).await?;
        }
        if plan.room_deleted {
            delete_room(lease, *no).await?;
        }
    }
    Ok(())
}

async fn insert_entries(lease: &mut Lease, plans: &mut [(i64, Plan)]) -> Result<(), StoreError> {
    let mut nos: Vec<i64> = Vec::new();
    let mut keys: Vec<Option<MessageKey>> = Vec::new();
    let mut entries: Vec<rows::EntryRow> = Vec::new();
    for (no, plan) in plans {
        for (entry, key) in plan.entries.drain(..) {
            nos.push(*no);
            keys.push(key);
            entries.push(rows::EntryRow::of(entry));
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = entries.iter().map(|row| row.seq).collect();
    let ats: Vec<i64> = entries.iter().map(|row| row.at).collect();
    let kinds: Vec<i16> = entries.iter().map(|row| row.kind).collect();
    let users: Vec<&str> = entries.iter().map(|row| row.user.as_str()).collect();
    let ids: Vec<Option<&str>> = entries.iter().map(|row| row.message_id.as_deref()).collect();
    let texts: Vec<Option<&str>> = entries.iter().map(|row| row.text.as_deref()).collect();
    let datas: Vec<Option<&str>> = entries.iter().map(|row| row.data.as_deref()).collect();
    let replies: Vec<Option<i64>> = entries.iter().map(|row| row.reply_to).collect();
    let edits: Vec<Option<i64>> = entries.iter().map(|row| row.edited_at).collect();
    let targets: Vec<Option<i64>> = entries.iter().map(|row| row.target).collect();
    let actives: Vec<Option<bool>> = entries.iter().map(|row| row.active).collect();
    let sql = "INSERT INTO entries (room_no, key, seq, at, kind, user_id, message_id, text, data, reply_to, edited_at, target, active) \
               SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], \
                   $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[])";
    lease
        .execute(
            sql,
            &[&nos, &keys, &seqs, &ats, &kinds, &users, &ids, &texts, &datas, &replies, &edits, &targets, &actives],
        )
        .await?;
    Ok(())
}

async fn record(lease: &mut Lease, no: i64, room: &Room) -> Result<(), StoreError> {
    let sql = "UPDATE rooms SET name = $2, topic = $3, slow_mode_s = $4, archived = $5 WHERE no = $1";
    lease.execute(sql, &[&no, &room.name, &room.topic, &seconds(room.slow_mode_s), &room.archived]).await?;
    Ok(())
}

/// The record stays, as a tombstone: its id is taken for ever.
async fn delete_room(lease: &mut Lease, no: i64) -> Result<(), StoreError> {
    for sql in [
        "UPDATE rooms SET deleted = true, name = NULL, topic = NULL WHERE no = $1",
        "DELETE FROM room_heads WHERE no = $1",
        "DELETE FROM people WHERE room_no = $1",
        "DELETE FROM reactions WHERE room_no = $1",
        "DELETE FROM entries WHERE room_no = $1",
    ] {
        lease.execute(sql, &[&no]).await?;
    }
    Ok(())
}

/// The rooms' needs of one kind, with the room's number beside each.
fn flat<'a, T, I: Iterator<Item = T> + 'a>(
    needs: &'a [(i64, Needs)],
    of: impl Fn(&'a Needs) -> I,
) -> (Vec<i64>, Vec<T>) {
    needs.iter().flat_map(|(no, needs)| of(needs).map(|need| (*no, need))).unzip()
}

/// The plans' changes of one kind, with the room's number beside each.
fn flat_plans<'a, T, I: Iterator<Item = T> + 'a>(
    plans: &'a [(i64, Plan)],
    of: impl Fn(&'a Plan) -> I,
) -> (Vec<i64>, Vec<T>) {
    plans.iter().flat_map(|(no, plan)| of(plan).map(|change| (*no, change))).unzip()
}

fn reaction_columns<'a>(
    reactions: impl Iterator<Item = &'a (Seq, UserId, String)>,
) -> (Vec<i64>, Vec<&'a str>, Vec<&'a str>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (seq, user, emoji) in reactions {
        columns.0.push(rows::seq_in(*seq));
        columns.1.push(user.as_str());
        columns.2.push(emoji.as_str());
    }
    columns
}
