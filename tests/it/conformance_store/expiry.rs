//! Messages that disappear: not shown from that moment on, erased a little later, their places kept.

use roundtable::entry::{Body, Mentions, RoomPatch};

use super::*;

on_both_stores!(
    what_has_expired_is_not_shown_though_it_is_not_erased_yet,
    what_has_expired_is_erased_and_keeps_its_place,
    a_step_is_bounded_and_goes_on_where_it_was,
    what_has_expired_stays_so_when_the_time_is_taken_away,
    a_message_that_has_expired_can_not_be_edited,
    a_deleted_room_is_left_alone,
);

const MINUTE: Millis = 60_000;

fn ttl(ttl_s: u32) -> Change {
    Change::Patch(RoomPatch { ttl_s: Some(ttl_s), ..RoomPatch::default() })
}

fn edit(target: Seq, text: &str) -> Change {
    Change::Edit { target, text: text.into(), mentions: Mentions::default() }
}

/// The text of each entry; `None` for what has none.
async fn texts(b: &Backend, room: &str) -> Vec<Option<String>> {
    let text = |entry: Entry| match entry.body {
        Body::Message(message) => message.text,
        Body::Edit { text, .. } => text,
        _ => None,
    };
    b.log(room).await.into_iter().map(text).collect()
}

/// Everything that the store holds of texts, wherever.
async fn stored(b: &Backend) -> Vec<String> {
    let sql = "SELECT text FROM entries WHERE kind < 2 UNION ALL SELECT data FROM entries
               UNION ALL SELECT text FROM revisions ORDER BY 1";
    b.raw.texts(sql).await
}

/// Steps until nothing is left to do.
async fn expire_all(b: &Backend, now: Millis) {
    while b.store.expire(now, 200).await.expect("the store is there") {}
}

fn some(texts: &[Option<&str>]) -> Vec<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

async fn what_has_expired_is_not_shown_though_it_is_not_erased_yet(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    let old = now - 2 * MINUTE;
    room.append(vec![
        item("alice", old, with_data("a", "old", "\"old data\"")),
        item("alice", old, message("b", "old, and edited lately")),
        item("alice", now, message("c", "new")),
        item("alice", now, edit(2, "edited")),
        item("alice", now, edit(3, "new, edited")),
    ])
    .await;
    assert_eq!(
        texts(&b, "one").await,
        some(&[Some("old"), Some("edited"), Some("new, edited"), Some("edited"), Some("new, edited")])
    );
    room.append(vec![item("alice", now, ttl(60))]).await;
    let gone = some(&[None, None, Some("new, edited"), None, Some("new, edited"), None]);
    assert_eq!(texts(&b, "one").await, gone);
    let recent = b.open("one").await.opened.recent;
    assert_eq!(recent, b.log("one").await, "what an owner reads shows the same");
    let Body::Message(first) = &recent[0].body else { panic!("not a message") };
    assert_eq!((&first.data, first.id.as_str()), (&None, "a"));
    assert!(stored(&b).await.contains(&"old".to_owned()), "nothing was erased yet");
    let newest = b.page("one", Range::Before(3), 1).await;
    assert!(matches!(&newest.entries[0].body, Body::Message(message) if message.text.is_none()));
}

async fn what_has_expired_is_erased_and_keeps_its_place(b: Backend) {
    let (room, other, now) = (b.room("one").await, b.room("two").await, now());
    let keep = Change::Patch(RoomPatch { edit_history: Some(true), ttl_s: Some(60), ..RoomPatch::default() });
    room.append(vec![
        item("alice", now, keep),
        item("alice", now, with_data("a", "one", "\"data\"")),
        item("alice", now, edit(2, "two")),
        item("alice", now + MINUTE / 2, message("b", "later")),
    ])
    .await;
    other.append(vec![item("alice", now, message("a", "kept"))]).await;
    assert_eq!(b.store.pin(&room_id("one"), 2, &user("alice"), now, 9).await, Ok(Pinned::Done));
    expire_all(&b, now + MINUTE - 1).await;
    assert_eq!(stored(&b).await, ["\"data\"", "kept", "later", "one", "two", "two"], "not a moment before");
    expire_all(&b, now + MINUTE).await;
    assert_eq!(stored(&b).await, ["kept", "later"]);
    assert_eq!(b.raw.texts("SELECT user_id FROM pins").await, Vec::<String>::new());
    expire_all(&b, now + 2 * MINUTE).await;
    assert_eq!(stored(&b).await, ["kept"]);
    assert_eq!(b.log("one").await.len(), 4, "the places stay");
    let repeat = vec![item("alice", now + 9 * MINUTE, message("a", "again"))];
    assert_eq!(room.append(repeat).await, [Outcome::Duplicate { seq: 2, at: now }], "the id is known for ever");
    room.append(vec![item("alice", now + 3 * MINUTE, message("c", "sent after all was done"))]).await;
    expire_all(&b, now + 4 * MINUTE - 1).await;
    assert_eq!(stored(&b).await.len(), 2);
    expire_all(&b, now + 4 * MINUTE).await;
    assert_eq!(stored(&b).await, ["kept"]);
}

async fn a_step_is_bounded_and_goes_on_where_it_was(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    let old = now - 2 * MINUTE;
    room.append((0..25).map(|n| item("alice", old, message(&n.to_string(), "old"))).collect()).await;
    room.append(vec![item("alice", now, ttl(60))]).await;
    for left in [15, 5, 0] {
        assert_eq!(b.store.expire(now, 10).await, Ok(true));
        assert_eq!(stored(&b).await.len(), left);
    }
    assert_eq!(b.store.expire(now, 10).await, Ok(false));
    assert_eq!(b.store.expire(now + MINUTE, 10).await, Ok(true), "looked at again when something may have expired");
    assert_eq!(b.store.expire(now + MINUTE, 10).await, Ok(false));
}

async fn what_has_expired_stays_so_when_the_time_is_taken_away(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    room.append(vec![
        item("alice", now - 5 * MINUTE, ttl(60)),
        item("alice", now - 5 * MINUTE, message("a", "expired")),
        item("alice", now - MINUTE, message("b", "just not")),
        item("alice", now - 4 * MINUTE, message("c", "expired, by a clock that steps back")),
        item("alice", now - MINUTE, ttl(0)),
        item("alice", now, message("d", "for ever")),
    ])
    .await;
    let shown = some(&[None, None, Some("just not"), None, None, Some("for ever")]);
    assert_eq!(texts(&b, "one").await, shown);
    expire_all(&b, now).await;
    assert_eq!(stored(&b).await, ["for ever", "just not"]);
    assert_eq!(b.raw.texts("SELECT 'a room' FROM expiring_rooms").await, Vec::<String>::new(), "nothing is left to do");
    assert_eq!(texts(&b, "one").await, shown);
    let record = b.store.room(&room_id("one")).await.expect("the store is there").expect("the room is there");
    assert_eq!((record.ttl_s, record.expired_before), (0, now - 2 * MINUTE));
    assert_eq!(b.open("one").await.opened.room, record);
}

async fn a_message_that_has_expired_can_not_be_edited(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    room.append(vec![item("alice", now - 2 * MINUTE, message("a", "old")), item("alice", now, ttl(60))]).await;
    let react = Change::React { target: 1, emoji: "👍".into(), active: true };
    let delete = Change::Delete { target: 1, moderator: true };
    let late = [edit(1, "new"), react, delete].map(|change| item("alice", now, change));
    let outcomes = room.append(late.into()).await;
    assert_eq!(outcomes, [Outcome::TargetDeleted, Outcome::TargetDeleted, Outcome::Unchanged]);
    let answer = vec![item("alice", now, reply("b", "an answer to it", 1))];
    assert_eq!(room.append(answer).await, [Outcome::Appended { seq: 3, at: now }], "it still has its place");
}

async fn a_deleted_room_is_left_alone(b: Backend) {
    let (room, now) = (b.room("one").await, now());
    room.append(vec![item("alice", now - 2 * MINUTE, message("a", "old")), item("alice", now, ttl(60))]).await;
    room.does("alice", Change::DeleteRoom).await;
    assert_eq!(b.store.expire(now + MINUTE, 10).await, Ok(false));
}
