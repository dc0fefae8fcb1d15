//! Threads, reactions and replies in history, mentions, and counts of what is unread: each held against what the log
//! itself says.

use std::collections::BTreeMap;

use roundtable::entry::{Body, ReactionCount, Tally};
use roundtable::ids::Seq;
use roundtable::ports::{MyRoom, Thread};

use super::logs::Random;
use super::outage::ways_back;
use super::*;

on_both_stores!(
    mentions_come_with_the_text_and_go_with_it,
    what_is_unread_is_what_the_log_says,
    a_thread_is_its_root_and_what_follows_from_it,
    reactions_and_replies_are_counted,
    logs_of_the_last_release_are_counted_too,
    a_deleted_room_leaves_no_mentions,
);

fn calls(users: &[&str], room: bool) -> Mentions {
    Mentions::new(users.iter().map(|id| user(id)).collect(), room)
}

fn calling(id: &str, text: &str, mentions: Mentions) -> Change {
    let id = MessageId::parse(id).expect("a valid message id");
    Change::Message { id, text: text.into(), reply_to: None, data: None, mentions, only_if_known: false }
}

fn edit(target: Seq, text: &str, mentions: Mentions) -> Change {
    Change::Edit { target, text: text.into(), mentions }
}

fn mentions_of(entry: &Entry) -> &Mentions {
    match &entry.body {
        Body::Message(message) => &message.mentions,
        Body::Edit { mentions, .. } => mentions,
        other => panic!("calls nobody: {other:?}"),
    }
}

async fn mine(b: &Backend, who: &str) -> BTreeMap<String, (Seq, u64, u64)> {
    let rooms = b.store.my_rooms(&user(who), None, 100).await.expect("the store is there");
    let counts = |MyRoom { room, read_seq, unread, mentions, .. }| (room.id.to_string(), (read_seq, unread, mentions));
    rooms.into_iter().map(counts).collect()
}

/// A room that `alice` owns and these are members of.
async fn room_of(b: &Backend, id: &str, members: &[&str]) -> Owned {
    let room = b.room(id).await;
    for member in members {
        b.account(member).await;
        room.does(member, Change::SetMember { user: user(member), role: Role::Member }).await;
    }
    room
}

async fn mentions_come_with_the_text_and_go_with_it(b: Backend) {
    let room = room_of(&b, "one", &["bob", "carol"]).await;
    room.append(vec![
        item("alice", AT, calling("1", "@bob @alice", calls(&["bob", "alice"], false))),
        item("alice", AT, calling("2", "@room @bob", calls(&["bob"], true))),
        says("bob", "3", "nobody"),
    ])
    .await;
    let log = b.log("one").await;
    assert_eq!(mentions_of(&log[0]), &calls(&["bob", "alice"], false));
    assert_eq!(mentions_of(&log[1]), &calls(&["bob"], true));
    assert!(mentions_of(&log[2]).is_empty());
    assert_eq!(mine(&b, "bob").await["one"], (0, 2, 2), "a message that calls somebody twice counts once");
    assert_eq!(mine(&b, "carol").await["one"], (0, 3, 1));
    assert_eq!(mine(&b, "alice").await["one"], (0, 1, 0), "nobody is called by themselves");

    // By both paths: alone, and with other changes.
    room.does("bob", edit(3, "@carol", calls(&["carol"], false))).await;
    room.append(vec![
        item("bob", AT, calling("4", "@carol", calls(&["carol"], false))),
        item("bob", AT, edit(5, "@room", calls(&[], true))),
        item("alice", AT, edit(1, "nobody", Mentions::default())),
    ])
    .await;
    let log = b.log("one").await;
    assert_eq!(mentions_of(&log[2]), &calls(&["carol"], false), "the present form");
    assert_eq!(mentions_of(&log[3]), &calls(&["carol"], false), "the edit");
    assert_eq!(mentions_of(&log[4]), &calls(&[], true));
    assert!(mentions_of(&log[0]).is_empty());
    assert_eq!(mine(&b, "carol").await["one"], (0, 4, 3));
    assert_eq!(mine(&b, "bob").await["one"], (0, 2, 1));

    for target in [2, 3, 5] {
        room.does("alice", Change::Delete { target, moderator: true }).await;
    }
    let log = b.log("one").await;
    for index in [1, 2, 3, 4, 5] {
        assert!(mentions_of(&log[index]).is_empty(), "{:?}", log[index]);
    }
    assert_eq!(mine(&b, "carol").await["one"], (0, 4, 0), "deleted ones count as unread, but call nobody");
    assert_eq!(b.raw.texts("SELECT user_id FROM mentions").await, [""; 0]);
    assert_eq!(b.raw.texts("SELECT mentions FROM entries").await, [""; 0]);
}

/// Does at random what changes the counts, on both paths of an append.
async fn stirred(b: &Backend, rooms: &[Owned], random: &mut Random, steps: usize) {
    let who = ["alice", "bob", "carol"];
    for step in 0..steps {
        let room = &rooms[random.below(rooms.len() as u64) as usize];
        let only_messages = random.below(2) == 0;
        let mut items = Vec::new();
        for n in 0..1 + random.below(4) {
            let by = who[random.below(3) as usize];
            let target = 1 + random.below(40);
            let called: Vec<&str> = who.into_iter().filter(|_| random.below(4) == 0).collect();
            let mentions = calls(&called, random.below(8) == 0);
            let id = if random.below(6) == 0 { format!("m{}", random.below(20)) } else { format!("s{step}-{n}") };
            let change = match if only_messages { random.below(6) } else { random.below(10) } {
                0..3 => calling(&id, "text", mentions),
                3 | 4 => reply(&id, "a reply", target),
                5 => if_known(&id),
                6 | 7 => edit(target, &format!("edited {step}"), mentions),
                8 => Change::Delete { target, moderator: true },
                _ => Change::React { target, emoji: "👍".into(), active: random.below(3) > 0 },
            };
            items.push(item(by, AT, change));
        }
        room.append(items).await;
        if random.below(3) == 0 {
            let mark = (room.opened.room.id.clone(), user(who[random.below(3) as usize]), random.below(60));
            b.store.raise_read_marks(&[mark]).await.expect("the store is there");
        }
    }
}

/// What the log says about one room: unread messages and mentions of somebody behind a place.
fn counted(log: &[Entry], who: &str, read_seq: Seq) -> (u64, u64) {
    let unread =
        log.iter().filter(|entry| entry.seq > read_seq && entry.kind() == "message" && entry.user.as_str() != who);
    let calls_me = |entry: &&Entry| {
        let mentions = mentions_of(entry);
        mentions.room() || mentions.users().iter().any(|user| user.as_str() == who)
    };
    (unread.clone().count() as u64, unread.filter(calls_me).count() as u64)
}

async fn what_is_unread_is_what_the_log_says(b: Backend) {
    let rooms = [room_of(&b, "one", &["bob", "carol"]).await, room_of(&b, "two", &["bob", "carol"]).await];
    let mut random = Random(7);
    for _ in 0..6 {
        stirred(&b, &rooms, &mut random, 10).await;
        for id in ["one", "two"] {
            let log = b.log(id).await;
            for who in ["alice", "bob", "carol"] {
                let (read_seq, unread, mentions) = mine(&b, who).await[id];
                assert_eq!((unread, mentions), counted(&log, who, read_seq), "{who} in {id} behind {read_seq}");
            }
        }
    }
}

/// The seqs of a whole thread, read in pages of two.
async fn thread(b: &Backend, room: &str, message: Seq) -> Option<(Seq, Vec<Seq>)> {
    let (mut seqs, mut after) = (Vec::new(), 0);
    loop {
        let thread = b.store.thread(&room_id(room), message, after, 2, usize::MAX).await.expect("the store is there");
        let Thread { root, page } = thread?;
        seqs.extend(page.entries.iter().map(|entry| entry.seq));
        assert!(page.entries.len() <= 2 && (!page.more || page.entries.len() == 2));
        if !page.more {
            return Some((root, seqs));
        }
        after = page.entries.last().map_or(after, |entry| entry.seq);
    }
}

/// The root of each message, as the log says.
fn roots(log: &[Entry]) -> BTreeMap<Seq, Seq> {
    let mut roots = BTreeMap::new();
    for entry in log {
        if let Body::Message(message) = &entry.body {
            let root = message.reply_to.map_or(entry.seq, |to| roots[&to]);
            roots.insert(entry.seq, root);
        }
    }
    roots
}

async fn a_thread_is_its_root_and_what_follows_from_it(b: Backend) {
    let room = room_of(&b, "one", &["bob"]).await;
    room.append(vec![says("alice", "1", "root"), says("bob", "2", "other")]).await;
    room.append(vec![item("bob", AT, reply("3", "to the root", 1))]).await;
    room.append(vec![item("alice", AT, reply("4", "to the reply", 3)), says("bob", "5", "other")]).await;
    // A root and its replies in one append, with something else and without.
    room.append(vec![
        item("bob", AT, reply("6", "to the other", 5)),
        item("bob", AT, reply("7", "to that", 6)),
        item("bob", AT, reply("8", "to the first", 4)),
    ])
    .await;
    room.append(vec![
        item("alice", AT, edit(1, "edited", Mentions::default())),
        item("bob", AT, reply("10", "to the first", 8)),
        item("bob", AT, reply("11", "nothing", 9)),
    ])
    .await;
    for message in [1, 3, 4, 8, 10] {
        assert_eq!(thread(&b, "one", message).await, Some((1, vec![1, 3, 4, 8, 10])), "of {message}");
    }
    assert_eq!(thread(&b, "one", 7).await, Some((5, vec![5, 6, 7])));
    assert_eq!(thread(&b, "one", 2).await, Some((2, vec![2])), "of one message");
    for nothing in [0, 9, 99, Seq::MAX] {
        assert_eq!(thread(&b, "one", nothing).await, None);
    }
    assert_eq!(thread(&b, "nowhere", 1).await, None);
    room.does("alice", Change::Delete { target: 1, moderator: true }).await;
    assert_eq!(thread(&b, "one", 3).await, Some((1, vec![1, 3, 4, 8, 10])), "places stay");
    let first = b.store.thread(&room_id("one"), 1, 0, 200, 1).await.expect("the store is there").expect("a thread");
    assert!(first.page.entries.len() < 5 && first.page.more, "a page ends at its bytes");
}

async fn reactions_and_replies_are_counted(b: Backend) {
    let room = room_of(&b, "one", &["bob", "carol"]).await;
    room.append(vec![says("alice", "1", "root"), says("bob", "2", "plain"), item("bob", AT, reply("3", "re", 1))])
        .await;
    let react =
        |by: &str, target, emoji: &str, active| item(by, AT, Change::React { target, emoji: emoji.into(), active });
    room.append(vec![
        react("alice", 1, "🎉", true),
        react("bob", 1, "👍", true),
        react("carol", 1, "👍", true),
        react("carol", 3, "x", true),
        react("carol", 3, "x", false),
        item("carol", AT, reply("8", "re", 3)),
    ])
    .await;
    let tallies = async |who: &str, messages: &[Seq]| {
        b.store.tallies(&room_id("one"), &user(who), messages).await.expect("the store is there")
    };
    let count = |emoji: &str, count, mine| ReactionCount { emoji: emoji.into(), count, mine };
    let bobs = Tally { replies: 2, reactions: vec![count("👍", 2, true), count("🎉", 1, false)] };
    assert_eq!(tallies("bob", &[1, 2, 3, 9]).await, [(1, bobs)].into());
    let alices = Tally { replies: 2, reactions: vec![count("👍", 2, false), count("🎉", 1, true)] };
    assert_eq!(tallies("alice", &[1]).await, [(1, alices)].into());
    assert!(tallies("bob", &[]).await.is_empty() && tallies("bob", &[2, Seq::MAX]).await.is_empty());
    let nowhere = b.store.tallies(&room_id("nowhere"), &user("bob"), &[1]).await;
    assert_eq!(nowhere, Ok(Default::default()));

    let kinds: Vec<AppendItem> = (0..60).map(|n| react("bob", 2, &format!("e{n:02}"), true)).collect();
    room.append(kinds).await;
    room.append(vec![react("carol", 2, "e59", true)]).await;
    let many = tallies("bob", &[2]).await.remove(&2).expect("reactions");
    assert_eq!(many.reactions.len(), 50, "no more kinds than that");
    assert_eq!((&many.reactions[0], &many.reactions[1]), (&count("e59", 2, true), &count("e00", 1, true)));

    let page = b.page("one", Range::Newest, 200).await;
    let shown = b.store.shown(&room_id("one"), &user("carol"), page.entries.clone()).await.expect("the store is there");
    assert_eq!(shown.iter().map(|shown| &shown.entry).collect::<Vec<_>>(), page.entries.iter().collect::<Vec<_>>());
    let told: Vec<Seq> = shown.iter().filter(|shown| shown.tally != Tally::default()).map(|s| s.entry.seq).collect();
    assert_eq!(told, [1, 2]);
}

async fn logs_of_the_last_release_are_counted_too(b: Backend) {
    let rooms = [room_of(&b, "one", &["bob", "carol"]).await, room_of(&b, "two", &["bob", "carol"]).await];
    stirred(&b, &rooms, &mut Random(11), 40).await;
    let mut before = BTreeMap::new();
    for who in ["alice", "bob", "carol"] {
        before.insert(who, mine(&b, who).await);
    }
    match &b.raw {
        Raw::Postgres(url) => {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
            tokio::spawn(connection);
            for step in ways_back("postgres", 3) {
                client.batch_execute(&step).await.expect("nothing is left over");
            }
        }
        Raw::Sqlite { path, .. } => {
            let connection = rusqlite::Connection::open(path).expect("the file is there");
            for step in ways_back("sqlite", 3) {
                connection.execute_batch(&step).expect("nothing is left over");
            }
        }
    }
    b.store.migrate().await.expect("the way there");
    for (who, before) in before {
        let now = mine(&b, who).await;
        for (room, (read_seq, unread, _)) in before {
            assert_eq!(now[&room], (read_seq, unread, 0), "of {who} in {room}; mentions are forgotten");
        }
    }
    for id in ["one", "two"] {
        let roots = roots(&b.log(id).await);
        for (&message, &root) in &roots {
            let members = roots.iter().filter(|(_, of)| **of == root).map(|(&seq, _)| seq).collect();
            assert_eq!(thread(&b, id, message).await, Some((root, members)));
        }
    }
    // And they go on from there.
    let rooms = [b.open("one").await, b.open("two").await];
    stirred(&b, &rooms, &mut Random(13), 10).await;
    for id in ["one", "two"] {
        let log = b.log(id).await;
        let (read_seq, unread, _) = mine(&b, "bob").await[id];
        assert_eq!(unread, counted(&log, "bob", read_seq).0);
    }
}

async fn a_deleted_room_leaves_no_mentions(b: Backend) {
    let (room, other) = (room_of(&b, "one", &["bob"]).await, room_of(&b, "two", &["bob"]).await);
    room.append(vec![item("alice", AT, calling("1", "@bob @room", calls(&["bob"], true)))]).await;
    room.append(vec![item("alice", AT, calling("2", "@bob", calls(&["bob"], false)))]).await;
    other.append(vec![item("alice", AT, calling("1", "@bob", calls(&["bob"], false)))]).await;
    room.does("alice", Change::DeleteRoom).await;
    b.until_nothing_is_left("SELECT text FROM entries WHERE room_no <> (SELECT no FROM rooms WHERE id = 'two')").await;
    assert_eq!(b.raw.texts("SELECT user_id FROM mentions").await, ["bob"]);
    assert_eq!(mine(&b, "bob").await, [("two".to_owned(), (0, 1, 1))].into());
}
