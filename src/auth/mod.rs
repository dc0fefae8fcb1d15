//! Who somebody is: JSON Web Tokens of others, logins of our own, passwords.
//!
//! Invariants: no token, password or hash is ever logged or part of an error; a key verifies only the algorithm that it is
//! for; caches and the work that waits are bounded; a JWT of a user seen lately touches no store.

mod cache;
mod device;
pub mod guessable;
pub mod keys;
mod lookup;
pub mod oidc;
mod password;
mod seen;
#[cfg(test)]
mod tests;
mod throttle;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config;
use crate::domain::revoked::Revoked;
use crate::domain::scopes::{Grant, Need, Scopes};
use crate::ids::{Millis, UserId};
use crate::metrics::Metrics;
use crate::ports::{
    Created, Device, Login, MessageStore, NEVER, NewCredential, SecretHash, Standing, StoreError, User,
};
use crate::protocol::text;
use crate::refusal::Refusal;
use cache::Cache;
use keys::Keys;
use lookup::Lookups;
use oidc::Oidc;
use password::Passwords;
use seen::Seen;
pub use throttle::host;
use throttle::{Throttle, Who};
pub use token::{ACCESS_PREFIX, TOKEN_PREFIX, csrf_matches, csrf_token, invitation_hash, invitation_token, token_hash};

/// Somebody whose credentials were right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: User,
    /// May do in every room what an owner may.
    pub admin: bool,
    /// When the credentials end, Unix milliseconds.
    pub expires_at: Option<Millis>,
    /// SHA-256 of the session or access token, where that was it: its name in the store.
    pub login: Option<SecretHash>,
    pub by: By,
    /// What an access token is good for; `None`: everything that the user may do.
    pub grant: Option<Box<Grant>>,
    /// How much had been revoked when this was found right; see [`Authenticator::is_current`].
    pub as_of: u64,
}

/// How somebody's credentials came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Login,
    Token,
    Jwt,
}

impl Identity {
    /// What the credentials may be used for, roles apart.
    pub fn scopes(&self) -> Scopes {
        self.grant.as_ref().map_or(Scopes::ALL, |grant| grant.scopes)
    }

    /// # Errors
    /// `forbidden` that names what the credentials lack.
    pub fn allows(&self, need: Need<'_>) -> Result<(), Refusal> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.allows(need))
    }
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Wrong or expired credentials; the text says what is wrong, without quoting them.
    #[error("{0}")]
    Unauthenticated(String),
    /// They are right, and whoever they are of may not come in.
    #[error("{0}")]
    Banned(&'static str),
    /// Whether they are right can't be known now.
    #[error("{0}")]
    Unavailable(String),
    /// Too many passwords wait to be checked.
    #[error("too many logins at once")]
    Overloaded,
    /// Too many wrong passwords; how long to wait.
    #[error("too many wrong passwords for this user")]
    Throttled(Duration),
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
            AuthError::Banned(reason) => Self::forbidden(reason),
            AuthError::Unavailable(_) => Self::unavailable("credentials can't be checked now"),
            AuthError::Overloaded => Self::overloaded("too many logins at once"),
            AuthError::Throttled(wait) => {
                let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
                Self::rate_limited("too many wrong passwords for this user; wait, then try again", ms)
            }
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
    pub hash: SecretHash,
    /// Unix milliseconds.
    pub created_at: Millis,
    /// Unix milliseconds.
    pub expires_at: Millis,
    /// Logins that ended to make room.
    pub ended: Vec<SecretHash>,
}

/// How long a user that a JWT named is taken as known.
const KNOWN_USERS: Duration = Duration::from_secs(600);
const KNOWN_USERS_MOST: usize = 65_536;
/// How long a login that was looked up is taken as still there: the longest that a revoked one is honoured.
const LOGINS: Duration = Duration::from_secs(2);
/// The same while this node is sure to hear of what is revoked: alone, or no longer than [`LOGINS`] after it last read
/// what was.
const LOGINS_HEARD: Duration = Duration::from_secs(60);
const LOGINS_MOST: usize = 16_384;
/// How often a login's last use is written, at most.
const SEEN_EVERY_MS: Millis = 4 * 60 * 1_000;
/// Logins of one user; with one more the longest unused one ends.
const USER_LOGINS: u32 = 100;
/// Access tokens of one user.
pub const USER_TOKENS: u32 = 50;
/// How often credentials are looked at again because something was revoked meanwhile.
const LOOKS: usize = 5;

/// Somebody whose password was right.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    pub user: User,
    /// For the client's cookie, by which it is known again when somebody guesses at the password.
    pub device: String,
    password_hash: String,
}
/// How long somebody who was neither banned nor erased is taken as such. Every node is told of a change at once, and looks
/// for changes besides (`jobs/cut_off.rs`).
const GOOD: Duration = Duration::from_secs(60);

/// Checks credentials. One a node, shared.
pub struct Authenticator {
    keys: Keys,
    oidc: Option<Oidc>,
    store: Arc<dyn MessageStore>,
    session: Duration,
    known_users: Cache<UserId, Option<String>>,
    logins: Cache<SecretHash, Login>,
    lookups: Lookups,
    seen: Seen,
    /// Users of good standing.
    good: Cache<UserId, ()>,
    passwords: Passwords,
    throttle: Throttle,
    /// How often something was revoked.
    revoked: AtomicU64,
    started: Instant,
    /// When what was revoked was last read, in milliseconds after the start, plus one; 0: never; `u64::MAX`: nobody else
    /// can revoke.
    heard_ms: AtomicU64,
}

impl Authenticator {
    /// # Errors
    /// A key that can't be read, as a wrong setting.
    pub fn new(auth: &config::Auth, store: Arc<dyn MessageStore>, metrics: &Metrics) -> Result<Self, config::Invalid> {
        Ok(Self {
            keys: Keys::load(&auth.jwt)?,
            lookups: Lookups::new(store.clone()),
            oidc: Oidc::new(&auth.oidc)?,
            store,
            session: Duration::from_secs(u64::from(auth.session_days) * 24 * 60 * 60),
            known_users: Cache::new(KNOWN_USERS_MOST, KNOWN_USERS),
            logins: Cache::new(LOGINS_MOST, LOGINS_HEARD),
            seen: Seen::default(),
            good: Cache::new(KNOWN_USERS_MOST, GOOD),
            passwords: Passwords::new(metrics.password_hashes_waiting.clone()),
            throttle: Throttle::new(),
            revoked: AtomicU64::new(0),
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
        })
    }

    /// Login by a provider, where the settings name one.
    pub fn oidc(&self) -> Option<&Oidc> {
        self.oidc.as_ref()
    }

    /// No other node can revoke anything.
    pub fn stands_alone(&self) {
        self.heard_ms.store(u64::MAX, Ordering::Release);
    }

    /// Everything that was revoked before `at` is known here.
    pub fn heard(&self, at: Instant) {
        let ms = at.saturating_duration_since(self.started).as_millis() as u64 + 1;
        self.heard_ms.fetch_max(ms, Ordering::AcqRel);
    }

    /// How long a login that was found is taken as still there now.
    fn trust(&self) -> Duration {
        let heard = self.heard_ms.load(Ordering::Acquire);
        let now = self.started.elapsed().as_millis() as u64 + 1;
        if heard != 0 && now.saturating_sub(heard) < LOGINS.as_millis() as u64 { LOGINS_HEARD } else { LOGINS }
    }

    /// Whether nothing was revoked since `identity` was found right. Whoever lets somebody in must ask this after
    /// anything else it waited for; and what is revoked afterwards finds them among those who are in.
    pub fn is_current(&self, identity: &Identity) -> bool {
        self.revoked.load(Ordering::Acquire) == identity.as_of
    }

    /// Whose this token is: a session or access token of ours, or a JWT.
    ///
    /// # Errors
    /// [`AuthError`]
    pub async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        for _ in 0..LOOKS {
            let identity = self.look(token).await?;
            self.check_standing(&identity.user.id).await?;
            if self.is_current(&identity) {
                return Ok(identity);
            }
        }
        Err(AuthError::Unavailable("too much is being revoked".to_owned()))
    }

    /// Whether somebody, whatever proves who they are, may come in at all. Only a good standing is remembered, so that
    /// a ban that is lifted counts at once.
    async fn check_standing(&self, user: &UserId) -> Result<(), AuthError> {
        if self.good.get(user).is_some() {
            return Ok(());
        }
        let as_of = self.revoked.load(Ordering::Acquire);
        match self.store.standing(user).await? {
            Standing::Good => self.good.put(user.clone(), ()),
            Standing::Banned => return Err(AuthError::Banned("you are banned from this server")),
            Standing::Erased => return Err(AuthError::wrong("the user of these credentials is gone")),
        }
        if self.revoked.load(Ordering::Acquire) != as_of {
            // It may have been read before it changed: whoever needs it looks again.
            self.good.remove(user);
        }
        Ok(())
    }

    /// The same identity again, after something was revoked.
    ///
    /// # Errors
    /// [`AuthError`]
    pub async fn again(&self, identity: &Identity) -> Result<Identity, AuthError> {
        for _ in 0..LOOKS {
            let as_of = self.revoked.load(Ordering::Acquire);
            let identity = match identity.login {
                Some(hash) => self.by_login(hash, now_ms(), as_of).await?,
                None => {
                    self.known(&identity.user.id, None).await?;
                    Identity { as_of, ..identity.clone() }
                }
            };
            self.check_standing(&identity.user.id).await?;
            if self.is_current(&identity) {
                return Ok(identity);
            }
        }
        Err(AuthError::Unavailable("too much is being revoked".to_owned()))
    }

    async fn look(&self, token: &str) -> Result<Identity, AuthError> {
        let (now, as_of) = (now_ms(), self.revoked.load(Ordering::Acquire));
        if let Some(hash) = token_hash(token) {
            return self.by_login(hash, now, as_of).await;
        }
        let claims = self.keys.verify(token, now)?;
        let name = self.known(&claims.user, claims.name).await?;
        Ok(Identity {
            user: User { id: claims.user, name },
            admin: claims.admin,
            expires_at: Some(claims.expires_at),
            login: None,
            by: By::Jwt,
            grant: None,
            as_of,
        })
    }

    async fn by_login(&self, hash: SecretHash, now: Millis, as_of: u64) -> Result<Identity, AuthError> {
        let login = match self.logins.younger(&hash, self.trust()) {
            Some(login) => login,
            None => {
                let login = self.lookups.find(hash).await?;
                let login = login.ok_or_else(|| AuthError::wrong("the token is unknown, ended or expired"))?;
                if now - login.last_seen_at >= SEEN_EVERY_MS {
                    self.seen.note(hash, now);
                }
                self.logins.put(hash, login.clone());
                if self.revoked.load(Ordering::Acquire) != as_of {
                    // It may have been revoked after it was read: whoever uses it looks again.
                    self.logins.remove(&hash);
                }
                login
            }
        };
        if login.expires_at <= now {
            return Err(AuthError::wrong("the token is unknown, ended or expired"));
        }
        Ok(Identity {
            user: login.user,
            admin: false,
            expires_at: Some(login.expires_at).filter(|end| *end < NEVER),
            login: Some(hash),
            by: if login.grant.is_some() { By::Token } else { By::Login },
            grant: login.grant.map(Box::new),
            as_of,
        })
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

    /// Checks a password; takes as long for a user that is not there. `from`: where the try came from; `device`: the
    /// cookie of a device that claims to have logged in before.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], the same for either being wrong; [`AuthError::Throttled`]; others of [`AuthError`].
    pub async fn check_password(
        &self,
        user: &UserId,
        password: &str,
        from: IpAddr,
        device: Option<&str>,
    ) -> Result<LoggedIn, AuthError> {
        let wrong = || AuthError::wrong("wrong user or password");
        let password = text::password(password).map_err(|_| wrong())?;
        let stored = self.store.password_hash(user).await?;
        let counted = self.count_try(user, from, stored.as_ref().zip(device)).await?;
        let hash = stored.as_ref().map(|(_, hash)| hash.clone());
        match self.passwords.check(password, hash).await {
            Ok(true) => {}
            Ok(false) => return Err(wrong()),
            Err(error) => {
                counted.iter().for_each(|who| self.throttle.forgive(who));
                return Err(error);
            }
        }
        for who in &counted {
            match who {
                Who::Anywhere(_) => self.throttle.forgive(who),
                who => self.throttle.forget(who),
            }
        }
        let (user, password_hash) = stored.ok_or_else(wrong)?;
        self.check_standing(&user.id).await?;
        let device = device::cookie(&user.id, &password_hash)?;
        Ok(LoggedIn { user, device, password_hash })
    }

    /// Counts a try at a password; gives the counts it stands in.
    async fn count_try(
        &self,
        user: &UserId,
        from: IpAddr,
        known: Option<(&(User, String), &str)>,
    ) -> Result<Vec<Who>, AuthError> {
        let now = Instant::now();
        if let Some(nonce) = known.and_then(|((_, hash), cookie)| device::check(user, hash, cookie)) {
            let device = Who::Device(user.clone(), nonce);
            self.throttle.begin(&device, now).map_err(AuthError::Throttled)?;
            return Ok(vec![device]);
        }
        let (here, anywhere) = (Who::From(user.clone(), host(from)), Who::Anywhere(user.clone()));
        self.throttle.begin(&here, now).map_err(AuthError::Throttled)?;
        match self.throttle.begin(&anywhere, now) {
            Ok(()) => Ok(vec![here, anywhere]),
            Err(wait) => match self.store.logged_in_from(user, &from.to_string(), now_ms()).await {
                Ok(true) => Ok(vec![here]),
                Ok(false) => {
                    self.throttle.forgive(&here);
                    Err(AuthError::Throttled(wait))
                }
                Err(error) => {
                    self.throttle.forgive(&here);
                    Err(error.into())
                }
            },
        }
    }

    /// Sets a new password, which must satisfy [`text::password`] and [`guessable::check`], for somebody whose old one was
    /// right; gives the cookie for their device. The logins that were made with the old one are the caller's to end.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] where the old one was changed meanwhile; others of [`AuthError`].
    pub async fn change_password(&self, old: &LoggedIn, new: String) -> Result<String, AuthError> {
        let hash = self.passwords.hash(new).await?;
        if !self.store.change_password(&old.user.id, &old.password_hash, &hash).await? {
            return Err(AuthError::wrong("the password was changed meanwhile"));
        }
        device::cookie(&old.user.id, &hash)
    }

    /// The cookie for the device of somebody who has just registered.
    ///
    /// # Errors
    /// [`AuthError::Fault`]
    pub fn device_of(&self, user: &UserId, password_hash: &str) -> Result<String, AuthError> {
        device::cookie(user, password_hash)
    }

    /// Makes a login for a user who has proved to be it. Those of their logins that are too many by now are gone, and
    /// named in the answer: the caller tells the nodes.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`], [`AuthError::Fault`]
    pub async fn issue(&self, user: &UserId, device: Device) -> Result<Issued, AuthError> {
        let now = now_ms();
        let expires_at = now + self.session.as_millis() as Millis;
        let (token, hash) = token::random(TOKEN_PREFIX)?;
        let new =
            NewCredential { hash, user: user.clone(), created_at: now, expires_at, device, grant: None, name: None };
        let ended = self.store.create_credential(&new, USER_LOGINS).await?.unwrap_or_default();
        Ok(Issued { token, hash, created_at: now, expires_at, ended })
    }

    /// Makes an access token, good for `expires_in_s` (`None`: until it is revoked); `None`: the user has
    /// [`USER_TOKENS`] already.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`], [`AuthError::Fault`]
    pub async fn issue_token(
        &self,
        user: &UserId,
        name: String,
        grant: Grant,
        expires_in_s: Option<u64>,
    ) -> Result<Option<Issued>, AuthError> {
        let now = now_ms();
        let expires_at = expires_in_s.map_or(NEVER, |s| now.saturating_add(s as Millis * 1_000).min(NEVER));
        let (token, hash) = token::random(ACCESS_PREFIX)?;
        let new = NewCredential {
            hash,
            user: user.clone(),
            created_at: now,
            expires_at,
            device: Device::default(),
            grant: Some(grant),
            name: Some(name),
        };
        let made = self.store.create_credential(&new, USER_TOKENS).await?;
        Ok(made.map(|ended| Issued { token, hash, created_at: now, expires_at, ended }))
    }

    /// A live session stands on this login.
    pub fn in_use(&self, hash: SecretHash) {
        self.seen.note(hash, now_ms());
    }

    /// Logins whose last use is to be written, at most `most`; no longer noted here.
    pub fn take_seen(&self, most: usize) -> Vec<(SecretHash, Millis)> {
        self.seen.take(most)
    }

    /// No login is taken as known.
    pub fn forget_logins(&self) {
        self.logins.retain(|_| false);
    }

    /// What was revoked is not taken as known any more; whoever is being let in is looked at again.
    pub fn forget(&self, revoked: &Revoked) {
        let clean = || match revoked {
            Revoked::Login(hash) => self.logins.remove(hash),
            Revoked::User { user, .. } | Revoked::Known(user) | Revoked::Person(user) => {
                self.known_users.remove(user);
                self.good.remove(user);
                self.logins.retain(|login| login.user.id != *user);
            }
        };
        clean();
        self.revoked.fetch_add(1, Ordering::AcqRel);
        // Again: what was read before may have been put back by somebody who did not see the new number.
        clean();
    }
}

fn now_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
