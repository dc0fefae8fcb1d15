//! Cut and silent connections, drains, kills, tokens that end, processes that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roundtable_client::storage::FileStorage;
use roundtable_client::{Change, Event, Options, Phase, Sending, Subscribe, Token};
use serde_json::json;

use super::{ENCODINGS, Reader, happens, impatient, online, options, owner, reaches};
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::proxy::{Flow, Proxy, Way};
use crate::support::{tokens, until, within};

#[actix_rt::test]
async fn connections_that_are_cut_all_the_time_lose_double_and_reorder_nothing() {
    let node = Node::alone().await;
    for (encoding, theirs) in ENCODINGS.into_iter().zip(["bob", "carol"]) {
        let (_owner, room) = owner(&node, theirs, encoding).await;
        let other = Reader::of(&room, 0);
        room.subscribe(Subscribe::from_now()).await.expect("subscribed");
        let proxy = Proxy::start(node.http_port()).await;
        let address = format!("http://127.0.0.1:{}", proxy.port());
        let alice = online(Options { encoding, ..impatient(address, "alice") }).await;
        let mine = alice.room(room.id());
        mine.join().await.expect("joined");
        let reader = Reader::of(&mine, 0);
        mine.subscribe(Subscribe::after(0)).await.expect("subscribed");
        let mut events = alice.events();
        let (mut texts, mut sending): (Vec<String>, Vec<Sending>) = (Vec::new(), Vec::new());
        for round in 0..8 {
            // Somewhere in the middle of what is under way; or behind a commit whose answer is lost.
            let mute = round % 2 == 1;
            if mute {
                for sending in sending.drain(..) {
                    within("the commit", sending).await.expect("sent");
                }
                proxy.set(Way::Down, Flow::Drop);
            }
            for n in 0..10 {
                texts.push(format!("{round}.{n}"));
                sending.push(mine.send(texts[texts.len() - 1].clone()));
            }
            let awaited = texts[texts.len() - if mute { 10 } else { 5 }].clone();
            until("the other one sees it", || async { other.texts("alice").contains(&awaited).then_some(()) }).await;
            proxy.set(Way::Down, Flow::Pass);
            proxy.cut();
            happens(&mut events, "it is back", |event| matches!(event, Event::Online { .. })).await;
        }
        for sending in sending {
            within("the commit", sending).await.expect("sent");
        }
        let head = texts.len() as u64;
        reader.sees(head).await;
        other.sees(head).await;
        reader.is_right();
        other.is_right();
        assert_eq!(reader.all(), other.all());
        assert_eq!(reader.texts("alice"), texts, "each once, in the order in which they were sent");
        assert_eq!(alice.outbox(), []);
    }
}

#[actix_rt::test]
async fn a_connection_that_falls_silent_is_noticed() {
    let node = Node::alone().await;
    let (_owner, room) = owner(&node, "bob", ENCODINGS[0]).await;
    let proxy = Proxy::start(node.http_port()).await;
    let alice = online(impatient(format!("http://127.0.0.1:{}", proxy.port()), "alice")).await;
    let mine = alice.room(room.id());
    let reader = Reader::of(&mine, 0);
    mine.subscribe(Subscribe::from_now()).await.expect("subscribed");
    proxy.set_both(Flow::Drop);
    room.send("unseen").await.expect("sent");
    let asking = alice.ping();
    let lost = reaches(&alice, "it is given up", |state| state.phase != Phase::Online);
    let (asked, state) = futures_util::future::join(asking, lost).await;
    assert!(asked.is_err() && state.error.is_some_and(|error| error.message.contains("does not answer")));
    proxy.set_both(Flow::Pass);
    reader.sees(1).await;
    reader.is_right();
}

#[actix_rt::test]
async fn a_drained_node_is_left_and_a_killed_one_costs_a_pause() {
    let cluster = Cluster::start(3).await;
    let room = cluster.room_on(0, "alice").await;
    let mut addresses: Vec<String> = cluster.nodes.iter().map(Node::http).collect();
    let alice = online(Options { addresses: addresses.clone(), ..options("", "alice") }).await;
    addresses.rotate_left(1);
    let bob = online(Options { addresses, ..options("", "bob") }).await;
    let (mine, his) = (alice.room(&room), bob.room(&room));
    his.join().await.expect("joined");
    let readers = [Reader::of(&mine, 0), Reader::of(&his, 0)];
    mine.subscribe(Subscribe::from_now()).await.expect("subscribed");
    his.subscribe(Subscribe::from_now()).await.expect("subscribed");
    let mut sending = Vec::new();
    for n in 0..20 {
        sending.push(mine.send(format!("{n}")));
        sending.push(his.send(format!("{n}")));
    }
    // Alice's node, which owns the room, dies in the middle of it.
    cluster.nodes[0].kill();
    for n in 20..40 {
        sending.push(mine.send(format!("{n}")));
        sending.push(his.send(format!("{n}")));
    }
    for one in sending.drain(..) {
        within("the commit", one).await.expect("sent");
    }
    // Bob's is drained.
    let mut events = bob.events();
    let before = bob.state().borrow().node.clone();
    cluster.nodes[1].terminate();
    for n in 40..60 {
        sending.push(mine.send(format!("{n}")));
        sending.push(his.send(format!("{n}")));
    }
    let drained = |event: &Event| matches!(event, Event::Notice(notice) if notice.code == "draining");
    happens(&mut events, "the drain is told", drained).await;
    reaches(&bob, "bob is elsewhere", |state| state.phase == Phase::Online && state.node != before).await;
    for one in sending {
        within("the commit", one).await.expect("sent");
    }
    let texts: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    for reader in &readers {
        reader.sees(120).await;
        reader.is_right();
        assert_eq!((reader.texts("alice"), reader.texts("bob")), (texts.clone(), texts.clone()));
    }
    assert_eq!(readers[0].all(), readers[1].all());
}

#[actix_rt::test]
async fn a_token_that_runs_out_is_replaced_without_a_break() {
    let node = Node::alone().await;
    crate::support::provider();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let token = Token::from_source(move |_| {
        // The first one is refused, the second ends within the minute of the notice.
        let n = count.fetch_add(1, Ordering::Relaxed);
        let token = ["nonsense".to_owned(), tokens::lasting("alice", 62), tokens::of("alice")];
        async move { Ok(Some(token[n.min(2)].clone())) }
    });
    let alice = online(Options { token, ..Options::new(node.http()) }).await;
    let mut events = alice.events();
    let expiring = |event: &Event| matches!(event, Event::Notice(notice) if notice.code == "credentials_expiring");
    happens(&mut events, "the notice", expiring).await;
    until("a fresh one is asked for", || async { (asked.load(Ordering::Relaxed) >= 3).then_some(()) }).await;
    alice.ping().await.expect("it is there");
    assert_eq!(alice.state().borrow().phase, Phase::Online);
}

#[actix_rt::test]
async fn whoever_is_not_wanted_back_stays_away() {
    let node = Node::alone().await;
    let alice = online(options(node.http(), "alice")).await;
    let admin = crate::support::api::Api::with(&node.http(), Some(tokens::admin("admin")));
    assert!(admin.put("admin/bans/alice", json!({})).await.status < 300);
    let state = reaches(&alice, "it is closed", |state| state.phase == Phase::Closed).await;
    assert_eq!(state.error.and_then(|error| error.close_code), Some(4003));
    assert!(alice.connect().await.is_err());
}

#[actix_rt::test]
async fn what_waits_outlives_the_process_by_a_file() {
    let node = Node::alone().await;
    let (_owner, room) = owner(&node, "bob", ENCODINGS[0]).await;
    let reader = Reader::of(&room, 0);
    room.subscribe(Subscribe::from_now()).await.expect("subscribed");
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start(node.http_port()).await;
    let mut texts = Vec::new();
    for life in 0..4 {
        let storage = Arc::new(FileStorage::open(dir.path().join("outbox")).expect("opens"));
        let address = format!("http://127.0.0.1:{}", proxy.port());
        let options = Options { storage: Some(storage), user: Some("alice".into()), ..impatient(address, "alice") };
        let alice = online(options).await;
        let mine = alice.room(room.id());
        if life == 0 {
            mine.join().await.expect("joined");
        }
        let mut sending = Vec::new();
        if life == 1 {
            // What was left goes first. Then: asked, and not answered, so that the server may have taken it or not.
            until("what was left is sent", || async { alice.outbox().is_empty().then_some(()) }).await;
            proxy.set(Way::Down, Flow::Drop);
        }
        for n in 0..6 {
            texts.push(format!("{life}.{n}"));
            sending.push(mine.send(texts[texts.len() - 1].clone()));
        }
        match life {
            0 => drop(within("one commit", sending.remove(0)).await.expect("sent")),
            1 => until("it is in the log", || async { reader.texts("alice").contains(&texts[6]).then_some(()) }).await,
            2 => {}
            _ => {
                for sending in sending {
                    within("the commit", sending).await.expect("sent");
                }
            }
        }
        alice.close().await;
        proxy.set(Way::Down, Flow::Pass);
        proxy.cut();
    }
    reader.sees(texts.len() as u64).await;
    reader.is_right();
    assert_eq!(reader.texts("alice"), texts);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("outbox")).map(|text| text.contains("\"put\"")).ok(),
        Some(true)
    );
    let left = FileStorage::open(dir.path().join("outbox")).expect("opens");
    assert_eq!(roundtable_client::storage::OutboxStorage::load(&left, "alice").expect("read"), []);
}

#[actix_rt::test]
async fn messages_over_the_rate_wait_for_their_turn_and_a_refused_one_is_told() {
    let settings = [("limits.messages_per_minute", "1200"), ("limits.messages_burst", "3")];
    let node = Node::with(&settings).await;
    let (alice, room) = owner(&node, "alice", ENCODINGS[0]).await;
    let reader = Reader::of(&room, 0);
    room.subscribe(Subscribe::from_now()).await.expect("subscribed");
    let mut events = alice.events();
    let sending: Vec<_> = (0..8).map(|n| room.send(n.to_string())).collect();
    for (n, sending) in sending.into_iter().enumerate() {
        assert_eq!(within("the commit", sending).await.expect("sent").seq, n as u64 + 1);
    }
    reader.sees(8).await;
    reader.is_right();
    let held = |event: &Event| match event {
        Event::Outbox { item, change: Change::Updated } => item.error.is_some(),
        _ => false,
    };
    happens(&mut events, "one had to wait", held).await;
    tokio::time::timeout(Duration::from_secs(5), alice.close()).await.expect("it ends");
}
