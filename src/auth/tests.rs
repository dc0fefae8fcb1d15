//! Every way in and every way to be kept out, with keys made here and a store in memory of SQLite.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};

use super::*;
use crate::config::{Jwt, Secret};

const NOW: Millis = 1_700_000_000_000;
const SECRET: &str = "a shared secret";

/// A key pair of each kind, made once: RSA keys take a while.
struct Pairs {
    rsa: EncodingKey,
    rsa_pem: String,
    rsa_jwk: Value,
    other_rsa: EncodingKey,
    ec: EncodingKey,
    ec_pem: String,
    ec_jwk: Value,
    ed: EncodingKey,
    ed_pem: String,
    ed_jwk: Value,
}

static PAIRS: std::sync::LazyLock<Pairs> = std::sync::LazyLock::new(make_pairs);

fn make_pairs() -> Pairs {
    let mut rng = rsa::rand_core::OsRng;
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let rsa_key = rsa::RsaPrivateKey::new(&mut rng, 2_048).expect("a key");
    let other = rsa::RsaPrivateKey::new(&mut rng, 2_048).expect("a key");
    let encoding = |key: &rsa::RsaPrivateKey| EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("DER").as_bytes());
    let rsa_pem =
        rsa::pkcs8::EncodePublicKey::to_public_key_pem(&rsa_key.to_public_key(), LineEnding::LF).expect("PEM");
    use rsa::traits::PublicKeyParts;
    let rsa_jwk = json!({"kty": "RSA", "kid": "rsa-1", "use": "sig", "alg": "RS256",
        "n": base64(&rsa_key.n().to_bytes_be()), "e": base64(&rsa_key.e().to_bytes_be())});

    let ec_key = p256::ecdsa::SigningKey::random(&mut rng);
    let ec_pem = p256::PublicKey::from(ec_key.verifying_key());
    let ec_pem = p256::pkcs8::EncodePublicKey::to_public_key_pem(&ec_pem, LineEnding::LF).expect("PEM");
    let point = ec_key.verifying_key().to_encoded_point(false);
    let ec_jwk = json!({"kty": "EC", "kid": "ec-1", "crv": "P-256",
        "x": base64(point.x().expect("a point")), "y": base64(point.y().expect("a point"))});
    let ec_der = p256::pkcs8::EncodePrivateKey::to_pkcs8_der(&ec_key).expect("DER");

    let mut seed = [0; 32];
    rsa::rand_core::RngCore::fill_bytes(&mut rng, &mut seed);
    let ed_key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let ed_pem = ed_key.verifying_key().to_public_key_pem(LineEnding::LF).expect("PEM");
    let ed_jwk = json!({"kty": "OKP", "kid": "ed-1", "crv": "Ed25519", "x": base64(ed_key.verifying_key().as_bytes())});
    Pairs {
        rsa: encoding(&rsa_key),
        rsa_pem,
        rsa_jwk,
        other_rsa: encoding(&other),
        ec: EncodingKey::from_ec_der(ec_der.as_bytes()),
        ec_pem,
        ec_jwk,
        ed: EncodingKey::from_ed_der(ed_key.to_pkcs8_der().expect("DER").as_bytes()),
        ed_pem,
        ed_jwk,
    }
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW / 1_000 + 60})
}

fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).expect("signed")
}

fn hs256(claims: &Value) -> String {
    signed(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn with_secret() -> Jwt {
    Jwt { secret: Secret::new(SECRET), ..Jwt::default() }
}

fn in_file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("written");
    let path = file.path().to_string_lossy().into_owned();
    (file, path)
}

fn keys(jwt: &Jwt) -> Keys {
    Keys::load(jwt).expect("good keys")
}

fn with_pem(pem: &str) -> Keys {
    let (_file, path) = in_file(pem);
    keys(&Jwt { public_key_file: path, ..Jwt::default() })
}

/// What a token is refused with.
fn refusal(keys: &Keys, token: &str) -> String {
    match keys.verify(token, NOW) {
        Err(AuthError::Unauthenticated(reason)) => {
            assert!(!reason.contains(token) || token.is_empty(), "the token is quoted");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithm() {
    let pairs = &*PAIRS;
    for (keys, token) in [
        (keys(&with_secret()), hs256(&claims())),
        (with_pem(&pairs.rsa_pem), signed(Algorithm::RS256, None, &pairs.rsa, &claims())),
        (with_pem(&pairs.ec_pem), signed(Algorithm::ES256, Some("any"), &pairs.ec, &claims())),
        (with_pem(&pairs.ed_pem), signed(Algorithm::EdDSA, None, &pairs.ed, &claims())),
    ] {
        let claims = keys.verify(&token, NOW).expect("good");
        assert_eq!(claims.user.as_str(), "alice");
        assert_eq!((claims.name, claims.admin, claims.expires_at), (None, false, NOW + 60_000));
    }
}

#[test]
fn a_key_verifies_nothing_else() {
    let pairs = &*PAIRS;
    let rsa = with_pem(&pairs.rsa_pem);
    // The old trick: the public key, which everybody has, as an HMAC secret.
    let forged = signed(Algorithm::HS256, None, &EncodingKey::from_secret(pairs.rsa_pem.as_bytes()), &claims());
    assert!(refusal(&rsa, &forged).contains("no key"));
    assert!(refusal(&rsa, &signed(Algorithm::RS512, None, &pairs.rsa, &claims())).contains("no key"));
    assert!(refusal(&rsa, &signed(Algorithm::PS256, None, &pairs.rsa, &claims())).contains("no key"));
    assert!(refusal(&rsa, &signed(Algorithm::RS256, None, &pairs.other_rsa, &claims())).contains("signature"));
    assert!(refusal(&rsa, &hs256(&claims())).contains("no key"));
    let secret = keys(&with_secret());
    assert!(refusal(&secret, &signed(Algorithm::RS256, None, &pairs.rsa, &claims())).contains("no key"));
    let other = EncodingKey::from_secret(b"another secret");
    assert!(refusal(&secret, &signed(Algorithm::HS256, None, &other, &claims())).contains("signature"));
    assert!(
        refusal(&secret, &signed(Algorithm::HS384, None, &EncodingKey::from_secret(SECRET.as_bytes()), &claims()))
            .contains("no key")
    );
}

#[test]
fn unsigned_and_mangled_tokens_are_refused() {
    let keys = keys(&with_secret());
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", ""] {
        let unsigned = format!("{}.{}.", part(&json!({"alg": alg, "typ": "JWT"})), part(&claims()));
        refusal(&keys, &unsigned);
    }
    let good = hs256(&claims());
    refusal(&keys, &format!("{good}x"));
    refusal(&keys, &good[..good.len() - 2]);
    refusal(&keys, &format!("x{good}"));
    let payload_start = good.find('.').expect("a JWT") + 1;
    let tampered = format!(
        "{}{}{}",
        &good[..payload_start],
        part(&json!({"sub": "root", "exp": NOW})),
        &good[good.rfind('.').expect("a JWT")..]
    );
    assert!(refusal(&keys, &tampered).contains("signature"));
    for token in ["", ".", "..", "a.b.c", "a.b.c.d", "é.é.é", &"a".repeat(20_000)] {
        refusal(&keys, token);
    }
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["x".to_owned()]);
    let critical =
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed");
    assert!(refusal(&keys, &critical).contains("critical"));
    assert!(refusal(&Keys::load(&Jwt::default()).expect("none"), &good).contains("takes no JWT"));
}

#[test]
fn times_are_exact() {
    let keys = keys(&with_secret());
    let seconds = NOW / 1_000;
    for (exp, good) in [(seconds, false), (seconds - 1, false), (seconds + 1, true), (0, false), (-5, false)] {
        assert_eq!(keys.verify(&hs256(&json!({"sub": "alice", "exp": exp})), NOW).is_ok(), good, "{exp}");
    }
    for (nbf, good) in [(seconds, true), (seconds + 1, false), (seconds - 1, true)] {
        let token = hs256(&json!({"sub": "alice", "exp": seconds + 60, "nbf": nbf}));
        assert_eq!(keys.verify(&token, NOW).is_ok(), good, "{nbf}");
    }
    let fraction = hs256(&json!({"sub": "alice", "exp": seconds as f64 + 0.5}));
    assert_eq!(keys.verify(&fraction, NOW).expect("good").expires_at, NOW + 500);
    let far = hs256(&json!({"sub": "alice", "exp": 1e300}));
    assert_eq!(keys.verify(&far, NOW).expect("good").expires_at, 253_402_300_799_999);
    assert!(refusal(&keys, &hs256(&json!({"sub": "alice"}))).contains("exp"));
    refusal(&keys, &hs256(&json!({"sub": "alice", "exp": "tomorrow"})));
}

#[test]
fn claims_are_checked() {
    let keys = keys(&with_secret());
    let with = |extra: Value| {
        let mut claims = claims();
        for (key, value) in extra.as_object().expect("a map") {
            claims[key] = value.clone();
        }
        hs256(&claims)
    };
    assert!(refusal(&keys, &hs256(&json!({"sub": "alice", "exp": NOW / 1_000}))).contains("expired"));
    assert!(refusal(&keys, &hs256(&json!({"exp": NOW / 1_000 + 9}))).contains("sub"));
    assert!(refusal(&keys, &with(json!({"sub": "al ice"}))).contains("user id"));
    refusal(&keys, &with(json!({"sub": 7})));
    assert!(refusal(&keys, &with(json!({"name": "x".repeat(101)}))).contains("name"));
    assert!(refusal(&keys, &with(json!({"name": "a\u{0}"}))).contains("name"));
    let good = keys.verify(&with(json!({"name": "Ame\u{301}lie", "roles": ["x", "admin"]})), NOW).expect("good");
    assert_eq!((good.name.as_deref(), good.admin), (Some("Amélie"), true));
    assert!(!keys.verify(&with(json!({"roles": ["administrator"]})), NOW).expect("good").admin);
    refusal(&keys, &with(json!({"roles": "admin"})));
}

#[test]
fn issuer_and_audience_count_where_they_are_set() {
    let keys = keys(&Jwt { issuer: "https://id".into(), audience: "chat".into(), ..with_secret() });
    let token =
        |iss: Value, aud: Value| hs256(&json!({"sub": "alice", "exp": NOW / 1_000 + 9, "iss": iss, "aud": aud}));
    assert!(keys.verify(&token(json!("https://id"), json!("chat")), NOW).is_ok());
    assert!(keys.verify(&token(json!("https://id"), json!(["mail", "chat"])), NOW).is_ok());
    assert!(refusal(&keys, &token(json!("https://evil"), json!("chat"))).contains("iss"));
    assert!(refusal(&keys, &token(Value::Null, json!("chat"))).contains("iss"));
    assert!(refusal(&keys, &token(json!("https://id"), json!("mail"))).contains("aud"));
    assert!(refusal(&keys, &token(json!("https://id"), json!([]))).contains("aud"));
    assert!(refusal(&keys, &token(json!("https://id"), Value::Null)).contains("aud"));
    let open = Keys::load(&with_secret()).expect("good keys");
    assert!(open.verify(&token(json!("anyone"), json!("anything")), NOW).is_ok());
}

#[test]
fn a_key_set_is_chosen_from_by_kid() {
    let pairs = &*PAIRS;
    let set = json!({"keys": [pairs.rsa_jwk, pairs.ec_jwk, pairs.ed_jwk,
        {"kty": "oct", "kid": "hmac", "k": URL_SAFE_NO_PAD.encode("shared")}, {"kty": "made up"}]});
    let (_file, path) = in_file(&set.to_string());
    let keys = keys(&Jwt { jwks_file: path, ..Jwt::default() });
    for (algorithm, kid, key) in [
        (Algorithm::RS256, "rsa-1", &pairs.rsa),
        (Algorithm::ES256, "ec-1", &pairs.ec),
        (Algorithm::EdDSA, "ed-1", &pairs.ed),
    ] {
        assert!(keys.verify(&signed(algorithm, Some(kid), key, &claims()), NOW).is_ok(), "{kid}");
        assert!(keys.verify(&signed(algorithm, None, key, &claims()), NOW).is_ok(), "{kid} without saying so");
        assert!(refusal(&keys, &signed(algorithm, Some("another"), key, &claims())).contains("no key"));
    }
    // A set is public: a symmetric key in it must not count.
    let hmac = EncodingKey::from_secret(b"shared");
    assert!(refusal(&keys, &signed(Algorithm::HS256, Some("hmac"), &hmac, &claims())).contains("no key"));
    assert!(refusal(&keys, &signed(Algorithm::EdDSA, Some("ec-1"), &pairs.ed, &claims())).contains("no key"));
}

#[test]
fn a_key_set_is_read_again_when_it_changes_and_kept_when_that_fails() {
    let pairs = &*PAIRS;
    let (file, path) = in_file(&json!({"keys": [pairs.ec_jwk]}).to_string());
    let keys = keys(&Jwt { jwks_file: path, ..Jwt::default() });
    let token = signed(Algorithm::EdDSA, Some("ed-1"), &pairs.ed, &claims());
    assert!(keys.verify(&token, NOW).is_err());
    std::fs::write(file.path(), json!({"keys": [pairs.ed_jwk, pairs.rsa_jwk]}).to_string()).expect("written");
    keys.look_again();
    assert!(keys.verify(&token, NOW).is_ok());
    std::fs::write(file.path(), "half a fi").expect("written");
    keys.look_again();
    assert!(keys.verify(&token, NOW).is_ok());
}

#[test]
fn keys_that_can_not_be_used_stop_the_start() {
    let mut rng = rsa::rand_core::OsRng;
    let small = rsa::RsaPrivateKey::new(&mut rng, 1_024).expect("a key");
    let small = rsa::pkcs8::EncodePublicKey::to_public_key_pem(&small.to_public_key(), LineEnding::LF).expect("PEM");
    let private =
        p256::pkcs8::EncodePrivateKey::to_pkcs8_pem(&p256::SecretKey::random(&mut rng), LineEnding::LF).expect("PEM");
    for pem in ["", "not a key", &small, &private, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let (_file, path) = in_file(pem);
        let error =
            Keys::load(&Jwt { public_key_file: path.clone(), ..Jwt::default() }).err().expect("refused").to_string();
        assert!(
            error.contains("auth.jwt.public_key_file") && error.contains(&path) && !error.contains('\n'),
            "{error}"
        );
    }
    for set in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        let (_file, path) = in_file(set);
        let error = Keys::load(&Jwt { jwks_file: path.clone(), ..Jwt::default() }).err().expect("refused").to_string();
        assert!(error.contains("auth.jwt.jwks_file") && error.contains(&path), "{error}");
    }
    assert!(Keys::load(&Jwt { jwks_file: "/nowhere/jwks.json".into(), ..Jwt::default() }).is_err());
}
