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
    /// Sessions and tokens of somebody else's.
    CredentialsRevoked,
    /// Sessions of somebody else's were closed; they may come back.
    Disconnected,
    /// `detail` of these: the token's id, and its scopes.
    TokenMade,
    TokenRevoked,
    /// `detail` of these: the webhook's id, and what was changed.
    WebhookMade,
    WebhookChanged,
    WebhookDeleted,
    /// `detail` of these: the webhook's id, and the dead letter's.
    DeadLetterRetried,
    DeadLetterDropped,
    MessagePinned,
    MessageUnpinned,
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
            Self::CredentialsRevoked => "credentials.revoked",
            Self::Disconnected => "person.disconnected",
            Self::TokenMade => "token.made",
            Self::TokenRevoked => "token.revoked",
            Self::WebhookMade => "webhook.made",
            Self::WebhookChanged => "webhook.changed",
            Self::WebhookDeleted => "webhook.deleted",
            Self::DeadLetterRetried => "webhook.dead_retried",
            Self::DeadLetterDropped => "webhook.dead_dropped",
            Self::MessagePinned => "message.pinned",
            Self::MessageUnpinned => "message.unpinned",
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
    if let Some(seconds) = patch.ttl_s {
        changed.push(format!("ttl_s={seconds}"));
    }
    if let Some(kept) = patch.edit_history {
        changed.push(format!("edit_history={kept}"));
    }
    changed.join(" ")
}
