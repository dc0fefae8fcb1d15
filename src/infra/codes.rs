//! The small numbers that stand for kinds and roles in both stores. Part of the stored format: never change one.

use crate::entry::{Role, RoomKind};
use crate::ports::{AccountKind, StoreError};

/// Kinds of entries.
pub const MESSAGE: i16 = 0;
pub const EDIT: i16 = 1;
pub const DELETE: i16 = 2;
pub const REACTION: i16 = 3;
pub const ROOM: i16 = 4;

pub fn room_kind(kind: RoomKind) -> i16 {
    match kind {
        RoomKind::Public => 0,
        RoomKind::Private => 1,
        RoomKind::Direct => 2,
    }
}

/// # Errors
/// A fault where the number means nothing to this release.
pub fn parse_room_kind(code: i16) -> Result<RoomKind, StoreError> {
    match code {
        0 => Ok(RoomKind::Public),
        1 => Ok(RoomKind::Private),
        2 => Ok(RoomKind::Direct),
        _ => Err(unknown("room kind", code)),
    }
}

pub fn role(role: Role) -> i16 {
    match role {
        Role::Owner => 0,
        Role::Moderator => 1,
        Role::Member => 2,
        Role::Muted => 3,
    }
}

/// # Errors
/// A fault where the number means nothing to this release.
pub fn parse_role(code: i16) -> Result<Role, StoreError> {
    match code {
        0 => Ok(Role::Owner),
        1 => Ok(Role::Moderator),
        2 => Ok(Role::Member),
        3 => Ok(Role::Muted),
        _ => Err(unknown("role", code)),
    }
}

pub fn account_kind(kind: AccountKind) -> i16 {
    match kind {
        AccountKind::Password => 0,
        AccountKind::Jwt => 1,
        AccountKind::Oidc => 3,
    }
}

/// A stored number that this release does not know.
pub fn unknown(what: &str, code: i16) -> StoreError {
    StoreError::Fault(format!("the store holds {what} {code}, which this release does not know"))
}
