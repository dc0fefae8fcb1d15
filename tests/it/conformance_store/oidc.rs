//! Accounts of people who log in by an OpenID Connect provider.

use roundtable::domain::audit::{Deed, What};
use roundtable::ids::UserId;
use roundtable::ports::{Created, Subject, User};

use super::{AT, Backend, on_both_stores};

on_both_stores!(
    a_person_of_a_provider_keeps_the_first_id_and_takes_nobody_s,
    first_logins_at_once_make_one_user,
    of_a_person_who_was_erased_nothing_is_known,
);

fn id(text: &str) -> UserId {
    UserId::parse(text).expect("a valid id")
}

fn person(issuer: &str, subject: &str) -> Subject {
    Subject { issuer: issuer.to_owned(), subject: subject.to_owned() }
}

async fn a_person_of_a_provider_keeps_the_first_id_and_takes_nobody_s(backend: Backend) {
    let store = &backend.store;
    let login = async |who: &Subject, wanted: &str, name: Option<&str>| {
        store.oidc_user(who, &id(wanted), name).await.expect("it is there")
    };
    let user = |name: &str, shown: Option<&str>| Some(User { id: id(name), name: shown.map(str::to_owned) });
    let (one, two) = (person("https://a", "1"), person("https://a", "2"));

    assert_eq!(login(&one, "alice", Some("Alice")).await, user("alice", Some("Alice")));
    assert_eq!(login(&one, "alice", None).await, user("alice", Some("Alice")), "the name stays");
    assert_eq!(login(&one, "renamed", Some("Al")).await, user("alice", Some("Al")), "the id stays, the name follows");
    assert_eq!(store.user(&id("renamed")).await.expect("it is there"), None, "nobody was made");
    assert_eq!(store.user(&id("alice")).await.expect("it is there"), user("alice", Some("Al")));

    assert_eq!(login(&two, "alice", None).await, None, "another person of the same provider");
    assert_eq!(login(&person("https://b", "1"), "alice", None).await, None, "the same subject of another");
    assert_eq!(login(&two, "bob", None).await, user("bob", None), "a refusal leaves nothing behind");

    let carol = User { id: id("carol"), name: None };
    store.create_account(&carol, "hash").await.expect("it is there");
    store.ensure_jwt_user(&id("dave"), None).await.expect("it is there");
    for taken in ["carol", "dave"] {
        assert_eq!(login(&person("https://a", "3"), taken, None).await, None, "{taken}");
    }
    let alice = User { id: id("alice"), name: None };
    assert_eq!(store.create_account(&alice, "hash").await.expect("it is there"), Created::Taken);
    assert_eq!(store.ensure_jwt_user(&id("alice"), None).await.expect("it is there"), Created::Taken);
    assert_eq!(store.password_hash(&id("alice")).await.expect("it is there"), None);
}

async fn first_logins_at_once_make_one_user(backend: Backend) {
    let logins = (0..16).map(|n| {
        let store = backend.store.clone();
        async move { store.oidc_user(&person("https://a", "1"), &id(&format!("user-{}", n % 4)), None).await }
    });
    let users = futures_util::future::join_all(logins).await;
    let first = users[0].clone().expect("it is there").expect("a user").id;
    for user in users {
        assert_eq!(user.expect("it is there").expect("a user").id, first);
    }
    let mut made = 0;
    for n in 0..4 {
        made += usize::from(backend.store.user(&id(&format!("user-{n}"))).await.expect("it is there").is_some());
    }
    assert_eq!(made, 1);
}

async fn of_a_person_who_was_erased_nothing_is_known(backend: Backend) {
    let store = &backend.store;
    let alice = person("https://a", "1");
    store.oidc_user(&alice, &id("alice"), Some("Alice")).await.expect("it is there").expect("a user");
    assert_eq!(store.oidc_subject(&id("alice")).await, Ok(Some(alice.clone())));
    let wish =
        Deed { at: AT, by: id("alice"), from: None, what: What::PersonErased, whom: None, seq: None, detail: None };
    assert_eq!(store.erase(&wish).await, Ok(true));
    assert_eq!(backend.raw.texts("SELECT subject FROM oidc_people").await, Vec::<String>::new());
    // The id is not given out again, to whomever it belonged; under another one they begin anew.
    assert_eq!(store.oidc_user(&alice, &id("alice"), Some("Alice")).await, Ok(None));
    assert_eq!(store.user(&id("alice")).await, Ok(None));
    let anew = store.oidc_user(&alice, &id("alice-2"), None).await.expect("it is there").expect("a user");
    assert_eq!(anew.id, id("alice-2"));
}
