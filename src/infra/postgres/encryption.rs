//! Keys of rooms, and the steps that encrypt what was there before.
//!
//! Invariant: whoever seals older texts holds the room's row in `room_heads`, as everybody who writes to its log; texts that
//! an erasure took meanwhile stay away, since only what is still there is replaced.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::logs::{ENTRY, row_of};
use super::pool::{Lease, Step};
use crate::ids::RoomId;
use crate::infra::codes;
use crate::infra::rows::EntryRow;
use crate::infra::sealed::{Place, RoomKey, Sealing, Wrapped, is_sealed, no_key, sealed};
use crate::ports::{EncryptionLeft, EncryptionStore, StoreError};

type Param<'a> = &'a (dyn ToSql + Sync);

/// Rooms that get a key in one step: their owners open them again.
const ROOMS: i64 = 10;
/// Keys brought under another in one step.
const KEYS: i64 = 200;

/// Gives the room `$1` a key where it is to have one and has none. In the transaction that raised its epoch.
pub const GIVE_KEY: &str = "WITH made AS (
        INSERT INTO room_keys (room_no, ring_key, wrapped, clear_to)
        SELECT r.no, $2, $3, h.head FROM rooms r JOIN room_heads h ON h.no = r.no
        WHERE r.id = $1 AND NOT r.deleted AND NOT r.encrypted AND r.kind = ANY ($4)
        ON CONFLICT DO NOTHING RETURNING room_no
    )
    UPDATE rooms r SET encrypted = true FROM made WHERE r.no = made.room_no";

const LOOK_UP: &str = "SELECT h.no, h.epoch, r.id, k.ring_key, k.wrapped
    FROM room_heads h JOIN rooms r ON r.no = h.no LEFT JOIN room_keys k ON k.room_no = h.no WHERE h.no = ANY ($1)";

/// Two columns from `first` on.
pub fn wrapped_of(row: &Row, first: usize) -> Option<Wrapped> {
    Some(Wrapped { ring_key: row.get::<_, Option<String>>(first)?, bytes: row.get(first + 1) })
}

async fn look_up(lease: &mut Lease, sealing: &Sealing, rooms: &[i64]) -> Result<(), StoreError> {
    for row in lease.query(LOOK_UP, &[&rooms]).await? {
        let key = wrapped_of(&row, 3).map(|wrapped| sealing.unwrap(row.get(2), &wrapped)).transpose()?;
        sealing.remember(row.get(0), row.get(1), key);
    }
    Ok(())
}

/// The rooms of those texts that are sealed.
pub fn sealed_of<'a>(texts: impl Iterator<Item = (i64, Option<&'a str>)>) -> Vec<i64> {
    texts.filter(|(_, text)| text.is_some_and(is_sealed)).map(|(no, _)| no).collect()
}

/// Keys of some rooms.
#[derive(Default)]
pub struct Keys(HashMap<i64, RoomKey>);

impl Keys {
    /// Those of rooms that are appended to with these epochs.
    pub async fn to_append(lease: &mut Lease, sealing: &Sealing, rooms: &[(i64, i64)]) -> Result<Self, StoreError> {
        let mut keys = Self::default();
        if !sealing.is_on() {
            return Ok(keys);
        }
        let mut unknown = Vec::new();
        for &(no, epoch) in rooms {
            match sealing.to_append(no, epoch) {
                Some(key) => keys.0.extend(key.map(|key| (no, key))),
                None => unknown.push(no),
            }
        }
        if !unknown.is_empty() {
            look_up(lease, sealing, &unknown).await?;
            keys.0.extend(unknown.iter().filter_map(|&no| Some((no, sealing.to_read(no)?))));
        }
        Ok(keys)
    }

    /// Those of rooms that sealed values were read from.
    pub async fn to_read(lease: &mut Lease, sealing: &Sealing, rooms: Vec<i64>) -> Result<Self, StoreError> {
        let mut keys = Self::default();
        let mut unknown = Vec::new();
        for no in rooms {
            if keys.0.contains_key(&no) || unknown.contains(&no) {
                continue;
            }
            match sealing.to_read(no) {
                Some(key) => drop(keys.0.insert(no, key)),
                None => unknown.push(no),
            }
        }
        if !unknown.is_empty() {
            look_up(lease, sealing, &unknown).await?;
            keys.0.extend(unknown.iter().filter_map(|&no| Some((no, sealing.to_read(no)?))));
        }
        Ok(keys)
    }

    pub fn get(&self, no: i64) -> Option<&RoomKey> {
        self.0.get(&no)
    }

    /// # Errors
    /// A fault where the room has none.
    pub fn need(&self, no: i64) -> Result<RoomKey, StoreError> {
        self.get(no).cloned().ok_or_else(|| no_key(no))
    }
}

/// The key of a room that somebody writes about, in a transaction: the room gets none before it ends.
pub async fn held(lease: &mut Lease, sealing: &Sealing, room: &RoomId) -> Result<Option<(i64, RoomKey)>, StoreError> {
    let sql = "SELECT no, encrypted FROM rooms WHERE id = $1 AND NOT deleted FOR SHARE";
    let answers = lease.transaction(&[Step::Begin, Step::Ask(sql, &[&room.as_str()])]).await?;
    let Some(row) = answers.get(1).and_then(|rows| rows.first()).filter(|row| row.get(1)) else { return Ok(None) };
    let no: i64 = row.get(0);
    Ok(Some((no, Keys::to_read(lease, sealing, vec![no]).await?.need(no)?)))
}

/// Entries as they were given.
pub async fn opened(lease: &mut Lease, sealing: &Sealing, rows: Vec<EntryRow>) -> Result<Vec<EntryRow>, StoreError> {
    let rooms = rows.iter().filter(|row| row.is_sealed()).map(|row| row.room).collect();
    let keys = Keys::to_read(lease, sealing, rooms).await?;
    rows.into_iter().map(|row| row.open(|no| keys.need(no))).collect()
}

const TO_ENCRYPT: &str = "SELECT r.id FROM rooms r
    WHERE r.kind = ANY ($1) AND NOT r.encrypted AND NOT r.deleted LIMIT $2";

const RAISE: &str = "UPDATE room_heads SET epoch = epoch + 1
    WHERE no = (SELECT no FROM rooms WHERE id = $1 AND NOT deleted AND NOT encrypted)";

/// Whether there were any.
async fn give_keys(lease: &mut Lease, sealing: &Sealing) -> Result<bool, StoreError> {
    let kinds = sealing.kinds();
    if kinds.is_empty() {
        return Ok(false);
    }
    let rooms = lease.query(TO_ENCRYPT, &[&kinds, &ROOMS]).await?;
    for row in &rooms {
        let room: &str = row.get(0);
        let Wrapped { ring_key, bytes } = sealing.new_key(room)?;
        let steps = [
            Step::Begin,
            Step::Ask(RAISE, &[&room]),
            Step::Ask(GIVE_KEY, &[&room, &ring_key, &bytes, &kinds]),
            Step::Commit,
        ];
        lease.transaction(&steps).await?;
    }
    Ok(!rooms.is_empty())
}

const IN_CLEAR: &str = "SELECT room_no FROM room_keys WHERE sealed_to < clear_to ORDER BY room_no LIMIT 1";

const LOCK: &str = "SELECT no FROM room_heads WHERE no = $1 FOR UPDATE";

const REPLACED: &str = "SELECT e.seq, v.target, v.text
    FROM entries e JOIN revisions v ON v.room_no = e.room_no AND v.target = e.target AND v.replaced_by = e.seq
    WHERE e.room_no = $1 AND e.seq = ANY ($2) AND e.kind = 1";

const REPORTS: &str = "SELECT no, seq, reporter, reason, note FROM reports
    WHERE room_no = $1 AND seq = ANY ($2) AND (reason IS NOT NULL OR note IS NOT NULL)";

const SEAL: &str = "UPDATE entries e SET text = n.text, data = n.data
    FROM unnest($2::bigint[], $3::text[], $4::text[]) AS n (seq, text, data)
    WHERE e.room_no = $1 AND e.seq = n.seq AND e.text IS NOT NULL";

const SEAL_REPLACED: &str = "UPDATE revisions v SET text = n.text
    FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS n (target, replaced_by, text)
    WHERE v.room_no = $1 AND v.target = n.target AND v.replaced_by = n.replaced_by";

const SEAL_REPORTS: &str = "UPDATE reports p SET reason = CASE WHEN p.reason IS NOT NULL THEN n.reason END,
        note = CASE WHEN p.note IS NOT NULL THEN n.note END
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (no, reason, note) WHERE p.no = n.no";

const FORGET: &str = "SELECT forget_texts(array_fill($1::bigint, ARRAY[cardinality($2::bigint[])]), $2::bigint[])";

const PROGRESS: &str = "UPDATE room_keys SET sealed_to = $2 WHERE room_no = $1";

/// Whether there was a room with texts in the clear.
async fn seal_older(lease: &mut Lease, sealing: &Sealing, limit: i64) -> Result<bool, StoreError> {
    let Some(row) = lease.query_opt(IN_CLEAR, &[]).await? else { return Ok(false) };
    let no: i64 = row.get(0);
    let key = Keys::to_read(lease, sealing, vec![no]).await?.need(no)?;
    let window = format!(
        "SELECT {ENTRY} FROM room_keys k JOIN entries e ON e.room_no = k.room_no
         WHERE k.room_no = $1 AND e.seq > k.sealed_to AND e.seq <= k.clear_to ORDER BY e.seq LIMIT $2"
    );
    let steps = [Step::Begin, Step::Ask(LOCK, &[&no]), Step::Ask(&window, &[&no, &limit])];
    let answers = lease.transaction(&steps).await?;
    let found = answers.last().map(Vec::as_slice).unwrap_or_default();
    let (mut seqs, mut texts, mut datas) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut messages) = (Vec::new(), Vec::new());
    for row in found {
        let mut row = row_of(row);
        seen.push(row.seq);
        if row.kind == codes::MESSAGE {
            messages.push(row.seq);
        }
        if matches!(row.kind, codes::MESSAGE | codes::EDIT) && row.text.is_some() {
            row.seal(no, Some(&key))?;
            seqs.push(row.seq);
            texts.push(row.text);
            datas.push(row.data);
        }
    }
    let (mut targets, mut replaced_by, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for row in lease.query(REPLACED, &[&no, &seen]).await? {
        let (by, target) = (row.get(0), row.get(1));
        replaced.push(sealed(Some(&key), no, Place::Revision { target, replaced_by: by }, row.get(2))?);
        targets.push(target);
        replaced_by.push(by);
    }
    let (mut reports, mut reasons, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for row in lease.query(REPORTS, &[&no, &messages]).await? {
        let (report, seq, reporter): (i64, i64, &str) = (row.get(0), row.get(1), row.get(2));
        let seal = |place, text: Option<String>| text.map(|text| sealed(Some(&key), no, place, text)).transpose();
        reasons.push(seal(Place::Reason { seq, reporter }, row.get(3))?);
        notes.push(seal(Place::Note(report), row.get(4))?);
        reports.push(report);
    }
    // Where nothing is left of what there was, that is all of it.
    let full = found.len() as i64 == limit;
    let upto = if full { seen.last().copied().unwrap_or(i64::MAX) } else { i64::MAX };
    let seal: [Param<'_>; 4] = [&no, &seqs, &texts, &datas];
    let kept: [Param<'_>; 4] = [&no, &targets, &replaced_by, &replaced];
    let told: [Param<'_>; 3] = [&reports, &reasons, &notes];
    let forget: [Param<'_>; 2] = [&no, &messages];
    let progress: [Param<'_>; 2] = [&no, &upto];
    let all: [(bool, &str, &[Param<'_>]); 5] = [
        (seqs.is_empty(), SEAL, &seal),
        (targets.is_empty(), SEAL_REPLACED, &kept),
        (reports.is_empty(), SEAL_REPORTS, &told),
        (messages.is_empty(), FORGET, &forget),
        (false, PROGRESS, &progress),
    ];
    let mut steps: Vec<Step<'_>> =
        all.into_iter().filter(|(nothing, ..)| !nothing).map(|(_, sql, params)| Step::Ask(sql, params)).collect();
    steps.push(Step::Commit);
    lease.transaction(&steps).await?;
    Ok(true)
}

const OTHERS: &str = "SELECT * FROM (
        (SELECT room_no, ring_key, wrapped FROM room_keys WHERE ring_key < $1 LIMIT $2)
        UNION ALL (SELECT room_no, ring_key, wrapped FROM room_keys WHERE ring_key > $1 LIMIT $2)
    ) k, LATERAL (SELECT r.id FROM rooms r WHERE r.no = k.room_no) r LIMIT $2";

const REWRAP: &str = "UPDATE room_keys k SET ring_key = $1, wrapped = n.wrapped
    FROM unnest($2::bigint[], $3::text[], $4::bytea[]) AS n (room_no, was, wrapped)
    WHERE k.room_no = n.room_no AND k.ring_key = n.was";

/// Whether there were keys under another one.
async fn rewrap(lease: &mut Lease, sealing: &Sealing) -> Result<bool, StoreError> {
    let Some(active) = sealing.active() else { return Ok(false) };
    let found = lease.query(OTHERS, &[&active, &KEYS]).await?;
    let (mut nos, mut was, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
    for row in &found {
        let old = Wrapped { ring_key: row.get(1), bytes: row.get(2) };
        wrapped.push(sealing.rewrap(row.get(3), &old)?.bytes);
        nos.push(row.get::<_, i64>(0));
        was.push(old.ring_key);
    }
    if !nos.is_empty() {
        lease.execute(REWRAP, &[&active, &nos, &was, &wrapped]).await?;
    }
    Ok(!nos.is_empty())
}

#[async_trait]
impl EncryptionStore for PostgresStore {
    async fn check_keys(&self) -> Result<(), StoreError> {
        let next = "SELECT r.id, k.ring_key, k.wrapped FROM room_keys k JOIN rooms r ON r.no = k.room_no
            WHERE k.ring_key > $1 ORDER BY k.ring_key LIMIT 1";
        let mut lease = self.lease().await?;
        let mut name = String::new();
        while let Some(row) = lease.query_opt(next, &[&name]).await? {
            let wrapped = Wrapped { ring_key: row.get(1), bytes: row.get(2) };
            self.sealing.unwrap(row.get(0), &wrapped)?;
            name = wrapped.ring_key;
        }
        Ok(())
    }

    async fn encrypt_some(&self, limit: u32) -> Result<bool, StoreError> {
        if !self.sealing.is_on() {
            return Ok(false);
        }
        let mut lease = self.lease().await?;
        Ok(give_keys(&mut lease, &self.sealing).await?
            || seal_older(&mut lease, &self.sealing, i64::from(limit.max(1))).await?
            || rewrap(&mut lease, &self.sealing).await?)
    }

    async fn encryption_left(&self) -> Result<EncryptionLeft, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM rooms WHERE kind = ANY ($1) AND NOT encrypted AND NOT deleted),
            (SELECT coalesce(sum(clear_to - sealed_to), 0)::bigint FROM room_keys WHERE sealed_to < clear_to),
            (SELECT count(*) FROM room_keys WHERE ring_key < $2) + (SELECT count(*) FROM room_keys WHERE ring_key > $2)";
        let Some(active) = self.sealing.active() else { return Ok(EncryptionLeft::default()) };
        let row = self.lease().await?.query_opt(sql, &[&self.sealing.kinds(), &active]).await?;
        let count = |row: &Row, column| row.get::<_, i64>(column).unsigned_abs();
        Ok(row.map_or_else(EncryptionLeft::default, |row| EncryptionLeft {
            rooms: count(&row, 0),
            entries: count(&row, 1),
            keys: count(&row, 2),
        }))
    }
}
