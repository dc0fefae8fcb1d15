//! What an access token may be used for. A login and a JWT may be used for everything their user may do; a token for
//! what its scopes say, and, where it names a room, in that room alone. Roles in rooms count besides.

use serde::{Deserialize, Serialize};

use crate::ids::RoomId;
use crate::refusal::Refusal;

/// One kind of use. The numbers are bits in the store: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Scope {
    /// Rooms, members, histories, searches; subscribing; one's own read marks.
    Read = 1,
    /// Sending, editing, deleting, reacting, typing.
    Write = 2,
    /// Making, changing, joining and leaving rooms; members, bans, direct rooms.
    Rooms = 4,
    /// The account itself: name, sessions, access tokens, export, erasure.
    Account = 8,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Rooms, Self::Account];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Rooms => "rooms",
            Self::Account => "account",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    pub const ALL: Self = Self(15);

    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.has(*scope)).map(Scope::as_str).collect()
    }

    /// As the store has them.
    pub fn bits(self) -> i16 {
        i16::from(self.0)
    }

    /// Bits that mean nothing to this release grant nothing.
    pub fn from_bits(bits: i16) -> Self {
        Self(u8::try_from(bits & 15).unwrap_or(0))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope as u8))
    }
}

/// What an access token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scopes: Scopes,
    /// Nothing but this room.
    pub room: Option<RoomId>,
}

/// What a request needs of the credentials it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// That they are good.
    Nothing,
    /// A scope, and for a token of one room that it is about that room.
    Scope(Scope, Option<&'a RoomId>),
}

impl Grant {
    /// # Errors
    /// `forbidden` that names the scope that is missing, or the room that the token is for.
    pub fn allows(&self, need: Need<'_>) -> Result<(), Refusal> {
        let Need::Scope(scope, room) = need else { return Ok(()) };
        if !self.scopes.has(scope) {
            return Err(Refusal::forbidden(format!("this access token lacks the scope {}", scope.as_str())));
        }
        match &self.room {
            Some(only) if room != Some(only) => {
                Err(Refusal::forbidden(format!("this access token is for the room {only} alone")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_what_its_scopes_say_in_its_room() {
        let room = |id: &str| RoomId::parse(id).expect("a valid id");
        let (lobby, other) = (room("lobby"), room("other"));
        let grant = Grant { scopes: [Scope::Read, Scope::Write].into_iter().collect(), room: None };
        assert!(grant.allows(Need::Scope(Scope::Read, None)).is_ok());
        assert!(grant.allows(Need::Scope(Scope::Write, Some(&lobby))).is_ok());
        let refused = grant.allows(Need::Scope(Scope::Account, None)).expect_err("not granted");
        assert!(refused.message.ends_with("scope account"), "{}", refused.message);
        let grant = Grant { room: Some(lobby.clone()), ..grant };
        assert!(grant.allows(Need::Scope(Scope::Read, Some(&lobby))).is_ok());
        assert!(grant.allows(Need::Scope(Scope::Read, Some(&other))).is_err());
        assert!(grant.allows(Need::Scope(Scope::Read, None)).is_err());
        assert!(grant.allows(Need::Nothing).is_ok());
    }

    #[test]
    fn bits_go_there_and_back() {
        for bits in 0..16 {
            assert_eq!(Scopes::from_bits(bits).bits(), bits);
        }
        assert_eq!(Scopes::from_bits(-1), Scopes::ALL);
        assert_eq!(Scopes::from_bits(16), Scopes::default());
        assert_eq!(Scopes::ALL.names(), ["read", "write", "rooms", "account"]);
    }
}
