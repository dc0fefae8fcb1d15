//! JWTs for the people of a test, so that no test needs to register anybody.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// `auth.jwt.secret` of every node that the tests start.
pub const SECRET: &str = "a-secret-that-only-the-tests-know-0123456789";

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token of `user` that is good for an hour.
pub fn of(user: &str) -> String {
    lasting(user, 3600)
}

/// A token of `user` that ends in `seconds`.
pub fn lasting(user: &str, seconds: u64) -> String {
    signed(&json!({"sub": user, "exp": now_s() + seconds}))
}

/// A token of a person who may do in every room what an owner may.
pub fn admin(user: &str) -> String {
    signed(&json!({"sub": user, "exp": now_s() + 3600, "roles": ["admin"]}))
}

/// Any claims, signed as the nodes expect it.
pub fn signed(claims: &Value) -> String {
    signed_with(Algorithm::HS256, SECRET, claims)
}

/// Any claims with any HMAC algorithm and secret.
pub fn signed_with(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims are JSON")
}
