//! Appends with more than messages: every change the port knows, item by item in order, by the shared plan
//! (`infra::changes`). One transaction in two round trips: lock and read what the items could touch; plan; write and
//! commit.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::{FromSql, ToSql, Type};

use super::audit::{INSERT_ALL, Lines};
use super::encryption::Keys;
use super::pool::{Lease, Step};
use super::rooms::{ROOM, room_of, seconds};
use crate::ids::{Millis, Seq, UserId};
use crate::infra::changes::{self, Before, Invited, MessageKey, Needs, NewEntry, Person, Plan, Target};
use crate::infra::sealed::{Place, present, sealed};
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

pub async fn append(lease: &mut Lease, keys: &Keys, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
    let needs: Vec<(i64, Needs)> = batch.iter().map(|room| (room.no.0, changes::needs(room.no, &room.items))).collect();
    let mut found = read(lease, keys, &batch, &needs).await?;
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
    write(lease, keys, plans).await?;
    Ok(results)
}

const LOCK: &str = "SELECT no, epoch FROM room_heads WHERE no = ANY ($1) ORDER BY no FOR UPDATE";

const KNOWN: &str = "SELECT room_no, key, seq, at FROM entries WHERE key = ANY ($1)";

const MESSAGES: &str = "SELECT e.room_no, e.seq, e.user_id, e.text, e.root, e.at, e.edited_at, e.message_id
    FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq)
    JOIN entries e ON e.room_no = n.room_no AND e.seq = n.seq WHERE e.kind = 0";

const REACTIONS: &str = "SELECT r.room_no, r.target, r.user_id, r.emoji
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS n (room_no, target, user_id, emoji)
    JOIN reactions r
        ON r.room_no = n.room_no AND r.target = n.target AND r.user_id = n.user_id AND r.emoji = n.emoji";

const PEOPLE: &str = "SELECT n.room_no, n.user_id, p.role, coalesce(p.muted, false), coalesce(p.banned, false),
        EXISTS (SELECT FROM users u WHERE u.id = n.user_id AND NOT u.erased)
    FROM unnest($1::bigint[], $2::text[]) AS n (room_no, user_id)
    LEFT JOIN people p ON p.room_no = n.room_no AND p.user_id = n.user_id";

const INVITATIONS: &str = "SELECT i.room_no, i.secret_hash, i.expires_at, i.uses_left FROM invitations i
    WHERE i.secret_hash = ANY ($1)";

/// Locks the rooms, in the same order as everybody else, and reads what is needed of all of them, in one round trip.
/// Gives those whose epoch is the right one.
async fn read(
    lease: &mut Lease,
    keys: &Keys,
    batch: &[RoomAppend],
    needs: &[(i64, Needs)],
) -> Result<HashMap<i64, Before>, StoreError> {
    let rooms: Vec<i64> = batch.iter().map(|room| room.no.0).collect();
    let records = format!(
        "SELECT {ROOM}, r.no AS no, h.messages AS messages FROM rooms r JOIN room_heads h ON h.no = r.no WHERE r.no = ANY ($1)"
    );
    let message_keys: Vec<MessageKey> = needs.iter().flat_map(|(_, needs)| needs.keys.iter().copied()).collect();
    let (message_nos, messages) = flat(needs, |needs| needs.messages.iter().map(|&seq| rows::seq_in(seq)));
    let (reaction_nos, reactions) = flat(needs, |needs| needs.reactions.iter());
    let reactions = reaction_columns(reactions.into_iter());
    let (person_nos, people) = flat(needs, |needs| needs.people.iter().map(UserId::as_str));
    let invitations: Vec<&[u8]> =
        needs.iter().flat_map(|(_, needs)| needs.invitations.iter().map(<[u8; 32]>::as_slice)).collect();
    let steps = [
        Step::Begin,
        Step::Ask(LOCK, &[&rooms]),
        Step::Ask(&records, &[&rooms]),
        Step::Ask(KNOWN, &[&message_keys]),
        Step::Ask(MESSAGES, &[&message_nos, &messages]),
        Step::Ask(REACTIONS, &[&reaction_nos, &reactions.0, &reactions.1, &reactions.2]),
        Step::Ask(PEOPLE, &[&person_nos, &people]),
        Step::Ask(INVITATIONS, &[&invitations]),
    ];
    // Hardly any append takes an invitation.
    let asked = if invitations.is_empty() { &steps[..steps.len() - 1] } else { &steps[..] };
    let answers = lease.transaction(asked).await?;
    let [_, locked, records, known, messages, reactions, people, invited @ ..] = answers.as_slice() else {
        return Err(StoreError::Fault("an answer a question was expected".into()));
    };

    let epochs: HashMap<i64, i64> = locked.iter().map(|row| (row.get(0), row.get(1))).collect();
    let held: HashSet<i64> = batch
        .iter()
        .filter(|room| epochs.get(&room.no.0) == Some(&rows::seq_in(room.epoch.0)))
        .map(|room| room.no.0)
        .collect();
    let mut found: HashMap<i64, Before> = HashMap::new();
    for row in records {
        let no = row.get("no");
        if held.contains(&no) {
            found.insert(no, Before::of(RoomNo(no), room_of(row)?, rows::seq_out(row.get("messages"))));
        }
    }
    for row in known {
        if let Some(before) = found.get_mut(&row.get(0)) {
            before.known.insert(row.get(1), (rows::seq_out(row.get(2)), row.get(3)));
        }
    }
    for row in messages {
        if let Some(before) = found.get_mut(&row.get(0)) {
            let root = row.get::<_, Option<i64>>(4).map(rows::seq_out);
            let author = rows::user_id(row.get(2))?;
            let (seq, at) = (rows::seq_out(row.get(1)), row.get(5));
            let id = rows::message_id(seq, row.get(7))?;
            let no: i64 = row.get(0);
            let text = row.get::<_, Option<String>>(3);
            let text = text.map(|text| present(keys.get(no), no, &author, &id, text));
            let target = Target { author, id, text, root, at, edited_at: row.get(6) };
            before.messages.insert(seq, target);
        }
    }
    for row in reactions {
        if let Some(before) = found.get_mut(&row.get(0)) {
            before.reactions.insert((rows::seq_out(row.get(1)), rows::user_id(row.get(2))?, row.get(3)));
        }
    }
    for row in people {
        if let Some(before) = found.get_mut(&row.get(0)) {
            let user = rows::user_id(row.get(1))?;
            let role = row.get::<_, Option<i16>>(2).map(codes::parse_role).transpose()?;
            before.people.insert(user.clone(), Person { role, muted: row.get(3), banned: row.get(4) });
            if row.get(5) {
                before.users.insert(user);
            }
        }
    }
    for row in invited.iter().flatten() {
        if let (Some(before), Ok(token)) = (found.get_mut(&row.get(0)), <[u8; 32]>::try_from(row.get::<_, &[u8]>(1))) {
            before.invitations.insert(token, Invited { expires_at: row.get(2), uses_left: row.get(3) });
        }
    }
    Ok(found)
}

const INSERT: &str = "INSERT INTO entries (room_no, key, seq, at, kind, user_id, message_id, text, data, reply_to,
        edited_at, target, active, mentions, root, messages)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::text[], $15::bigint[],
        $16::bigint[])";

const HEADS: &str = "UPDATE room_heads h SET head = n.head, messages = n.messages
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (no, head, messages)
    WHERE h.no = n.no AND h.head <> n.head";

const EDIT: &str = "UPDATE entries e SET text = n.text, edited_at = n.at, mentions = n.mentions
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[]) AS n (room_no, seq, text, at, mentions)
    WHERE e.room_no = n.room_no AND e.seq = n.seq";

const ERASE: &str = "UPDATE entries e SET text = NULL, data = NULL
    FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, seq) WHERE e.room_no = n.room_no AND e.seq = n.seq";

const ERASE_EDITS: &str = "UPDATE entries e SET text = NULL
    FROM unnest($1::bigint[], $2::bigint[]) AS n (room_no, target)
    WHERE e.room_no = n.room_no AND e.target = n.target AND e.kind = 1 AND e.text IS NOT NULL";

const ERASE_REVISIONS: &str = "DELETE FROM revisions v
    USING unnest($1::bigint[], $2::bigint[]) AS n (room_no, target)
    WHERE v.room_no = n.room_no AND v.target = n.target";

const UNPIN: &str = "DELETE FROM pins p
    USING unnest($1::bigint[], $2::bigint[]) AS n (room_no, target)
    WHERE p.room_no = n.room_no AND p.target = n.target";

const REPLACED: &str = "INSERT INTO revisions (room_no, target, replaced_by, at, text)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])";

const USE_INVITATIONS: &str = "UPDATE invitations i SET uses_left = i.uses_left - n.uses
    FROM unnest($1::bytea[], $2::integer[]) AS n (secret_hash, uses) WHERE i.secret_hash = n.secret_hash";

const EXPIRING: &str = "INSERT INTO expiring_rooms (room_no, due) SELECT unnest($1::bigint[]), 0
    ON CONFLICT (room_no) DO UPDATE SET due = 0";

const SET_REACTIONS: &str = "INSERT INTO reactions (room_no, target, user_id, emoji)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING";

const CLEAR_REACTIONS: &str = "DELETE FROM reactions r
    USING unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS n (room_no, target, user_id, emoji)
    WHERE r.room_no = n.room_no AND r.target = n.target AND r.user_id = n.user_id AND r.emoji = n.emoji";

const SET_PEOPLE: &str = "INSERT INTO people (room_no, user_id, role, muted, banned)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::boolean[], $5::boolean[])
    ON CONFLICT (room_no, user_id)
    DO UPDATE SET role = excluded.role, muted = excluded.muted, banned = excluded.banned";

/// Locks hooks in the order of their numbers, as everybody does.
const HOOKS_OFF: &str =
    "UPDATE webhooks w SET active = false, off_reason = 'whoever made it may not manage the room any more'
    WHERE w.no IN (
        SELECT l.no FROM unnest($1::bigint[], $2::text[]) AS n (room_no, user_id)
        JOIN webhooks l ON l.room_no = n.room_no AND l.made_by = n.user_id
        WHERE l.active ORDER BY l.no FOR UPDATE OF l
    )";

const SET_RECORD: &str = "UPDATE rooms SET name = n.name, topic = n.topic, slow_mode_s = n.slow_mode_s,
        archived = n.archived, ttl_s = n.ttl_s, expired_before = n.expired_before, edit_history = n.edit_history
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::integer[], $5::boolean[], $6::integer[], $7::bigint[],
        $8::boolean[]) AS n (no, name, topic, slow_mode_s, archived, ttl_s, expired_before, edit_history)
    WHERE rooms.no = n.no";

/// The room is gone at once; what is left of it goes later (`purge`). Its record stays as a tombstone, so that the id is
/// taken for ever.
const DELETE_ROOMS: [&str; 5] = [
    "DELETE FROM room_keys WHERE room_no = ANY ($1)",
    "UPDATE rooms SET deleted = true, name = NULL, topic = NULL WHERE no = ANY ($1)",
    "DELETE FROM room_heads WHERE no = ANY ($1)",
    "DELETE FROM expiring_rooms WHERE room_no = ANY ($1)",
    "INSERT INTO doomed_rooms SELECT unnest($1::bigint[])",
];

/// Writes the plans of all rooms and commits, in one round trip: a statement for each kind of thing that changes at all.
async fn write(lease: &mut Lease, keys: &Keys, mut plans: Vec<(i64, Plan)>) -> Result<(), StoreError> {
    let entries = EntryColumns::of(&mut plans, keys)?;
    let (nos, heads): (Vec<i64>, Vec<i64>) = plans.iter().map(|(no, plan)| (*no, rows::seq_in(plan.room.head))).unzip();
    let counts: Vec<i64> = plans.iter().map(|(_, plan)| rows::seq_in(plan.count)).collect();

    let (edited_nos, edited) = flat(&plans, |plan| plan.edited.iter());
    let edited_seqs: Vec<i64> = edited.iter().map(|&(&seq, _)| rows::seq_in(seq)).collect();
    let edited_texts = edited_nos.iter().zip(&edited).map(|(&no, (_, new))| {
        let place = Place::Text { user: new.author.as_str(), id: new.id.as_str() };
        sealed(keys.get(no), no, place, new.text.clone())
    });
    let edited_texts = edited_texts.collect::<Result<Vec<String>, StoreError>>()?;
    let edited_ats: Vec<Millis> = edited.iter().map(|(_, new)| new.at).collect();
    let edited_mentions: Vec<Option<String>> = edited.iter().map(|(_, new)| rows::mentions_in(&new.mentions)).collect();
    let (erased_nos, erased) = flat(&plans, |plan| plan.erased.iter().map(|&seq| rows::seq_in(seq)));
    let (edits_nos, edits) = flat(&plans, |plan| plan.erased_edits.iter().map(|&seq| rows::seq_in(seq)));

    let (kept_nos, kept) = flat(&plans, |plan| plan.revisions.iter());
    let kept_targets: Vec<i64> = kept.iter().map(|revision| rows::seq_in(revision.target)).collect();
    let kept_by: Vec<i64> = kept.iter().map(|revision| rows::seq_in(revision.replaced_by)).collect();
    let kept_ats: Vec<Millis> = kept.iter().map(|revision| revision.at).collect();
    let kept_texts = kept_nos.iter().zip(&kept).map(|(&no, revision)| {
        let (target, replaced_by) = (rows::seq_in(revision.target), rows::seq_in(revision.replaced_by));
        sealed(keys.get(no), no, Place::Revision { target, replaced_by }, revision.text.clone())
    });
    let kept_texts = kept_texts.collect::<Result<Vec<String>, StoreError>>()?;
    let (used_nos, used) = flat(&plans, |plan| plan.invitations_used.iter());
    let (used, uses): (Vec<&[u8]>, Vec<i32>) = used.iter().map(|&(token, &uses)| (token.as_slice(), uses)).unzip();
    let expiring: Vec<i64> = plans.iter().filter(|(_, plan)| plan.expiry_changed).map(|&(no, _)| no).collect();

    let (set_nos, set) = flat(&plans, |plan| plan.reactions_set.iter());
    let set = reaction_columns(set.into_iter());
    let (cleared_nos, cleared) = flat(&plans, |plan| plan.reactions_cleared.iter());
    let cleared = reaction_columns(cleared.into_iter());

    let (stepped_nos, stepped_down) = flat(&plans, |plan| plan.stepped_down.iter().map(UserId::as_str));
    let (person_nos, people) = flat(&plans, |plan| plan.people.iter());
    let users: Vec<&str> = people.iter().map(|(user, _)| user.as_str()).collect();
    let roles: Vec<Option<i16>> = people.iter().map(|(_, person)| person.role.map(codes::role)).collect();
    let muted: Vec<bool> = people.iter().map(|(_, person)| person.muted).collect();
    let banned: Vec<bool> = people.iter().map(|(_, person)| person.banned).collect();

    let (record_nos, records) = flat(&plans, |plan| plan.room_changed.then_some(&plan.room).into_iter());
    let names: Vec<Option<&str>> = records.iter().map(|room| room.name.as_deref()).collect();
    let topics: Vec<Option<&str>> = records.iter().map(|room| room.topic.as_deref()).collect();
    let slow_modes: Vec<i32> = records.iter().map(|room| seconds(room.slow_mode_s)).collect();
    let archived: Vec<bool> = records.iter().map(|room| room.archived).collect();
    let ttls: Vec<i32> = records.iter().map(|room| seconds(room.ttl_s)).collect();
    let expired: Vec<Millis> = records.iter().map(|room| room.expired_before).collect();
    let histories: Vec<bool> = records.iter().map(|room| room.edit_history).collect();
    let deeds = Lines::of(plans.iter().flat_map(|(no, plan)| plan.deeds.iter().map(|deed| (*no, deed))));
    let deleted: Vec<i64> = plans.iter().filter(|(_, plan)| plan.room_deleted).map(|&(no, _)| no).collect();

    let entry_params = entries.params();
    let head_params: [Param<'_>; 3] = [&nos, &heads, &counts];
    let edit_params: [Param<'_>; 5] = [&edited_nos, &edited_seqs, &edited_texts, &edited_ats, &edited_mentions];
    let erase_params: [Param<'_>; 2] = [&erased_nos, &erased];
    let edits_params: [Param<'_>; 2] = [&edits_nos, &edits];
    let set_params: [Param<'_>; 4] = [&set_nos, &set.0, &set.1, &set.2];
    let clear_params: [Param<'_>; 4] = [&cleared_nos, &cleared.0, &cleared.1, &cleared.2];
    let people_params: [Param<'_>; 5] = [&person_nos, &users, &roles, &muted, &banned];
    let stepped_params: [Param<'_>; 2] = [&stepped_nos, &stepped_down];
    let record_params: [Param<'_>; 8] =
        [&record_nos, &names, &topics, &slow_modes, &archived, &ttls, &expired, &histories];
    let kept_params: [Param<'_>; 5] = [&kept_nos, &kept_targets, &kept_by, &kept_ats, &kept_texts];
    let use_params: [Param<'_>; 2] = [&used, &uses];
    let expiring_params: [Param<'_>; 1] = [&expiring];
    let deed_params = deeds.params();
    let delete_params: [Param<'_>; 1] = [&deleted];

    let all: [(bool, &str, &[Param<'_>]); 16] = [
        (entries.nos.is_empty(), INSERT, &entry_params),
        (entries.nos.is_empty(), HEADS, &head_params),
        (edited_nos.is_empty(), EDIT, &edit_params),
        (erased_nos.is_empty(), ERASE, &erase_params),
        (edits_nos.is_empty(), ERASE_EDITS, &edits_params),
        (edits_nos.is_empty(), ERASE_REVISIONS, &edits_params),
        (edits_nos.is_empty(), UNPIN, &edits_params),
        (kept_nos.is_empty(), REPLACED, &kept_params),
        (used_nos.is_empty(), USE_INVITATIONS, &use_params),
        (expiring.is_empty(), EXPIRING, &expiring_params),
        (set_nos.is_empty(), SET_REACTIONS, &set_params),
        (cleared_nos.is_empty(), CLEAR_REACTIONS, &clear_params),
        (person_nos.is_empty(), SET_PEOPLE, &people_params),
        (stepped_nos.is_empty(), HOOKS_OFF, &stepped_params),
        (record_nos.is_empty(), SET_RECORD, &record_params),
        (deeds.nos.is_empty(), INSERT_ALL, &deed_params),
    ];
    let mut steps: Vec<Step<'_>> =
        all.into_iter().filter(|(nothing, ..)| !nothing).map(|(_, sql, params)| Step::Ask(sql, params)).collect();
    if !deleted.is_empty() {
        steps.extend(DELETE_ROOMS.map(|sql| Step::Ask(sql, &delete_params)));
    }
    steps.push(Step::Commit);
    lease.transaction(&steps).await?;
    Ok(())
}

type Param<'a> = &'a (dyn ToSql + Sync);

/// The new entries of all rooms, a vector a column.
#[derive(Default)]
struct EntryColumns {
    nos: Vec<i64>,
    keys: Vec<Option<MessageKey>>,
    seqs: Vec<i64>,
    ats: Vec<i64>,
    kinds: Vec<i16>,
    users: Vec<String>,
    ids: Vec<Option<String>>,
    texts: Vec<Option<String>>,
    datas: Vec<Option<String>>,
    replies: Vec<Option<i64>>,
    edits: Vec<Option<i64>>,
    targets: Vec<Option<i64>>,
    actives: Vec<Option<bool>>,
    mentions: Vec<Option<String>>,
    roots: Vec<Option<i64>>,
    counts: Vec<i64>,
}

impl EntryColumns {
    /// Takes the new entries out of the plans.
    fn of(plans: &mut [(i64, Plan)], keys: &Keys) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for (no, plan) in plans {
            for NewEntry { entry, key, root, count } in plan.entries.drain(..) {
                let mut row = rows::EntryRow::of(entry);
                row.seal(*no, keys.get(*no))?;
                columns.nos.push(*no);
                columns.keys.push(key);
                columns.seqs.push(row.seq);
                columns.ats.push(row.at);
                columns.kinds.push(row.kind);
                columns.users.push(row.user);
                columns.ids.push(row.message_id);
                columns.texts.push(row.text);
                columns.datas.push(row.data);
                columns.replies.push(row.reply_to);
                columns.edits.push(row.edited_at);
                columns.targets.push(row.target);
                columns.actives.push(row.active);
                columns.mentions.push(row.mentions);
                columns.roots.push(root.map(rows::seq_in));
                columns.counts.push(rows::seq_in(count));
            }
        }
        Ok(columns)
    }

    /// As [`INSERT`] takes them.
    fn params(&self) -> [Param<'_>; 16] {
        [
            &self.nos,
            &self.keys,
            &self.seqs,
            &self.ats,
            &self.kinds,
            &self.users,
            &self.ids,
            &self.texts,
            &self.datas,
            &self.replies,
            &self.edits,
            &self.targets,
            &self.actives,
            &self.mentions,
            &self.roots,
            &self.counts,
        ]
    }
}

/// What all rooms have of one kind, with the room's number beside each.
fn flat<'a, R, T, I: Iterator<Item = T> + 'a>(rooms: &'a [(i64, R)], of: impl Fn(&'a R) -> I) -> (Vec<i64>, Vec<T>) {
    rooms.iter().flat_map(|(no, room)| of(room).map(|one| (*no, one))).unzip()
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
