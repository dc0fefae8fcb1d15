//! TLS in process (docs/operations.md, "TLS"): the same server behind https and wss, certificates that change, and the
//! listener that sends plain HTTP there.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::certificates::Authority;
use crate::support::event_stream::EventStream;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::{ports, tokens, until, within};

async fn node(authority: &Authority, more: &[(&str, &str)]) -> Node {
    let (cert, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let mut settings = vec![("server.tls.cert_file", &*cert), ("server.tls.key_file", &*key)];
    settings.extend(more);
    Node::with(&settings).await
}

fn https(node: &Node, path: &str) -> String {
    format!("https://localhost:{}{path}", node.http_port())
}

async fn get(client: &reqwest::Client, url: &str) -> reqwest::Response {
    within("an answer", client.get(url).send()).await.unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

#[tokio::test]
async fn the_api_over_tls_knows_that_it_is_https() {
    let authority = Authority::new();
    let node = node(&authority, &[]).await;
    let client = authority.client();
    let answer = get(&client, &https(&node, "/")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["strict-transport-security"].to_str().expect("text").contains("max-age="));
    let register = client
        .post(https(&node, "/api/v1/register"))
        .json(&json!({"user": "carol", "password": "correct horse"}))
        .send();
    let answer = within("an answer", register).await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let cookie = answer.headers()["set-cookie"].to_str().expect("text").to_lowercase();
    assert!(cookie.contains("; secure") && cookie.contains("; httponly"), "{cookie}");
    // Plain HTTP is not spoken here, and nobody else minds.
    let mut plain = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut said = Vec::new();
    let _ = within("the end", plain.read_to_end(&mut said)).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert_eq!(get(&client, &https(&node, "/")).await.status(), 200);
}

#[tokio::test]
async fn people_talk_over_wss_in_both_encodings() {
    let authority = Authority::new();
    let node = node(&authority, &[]).await;
    let url = format!("ws://127.0.0.1:{}/ws", authority.tunnel(&node).await);
    let http = format!("http://127.0.0.1:{}", authority.tunnel(&node).await);
    let api = crate::support::api::Api::with(&http, Some(tokens::of("alice")));
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    let mut alice = Person::at_url(&url, "alice", Encoding::Json).await;
    alice.does(json!({"type": "subscribe", "room": "lobby"})).await;
    let mut bob = Person::at_url(&url, "bob", Encoding::MessagePack).await;
    bob.joins("lobby").await;
    for n in 0..200 {
        let text = format!("{n} {}", "x".repeat(2_000));
        let seq = alice.sends("lobby", &format!("m{n}"), &text).await;
        bob.sees("lobby", seq, &text).await;
    }
    // Refused as over plain HTTP, with the same headers.
    let refused =
        api.call(reqwest::Method::GET, "/ws", None, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]).await;
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    assert!(refused.header("strict-transport-security").is_some());
    refused.problem(426, "bad_request");
    // A client that goes without a word costs its session and nothing else.
    drop(bob);
    until("bob is gone", || async { (node.metric("roundtable_sessions").await == 1.0).then_some(()) }).await;
    alice.catches_up().await;
}

#[tokio::test]
async fn a_stream_over_tls_is_a_stream() {
    let authority = Authority::new();
    let node = node(&authority, &[]).await;
    let http = format!("http://127.0.0.1:{}", authority.tunnel(&node).await);
    let api = crate::support::api::Api::with(&http, Some(tokens::of("alice")));
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    let stream = EventStream::of(&http, "alice").await;
    assert!(stream.head.contains("strict-transport-security: "), "{}", stream.head);
    let mut alice = Person::on_stream(stream, "alice");
    alice.says_hello().await;
    alice.joins("lobby").await;
    for n in 0..50 {
        let text = format!("{n} {}", "x".repeat(3_000));
        let seq = alice.sends("lobby", &format!("m{n}"), &text).await;
        alice.sees("lobby", seq, &text).await;
    }
    node.terminate();
    assert_eq!(alice.closed().await, 4200);
    assert!(alice.stream().is_complete());
}

#[tokio::test]
async fn a_reader_over_tls_that_does_not_read_is_felt_and_catches_up() {
    let authority = Authority::new();
    let node = node(&authority, &[("limits.outbound_bytes", "65536")]).await;
    let url = format!("ws://127.0.0.1:{}/ws", authority.tunnel(&node).await);
    let http = format!("http://127.0.0.1:{}", authority.tunnel(&node).await);
    let api = crate::support::api::Api::with(&http, Some(tokens::of("alice")));
    api.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    let mut alice = Person::at_url(&url, "alice", Encoding::Json).await;
    let mut bob = Person::at_url(&url, "bob", Encoding::Json).await;
    bob.joins("lobby").await;
    bob.does(json!({"type": "subscribe", "room": "lobby"})).await;
    // More than every buffer on the way holds, while bob's test reads nothing.
    let text = "y".repeat(3_900);
    let mut sent = 0;
    while node.metric("roundtable_cursor_pauses_total").await == 0.0 {
        assert!(sent < 20_000, "the reader is never felt");
        for _ in 0..250 {
            sent += 1;
            alice.sends("lobby", &format!("m{sent}"), &text).await;
        }
    }
    let last = alice.sends("lobby", "last", "the end").await;
    bob.sees("lobby", last, "the end").await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let until_first = authority.issue(30);
    let node = node(&authority, &[]).await;
    let metric = "roundtable_tls_certificate_expires_timestamp_seconds";
    assert_eq!(node.metric(metric).await as i64, until_first);
    let mut old = authority.connect(&node).await.expect("a handshake");
    let until_second = authority.issue(60);
    assert_ne!(until_first, until_second);
    until("the new one is used", || async { (node.metric(metric).await as i64 == until_second).then_some(()) }).await;
    get(&authority.client(), &https(&node, "/")).await;
    // Who was connected stays.
    old.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    let mut begin = [0; 12];
    within("an answer", old.read_exact(&mut begin)).await.expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 200");
    // A key that does not belong to it, and what is no certificate.
    let refusals = |count: usize| {
        let node = &node;
        async move {
            until("it is refused", || async {
                (node.log().matches("tls.certificate.refused").count() >= count).then_some(())
            })
            .await;
        }
    };
    authority.place("key.pem", &authority.pair(90).1);
    refusals(1).await;
    authority.place("cert.pem", "nonsense");
    refusals(2).await;
    assert_eq!(node.metric(metric).await as i64, until_second);
    get(&authority.client(), &https(&node, "/")).await;
    let until_third = authority.issue(90);
    until("a good one is taken again", || async { (node.metric(metric).await as i64 == until_third).then_some(()) })
        .await;
}

#[tokio::test]
async fn handshakes_that_do_not_come_hold_nobody_up() {
    let authority = Authority::new();
    let node = node(&authority, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("it listens"));
    }
    get(&authority.client(), &https(&node, "/")).await;
    let mut first = silent.swap_remove(0);
    let mut byte = [0; 1];
    let end = tokio::time::timeout(Duration::from_secs(25), first.read(&mut byte)).await.expect("cut off");
    assert!(matches!(end, Ok(0) | Err(_)), "the server ends it");
}

#[tokio::test]
async fn plain_http_is_sent_to_https_and_nowhere_else() {
    let authority = Authority::new();
    let (port, elsewhere) = (ports::free(), ports::free());
    let bind = format!("127.0.0.1:{port}");
    let node = node(&authority, &[("server.redirect_bind", &bind)]).await;
    let client = authority.client();
    let answer = get(&client, &format!("http://localhost:{port}/api/v1/me?x=%2F&y=1")).await;
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], https(&node, "/api/v1/me?x=%2F&y=1"));
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let followed = get(&client, answer.headers()["location"].to_str().expect("text")).await;
    assert_eq!(followed.status(), 401);
    let post = within("an answer", client.post(format!("http://127.0.0.1:{port}/api/v1/login")).send()).await;
    let post = post.expect("an answer");
    assert_eq!(post.status(), 308, "the method stays");
    let here = format!("https://127.0.0.1:{}", node.http_port());
    for (request, location) in [
        ("GET //evil.example/ HTTP/1.1\r\nHost: 127.0.0.1", Some(format!("{here}//evil.example/"))),
        ("GET http://evil.example/x HTTP/1.1\r\nHost: 127.0.0.1", Some(format!("{here}/x"))),
        ("GET /\\evil.example HTTP/1.1\r\nHost: 127.0.0.1", Some(format!("{here}/\\evil.example"))),
        ("GET / HTTP/1.1\r\nHost: evil.example/", None),
        ("GET / HTTP/1.1\r\nHost: a@evil.example", None),
        ("GET / HTTP/1.0", None),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let bytes = format!("{request}\r\nConnection: close\r\n\r\n");
        socket.write_all(bytes.as_bytes()).await.expect("written");
        let mut answer = String::new();
        within("an answer", socket.read_to_string(&mut answer)).await.expect("text");
        let sent_to = answer.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned));
        assert_eq!(sent_to, location, "{request}: {answer}");
        assert!(
            answer.starts_with(if location.is_some() { "HTTP/1.1 308" } else { "HTTP/1.1 400" })
                || answer.starts_with("HTTP/1.0 400"),
            "{answer}"
        );
    }
    // Where the operator says what the server is called, that counts and no header.
    let bind = format!("127.0.0.1:{elsewhere}");
    let named = [("server.redirect_bind", &*bind), ("server.public_url", "https://chat.example")];
    let _named = Node::with(&named).await;
    let answer = get(&client, &format!("http://127.0.0.1:{elsewhere}/x")).await;
    assert_eq!(answer.headers()["location"], "https://chat.example/x");
}

#[test]
fn settings_of_tls_that_can_not_be_used_stop_the_start() {
    let authority = Authority::new();
    let (cert, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    authority.place("other.pem", &authority.pair(1).1);
    let other = authority.file("other.pem");
    for (settings, parts) in [
        (vec![("server.tls.cert_file", &*cert)], ["server.tls.cert_file", "server.tls.key_file"]),
        (vec![("server.tls.key_file", &*key)], ["server.tls.key_file", "server.tls.cert_file"]),
        (vec![("server.tls.cert_file", &*key), ("server.tls.key_file", &*key)], ["server.tls.cert_file", "PEM"]),
        (
            vec![("server.tls.cert_file", &*cert), ("server.tls.key_file", "/nowhere")],
            ["server.tls.key_file", "/nowhere"],
        ),
        (
            vec![("server.tls.cert_file", &*cert), ("server.tls.key_file", &*other)],
            ["server.tls.key_file", "private key"],
        ),
        (vec![("server.redirect_bind", "127.0.0.1:80")], ["server.redirect_bind", "public_url"]),
        (vec![("server.public_url", "http://chat.example")], ["server.public_url", "https://"]),
    ] {
        let output = crate::support::node::command(&settings).arg("check-config").output().expect("it runs");
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.lines().count() == 1 && parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(authority.path("cert.pem").exists());
}
