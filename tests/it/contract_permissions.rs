//! Who may do what in which room: every action there is, by every role, in every kind of room, over HTTP and WebSocket.
//!
//! The table is the test. A row is an action: a method with a path and a body, or `WS` with a frame; `{room}`,
//! `{invitation}` and `{token}` stand for the room at hand, and for the id and token of an invitation into it; `{hook}`,
//! `{report}` and `{attachment}` for what there is of those in it. Each of its
//! four lines holds what comes of it for the roles in [`ROLES`], as HTTP's status; `WS` frames use the same numbers for the
//! codes of the same name. `-`: there is no such person in that kind of room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::postgres::Postgres;
use crate::support::tokens;

/// In the order of the columns.
const ROLES: [&str; 8] = ["admin", "owner", "moderator", "member", "muted", "stranger", "banned", "anonymous"];

/// In the order of the lines. An archived room is a public one; a direct one is `member`'s with somebody else.
const KINDS: [&str; 4] = ["public", "private", "archived", "direct"];

type Row = (&'static str, &'static str, &'static str, [&'static str; 4]);

/// Readable by all, by members, by all, by the two.
const READ: [&str; 4] = [
    "200 200 200 200 200 200 403 401",
    "200 200 200 200 200 404 404 401",
    "200 200 200 200 200 200 403 401",
    "200 -   -   200 -   404 -   401",
];

/// What moderators see.
const OVERSEE: [&str; 4] = [
    "200 200 200 403 403 403 403 401",
    "200 200 200 403 403 404 404 401",
    "200 200 200 403 403 403 403 401",
    "200 -   -   200 -   404 -   401",
];

/// What moderators do to people; not between two.
const MODERATE: [&str; 4] = [
    "204 204 204 403 403 403 403 401",
    "204 204 204 403 403 404 404 401",
    "204 204 204 403 403 403 403 401",
    "409 -   -   409 -   404 -   401",
];

/// Writing a log.
const WRITE: [&str; 4] = [
    "200 200 200 200 403 403 403 401",
    "200 200 200 200 403 404 404 401",
    "409 409 409 409 403 403 403 401",
    "200 -   -   200 -   404 -   401",
];

/// What owners see.
const OWN: [&str; 4] = [
    "200 200 403 403 403 403 403 401",
    "200 200 403 403 403 404 404 401",
    "200 200 403 403 403 403 403 401",
    "200 -   -   200 -   404 -   401",
];

/// What owners may ask for that is not there.
const OWN_BUT_ABSENT: [&str; 4] = [
    "404 404 403 403 403 403 403 401",
    "404 404 403 403 403 404 404 401",
    "404 404 403 403 403 403 403 401",
    "404 -   -   404 -   404 -   401",
];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    //                                                         admin owner moder member muted stranger banned anonymous
    ("GET", "rooms/{room}", "", READ),
    ("GET", "rooms/{room}/members", "", READ),
    ("GET", "rooms/{room}/messages", "", READ),
    ("GET", "rooms/{room}/messages?around=1", "", READ),
    ("GET", "rooms/{room}/messages?at=2020-01-01T00:00:00Z", "", READ),
    ("GET", "rooms/{room}/messages/1", "", READ),
    ("GET", "rooms/{room}/pins", "", READ),
    ("GET", "rooms/{room}/messages/1/thread", "", READ),
    ("GET", "search?q=hi&room={room}", "", READ),
    ("GET", "rooms/{room}/attachments?ids={attachment}", "", READ),
    ("GET", "rooms/{room}/attachments/{attachment}", "", READ),
    ("WS", "", r#"{"type":"subscribe","room":"{room}"}"#, READ),
    ("WS", "", r#"{"type":"history","room":"{room}"}"#, READ),

    ("GET", "rooms/{room}/bans", "", OVERSEE),
    ("GET", "rooms/{room}/messages/1/revisions", "", OVERSEE),
    ("GET", "rooms/{room}/invitations", "", [
        "200 200 200 403 403 403 403 401",
        "200 200 200 403 403 404 404 401",
        "200 200 200 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),

    ("POST", "rooms/{room}/messages", r#"{"id":"new","text":"hi"}"#, [
        "201 201 201 201 403 403 403 401",
        "201 201 201 201 403 404 404 401",
        "409 409 409 409 403 403 403 401",
        "201 -   -   201 -   404 -   401",
    ]),
    ("WS", "", r#"{"type":"send","room":"{room}","id":"new","text":"hi"}"#, WRITE),
    ("WS", "", r#"{"type":"react","room":"{room}","target":1,"emoji":"+1","active":true}"#, WRITE),
    // 1 is the member's own message, 2 the owner's (or the other's of two).
    ("WS", "", r#"{"type":"edit","room":"{room}","target":1,"text":"edited"}"#, [
        "403 403 403 200 403 403 403 401",
        "403 403 403 200 403 404 404 401",
        "409 409 409 409 403 403 403 401",
        "403 -   -   200 -   404 -   401",
    ]),
    ("WS", "", r#"{"type":"delete","room":"{room}","target":1}"#, WRITE),
    ("WS", "", r#"{"type":"delete","room":"{room}","target":2}"#, [
        "200 200 200 403 403 403 403 401",
        "200 200 200 403 403 404 404 401",
        "409 409 409 409 403 403 403 401",
        "200 -   -   403 -   404 -   401",
    ]),

    ("POST", "rooms/{room}/join", "{}", [
        "200 200 200 200 200 200 403 401",
        "200 200 200 200 200 404 404 401",
        "200 200 200 200 200 200 403 401",
        "409 -   -   200 -   404 -   401",
    ]),
    ("WS", "", r#"{"type":"join","room":"{room}"}"#, [
        "200 200 200 200 200 200 403 401",
        "200 200 200 200 200 404 404 401",
        "200 200 200 200 200 200 403 401",
        "409 -   -   200 -   404 -   401",
    ]),
    ("POST", "rooms/{room}/leave", "{}", [
        "204 409 204 204 204 204 403 401",
        "204 409 204 204 204 404 404 401",
        "204 409 204 204 204 204 403 401",
        "204 -   -   204 -   404 -   401",
    ]),
    ("WS", "", r#"{"type":"leave","room":"{room}"}"#, [
        "200 409 200 200 200 200 403 401",
        "200 409 200 200 200 404 404 401",
        "200 409 200 200 200 200 403 401",
        "200 -   -   200 -   404 -   401",
    ]),

    ("PATCH", "rooms/{room}", r#"{"topic":"new"}"#, OVERSEE),
    ("PATCH", "rooms/{room}", r#"{"ttl_s":60,"edit_history":true}"#, OVERSEE),
    ("DELETE", "rooms/{room}", "", [
        "204 204 403 403 403 403 403 401",
        "204 204 403 403 403 404 404 401",
        "204 204 403 403 403 403 403 401",
        "204 -   -   403 -   404 -   401",
    ]),

    ("PUT", "rooms/{room}/members/victim", r#"{"role":"moderator"}"#, [
        "200 200 403 403 403 403 403 401",
        "200 200 403 403 403 404 404 401",
        "200 200 403 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),
    ("PUT", "rooms/{room}/members/victim", r#"{"role":"muted"}"#, [
        "200 200 200 403 403 403 403 401",
        "200 200 200 403 403 404 404 401",
        "200 200 200 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),
    // The last owner stays one.
    ("PUT", "rooms/{room}/members/owner", r#"{"role":"member"}"#, [
        "409 409 403 403 403 403 403 401",
        "409 409 403 403 403 404 404 401",
        "409 409 403 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),
    ("DELETE", "rooms/{room}/members/victim", "", MODERATE),
    ("DELETE", "rooms/{room}/members/moderator", "", [
        "204 204 403 403 403 403 403 401",
        "204 204 403 403 403 404 404 401",
        "204 204 403 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),
    ("PUT", "rooms/{room}/bans/victim", "{}", MODERATE),
    ("DELETE", "rooms/{room}/bans/unbanned", "", MODERATE),

    ("PUT", "rooms/{room}/pins/1", "{}", [
        "204 204 204 403 403 403 403 401",
        "204 204 204 403 403 404 404 401",
        "409 409 409 403 403 403 403 401",
        "204 -   -   204 -   404 -   401",
    ]),
    ("DELETE", "rooms/{room}/pins/1", "", [
        "204 204 204 403 403 403 403 401",
        "204 204 204 403 403 404 404 401",
        "409 409 409 403 403 403 403 401",
        "204 -   -   204 -   404 -   401",
    ]),
    ("POST", "rooms/{room}/invitations", "{}", [
        "201 201 201 403 403 403 403 401",
        "201 201 201 403 403 404 404 401",
        "201 201 201 403 403 403 403 401",
        "409 -   -   409 -   404 -   401",
    ]),
    ("DELETE", "rooms/{room}/invitations/{invitation}", "", MODERATE),
    ("PUT", "rooms/{room}/read", r#"{"seq":1}"#, [
        "204 204 204 204 204 403 403 401",
        "204 204 204 204 204 404 404 401",
        "204 204 204 204 204 403 403 401",
        "204 -   -   204 -   404 -   401",
    ]),
    ("POST", "rooms/{room}/attachments?message=new&name=a.txt", "{}", [
        "201 201 201 201 403 403 403 401",
        "201 201 201 201 403 404 404 401",
        "409 409 409 409 403 403 403 401",
        "201 -   -   201 -   404 -   401",
    ]),

    ("POST", "rooms/{room}/messages/1/reports", r#"{"reason":"rude"}"#, [
        "201 201 201 201 201 201 403 401",
        "201 201 201 201 201 404 404 401",
        "201 201 201 201 201 201 403 401",
        "201 -   -   201 -   404 -   401",
    ]),
    ("GET", "rooms/{room}/reports", "", OVERSEE),
    ("PUT", "rooms/{room}/reports/{report}", r#"{"state":"closed","action":"none"}"#, OVERSEE),
    ("GET", "rooms/{room}/audit", "", OWN),

    ("GET", "rooms/{room}/webhooks", "", OWN),
    // The second one finds it made.
    ("POST", "rooms/{room}/webhooks", r#"{"url":"https://hooks.example/new"}"#, [
        "200 201 403 403 403 403 403 401",
        "200 201 403 403 403 404 404 401",
        "200 201 403 403 403 403 403 401",
        "200 -   -   201 -   404 -   401",
    ]),
    ("GET", "rooms/{room}/webhooks/{hook}", "", OWN),
    ("PATCH", "rooms/{room}/webhooks/{hook}", r#"{"rotate_secret":true}"#, OWN),
    ("DELETE", "rooms/{room}/webhooks/{hook}", "", [
        "404 204 403 403 403 403 403 401",
        "404 204 403 403 403 404 404 401",
        "404 204 403 403 403 403 403 401",
        "404 -   -   204 -   404 -   401",
    ]),
    ("GET", "rooms/{room}/webhooks/{hook}/dead", "", OWN),
    ("DELETE", "rooms/{room}/webhooks/{hook}/dead/1", "", OWN_BUT_ABSENT),
    ("POST", "rooms/{room}/webhooks/{hook}/dead/1/retry", "{}", OWN_BUT_ABSENT),

    // Who has the link comes in.
    ("POST", "invitations/{token}/accept", "{}", [
        "200 200 200 200 200 200 403 401",
        "200 200 200 200 200 200 403 401",
        "200 200 200 200 200 200 403 401",
        "404 -   -   404 -   404 -   401",
    ]),
];

/// Actions that leave nothing to do for the next role: each role gets a room of its own.
fn uses_up_the_room(method: &str, path: &str) -> bool {
    (method == "DELETE" && (path == "rooms/{room}" || path.contains("/members/"))) || path.contains("{report}")
}

/// What stands for the placeholders.
struct Stage {
    room: String,
    invitation: String,
    token: String,
    /// What stands for the other placeholder of the row's path, if it has one.
    other: String,
}

/// Makes what the path of a row speaks of besides: by `owner` of the room, of the message of `member`, the first one.
async fn prop(path: &str, room: &str, owner: &Api, member: &Api) -> String {
    let (made, key) = if path.contains("{hook}") {
        let hook = json!({"url": "https://hooks.example/old"});
        (owner.post(&format!("rooms/{room}/webhooks"), hook).await, "id")
    } else if path.contains("{report}") {
        let report = json!({"reason": "rude"});
        (owner.post(&format!("rooms/{room}/messages/1/reports"), report).await, "report")
    } else if path.contains("{attachment}") {
        let _one = UPLOADS.lock().await;
        (member.upload(&format!("rooms/{room}/attachments?message=first&name=a.txt"), "text").await, "id")
    } else {
        return String::new();
    };
    match &made.expect(201)[key] {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    }
}

/// One at a time: the server takes a few of one person at once, and rows are tried at once.
static UPLOADS: Mutex<()> = Mutex::const_new(());

static STAGES: AtomicU32 = AtomicU32::new(0);

/// A room of that kind with one person of every role, two messages and an invitation.
async fn stage(node: &Node, kind: &str, path: &str) -> Stage {
    let n = STAGES.fetch_add(1, Ordering::Relaxed);
    let (owner, member) = (node.api("owner"), node.api("member"));
    // Of the form of an id and of a token, and of no invitation.
    let (mut invitation, mut token) = ("0".repeat(16), format!("rti_{}", "A".repeat(43)));
    if kind == "direct" {
        let other = node.api(&format!("other-{n}"));
        other.get("me").await.expect(200);
        let room = member.post("direct", json!({"user": format!("other-{n}")})).await.expect(201);
        let room = room["id"].as_str().expect("an id").to_owned();
        for (who, id) in [(&member, "first"), (&other, "second")] {
            who.post(&format!("rooms/{room}/messages"), json!({"id": id, "text": "hi"})).await.expect(201);
        }
        let other = prop(path, &room, &member, &member).await;
        return Stage { room, invitation, token, other };
    }
    let room = format!("r{n}");
    let visible = if kind == "private" { "private" } else { "public" };
    owner.post("rooms", json!({"id": room, "kind": visible})).await.expect(201);
    for (user, role) in [("moderator", "moderator"), ("member", "member"), ("muted", "muted"), ("victim", "member")] {
        owner.put(&format!("rooms/{room}/members/{user}"), json!({"role": role})).await.expect(200);
    }
    for user in ["banned", "unbanned"] {
        owner.put(&format!("rooms/{room}/bans/{user}"), json!({})).await.expect(204);
    }
    for (who, id) in [(&member, "first"), (&owner, "second")] {
        who.post(&format!("rooms/{room}/messages"), json!({"id": id, "text": "hi"})).await.expect(201);
    }
    let made = owner.post(&format!("rooms/{room}/invitations"), json!({})).await.expect(201);
    (invitation, token) = (made["id"].as_str().expect("an id").into(), made["token"].as_str().expect("a token").into());
    let other = prop(path, &room, &owner, &member).await;
    if kind == "archived" {
        owner.patch(&format!("rooms/{room}"), json!({"archived": true})).await.expect(200);
    }
    Stage { room, invitation, token, other }
}

/// The person's token; `None`: anonymous.
fn token_of(role: &str) -> Option<String> {
    match role {
        "anonymous" => None,
        "admin" => Some(tokens::admin("admin")),
        user => Some(tokens::of(user)),
    }
}

async fn does(node: &Node, stage: &Stage, (method, path, body, _): &Row, role: &str) -> u16 {
    let fill = |text: &str| {
        let text = text.replace("{room}", &stage.room).replace("{token}", &stage.token);
        let text = text.replace("{invitation}", &stage.invitation);
        ["{hook}", "{report}", "{attachment}"].iter().fold(text, |text, name| text.replace(name, &stage.other))
    };
    let body: Option<Value> = (!body.is_empty()).then(|| serde_json::from_str(&fill(body)).expect("JSON"));
    if *method == "WS" {
        return frame(node, role, body.expect("a frame")).await;
    }
    let (method, api) =
        (Method::from_bytes(method.as_bytes()).expect("a method"), Api::with(&node.http(), token_of(role)));
    if path.contains("/attachments?message=") {
        let _one = UPLOADS.lock().await;
        return api.upload(&fill(path), "text").await.status;
    }
    api.call(method, &fill(path), body, &[]).await.status
}

async fn frame(node: &Node, role: &str, frame: Value) -> u16 {
    let upgraded = Person::upgraded(&node.ws_url(), role, Encoding::Json, &[]).await;
    let mut person = upgraded.expect("an upgrade needs no credentials");
    let Some(token) = token_of(role) else {
        person.writes(&frame).await;
        return if person.closed().await == 4300 { 401 } else { 0 };
    };
    person.does(json!({"type": "hello", "token": token})).await;
    let answer = person.asks(frame).await;
    match (answer["type"].as_str(), answer["code"].as_str()) {
        (Some("error"), Some("bad_request")) => 400,
        (Some("error"), Some("forbidden")) => 403,
        (Some("error"), Some("not_found")) => 404,
        (Some("error"), Some("conflict")) => 409,
        (Some("error"), _) => 0,
        _ => 200,
    }
}

/// One line of the table; gives the cells that are not as they should be. The weakest go first, so that what they do is not
/// refused for what a stronger one did.
async fn line(node: &Node, row: &Row, kind: &str, expected: &str) -> Vec<String> {
    let (method, path, body, _) = row;
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(expected.len(), ROLES.len(), "{method} {path} {body}, {kind}: {expected:?}");
    let mut wrong = Vec::new();
    let mut shared = None;
    for (role, expected) in ROLES.iter().zip(expected).rev() {
        let Ok(expected) = expected.parse::<u16>() else { continue };
        if shared.is_none() || uses_up_the_room(method, path) {
            shared = Some(stage(node, kind, path).await);
        }
        let stage = shared.as_ref().expect("just set");
        let got = does(node, stage, row, role).await;
        if got != expected {
            wrong.push(format!("{method} {path}{body} by {role} in a {kind} room: {got}, expected {expected}"));
        }
    }
    wrong
}

async fn holds_on(node: Node) {
    for user in ["owner", "moderator", "member", "muted", "stranger", "banned", "unbanned", "victim"] {
        node.api(user).get("me").await.expect(200);
    }
    Api::with(&node.http(), Some(tokens::admin("admin"))).get("me").await.expect(200);
    let (node, at_once) = (Arc::new(node), Arc::new(Semaphore::new(8)));
    let mut lines = tokio::task::JoinSet::new();
    for row in TABLE {
        for (kind, expected) in KINDS.into_iter().zip(row.3) {
            let (node, at_once) = (Arc::clone(&node), Arc::clone(&at_once));
            lines.spawn(async move {
                let _one = at_once.acquire().await.expect("never closed");
                line(&node, row, kind, expected).await
            });
        }
    }
    let wrong: Vec<String> = lines.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a row is about the operation at `pattern`, as the OpenAPI document writes it.
fn covers(row: &Row, method: &str, pattern: &str) -> bool {
    let path = row.1.split('?').next().unwrap_or_default();
    let (parts, wanted): (Vec<_>, Vec<_>) = (path.split('/').collect(), pattern.split('/').collect());
    row.0.eq_ignore_ascii_case(method)
        && parts.len() == wanted.len()
        && parts.iter().zip(wanted).all(|(part, wanted)| wanted.starts_with('{') || *part == wanted)
}

#[test]
fn every_operation_on_a_room_has_a_row() {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    let mut missing = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let pattern = path.trim_start_matches("/api/v1/");
        if !pattern.contains("{room}") {
            continue;
        }
        for method in ["get", "post", "put", "patch", "delete"] {
            let there = operations.get(method).is_some();
            if there && !TABLE.iter().any(|row| covers(row, method, pattern)) {
                missing.push(format!("{method} {pattern}"));
            }
        }
    }
    assert!(missing.is_empty(), "add a row for each of {missing:#?}");
}

#[tokio::test]
async fn the_matrix_holds_on_sqlite() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let files = format!("file://{}", folder.path().display());
    holds_on(Node::with(&[("attachments.url", &files)]).await).await;
}

#[tokio::test]
async fn the_matrix_holds_on_postgres() {
    let url = Postgres::shared().await.database().await;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let files = format!("file://{}", folder.path().display());
    holds_on(Node::with(&[("store.url", &url), ("attachments.url", &files)]).await).await;
}
