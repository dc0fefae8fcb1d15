//! One writer a room: the newest owner's appends go through, nobody else's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use roundtable::ids::Seq;
use roundtable::ports::{Appended, Outcome};

use super::*;

on_both_stores!(
    an_older_epoch_is_refused_and_holds_nobody_back,
    opening_what_is_not_there_gives_nothing,
    two_owners_never_tear_the_log,
);

async fn an_older_epoch_is_refused_and_holds_nobody_back(b: Backend) {
    let (old, other) = (b.room("one").await, b.room("two").await);
    old.append(vec![says("alice", "a", "1")]).await;
    let new = b.open("one").await;
    assert!(new.epoch.0 > old.epoch.0);
    assert_eq!(new.opened.room.head, 1);
    assert_eq!(new.opened.recent.len(), 1);

    for change in [message("b", "2"), if_known("a"), Change::Ban { user: user("bob") }, Change::DeleteRoom] {
        let parts = vec![
            old.part(vec![item("alice", AT, change)]),
            other.part(vec![says("alice", "x", "1"), item("alice", AT, Change::Unban { user: user("bob") })]),
        ];
        let results = b.store.append(parts).await.expect("the store is there");
        assert_eq!(results[0], Appended::Fenced);
        assert!(matches!(results[1], Appended::Done(_)), "{:?}", results[1]);
    }
    let parts = vec![other.part(vec![says("alice", "y", "2")]), old.part(vec![says("alice", "c", "2")])];
    let results = b.store.append(parts).await.expect("the store is there");
    assert_eq!(results, [Appended::Done(vec![appended(2)]), Appended::Fenced]);
    let ahead = Owned { epoch: Epoch(new.epoch.0 + 1), ..new.clone() };
    assert_eq!(ahead.try_append(vec![says("alice", "d", "2")]).await, Appended::Fenced, "nobody was given this epoch");

    assert_eq!(new.append(vec![says("alice", "b", "2")]).await, [appended(2)]);
    assert_eq!(b.log("one").await.len(), 2);
}

async fn opening_what_is_not_there_gives_nothing(b: Backend) {
    assert!(b.store.open_room(&room_id("nowhere"), 10).await.expect("the store is there").is_none());
    let new = b.room("one").await;
    assert_eq!((new.opened.room.head, new.opened.oldest), (0, 1));
    assert_eq!(new.opened.members, HashMap::from([(user("alice"), Role::Owner)]));
    assert!(new.opened.bans.is_empty() && new.opened.recent.is_empty());
    new.append((0..30).map(|n| says("alice", &n.to_string(), "hi")).collect()).await;
    let seqs: Vec<Seq> = b.open("one").await.opened.recent.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (21..=30).collect::<Vec<_>>());
}

/// Both believe that the room is theirs, again and again. What was acknowledged is there once, at its place.
async fn two_owners_never_tear_the_log(b: Backend) {
    b.room("one").await;
    let b = Arc::new(b);
    let over = Arc::new(AtomicBool::new(false));
    let mut owners = tokio::task::JoinSet::new();
    for owner in 0..2 {
        let (b, over) = (Arc::clone(&b), Arc::clone(&over));
        owners.spawn(async move {
            let mut acked: Vec<(Seq, String)> = Vec::new();
            let mut fenced = 0;
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                let room = b.open("one").await;
                let known = room.opened.room.head;
                let mut expected = known;
                loop {
                    let ids: Vec<String> = (0..3).map(|part| format!("{owner}-{n}-{part}")).collect();
                    n += 1;
                    let mut items: Vec<AppendItem> = ids.iter().map(|id| says("alice", id, "hi")).collect();
                    if n % 4 == 0 {
                        // Through the other way of appending, too.
                        items.push(item("alice", AT, Change::Unban { user: user("bob") }));
                    }
                    match room.try_append(items).await {
                        Appended::Fenced => {
                            fenced += 1;
                            break;
                        }
                        Appended::Done(outcomes) => {
                            for (id, outcome) in ids.into_iter().zip(outcomes) {
                                let Outcome::Appended { seq, .. } = outcome else { panic!("{outcome:?}") };
                                expected += 1;
                                assert_eq!(seq, expected, "between opening and fencing nobody else writes");
                                acked.push((seq, id));
                            }
                        }
                    }
                    if n % 7 == 0 || over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            (acked, fenced)
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    over.store(true, Ordering::Relaxed);
    let (mut acked, mut fenced) = (HashMap::new(), 0);
    while let Some(owner) = owners.join_next().await {
        let (of_one, times) = owner.expect("an owner that works");
        fenced += times;
        for (seq, id) in of_one {
            assert_eq!(acked.insert(seq, id), None, "a seq was given out twice");
        }
    }
    assert!(fenced > 0, "they met");
    let log = b.log("one").await;
    assert_eq!(log.len(), acked.len(), "nothing but what was acknowledged");
    for entry in log {
        let roundtable::entry::Body::Message(message) = entry.body else { panic!("not a message") };
        assert_eq!(acked.get(&entry.seq).map(String::as_str), Some(message.id.as_str()));
    }
}
