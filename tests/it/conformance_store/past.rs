//! The texts that edits replaced, and finding a place in the log by its time.

use roundtable::entry::{Mentions, RoomPatch};
use roundtable::ports::Revision;

use super::*;

on_both_stores!(
    what_an_edit_replaces_is_kept_where_the_room_says_so,
    what_is_kept_goes_with_the_message,
    a_time_is_found_in_the_log,
);

fn edit(target: Seq, text: &str) -> Change {
    Change::Edit { target, text: text.into(), mentions: Mentions::default() }
}

fn history(edit_history: bool) -> Change {
    Change::Patch(RoomPatch { edit_history: Some(edit_history), ..RoomPatch::default() })
}

fn revision(text: &str, at: Millis, replaced_by: Seq) -> Revision {
    Revision { text: text.into(), at, replaced_by }
}

async fn kept(b: &Backend, target: Seq) -> Vec<Revision> {
    b.store.revisions(&room_id("one"), target, 0, 10).await.expect("the store is there")
}

async fn what_an_edit_replaces_is_kept_where_the_room_says_so(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "one"), item("alice", AT + 1, edit(1, "two"))]).await;
    assert_eq!(kept(&b, 1).await, [], "the room does not");
    room.does("alice", history(true)).await;
    room.append(vec![item("alice", AT + 2, edit(1, "three"))]).await;
    // A message, its edits and a repeat in one append.
    room.append(vec![
        item("alice", AT + 3, edit(1, "four")),
        item("alice", AT + 4, message("b", "uno")),
        item("alice", AT + 5, edit(6, "dos")),
        item("alice", AT + 6, edit(6, "dos")),
        item("alice", AT + 7, edit(6, "tres")),
    ])
    .await;
    assert_eq!(kept(&b, 1).await, [revision("two", AT + 1, 4), revision("three", AT + 2, 5)]);
    assert_eq!(kept(&b, 6).await, [revision("uno", AT + 4, 7), revision("dos", AT + 5, 8)]);
    let behind = b.store.revisions(&room_id("one"), 6, 7, 10).await;
    assert_eq!(behind, Ok(vec![revision("dos", AT + 5, 8)]));
    assert_eq!(b.store.revisions(&room_id("one"), 6, 0, 1).await.map(|kept| kept.len()), Ok(1));
    room.does("alice", history(false)).await;
    room.append(vec![item("alice", AT + 9, edit(6, "cuatro"))]).await;
    assert_eq!(kept(&b, 6).await.len(), 2);
    assert_eq!(kept(&b, 9).await, []);
}

async fn what_is_kept_goes_with_the_message(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![
        item("alice", AT, history(true)),
        says("alice", "a", "secret"),
        item("alice", AT, edit(2, "also secret")),
        says("alice", "b", "kept"),
        item("alice", AT, edit(4, "and edited")),
    ])
    .await;
    // Of a message and an edit before, and of an edit in the same append.
    let delete = Change::Delete { target: 2, moderator: false };
    room.append(vec![item("alice", AT, edit(2, "secret again")), item("alice", AT, delete)]).await;
    assert_eq!(kept(&b, 2).await, []);
    assert_eq!(b.raw.texts("SELECT text FROM revisions").await, ["kept"]);
    room.does("alice", Change::DeleteRoom).await;
    b.until_nothing_is_left("SELECT text FROM revisions").await;
}

async fn a_time_is_found_in_the_log(b: Backend) {
    let room = b.room("one").await;
    let at = async |at| b.store.seq_at(&room_id("one"), at).await.expect("the store is there");
    assert_eq!(at(AT).await, 1, "behind the head of an empty log");
    let times: Vec<Millis> = (0..100).map(|n| AT + 10 * (n / 2)).collect();
    let says = times.iter().enumerate().map(|(n, at)| item("alice", *at, message(&n.to_string(), "hi")));
    room.append(says.collect()).await;
    assert_eq!((at(0).await, at(AT).await, at(AT + 1).await, at(AT + 10).await), (1, 1, 3, 3));
    assert_eq!((at(AT + 490).await, at(AT + 491).await), (99, 101));
    // Where the clock steps back, the place is one where a time at or behind it follows an earlier one.
    room.append(vec![item("alice", AT + 200, message("back", "hi")), item("alice", AT + 600, message("on", "hi"))])
        .await;
    let log = b.log("one").await;
    for wanted in (AT - 5..AT + 700).step_by(5) {
        let place = usize::try_from(at(wanted).await).expect("a place");
        assert!(place == log.len() + 1 || log[place - 1].at >= wanted, "{wanted}");
        assert!(place == 1 || log[place - 2].at < wanted, "{wanted}");
    }
    assert_eq!(b.store.seq_at(&room_id("nowhere"), AT).await, Ok(1));
}
