//! What the audit log says: acts for which somebody needs a right that others lack, and the erasure of a person.
//!
//! Invariant: a deed holds ids, numbers and our own words, and no text that anybody wrote: nothing of it ever has to be
//! taken back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::RoomPatch;
use crate::ids::{Millis, Seq, UserId};

/// Where somebody acts from: a client's address, for the audit log alone. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whence(pub String);

impl fmt::Debug for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whence(…)")
    }
}

/// The acts that are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    RoleGiven,
    MemberRemoved,
    MemberBanned,
    BanLifted,
    /// A message of somebody else's.
    MessageDeleted,
    RoomChanged,
    RoomDeleted,
    InvitationMade,
    InvitationRevoked,
    ReportClosed,
    /// Everything of a person, by themselves.
    PersonErased,
    ServerBanned,
    ServerBanLifted,
    /// A session or token of somebody else's.
    CredentialRevoked,
    /// Any other act of an administrator; `detail` says which.
    Administered,
}

impl What {
    /// As stored and shown: never change one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoleGiven => "member.role",
            Self::MemberRemoved => "member.removed",
            Self::MemberBanned => "member.banned",
            Self::BanLifted => "member.unbanned",
            Self::MessageDeleted => "message.deleted",
            Self::RoomChanged => "room.changed",
            Self::RoomDeleted => "room.deleted",
            Self::InvitationMade => "invitation.made",
            Self::InvitationRevoked => "invitation.revoked",
            Self::ReportClosed => "report.closed",
            Self::PersonErased => "person.erased",
            Self::ServerBanned => "server.banned",
            Self::ServerBanLifted => "server.unbanned",
            Self::CredentialRevoked => "credential.revoked",
            Self::Administered => "administered",
        }
    }
}

/// One line of the audit log, apart from its number and room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    pub at: Millis,
    pub by: UserId,
    pub from: Option<Whence>,
    pub what: What,
    /// Whom it was done to.
    pub whom: Option<UserId>,
    /// The message it was done to.
    pub seq: Option<Seq>,
    /// In our own words.
    pub detail: Option<String>,
}

/// What a patch changed, without the texts.
pub fn changes(patch: &RoomPatch) -> String {
    let mut changed = Vec::new();
    if patch.name.is_some() {
        changed.push("name".to_owned());
    }
    if patch.topic.is_some() {
        changed.push("topic".to_owned());
    }
    if let Some(seconds) = patch.slow_mode_s {
        changed.push(format!("slow_mode_s={seconds}"));
    }
    if let Some(archived) = patch.archived {
        changed.push(format!("archived={archived}"));
    }
    changed.join(" ")
}
