//! Rooms as far as the store alone answers for them.

use serde_json::{Value, json};

use super::{node, unlimited};
use crate::ids::{RoomId, UserId};

#[actix_web::test]
async fn a_room_is_made_once_and_belongs_to_its_maker() {
    let node = node(unlimited()).await;
    let alice = node.register("alice").await;
    let body = json!({"id": "lobby", "kind": "public", "name": "Lobby", "topic": "Anything\r\ngoes"});
    let reply = node.post("/api/v1/rooms", &alice, body.clone()).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), "/api/v1/rooms/lobby");
    let expected = json!({
        "id": "lobby", "kind": "public", "name": "Lobby", "topic": "Anything\ngoes",
        "slow_mode_s": 0, "archived": false, "ttl_s": 0, "edit_history": false, "head": 0, "role": "owner",
    });
    assert_eq!(reply.json(), expected);
    assert_eq!(node.post("/api/v1/rooms", &alice, body).await.problem(), (409, "conflict".into()));
    let role = node.store.role(&RoomId::parse("lobby").expect("an id"), &UserId::parse("alice").expect("an id")).await;
    assert_eq!(role, Ok(Some(crate::entry::Role::Owner)));

    for (body, field) in [
        (json!({"id": "Lobby", "kind": "public"}), "id: "),
        (json!({"kind": "public"}), "id: "),
        (json!({"id": "a"}), "kind: "),
        (json!({"id": "a", "kind": "direct"}), "kind: "),
        (json!({"id": "a", "kind": "public", "topic": "t".repeat(1001)}), "topic: "),
    ] {
        let reply = node.post("/api/v1/rooms", &alice, body).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()));
        assert!(reply.json()["detail"].as_str().expect("a text").starts_with(field));
    }
    assert_eq!(node.post("/api/v1/rooms", "", json!({"id": "b", "kind": "public"})).await.problem().0, 401);
}

#[actix_web::test]
async fn lists_come_in_pages_and_hide_the_private_rooms_of_others() {
    let node = node(unlimited()).await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    for n in 0..5 {
        let kind = if n == 2 { "private" } else { "public" };
        let reply = node.post("/api/v1/rooms", &alice, json!({"id": format!("room-{n}"), "kind": kind})).await;
        assert_eq!(reply.status, 201);
    }
    for (token, expected) in [(&alice, vec![0, 1, 2, 3, 4]), (&bob, vec![0, 1, 3, 4])] {
        let (mut seen, mut path) = (Vec::new(), "/api/v1/rooms?limit=2".to_owned());
        loop {
            let page = node.get(&path, token).await.json();
            let items = page["items"].as_array().expect("a list");
            assert!((1..=2).contains(&items.len()));
            seen.extend(items.iter().map(|room| room["id"].as_str().expect("an id").to_owned()));
            match &page["next"] {
                Value::Null => break,
                next => path = format!("/api/v1/rooms?limit=2&cursor={}", next.as_str().expect("a text")),
            }
        }
        assert_eq!(seen, expected.iter().map(|n| format!("room-{n}")).collect::<Vec<_>>());
    }
    let mine = node.get("/api/v1/me/rooms", &alice).await.json();
    assert_eq!(mine["items"].as_array().map(Vec::len), Some(5));
    assert_eq!(mine["items"][0]["unread"], 0);
    assert_eq!(mine["items"][0]["role"], "owner");
    assert_eq!(mine["next"], Value::Null);
    assert_eq!(node.get("/api/v1/me/rooms", &bob).await.json()["items"], json!([]));
    for bad in ["limit=0", "limit=201", "limit=x", "limit=-1", "cursor=%21", "cursor=QQ", "cursor="] {
        let reply = node.get(&format!("/api/v1/rooms?{bad}"), &alice).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()), "{bad}");
        let field = bad.split('=').next().expect("a name");
        assert!(reply.json()["detail"].as_str().expect("a text").starts_with(field));
    }
}

#[actix_web::test]
async fn the_room_of_two_is_one_whoever_asks() {
    let node = node(unlimited()).await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let first = node.post("/api/v1/direct", &alice, json!({"user": "bob"})).await;
    assert_eq!(first.status, 201);
    assert_eq!(first.json()["kind"], "direct");
    let again = node.post("/api/v1/direct", &bob, json!({"user": "alice"})).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), first.json());
    assert_eq!(
        node.post("/api/v1/direct", &alice, json!({"user": "alice"})).await.problem(),
        (400, "bad_request".into())
    );
    assert_eq!(
        node.post("/api/v1/direct", &alice, json!({"user": "ghost"})).await.problem(),
        (404, "not_found".into())
    );
    // Nobody can take the place of two people's room.
    let id = first.json()["id"].as_str().expect("an id").replace('0', "1");
    let reply = node.post("/api/v1/rooms", &alice, json!({"id": id, "kind": "public"})).await;
    assert_eq!(reply.problem(), (409, "conflict".into()));
}

#[actix_web::test]
async fn ids_in_the_path_are_checked() {
    let node = node(unlimited()).await;
    let alice = node.register("alice").await;
    for (path, field) in [
        ("/api/v1/rooms/UPPER", "room: "),
        ("/api/v1/rooms/a%2Fb", "room: "),
        ("/api/v1/rooms/%00", "room: "),
        ("/api/v1/rooms/a%20b/members", "room: "),
        ("/api/v1/rooms/lobby/messages?limit=1000", "limit: "),
        ("/api/v1/rooms/lobby/messages?before=x", "before: "),
        ("/api/v1/rooms/lobby/messages?before=1&after=1", "before: "),
        ("/api/v1/rooms/lobby/messages?cursor=QQ", "cursor: "),
    ] {
        let reply = node.get(path, &alice).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()), "{path}");
        assert!(reply.json()["detail"].as_str().expect("a text").starts_with(field), "{path}");
    }
    for (body, field) in [
        (json!({"text": "hi"}), "id: "),
        (json!({"id": "1"}), "text: "),
        (json!({"id": "1", "text": " "}), "text: "),
        (json!({"id": "1", "text": "hi", "reply_to": "x"}), "reply_to: "),
        (json!({"id": "1", "text": "hi", "reply_to": 9_007_199_254_740_993_u64}), "reply_to: "),
        (json!({"id": "1", "text": "hi", "reply_to": -1}), "reply_to: "),
        (json!({"id": "1", "text": "hi", "data": "d".repeat(5_000)}), "data: "),
    ] {
        let reply = node.post("/api/v1/rooms/lobby/messages", &alice, body).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()));
        assert!(reply.json()["detail"].as_str().expect("a text").starts_with(field));
    }
}
