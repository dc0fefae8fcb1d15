//! An entry as a row of either store, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::revoked::Revoked;
use crate::domain::scopes::{Grant, Scopes};
use crate::entry::{Body, Data, Entry, Mentions, Message, RoomPatch};
use crate::ids::{MessageId, Millis, RoomId, Seq, UserId};
use crate::infra::codes;
use crate::ports::{Attachment, Bounds, Kept, SecretHash, StoreError};

/// The columns of an entry, in the stores' types. Which are set depends on the kind.
#[derive(Debug, Default)]
pub struct EntryRow {
    /// The room's number; only of a row that was read.
    pub room: i64,
    pub seq: i64,
    pub at: Millis,
    pub kind: i16,
    pub user: String,
    pub message_id: Option<String>,
    /// A message's present text, an edit's text, a reaction's emoji, a room entry's patch as JSON.
    pub text: Option<String>,
    pub data: Option<String>,
    pub reply_to: Option<i64>,
    pub edited_at: Option<Millis>,
    pub target: Option<i64>,
    pub active: Option<bool>,
    /// JSON array of ids, [`CALLS_ROOM`] for everybody; of messages and edits.
    pub mentions: Option<String>,
}

/// Stands for everybody among the ids that a text calls; no id is like it.
pub const CALLS_ROOM: &str = "@room";

/// Mentions as the column holds them.
pub fn mentions_in(mentions: &Mentions) -> Option<String> {
    if mentions.is_empty() {
        return None;
    }
    let users = mentions.users().iter().map(UserId::as_str);
    let all: Vec<&str> = mentions.room().then_some(CALLS_ROOM).into_iter().chain(users).collect();
    serde_json::to_string(&all).ok()
}

/// # Errors
/// A fault where the column holds something else than [`mentions_in`] makes.
fn mentions_out(column: Option<&str>) -> Result<Mentions, StoreError> {
    let Some(column) = column else { return Ok(Mentions::default()) };
    let ids: Vec<String> = serde_json::from_str(column)
        .map_err(|error| StoreError::Fault(format!("stored mentions can't be read: {error}")))?;
    let users = ids.iter().filter(|id| *id != CALLS_ROOM).map(|id| user_id(id)).collect::<Result<_, _>>()?;
    Ok(Mentions::new(users, ids.iter().any(|id| id == CALLS_ROOM)))
}

/// A `seq` as the stores hold it. Logs end long before 2^63 entries; what a client made up may be anything.
pub fn seq_in(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A `seq` as the stores hand it out.
pub fn seq_out(seq: i64) -> Seq {
    u64::try_from(seq).unwrap_or(0)
}

/// Milliseconds since 1970 by this node's clock, as every `at`.
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// An entry as it may be shown: what has expired has lost its text, even where it is not erased yet. `said_at`: when the
/// message was sent that an edit is about; `cutoff` as `Expiry::cutoff` gives it.
pub fn present(mut entry: Entry, said_at: Option<Millis>, cutoff: Option<Millis>) -> Entry {
    if cutoff.is_some_and(|cutoff| said_at.unwrap_or(entry.at) <= cutoff) {
        entry.erase();
    }
    entry
}

/// # Errors
/// A fault where the stored text is no id.
pub fn room_id(text: &str) -> Result<RoomId, StoreError> {
    RoomId::parse(text).map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))
}

/// # Errors
/// A fault where the stored text is no id.
pub fn user_id(text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).map_err(|rule| StoreError::Fault(format!("a stored user id breaks its rule: {rule}")))
}

/// # Errors
/// A fault where a message's id is none, or is missing.
pub fn message_id(seq: Seq, text: Option<&str>) -> Result<MessageId, StoreError> {
    MessageId::parse(text.unwrap_or_default())
        .map_err(|rule| StoreError::Fault(format!("the id of message {seq} in the store breaks its rule: {rule}")))
}

/// What an access token is good for; `None`: it is a login.
///
/// # Errors
/// A fault where the stored text is no id.
pub fn grant(scopes: Option<i16>, room: Option<&str>) -> Result<Option<Grant>, StoreError> {
    let Some(bits) = scopes else { return Ok(None) };
    let room = room.map(RoomId::parse).transpose();
    let room = room.map_err(|rule| StoreError::Fault(format!("a stored room id breaks its rule: {rule}")))?;
    Ok(Some(Grant { scopes: Scopes::from_bits(bits), room }))
}

/// # Errors
/// A fault where the stored bytes are no hash.
pub fn secret_hash(bytes: &[u8]) -> Result<SecretHash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Fault("a stored hash has another length".to_owned()))
}

/// What was revoked, as the stores have it: a hash, or JSON.
///
/// # Errors
/// A fault where it can't be written as JSON.
pub fn revoked_in(revoked: &Revoked) -> Result<(Option<&SecretHash>, Option<String>), StoreError> {
    match revoked {
        Revoked::Login(hash) => Ok((Some(hash), None)),
        Revoked::User { .. } | Revoked::Known(_) | Revoked::Person(_) => {
            let what = serde_json::to_string(revoked).map_err(|error| StoreError::Fault(error.to_string()))?;
            Ok((None, Some(what)))
        }
    }
}

/// The way back; `None` where it is something that this release does not know.
///
/// # Errors
/// A fault where the stored bytes are no hash.
pub fn revoked_out(hash: Option<&[u8]>, what: Option<&str>) -> Result<Option<Revoked>, StoreError> {
    match (hash, what) {
        (Some(hash), _) => Ok(Some(Revoked::Login(secret_hash(hash)?))),
        (None, Some(what)) => Ok(serde_json::from_str(what).ok()),
        (None, None) => Ok(None),
    }
}

/// Names of kinds as one column holds them; none: all.
pub fn kinds_in(kinds: &[String]) -> String {
    kinds.join(",")
}

pub fn kinds_out(kinds: &str) -> Vec<String> {
    kinds.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
}

impl EntryRow {
    pub fn of(entry: Entry) -> Self {
        let mut row =
            Self { seq: seq_in(entry.seq), at: entry.at, user: entry.user.as_str().to_owned(), ..Self::default() };
        match entry.body {
            Body::Message(message) => {
                row.kind = codes::MESSAGE;
                row.message_id = Some(message.id.as_str().to_owned());
                row.text = message.text;
                row.data = message.data.map(|data| data.as_str().to_owned());
                row.reply_to = message.reply_to.map(seq_in);
                row.edited_at = message.edited_at;
                row.mentions = mentions_in(&message.mentions);
            }
            Body::Edit { target, text, mentions } => {
                row.mentions = mentions_in(&mentions);
                row.kind = codes::EDIT;
                row.target = Some(seq_in(target));
                row.text = text;
            }
            Body::Delete { target } => {
                row.kind = codes::DELETE;
                row.target = Some(seq_in(target));
            }
            Body::Reaction { target, emoji, active } => {
                row.kind = codes::REACTION;
                row.target = Some(seq_in(target));
                row.text = Some(emoji);
                row.active = Some(active);
            }
            Body::Room(patch) => {
                row.kind = codes::ROOM;
                row.text = serde_json::to_string(&patch).ok();
            }
        }
        row
    }

    /// # Errors
    /// A fault where the row is none that this release writes.
    pub fn into_entry(self) -> Result<Entry, StoreError> {
        let seq = seq_out(self.seq);
        let broken = |what: &str| StoreError::Fault(format!("entry {seq} is broken in the store: {what}"));
        let target = || self.target.map(seq_out).ok_or_else(|| broken("no target"));
        let body = match self.kind {
            codes::MESSAGE => {
                let id = self.message_id.as_deref().ok_or_else(|| broken("no message id"))?;
                let data = self.data.map(Data::from_compact).transpose();
                Body::Message(Message {
                    id: MessageId::parse(id).map_err(broken)?,
                    text: self.text,
                    reply_to: self.reply_to.map(seq_out),
                    data: data.map_err(|error| broken(&format!("data: {error}")))?,
                    edited_at: self.edited_at,
                    mentions: mentions_out(self.mentions.as_deref())?,
                })
            }
            codes::EDIT => {
                let mentions = mentions_out(self.mentions.as_deref())?;
                Body::Edit { target: target()?, text: self.text, mentions }
            }
            codes::DELETE => Body::Delete { target: target()? },
            codes::REACTION => Body::Reaction {
                target: target()?,
                emoji: self.text.clone().ok_or_else(|| broken("no emoji"))?,
                active: self.active.ok_or_else(|| broken("neither set nor cleared"))?,
            },
            codes::ROOM => {
                let patch: RoomPatch = serde_json::from_str(self.text.as_deref().unwrap_or("{}"))
                    .map_err(|error| broken(&format!("patch: {error}")))?;
                Body::Room(patch)
            }
            kind => return Err(codes::unknown("entry kind", kind)),
        };
        Ok(Entry { seq, user: user_id(&self.user)?, at: self.at, body })
    }
}

/// A duration as the stores count it.
pub fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// The record of a file that breaks a rule.
pub fn broken_file(what: &str) -> StoreError {
    StoreError::Fault(format!("the record of a file is broken in the store: {what}"))
}

/// Whether an upload is kept, by what both stores found under the lock: the record of that id, whether the upload may
/// still be kept, what its person has, and how many files its message has.
pub fn keep(
    new: &Attachment,
    bounds: Bounds,
    known: Option<Attachment>,
    in_time: bool,
    used: u64,
    of_message: i64,
) -> Kept {
    if let Some(known) = known {
        let same = known.sha256 == new.sha256
            && (&known.user, &known.room, &known.message) == (&new.user, &new.room, &new.message);
        return if same { Kept::Known(Box::new(known)) } else { Kept::Taken };
    }
    if !in_time {
        return Kept::Late;
    }
    if of_message >= i64::from(bounds.per_message) {
        return Kept::Full;
    }
    if bounds.per_user_bytes > 0 && used.saturating_add(new.bytes) > bounds.per_user_bytes {
        return Kept::OverQuota { used };
    }
    Kept::New
}
