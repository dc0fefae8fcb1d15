//! Edits, deletes, reactions, the room's own settings, members, mutes and bans.

use roundtable::entry::{Body, RoomPatch};
use roundtable::ids::Seq;
use roundtable::ports::Outcome;

use super::*;

on_both_stores!(
    an_edit_is_the_authors_and_shows_at_once,
    a_delete_erases_the_texts_in_the_store_too,
    a_reaction_is_a_state,
    a_patch_logs_what_differed,
    members_come_and_go,
    leaving_lifts_no_mute,
    a_ban_ends_the_membership_and_keeps_out,
);

fn edit(target: Seq, text: &str) -> Change {
    Change::Edit { target, text: text.into(), mentions: Mentions::default() }
}

fn delete(target: Seq, moderator: bool) -> Change {
    Change::Delete { target, moderator }
}

fn react(target: Seq, emoji: &str, active: bool) -> Change {
    Change::React { target, emoji: emoji.into(), active }
}

fn role(user: &str, role: Role) -> Change {
    Change::SetMember { user: super::user(user), role }
}

fn text_of(entry: &Entry) -> (Option<&str>, Option<Millis>) {
    match &entry.body {
        Body::Message(message) => (message.text.as_deref(), message.edited_at),
        Body::Edit { text, .. } => (text.as_deref(), None),
        other => panic!("no text: {other:?}"),
    }
}

async fn an_edit_is_the_authors_and_shows_at_once(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![item("alice", AT, with_data("a", "first", "{\"k\":1}")), says("bob", "b", "bob's")]).await;
    assert_eq!(room.does("bob", edit(1, "theirs")).await, Outcome::NotYours);
    assert_eq!(room.does("alice", edit(9, "nothing")).await, Outcome::NoSuchTarget);
    assert_eq!(room.does("alice", edit(1, "first")).await, Outcome::Unchanged);
    let later = AT + 60_000;
    assert_eq!(
        room.append(vec![item("alice", later, edit(1, "second"))]).await,
        [Outcome::Appended { seq: 3, at: later }]
    );
    assert_eq!(room.does("alice", edit(1, "second")).await, Outcome::Unchanged, "a repeat is harmless");
    assert_eq!(room.does("alice", edit(3, "an edit is no message")).await, Outcome::NoSuchTarget);
    let log = b.log("one").await;
    assert_eq!(text_of(&log[0]), (Some("second"), Some(later)));
    assert_eq!(log[2].body, Body::Edit { target: 1, text: Some("second".into()), mentions: Mentions::default() });
    let Body::Message(message) = &log[0].body else { panic!("not a message") };
    assert_eq!(message.data.as_ref().map(Data::as_str), Some("{\"k\":1}"), "data is not what was edited");
    assert_eq!((log[0].at, log.len()), (AT, 3));
}

async fn a_delete_erases_the_texts_in_the_store_too(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![
        item("alice", AT, with_data("a", "secret one", "\"secret data\"")),
        says("alice", "b", "kept one"),
        item("alice", AT, edit(1, "secret two")),
        item("alice", AT, edit(2, "kept two")),
    ])
    .await;
    assert_eq!(room.does("alice", edit(1, "secret three")).await, appended(5));
    assert_eq!(room.does("bob", delete(1, false)).await, Outcome::NotYours);
    assert_eq!(room.does("bob", delete(3, true)).await, Outcome::NoSuchTarget, "an edit is no message");
    assert_eq!(room.does("bob", delete(1, true)).await, appended(6), "a moderator may");
    assert_eq!(room.does("alice", delete(1, false)).await, Outcome::Unchanged, "a repeat is harmless");
    assert_eq!(room.does("alice", edit(1, "back")).await, Outcome::TargetDeleted);
    assert_eq!(room.does("carol", edit(1, "back")).await, Outcome::NotYours);
    // Made, edited and deleted in one go.
    let at_once = vec![
        says("bob", "c", "secret four"),
        item("bob", AT, edit(7, "secret five")),
        item("bob", AT, delete(7, false)),
        item("bob", AT, edit(7, "back")),
        item("bob", AT, reply("r", "a place is a place", 7)),
    ];
    let expected = [appended(7), appended(8), appended(9), Outcome::TargetDeleted, appended(10)];
    assert_eq!(room.append(at_once).await, expected);
    // Stored, then edited and deleted in one go.
    room.append(vec![says("bob", "d", "secret six")]).await;
    room.append(vec![item("bob", AT, edit(11, "secret seven")), item("bob", AT, delete(11, false))]).await;

    let log = b.log("one").await;
    assert_eq!((text_of(&log[0]).0, text_of(&log[2]).0, text_of(&log[4]).0), (None, None, None));
    assert_eq!((text_of(&log[1]).0, text_of(&log[3]).0), (Some("kept two"), Some("kept two")));
    let Body::Message(message) = &log[0].body else { panic!("not a message") };
    assert_eq!((message.id.as_str(), &message.data), ("a", &None), "the place stays");
    for column in ["text", "data"] {
        let stored = b.raw.texts(&format!("SELECT {column} FROM entries")).await;
        assert!(!stored.iter().any(|text| text.contains("secret")), "{column}: {stored:?}");
    }
}

async fn a_reaction_is_a_state(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1")]).await;
    assert_eq!(room.does("bob", react(1, "👍", false)).await, Outcome::Unchanged);
    assert_eq!(room.does("bob", react(1, "👍", true)).await, appended(2));
    assert_eq!(room.does("bob", react(1, "👍", true)).await, Outcome::Unchanged);
    assert_eq!(room.does("alice", react(1, "👍", true)).await, appended(3), "each person's own");
    assert_eq!(room.does("bob", react(1, "🎉", true)).await, appended(4), "each emoji its own");
    assert_eq!(room.does("bob", react(1, "👍", false)).await, appended(5));
    assert_eq!(room.does("bob", react(2, "👍", true)).await, Outcome::NoSuchTarget, "a reaction is no message");
    assert_eq!(room.does("bob", react(99, "👍", true)).await, Outcome::NoSuchTarget);
    let items = [true, false, false, true, true].map(|active| item("bob", AT, react(1, "🔁", active)));
    let expected = [appended(6), appended(7), Outcome::Unchanged, appended(8), Outcome::Unchanged];
    assert_eq!(room.append(items.into()).await, expected);
    assert_eq!(room.does("bob", react(1, "🔁", true)).await, Outcome::Unchanged, "as the last one left it");
    assert_eq!(room.does("alice", delete(1, false)).await, appended(9));
    assert_eq!(room.does("carol", react(1, "👍", true)).await, Outcome::TargetDeleted);
    assert_eq!(room.does("alice", react(1, "👍", false)).await, appended(10), "taking back is always allowed");
    let log = b.log("one").await;
    assert_eq!(log[1].body, Body::Reaction { target: 1, emoji: "👍".into(), active: true });
    assert_eq!(log[4].body, Body::Reaction { target: 1, emoji: "👍".into(), active: false });
}

async fn a_patch_logs_what_differed(b: Backend) {
    let room = b.room("one").await;
    let patch = RoomPatch {
        name: Some("Lobby".into()),
        topic: Some("all".into()),
        slow_mode_s: Some(0),
        archived: Some(false),
        ttl_s: Some(0),
        edit_history: Some(false),
    };
    assert_eq!(room.does("alice", Change::Patch(patch.clone())).await, appended(1));
    assert_eq!(room.does("alice", Change::Patch(patch)).await, Outcome::Unchanged);
    let patch = RoomPatch { slow_mode_s: Some(30), archived: Some(true), ..RoomPatch::default() };
    let twice = vec![item("alice", AT, Change::Patch(patch.clone())), item("alice", AT, Change::Patch(patch))];
    assert_eq!(room.append(twice).await, [appended(2), Outcome::Unchanged]);
    let log = b.log("one").await;
    let first = RoomPatch { name: Some("Lobby".into()), topic: Some("all".into()), ..RoomPatch::default() };
    let second = RoomPatch { slow_mode_s: Some(30), archived: Some(true), ..RoomPatch::default() };
    assert_eq!((&log[0].body, &log[1].body), (&Body::Room(first), &Body::Room(second)));
    let expected = Room {
        name: Some("Lobby".into()),
        topic: Some("all".into()),
        slow_mode_s: 30,
        archived: true,
        head: 2,
        ..public("one")
    };
    assert_eq!(b.store.room(&room_id("one")).await, Ok(Some(expected.clone())));
    assert_eq!(b.open("one").await.opened.room, expected);
}

async fn members_come_and_go(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, is_now(Role::Member));
    assert_eq!(room.does("alice", role("bob", Role::Moderator)).await, is_now(Role::Moderator));
    assert_eq!(room.does("alice", role("nobody", Role::Member)).await, Outcome::NoSuchTarget);
    assert_eq!(b.store.role(&room_id("one"), &user("bob")).await, Ok(Some(Role::Moderator)));
    assert_eq!(b.store.role(&room_id("one"), &user("nobody")).await, Ok(None));
    assert_eq!(b.open("one").await.opened.members.get(&user("bob")), Some(&Role::Moderator));
    let room = b.open("one").await;
    assert_eq!(room.does("bob", Change::RemoveMember { user: user("bob") }).await, Outcome::Done { role: None });
    assert_eq!(room.does("bob", Change::RemoveMember { user: user("bob") }).await, Outcome::Done { role: None });
    assert_eq!(b.store.role(&room_id("one"), &user("bob")).await, Ok(None));
    assert!(!b.open("one").await.opened.members.contains_key(&user("bob")));
    assert!(b.log("one").await.is_empty(), "memberships are not logged");
}

async fn leaving_lifts_no_mute(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    let leave = Change::RemoveMember { user: user("bob") };
    room.does("bob", role("bob", Role::Member)).await;
    assert_eq!(room.does("alice", role("bob", Role::Muted)).await, is_now(Role::Muted));
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, is_now(Role::Muted), "joining again lifts none");
    let items = vec![item("bob", AT, leave.clone()), item("bob", AT, role("bob", Role::Member))];
    assert_eq!(room.append(items).await, [Outcome::Done { role: None }, is_now(Role::Muted)]);
    room.does("bob", leave.clone()).await;
    let room = b.open("one").await;
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, is_now(Role::Muted), "nor does a new owner");
    assert_eq!(b.store.role(&room_id("one"), &user("bob")).await, Ok(Some(Role::Muted)));
    assert_eq!(room.does("alice", role("bob", Role::Member)).await, is_now(Role::Member), "a moderator lifts it");
    room.does("bob", leave).await;
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, is_now(Role::Member));
}

async fn a_ban_ends_the_membership_and_keeps_out(b: Backend) {
    let room = b.room("one").await;
    b.account("bob").await;
    let one = room_id("one");
    room.does("bob", role("bob", Role::Member)).await;
    assert_eq!(room.does("alice", Change::Ban { user: user("bob") }).await, Outcome::Done { role: None });
    assert_eq!(b.store.role(&one, &user("bob")).await, Ok(None));
    assert_eq!(b.store.bans(&one, None, 10).await, Ok(vec![user("bob")]));
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, Outcome::NotYours);
    let room = b.open("one").await;
    assert_eq!(room.opened.bans, [user("bob")]);
    assert_eq!(room.does("alice", Change::Ban { user: user("bob") }).await, Outcome::Done { role: None });
    assert_eq!(room.does("alice", Change::Unban { user: user("bob") }).await, Outcome::Done { role: None });
    assert_eq!(b.store.bans(&one, None, 10).await, Ok(vec![]));
    assert_eq!(room.does("bob", role("bob", Role::Member)).await, is_now(Role::Member));
}
