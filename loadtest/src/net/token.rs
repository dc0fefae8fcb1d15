//! Session tokens that the run mints itself: a JWT needs no registration, so ten thousand users cost nothing before
//! the measurement.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Signs for a server with this `auth.jwt.secret`.
pub struct Mint {
    key: Hmac<Sha256>,
    expires: u64,
}

impl Mint {
    /// Tokens live for a day: longer than any run.
    pub fn new(secret: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let key = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
        Self { key, expires: now + 86_400 }
    }

    /// An HS256 JWT for `user`.
    pub fn token(&self, user: &str) -> String {
        self.sign(&format!(r#"{{"sub":"{user}","exp":{}}}"#, self.expires))
    }

    /// One that may do in every room what its owner may.
    pub fn admin_token(&self, user: &str) -> String {
        self.sign(&format!(r#"{{"sub":"{user}","exp":{},"roles":["admin"]}}"#, self.expires))
    }

    fn sign(&self, claims: &str) -> String {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let mut mac = self.key.clone();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_hs256() {
        let mint = Mint { key: Hmac::new_from_slice(b"secret").expect("any key"), expires: 1 };
        // Signature checked with OpenSSL's HMAC over the same two parts.
        assert_eq!(
            mint.token("a"),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIiwiZXhwIjoxfQ.mPgYfnc64PSqQnBxkoHEytG0Ja8oV_rDZo-mHWUdxzU"
        );
    }
}
