//! Who somebody is: JSON Web Tokens of others, logins of our own, passwords.
//!
//! Invariants: no token, password or hash is ever logged or part of an error; a key verifies only the algorithm that it is
//! for; caches and the work that waits are bounded; a JWT of a user seen lately touches no store.

mod cache;
pub mod keys;
pub mod oidc;
mod password;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config;
use crate::ids::{Millis, UserId};
use crate::ports::{Created, Login, MessageStore, StoreError, User};
use crate::protocol::text;
use crate::refusal::Refusal;
use cache::Cache;
use keys::Keys;
use oidc::Oidc;
use password::Passwords;
pub use token::{TOKEN_PREFIX, csrf_matches, csrf_token, token_hash};

/// Somebody whose credentials were right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: User,
    /// May do in every room what an owner may.
    pub admin: bool,
    /// When the credentials end, Unix milliseconds.
    pub expires_at: Option<Millis>,
    /// SHA-256 of the session token, where that was it: the name of the login.
    pub login: Option<[u8; 32]>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Wrong or expired credentials; the text says what is wrong, without quoting them.
    #[error("{0}")]
    Unauthenticated(String),
    /// Whether they are right can't be known now.
    #[error("{0}")]
    Unavailable(String),
    /// Too many passwords wait to be checked.
    #[error("too many logins at once")]
    Overloaded,
    /// A fault on our side.
    #[error("{0}")]
    Fault(String),
}

impl AuthError {
    fn wrong(reason: impl Into<String>) -> Self {
        Self::Unauthenticated(reason.into())
    }
}

impl From<StoreError> for AuthError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Fault(why) => Self::Fault(why),
        }
    }
}

impl From<AuthError> for Refusal {
    /// What the client is told. The texts of `Unavailable` and `Fault` are for the log.
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(reason) => Self::unauthenticated(reason),
            AuthError::Unavailable(_) => Self::unavailable("credentials can't be checked now"),
            AuthError::Overloaded => Self::overloaded("too many logins at once"),
            AuthError::Fault(_) => {
                let id = crate::telemetry::fault_id();
                tracing::error!(fault.id = %id, error = %error, "credentials could not be checked");
                Self::internal(id)
            }
        }
    }
}

/// A login that was just made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// For the client alone; never stored or logged.
    pub token: config::Secret,
    /// Its name in the store.
    pub hash: [u8; 32],
    /// Unix milliseconds.
    pub expires_at: Millis,
}

/// How long a user that a JWT named is taken as known.
const KNOWN_USERS: Duration = Duration::from_secs(600);
const KNOWN_USERS_MOST: usize = 65_536;
/// How long a login that was looked up is taken as still there. Short: on other nodes than the one where it was revoked
/// it lives on for so long.
const LOGINS: Duration = Duration::from_secs(2);
const LOGINS_MOST: usize = 16_384;

/// Checks credentials. One a node, shared.
pub struct Authenticator {
    keys: Keys,
    oidc: Option<Oidc>,
    store: Arc<dyn MessageStore>,
    session: Duration,
    known_users: Cache<UserId, Option<String>>,
    logins: Cache<[u8; 32], Login>,
    passwords: Passwords,
}

impl Authenticator {
    /// # Errors
    /// A key that can't be read, as a wrong setting.
    pub fn new(auth: &config::Auth, store: Arc<dyn MessageStore>) -> Result<Self, config::Invalid> {
        Ok(Self {
            keys: Keys::load(&auth.jwt)?,
            oidc: Oidc::new(&auth.oidc)?,
            store,
            session: Duration::from_secs(u64::from(auth.session_days) * 24 * 60 * 60),
            known_users: Cache::new(KNOWN_USERS_MOST, KNOWN_USERS),
            logins: Cache::new(LOGINS_MOST, LOGINS),
            passwords: Passwords::new(),
        })
    }

    /// Login by a provider, where the settings name one.
    pub fn oidc(&self) -> Option<&Oidc> {
        self.oidc.as_ref()
    }

    /// Whose this token is: a session token of ours or a JWT.
    ///
    /// # Errors
    /// [`AuthError`]
    pub async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        let now = now_ms();
        if let Some(hash) = token_hash(token) {
            return self.by_login(hash, now).await;
        }
        let claims = self.keys.verify(token, now)?;
        let name = self.known(&claims.user, claims.name).await?;
        Ok(Identity {
            user: User { id: claims.user, name },
            admin: claims.admin,
            expires_at: Some(claims.expires_at),
            login: None,
        })
    }

    async fn by_login(&self, hash: [u8; 32], now: Millis) -> Result<Identity, AuthError> {
        let login = match self.logins.get(&hash) {
            Some(login) => login,
            None => {
                let login = self.store.login(&hash, now).await?;
                let login = login.ok_or_else(|| AuthError::wrong("the session token is unknown, ended or expired"))?;
                self.logins.put(hash, login.clone());
                login
            }
        };
        if login.expires_at <= now {
            return Err(AuthError::wrong("the session token is unknown, ended or expired"));
        }
        Ok(Identity { user: login.user, admin: false, expires_at: Some(login.expires_at), login: Some(hash) })
    }

    /// Makes sure that a JWT's user exists; gives the name they have now.
    async fn known(&self, user: &UserId, name: Option<String>) -> Result<Option<String>, AuthError> {
        if let Some(known) = self.known_users.get(user)
            && (name.is_none() || name == known)
        {
            return Ok(known);
        }
        if self.store.ensure_jwt_user(user, name.as_deref()).await? == Created::Taken {
            return Err(AuthError::wrong("the id in sub belongs to a password account or was given up"));
        }
        let name = match name {
            Some(name) => Some(name),
            None => self.store.user(user).await?.and_then(|user| user.name),
        };
        self.known_users.put(user.clone(), name.clone());
        Ok(name)
    }

    /// The PHC string to store for a new password, which must satisfy [`text::password`].
    ///
    /// # Errors
    /// [`AuthError::Overloaded`], [`AuthError::Fault`]
    pub async fn hash_password(&self, password: String) -> Result<String, AuthError> {
        self.passwords.hash(password).await
    }

    /// Checks a password; takes as long for a user that is not there.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], the same for either being wrong; others of [`AuthError`].
    pub async fn check_password(&self, user: &UserId, password: &str) -> Result<User, AuthError> {
        let wrong = || AuthError::wrong("wrong user or password");
        let password = text::password(password).map_err(|_| wrong())?;
        let (user, hash) = match self.store.password_hash(user).await? {
            Some((user, hash)) => (Some(user), Some(hash)),
            None => (None, None),
        };
        if self.passwords.check(password, hash).await? { user.ok_or_else(wrong) } else { Err(wrong()) }
    }

    /// Makes a login for a user whose password was right.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`], [`AuthError::Fault`]
    pub async fn issue(&self, user: &UserId) -> Result<Issued, AuthError> {
        let token = token::random();
        let hash = token_hash(token.expose()).ok_or_else(|| AuthError::Fault("a new token has no hash".to_owned()))?;
        let expires_at = now_ms() + self.session.as_millis() as Millis;
        self.store.create_login(&hash, user, expires_at).await?;
        Ok(Issued { token, hash, expires_at })
    }

    /// Ends a login here and in the store; false where there was none. Its live sessions are the caller's to close.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`], [`AuthError::Fault`]
    pub async fn revoke(&self, hash: &[u8; 32]) -> Result<bool, AuthError> {
        let was = self.store.revoke_login(hash).await?;
        self.forget(hash);
        Ok(was)
    }

    /// The next use of this login asks the store.
    pub fn forget(&self, hash: &[u8; 32]) {
        self.logins.remove(hash);
    }

    /// The next JWT of this user asks the store; for a user who was renamed or erased.
    pub fn forget_user(&self, user: &UserId) {
        self.known_users.remove(user);
    }
}

fn now_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
