//! Session and access tokens: 256 random bits behind a prefix by which leaked ones can be found; stored as SHA-256 alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::AuthError;
use crate::config::Secret;
use crate::ports::SecretHash;

/// What every session token starts with.
pub const TOKEN_PREFIX: &str = "rts_";
/// What every access token starts with.
pub const ACCESS_PREFIX: &str = "rtp_";
/// Characters of a session token: the prefix and 32 bytes in unpadded base64.
const LENGTH: usize = TOKEN_PREFIX.len() + 43;

/// What the token of every invitation starts with.
const INVITATION_PREFIX: &str = "rti_";

/// The token of a new invitation, and its hash.
///
/// # Errors
/// A fault where the system has no randomness.
pub fn invitation_token() -> Result<(Secret, SecretHash), AuthError> {
    let token = random_behind(INVITATION_PREFIX)?;
    let hash = Sha256::digest(token.expose().as_bytes()).into();
    Ok((token, hash))
}

/// The name of an invitation's token in the store; `None` where it does not have the form of one.
pub fn invitation_hash(token: &str) -> Option<SecretHash> {
    (token.len() == LENGTH && token.starts_with(INVITATION_PREFIX)).then(|| Sha256::digest(token.as_bytes()).into())
}

/// A new token, and its hash.
pub(super) fn random(prefix: &str) -> Result<(Secret, SecretHash), AuthError> {
    let token = random_behind(prefix)?;
    let hash = token_hash(token.expose()).ok_or_else(|| AuthError::Fault("a new token has no hash".to_owned()))?;
    Ok((token, hash))
}

fn random_behind(prefix: &str) -> Result<Secret, AuthError> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| AuthError::Fault("no randomness".to_owned()))?;
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// The name of a token of ours in the store; `None` where it does not have the form of one.
///
/// A plain hash is enough: what is hashed is random, so there is nothing to guess.
pub fn token_hash(token: &str) -> Option<SecretHash> {
    let ours = token.starts_with(TOKEN_PREFIX) || token.starts_with(ACCESS_PREFIX);
    (token.len() == LENGTH && ours).then(|| Sha256::digest(token.as_bytes()).into())
}

/// The token that a page must send in `X-CSRF-Token` with the cookie: derived from the session token, so that there is
/// nothing to store, and useless to derive that from.
pub fn csrf_token(token: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(b"roundtable csrf v1");
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether `given` is the CSRF token of this session token, in constant time.
pub fn csrf_matches(token: &str, given: &str) -> bool {
    csrf_token(token).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_their_form() {
        let make = || random(TOKEN_PREFIX).expect("made").0;
        let (a, b) = (make(), make());
        assert_ne!(a.expose(), b.expose());
        assert_ne!(token_hash(a.expose()), token_hash(b.expose()));
        assert!(token_hash(a.expose()).is_some());
        for other in ["", "rts_", "rts_short", "a.b.c", &a.expose()[1..]] {
            assert_eq!(token_hash(other), None, "{other}");
        }
    }

    #[test]
    fn a_csrf_token_belongs_to_one_session_token() {
        let make = || random(TOKEN_PREFIX).expect("made").0;
        let (a, b) = (make(), make());
        assert!(csrf_matches(a.expose(), &csrf_token(a.expose())));
        assert!(!csrf_matches(a.expose(), &csrf_token(b.expose())));
        assert!(!csrf_matches(a.expose(), ""));
        assert!(!csrf_token(a.expose()).contains(a.expose()));
    }
}
