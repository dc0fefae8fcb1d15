//! Every act for which somebody needs a right that others lack stands in the audit log: who, what, to whom, from where. The
//! table is the test, and the list in docs/operations.md is held against it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::postgres::Postgres;
use crate::support::receiver::{Receiver, Reply};
use crate::support::{tokens, until};

/// Who, how, at which address, with what body; then the line's act and whom it names. `{…}` are what went before gave.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("olga", "PUT", "rooms/lobby/members/mori", r#"{"role":"moderator"}"#, "member.role", "mori"),
    ("olga", "PATCH", "rooms/lobby", r#"{"topic":"new","ttl_s":3600}"#, "room.changed", ""),
    ("emma", "PUT", "rooms/lobby/bans/mori", "{}", "", ""),
    ("mori", "PUT", "rooms/lobby/pins/1", "{}", "message.pinned", ""),
    ("mori", "DELETE", "rooms/lobby/pins/1", "", "message.unpinned", ""),
    ("mori", "PUT", "rooms/lobby/reports/{report}", r#"{"state":"closed","action":"deleted"}"#, "report.closed", "emma"),
    ("mori", "DELETE", "rooms/lobby/members/emma", "", "member.removed", "emma"),
    ("mori", "PUT", "rooms/lobby/bans/emma", "{}", "member.banned", "emma"),
    ("mori", "DELETE", "rooms/lobby/bans/emma", "", "member.unbanned", "emma"),
    ("mori", "POST", "rooms/lobby/invitations", "{}", "invitation.made", ""),
    ("mori", "DELETE", "rooms/lobby/invitations/{invitation.made}", "", "invitation.revoked", ""),
    ("olga", "PATCH", "rooms/lobby/webhooks/{hook}", r#"{"active":true}"#, "webhook.changed", ""),
    ("olga", "PATCH", "rooms/lobby/webhooks/{hook}", r#"{"rotate_secret":true}"#, "webhook.changed", ""),
    ("olga", "POST", "rooms/lobby/webhooks/{hook}/dead/{first}/retry", "{}", "webhook.dead_retried", ""),
    ("olga", "DELETE", "rooms/lobby/webhooks/{hook}/dead/{second}", "", "webhook.dead_dropped", ""),
    ("olga", "POST", "rooms/lobby/webhooks", r#"{"url":"https://hooks.example/"}"#, "webhook.made", ""),
    ("olga", "DELETE", "rooms/lobby/webhooks/{webhook.made}", "", "webhook.deleted", ""),
    ("root", "POST", "admin/webhooks", r#"{"url":"https://hooks.example/all"}"#, "webhook.made", ""),
    ("root", "DELETE", "admin/webhooks/{webhook.made}", "", "webhook.deleted", ""),
    ("olga", "POST", "me/tokens", r#"{"name":"bot","scopes":["read"]}"#, "token.made", ""),
    ("olga", "DELETE", "me/tokens/{token.made}", "", "token.revoked", ""),
    ("root", "POST", "admin/users/emma/disconnect", "{}", "person.disconnected", "emma"),
    ("root", "POST", "admin/users/emma/disconnect", r#"{"revoke":true}"#, "credentials.revoked", "emma"),
    ("root", "PUT", "admin/bans/emma", "{}", "server.banned", "emma"),
    ("root", "DELETE", "admin/bans/emma", "", "server.unbanned", "emma"),
    ("olga", "DELETE", "rooms/lobby", "", "room.deleted", ""),
    ("eve", "DELETE", "me", "", "person.erased", ""),
];

async fn each_act_is_written_down(more: &[(&str, &str)]) {
    let receiver = Receiver::start().await;
    receiver.answers(|_| Reply::status(500));
    let fast = [
        ("webhooks.allow_http", "true"),
        ("webhooks.allow_private", "true"),
        ("webhooks.attempts", "1"),
        ("webhooks.backoff_ms", "40"),
        ("webhooks.backoff_max_ms", "40"),
    ];
    let node = Node::with(&[&fast, more].concat()).await;
    let root = Api::with(&node.http(), Some(tokens::admin("root")));
    let (olga, mori, emma) = (node.api("olga"), node.api("mori"), node.api("emma"));
    for who in [&root, &mori, &emma] {
        who.get("me").await.expect(200);
    }
    olga.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    emma.post("rooms/lobby/join", json!({})).await.expect(200);
    let hook = olga.post("rooms/lobby/webhooks", json!({"url": receiver.url()})).await.expect(201);
    let hook = hook["id"].as_str().expect("an id").to_owned();
    let mut dead = Vec::new();
    for n in 1..=2 {
        emma.post("rooms/lobby/messages", json!({"id": format!("m{n}"), "text": "secret words"})).await.expect(201);
        dead = until("it is given up", || async {
            let list = olga.get(&format!("rooms/lobby/webhooks/{hook}/dead")).await.expect(200);
            list["items"].as_array().filter(|items| items.len() == n).cloned()
        })
        .await;
    }
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let report = mori.post("rooms/lobby/messages/1/reports", json!({"reason": "secret words"})).await.expect(201);
    let mut known = vec![
        ("hook".to_owned(), hook),
        ("first".to_owned(), id(&dead[0])),
        ("second".to_owned(), id(&dead[1])),
        ("report".to_owned(), report["report"].to_string()),
    ];
    let newest = async || root.get("admin/audit?limit=200").await.expect(200)["items"].as_array().cloned();
    let mut seen = newest().await.expect("lines").len();
    for (by, method, path, body, act, whom) in TABLE {
        let path =
            known.iter().fold((*path).to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        let body = (!body.is_empty()).then(|| serde_json::from_str::<Value>(body).expect("JSON"));
        let who = if *by == "root" { &root } else { &node.api(by) };
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = who.call(method.clone(), &path, body, &[]).await;
        let lines = newest().await.expect("lines");
        let new = &lines[..lines.len() - seen];
        seen = lines.len();
        if act.is_empty() {
            assert!(
                answer.status >= 400 && new.is_empty(),
                "{method} {path}: what was refused leaves no line: {new:?}"
            );
            continue;
        }
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        let line = new.iter().find(|line| line["act"] == *act);
        let line = line.unwrap_or_else(|| panic!("{method} {path} left {new:?}, and no {act}"));
        assert_eq!((&line["by"], &line["from"]), (&json!(by), &json!("127.0.0.1")), "{line}");
        assert_eq!(line["user"].as_str().unwrap_or_default(), *whom, "{line}");
        let room =
            if path.starts_with("rooms/") && *act != "room.deleted" { json!("lobby") } else { line["room"].clone() };
        assert_eq!(line["room"], room, "{line}");
        assert!(line["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
        if let Some(made) = answer.body["id"].as_str().filter(|_| *act != "room.changed") {
            assert!(line["detail"].as_str().is_some_and(|detail| detail.contains(made)), "{line}");
            known.retain(|(name, _)| name != act);
            known.push(((*act).to_owned(), made.to_owned()));
        }
    }
    let all = json!(newest().await.expect("lines")).to_string();
    for text in ["secret words", "hooks.example", "whs_"] {
        assert!(!all.contains(text), "{text}");
    }
}

#[tokio::test]
async fn each_act_with_a_right_leaves_its_line_on_sqlite() {
    each_act_is_written_down(&[]).await;
}

#[tokio::test]
async fn each_act_with_a_right_leaves_its_line_on_postgres() {
    let url = Postgres::shared().await.database().await;
    each_act_is_written_down(&[("store.url", &url)]).await;
}

/// Deleting others' messages by itself, which needs a frame, is in `contract_privacy`.
#[test]
fn the_documented_acts_are_those_of_the_table() {
    let docs = include_str!("../../docs/operations.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let named: BTreeSet<&str> = rows.map(|(act, _)| act).filter(|act| act.contains('.')).collect();
    let shown = TABLE.iter().map(|row| row.4).filter(|act| !act.is_empty()).chain(["message.deleted"]);
    let missing: Vec<&str> = shown.filter(|act| !named.contains(act)).collect();
    assert!(missing.is_empty(), "docs/operations.md lacks {missing:?}");
}
