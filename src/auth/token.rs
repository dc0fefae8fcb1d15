//! Session tokens: 256 random bits behind a prefix by which leaked ones can be found; stored as SHA-256 alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// What every session token starts with.
pub const TOKEN_PREFIX: &str = "rts_";
/// Characters of a session token: the prefix and 32 bytes in unpadded base64.
const LENGTH: usize = TOKEN_PREFIX.len() + 43;

/// What the token of every invitation starts with.
const INVITATION_PREFIX: &str = "rti_";

/// A new session token.
pub(super) fn random() -> Secret {
    random_behind(TOKEN_PREFIX)
}

/// The token of a new invitation.
pub fn invitation_token() -> Secret {
    random_behind(INVITATION_PREFIX)
}

/// The name of an invitation's token in the store; `None` where it does not have the form of one.
pub fn invitation_hash(token: &str) -> Option<[u8; 32]> {
    (token.len() == LENGTH && token.starts_with(INVITATION_PREFIX)).then(|| Sha256::digest(token.as_bytes()).into())
}

fn random_behind(prefix: &str) -> Secret {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness; without it no login is safe");
    Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The name of a session token in the store; `None` where it does not have the form of one.
///
/// A plain hash is enough: what is hashed is random, so there is nothing to guess.
pub fn token_hash(token: &str) -> Option<[u8; 32]> {
    (token.len() == LENGTH && token.starts_with(TOKEN_PREFIX)).then(|| Sha256::digest(token.as_bytes()).into())
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
        let (a, b) = (random(), random());
        assert_ne!(a.expose(), b.expose());
        assert_ne!(token_hash(a.expose()), token_hash(b.expose()));
        assert!(token_hash(a.expose()).is_some());
        for other in ["", "rts_", "rts_short", "a.b.c", &a.expose()[1..]] {
            assert_eq!(token_hash(other), None, "{other}");
        }
    }

    #[test]
    fn a_csrf_token_belongs_to_one_session_token() {
        let (a, b) = (random(), random());
        assert!(csrf_matches(a.expose(), &csrf_token(a.expose())));
        assert!(!csrf_matches(a.expose(), &csrf_token(b.expose())));
        assert!(!csrf_matches(a.expose(), ""));
        assert!(!csrf_token(a.expose()).contains(a.expose()));
    }
}
