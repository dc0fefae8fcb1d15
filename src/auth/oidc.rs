//! Login by an OpenID Connect provider: authorization code with PKCE.
//!
//! Invariants: nothing of a login under way is kept here. What binds it to the browser is a cookie with a random seed and
//! an end, under a MAC; state, nonce and PKCE verifier are derived from the seed by a key that every node has, so any node
//! can finish it. An id token counts only with issuer, audience, nonce, end and an asymmetric signature checked. No code,
//! token or claim is ever logged.

mod provider;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use self::provider::Provider;
use crate::config::{self, UserClaim};
use crate::ids::UserId;
use crate::ports::Subject;
use crate::protocol::text;
use crate::refusal::Refusal;

/// How long a browser may take at the provider, seconds.
pub const LOGIN_S: u64 = 600;
/// When to ask again while the provider is away, milliseconds.
const AWAY_MS: u64 = 5_000;

/// Why a login did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// This is no login that this browser began, or not any more.
    #[error("{0}")]
    NotBegun(&'static str),
    /// What the provider gave does not hold; a new login may.
    #[error("{0}")]
    Again(&'static str),
    /// Who they are is known, and that they can't come in.
    #[error("{0}")]
    NotAllowed(String),
    /// The provider can't be reached, or answers nonsense; the cause is for the log.
    #[error("{0}")]
    Away(String),
}

impl From<OidcError> for Refusal {
    fn from(error: OidcError) -> Self {
        match error {
            OidcError::NotBegun(why) => Self::forbidden(why),
            OidcError::Again(why) => Self::unauthenticated(why),
            OidcError::NotAllowed(why) => Self::forbidden(why),
            OidcError::Away(cause) => {
                tracing::warn!(error = %cause, "oidc.provider.away");
                Self::unavailable("the login provider can't be reached now; try again soon").retry_after(AWAY_MS)
            }
        }
    }
}

/// A login that was begun.
pub struct Begun {
    /// Where to send the browser.
    pub url: String,
    /// What it brings back.
    pub cookie: String,
}

/// Somebody whom the provider knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Person {
    pub subject: Subject,
    /// The user's id, should this be their first login.
    pub wanted: UserId,
    pub name: Option<String>,
}

pub struct Oidc {
    provider: Provider,
    key: [u8; 32],
    user_claim: UserClaim,
    name_claim: String,
    label: String,
}

/// What a login's seed stands for.
struct Derived {
    state: String,
    nonce: String,
    verifier: String,
}

impl Oidc {
    /// `None` where the settings name no provider. Asks it for nothing yet.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn new(settings: &config::Oidc) -> Result<Option<Self>, config::Invalid> {
        if !settings.enabled() {
            return Ok(None);
        }
        let context = format!("roundtable oidc v1\0{}\0{}", settings.issuer, settings.client_id);
        Ok(Some(Self {
            provider: Provider::new(settings)?,
            key: mac(settings.client_secret.expose().as_bytes(), context.as_bytes()),
            user_claim: settings.user_claim,
            name_claim: settings.name_claim.clone(),
            label: settings.label.clone(),
        }))
    }

    /// What the web client calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Begins a login.
    ///
    /// # Errors
    /// [`OidcError::Away`]
    pub async fn begin(&self) -> Result<Begun, OidcError> {
        let mut seed = [0; 16];
        OsRng.try_fill_bytes(&mut seed).expect("the operating system has randomness; without it no login is safe");
        let cookie = self.cookie(seed, now_s() + LOGIN_S);
        let Derived { state, nonce, verifier } = self.derived(&seed);
        Ok(Begun { url: self.provider.authorize_url(state, nonce, verifier).await?, cookie })
    }

    /// Whether the browser with this cookie began the login that comes back with this state.
    ///
    /// # Errors
    /// [`OidcError::NotBegun`]
    pub fn check(&self, cookie: &str, state: &str) -> Result<(), OidcError> {
        self.opened(cookie, state).map(|_| ())
    }

    /// Finishes a login with what the browser brought back.
    ///
    /// # Errors
    /// [`OidcError`]
    pub async fn finish(&self, cookie: &str, state: &str, code: &str) -> Result<Person, OidcError> {
        let Derived { nonce, verifier, .. } = self.opened(cookie, state)?;
        let claims = self.provider.claims(code.to_owned(), nonce, verifier).await?;
        self.person(&claims)
    }

    fn opened(&self, cookie: &str, state: &str) -> Result<Derived, OidcError> {
        let foreign = OidcError::NotBegun("this login was not begun in this browser, or too long ago; begin again");
        let seed = self.seed(cookie, now_s()).ok_or_else(|| foreign.clone())?;
        let derived = self.derived(&seed);
        if bool::from(derived.state.as_bytes().ct_eq(state.as_bytes())) { Ok(derived) } else { Err(foreign) }
    }

    fn cookie(&self, seed: [u8; 16], ends_at: u64) -> String {
        let mut bytes = [&seed[..], &ends_at.to_be_bytes()].concat();
        let mac = self.mac("cookie", &bytes);
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The seed of a cookie of ours that has not ended.
    fn seed(&self, cookie: &str, now: u64) -> Option<[u8; 16]> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (said, mac) = bytes.split_at_checked(24)?;
        if !bool::from(self.mac("cookie", said).as_slice().ct_eq(mac)) {
            return None;
        }
        let ends_at = u64::from_be_bytes(said[16..].try_into().ok()?);
        if now < ends_at { said[..16].try_into().ok() } else { None }
    }

    fn derived(&self, seed: &[u8]) -> Derived {
        let of = |what| URL_SAFE_NO_PAD.encode(self.mac(what, seed));
        Derived { state: of("state"), nonce: of("nonce"), verifier: of("verifier") }
    }

    fn mac(&self, what: &str, of: &[u8]) -> [u8; 32] {
        mac(&self.key, &[what.as_bytes(), b"\0", of].concat())
    }

    /// Whom these claims, which hold, name.
    fn person(&self, claims: &Value) -> Result<Person, OidcError> {
        let text_of = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
        let refused = |why: String| OidcError::NotAllowed(format!("{why}; ask whoever runs this server"));
        let missing = |claim: &str| refused(format!("the login provider gave no {claim} in its id token"));
        let (Some(issuer), Some(subject)) = (text_of("iss"), text_of("sub")) else { return Err(missing("sub")) };
        let (claim, id) = match self.user_claim {
            UserClaim::Sub => ("sub", subject),
            UserClaim::PreferredUsername => {
                ("preferred_username", text_of("preferred_username").ok_or_else(|| missing("preferred_username"))?)
            }
            UserClaim::Email => {
                let address = text_of("email").ok_or_else(|| missing("email"))?;
                if claims.get("email_verified") != Some(&Value::Bool(true)) {
                    return Err(refused("the login provider has not verified the email address".to_owned()));
                }
                ("email", address.rsplit_once('@').map_or(address, |(local, _)| local))
            }
        };
        let wanted = UserId::parse(id)
            .map_err(|rule| refused(format!("the login provider's {claim} makes no user id here: {rule}")))?;
        // A name that is none here is left out: nobody should be kept away by it.
        let name = Some(&*self.name_claim).filter(|claim| !claim.is_empty()).and_then(text_of);
        let name = name.and_then(|name| text::name(name).ok());
        let subject = Subject { issuer: issuer.to_owned(), subject: subject.to_owned() };
        Ok(Person { subject, wanted, name })
    }
}

fn mac(key: &[u8], of: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(of);
    mac.finalize().into_bytes().into()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since: Duration| since.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn oidc(user_claim: UserClaim) -> Oidc {
        let settings = config::Oidc {
            issuer: "http://127.0.0.1:1".to_owned(),
            client_id: "chat".to_owned(),
            client_secret: config::Secret::new("s"),
            redirect_url: "http://127.0.0.1:2/api/v1/oidc/callback".to_owned(),
            user_claim,
            ..config::Oidc::default()
        };
        Oidc::new(&settings).expect("good settings").expect("a provider")
    }

    #[test]
    fn a_cookie_opens_its_own_login_until_its_end() {
        let oidc = oidc(UserClaim::Sub);
        let (ours, state) = (oidc.cookie([7; 16], now_s() + 60), oidc.derived(&[7; 16]).state);
        assert_eq!(oidc.check(&ours, &state), Ok(()));
        let foreign = [
            (ours.clone(), oidc.derived(&[8; 16]).state),
            (oidc.cookie([8; 16], now_s() + 60), state.clone()),
            (oidc.cookie([7; 16], now_s()), state.clone()),
            (ours[..ours.len() - 4].to_owned(), state.clone()),
            (format!("{ours}AAAA"), state.clone()),
            (ours.replacen(&ours[..1], if ours.starts_with('A') { "B" } else { "A" }, 1), state.clone()),
            (String::new(), state.clone()),
            (ours.clone(), String::new()),
        ];
        for (cookie, state) in foreign {
            assert!(matches!(oidc.check(&cookie, &state), Err(OidcError::NotBegun(_))), "{cookie} {state}");
        }
        assert!(!ours.contains(&state));
    }

    #[test]
    fn a_claim_makes_an_id_only_if_it_is_one() {
        let wanted = |claim, more: Value| {
            let mut claims = json!({"iss": "https://i", "sub": "s-1", "name": "Al"});
            claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            oidc(claim).person(&claims).map(|person| person.wanted.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(wanted(UserClaim::Sub, json!({})), Ok("s-1".to_owned()));
        assert_eq!(wanted(UserClaim::PreferredUsername, json!({"preferred_username": "al.b"})), Ok("al.b".to_owned()));
        let email = json!({"email": "al@x.example", "email_verified": true});
        assert_eq!(wanted(UserClaim::Email, email), Ok("al".to_owned()));
        for (claim, more, part) in [
            (UserClaim::Sub, json!({"sub": "auth0|1"}), "user id"),
            (UserClaim::Sub, json!({"sub": 5}), "gave no sub"),
            (UserClaim::PreferredUsername, json!({}), "gave no preferred_username"),
            (UserClaim::PreferredUsername, json!({"preferred_username": "<b>"}), "user id"),
            (UserClaim::Email, json!({"email": "al@x.example"}), "not verified"),
            (UserClaim::Email, json!({"email": "al@x.example", "email_verified": "true"}), "not verified"),
            (UserClaim::Email, json!({"email": "a+b@x.example", "email_verified": true}), "user id"),
        ] {
            let said = wanted(claim, more.clone()).expect_err("refused");
            assert!(said.contains(part) && !said.contains('<'), "{more}: {said}");
        }
        let bad_name = json!({"iss": "https://i", "sub": "s", "name": "x".repeat(101)});
        assert_eq!(oidc(UserClaim::Sub).person(&bad_name).expect("a person").name, None);
    }
}
