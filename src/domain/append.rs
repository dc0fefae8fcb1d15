//! What a room asks of the store, and what becomes of it: the vocabulary between an owner's decisions and the log.

use crate::domain::audit::Whence;
use crate::entry::{Data, Mentions, Role, RoomPatch};
use crate::ids::{MessageId, Millis, Seq, UserId};

/// One thing to do to a room, by `user` at `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendItem {
    pub user: UserId,
    pub at: Millis,
    pub change: Change,
    /// From where, for the audit log.
    pub from: Option<Box<Whence>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `only_if_known`: never inserted, just looked up; a known one answers [`Outcome::Duplicate`], an unknown one
    /// [`Outcome::Absent`]. (For repeats that slow mode, archiving or a rate would refuse if they were new.)
    Message {
        id: MessageId,
        text: String,
        reply_to: Option<Seq>,
        data: Option<Data>,
        mentions: Mentions,
        only_if_known: bool,
    },
    /// By the author only. Sets the message's present text and `edited_at`; the edit is an entry of its own.
    Edit {
        target: Seq,
        text: String,
        mentions: Mentions,
    },
    /// By the author, or by anybody when `moderator`. Erases text and data of the target and the texts of its edits.
    Delete {
        target: Seq,
        moderator: bool,
    },
    /// Sets or clears one person's reaction.
    React {
        target: Seq,
        emoji: String,
        active: bool,
    },
    /// Changes the room's record and logs one `room` entry with what differed.
    Patch(RoomPatch),
    /// Gives `user` this role; adds them if they were not a member. Logs nothing.
    SetMember {
        user: UserId,
        role: Role,
    },
    /// As `SetMember` of `user` as `member` by themselves, and takes one use of the invitation (named by the SHA-256 of its
    /// token); [`Outcome::NoSuchTarget`] where it has none left, has ended, or is none of this room's.
    Accept {
        invitation: [u8; 32],
    },
    /// Logs nothing. A muted one stays remembered as muted: a later `SetMember` as `member` by themselves makes them
    /// `muted` again (leaving lifts no mute).
    RemoveMember {
        user: UserId,
    },
    /// Bans and removes. Logs nothing.
    Ban {
        user: UserId,
    },
    Unban {
        user: UserId,
    },
    /// Deletes the room and its log; its id is never given out again. Must be the last item.
    DeleteRoom,
}

/// What became of one item, in the order of the items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An entry was logged.
    Appended { seq: Seq, at: Millis },
    /// This sender's message `id` is in the log already, at this place.
    Duplicate { seq: Seq, at: Millis },
    /// Looked up only, and not there.
    Absent,
    /// Nothing differed, so nothing was logged.
    Unchanged,
    /// Done; nothing of this kind is logged (memberships, bans). `role` is what the member has now.
    Done { role: Option<Role> },
    /// `target` or `reply_to` names no message of the room, or the user to add does not exist.
    NoSuchTarget,
    /// Only the author (or, for a delete, a moderator) may.
    NotYours,
    /// The target is a deleted message.
    TargetDeleted,
}
