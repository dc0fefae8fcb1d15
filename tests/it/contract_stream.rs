//! Sessions where WebSocket is blocked (docs/protocol.md, "Where WebSocket is blocked"): the same frames and the same
//! behaviour over server-sent events and posts, on one node and on three.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::event_stream::EventStream;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person, Transport, makes};
use crate::support::{tokens, until, within};

/// What differs from run to run.
fn plain(mut frame: Value) -> Value {
    match &mut frame {
        Value::Object(fields) => {
            for volatile in ["at", "session", "node"] {
                fields.remove(volatile);
            }
            for value in fields.values_mut() {
                *value = plain(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = plain(item.take());
            }
        }
        _ => {}
    }
    frame
}

/// Everything that a client may say, and all that it is told. `posts_to`: where a stream's posts go in turn.
async fn scenario(transport: Transport, node: &Node, posts_to: &[&Node]) -> Vec<Value> {
    let mut told = Vec::new();
    makes(node, "owner", "lobby").await;
    let mut alice = match transport {
        Transport::WebSocket => {
            Person::upgraded(&node.ws_url(), "alice", Encoding::Json, &[]).await.expect("an upgrade")
        }
        Transport::Stream => {
            let mut stream = EventStream::open(&node.http(), "").await.expect("a stream");
            stream.greeted().await;
            stream.posts_to(posts_to);
            Person::on_stream(stream, "alice")
        }
    };
    told.push(alice.says_hello().await);
    for request in [
        json!({"type": "ping"}),
        json!({"type": "send", "room": "lobby", "id": "early", "text": "not a member"}),
        json!({"type": "join", "room": "lobby"}),
        json!({"type": "subscribe", "room": "lobby"}),
        json!({"type": "send", "room": "lobby", "id": "m1", "text": "one \u{2028} \r\n \u{1F980} \"quoted\"", "data": {"a": [1, "\n"]}}),
        json!({"type": "send", "room": "lobby", "id": "m1", "text": "again"}),
        json!({"type": "send", "room": "lobby", "id": "m2", "text": "two", "reply_to": 1}),
        json!({"type": "edit", "room": "lobby", "target": 2, "text": "two!"}),
        json!({"type": "react", "room": "lobby", "target": 1, "emoji": "👍", "active": true}),
        json!({"type": "delete", "room": "lobby", "target": 1}),
        json!({"type": "history", "room": "lobby", "limit": 3}),
        json!({"type": "subscribe", "room": "lobby", "after": 2}),
        json!({"type": "subscribe", "room": "nowhere"}),
        json!({"type": "send", "room": "lobby", "id": "m3"}),
        json!({"type": "nonsense"}),
        json!({"type": "refresh", "token": tokens::signed(&json!({"sub": "alice", "exp": 4_000_000_000_u64}))}),
        json!({"type": "refresh", "token": tokens::of("bob")}),
        json!({"type": "unsubscribe", "room": "lobby"}),
        json!({"type": "leave", "room": "lobby"}),
    ] {
        told.push(alice.asks(request).await);
    }
    alice.sees_entry("lobby", 5).await;
    told.extend(alice.seen("lobby").iter().cloned());
    alice.writes(&json!({"type": "hello"})).await;
    told.push(json!(alice.closed().await));
    told.into_iter().map(plain).collect()
}

#[tokio::test]
async fn a_stream_is_told_what_a_websocket_is_told() {
    let (one, other) = tokio::join!(Node::alone(), Node::alone());
    let by_websocket = scenario(Transport::WebSocket, &one, &[]).await;
    let by_stream = scenario(Transport::Stream, &other, &[&other]).await;
    assert_eq!(by_websocket.last(), Some(&json!(4000)));
    for (websocket, stream) in by_websocket.iter().zip(&by_stream) {
        assert_eq!(websocket, stream);
    }
    assert_eq!(by_websocket.len(), by_stream.len());
}

#[tokio::test]
async fn posts_may_go_to_any_node() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let by_websocket = scenario(Transport::WebSocket, &Node::alone().await, &[]).await;
    assert_eq!(scenario(Transport::Stream, a, &[b, c, a]).await, by_websocket);
    assert!(b.metric("roundtable_stream_forwards_total").await >= 5.0);
    assert_eq!(a.metric("roundtable_stream_forwards_total").await, 0.0);
    assert!(a.metric("roundtable_stream_posts_total").await >= 5.0);
    // And both kinds of people talk with each other, in the order in which the posts were numbered, whatever nodes they go to.
    let mut alice = Person::over_posting(Transport::Stream, a, "alice", &[a, b, c]).await;
    let mut bob = Person::over(Transport::WebSocket, c, "bob").await;
    alice.joins("lobby").await;
    let head = bob.joins("lobby").await["head"].as_u64().expect("a head");
    let mut refs = Vec::new();
    for n in 0..120 {
        let send = json!({"type": "send", "room": "lobby", "id": format!("n{n}"), "text": format!("{n}")});
        refs.push(alice.starts(send).await);
    }
    for (n, request) in (0..).zip(refs) {
        assert_eq!(alice.answer(request).await["seq"], head + 1 + n);
    }
    let last = bob.sends("lobby", "heard", "all of it").await;
    alice.sees("lobby", last, "all of it").await;
    bob.sees("lobby", last, "all of it").await;
    assert_eq!(bob.seen("lobby").len(), 121);
}

#[tokio::test]
async fn many_posts_at_once_keep_their_order() {
    let node = Node::with(&[("limits.inflight", "4096")]).await;
    makes(&node, "alice", "lobby").await;
    let mut stream = EventStream::of(&node.http(), "alice").await;
    assert_eq!(stream.post(&[json!({"type": "hello"}), json!({"type": "subscribe", "room": "lobby"})]).await, 204);
    let mut n = 0;
    for _ in 0..20 {
        let sends: Vec<Value> = (0..64)
            .map(|_| {
                n += 1;
                json!({"type": "send", "room": "lobby", "id": format!("m{n}"), "text": format!("{n}"), "ref": n})
            })
            .collect();
        assert_eq!(stream.post(&sends).await, 204);
    }
    let (mut answered, mut seen) = (0, 0);
    while answered < n || seen < n {
        let event = within("an event", stream.next()).await.expect("an event").data;
        if event["type"] == "sent" {
            answered += 1;
            assert_eq!((&event["ref"], &event["seq"]), (&json!(answered), &json!(answered)));
        }
        for entry in event["events"].as_array().into_iter().flatten() {
            seen += 1;
            assert_eq!((&entry["seq"], &entry["text"]), (&json!(seen), &json!(seen.to_string())));
        }
    }
}

#[tokio::test]
async fn a_post_counts_once_and_in_its_turn() {
    let node = Node::alone().await;
    let base = node.http();
    let mut stream = EventStream::of(&base, "alice").await;
    let id = stream.id.clone();
    let post = async |id: &str, body: Value| EventStream::posting(&base, id, &body).await;
    let ping = |n: u64| json!({"n": n, "frames": [{"type": "ping", "ref": n}]});
    post(&id, json!({"n": 1, "frames": [{"type": "hello", "ref": 0}]})).await.expect(204);
    post(&id, ping(3)).await.problem(409, "conflict");
    post(&id, ping(2)).await.expect(204);
    post(&id, ping(2)).await.expect(204);
    post(&id, json!({"n": 1, "frames": [{"type": "hello"}]})).await.expect(204);
    post(&id, json!({"n": 3, "frames": []})).await.expect(204);
    post(&id, ping(4)).await.expect(204);
    // A second hello would have closed it; a second ping would have been answered.
    let mut refs = Vec::new();
    while refs.last() != Some(&json!(4)) {
        refs.push(within("an answer", stream.next()).await.expect("an event").data["ref"].clone());
    }
    assert_eq!(refs, [0, 2, 4].map(|n| json!(n)));

    // What is wrong with a post is said, and costs nothing: the next number is the same as before.
    for (body, says) in [
        (json!({"frames": []}), "n: "),
        (json!({"n": 0, "frames": []}), "n: "),
        (json!({"n": "5", "frames": []}), "n: "),
        (json!({"n": 5}), "frames: "),
        (json!({"n": 5, "frames": {}}), "frames: "),
        (json!({"n": 5, "frames": vec![json!({"type": "ping"}); 65]}), "frames: "),
        (json!([]), "the body"),
    ] {
        let problem = post(&id, body).await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(says)), "{problem}");
    }
    let frame = json!({"type": "ping", "more": "x".repeat(65_536)});
    post(&id, json!({"n": 5, "frames": [frame]})).await.problem(413, "bad_request");
    let frames = vec![json!({"type": "ping", "more": "x".repeat(60_000)}); 5];
    post(&id, json!({"n": 5, "frames": frames})).await.problem(413, "bad_request");
    // A frame that is none is answered in the stream, as over a WebSocket.
    post(&id, json!({"n": 5, "frames": [17]})).await.expect(204);
    let error = within("an answer", stream.next()).await.expect("an event");
    assert_eq!((&error.data["type"], &error.data["code"]), (&json!("error"), &json!("bad_request")));

    // Only who knows the whole name is let in.
    let (place, secret) = id.rsplit_once('.').expect("a secret");
    let mut wrong = secret.to_owned();
    wrong.replace_range(..1, if secret.starts_with('A') { "B" } else { "A" });
    for other in [format!("{place}.{wrong}"), id.replacen("n-", "n-0", 1), format!("nobody.0.0.1.{secret}")] {
        post(&other, ping(6)).await.problem(404, "not_found");
    }
    for nonsense in ["", "x", place, "n.0.0.1.AAAA"] {
        post(nonsense, ping(6)).await.problem(400, "bad_request");
    }
    // A name of another epoch or node is not asked about on the bus where there is no such node.
    assert_eq!(node.metric("roundtable_stream_forwards_total").await, 0.0);
    post(&id, ping(6)).await.expect(204);
    drop(stream);
    until("the stream is gone", || async { (post(&id, ping(7)).await.status == 404).then_some(()) }).await;
}

#[tokio::test]
async fn refusals_are_those_of_the_upgrade() {
    let node = Node::with(&[
        ("limits.connections_per_ip", "2"),
        ("limits.stream_posts_per_minute", "3"),
        ("server.allowed_origins", "https://app.example"),
    ])
    .await;
    let base = node.http();
    let problem = async |headers: &str| {
        let refused = EventStream::open(&base, headers).await.err().expect("a refusal");
        assert!(refused.head.contains("content-type: application/problem+json"), "{}", refused.head);
        (refused.status, refused.body["code"].as_str().expect("a code").to_owned(), refused.head)
    };
    assert_eq!(problem("Authorization: Bearer nonsense\r\n").await.0, 401);
    let register = node.api("alice").post("register", json!({"user": "carol", "password": "correct horse"})).await;
    let token = register.expect(201)["token"].as_str().expect("a token").to_owned();
    let cookie = format!("Cookie: roundtable_session={token}\r\n");
    for foreign in [
        "",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        let (status, code, _) = problem(&format!("{cookie}{foreign}")).await;
        assert_eq!((status, &*code), (403, "forbidden"), "{foreign}");
    }
    assert!(node.metric("roundtable_connections_refused_total{reason=\"origin\"}").await >= 6.0);
    for own in ["Sec-Fetch-Site: same-origin\r\n", &format!("Origin: {base}\r\n"), "Origin: https://app.example\r\n"] {
        let mut stream = EventStream::open(&base, &format!("{cookie}{own}")).await.expect("our own page");
        stream.greeted().await;
        assert_eq!(stream.head.contains("access-control-allow-origin: https://app.example"), own.contains("app.ex"));
        drop(stream);
        until("it is gone", || async { (node.metric("roundtable_sessions").await == 0.0).then_some(()) }).await;
    }
    let preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")];
    let answer = Api::with(&base, None).call(Method::OPTIONS, "stream", None, &preflight).await;
    let allowed = answer.header("access-control-allow-headers").expect("headers").to_lowercase();
    assert!(allowed.contains("x-roundtable-stream") && answer.status == 204, "{allowed}");

    let mut first = EventStream::of(&base, "alice").await;
    for header in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no", "nosniff"] {
        assert!(first.head.contains(header), "{}", first.head);
    }
    assert!(first.head.contains("x-request-id: "), "{}", first.head);
    let _second = EventStream::of(&base, "bob").await;
    assert_eq!(node.metric("roundtable_connections{transport=\"stream\"}").await, 2.0);
    assert_eq!(node.metric("roundtable_connections{transport=\"websocket\"}").await, 0.0);
    let (status, code, head) = problem("").await;
    assert_eq!((status, &*code), (429, "rate_limited"));
    assert!(head.contains("retry-after: "), "{head}");

    // Posts have a rate of their own.
    assert_eq!(first.post(&[json!({"type": "hello"})]).await, 204);
    for n in 2..4 {
        EventStream::posting(&base, &first.id, &json!({"n": n, "frames": []})).await.expect(204);
    }
    let answer = EventStream::posting(&base, &first.id, &json!({"n": 4, "frames": []})).await;
    assert!(answer.header("retry-after").is_some());
    answer.problem(429, "rate_limited");
}

#[tokio::test]
async fn credentials_end_a_stream_as_they_end_a_websocket() {
    let node = Node::alone().await;
    // In hello, without any at the request.
    let mut stream = EventStream::open(&node.http(), "").await.expect("a stream");
    stream.greeted().await;
    stream.post(&[json!({"type": "hello", "token": "nonsense", "ref": 1})]).await;
    let mut nobody = Person::on_stream(stream, "nobody");
    assert_eq!(nobody.answer(1).await["code"], "unauthenticated");
    assert_eq!(nobody.closed().await, 4300);
    // They run out.
    let headers = format!("Authorization: Bearer {}\r\n", tokens::lasting("brief", 3));
    let mut stream = EventStream::open(&node.http(), &headers).await.expect("a stream");
    stream.greeted().await;
    assert_eq!(stream.post(&[json!({"type": "hello"})]).await, 204);
    let mut brief = Person::on_stream(stream, "brief");
    assert_eq!(brief.next("notice").await["code"], "credentials_expiring");
    assert_eq!(brief.closed().await, 4301);
    // They are revoked.
    let register = node.api("x").post("register", json!({"user": "carol", "password": "correct horse"})).await;
    let token = register.expect(201)["token"].as_str().expect("a token").to_owned();
    let mut stream =
        EventStream::open(&node.http(), &format!("Authorization: Bearer {token}\r\n")).await.expect("a stream");
    stream.greeted().await;
    assert_eq!(stream.post(&[json!({"type": "hello"})]).await, 204);
    let mut carol = Person::on_stream(stream, "carol");
    carol.next("welcome").await;
    Api::with(&node.http(), Some(token)).post("logout", Value::Null).await.expect(204);
    assert_eq!(carol.closed().await, 4003);
}

#[tokio::test]
async fn a_drained_node_says_so_and_another_goes_on() {
    let cluster = Cluster::start(2).await;
    let [leaving, staying] = &cluster.nodes[..] else { panic!("two nodes") };
    makes(staying, "alice", "lobby").await;
    let mut alice = Person::over_posting(Transport::Stream, leaving, "alice", &[staying]).await;
    alice.joins("lobby").await;
    let first = alice.sends("lobby", "m1", "before").await;
    alice.sees("lobby", first, "before").await;
    leaving.terminate();
    assert_eq!(alice.next("notice").await["code"], "draining");
    assert_eq!(alice.closed().await, 4200);
    assert!(alice.stream().is_complete(), "the body ended as it should");
    assert!(leaving.exit().await.success());
    let id = alice.stream().id.clone();
    until("the other node knows that it is gone", || async {
        let answer = EventStream::posting(&staying.http(), &id, &json!({"n": 9, "frames": []})).await;
        (answer.status == 404).then_some(())
    })
    .await;
    let mut bob = Person::at(staying, "bob").await;
    bob.joins("lobby").await;
    bob.sends("lobby", "m2", "meanwhile").await;
    let mut again = Person::over(Transport::Stream, staying, "alice").await;
    assert_eq!(again.resumes("lobby", first).await["verdict"], "replay");
    again.sees("lobby", first + 1, "meanwhile").await;
}

#[tokio::test]
async fn a_killed_node_costs_the_stream_and_no_entry() {
    let cluster = Cluster::start(3).await;
    let [dies, stays, other] = &cluster.nodes[..] else { panic!("three nodes") };
    makes(stays, "alice", "lobby").await;
    let mut alice = Person::over_posting(Transport::Stream, dies, "alice", &[stays, other]).await;
    alice.joins("lobby").await;
    let mut last = 0;
    for n in 0..20 {
        last = alice.sends("lobby", &format!("m{n}"), "x").await;
    }
    alice.sees("lobby", last, "x").await;
    dies.kill();
    assert_eq!(alice.closed().await, 1006);
    assert!(!alice.stream().is_complete());
    let id = alice.stream().id.clone();
    let mut again = Person::over_posting(Transport::Stream, stays, "alice", &[other]).await;
    again.resumes("lobby", last).await;
    let sent = until("the room takes sends again", || async {
        let message = json!({"id": "after", "text": "again"});
        let answer = other.api("alice").post("rooms/lobby/messages", message).await;
        (answer.status < 300).then_some(answer.body["seq"].as_u64().expect("a seq"))
    })
    .await;
    again.sees("lobby", sent, "again").await;
    // A post for the dead stream is told so, once its node is known to be dead.
    until("its posts are refused for good", || async {
        let answer = EventStream::posting(&other.http(), &id, &json!({"n": 99, "frames": []})).await;
        assert!(matches!(answer.status, 404 | 503), "{answer:?}");
        (answer.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_pauses_and_catches_up() {
    let node = Node::with(&[("limits.outbound_bytes", "65536")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut slow = Person::over(Transport::Stream, &node, "slow").await;
    slow.joins("lobby").await;
    let text = "y".repeat(3_900);
    let mut sent = 0;
    let mut paused = false;
    // Once more after the first pause: a megabyte behind it, it stands still for sure.
    loop {
        for _ in 0..250 {
            sent += 1;
            alice.sends("lobby", &format!("m{sent}"), &text).await;
        }
        alice.forgets("lobby");
        if paused {
            break;
        }
        assert!(sent < 20_000, "the reader is never felt");
        paused = node.metric("roundtable_cursor_pauses_total").await > 0.0;
    }
    // Nothing more of its client is taken meanwhile: that is unknown, and the same number again takes effect once.
    let (id, n) = (slow.stream().id.clone(), slow.stream().posted() + 1);
    let late = json!({"n": n, "frames": [{"type": "send", "room": "lobby", "id": "late", "text": "at last"}]});
    EventStream::posting(&node.http(), &id, &late).await.problem(503, "unavailable");
    slow.sees_entry("lobby", sent).await;
    EventStream::posting(&node.http(), &id, &late).await.expect(204);
    EventStream::posting(&node.http(), &id, &late).await.expect(204);
    slow.sees("lobby", sent + 1, "at last").await;
    let last = alice.sends("lobby", "last", "the end").await;
    assert_eq!(last, sent + 2);
    slow.sees("lobby", last, "the end").await;
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_closed_after_stall_s() {
    let node = Node::with(&[("limits.stall_s", "2"), ("limits.outbound_bytes", "65536")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut stuck = Person::over(Transport::Stream, &node, "stuck").await;
    stuck.joins("lobby").await;
    let text = "x".repeat(4_000);
    within("the server gives the stuck reader up", async {
        for i in 0.. {
            alice.sends("lobby", &format!("m{i}"), &text).await;
            if i % 50 == 0 && node.metric("roundtable_sessions").await == 1.0 {
                return;
            }
        }
    })
    .await;
    let stalled = "roundtable_sessions_closed_total{code=\"4201\"}";
    until("its end is counted as a stall", || async { (node.metric(stalled).await == 1.0).then_some(()) }).await;
    let code = stuck.closed().await;
    assert!([4201, 1006].contains(&code), "{code}");
}

/// The heartbeat is fixed, so this takes as long as it takes.
#[tokio::test]
async fn a_stream_without_posts_ends_and_one_with_pings_stays() {
    let node = Node::alone().await;
    let mut silent = EventStream::of(&node.http(), "silent").await;
    let mut alive = EventStream::of(&node.http(), "alive").await;
    for stream in [&mut silent, &mut alive] {
        assert_eq!(stream.post(&[json!({"type": "hello"})]).await, 204);
        assert_eq!(within("welcome", stream.next()).await.expect("an event").data["heartbeat_s"], 25);
    }
    let over = std::cell::Cell::new(false);
    let ending = async {
        let close = silent.next().await.expect("an event");
        assert_eq!((&*close.name, &close.data["code"]), ("close", &json!(4202)));
        assert_eq!(silent.next().await, None);
        assert!(silent.comments >= 2, "it was pinged");
        over.set(true);
    };
    let staying = async {
        let mut beat = tokio::time::interval(Duration::from_secs(10));
        let mut outlived = false;
        // One more round after the other has ended.
        while !std::mem::replace(&mut outlived, over.get()) {
            beat.tick().await;
            assert_eq!(alive.post(&[json!({"type": "ping"})]).await, 204);
            assert_eq!(within("pong", alive.next()).await.expect("an event").data["type"], "pong");
        }
    };
    let both = async { tokio::join!(ending, staying) };
    tokio::time::timeout(Duration::from_secs(120), both).await.expect("within three heartbeats");
}

/// What came before on the same connection is answered before the connection becomes a stream, and nothing behind it is.
#[tokio::test]
async fn a_connection_that_was_in_use_can_become_a_stream() {
    let node = Node::alone().await;
    let mut tcp = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("it listens");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let all = [get("/api/v1/openapi.json"), get("/nowhere"), get("/api/v1/stream"), get("/nowhere")].concat();
    tcp.write_all(all.as_bytes()).await.expect("written");
    let mut text = String::new();
    within("the event open", async {
        let mut bytes = Vec::new();
        while !text.contains("event: open\ndata: {\"stream\":") {
            assert!(tcp.read_buf(&mut bytes).await.expect("bytes") > 0, "{text:.2000}");
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
    })
    .await;
    let statuses: Vec<&str> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200"]);
    // The client goes, and so does the session.
    drop(tcp);
    until("it is gone", || async { (node.metric("roundtable_sessions").await == 0.0).then_some(()) }).await;
}
