//! What ends sessions everywhere, whatever node they are on: a login that was revoked, or everything of one user.

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// What was taken back. Every node closes the live sessions that stand on it and forgets what it knew of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Revoked {
    /// A login or an access token, by the SHA-256 of its secret: closed with 4003.
    Login([u8; 32]),
    /// Every session of a user, whatever its credentials, but those of the login `but`.
    User { user: UserId, but: Option<[u8; 32]>, ending: Ending },
    /// Nothing ends: what is known of this user, such as the name, is out of date.
    Known(UserId),
    /// Everything of a person who was erased: their sessions close with 4003, and rooms forget what they wrote.
    Person(UserId),
}

/// What the clients of those sessions are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// 4003: don't come back (revoked, banned from the server, erased).
    Revoked,
    /// 4300: come back with credentials that are good.
    SignIn,
}

impl Revoked {
    /// Every session of a user, with 4003.
    pub fn user(user: UserId) -> Self {
        Self::User { user, but: None, ending: Ending::Revoked }
    }
}
