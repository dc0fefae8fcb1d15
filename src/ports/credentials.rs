//! Logins, access tokens, and what was revoked of them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{StoreError, User};
use crate::domain::revoked::Revoked;
use crate::domain::scopes::Grant;
use crate::ids::{Millis, UserId};

/// SHA-256 of a token: its name in the store.
pub type SecretHash = [u8; 32];

/// What a login or access token is called where its owner sees it: the first half of its hash, which tells nothing of
/// the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CredentialId([u8; 16]);

impl CredentialId {
    pub fn of(hash: &SecretHash) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// # Errors
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be 32 hexadecimal digits, as in the list";
        let mut id = [0; 16];
        if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(RULE);
        }
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| RULE)?;
        }
        Ok(Self(id))
    }
}

impl std::fmt::Display for CredentialId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where somebody logged in from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// What the client calls itself.
    pub client: Option<String>,
    pub address: Option<String>,
}

/// What to make: a login, or with a grant an access token.
#[derive(Clone, Debug)]
pub struct NewCredential {
    pub hash: SecretHash,
    pub user: UserId,
    pub created_at: Millis,
    pub expires_at: Millis,
    pub device: Device,
    pub grant: Option<Grant>,
    pub name: Option<String>,
}

/// A login or an access token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: User,
    /// Unix milliseconds.
    pub expires_at: Millis,
    pub last_seen_at: Millis,
    /// `None`: a login, good for everything.
    pub grant: Option<Grant>,
}

/// One of somebody's own, as they see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub id: CredentialId,
    pub created_at: Millis,
    pub last_seen_at: Millis,
    pub expires_at: Millis,
    pub device: Device,
    pub grant: Option<Grant>,
    pub name: Option<String>,
}

/// Which of somebody's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Login,
    Token,
}

/// A place among what was revoked, by the store's own clock and count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevokedAt {
    pub at: Millis,
    pub no: i64,
}

/// A part of what was revoked.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// The store's clock when it was read.
    pub now: Millis,
    /// `None`: something that this release does not know.
    pub items: Vec<(RevokedAt, Option<Revoked>)>,
}

/// What [`CredentialStore::end_all`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep<'a> {
    /// Everything that was there goes.
    Nothing,
    /// Access tokens stay, and this login.
    TokensAnd(Option<&'a SecretHash>),
}

/// Whatever ends a credential is noted in the same transaction, for [`CredentialStore::revocations`].
#[async_trait]
pub trait CredentialStore: Send + Sync + 'static {
    /// Makes a login or an access token. Of more than `most` logins those end that were unused the longest; gives their
    /// hashes. Of more than `most` tokens none is made: `None`.
    async fn create_credential(
        &self,
        credential: &NewCredential,
        most: u32,
    ) -> Result<Option<Vec<SecretHash>>, StoreError>;

    /// The logins and access tokens of these hashes that are good at `now`.
    async fn logins(&self, hashes: &[SecretHash], now: Millis) -> Result<Vec<(SecretHash, Login)>, StoreError>;

    /// Those of `user` that are good at `now`, by id, after `cursor`.
    async fn credentials(
        &self,
        user: &UserId,
        kind: Kind,
        now: Millis,
        cursor: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>, StoreError>;

    /// Ends one by its hash; false where it was not there.
    async fn revoke_login(&self, hash: &SecretHash) -> Result<bool, StoreError>;

    /// Ends one of `user`'s by its id; gives its hash.
    async fn end_credential(
        &self,
        user: &UserId,
        kind: Kind,
        id: CredentialId,
    ) -> Result<Option<SecretHash>, StoreError>;

    /// Ends `user`'s credentials; gives their hashes.
    async fn end_all(&self, user: &UserId, keep: Keep<'_>) -> Result<Vec<SecretHash>, StoreError>;

    /// Notes what was revoked without a credential to end.
    async fn note_revoked(&self, revoked: &Revoked) -> Result<(), StoreError>;

    /// Raises `last_seen_at` of those that are still there.
    async fn seen(&self, logins: &[(SecretHash, Millis)]) -> Result<(), StoreError>;

    /// Whether a login of `user` that is good at `now` came from `address`.
    async fn logged_in_from(&self, user: &UserId, address: &str, now: Millis) -> Result<bool, StoreError>;

    /// Takes `new` for the password in the place of `old` (both PHC strings); false where it was another by now.
    async fn change_password(&self, user: &UserId, old: &str, new: &str) -> Result<bool, StoreError>;

    /// What was revoked after `after`, in the order of [`RevokedAt`], at most `limit`.
    async fn revocations(&self, after: RevokedAt, limit: u32) -> Result<Revocations, StoreError>;

    /// Removes at most `limit` logins and tokens that ended before `now`, and as much of what was revoked more than
    /// `keep_ms` ago; gives how many of either.
    async fn sweep_credentials(&self, now: Millis, keep_ms: i64, limit: u32) -> Result<u64, StoreError>;
}

/// The end of what has none: the last millisecond that a date with four digits for the year can say.
pub const NEVER: Millis = 253_402_300_799_999;
