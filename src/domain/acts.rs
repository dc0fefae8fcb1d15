//! What somebody may do in a room besides reading and writing its log and changing its people (those are `rules`): a
//! table from a role to a permission, for everything that HTTP offers around a room.
//!
//! Invariant: whoever asks was admitted to the room before, so that a stranger learns nothing of a private one.

use crate::domain::rules;
use crate::entry::{Role, Room, RoomKind};
use crate::refusal::Refusal;

/// Something to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// See who is banned.
    SeeBans,
    /// Keep a mark of how far one has read.
    MarkRead,
    /// See what edits replaced, where it was kept.
    SeeRevisions,
    /// Pin a message or take the pin away.
    Pin,
    /// See, make and revoke invitations.
    Invite,
    /// Search its messages.
    Search,
    /// Report a message to the moderators.
    Report,
    /// See the reports and decide on them.
    Moderate,
    /// See who used which right.
    SeeAudit,
    /// See, make, change and delete the room's webhooks.
    ManageWebhooks,
    /// Upload a file for a message of one's own.
    Attach,
}

impl Act {
    /// All of them, for the table-driven test.
    pub const ALL: [Self; 11] = [
        Self::SeeBans,
        Self::MarkRead,
        Self::SeeRevisions,
        Self::Pin,
        Self::Invite,
        Self::Search,
        Self::Report,
        Self::Moderate,
        Self::SeeAudit,
        Self::ManageWebhooks,
        Self::Attach,
    ];

    /// Whether `role` may; an admin's is `Owner`, `None`: not a member (of a public room). The two of a direct room are
    /// equals: each may what a moderator may.
    pub fn open_to(self, kind: RoomKind, role: Option<Role>) -> bool {
        let equals = kind == RoomKind::Direct && role.is_some();
        let moderates = matches!(role, Some(Role::Owner | Role::Moderator)) || equals;
        match self {
            Self::SeeBans | Self::SeeRevisions | Self::Pin | Self::Invite | Self::Moderate => moderates,
            Self::MarkRead => role.is_some(),
            // Whoever was admitted may read it.
            Self::Search | Self::Report => true,
            Self::SeeAudit | Self::ManageWebhooks => role == Some(Role::Owner) || equals,
            Self::Attach => matches!(role, Some(Role::Owner | Role::Moderator | Role::Member)),
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::SeeBans => "only owners and moderators see the bans",
            Self::MarkRead => "only members of the room have a read mark in it",
            Self::SeeRevisions => "only owners and moderators see what was edited",
            Self::Pin => "only owners and moderators pin messages",
            Self::Invite => "only owners and moderators invite people",
            Self::Search => "whoever may read a room may search it",
            Self::Report => "anybody who may read a message may report it",
            Self::Moderate => "only owners and moderators see reports and decide on them",
            Self::ManageWebhooks => "only owners manage the webhooks of a room",
            Self::Attach => "only members who are not muted may add files",
            Self::SeeAudit => "only owners see the audit log",
        }
    }

    /// Why it can't be done in a room like this, whoever asks.
    fn conflict(self, room: &Room) -> Option<Refusal> {
        match self {
            Self::Invite if room.kind == RoomKind::Direct => Some(rules::only_two()),
            Self::Pin if room.archived => Some(rules::archived()),
            _ => None,
        }
    }
}

/// May somebody with that role do it? `admin`: they act as an owner everywhere.
///
/// # Errors
/// `forbidden`, with who may; `conflict` where the room is not one to do it in.
pub fn may(room: &Room, role: Option<Role>, admin: bool, act: Act) -> Result<(), Refusal> {
    let acts_as = if admin { Some(Role::Owner) } else { role };
    if !act.open_to(room.kind, acts_as) {
        return Err(Refusal::forbidden(act.rule()));
    }
    act.conflict(room).map_or(Ok(()), Err)
}
