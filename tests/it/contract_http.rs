//! The HTTP API (docs/protocol.md, "HTTP").

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::person::Person;

async fn register(node: &Node, user: &str) -> (Value, String) {
    let api = Api::with(&node.http(), None);
    let answer = api.post("register", json!({"user": user, "password": "correct horse", "name": "N"})).await;
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    (answer.expect(201), cookie)
}

#[tokio::test]
async fn accounts_register_log_in_and_out() {
    let node = Node::alone().await;
    let anonymous = Api::with(&node.http(), None);
    let (body, cookie) = register(&node, "carol").await;
    assert_eq!(body["user"], json!({"id": "carol", "name": "N"}));
    let attributes: Vec<String> = cookie.split(';').skip(1).map(|part| part.trim().to_lowercase()).collect();
    assert!(cookie.starts_with("roundtable_session="), "{cookie}");
    for wanted in ["httponly", "samesite=lax"] {
        assert!(attributes.iter().any(|attribute| attribute == wanted), "{cookie}");
    }
    assert!(!attributes.contains(&"secure".to_owned()), "plain http: {cookie}");
    let again = json!({"user": "carol", "password": "another one"});
    anonymous.post("register", again).await.problem(409, "conflict");
    for bad in [
        json!({"user": "x y", "password": "correct horse"}),
        json!({"user": "dave", "password": "short"}),
        json!({"user": "dave", "password": "x".repeat(201)}),
        json!({"user": "dave"}),
        json!([]),
    ] {
        anonymous.post("register", bad).await.problem(400, "bad_request");
    }
    let wrong = anonymous.post("login", json!({"user": "carol", "password": "wrong horse"})).await;
    let wrong = wrong.problem(401, "unauthenticated");
    let nobody = anonymous.post("login", json!({"user": "nobody", "password": "wrong horse"})).await;
    let nobody = nobody.problem(401, "unauthenticated");
    assert_eq!(wrong["detail"], nobody["detail"], "an answer that tells who exists");
    let login = anonymous.post("login", json!({"user": "carol", "password": "correct horse"})).await.expect(200);
    let token = login["token"].as_str().expect("a token").to_owned();
    let carol = Api::with(&node.http(), Some(token.clone()));
    let me = carol.get("me").await.expect(200);
    assert_eq!((&me["user"]["id"], &me["user"]["name"]), (&json!("carol"), &json!("N")), "{me}");
    carol.post("logout", json!({})).await.expect(204);
    carol.get("me").await.problem(401, "unauthenticated");
    let first = Api::with(&node.http(), Some(body["token"].as_str().expect("a token").to_owned()));
    first.get("me").await.expect(200);
    assert!(!node.log().contains(&token) && !node.log().contains("correct horse"), "a secret is in the log");
}

#[tokio::test]
async fn a_cookie_needs_the_csrf_token_to_change_anything() {
    let node = Node::alone().await;
    let (_, cookie) = register(&node, "carol").await;
    let cookie = cookie.split(';').next().expect("name=value");
    let api = Api::with(&node.http(), None);
    let me = api.call(Method::GET, "me", None, &[("Cookie", cookie)]).await.expect(200);
    let csrf = me["csrf_token"].as_str().expect("a token");
    let room = || Some(json!({"id": "lobby", "kind": "public"}));
    api.call(Method::POST, "rooms", room(), &[("Cookie", cookie)]).await.problem(403, "forbidden");
    let forged = [("Cookie", cookie), ("X-CSRF-Token", "forged")];
    api.call(Method::POST, "rooms", room(), &forged).await.problem(403, "forbidden");
    let right = [("Cookie", cookie), ("X-CSRF-Token", csrf)];
    api.call(Method::POST, "rooms", room(), &right).await.expect(201);
}

#[tokio::test]
async fn rooms_are_made_listed_and_described() {
    let node = Node::alone().await;
    let alice = node.api("alice");
    let made =
        alice.post("rooms", json!({"id": "b-room", "kind": "public", "name": "B", "topic": "t"})).await.expect(201);
    assert_eq!((&made["id"], &made["kind"], &made["head"]), (&json!("b-room"), &json!("public"), &json!(0)));
    alice.post("rooms", json!({"id": "b-room", "kind": "public"})).await.problem(409, "conflict");
    for bad in [
        json!({"id": "B", "kind": "public"}),
        json!({"id": "x", "kind": "direct"}),
        json!({"id": "x"}),
        json!({"id": "x", "kind": "public", "name": "n".repeat(101)}),
        json!({"id": "x", "kind": "public", "topic": "t".repeat(1_001)}),
    ] {
        alice.post("rooms", bad).await.problem(400, "bad_request");
    }
    for id in ["a-room", "c-room"] {
        alice.post("rooms", json!({"id": id, "kind": "private"})).await.expect(201);
    }
    let ids = |list: &Value| -> Vec<String> {
        list["items"].as_array().expect("items").iter().filter_map(|r| Some(r["id"].as_str()?.to_owned())).collect()
    };
    let all = alice.get("rooms").await.expect(200);
    assert_eq!(ids(&all), ["a-room", "b-room", "c-room"]);
    assert_eq!(all["next"], Value::Null);
    let first = alice.get("rooms?limit=2").await.expect(200);
    assert_eq!(ids(&first), ["a-room", "b-room"]);
    let next = first["next"].as_str().expect("a cursor");
    assert_eq!(ids(&alice.get(&format!("rooms?limit=2&cursor={next}")).await.expect(200)), ["c-room"]);
    assert_eq!(ids(&node.api("bob").get("rooms").await.expect(200)), ["b-room"]);
    let room = node.api("bob").get("rooms/b-room").await.expect(200);
    assert_eq!((&room["name"], &room["topic"], &room["head"]), (&json!("B"), &json!("t"), &json!(0)));
    node.api("bob").post("rooms/b-room/join", json!({})).await.expect(200);
    let members = alice.get("rooms/b-room/members").await.expect(200);
    assert_eq!(members["items"], json!([{"user": "alice", "role": "owner"}, {"user": "bob", "role": "member"}]));
    node.api("bob").post("rooms/b-room/leave", json!({})).await.expect(204);
    alice.get("rooms/nowhere").await.problem(404, "not_found");
    alice.get("nowhere").await.problem(404, "not_found");
    alice.delete("rooms/b-room").await.expect(204);
    alice.get("rooms/b-room").await.problem(404, "not_found");
    node.kill();
    node.restart().await;
    alice.post("rooms", json!({"id": "b-room", "kind": "public"})).await.problem(409, "conflict");
}

#[tokio::test]
async fn messages_over_http_are_the_same_log() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let api = node.api("alice");
    let sent = api.post("rooms/lobby/messages", json!({"id": "h1", "text": "over http", "data": {"x": 1}})).await;
    let sent = sent.expect(201);
    assert_eq!((&sent["seq"], &sent["duplicate"], &sent["id"]), (&json!(1), &json!(false), &json!("h1")));
    alice.sees("lobby", 1, "over http").await;
    let again = api.post("rooms/lobby/messages", json!({"id": "h1", "text": "over http"})).await;
    assert!([200, 201].contains(&again.status));
    assert_eq!((&again.body["seq"], &again.body["duplicate"]), (&json!(1), &json!(true)));
    assert_eq!(alice.repeats("lobby", "h1", "x").await, 1);
    alice.sends("lobby", "w2", "over ws").await;
    let page = api.get("rooms/lobby/messages?limit=1").await.expect(200);
    let frame = alice.history("lobby", json!({"limit": 1})).await;
    assert_eq!((&page["items"], &page["more"]), (&frame["events"], &frame["more"]), "{page}");
    api.get("rooms/lobby/messages?after=0&before=3").await.problem(400, "bad_request");
    api.get("rooms/lobby/messages?limit=0").await.problem(400, "bad_request");
    let bob = node.api("bob");
    bob.post("rooms/lobby/messages", json!({"id": "b", "text": "x"})).await.problem(403, "forbidden");
    bob.get("rooms/lobby/messages").await.expect(200);
    Api::with(&node.http(), None).get("rooms/lobby/messages").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn two_people_have_one_direct_room() {
    let node = Node::alone().await;
    let (mut alice, mut bob) = (Person::at(&node, "alice").await, Person::at(&node, "bob").await);
    let first = node.api("alice").post("direct", json!({"user": "bob"})).await;
    assert!([200, 201].contains(&first.status), "{first:?}");
    let room = first.body["id"].as_str().expect("a room").to_owned();
    let second = node.api("bob").post("direct", json!({"user": "alice"})).await;
    assert_eq!(second.body["id"], *room);
    bob.does(json!({"type": "subscribe", "room": room})).await;
    let seq = alice.sends(&room, "m1", "between us").await;
    bob.sees(&room, seq, "between us").await;
    let mut carol = Person::at(&node, "carol").await;
    carol.refused(json!({"type": "subscribe", "room": room}), "not_found").await;
    node.api("alice").post("direct", json!({"user": "alice"})).await.problem(400, "bad_request");
    node.api("alice").post("direct", json!({"user": "nobody"})).await.problem(404, "not_found");
}

#[tokio::test]
async fn every_answer_bears_the_headers_that_protect_a_browser() {
    let node = Node::with(&[("server.allowed_origins", "https://chat.example")]).await;
    let api = node.api("alice");
    for path in ["me", "rooms", "nowhere", "/nowhere"] {
        let answer = api.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(answer.header("referrer-policy").is_some(), "{path}");
        let csp = answer.header("content-security-policy").expect("a CSP");
        assert!(csp.contains("frame-ancestors"), "{path}: {csp}");
        assert_eq!(answer.header("strict-transport-security"), None, "plain http");
    }
    let from = |origin: &'static str| [("Origin", origin)];
    let allowed = api.call(Method::GET, "me", None, &from("https://chat.example")).await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://chat.example"));
    let other = api.call(Method::GET, "me", None, &from("https://evil.example")).await;
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn bad_bodies_are_problems() {
    let node = Node::alone().await;
    let url = format!("{}/api/v1/rooms", node.http());
    let client = reqwest::Client::new();
    let token = crate::support::tokens::of("alice");
    for (body, status) in [("{".to_owned(), 400), ("[1".to_owned(), 400), ("x".repeat(3_000_000), 413)] {
        let request = client.post(&url).bearer_auth(&token).header("Content-Type", "application/json").body(body);
        let response = crate::support::within("an answer", request.send()).await.expect("an answer");
        assert_eq!(response.status().as_u16(), status);
        let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
        assert!(kind.starts_with("application/problem+json"), "{kind}");
    }
}
