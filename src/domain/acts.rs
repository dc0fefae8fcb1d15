//! What somebody may do in a room besides reading and writing its log and changing its people (those are `rules`): a
//! table from a role to a permission, for everything that HTTP offers around a room.
//!
//! Invariant: whoever asks was admitted to the room before, so that a stranger learns nothing of a private one.

use crate::entry::Role;
use crate::refusal::Refusal;

/// Something to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// See who is banned.
    SeeBans,
    /// Upload a file for a message of one's own.
    Attach,
}

impl Act {
    /// All of them, for the table-driven test.
    pub const ALL: [Self; 2] = [Self::SeeBans, Self::Attach];

    /// Whether `role` may; an admin's is `Owner`, `None`: not a member (of a public room).
    pub fn open_to(self, role: Option<Role>) -> bool {
        match self {
            Self::SeeBans => matches!(role, Some(Role::Owner | Role::Moderator)),
            Self::Attach => matches!(role, Some(Role::Owner | Role::Moderator | Role::Member)),
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::SeeBans => "only owners and moderators see the bans",
            Self::Attach => "only members who are not muted may add files",
        }
    }
}

/// May somebody with that role do it? `admin`: they act as an owner everywhere.
///
/// # Errors
/// `forbidden`, with who may.
pub fn may(role: Option<Role>, admin: bool, act: Act) -> Result<(), Refusal> {
    let acts_as = if admin { Some(Role::Owner) } else { role };
    if act.open_to(acts_as) { Ok(()) } else { Err(Refusal::forbidden(act.rule())) }
}
