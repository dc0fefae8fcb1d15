//! Messages that are pinned.

use super::*;

on_both_stores!(a_message_is_pinned_once, a_room_has_no_more_than_it_may, a_pin_goes_with_its_message);

async fn pin(b: &Backend, target: Seq, by: &str, at: Millis) -> Pinned {
    b.store.pin(&room_id("one"), target, &user(by), at, 3).await.expect("the store is there")
}

async fn pinned(b: &Backend) -> Vec<(Seq, String, Millis)> {
    let pins = b.store.pins(&room_id("one"), 10).await.expect("the store is there");
    pins.into_iter().map(|pin| (pin.entry.seq, pin.by.to_string(), pin.at)).collect()
}

async fn a_message_is_pinned_once(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![
        says("alice", "a", "one"),
        says("alice", "b", "two"),
        item("alice", AT, Change::React { target: 1, emoji: "👍".into(), active: true }),
    ])
    .await;
    assert_eq!(pin(&b, 1, "alice", AT).await, Pinned::Done);
    assert_eq!(pin(&b, 2, "bob", AT + 1).await, Pinned::Done);
    assert_eq!(pin(&b, 1, "bob", AT + 2).await, Pinned::Done, "a repeat changes nothing");
    assert_eq!(pin(&b, 3, "alice", AT).await, Pinned::NoSuchMessage, "no message");
    assert_eq!(pin(&b, 9, "alice", AT).await, Pinned::NoSuchMessage);
    assert_eq!(pinned(&b).await, [(2, "bob".to_owned(), AT + 1), (1, "alice".to_owned(), AT)], "the newest first");
    room.does("alice", Change::Edit { target: 2, text: "edited".into(), mentions: Mentions::default() }).await;
    let newest = b.store.pins(&room_id("one"), 1).await.expect("the store is there");
    assert_eq!(newest[0].entry, b.log("one").await[1], "in its present form");
    for _ in 0..2 {
        assert_eq!(b.store.unpin(&room_id("one"), 2).await, Ok(()));
        assert_eq!(pinned(&b).await, [(1, "alice".to_owned(), AT)]);
    }
    let elsewhere = b.store.pin(&room_id("nowhere"), 1, &user("alice"), AT, 3).await;
    assert_eq!((elsewhere, b.store.pins(&room_id("nowhere"), 9).await), (Ok(Pinned::NoSuchMessage), Ok(vec![])));
}

async fn a_room_has_no_more_than_it_may(b: Backend) {
    let room = b.room("one").await;
    room.append((0..8).map(|n| says("alice", &n.to_string(), "hi")).collect()).await;
    let mut racers = tokio::task::JoinSet::new();
    for seq in 1..=8 {
        let store = Arc::clone(&b.store);
        racers.spawn(async move { store.pin(&room_id("one"), seq, &user("alice"), AT, 3).await });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| **result == Ok(Pinned::Done)).count(), 3);
    assert_eq!(results.iter().filter(|result| **result == Ok(Pinned::TooMany)).count(), 5);
    let there = pinned(&b).await;
    assert_eq!(there.len(), 3);
    assert_eq!(pin(&b, there[0].0, "bob", AT).await, Pinned::Done, "a repeat is no more");
    assert_eq!(b.store.unpin(&room_id("one"), there[0].0).await, Ok(()));
    assert_eq!(pin(&b, there[0].0, "bob", AT).await, Pinned::Done);
}

async fn a_pin_goes_with_its_message(b: Backend) {
    let room = b.room("one").await;
    room.append((0..4).map(|n| says("alice", &n.to_string(), "hi")).collect()).await;
    for seq in 1..=3 {
        assert_eq!(pin(&b, seq, "alice", AT).await, Pinned::Done);
    }
    room.does("alice", Change::Delete { target: 2, moderator: false }).await;
    assert_eq!(pinned(&b).await.iter().map(|pin| pin.0).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(pin(&b, 2, "alice", AT).await, Pinned::Deleted);
    assert_eq!(pin(&b, 4, "alice", AT).await, Pinned::Done, "there is room again");
    room.does("alice", Change::DeleteRoom).await;
    b.until_nothing_is_left("SELECT user_id FROM pins").await;
}
