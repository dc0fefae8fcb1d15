//! Appending to logs, the hot path.
//!
//! Rooms that get nothing but messages (nearly all) go in one round trip and one statement, the function
//! `append_messages`; the others are locked, read, planned and written in a transaction of their own. Each room of a
//! call is wholly in one of the two. A failure of either is reported for the whole call, as unknown: what the other did
//! is found by repeating.

use std::borrow::Cow;
use std::collections::HashSet;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::encryption::Keys;
use super::pool::Lease;
use super::slow;
use crate::ids::Seq;
use crate::infra::changes::MessageKey;
use crate::infra::rows;
use crate::infra::sealed::{Place, RoomKey, Sealing};
use crate::ports::{Appended, Change, Outcome, RoomAppend, StoreError};

impl ToSql for MessageKey {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

/// What `append_messages` says of a room in place of its head.
const FENCED: i64 = -2;
const AHEAD: i64 = -1;

pub async fn append(lease: &mut Lease, sealing: &Sealing, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
    #[cfg(feature = "seeded-bugs")]
    let batch = with_present_epochs(lease, batch).await?;
    let rooms: Vec<(i64, i64)> = batch.iter().map(|room| (room.no.0, rows::seq_in(room.epoch.0))).collect();
    let keys = Keys::to_append(lease, sealing, &rooms).await?;
    let (mut plain, mut other): (Vec<_>, Vec<_>) =
        batch.into_iter().enumerate().partition(|(_, room)| only_messages(room));
    let mut done: Vec<(usize, Appended)> = Vec::with_capacity(plain.len() + other.len());
    if !plain.is_empty() {
        // The order in which everybody locks rooms.
        plain.sort_unstable_by_key(|(_, room)| room.no);
        let results = append_messages(lease, &keys, &plain).await?;
        let mut ahead = Vec::new();
        for (place, result) in plain.drain(..).zip(results) {
            match result {
                Some(result) => done.push((place.0, result)),
                None => ahead.push(place),
            }
        }
        other.append(&mut ahead);
    }
    if !other.is_empty() {
        let (places, rooms): (Vec<usize>, Vec<RoomAppend>) = other.into_iter().unzip();
        done.extend(places.into_iter().zip(slow::append(lease, &keys, rooms).await?));
    }
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The seeded bug `no-epoch-check`: whoever appends has the right epoch.
#[cfg(feature = "seeded-bugs")]
async fn with_present_epochs(lease: &mut Lease, mut batch: Vec<RoomAppend>) -> Result<Vec<RoomAppend>, StoreError> {
    use crate::seeded_bug::{self, Bug};
    if seeded_bug::is(Bug::NoEpochCheck) {
        let rooms: Vec<i64> = batch.iter().map(|room| room.no.0).collect();
        let present = lease.query("SELECT no, epoch FROM room_heads WHERE no = ANY ($1)", &[&rooms]).await?;
        for row in present {
            let (no, epoch): (i64, i64) = (row.get(0), row.get(1));
            batch.iter_mut().filter(|room| room.no.0 == no).for_each(|room| room.epoch.0 = rows::seq_out(epoch));
        }
    }
    Ok(batch)
}

/// Whether the function can take it: messages, none of them twice.
fn only_messages(room: &RoomAppend) -> bool {
    let mut seen = HashSet::with_capacity(room.items.len());
    room.items.iter().all(|item| match &item.change {
        Change::Message { id, .. } => seen.insert((&item.user, id)),
        _ => false,
    })
}

/// `None` for a room that replies to what this batch might just be making.
async fn append_messages(
    lease: &mut Lease,
    keys: &Keys,
    batch: &[(usize, RoomAppend)],
) -> Result<Vec<Option<Appended>>, StoreError> {
    let items: usize = batch.iter().map(|(_, room)| room.items.len()).sum();
    let mut columns = Columns::with_capacity(items);
    for (index, (_, room)) in batch.iter().enumerate() {
        columns.push(index, room, keys.get(room.no.0))?;
    }
    let rooms: Vec<i64> = batch.iter().map(|(_, room)| room.no.0).collect();
    let epochs: Vec<i64> = batch.iter().map(|(_, room)| rows::seq_in(room.epoch.0)).collect();
    let counts: Vec<i32> = batch.iter().map(|(_, room)| place(room.items.len())).collect();
    let reply_to = columns.reply_to.iter().any(Option::is_some).then_some(&columns.reply_to);
    let mentions = columns.mentions.iter().any(Option::is_some).then_some(&columns.mentions);
    let known_only = columns.known_only.contains(&true).then_some(&columns.known_only);
    let sql = "SELECT heads, why, known_seq, known_at \
               FROM append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let row = lease
        .query_opt(
            sql,
            &[
                &rooms,
                &epochs,
                &counts,
                &columns.room,
                &columns.n,
                &columns.at,
                &columns.key,
                &reply_to,
                &known_only,
                &columns.user,
                &columns.id,
                &columns.text,
                &columns.data,
                &mentions,
            ],
        )
        .await?
        .ok_or_else(|| StoreError::Fault("append_messages gave nothing".into()))?;
    let heads: Vec<i64> = row.get(0);
    let why: Option<Vec<i16>> = row.get(1);
    let known_seq: Option<Vec<Option<i64>>> = row.get(2);
    let known_at: Option<Vec<Option<i64>>> = row.get(3);
    let known = |item: usize| {
        let seq = (*known_seq.as_ref()?.get(item)?)?;
        Some((rows::seq_out(seq), (*known_at.as_ref()?.get(item)?)?))
    };

    let mut item = 0;
    let mut results = Vec::with_capacity(batch.len());
    for ((_, room), &head) in batch.iter().zip(&heads) {
        let first = item;
        item += room.items.len();
        results.push(match head {
            FENCED => Some(Appended::Fenced),
            AHEAD => None,
            head => {
                let mut seq: Seq = rows::seq_out(head);
                let outcome = |(index, of): (usize, &crate::ports::AppendItem)| {
                    let item = first + index;
                    match why.as_ref().map_or(0, |why| why[item]) {
                        0 => {
                            seq += 1;
                            Ok(Outcome::Appended { seq, at: of.at })
                        }
                        1 => match known(item) {
                            Some((seq, at)) => Ok(Outcome::Duplicate { seq, at }),
                            None => Err(StoreError::Fault("a duplicate of nothing".into())),
                        },
                        2 => Ok(Outcome::Absent),
                        3 => Ok(Outcome::NoSuchTarget),
                        other => Err(StoreError::Fault(format!("append_messages said {other}"))),
                    }
                };
                Some(Appended::Done(room.items.iter().enumerate().map(outcome).collect::<Result<_, _>>()?))
            }
        });
    }
    Ok(results)
}

/// A place or count within a batch, as the function takes it.
fn place(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// The items of all rooms, a vector a column, for `unnest`.
struct Columns<'a> {
    room: Vec<i32>,
    n: Vec<i32>,
    at: Vec<i64>,
    key: Vec<MessageKey>,
    reply_to: Vec<Option<i64>>,
    known_only: Vec<bool>,
    user: Vec<&'a str>,
    id: Vec<&'a str>,
    text: Vec<Cow<'a, str>>,
    data: Vec<Option<Cow<'a, str>>>,
    mentions: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn with_capacity(items: usize) -> Self {
        Self {
            room: Vec::with_capacity(items),
            n: Vec::with_capacity(items),
            at: Vec::with_capacity(items),
            key: Vec::with_capacity(items),
            reply_to: Vec::with_capacity(items),
            known_only: Vec::with_capacity(items),
            user: Vec::with_capacity(items),
            id: Vec::with_capacity(items),
            text: Vec::with_capacity(items),
            data: Vec::with_capacity(items),
            mentions: Vec::with_capacity(items),
        }
    }

    /// `index`: of the room in the batch, from 0.
    fn push(&mut self, index: usize, room: &'a RoomAppend, key: Option<&RoomKey>) -> Result<(), StoreError> {
        for (n, item) in room.items.iter().enumerate() {
            let Change::Message { id, text, reply_to, data, mentions, only_if_known } = &item.change else { continue };
            self.room.push(place(index + 1));
            self.n.push(place(n + 1));
            self.at.push(item.at);
            self.key.push(MessageKey::of(room.no, &item.user, id));
            self.reply_to.push(reply_to.map(rows::seq_in));
            self.known_only.push(*only_if_known);
            self.user.push(item.user.as_str());
            self.id.push(id.as_str());
            let (user, of) = (item.user.as_str(), id.as_str());
            let seal = |place, text: &'a str| match key {
                Some(key) => key.seal(room.no.0, place, text).map(Cow::Owned),
                None => Ok(Cow::Borrowed(text)),
            };
            self.text.push(seal(Place::Text { user, id: of }, text)?);
            let data = data.as_ref().map(|data| seal(Place::Data { user, id: of }, data.as_str()));
            self.data.push(data.transpose()?);
            self.mentions.push(rows::mentions_in(mentions));
        }
        Ok(())
    }
}
