//! What one does in a room, with a server that is well.

use roundtable_client::frames::{Kind, Verdict};
use roundtable_client::http::Method;
use roundtable_client::{
    Bounds, Client, Code, Event, Message, Options, Phase, Status, Subscribe, Told, Transport, Transports,
};
use serde_json::json;

use super::{ENCODINGS, Reader, happens, online, options, owner, reaches};
use crate::support::node::Node;
use crate::support::{tokens, within};

#[actix_rt::test]
async fn everything_one_does_in_a_room() {
    let node = Node::alone().await;
    for (encoding, user) in ENCODINGS.into_iter().zip(["alice", "bob"]) {
        let (alice, room) = owner(&node, user, encoding).await;
        assert_eq!(alice.user().expect("known").id, user);
        let reader = Reader::of(&room, 0);
        let placed = room.subscribe(Subscribe::from_now()).await.expect("subscribed");
        assert_eq!((placed.verdict, placed.head, placed.role.as_deref()), (Verdict::Live, 0, Some("owner")));
        let data = Some(json!({"mood": [1, 2.5, null]}));
        let sending = room.send(Message { data: data.clone(), ..Message::from("first 日本語 👍") });
        let id = sending.id().to_owned();
        let first = within("the commit", sending).await.expect("sent");
        assert_eq!((id.len(), first.id, first.seq, first.duplicate), (32, id, 1, false));
        assert_eq!(room.edit(1, "second").await, Ok(Some(2)));
        assert_eq!(room.edit(1, "second").await, Ok(None));
        assert_eq!(room.react(1, "🎉", true).await, Ok(Some(3)));
        assert_eq!(room.react(1, "🎉", false).await, Ok(Some(4)));
        let chosen = Message { id: Some("chosen".into()), reply_to: Some(1), ..Message::from("reply") };
        assert_eq!(room.send(chosen.clone()).await.expect("sent").seq, 5);
        assert_eq!(room.delete(5).await, Ok(Some(6)));
        reader.sees(6).await;
        reader.is_right();
        let entries = reader.all();
        let Kind::Message(message) = &entries[0].kind else { panic!("{entries:?}") };
        assert_eq!(message.data, data);
        assert!(matches!(&entries[4].kind, Kind::Message(message) if message.reply_to == Some(1)));
        assert!(matches!(entries[5].kind, Kind::Delete { target: 5 }));
        let page = room.history_after(4, Some(1)).await.expect("a page");
        assert!(matches!(&page.events[..], [entry] if entry.seq == 5 && entry.text().is_none()) && page.more);
        // The same id again is the same message.
        let again = room.send(chosen).await.expect("sent");
        assert_eq!((again.seq, again.duplicate), (5, true));
        assert_eq!(room.edit(99, "x").await.expect_err("refused").code, Code::NotFound);
        assert_eq!(room.send("  ").await.expect_err("refused").code, Code::BadRequest);
        assert_eq!(room.send("x".repeat(70_000)).await.expect_err("refused").code, Code::BadRequest);
        assert!(alice.ping().await.is_ok() && alice.state().borrow().lag.is_some());
        let mut state = room.watch();
        within("it is live", state.wait_for(|state| state.seq == 6)).await.expect("it is there");
        assert_eq!((room.state().status, room.state().head), (Status::Live, 6));
        alice.close().await;
        assert_eq!(room.send("too late").await.expect_err("refused").code, Code::Closed);
    }
}

#[actix_rt::test]
async fn hints_joining_and_leaving() {
    let node = Node::alone().await;
    let (alice, room) = owner(&node, "alice", ENCODINGS[0]).await;
    let mut events = alice.events();
    room.subscribe(Subscribe::from_now()).await.expect("subscribed");
    let bob = online(options(node.http(), "bob")).await;
    let his = bob.room(room.id());
    assert_eq!(his.subscribe(Subscribe::from_now()).await.expect("subscribed").role, None);
    let joined = |event: &Event| matches!(event, Event::Presence(presence) if presence.joined.contains(&"bob".into()));
    happens(&mut events, "bob is seen", joined).await;
    assert_eq!(his.send("not a member").await.expect_err("refused").code, Code::Forbidden);
    assert_eq!(his.join().await.as_deref(), Ok("member"));
    assert_eq!(his.send("now").await.expect("sent").seq, 1);
    his.typing(true);
    happens(&mut events, "bob types", |event| matches!(event, Event::Typing(typing) if typing.users == ["bob"])).await;
    his.typing(false);
    happens(&mut events, "he stops", |event| matches!(event, Event::Typing(typing) if typing.users.is_empty())).await;
    his.read(1);
    happens(&mut events, "he has read", |event| matches!(event, Event::Read(read) if read.seq == 1)).await;
    his.leave().await.expect("left");
    assert_eq!(his.state().role, None);
    // Kicked out for good.
    his.join().await.expect("joined");
    let mut his_events = bob.events();
    let ban = node.api("alice").put(&format!("rooms/{}/bans/bob", room.id()), json!({})).await;
    assert!(ban.status < 300, "{ban:?}");
    let banned = |event: &Event| matches!(event, Event::Unsubscribed { code, .. } if code == "banned");
    happens(&mut his_events, "he is banned", banned).await;
    assert_eq!(his.state().status, Status::Idle);
    assert_eq!(his.subscribe(Subscribe::from_now()).await.expect_err("refused").code, Code::Forbidden);
    assert_eq!(within("the end of the entries", his.entries().next()).await, None);
}

#[actix_rt::test]
async fn a_subscription_starts_where_it_is_told() {
    let node = Node::alone().await;
    let (_alice, room) = owner(&node, "alice", ENCODINGS[0]).await;
    let sending: Vec<_> = (1..=8).map(|n| room.send(format!("m{n}"))).collect();
    for (n, sending) in sending.into_iter().enumerate() {
        // The order of sending is the order in the log, though none was waited for.
        assert_eq!(sending.await.expect("sent").seq, n as u64 + 1);
    }
    let bob = online(options(node.http(), "bob")).await;
    let his = bob.room(room.id());
    let mut entries = his.entries();
    for (wanted, seqs) in [
        (Subscribe::after(5), 6..9),
        (Subscribe::last(2), 7..9),
        (Subscribe::last(0), 9..9),
        (Subscribe::from_now(), 9..9),
        (Subscribe::after(0), 1..9),
        (Subscribe::last(100), 1..9),
    ] {
        his.subscribe(wanted).await.expect("subscribed");
        for seq in seqs {
            let told = within("an entry", entries.next()).await;
            assert!(matches!(&told, Some(Told::Entry(entry)) if entry.seq == seq), "{wanted:?}: {seq}, {told:?}");
        }
        let mut state = his.watch();
        within("it is live", state.wait_for(|state| state.status == Status::Live)).await.expect("it is there");
        assert_eq!(entries.try_next(), None, "{wanted:?}");
        assert_eq!(his.state().seq, 8, "{wanted:?}");
    }
    his.unsubscribe();
    assert_eq!(within("the end", entries.next()).await, None);
    let gone = bob.room("no-such-room").subscribe(Subscribe::from_now()).await;
    assert_eq!(gone.expect_err("refused").code, Code::NotFound);
}

#[actix_rt::test]
async fn away_for_longer_than_the_server_replays() {
    let node = Node::with(&[("limits.replay", "50")]).await;
    let (_alice, room) = owner(&node, "alice", ENCODINGS[0]).await;
    let sending: Vec<_> = (1..=300).map(|n| room.send(format!("m{n}"))).collect();
    for sending in sending {
        sending.await.expect("sent");
    }
    let bob = online(options(node.http(), "bob")).await;
    let his = bob.room(room.id());
    assert_eq!(his.subscribe(Subscribe::after(3)).await.expect("subscribed").verdict, Verdict::Reset);
    assert_eq!(within("the reset", his.entries().next()).await, Some(Told::Reset { from: 3, head: 300 }));
    let carol = online(Options {
        bounds: Bounds { queued_entries: 100, ..Bounds::default() },
        ..options(node.http(), "carol")
    });
    let carol = carol.await;
    let hers = carol.room(room.id());
    let reader = Reader::of(&hers, 3);
    hers.subscribe(Subscribe::after(3).filled()).await.expect("subscribed");
    room.send("live").await.expect("sent");
    reader.sees(301).await;
    reader.is_right();
}

#[actix_rt::test]
async fn a_slow_reader_pauses_its_cursor_and_gets_everything_in_the_end() {
    let node = Node::alone().await;
    let (_alice, room) = owner(&node, "alice", ENCODINGS[0]).await;
    let bob =
        online(Options { bounds: Bounds { queued_entries: 10, ..Bounds::default() }, ..options(node.http(), "bob") });
    let bob = bob.await;
    let his = bob.room(room.id());
    his.subscribe(Subscribe::from_now()).await.expect("subscribed");
    let mut state = his.watch();
    for n in 1..=40 {
        room.send(format!("m{n}")).await.expect("sent");
    }
    within("it pauses", state.wait_for(|state| state.status == Status::Paused)).await.expect("it is there");
    room.send("one more").await.expect("sent");
    let mut entries = his.entries();
    for seq in 1..=41 {
        let told = within("an entry", entries.next()).await;
        assert!(matches!(&told, Some(Told::Entry(entry)) if entry.seq == seq), "{seq}: {told:?}");
    }
}

#[actix_rt::test]
async fn credentials_none_bad_ones_a_cookie_and_of_somebody_else() {
    let node = Node::alone().await;
    crate::support::provider();
    let none = Client::new(Options::new(node.http())).expect("options");
    assert_eq!(none.connect().await.expect_err("refused").code, Code::Unauthenticated);
    assert_eq!(none.state().borrow().phase, Phase::Unauthorized);
    // Then the application logs in.
    none.set_token(tokens::of("dave")).await.expect("taken");
    reaches(&none, "it is online", |state| state.phase == Phase::Online).await;
    assert_eq!(none.user().expect("known").id, "dave");
    none.set_token(tokens::lasting("dave", 7200)).await.expect("taken");
    assert_eq!(none.set_token(tokens::of("erin")).await.expect_err("refused").code, Code::Forbidden);
    let other = Client::new(Options { user: Some("erin".into()), ..options(node.http(), "bob") }).expect("options");
    assert_eq!(other.connect().await.expect_err("refused").code, Code::DifferentUser);
    let account = json!({"user": "carol", "password": "a long password"});
    let made = node.api("nobody").post("register", account).await.expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let carol = online(Options { cookie: Some(token), ..Options::new(node.http()) }).await;
    assert_eq!(carol.user().expect("known").id, "carol");
    for address in ["", "ftp://x", "localhost:8080"] {
        assert_eq!(Client::new(Options::new(address)).err().expect("refused").code, Code::BadRequest);
    }
}

#[actix_rt::test]
async fn where_websockets_are_blocked_events_and_posts_do_the_same() {
    let node = Node::alone().await;
    let (_owner, room) = owner(&node, "bob", ENCODINGS[0]).await;
    let alice = online(Options { transport: Transports::Stream, ..options(node.http(), "alice") }).await;
    assert_eq!(alice.state().borrow().transport, Some(Transport::Stream));
    let mine = alice.room(room.id());
    mine.join().await.expect("joined");
    let reader = Reader::of(&mine, 0);
    mine.subscribe(Subscribe::after(0)).await.expect("subscribed");
    let sending: Vec<_> = (0..100).map(|n| mine.send(n.to_string())).collect();
    for (n, sending) in sending.into_iter().enumerate() {
        assert_eq!(within("the commit", sending).await.expect("sent").seq, n as u64 + 1);
    }
    reader.sees(100).await;
    reader.is_right();
    alice.close().await;
}

#[actix_rt::test]
async fn calls_of_the_api_have_the_client_s_credentials() {
    let node = Node::alone().await;
    let alice = online(options(node.http(), "alice")).await;
    let made = alice.call(Method::POST, "rooms", Some(json!({"id": "lobby", "kind": "public"}))).await.expect("made");
    assert_eq!(made["id"], "lobby");
    let again = alice.call(Method::POST, "rooms", Some(json!({"id": "lobby", "kind": "public"}))).await;
    let again = again.expect_err("refused");
    assert_eq!((again.code, again.status, again.retryable), (Code::Conflict, Some(409), false));
    assert_eq!(alice.call(Method::DELETE, "rooms/lobby", None).await, Ok(serde_json::Value::Null));
    // By cookie, with the CSRF token.
    let account = json!({"user": "carol", "password": "a long password"});
    let registered = node.api("nobody").post("register", account).await.expect(201);
    let cookie = registered["token"].as_str().map(str::to_owned);
    let carol = Client::new(Options { cookie, ..Options::new(node.http()) }).expect("options");
    carol.call(Method::POST, "rooms", Some(json!({"id": "hers", "kind": "public"}))).await.expect("made");
}
