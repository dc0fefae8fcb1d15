//! Making, listing and deleting rooms; read marks and what is unread.

use roundtable::ports::{MyRoom, StoreError};

use super::*;

on_both_stores!(
    an_id_has_one_room,
    a_direct_room_has_two_members,
    lists_what_one_may_see,
    lists_members_and_bans_in_pages,
    counts_what_others_wrote_behind_the_read_mark,
    read_marks_only_rise,
    a_deleted_room_is_gone_and_its_id_stays_taken,
);

async fn an_id_has_one_room(b: Backend) {
    let room = Room {
        name: Some("Lobby".into()),
        topic: Some("ロビー".into()),
        kind: RoomKind::Private,
        slow_mode_s: 5,
        ..public("one")
    };
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(b.store.create_room(&room, &alice, None).await, Ok(Created::New));
    assert_eq!(b.store.create_room(&public("one"), &bob, None).await, Ok(Created::Taken));
    assert_eq!(b.store.room(&room.id).await, Ok(Some(room.clone())));
    assert_eq!(b.store.role(&room.id, &alice).await, Ok(Some(Role::Owner)));
    assert_eq!(b.store.role(&room.id, &bob).await, Ok(None));
    assert_eq!(b.store.room(&room_id("two")).await, Ok(None));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.create_room(&public("race"), &user(&format!("u{n}")), None).await });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| **result == Ok(Created::New)).count(), 1);
    assert_eq!(results.iter().filter(|result| **result == Ok(Created::Taken)).count(), 7);
    assert_eq!(b.store.members(&room_id("race"), None, 10).await.map(|members| members.len()), Ok(1));
}

async fn a_direct_room_has_two_members(b: Backend) {
    let room = Room { kind: RoomKind::Direct, ..public("dm") };
    assert_eq!(b.store.create_room(&room, &user("bob"), Some(&user("alice"))).await, Ok(Created::New));
    let both = vec![(user("alice"), Role::Member), (user("bob"), Role::Member)];
    assert_eq!(b.store.members(&room.id, None, 10).await, Ok(both));
}

async fn lists_what_one_may_see(b: Backend) {
    for (id, kind, owner) in [
        ("b", RoomKind::Public, "alice"),
        ("a-private", RoomKind::Private, "alice"),
        ("c-private", RoomKind::Private, "bob"),
        ("c.dm", RoomKind::Direct, "bob"),
        ("d", RoomKind::Public, "bob"),
        ("0", RoomKind::Public, "carol"),
    ] {
        let room = Room { kind, ..public(id) };
        assert_eq!(b.store.create_room(&room, &user(owner), None).await, Ok(Created::New));
    }
    let list = async |who: &str, after: Option<&str>, limit| {
        let rooms = b.store.rooms(&user(who), after.map(room_id).as_ref(), limit).await.expect("the store is there");
        rooms.into_iter().map(|(room, role)| (room.id.to_string(), role)).collect::<Vec<_>>()
    };
    let seen = |rooms: &[(&str, Option<Role>)]| {
        rooms.iter().map(|&(id, role)| (id.to_owned(), role)).collect::<Vec<(String, Option<Role>)>>()
    };
    let (owner, member) = (Some(Role::Owner), Some(Role::Member));
    assert_eq!(list("alice", None, 10).await, seen(&[("0", None), ("a-private", owner), ("b", owner), ("d", None)]));
    let bobs = seen(&[("0", None), ("b", None), ("c-private", owner), ("c.dm", member), ("d", owner)]);
    assert_eq!(list("bob", None, 10).await, bobs);
    assert_eq!(list("bob", None, 2).await, bobs[..2]);
    assert_eq!(list("bob", Some("b"), 2).await, bobs[2..4]);
    assert_eq!(list("bob", Some("c.dm"), 2).await, bobs[4..]);
    assert_eq!(list("stranger", None, 10).await, seen(&[("0", None), ("b", None), ("d", None)]));
}

async fn lists_members_and_bans_in_pages(b: Backend) {
    let room = b.room("one").await;
    let names = ["Bob", "bob", "b-b", "b.b", "zed"];
    for name in names {
        b.account(name).await;
    }
    room.append(names.map(|name| item(name, AT, Change::SetMember { user: user(name), role: Role::Member })).into())
        .await;
    let one = room_id("one");
    let first = b.store.members(&one, None, 4).await.expect("the store is there");
    let expected = ["Bob", "alice", "b-b", "b.b"]
        .map(|name| (user(name), if name == "alice" { Role::Owner } else { Role::Member }));
    assert_eq!(first, expected, "in the order of the bytes");
    let second = b.store.members(&one, Some(&first[3].0), 4).await;
    assert_eq!(second, Ok(vec![(user("bob"), Role::Member), (user("zed"), Role::Member)]));
    room.append(names.map(|name| item("alice", AT, Change::Ban { user: user(name) })).into()).await;
    assert_eq!(b.store.bans(&one, None, 2).await, Ok(vec![user("Bob"), user("b-b")]));
    assert_eq!(b.store.bans(&one, Some(&user("b-b")), 9).await, Ok(vec![user("b.b"), user("bob"), user("zed")]));
    assert_eq!(b.store.members(&one, None, 9).await, Ok(vec![(user("alice"), Role::Owner)]));
    assert_eq!(b.store.members(&room_id("nowhere"), None, 9).await, Ok(vec![]));
}

async fn mine(b: &Backend, who: &str) -> Vec<(String, u64, u64, u64)> {
    let rooms: Result<Vec<MyRoom>, StoreError> = b.store.my_rooms(&user(who), None, 10).await;
    let rooms = rooms.expect("the store is there").into_iter();
    rooms.map(|mine| (mine.room.id.to_string(), mine.room.head, mine.read_seq, mine.unread)).collect()
}

async fn counts_what_others_wrote_behind_the_read_mark(b: Backend) {
    let (room, _empty) = (b.room("one").await, b.room("two").await);
    b.account("bob").await;
    room.does("bob", Change::SetMember { user: user("bob"), role: Role::Member }).await;
    room.append(vec![
        says("alice", "1", "a"),
        says("bob", "2", "b"),
        says("alice", "3", "a"),
        item("alice", AT, Change::React { target: 1, emoji: "👍".into(), active: true }),
        item("alice", AT, Change::Edit { target: 1, text: "edited".into(), mentions: Mentions::default() }),
        says("alice", "6", "a"),
    ])
    .await;
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 6, 0, 3)]);
    assert_eq!(mine(&b, "alice").await, [("one".to_owned(), 6, 0, 1), ("two".to_owned(), 0, 0, 0)]);
    let raise = async |who: &str, seq| b.store.raise_read_marks(&[(room_id("one"), user(who), seq)]).await;
    assert_eq!(raise("bob", 1).await, Ok(()));
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 6, 1, 2)]);
    assert_eq!(raise("bob", 6).await, Ok(()));
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 6, 6, 0)]);
    let page = b.store.my_rooms(&user("alice"), Some(&room_id("one")), 1).await.expect("the store is there");
    assert_eq!(page.iter().map(|mine| (mine.room.id.as_str(), mine.role)).collect::<Vec<_>>(), [("two", Role::Owner)]);
    assert_eq!(mine(&b, "stranger").await, []);
}

async fn read_marks_only_rise(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    room.append((0..9).map(|n| says("alice", &n.to_string(), "hi")).collect()).await;
    let one = room_id("one");
    let mark = |who: &str, seq| (one.clone(), user(who), seq);
    let raise = async |marks: &[(RoomId, UserId, Seq)]| b.store.raise_read_marks(marks).await;
    assert_eq!(raise(&[mark("bob", 3), (room_id("nowhere"), user("bob"), 3), mark("alice", 2)]).await, Ok(()));
    room.does("bob", Change::SetMember { user: user("bob"), role: Role::Member }).await;
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 9, 0, 9)], "a stranger's was dropped");
    assert_eq!(raise(&[mark("bob", 5), mark("bob", 4), mark("alice", 1)]).await, Ok(()));
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 9, 5, 4)]);
    assert_eq!(mine(&b, "alice").await, [("one".to_owned(), 9, 2, 0)]);
    assert_eq!(raise(&[mark("bob", 1)]).await, Ok(()));
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 9, 5, 4)]);
    assert_eq!(raise(&[mark("bob", Seq::MAX)]).await, Ok(()));
    assert_eq!(mine(&b, "bob").await, [("one".to_owned(), 9, 9, 0)], "at most to the head");
    assert_eq!(raise(&[]).await, Ok(()));

    // Two nodes that raise the same marks in opposite orders.
    for n in 0..20 {
        b.account(&format!("u{n}")).await;
        let member = Change::SetMember { user: user(&format!("u{n}")), role: Role::Member };
        room.does("alice", member).await;
    }
    let mut nodes = tokio::task::JoinSet::new();
    for node in 0..4 {
        let (store, one) = (Arc::clone(&b.store), one.clone());
        nodes.spawn(async move {
            for seq in 1..=9 {
                let mut marks: Vec<_> = (0..20).map(|n| (one.clone(), user(&format!("u{n}")), seq)).collect();
                if node % 2 == 0 {
                    marks.reverse();
                }
                store.raise_read_marks(&marks).await.expect("nobody is a deadlock's victim");
            }
        });
    }
    nodes.join_all().await;
    assert_eq!(mine(&b, "u7").await, [("one".to_owned(), 9, 9, 0)]);
}

async fn a_deleted_room_is_gone_and_its_id_stays_taken(b: Backend) {
    let (room, other) = (b.room("one").await, b.room("two").await);
    let one = room_id("one");
    room.append(vec![says("alice", "a", "a secret")]).await;
    room.does("alice", Change::React { target: 1, emoji: "👍".into(), active: true }).await;
    other.append(vec![says("alice", "a", "kept")]).await;
    let last = vec![says("alice", "b", "the last secret"), item("alice", AT, Change::DeleteRoom)];
    assert_eq!(room.append(last).await, [appended(3), Outcome::Done { role: None }]);

    assert_eq!(room.try_append(vec![says("alice", "c", "too late")]).await, Appended::Fenced);
    assert_eq!(room.try_append(vec![item("alice", AT, Change::DeleteRoom)]).await, Appended::Fenced);
    assert!(b.store.open_room(&one, 10).await.expect("the store is there").is_none());
    assert_eq!(b.store.room(&one).await, Ok(None));
    assert_eq!(b.store.role(&one, &user("alice")).await, Ok(None));
    assert_eq!(b.store.members(&one, None, 10).await, Ok(vec![]));
    assert_eq!(mine(&b, "alice").await, [("two".to_owned(), 1, 0, 0)]);
    assert_eq!(b.store.rooms(&user("alice"), None, 10).await.map(|rooms| rooms.len()), Ok(1));
    assert!(b.page("one", Range::After(0), 10).await.entries.is_empty());
    assert_eq!(b.store.create_room(&public("one"), &user("bob"), None).await, Ok(Created::Taken));
    assert_eq!(b.store.raise_read_marks(&[(one, user("alice"), 1)]).await, Ok(()));
    b.until_nothing_is_left("SELECT text FROM entries WHERE text <> 'kept'").await;
    b.until_nothing_is_left("SELECT r.id FROM people p JOIN rooms r ON r.no = p.room_no WHERE r.id = 'one'").await;
    b.until_nothing_is_left("SELECT emoji FROM reactions").await;
    assert_eq!(b.raw.texts("SELECT text FROM entries").await, ["kept"]);
    let new = b.room("three").await;
    assert!(new.no > other.no && new.no != room.no, "a number never comes again");
    assert_eq!(new.append(vec![says("alice", "a", "first")]).await, [appended(1)]);
}
