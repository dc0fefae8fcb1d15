//! Passwords: argon2id on blocking threads.
//!
//! Invariants: no more checks run at once than there are cores, since each takes 19 MiB and a core for tens of
//! milliseconds; a few times as many may wait, the next is told that it is too many.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus::IntGauge;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::Semaphore;

use super::AuthError;

/// 19 MiB, two passes, one lane: OWASP's first recommendation for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Checks that run or wait, for each one that may run.
const WAITING: usize = 16;

pub(super) struct Passwords {
    running: Semaphore,
    held: AtomicUsize,
    most: usize,
    /// Tells how many are held.
    gauge: IntGauge,
}

impl Passwords {
    pub(super) fn new(gauge: IntGauge) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { running: Semaphore::new(cores), held: AtomicUsize::new(0), most: cores * WAITING, gauge }
    }

    pub(super) async fn hash(&self, password: String) -> Result<String, AuthError> {
        self.run(move || hash(&password)).await?
    }

    /// Whether the password is the one that was hashed. Without a hash the same work is done, and the answer is no.
    pub(super) async fn check(&self, password: String, hash: Option<String>) -> Result<bool, AuthError> {
        self.run(move || match hash {
            Some(hash) => verify(&password, &hash),
            None => match &*DECOY {
                Some(decoy) => verify(&password, decoy).map(|_| false),
                None => Ok(false),
            },
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let _held = Held::take(self).ok_or(AuthError::Overloaded)?;
        let _permit = self.running.acquire().await.map_err(|_| AuthError::Unavailable("stopping".to_owned()))?;
        tokio::task::spawn_blocking(work).await.map_err(|_| AuthError::Fault("checking a password failed".to_owned()))
    }
}

/// A place among those that run or wait; given back when dropped, also when the caller goes away.
struct Held<'a>(&'a Passwords);

impl<'a> Held<'a> {
    fn take(of: &'a Passwords) -> Option<Self> {
        of.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < of.most).then_some(n + 1)).ok()?;
        of.gauge.inc();
        Some(Self(of))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.gauge.dec();
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A hash of nobody's password, with our parameters.
static DECOY: LazyLock<Option<String>> = LazyLock::new(|| hash("nobody's password").ok());

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).expect("the constants above are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String, AuthError> {
    let fault = |what: &str| AuthError::Fault(format!("hashing a password: {what}"));
    let mut salt = [0; 16];
    OsRng.try_fill_bytes(&mut salt).map_err(|_| fault("no randomness"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| fault("the salt"))?;
    let hash = argon2().hash_password(password.as_bytes(), &salt).map_err(|_| fault("argon2"))?;
    Ok(hash.to_string())
}

fn verify(password: &str, hash: &str) -> Result<bool, AuthError> {
    let hash =
        PasswordHash::new(hash).map_err(|_| AuthError::Fault("a stored password hash can't be read".to_owned()))?;
    // Its own parameters count, so that accounts outlive a change of ours.
    match argon2().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(_) => Err(AuthError::Fault("a stored password hash can't be checked".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge() -> IntGauge {
        IntGauge::new("waiting", "Those who wait.").expect("a name")
    }

    #[tokio::test]
    async fn a_password_matches_its_hash_and_nothing_else() {
        let passwords = Passwords::new(gauge());
        let hash = passwords.hash("correct horse".to_owned()).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(passwords.hash("correct horse".to_owned()).await.as_ref(), Ok(&hash), "the salt is random");
        assert_eq!(passwords.check("correct horse".to_owned(), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.check("correct hors".to_owned(), Some(hash)).await, Ok(false));
        assert_eq!(passwords.check("nobody's password".to_owned(), None).await, Ok(false));
        let broken = passwords.check("x".to_owned(), Some("not a hash".to_owned())).await;
        assert!(matches!(broken, Err(AuthError::Fault(_))));
    }

    #[test]
    fn those_who_wait_are_bounded_and_places_come_back() {
        let passwords = Passwords { most: 1, ..Passwords::new(gauge()) };
        let first = Held::take(&passwords);
        assert!(first.is_some());
        assert!(Held::take(&passwords).is_none());
        assert_eq!(passwords.gauge.get(), 1);
        drop(first);
        assert_eq!(passwords.gauge.get(), 0);
        assert!(Held::take(&passwords).is_some());
    }
}
