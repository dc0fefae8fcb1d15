//! The cookie of a device that has logged in before. It lets nobody in: it only says that a try is not to be counted
//! among those of strangers ([`super::throttle`]).
//!
//! Its code is made with the stored password hash as the key: so any node can check it, there is nothing to keep, and a
//! new password ends it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;

use super::AuthError;
use crate::ids::UserId;

type Nonce = [u8; 16];

fn code(user: &UserId, password_hash: &str, nonce: &Nonce) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(password_hash.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(b"roundtable device v1");
    mac.update(nonce);
    mac.update(user.as_str().as_bytes());
    mac
}

/// A new cookie's value for a user whose password was right.
pub(super) fn cookie(user: &UserId, password_hash: &str) -> Result<String, AuthError> {
    let mut nonce = Nonce::default();
    OsRng.try_fill_bytes(&mut nonce).map_err(|_| AuthError::Fault("no randomness".to_owned()))?;
    let code = code(user, password_hash, &nonce).finalize().into_bytes();
    Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(nonce), URL_SAFE_NO_PAD.encode(code)))
}

/// The cookie's own number, where it is one of this user's.
pub(super) fn check(user: &UserId, password_hash: &str, cookie: &str) -> Option<Nonce> {
    let (nonce, given) = cookie.split_once('.')?;
    let nonce: Nonce = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
    let given = URL_SAFE_NO_PAD.decode(given).ok()?;
    // Compares in constant time.
    code(user, password_hash, &nonce).verify_slice(&given).ok().map(|()| nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_one_user_s_and_ends_with_the_password() {
        let user = |id: &str| UserId::parse(id).expect("a valid id");
        let cookie = cookie(&user("alice"), "hash one").expect("made");
        assert!(check(&user("alice"), "hash one", &cookie).is_some());
        assert!(check(&user("bob"), "hash one", &cookie).is_none());
        assert!(check(&user("alice"), "hash two", &cookie).is_none());
        for bad in ["", ".", "a.b", &cookie[..cookie.len() - 1], &format!("{cookie}AA")] {
            assert!(check(&user("alice"), "hash one", bad).is_none(), "{bad}");
        }
    }
}
