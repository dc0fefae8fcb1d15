//! Connecting and proving who one is (docs/protocol.md, "Connecting").

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::raw::RawSocket;
use crate::support::tokens::{self, now_s};
use crate::support::within;

async fn greeted(node: &Node, token: &str) -> (Person, Value) {
    let mut person = Person::upgraded(&node.ws_url(), "?", Encoding::Json, &[]).await.expect("the upgrade");
    let answer = person.asks(json!({"type": "hello", "token": token})).await;
    (person, answer)
}

/// The status with which the upgrade was refused.
async fn refused_status(node: &Node, headers: &[(&'static str, String)]) -> u16 {
    use tokio_tungstenite::tungstenite::Error;
    match Person::upgraded(&node.ws_url(), "?", Encoding::Json, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the upgrade was not refused"),
    }
}

async fn registered(node: &Node, user: &str) -> (String, String) {
    let api = Api::with(&node.http(), None);
    let answer = api.post("register", json!({"user": user, "password": "correct horse"})).await;
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    let token = answer.expect(201)["token"].as_str().expect("a token").to_owned();
    (token, cookie.split(';').next().expect("name=value").to_owned())
}

#[tokio::test]
async fn welcome_says_what_a_client_needs() {
    let node = Node::alone().await;
    let token = tokens::signed(&json!({"sub": "alice", "exp": now_s() + 60, "name": "Alice Ä"}));
    let (_alice, welcome) = greeted(&node, &token).await;
    assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &json!({"id": "alice", "name": "Alice Ä"})));
    for text in ["session", "node", "server"] {
        assert!(welcome[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {welcome}");
    }
    assert_eq!(welcome["heartbeat_s"], 25);
    assert!(welcome["reconnect"]["jitter_ms"].is_u64() && welcome["reconnect"]["backoff_max_ms"].is_u64());
    let limits = &welcome["limits"];
    for (name, value) in [
        ("frame_bytes", 65_536),
        ("text_chars", 4_000),
        ("data_bytes", 4_096),
        ("inflight", 64),
        ("subscriptions", 1_000),
    ] {
        assert_eq!(limits[name], value, "{name}");
    }
}

#[tokio::test]
async fn bad_tokens_in_hello_are_unauthenticated_then_4300() {
    let node = Node::with(&[("auth.jwt.issuer", "us"), ("auth.jwt.audience", "rt")]).await;
    let good = json!({"sub": "alice", "exp": now_s() + 60, "iss": "us", "aud": "rt"});
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(key);
        } else {
            claims[key] = value;
        }
        tokens::signed(&claims)
    };
    let (_person, welcome) = greeted(&node, &tokens::signed(&good)).await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    // {"alg":"none"} with the same claims and no signature.
    let parts: Vec<String> = tokens::signed(&good).split('.').map(str::to_owned).collect();
    let bad = [
        ("expired", with("exp", json!(now_s() - 1))),
        ("no exp", with("exp", Value::Null)),
        ("no sub", with("sub", Value::Null)),
        ("a sub that is no user id", with("sub", json!("no spaces"))),
        ("not yet", with("nbf", json!(now_s() + 60))),
        ("another issuer", with("iss", json!("them"))),
        ("no issuer", with("iss", Value::Null)),
        ("another audience", with("aud", json!("other"))),
        ("no audience", with("aud", Value::Null)),
        ("another secret", tokens::signed_with(Algorithm::HS256, "another-secret-of-the-right-length-0123", &good)),
        ("another algorithm", tokens::signed_with(Algorithm::HS512, tokens::SECRET, &good)),
        ("alg none", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1])),
        ("a broken signature", format!("{}.{}.AAAA", parts[0], parts[1])),
        ("no token at all", "nonsense".to_owned()),
        ("empty", String::new()),
    ];
    for (what, token) in bad {
        let (mut person, answer) = greeted(&node, &token).await;
        assert_eq!(answer["code"], "unauthenticated", "{what}: {answer}");
        assert_eq!(answer["retryable"], false);
        assert_eq!(person.closed().await, 4300, "{what}");
        let header = [("Authorization", format!("Bearer {token}"))];
        if !token.is_empty() {
            assert_eq!(refused_status(&node, &header).await, 401, "{what}");
            Api::with(&node.http(), Some(token)).get("me").await.problem(401, "unauthenticated");
        }
    }
    let log = node.log();
    assert!(!log.contains(&parts[2]) && !log.contains("eyJ"), "a token is in the log");
}

#[tokio::test]
async fn hello_comes_first_and_once() {
    let node = Node::alone().await;
    // Something else first.
    let mut person = Person::upgraded(&node.ws_url(), "?", Encoding::Json, &[]).await.expect("the upgrade");
    person.writes(&json!({"type": "ping", "ref": 1})).await;
    assert_eq!(person.closed().await, 4300);
    // No token anywhere.
    let mut person = Person::upgraded(&node.ws_url(), "?", Encoding::Json, &[]).await.expect("the upgrade");
    let answer = person.asks(json!({"type": "hello"})).await;
    assert_eq!(answer["code"], "unauthenticated");
    assert_eq!(person.closed().await, 4300);
    // Not readable.
    let mut person = Person::upgraded(&node.ws_url(), "?", Encoding::Json, &[]).await.expect("the upgrade");
    person.writes_raw("{".into()).await;
    assert_eq!(person.closed().await, 4300);
    // Twice.
    let mut alice = Person::at(&node, "alice").await;
    alice.starts(json!({"type": "hello", "token": tokens::of("alice")})).await;
    assert_eq!(alice.closed().await, 4000);
    // Never: closed after 10 s, not before.
    let begun = std::time::Instant::now();
    let mut silent = Person::upgraded(&node.ws_url(), "?", Encoding::Json, &[]).await.expect("the upgrade");
    assert_eq!(silent.closed().await, 4300);
    assert!(begun.elapsed().as_secs_f32() > 9.0, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_token_at_the_upgrade_is_enough_and_the_one_in_hello_beats_it() {
    let node = Node::alone().await;
    let header = [("Authorization", format!("Bearer {}", tokens::of("alice")))];
    let mut alice = Person::upgraded(&node.ws_url(), "alice", Encoding::Json, &header).await.expect("the upgrade");
    assert_eq!(alice.does(json!({"type": "hello"})).await["user"]["id"], "alice");
    let mut bob = Person::upgraded(&node.ws_url(), "bob", Encoding::Json, &header).await.expect("the upgrade");
    assert_eq!(bob.does(json!({"type": "hello", "token": tokens::of("bob")})).await["user"]["id"], "bob");
    assert_eq!(refused_status(&node, &[("Authorization", "Bearer x".to_owned())]).await, 401);
    // Never in the URL.
    let url = format!("{}?token={}", node.ws_url(), tokens::of("alice"));
    let mut person = Person::upgraded(&url, "?", Encoding::Json, &[]).await.expect("the upgrade");
    assert_eq!(person.asks(json!({"type": "hello"})).await["code"], "unauthenticated");
}

#[tokio::test]
async fn a_session_token_and_its_cookie_work_where_they_may() {
    let node = Node::with(&[("server.allowed_origins", "https://chat.example,https://other.example")]).await;
    let (token, cookie) = registered(&node, "carol").await;
    let (_carol, welcome) = greeted(&node, &token).await;
    assert_eq!(welcome["user"]["id"], "carol", "{welcome}");
    assert!(cookie.starts_with("roundtable_session="));
    let own = format!("http://127.0.0.1:{}", node.http_port());
    for origin in [own.as_str(), "https://chat.example", "https://other.example"] {
        let headers = [("Cookie", cookie.clone()), ("Origin", origin.to_owned())];
        let mut carol = Person::upgraded(&node.ws_url(), "carol", Encoding::Json, &headers).await.expect(origin);
        assert_eq!(carol.does(json!({"type": "hello"})).await["user"]["id"], "carol");
    }
    for origin in ["https://evil.example", "https://chat.example.evil.example", "http://chat.example", "null"] {
        let headers = [("Cookie", cookie.clone()), ("Origin", origin.to_owned())];
        assert_eq!(refused_status(&node, &headers).await, 403, "{origin}");
    }
    assert_eq!(refused_status(&node, &[("Cookie", cookie.clone())]).await, 403, "no Origin");
    let forged = ("Cookie", "roundtable_session=forged".to_owned());
    assert_eq!(refused_status(&node, &[forged, ("Origin", own)]).await, 401);
    // Logging out ends the session's connections for good.
    let (mut carol, _) = greeted(&node, &token).await;
    Api::with(&node.http(), Some(token.clone())).post("logout", json!({})).await.expect(204);
    assert_eq!(carol.closed().await, 4003);
    let (mut gone, answer) = greeted(&node, &token).await;
    assert_eq!(answer["code"], "unauthenticated");
    assert_eq!(gone.closed().await, 4300);
}

#[tokio::test]
async fn password_accounts_and_jwt_users_are_apart() {
    let node = Node::alone().await;
    registered(&node, "carol").await;
    let (mut person, answer) = greeted(&node, &tokens::of("carol")).await;
    assert_eq!(answer["code"], "unauthenticated");
    assert_eq!(person.closed().await, 4300);
    node.api("carol").get("me").await.problem(401, "unauthenticated");
    let _dave = Person::at(&node, "dave").await;
    let api = Api::with(&node.http(), None);
    api.post("register", json!({"user": "dave", "password": "correct horse"})).await.problem(409, "conflict");
    // Case matters: these are other people.
    api.post("register", json!({"user": "Dave", "password": "correct horse"})).await.expect(201);
}

#[tokio::test]
async fn a_connection_outlives_its_token_by_refresh_and_ends_without() {
    let node = Node::alone().await;
    let (mut alice, welcome) = greeted(&node, &tokens::lasting("alice", 8)).await;
    assert_eq!(welcome["type"], "welcome");
    let notice = alice.next("notice").await;
    assert_eq!(notice["code"], "credentials_expiring");
    let (mut bob, _) = greeted(&node, &tokens::lasting("bob", 8)).await;
    let stranger = bob.asks(json!({"type": "refresh", "token": tokens::of("alice")})).await;
    assert_eq!(stranger["code"], "forbidden");
    let bad = bob.asks(json!({"type": "refresh", "token": "x"})).await;
    assert_eq!(bad["code"], "unauthenticated", "a bad refresh changes nothing");
    let answer = bob.does(json!({"type": "refresh", "token": tokens::lasting("bob", 3600)})).await;
    assert!(answer["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{answer}");
    assert_eq!(alice.closed().await, 4301);
    bob.catches_up().await;
}

#[tokio::test]
async fn new_credentials_that_are_less_take_away_what_the_former_ones_allowed() {
    let node = Node::alone().await;
    let (alice, api) = (node.api("alice"), Api::with(&node.http(), Some(tokens::of("root"))));
    for (room, kind) in [("theirs", "private"), ("open", "public"), ("ours", "private")] {
        alice.post("rooms", json!({"id": room, "kind": kind})).await.expect(201);
    }
    api.get("me").await.expect(200);
    alice.put("rooms/ours/members/root", json!({"role": "member"})).await.expect(200);
    let (mut root, _) = greeted(&node, &tokens::admin("root")).await;
    for room in ["theirs", "open", "ours"] {
        root.does(json!({"type": "subscribe", "room": room})).await;
    }
    root.does(json!({"type": "send", "room": "theirs", "id": "1", "text": "as an administrator"})).await;
    root.does(json!({"type": "refresh", "token": tokens::admin("root")})).await;
    root.does(json!({"type": "send", "room": "theirs", "id": "2", "text": "still one"})).await;

    root.does(json!({"type": "refresh", "token": tokens::of("root")})).await;
    assert_eq!(root.next("unsubscribed").await["room"], "theirs");
    root.refused(json!({"type": "send", "room": "theirs", "id": "3", "text": "as anybody"}), "not_found").await;
    root.refused(json!({"type": "history", "room": "theirs"}), "not_found").await;
    root.does(json!({"type": "send", "room": "ours", "id": "1", "text": "as a member"})).await;

    // An access token of one room: the others end.
    let (token, _) = registered(&node, "dave").await;
    let (mut dave, _) = greeted(&node, &token).await;
    let dave_api = Api::with(&node.http(), Some(token));
    dave_api.post("rooms", json!({"id": "den", "kind": "public"})).await.expect(201);
    for room in ["open", "den"] {
        dave.does(json!({"type": "subscribe", "room": room})).await;
    }
    let body = json!({"name": "den alone", "scopes": ["read"], "room": "den"});
    let made = dave_api.post("me/tokens", body).await.expect(201);
    dave.does(json!({"type": "refresh", "token": made["token"]})).await;
    assert_eq!(dave.next("unsubscribed").await["room"], "open");
    dave.does(json!({"type": "history", "room": "den"})).await;
    dave.refused(json!({"type": "history", "room": "open"}), "forbidden").await;
}

#[tokio::test]
async fn subprotocols_are_chosen_by_the_client_s_order() {
    let node = Node::alone().await;
    for (offer, chosen) in [
        ("roundtable.v1.msgpack, roundtable.v1.json", "roundtable.v1.msgpack"),
        ("x, roundtable.v1.json, roundtable.v1.msgpack", "roundtable.v1.json"),
    ] {
        let (_socket, head) = RawSocket::request(&node, &format!("Sec-WebSocket-Protocol: {offer}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.to_lowercase().contains(&format!("sec-websocket-protocol: {chosen}\r\n")), "{head}");
    }
    let (_socket, head) = RawSocket::request(&node, "").await;
    assert!(head.starts_with("HTTP/1.1 101") && !head.to_lowercase().contains("sec-websocket-protocol"), "{head}");
    let mut request = node.ws_url().into_client_request().expect("a URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "roundtable.v9.json".parse().expect("a header"));
    let refused = within("an answer", tokio_tungstenite::connect_async(request)).await.expect_err("an unknown one");
    let tokio_tungstenite::tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 400);
    // A stock client that asks for nothing speaks JSON in text frames.
    let (socket, _) =
        within("the upgrade", tokio_tungstenite::connect_async(node.ws_url())).await.expect("the upgrade");
    let mut alice = Person::on(socket, "alice", Encoding::Json);
    alice.says_hello().await;
}
