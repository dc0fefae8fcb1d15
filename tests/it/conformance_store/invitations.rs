//! Invitations: counted exactly, whoever comes at once.

use roundtable::ports::{Invitation, Invited};

use super::*;

on_both_stores!(
    an_invitation_lets_in_as_often_as_it_says,
    uses_are_counted_within_an_append_and_across_them,
    an_invitation_ends_and_is_swept,
    an_invitation_is_its_rooms_and_can_be_revoked,
    a_room_has_no_more_invitations_than_it_may,
    an_invitation_lifts_neither_mute_nor_ban,
);

const HOUR: Millis = 3_600_000;

fn invitation(id: &str, uses_left: Option<u32>) -> Invitation {
    Invitation { id: id.into(), made_by: user("alice"), made_at: AT, expires_at: AT + HOUR, uses_left }
}

async fn invites(b: &Backend, room: &str, id: &str, uses: Option<u32>, hash: u8) -> Invited {
    b.store.invite(&room_id(room), &invitation(id, uses), &[hash; 32], 3).await.expect("the store is there")
}

fn accepts(who: &str, hash: u8) -> AppendItem {
    item(who, AT, Change::Accept { invitation: [hash; 32] })
}

async fn listed(b: &Backend, room: &str) -> Vec<(String, Option<u32>)> {
    let found = b.store.invitations(&room_id(room), AT, None, 10).await.expect("the store is there");
    found.into_iter().map(|invitation| (invitation.id, invitation.uses_left)).collect()
}

async fn an_invitation_lets_in_as_often_as_it_says(b: Backend) {
    let room = b.room("one").await;
    for name in ["bob", "carol", "dave"] {
        b.account(name).await;
    }
    assert_eq!(invites(&b, "one", "a", Some(2), 1).await, Invited::New);
    assert_eq!(b.store.invitation_room(&[1; 32], AT).await, Ok(Some(room_id("one"))));
    assert_eq!(b.store.invitation_room(&[2; 32], AT).await, Ok(None));
    assert_eq!(room.append(vec![accepts("nobody", 1)]).await, [Outcome::NoSuchTarget], "no such user");
    assert_eq!(room.append(vec![accepts("bob", 1)]).await, [is_now(Role::Member)]);
    assert_eq!(room.append(vec![accepts("bob", 1)]).await, [is_now(Role::Member)], "a repeat takes none");
    assert_eq!(room.append(vec![accepts("alice", 1)]).await, [is_now(Role::Owner)], "nor does a member");
    assert_eq!(listed(&b, "one").await, [("a".to_owned(), Some(1))]);
    assert_eq!(room.append(vec![accepts("carol", 1)]).await, [is_now(Role::Member)]);
    assert_eq!(room.append(vec![accepts("dave", 1)]).await, [Outcome::NoSuchTarget], "used up");
    assert_eq!(room.append(vec![accepts("carol", 1)]).await, [is_now(Role::Member)], "its last guest may ask again");
    assert_eq!(b.store.invitation_room(&[1; 32], AT).await, Ok(Some(room_id("one"))));
    assert_eq!(b.store.role(&room_id("one"), &user("dave")).await, Ok(None));
    assert!(b.log("one").await.is_empty(), "memberships are not logged");
}

async fn uses_are_counted_within_an_append_and_across_them(b: Backend) {
    let (one, two) = (b.room("one").await, b.room("two").await);
    let names: Vec<String> = (0..12).map(|n| format!("u{n}")).collect();
    for name in &names {
        b.account(name).await;
    }
    assert_eq!(invites(&b, "one", "a", Some(5), 1).await, Invited::New);
    assert_eq!(invites(&b, "two", "b", None, 2).await, Invited::New);
    let mut racers = tokio::task::JoinSet::new();
    for pair in names.chunks(2) {
        let accept = |hash| pair.iter().map(|name| accepts(name, hash)).collect::<Vec<_>>();
        let (store, parts) = (Arc::clone(&b.store), vec![two.part(accept(2)), one.part(accept(1))]);
        racers.spawn(async move { store.append(parts).await.expect("the store is there").remove(1) });
    }
    let let_in = racers.join_all().await.into_iter().flat_map(|done| match done {
        Appended::Done(outcomes) => outcomes,
        Appended::Fenced => panic!("fenced"),
    });
    assert_eq!(let_in.filter(|outcome| *outcome == is_now(Role::Member)).count(), 5);
    assert_eq!(b.store.members(&room_id("one"), None, 50).await.map(|members| members.len()), Ok(6));
    assert_eq!(b.store.members(&room_id("two"), None, 50).await.map(|members| members.len()), Ok(13));
    assert_eq!(listed(&b, "one").await, [("a".to_owned(), Some(0))]);
    assert_eq!(listed(&b, "two").await, [("b".to_owned(), None)]);
}

async fn an_invitation_ends_and_is_swept(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    assert_eq!(invites(&b, "one", "a", None, 1).await, Invited::New);
    let late = item("bob", AT + HOUR, Change::Accept { invitation: [1; 32] });
    assert_eq!(room.append(vec![late]).await, [Outcome::NoSuchTarget]);
    assert_eq!(b.store.invitation_room(&[1; 32], AT + HOUR - 1).await, Ok(Some(room_id("one"))));
    assert_eq!(b.store.invitation_room(&[1; 32], AT + HOUR).await, Ok(None));
    assert_eq!(b.store.invitations(&room_id("one"), AT + HOUR, None, 10).await, Ok(vec![]));
    assert_eq!(b.store.sweep_invitations(AT + HOUR - 1, 10).await, Ok(0));
    assert_eq!(b.store.sweep_invitations(AT + HOUR, 10).await, Ok(1));
    assert_eq!(b.raw.texts("SELECT id FROM invitations").await, Vec::<String>::new());
}

async fn an_invitation_is_its_rooms_and_can_be_revoked(b: Backend) {
    let (one, two) = (b.room("one").await, b.room("two").await);
    b.account("bob").await;
    assert_eq!(invites(&b, "one", "a", None, 1).await, Invited::New);
    assert_eq!(two.append(vec![accepts("bob", 1)]).await, [Outcome::NoSuchTarget], "another room's");
    assert_eq!(b.store.revoke_invitation(&room_id("two"), "a").await, Ok(()));
    assert_eq!(listed(&b, "one").await.len(), 1, "nor can another room revoke it");
    for _ in 0..2 {
        assert_eq!(b.store.revoke_invitation(&room_id("one"), "a").await, Ok(()));
        assert_eq!(one.append(vec![accepts("bob", 1)]).await, [Outcome::NoSuchTarget]);
    }
    assert_eq!(b.store.invitation_room(&[1; 32], AT).await, Ok(None));
    assert_eq!(invites(&b, "one", "b", None, 2).await, Invited::New);
    one.does("alice", Change::DeleteRoom).await;
    assert_eq!(b.store.invitation_room(&[2; 32], AT).await, Ok(None));
    assert_eq!(invites(&b, "one", "c", None, 3).await, Invited::NoSuchRoom);
    b.until_nothing_is_left("SELECT id FROM invitations").await;
}

async fn a_room_has_no_more_invitations_than_it_may(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8_u8 {
        let (store, made) = (Arc::clone(&b.store), invitation(&n.to_string(), Some(1)));
        racers.spawn(async move { (n, store.invite(&room_id("one"), &made, &[n; 32], 3).await) });
    }
    let made: Vec<u8> =
        racers.join_all().await.into_iter().filter(|(_, made)| *made == Ok(Invited::New)).map(|(n, _)| n).collect();
    assert_eq!(made.len(), 3);
    assert_eq!(invites(&b, "one", "more", None, 99).await, Invited::TooMany);
    let page = b.store.invitations(&room_id("one"), AT, None, 2).await.expect("the store is there");
    let rest = b.store.invitations(&room_id("one"), AT, Some(&page[1].id), 2).await.expect("the store is there");
    assert_eq!((page.len(), rest.len()), (2, 1));
    // One that is used up makes room.
    room.append(vec![accepts("bob", made[0])]).await;
    assert_eq!(invites(&b, "one", "more", None, 99).await, Invited::New);
}

async fn an_invitation_lifts_neither_mute_nor_ban(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    assert_eq!(invites(&b, "one", "a", Some(1), 1).await, Invited::New);
    room.does("alice", Change::SetMember { user: user("bob"), role: Role::Muted }).await;
    room.does("bob", Change::RemoveMember { user: user("bob") }).await;
    room.does("alice", Change::Ban { user: user("bob") }).await;
    assert_eq!(room.append(vec![accepts("bob", 1)]).await, [Outcome::NotYours]);
    assert_eq!(listed(&b, "one").await, [("a".to_owned(), Some(1))], "and takes no use");
    room.does("alice", Change::Unban { user: user("bob") }).await;
    assert_eq!(room.append(vec![accepts("bob", 1)]).await, [is_now(Role::Muted)]);
}
