//! Logins, access tokens, and the list of what was revoked.

use roundtable::domain::revoked::{Ending, Revoked};
use roundtable::domain::scopes::{Grant, Scope};
use roundtable::ports::{
    Credential, CredentialId, Device, Keep, Kind, Login, NEVER, NewCredential, RevokedAt, SecretHash,
};

use super::*;

on_both_stores!(
    logins_end_and_are_revoked,
    of_too_many_logins_the_longest_unused_ends,
    tokens_are_bounded_and_say_what_they_are_for,
    credentials_are_listed_and_ended_by_their_owner_alone,
    what_was_revoked_is_read_in_order_and_swept,
    a_password_is_changed_once,
);

const FAR: Millis = 4_000_000_000_000;

fn hash(n: u8) -> SecretHash {
    let mut hash = [n; 32];
    hash[31] = 255 - n;
    hash
}

fn login(n: u8, who: &str, expires_at: Millis) -> NewCredential {
    NewCredential {
        hash: hash(n),
        user: user(who),
        created_at: AT + Millis::from(n),
        expires_at,
        device: Device { client: Some(format!("client {n}")), address: Some(format!("192.0.2.{n}")) },
        grant: None,
        name: None,
    }
}

fn token(n: u8, who: &str, room: Option<&str>) -> NewCredential {
    let grant = Grant { scopes: [Scope::Read, Scope::Rooms].into_iter().collect(), room: room.map(room_id) };
    let device = Device::default();
    NewCredential { grant: Some(grant), name: Some("bot".to_owned()), device, ..login(n, who, NEVER) }
}

impl Backend {
    async fn makes(&self, new: &NewCredential) -> Vec<SecretHash> {
        self.store.create_credential(new, 100).await.expect("the store is there").expect("there is room")
    }

    async fn finds_login(&self, n: u8, now: Millis) -> Option<Login> {
        let mut found = self.store.logins(&[hash(n)], now).await.expect("the store is there");
        assert!(found.len() <= 1);
        found.pop().map(|(found, login)| {
            assert_eq!(found, hash(n));
            login
        })
    }

    async fn lists(&self, who: &str, kind: Kind) -> Vec<Credential> {
        self.store.credentials(&user(who), kind, AT, None, 100).await.expect("the store is there")
    }
}

async fn logins_end_and_are_revoked(b: Backend) {
    let alice = User { id: user("alice"), name: Some("Alice".to_owned()) };
    assert_eq!(b.store.create_account(&alice, "hash").await, Ok(Created::New));
    b.makes(&login(1, "alice", FAR)).await;
    b.makes(&login(2, "alice", FAR + 1)).await;
    let found = Login { user: alice.clone(), expires_at: FAR, last_seen_at: AT + 1, grant: None };
    assert_eq!(b.finds_login(1, AT).await, Some(found));
    assert!(b.finds_login(1, FAR - 1).await.is_some());
    assert_eq!(b.finds_login(1, FAR).await, None, "expired");
    assert_eq!(b.finds_login(9, AT).await, None);
    let mut both = b.store.logins(&[hash(9), hash(2), hash(1), hash(2)], AT).await.expect("the store is there");
    both.sort_by_key(|(hash, _)| *hash);
    both.dedup_by_key(|(hash, _)| *hash);
    assert_eq!(both.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(), [hash(1), hash(2)]);
    assert_eq!(b.store.logins(&[], AT).await.map(|found| found.len()), Ok(0));
    assert_eq!(b.store.revoke_login(&hash(1)).await, Ok(true));
    assert_eq!(b.store.revoke_login(&hash(1)).await, Ok(false));
    assert_eq!(b.finds_login(1, AT).await, None);
    assert!(b.finds_login(2, AT).await.is_some());
    // What ran out is forgotten with the next login.
    b.makes(&login(3, "alice", AT + 3)).await;
    b.makes(&login(4, "alice", FAR)).await;
    assert_eq!(b.store.revoke_login(&hash(3)).await, Ok(false));
    assert_eq!(b.store.rename_user(&alice.id, "Al").await, Ok(true));
    assert_eq!(b.finds_login(2, AT).await.and_then(|login| login.user.name).as_deref(), Some("Al"), "the present name");
    // The last use only rises, and nothing comes of one that is gone.
    b.store.seen(&[(hash(2), AT + 50), (hash(1), AT + 50)]).await.expect("the store is there");
    b.store.seen(&[(hash(2), AT + 40)]).await.expect("the store is there");
    assert_eq!(b.finds_login(2, AT).await.map(|login| login.last_seen_at), Some(AT + 50));
    for (address, now, there) in [("192.0.2.2", AT, true), ("192.0.2.1", AT, false), ("192.0.2.2", FAR + 1, false)] {
        assert_eq!(b.store.logged_in_from(&alice.id, address, now).await, Ok(there), "{address}");
    }
}

async fn of_too_many_logins_the_longest_unused_ends(b: Backend) {
    b.account("alice").await;
    b.account("bob").await;
    b.makes(&login(99, "bob", FAR)).await;
    b.makes(&token(98, "alice", None)).await;
    for n in 1..=3 {
        assert_eq!(b.store.create_credential(&login(n, "alice", FAR), 3).await, Ok(Some(Vec::new())));
    }
    b.store.seen(&[(hash(1), AT + 1_000)]).await.expect("the store is there");
    assert_eq!(b.store.create_credential(&login(4, "alice", FAR), 3).await, Ok(Some(vec![hash(2)])));
    assert_eq!(b.finds_login(2, AT).await, None);
    for n in [1, 3, 4, 98, 99] {
        assert!(b.finds_login(n, AT).await.is_some(), "{n}");
    }
    let noted = b.store.revocations(RevokedAt::default(), 10).await.expect("the store is there").items;
    assert_eq!(noted.into_iter().filter_map(|(_, what)| what).collect::<Vec<_>>(), [Revoked::Login(hash(2))]);
}

async fn tokens_are_bounded_and_say_what_they_are_for(b: Backend) {
    b.account("alice").await;
    b.account("bob").await;
    let mut racers = tokio::task::JoinSet::new();
    for n in 1..=8 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.create_credential(&token(n, "alice", Some("lobby")), 3).await });
    }
    let made = racers.join_all().await;
    assert_eq!(made.iter().filter(|made| matches!(made, Ok(Some(_)))).count(), 3, "{made:?}");
    assert_eq!(made.iter().filter(|made| matches!(made, Ok(None))).count(), 5, "{made:?}");
    b.makes(&token(20, "bob", None)).await;
    let found = b.finds_login(20, AT).await.expect("there");
    assert_eq!((found.grant, found.expires_at), (token(20, "bob", None).grant, NEVER));
    let mine = b.lists("alice", Kind::Token).await;
    assert_eq!(mine.len(), 3);
    assert_eq!((&mine[0].grant, mine[0].name.as_deref()), (&token(1, "alice", Some("lobby")).grant, Some("bot")));
}

async fn credentials_are_listed_and_ended_by_their_owner_alone(b: Backend) {
    b.account("alice").await;
    b.account("bob").await;
    for n in 1..=5 {
        b.makes(&login(n, "alice", FAR)).await;
    }
    b.makes(&token(6, "alice", None)).await;
    b.makes(&login(7, "bob", FAR)).await;
    b.makes(&login(8, "alice", AT + 8)).await;
    // In pages, each once.
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = b.store.credentials(&user("alice"), Kind::Login, AT + 8, cursor, 2).await.expect("there");
        cursor = page.last().map(|last| last.id);
        ids.extend(page.iter().map(|login| login.id));
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(ids, [1, 2, 3, 4, 5].map(|n| CredentialId::of(&hash(n))));
    let second = &b.lists("alice", Kind::Login).await[1];
    let shown =
        (second.created_at, second.expires_at, second.device.client.as_deref(), second.device.address.as_deref());
    assert_eq!(shown, (AT + 2, FAR, Some("client 2"), Some("192.0.2.2")));
    let ends = async |who: &str, kind, n| b.store.end_credential(&user(who), kind, CredentialId::of(&hash(n))).await;
    assert_eq!(ends("bob", Kind::Login, 1).await, Ok(None), "another's");
    assert_eq!(ends("alice", Kind::Token, 1).await, Ok(None), "of another kind");
    assert_eq!(ends("alice", Kind::Login, 1).await, Ok(Some(hash(1))));
    assert_eq!(ends("alice", Kind::Login, 1).await, Ok(None), "gone already");
    let mut others = b.store.end_all(&user("alice"), Keep::TokensAnd(Some(&hash(3)))).await.expect("there");
    others.sort_unstable();
    others.retain(|gone| *gone != hash(8));
    assert_eq!(others, [hash(2), hash(4), hash(5)]);
    assert!(
        b.finds_login(3, AT).await.is_some()
            && b.finds_login(6, AT).await.is_some()
            && b.finds_login(7, AT).await.is_some()
    );
    let mut rest = b.store.end_all(&user("alice"), Keep::Nothing).await.expect("there");
    rest.sort_unstable();
    assert_eq!(rest, [hash(3), hash(6)]);
    assert!(b.finds_login(7, AT).await.is_some());
}

async fn what_was_revoked_is_read_in_order_and_swept(b: Backend) {
    b.account("alice").await;
    b.makes(&login(1, "alice", FAR)).await;
    b.makes(&login(2, "alice", AT + 2)).await;
    let start = b.store.revocations(RevokedAt::default(), 10).await.expect("the store is there");
    assert!(start.items.is_empty() && start.now > AT);
    b.store.revoke_login(&hash(1)).await.expect("the store is there");
    let all = Revoked::User { user: user("alice"), but: Some(hash(5)), ending: Ending::SignIn };
    b.store.note_revoked(&all).await.expect("the store is there");
    b.store.note_revoked(&Revoked::Login(hash(9))).await.expect("the store is there");
    let read = b.store.revocations(RevokedAt { at: start.now - 1, no: 0 }, 10).await.expect("the store is there");
    let what: Vec<_> = read.items.iter().filter_map(|(_, what)| what.clone()).collect();
    assert_eq!(what, [Revoked::Login(hash(1)), all, Revoked::Login(hash(9))]);
    assert!(read.items.is_sorted_by_key(|(place, _)| *place) && read.now >= read.items[2].0.at);
    let page = b.store.revocations(read.items[0].0, 1).await.expect("the store is there");
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].0, read.items[1].0);
    // Both kinds of what is over go, a few at a time.
    let sweep = async |keep_ms, limit| b.store.sweep_credentials(AT + 2, keep_ms, limit).await;
    assert_eq!(sweep(3_600_000, 10).await, Ok(1), "the login that ended");
    assert_eq!(b.finds_login(2, AT).await, None);
    assert_eq!(sweep(-60_000, 2).await, Ok(2));
    assert_eq!(sweep(-60_000, 2).await, Ok(1));
    assert_eq!(sweep(-60_000, 2).await, Ok(0));
}

async fn a_password_is_changed_once(b: Backend) {
    b.account("alice").await;
    assert_eq!(b.store.change_password(&user("alice"), "phc", "new").await, Ok(true));
    assert_eq!(b.store.change_password(&user("alice"), "phc", "newer").await, Ok(false), "another was faster");
    assert_eq!(b.store.change_password(&user("nobody"), "phc", "new").await, Ok(false));
    let stored = b.store.password_hash(&user("alice")).await.expect("there").expect("an account");
    assert_eq!(stored.1, "new");
}
