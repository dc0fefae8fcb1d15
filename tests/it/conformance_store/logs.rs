//! Numbering, duplicates, and what an append that failed leaves behind.

use roundtable::entry::Body;
use roundtable::ids::Seq;
use roundtable::ports::{Appended, Outcome, Range, StoreError};

use super::*;

on_both_stores!(
    numbers_without_a_gap_across_batches_and_rooms,
    gives_back_what_it_was_given,
    an_id_is_taken_for_ever_per_room_and_sender,
    a_repeat_within_a_batch_is_a_duplicate,
    a_lookup_inserts_nothing,
    a_reply_names_a_message_of_the_room,
    a_failed_append_burns_no_seq,
    a_batch_is_the_same_as_one_at_a_time,
    appends_of_many_lanes_never_block_each_other,
);

async fn numbers_without_a_gap_across_batches_and_rooms(b: Backend) {
    let (one, two) = (b.room("one").await, b.room("two").await);
    for batch in 0..5_u64 {
        let texts = |room: &str| (0..4).map(|n| says("alice", &format!("{room}-{batch}-{n}"), "hi")).collect();
        let parts = vec![two.part(texts("two")), one.part(texts("one"))];
        let results = b.store.append(parts).await.expect("the store is there");
        let expected: Vec<Outcome> = (1..=4).map(|n| appended(batch * 4 + n)).collect();
        assert_eq!(results, [Appended::Done(expected.clone()), Appended::Done(expected)]);
    }
    assert_eq!(b.log("one").await.len(), 20);
    assert_eq!(b.log("two").await.len(), 20);
    assert_eq!(b.store.room(&room_id("one")).await.expect("the store is there").map(|room| room.head), Some(20));
    assert_eq!(b.store.append(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(one.append(Vec::new()).await, []);
}

async fn gives_back_what_it_was_given(b: Backend) {
    let room = b.room("one").await;
    let texts = ["plain", "two\nlines\tand a tab", "ロビー 🎉 e\u{301}", "'\"\\{},NULL", &"長".repeat(4_000)];
    let datas = ["null", r#"{"a":1.10,"b":[1e400,"\u0000"],"a":2}"#, "\"NULL\"", "[]", "12345678901234567890"];
    let mut items = Vec::new();
    for (n, (text, data)) in texts.iter().zip(datas).enumerate() {
        items.push(item("alice", AT + n as i64, with_data(&format!("é {n} \"',{{}}\\"), text, data)));
    }
    room.append(items).await;
    let log = b.log("one").await;
    for (n, entry) in log.iter().enumerate() {
        assert_eq!(entry.user, user("alice"));
        assert_eq!(entry.at, AT + n as i64);
        let Body::Message(message) = &entry.body else { panic!("not a message: {entry:?}") };
        assert_eq!(message.text.as_deref(), Some(texts[n]));
        assert_eq!(message.data.as_ref().map(Data::as_str), Some(datas[n]));
        assert_eq!(message.id.as_str(), format!("é {n} \"',{{}}\\"));
        assert_eq!((message.reply_to, message.edited_at), (None, None));
    }
    assert_eq!(b.open("one").await.opened.recent, log);
}

async fn an_id_is_taken_for_ever_per_room_and_sender(b: Backend) {
    let (room, other) = (b.room("one").await, b.room("two").await);
    assert_eq!(room.append(vec![says("alice", "a", "first")]).await, [appended(1)]);
    let again = item("alice", AT + 5, message("a", "again"));
    assert_eq!(room.append(vec![again.clone()]).await, [duplicate(1)], "with the first time of it");
    assert_eq!(room.append(vec![says("bob", "a", "mine")]).await, [appended(2)], "ids are each sender's own");
    assert_eq!(room.append(vec![says("alice", "A", "case")]).await, [appended(3)], "compared exactly");
    assert_eq!(other.append(vec![again.clone()]).await, [Outcome::Appended { seq: 1, at: AT + 5 }], "and each room's");
    let mixed = vec![says("alice", "b", "new"), again.clone(), says("bob", "b", "new"), says("bob", "a", "again")];
    assert_eq!(room.append(mixed).await, [appended(4), duplicate(1), appended(5), duplicate(2)]);

    let reopened = b.open("one").await;
    assert_eq!(reopened.append(vec![again, says("alice", "c", "new")]).await, [duplicate(1), appended(6)]);
    // Also when its text is gone.
    assert_eq!(reopened.does("alice", Change::Delete { target: 1, moderator: false }).await, appended(7));
    assert_eq!(reopened.append(vec![says("alice", "a", "once more")]).await, [duplicate(1)]);
    assert_eq!(b.log("one").await.len(), 7);
}

async fn a_repeat_within_a_batch_is_a_duplicate(b: Backend) {
    let room = b.room("one").await;
    let items = vec![
        says("alice", "a", "1"),
        says("alice", "a", "2"),
        item("alice", AT, if_known("a")),
        item("alice", AT, if_known("b")),
        says("alice", "b", "3"),
        says("bob", "a", "4"),
        says("alice", "a", "5"),
    ];
    let expected = [appended(1), duplicate(1), duplicate(1), Outcome::Absent, appended(2), appended(3), duplicate(1)];
    assert_eq!(room.append(items).await, expected);
    assert_eq!(b.log("one").await.len(), 3);
}

async fn a_lookup_inserts_nothing(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1")]).await;
    let items = vec![
        item("alice", AT, if_known("x")),
        item("alice", AT + 9, if_known("a")),
        says("alice", "b", "2"),
        item("bob", AT, if_known("a")),
    ];
    assert_eq!(room.append(items).await, [Outcome::Absent, duplicate(1), appended(2), Outcome::Absent]);
    assert_eq!(room.does("alice", if_known("x")).await, Outcome::Absent);
    assert_eq!(b.log("one").await.len(), 2);
}

async fn a_reply_names_a_message_of_the_room(b: Backend) {
    let (room, other) = (b.room("one").await, b.room("two").await);
    other.append((0..9).map(|n| says("alice", &format!("{n}"), "elsewhere")).collect()).await;
    room.append(vec![says("alice", "a", "1")]).await;
    room.does("bob", Change::React { target: 1, emoji: "👍".into(), active: true }).await;
    assert_eq!(room.does("bob", reply("r1", "to the first", 1)).await, appended(3));
    for nothing in [0, 2, 4, 5, Seq::MAX] {
        assert_eq!(room.does("bob", reply("r2", "to nothing", nothing)).await, Outcome::NoSuchTarget, "{nothing}");
    }
    assert_eq!(room.does("bob", reply("r1", "a repeat is one whatever else it says", 99)).await, duplicate(3));
    // Each item sees those before it, even where it names what nobody could know yet.
    let items = vec![
        item("bob", AT, reply("r3", "ahead", 5)),
        says("bob", "m", "4"),
        item("bob", AT, reply("r4", "just made", 4)),
        item("bob", AT, reply("r5", "to itself", 6)),
        item("bob", AT, reply("r6", "older", 3)),
    ];
    let nothing = Outcome::NoSuchTarget;
    assert_eq!(room.append(items).await, [nothing.clone(), appended(4), appended(5), nothing, appended(6)]);
    // The first of its id was refused, so the second is the first.
    let items = vec![item("bob", AT, reply("r7", "to nothing", 2)), item("bob", AT, reply("r7", "to one", 1))];
    assert_eq!(room.append(items).await, [Outcome::NoSuchTarget, appended(7)]);
    let log = b.log("one").await;
    let Body::Message(message) = &log[2].body else { panic!("not a message") };
    assert_eq!(message.reply_to, Some(1));
}

async fn a_failed_append_burns_no_seq(b: Backend) {
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1")]).await;
    let blocked = b.raw.block_writes().await;
    for change in [message("b", "2"), Change::Patch(roundtable::entry::RoomPatch::default())] {
        let failed = b.store.append(vec![room.part(vec![item("alice", AT, change)])]).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    }
    drop(blocked);
    // A server that gave a statement up may still be rolling it back; the next append waits for that.
    let next = loop {
        if let Ok(results) = b.store.append(vec![room.part(vec![says("alice", "c", "3")])]).await {
            break results;
        }
    };
    let log = b.log("one").await;
    assert_eq!(next, [Appended::Done(vec![appended(log.len() as Seq)])]);
    assert_eq!(log.len(), 2, "what failed was not done, and nothing was burnt");
}

/// Any mix of changes over several rooms, in one append or in many: the same outcomes, the same logs.
async fn a_batch_is_the_same_as_one_at_a_time(b: Backend) {
    for name in ["alice", "bob", "carol"] {
        b.account(name).await;
    }
    let mut random = Random(0x5eed);
    for round in 0..12 {
        let name = |kind: &str, n: u64| format!("{kind}-{round}-{n}");
        let (mut wholes, mut singles) = (Vec::new(), Vec::new());
        for n in 0..4 {
            wholes.push(b.room(&name("whole", n)).await);
            singles.push(b.room(&name("single", n)).await);
        }
        // Held by nobody any more; its appends must do nothing, and nothing to the others.
        let stale = b.room(&name("stale", 0)).await;
        b.open(&name("stale", 0)).await;
        for _ in 0..4 {
            // Rooms with messages alone go another way than the others.
            let only_messages: Vec<bool> = (0..4).map(|n| (round + n) % 3 > 0).collect();
            let items: Vec<Vec<AppendItem>> = only_messages
                .iter()
                .map(|&only_messages| (0..random.below(20)).map(|_| random.item(only_messages)).collect())
                .collect();
            let mut parts: Vec<RoomAppend> =
                wholes.iter().zip(&items).map(|(whole, items)| whole.part(items.clone())).collect();
            parts.insert(random.below(5) as usize, stale.part(vec![random.item(true)]));
            let mut at_once = b.store.append(parts).await.expect("the store is there");
            let fenced = at_once.iter().position(|result| *result == Appended::Fenced).expect("the stale one");
            at_once.remove(fenced);
            for ((single, items), at_once) in singles.iter().zip(items).zip(at_once) {
                let mut one_by_one = Vec::new();
                for item in items.clone() {
                    one_by_one.extend(single.append(vec![item]).await);
                }
                assert_eq!(at_once, Appended::Done(one_by_one), "{items:?}");
            }
        }
        for n in 0..4 {
            assert_eq!(b.log(&name("whole", n)).await, b.log(&name("single", n)).await);
            let people = |owned: Owned| (owned.opened.members, owned.opened.bans, owned.opened.room.name);
            let (whole, single) = (b.open(&name("whole", n)).await, b.open(&name("single", n)).await);
            assert_eq!(people(whole), people(single));
        }
        assert!(b.log(&name("stale", 0)).await.is_empty());
    }
}

/// Batches over the same rooms in opposite orders, at the same time, through all kinds of append.
async fn appends_of_many_lanes_never_block_each_other(b: Backend) {
    let mut rooms = Vec::new();
    for n in 0..6 {
        rooms.push(b.room(&format!("r{n}")).await);
    }
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let (store, mut rooms) = (Arc::clone(&b.store), rooms.clone());
        lanes.spawn(async move {
            for n in 0..25 {
                rooms.rotate_left(lane + 1);
                if n % 2 == 1 {
                    rooms.reverse();
                }
                let part = |(index, room): (usize, &Owned)| {
                    let id = format!("{lane}-{n}");
                    let mut items = vec![says("alice", &id, "hi")];
                    if (index + n) % 3 == 0 {
                        items.push(item("alice", AT, Change::React { target: 1, emoji: id, active: true }));
                    }
                    room.part(items)
                };
                let results = store.append(rooms.iter().enumerate().map(part).collect()).await;
                let results = results.expect("nobody is chosen as a deadlock's victim");
                assert!(results.iter().all(|result| matches!(result, Appended::Done(_))));
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.expect("a lane that works");
    }
    for n in 0..6 {
        let messages = b.log(&format!("r{n}")).await.iter().filter(|entry| entry.kind() == "message").count();
        assert_eq!(messages, 100);
    }
    assert_eq!(b.page("r0", Range::Newest, 1).await.entries.len(), 1);
}

/// SplitMix64: enough to mix items up, the same in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn item(&mut self, only_messages: bool) -> AppendItem {
        let by = ["alice", "bob", "carol"][self.below(3) as usize];
        let whom = ["alice", "bob", "carol", "nobody"][self.below(4) as usize];
        let target = self.below(20);
        let id = format!("m{}", self.below(30));
        let change = match if only_messages { self.below(6) } else { self.below(18) } {
            0..4 => message(&id, &format!("text {target}")),
            4 => reply(&id, "a reply", target),
            5 => if_known(&id),
            6..9 => Change::Edit { target, text: format!("edited {}", self.below(3)), mentions: Mentions::default() },
            9 | 10 => Change::Delete { target, moderator: self.below(2) == 0 },
            11 | 12 => {
                let emoji = ["👍", "🎉"][self.below(2) as usize].to_owned();
                Change::React { target, emoji, active: self.below(3) > 0 }
            }
            13 => {
                let name = Some(format!("name {}", self.below(3)));
                Change::Patch(roundtable::entry::RoomPatch { name, ..Default::default() })
            }
            14 => {
                let role = [Role::Owner, Role::Moderator, Role::Member, Role::Muted][self.below(4) as usize];
                Change::SetMember { user: user(whom), role }
            }
            15 => Change::RemoveMember { user: user(whom) },
            16 => Change::Ban { user: user(whom) },
            _ => Change::Unban { user: user(whom) },
        };
        item(by, AT + self.below(1_000) as i64, change)
    }
}
