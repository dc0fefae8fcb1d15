//! The way in against a real store: passwords, logins, users of JWTs, and what a store that is away does to each.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roundtable::auth::{AuthError, Authenticator, By, Identity, LoggedIn};
use roundtable::config::{Auth, Jwt, Secret};
use roundtable::domain::revoked::Revoked;
use roundtable::ids::UserId;
use roundtable::infra::sqlite::SqliteStore;
use roundtable::metrics::Metrics;
use roundtable::ports::{Created, Device, MessageStore, NewCredential, User};
use serde_json::json;

use crate::support::tokens;

struct House {
    store: Arc<dyn MessageStore>,
    auth: Authenticator,
    _dir: tempfile::TempDir,
}

async fn house() -> House {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store: Arc<dyn MessageStore> =
        Arc::new(SqliteStore::open(&dir.path().join("rooms.db")).expect("a new database"));
    store.migrate().await.expect("migrated");
    let jwt = Jwt { secret: Secret::new(tokens::SECRET), ..Jwt::default() };
    let auth =
        Authenticator::new(&Auth { jwt, ..Auth::default() }, store.clone(), &Metrics::new()).expect("good settings");
    House { store, auth, _dir: dir }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a valid id")
}

fn why(result: Result<Identity, AuthError>) -> String {
    match result {
        Err(AuthError::Unauthenticated(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

impl House {
    async fn tries(&self, id: &str, password: &str) -> Result<LoggedIn, AuthError> {
        self.auth.check_password(&user(id), password, IpAddr::from([192, 0, 2, 1]), None).await
    }

    async fn registers(&self, id: &str, password: &str) {
        let hash = self.auth.hash_password(password.to_owned()).await.expect("hashed");
        let account = User { id: user(id), name: Some("Somebody".to_owned()) };
        assert_eq!(self.store.create_account(&account, &hash).await, Ok(Created::New));
    }
}

#[tokio::test]
async fn a_login_lasts_until_it_is_revoked() {
    let house = house().await;
    house.registers("alice", "correct horse").await;
    let alice = house.tries("alice", "correct horse").await.expect("right").user;
    assert_eq!(alice.name.as_deref(), Some("Somebody"));
    let issued = house.auth.issue(&alice.id, Device::default()).await.expect("issued");
    let identity = house.auth.authenticate(issued.token.expose()).await.expect("known");
    assert_eq!(
        identity,
        Identity {
            user: alice,
            admin: false,
            expires_at: Some(issued.expires_at),
            login: Some(issued.hash),
            by: By::Login,
            grant: None,
            as_of: 0,
        }
    );
    assert_eq!(house.store.revoke_login(&issued.hash).await, Ok(true));
    assert_eq!(house.store.revoke_login(&issued.hash).await, Ok(false));
    assert!(house.auth.is_current(&identity));
    house.auth.forget(&Revoked::Login(issued.hash));
    assert!(!house.auth.is_current(&identity));
    assert!(why(house.auth.again(&identity).await).contains("token"));
    assert!(why(house.auth.authenticate(issued.token.expose()).await).contains("token"));
    let other = house.auth.issue(&user("alice"), Device::default()).await.expect("issued");
    let mut forged = other.token.expose().to_owned();
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.pop();
    forged.push(last);
    why(house.auth.authenticate(&forged).await);
}

#[tokio::test]
async fn a_login_that_has_ended_is_refused() {
    let house = house().await;
    house.registers("alice", "correct horse").await;
    let hash = roundtable::auth::token_hash("rts_0123456789012345678901234567890123456789012").expect("its form");
    let login = NewCredential {
        hash,
        user: user("alice"),
        created_at: 0,
        expires_at: 1_000,
        device: Device::default(),
        grant: None,
        name: None,
    };
    house.store.create_credential(&login, 100).await.expect("stored");
    why(house.auth.authenticate("rts_0123456789012345678901234567890123456789012").await);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_the_same_to_see_and_to_time() {
    let house = house().await;
    house.registers("alice", "correct horse").await;
    // The first check of an unknown user makes the hash that it is compared with.
    let _ = house.tries("nobody", "correct horse").await;
    let mut took = Vec::new();
    for (id, password) in [("alice", "wrong horse"), ("nobody", "correct horse")] {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let began = Instant::now();
            let result = house.tries(id, password).await.map(|known| known.user);
            assert_eq!(result, Err(AuthError::Unauthenticated("wrong user or password".to_owned())));
            best = best.min(began.elapsed());
        }
        took.push(best.as_secs_f64());
    }
    let ratio = took[0] / took[1];
    assert!((0.3..3.0).contains(&ratio), "the times differ: {took:?}");
    // What can't be a password is just wrong.
    assert!(house.tries("alice", "x").await.is_err());
}

#[tokio::test]
async fn users_of_jwts_are_made_on_first_sight_and_named_by_their_token() {
    let house = house().await;
    let token = |extra: serde_json::Value| {
        let mut claims = json!({"sub": "bob", "exp": tokens::now_s() + 60});
        for (key, value) in extra.as_object().expect("a map") {
            claims[key] = value.clone();
        }
        tokens::signed(&claims)
    };
    assert_eq!(house.store.user(&user("bob")).await.expect("asked"), None);
    let identity = house.auth.authenticate(&token(json!({}))).await.expect("good");
    assert_eq!((identity.user.name, identity.login, identity.admin), (None, None, false));
    assert!(house.store.user(&user("bob")).await.expect("asked").is_some());
    let named = house.auth.authenticate(&token(json!({"name": "Bob", "roles": ["admin"]}))).await.expect("good");
    assert_eq!((named.user.name.as_deref(), named.admin), (Some("Bob"), true));
    assert_eq!(house.store.user(&user("bob")).await.expect("asked").and_then(|bob| bob.name).as_deref(), Some("Bob"));
    // Without a name the token takes nothing away.
    let again = house.auth.authenticate(&token(json!({}))).await.expect("good");
    assert_eq!(again.user.name.as_deref(), Some("Bob"));
}

#[tokio::test]
async fn accounts_and_jwt_users_are_apart() {
    let house = house().await;
    house.registers("alice", "correct horse").await;
    assert!(why(house.auth.authenticate(&tokens::of("alice")).await).contains("password account"));
    house.auth.authenticate(&tokens::of("bob")).await.expect("good");
    let hash = house.auth.hash_password("correct horse".to_owned()).await.expect("hashed");
    let account = User { id: user("bob"), name: None };
    assert_eq!(house.store.create_account(&account, &hash).await, Ok(Created::Taken));
    assert!(house.tries("bob", "correct horse").await.is_err());
}
