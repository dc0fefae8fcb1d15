//! Keys that sign JSON Web Tokens, and the check of a token.
//!
//! Invariants: a key is made for one algorithm and verifies that one alone, so that a public key can't be passed off as
//! an HMAC secret; `none` is no algorithm; there is no leeway.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;

use super::AuthError;
use crate::config::{Invalid, Jwt};
use crate::ids::{Millis, UserId};
use crate::protocol::text;

/// What a token that was right says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub user: UserId,
    pub name: Option<String>,
    pub admin: bool,
    /// Unix milliseconds.
    pub expires_at: Millis,
}

/// The keys of the settings.
pub struct Keys {
    fixed: Vec<Key>,
    set: Option<KeySet>,
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Clone)]
struct Key {
    /// Tokens that name another one are not this key's.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Longest token looked at; longer ones are no tokens.
const TOKEN_BYTES: usize = 16 * 1024;
/// Most keys of a set; each is tried for a token that names none.
const SET_KEYS: usize = 32;
/// Shorter RSA keys can be broken.
const RSA_BITS: usize = 2_048;
/// How often a set's file is looked at for changes, at most.
const SET_CHECK: Duration = Duration::from_secs(1);

impl Keys {
    /// Reads the keys that the settings name.
    ///
    /// # Errors
    /// The setting whose key can't be read or used.
    pub fn load(jwt: &Jwt) -> Result<Self, Invalid> {
        let mut fixed = Vec::new();
        if !jwt.secret.is_empty() {
            let key = DecodingKey::from_secret(jwt.secret.expose().as_bytes());
            fixed.push(Key { id: None, algorithm: Algorithm::HS256, key });
        }
        if !jwt.public_key_file.is_empty() {
            let invalid = |why: &str| {
                let allowed = format!("a readable PEM file with an RSA, P-256 or Ed25519 public key ({why})");
                Invalid::new("auth.jwt.public_key_file", &jwt.public_key_file, &allowed)
            };
            let pem = std::fs::read(&jwt.public_key_file).map_err(|error| invalid(&error.to_string()))?;
            fixed.push(from_pem(&pem).map_err(invalid)?);
        }
        let set = if jwt.jwks_file.is_empty() {
            None
        } else {
            Some(KeySet::load(&jwt.jwks_file).map_err(|why| {
                let allowed = format!("a readable JSON Web Key Set with an RSA, P-256 or Ed25519 public key ({why})");
                Invalid::new("auth.jwt.jwks_file", &jwt.jwks_file, &allowed)
            })?)
        };
        let set_one = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self { fixed, set, issuer: set_one(&jwt.issuer), audience: set_one(&jwt.audience) })
    }

    /// Checks a token as of `now`.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] that says what is wrong.
    pub fn verify(&self, token: &str, now: Millis) -> Result<Claims, AuthError> {
        let wrong = AuthError::wrong;
        if self.fixed.is_empty() && self.set.is_none() {
            return Err(wrong("no session token of ours, and this server takes no JWT"));
        }
        if token.len() > TOKEN_BYTES {
            return Err(wrong("the token is too long"));
        }
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| wrong("the token is not a JWT that can be read"))?;
        if header.crit.is_some() {
            return Err(wrong("the JWT has critical extensions, which are not known here"));
        }
        let set = self.set.as_ref().map(KeySet::current);
        let keys = self.fixed.iter().chain(set.iter().flat_map(|keys| keys.iter()));
        let mut fitting = keys
            .filter(|key| key.algorithm == header.alg)
            .filter(|key| key.id.is_none() || header.kid.is_none() || key.id == header.kid)
            .peekable();
        if fitting.peek().is_none() {
            return Err(wrong("no key is known for the JWT's algorithm and kid"));
        }
        let claims = fitting
            .find_map(|key| jsonwebtoken::decode::<RawClaims>(token, &key.key, &signature_alone(key.algorithm)).ok())
            .ok_or_else(|| wrong("the JWT's signature does not match, or its claims can't be read"))?
            .claims;
        self.check(claims, now)
    }

    /// As if a while had passed since the set's file was last looked at.
    #[cfg(test)]
    pub(super) fn look_again(&self) {
        if let Some(set) = &self.set {
            set.state.lock().unwrap_or_else(PoisonError::into_inner).looked = None;
        }
    }

    fn check(&self, claims: RawClaims, now: Millis) -> Result<Claims, AuthError> {
        let wrong = AuthError::wrong;
        let expires_at = instant(claims.exp.ok_or_else(|| wrong("the JWT has no exp"))?);
        if expires_at <= now {
            return Err(wrong("the JWT has expired"));
        }
        if claims.nbf.is_some_and(|nbf| instant(nbf) > now) {
            return Err(wrong("the JWT is not valid yet (nbf)"));
        }
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(wrong("the JWT is of another issuer (iss)"));
        }
        if let Some(audience) = &self.audience
            && !claims.aud.is_some_and(|aud| aud.names(audience))
        {
            return Err(wrong("the JWT is for another audience (aud)"));
        }
        let sub = claims.sub.ok_or_else(|| wrong("the JWT has no sub"))?;
        let user = UserId::parse(&sub).map_err(|rule| AuthError::Unauthenticated(format!("the JWT's sub: {rule}")))?;
        let name = claims.name.map(|name| text::name(&name)).transpose();
        let name = name.map_err(|refusal| AuthError::Unauthenticated(format!("the JWT's {}", refusal.message)))?;
        let admin = claims.roles.is_some_and(|roles| roles.iter().any(|role| role == "admin"));
        Ok(Claims { user, name, admin, expires_at })
    }
}

/// The library checks the signature; the claims are checked here, to the millisecond.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

#[derive(Deserialize)]
struct RawClaims {
    sub: Option<String>,
    /// Seconds, as RFC 7519 has them: fractions are allowed.
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    name: Option<String>,
    roles: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// The end of time is a few hundred thousand years off: what is later than a date can say means that.
fn instant(seconds: f64) -> Millis {
    const LAST: f64 = 253_402_300_799_999.0;
    (seconds * 1_000.0).clamp(0.0, LAST) as Millis
}

fn from_pem(pem: &[u8]) -> Result<Key, &'static str> {
    let text = std::str::from_utf8(pem).map_err(|_| "not a PEM file")?;
    if !text.contains("-----BEGIN PUBLIC KEY-----") && !text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return Err("it holds no public key");
    }
    let (algorithm, key) = if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        (Algorithm::ES256, key)
    } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        (Algorithm::EdDSA, key)
    } else if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        (Algorithm::RS256, key)
    } else {
        return Err("not a key that can be read");
    };
    usable(algorithm, &key)?;
    Ok(Key { id: None, algorithm, key })
}

/// Whether signatures can be checked with this key: said at the start rather than at the first login.
fn usable(algorithm: Algorithm, key: &DecodingKey) -> Result<(), &'static str> {
    if algorithm == Algorithm::RS256 {
        let public = match key.kind() {
            jsonwebtoken::DecodingKeyKind::SecretOrDer(der) => RsaPublicKey::from_pkcs1_der(der).ok(),
            jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, e } => {
                RsaPublicKey::new(rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e)).ok()
            }
        };
        let public = public.ok_or("not an RSA key of at most 4096 bits")?;
        return if public.n().bits() >= RSA_BITS { Ok(()) } else { Err("an RSA key must have at least 2048 bits") };
    }
    jsonwebtoken::crypto::verify("", b"", key, algorithm).map(|_| ()).map_err(|_| "not a P-256 or Ed25519 key")
}

/// The keys of a JWKS file, read again when it changes.
struct KeySet {
    path: PathBuf,
    state: Mutex<SetState>,
}

struct SetState {
    keys: Arc<[Key]>,
    seen: Option<(SystemTime, u64)>,
    looked: Option<Instant>,
}

impl KeySet {
    fn load(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        let seen = stamp(&path);
        let keys = read_set(&path)?;
        Ok(Self { path, state: Mutex::new(SetState { keys, seen, looked: Some(Instant::now()) }) })
    }

    fn current(&self) -> Arc<[Key]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_none_or(|looked| looked.elapsed() >= SET_CHECK) {
            state.looked = Some(Instant::now());
            let seen = stamp(&self.path);
            if seen.is_some() && seen != state.seen {
                state.seen = seen;
                match read_set(&self.path) {
                    Ok(keys) => {
                        tracing::info!(keys = keys.len(), "the key set was read again");
                        state.keys = keys;
                    }
                    Err(why) => tracing::error!(error = %why, "the key set can't be read; the old keys stay"),
                }
            }
        }
        state.keys.clone()
    }
}

/// By which a change of the file is noticed.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read_set(path: &Path) -> Result<Arc<[Key]>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let set: Set = serde_json::from_str(&text).map_err(|_| "not a key set".to_owned())?;
    // Keys for other uses or of other kinds may stand in a set: they are passed over.
    let keys: Vec<Key> = set.keys.into_iter().filter_map(|jwk| from_jwk(&serde_json::from_value(jwk).ok()?)).collect();
    match keys.len() {
        0 => Err("no key in it can be used".to_owned()),
        1..=SET_KEYS => Ok(keys.into()),
        _ => Err(format!("more than {SET_KEYS} keys")),
    }
}

fn from_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let same = jwk.common.key_algorithm.is_none_or(|named| {
        matches!(
            (named, algorithm),
            (KeyAlgorithm::RS256, Algorithm::RS256)
                | (KeyAlgorithm::ES256, Algorithm::ES256)
                | (KeyAlgorithm::EdDSA, Algorithm::EdDSA)
        )
    });
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (signs && same && usable(algorithm, &key).is_ok()).then(|| Key { id: jwk.common.key_id.clone(), algorithm, key })
}
