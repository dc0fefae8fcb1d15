//! Accounts of both kinds.

use super::*;

on_both_stores!(an_id_has_one_account, the_two_kinds_of_account_are_apart);

fn named(id: &str, name: Option<&str>) -> User {
    User { id: user(id), name: name.map(str::to_owned) }
}

async fn an_id_has_one_account(b: Backend) {
    let alice = named("alice", Some("Alice ✨"));
    assert_eq!(b.store.create_account(&alice, "hash one").await, Ok(Created::New));
    assert_eq!(b.store.create_account(&named("alice", None), "hash two").await, Ok(Created::Taken));
    assert_eq!(b.store.create_account(&named("Alice", None), "hash three").await, Ok(Created::New), "case matters");
    assert_eq!(b.store.password_hash(&user("alice")).await, Ok(Some((alice.clone(), "hash one".to_owned()))));
    assert_eq!(b.store.password_hash(&user("nobody")).await, Ok(None));
    assert_eq!(b.store.user(&user("alice")).await, Ok(Some(alice)));
    assert_eq!(b.store.user(&user("nobody")).await, Ok(None));
    assert_eq!(b.store.rename_user(&user("alice"), "Al").await, Ok(true));
    assert_eq!(b.store.rename_user(&user("nobody"), "No").await, Ok(false));
    assert_eq!(b.store.user(&user("alice")).await, Ok(Some(named("alice", Some("Al")))));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.create_account(&named("race", None), &format!("{n}")).await });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| **result == Ok(Created::New)).count(), 1, "{results:?}");
}

async fn the_two_kinds_of_account_are_apart(b: Backend) {
    let ensure = async |id: &str, name| b.store.ensure_jwt_user(&user(id), name).await;
    assert_eq!(ensure("jay", Some("Jay")).await, Ok(Created::New));
    assert_eq!(ensure("jay", None).await, Ok(Created::New));
    assert_eq!(b.store.user(&user("jay")).await, Ok(Some(named("jay", Some("Jay")))), "no name changes none");
    assert_eq!(ensure("jay", Some("J.")).await, Ok(Created::New));
    assert_eq!(b.store.user(&user("jay")).await, Ok(Some(named("jay", Some("J.")))));
    assert_eq!(b.store.create_account(&named("jay", None), "hash").await, Ok(Created::Taken));
    assert_eq!(b.store.password_hash(&user("jay")).await, Ok(None), "it has no password");
    b.account("alice").await;
    assert_eq!(ensure("alice", Some("Mallory")).await, Ok(Created::Taken));
    assert_eq!(b.store.user(&user("alice")).await, Ok(Some(named("alice", None))));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.ensure_jwt_user(&user("first-sight"), Some("F")).await });
    }
    assert!(racers.join_all().await.iter().all(|result| *result == Ok(Created::New)));
    // Known users may be made members.
    let room = b.room("one").await;
    let member = Change::SetMember { user: user("jay"), role: Role::Member };
    assert_eq!(room.does("jay", member).await, is_now(Role::Member));
}
