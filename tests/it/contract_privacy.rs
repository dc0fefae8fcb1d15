//! Erasure and export of a person, reports, bans from the server and the audit log, as seen from outside.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::{tokens, until, within};

fn admin(node: &Node) -> Api {
    Api::with(&node.http(), Some(tokens::admin("root")))
}

/// The entries of a room as somebody gets them who subscribes from its start.
async fn replay(node: &Node, who: &str, room: &str) -> Vec<Value> {
    let mut reader = Person::at(node, who).await;
    let subscribed = reader.resumes(room, 0).await;
    let head = subscribed["head"].as_u64().expect("a head");
    if head > 0 {
        reader.sees_entry(room, head).await;
    }
    reader.seen(room).to_vec()
}

/// Every entry in its place, and nothing of `word` in any.
fn holds_nothing_of(log: &[Value], word: &str, length: usize) {
    let seqs: Vec<u64> = log.iter().map(|entry| entry["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs, (1..=length as u64).collect::<Vec<_>>());
    assert!(!json!(log).to_string().contains(word), "{log:?}");
}

#[tokio::test]
async fn an_erased_person_is_gone_at_once_and_leaves_no_gap() {
    let node = Node::alone().await;
    let nobody = Api::with(&node.http(), None);
    let account = json!({"user": "alice", "password": "correct horse", "name": "Alice Plugh"});
    let made = nobody.post("register", account.clone()).await.expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let alice = Api::with(&node.http(), Some(token.clone()));
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    let mut bob = Person::at(&node, "bob").await;
    bob.joins("lobby").await;
    for n in 1..=5 {
        let message = json!({"id": format!("m{n}"), "text": format!("plugh {n}"), "data": {"p": "plugh"}});
        alice.post("rooms/lobby/messages", message).await.expect(201);
    }
    bob.sends("lobby", "b1", "from bob").await;
    let direct =
        alice.post("direct", json!({"user": "bob"})).await.expect(201)["id"].as_str().expect("an id").to_owned();
    let bearer = [("Authorization", format!("Bearer {token}"))];
    let mut live = Person::upgraded(&node.ws_url(), "alice", Encoding::Json, &bearer).await.expect("the upgrade");
    live.does(json!({"type": "hello"})).await;
    live.does(json!({"type": "edit", "room": "lobby", "target": 2, "text": "plugh edited"})).await;
    live.does(json!({"type": "react", "room": "lobby", "target": 6, "emoji": "plugh", "active": true})).await;
    bob.sees_entry("lobby", 8).await;
    let before = replay(&node, "carol", "lobby").await;
    assert!(json!(before).to_string().contains("plugh"), "the ring has it");

    // By cookie, as a browser would: not without the CSRF token.
    let cookie = format!("roundtable_session={token}");
    let by_cookie = async |csrf: &str| {
        let headers = [("Cookie", &*cookie), ("X-CSRF-Token", csrf)];
        nobody.call(Method::DELETE, "me", None, &headers).await
    };
    by_cookie("").await.problem(403, "forbidden");
    let csrf = alice.get("me").await.expect(200)["csrf_token"].as_str().expect("a token").to_owned();
    let gone = by_cookie(&csrf).await;
    assert_eq!(gone.status, 204);
    assert!(gone.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")), "the cookie is taken back");

    assert_eq!(live.closed().await, 4003);
    alice.get("me").await.problem(401, "unauthenticated");
    nobody.post("login", json!({"user": "alice", "password": "correct horse"})).await.problem(401, "unauthenticated");
    nobody.post("register", account).await.problem(409, "conflict");
    Api::of(&node.http(), "alice").get("me").await.problem(401, "unauthenticated");
    // From memory, from the store, and in the present form of each.
    let log = replay(&node, "dave", "lobby").await;
    holds_nothing_of(&log, "plugh", 8);
    for entry in &log[..5] {
        assert_eq!(
            (&entry["kind"], &entry["deleted"], &entry["user"]),
            (&json!("message"), &json!(true), &json!("alice"))
        );
    }
    assert_eq!(log[5]["text"], "from bob");
    let page = node.api("bob").get("rooms/lobby/messages?limit=200").await.expect(200);
    holds_nothing_of(page["items"].as_array().expect("entries"), "plugh", 8);
    // The room goes on, and bob has inherited it; the direct one stays his.
    let members = node.api("bob").get("rooms/lobby/members").await.expect(200);
    assert_eq!(members["items"], json!([{"user": "bob", "role": "owner"}]));
    assert_eq!(bob.sends("lobby", "b2", "still here").await, 9);
    node.api("bob").patch("rooms/lobby", json!({"topic": "mine"})).await.expect(200);
    node.api("bob").get(&format!("rooms/{direct}/members")).await.expect(200);
    let acts = admin(&node).get("admin/audit").await.expect(200);
    let acts: Vec<&Value> = acts["items"].as_array().expect("lines").iter().map(|line| &line["act"]).collect();
    assert_eq!(acts, ["room.changed", "member.role", "person.erased"]);
}

#[tokio::test]
async fn erasure_reaches_the_memory_of_every_node() {
    let cluster = Cluster::start(2).await;
    let room = cluster.room_on(0, "alice").await;
    let mut people = Vec::new();
    for node in &cluster.nodes {
        let mut bob = Person::at(node, "bob").await;
        bob.joins(&room).await;
        people.push(bob);
    }
    let mut alice = Person::at(&cluster.nodes[1], "alice").await;
    for n in 1..=20 {
        alice.sends(&room, &format!("m{n}"), "plugh").await;
    }
    for bob in &mut people {
        bob.sees_entry(&room, 20).await;
    }
    // Known to the other node's cache of users.
    cluster.nodes[1].api("alice").get("me").await.expect(200);
    cluster.nodes[0].api("alice").delete("me").await.expect(204);
    assert_eq!(alice.closed().await, 4003, "on the other node");
    for node in &cluster.nodes {
        until("every node refuses her", || async { (node.api("alice").get("me").await.status == 401).then_some(()) })
            .await;
        until("no node shows what she wrote", || async {
            let log = replay(node, "carol", &room).await;
            assert_eq!(log.len(), 20);
            (!json!(log).to_string().contains("plugh")).then_some(())
        })
        .await;
    }
    // Both go on with the room as it is now.
    for (n, bob) in people.iter_mut().enumerate() {
        bob.sends(&room, &format!("b{n}"), "still here").await;
    }
    let members = cluster.nodes[1].api("bob").get(&format!("rooms/{room}/members")).await.expect(200);
    assert_eq!(members["items"], json!([{"user": "bob", "role": "owner"}]));
}

#[tokio::test]
async fn an_export_is_everything_of_ones_own_line_by_line() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let files = format!("file://{}", folder.path().display());
    let unbounded = [("limits.messages_per_minute", "0"), ("limits.http_per_minute", "0"), ("attachments.url", &files)];
    let node = Node::with(&unbounded).await;
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    alice.patch("me", json!({"name": "Alice"})).await.expect(200);
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    bob.post("rooms/lobby/join", json!({})).await.expect(200);
    bob.post("rooms/lobby/messages", json!({"id": "b", "text": "not hers"})).await.expect(201);
    for n in 0..450 {
        alice.post("rooms/lobby/messages", json!({"id": format!("m{n}"), "text": "hers"})).await.expect(201);
    }
    let report = json!({"reason": "not nice"});
    alice.post("rooms/lobby/messages/1/reports", report).await.expect(201);
    for message in ["m0", "unsent"] {
        let upload = format!("rooms/lobby/attachments?message={message}&id={message}&name=a.txt");
        alice.upload(&upload, message).await.expect(201);
    }
    let token = alice.post("me/tokens", json!({"name": "bot", "scopes": ["read"]})).await.expect(201);
    let hook = json!({"url": "https://hooks.example/hers"});
    alice.post("rooms/lobby/webhooks", hook).await.expect(201);
    alice.put("rooms/lobby/members/bob", json!({"role": "owner"})).await.expect(200);
    bob.post("rooms/lobby/webhooks", json!({"url": "https://hooks.example/his"})).await.expect(201);
    let answer = alice.get("me/export").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"alice.jsonl\""));
    let text = answer.expect(200);
    let lines: Vec<Value> = text
        .as_str()
        .expect("several lines of JSON are no JSON")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!((&lines[0]["type"], &lines[0]["name"]), (&json!("profile"), &json!("Alice")));
    assert_eq!(of("room")[0]["role"], "owner");
    assert_eq!(of("message").len(), 450);
    assert!(of("message").iter().all(|line| line["text"] == "hers"));
    assert_eq!(of("report")[0]["reason"], "not nice");
    assert_eq!((of("session").len(), of("attachment").len()), (0, 2), "a JWT is no session");
    let mut uploads: Vec<_> = of("attachment").iter().map(|file| file["message"].as_str()).collect();
    uploads.sort_unstable();
    assert_eq!(uploads, [Some("m0"), Some("unsent")]);
    for file in of("attachment") {
        assert_eq!((&file["name"], &file["room"]), (&json!("a.txt"), &json!("lobby")));
        let address = format!("{}{}", node.http(), file["url"].as_str().expect("an address"));
        let bytes = reqwest::get(address).await.expect("an answer").text().await.expect("its body");
        assert_eq!(file["message"], bytes, "its address serves without credentials");
    }
    assert_eq!((&of("token")[0]["name"], &of("token")[0]["scopes"]), (&json!("bot"), &json!(["read"])));
    assert!(!text.to_string().contains(token["token"].as_str().expect("a token")), "not the token itself");
    let hooks: Vec<_> = of("webhook").iter().map(|hook| &hook["url"]).collect();
    assert_eq!(hooks, ["https://hooks.example/hers"]);
    assert!(!text.to_string().contains("whs_"), "nor a secret");
    let end = lines.last().expect("a last line");
    assert_eq!((&end["type"], &end["messages"]), (&json!("end"), &json!(of("message").len())));
    // Over, so there may be another.
    alice.get("me/export").await.expect(200);
    Api::with(&node.http(), None).get("me/export").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_report_is_decided_by_moderators() {
    let node = Node::alone().await;
    let (olga, mori) = (node.api("olga"), node.api("mori"));
    let (emma, eve) = (node.api("emma"), node.api("eve"));
    mori.get("me").await.expect(200);
    olga.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    olga.post("rooms", json!({"id": "secret", "kind": "private"})).await.expect(201);
    olga.put("rooms/lobby/members/mori", json!({"role": "moderator"})).await.expect(200);
    emma.post("rooms/lobby/join", json!({})).await.expect(200);
    for n in 1..=3 {
        emma.post("rooms/lobby/messages", json!({"id": format!("m{n}"), "text": format!("bad {n}")})).await.expect(201);
    }
    olga.post("rooms/secret/messages", json!({"id": "s", "text": "x"})).await.expect(201);

    let made = eve.post("rooms/lobby/messages/1/reports", json!({"reason": "rude"})).await.expect(201);
    assert_eq!((&made["seq"], &made["duplicate"]), (&json!(1), &json!(false)));
    let again = eve.post("rooms/lobby/messages/1/reports", json!({"reason": "rude"})).await.expect(200);
    assert_eq!((&again["report"], &again["duplicate"]), (&made["report"], &json!(true)));
    for (seq, body, status, code) in [
        ("1", json!({}), 400, "bad_request"),
        ("1", json!({"reason": " "}), 400, "bad_request"),
        ("1", json!({"reason": "x".repeat(1_001)}), 400, "bad_request"),
        ("x", json!({"reason": "x"}), 400, "bad_request"),
        ("9", json!({"reason": "x"}), 404, "not_found"),
    ] {
        eve.post(&format!("rooms/lobby/messages/{seq}/reports"), body).await.problem(status, code);
    }
    eve.post("rooms/secret/messages/1/reports", json!({"reason": "x"})).await.problem(404, "not_found");
    let second = olga.post("rooms/lobby/messages/2/reports", json!({"reason": "too"})).await.expect(201);
    let third = mori.post("rooms/lobby/messages/3/reports", json!({"reason": "y".repeat(1_000)})).await.expect(201);

    // Who sees the queue.
    emma.get("rooms/lobby/reports").await.problem(403, "forbidden");
    eve.get("rooms/lobby/reports").await.problem(403, "forbidden");
    eve.get("rooms/secret/reports").await.problem(404, "not_found");
    mori.get("reports").await.problem(403, "forbidden");
    mori.get("rooms/lobby/reports?state=odd").await.problem(400, "bad_request");
    let queue = mori.get("rooms/lobby/reports?limit=2").await.expect(200);
    let first = &queue["items"][0];
    assert_eq!((&first["reporter"], &first["reason"]), (&json!("eve"), &json!("rude")));
    assert_eq!((&first["user"], &first["text"], &first["state"]), (&json!("emma"), &json!("bad 1"), &json!("open")));
    let next = queue["next"].as_str().expect("a cursor");
    let rest = mori.get(&format!("rooms/lobby/reports?cursor={next}")).await.expect(200);
    assert_eq!((&rest["items"][0]["report"], &rest["next"]), (&third["report"], &Value::Null));
    assert_eq!(admin(&node).get("reports").await.expect(200)["items"].as_array().map(Vec::len), Some(3));

    // What is decided is done.
    let close = |report: &Value| format!("rooms/lobby/reports/{report}");
    emma.put(&close(&made["report"]), json!({"state": "closed"})).await.problem(403, "forbidden");
    for body in [json!({}), json!({"state": "open"}), json!({"state": "closed", "action": "hug"})] {
        mori.put(&close(&made["report"]), body).await.problem(400, "bad_request");
    }
    mori.put("rooms/lobby/reports/999", json!({"state": "closed"})).await.problem(404, "not_found");
    let decision = json!({"state": "closed", "action": "deleted", "note": "indeed"});
    let closed = mori.put(&close(&made["report"]), decision.clone()).await.expect(200);
    assert_eq!((&closed["state"], &closed["text"]), (&json!("closed"), &Value::Null));
    assert_eq!((&closed["closed"]["by"], &closed["closed"]["note"]), (&json!("mori"), &json!("indeed")));
    mori.put(&close(&made["report"]), decision).await.expect(200);
    mori.put(&close(&made["report"]), json!({"state": "closed"})).await.problem(409, "conflict");
    // Nobody bans an owner who is none; the rules of the room hold.
    mori.put(&close(&second["report"]), json!({"state": "closed", "action": "banned"})).await.expect(200);
    emma.post("rooms/lobby/messages", json!({"id": "m4", "text": "x"})).await.problem(403, "forbidden");
    mori.put(&close(&third["report"]), json!({"state": "closed"})).await.expect(200);
    assert_eq!(mori.get("rooms/lobby/reports").await.expect(200)["items"], json!([]));
    assert_eq!(
        mori.get("rooms/lobby/reports?state=closed").await.expect(200)["items"].as_array().map(Vec::len),
        Some(3)
    );
}

#[tokio::test]
async fn what_takes_a_right_is_written_down() {
    let node = Node::alone().await;
    let (olga, mori) = (node.api("olga"), node.api("mori"));
    mori.get("me").await.expect(200);
    olga.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    olga.put("rooms/lobby/members/mori", json!({"role": "moderator"})).await.expect(200);
    let mut emma = Person::at(&node, "emma").await;
    emma.joins("lobby").await;
    emma.sends("lobby", "m1", "bad").await;
    let mut live = Person::at(&node, "mori").await;
    live.does(json!({"type": "delete", "room": "lobby", "target": 1})).await;
    mori.put("rooms/lobby/bans/emma", json!({})).await.expect(204);
    mori.get("rooms/lobby/audit").await.problem(403, "forbidden");
    node.api("eve").get("rooms/lobby/audit").await.problem(403, "forbidden");
    olga.get("admin/audit").await.problem(403, "forbidden");
    let log = olga.get("rooms/lobby/audit").await.expect(200);
    let lines: Vec<_> =
        log["items"].as_array().expect("lines").iter().map(|line| [&line["act"], &line["by"], &line["user"]]).collect();
    assert_eq!(
        lines,
        [
            [&json!("member.banned"), &json!("mori"), &json!("emma")],
            [&json!("message.deleted"), &json!("mori"), &json!("emma")],
            [&json!("member.role"), &json!("olga"), &json!("mori")],
        ]
    );
    assert!(!log.to_string().contains("127.0.0.1"), "an owner does not learn where others are");
    let all = admin(&node).get("admin/audit?limit=2").await.expect(200);
    assert_eq!(all["items"][0]["from"], "127.0.0.1");
    let next = all["next"].as_str().expect("a cursor");
    let rest = admin(&node).get(&format!("admin/audit?cursor={next}")).await.expect(200);
    assert_eq!((&rest["items"][0]["act"], &rest["next"]), (&json!("member.role"), &Value::Null));
}

#[tokio::test]
async fn a_ban_from_the_server_ends_everything_at_once() {
    let cluster = Cluster::start(2).await;
    let root = admin(&cluster.nodes[0]);
    let mut bob = Person::at(&cluster.nodes[1], "bob").await;
    cluster.nodes[1].api("bob").get("me").await.expect(200);
    cluster.nodes[0].api("bob").put("admin/bans/bob", json!({})).await.problem(403, "forbidden");
    root.put("admin/bans/root", json!({})).await.problem(400, "bad_request");
    root.put("admin/bans/bob", json!({})).await.expect(204);
    root.put("admin/bans/bob", json!({})).await.expect(204);
    assert_eq!(bob.closed().await, 4003);
    for node in &cluster.nodes {
        until("every node refuses him", || async {
            let answer = node.api("bob").get("me").await;
            (answer.status == 403).then_some(())
        })
        .await;
        node.api("bob").get("me").await.problem(403, "forbidden");
        let mut back = Person::upgraded(&node.ws_url(), "bob", Encoding::Json, &[]).await.expect("the upgrade");
        back.refused(json!({"type": "hello", "token": tokens::of("bob")}), "forbidden").await;
        assert_eq!(back.closed().await, 4003, "don't come back");
        let bearer = [("Authorization", format!("Bearer {}", tokens::of("bob")))];
        let refused = Person::upgraded(&node.ws_url(), "bob", Encoding::Json, &bearer).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("403")));
    }
    let bans = root.get("admin/bans").await.expect(200);
    assert_eq!((&bans["items"][0]["user"], &bans["items"][0]["by"]), (&json!("bob"), &json!("root")));
    root.call(Method::DELETE, "admin/bans/bob", None, &[]).await.expect(204);
    root.call(Method::DELETE, "admin/bans/bob", None, &[]).await.expect(204);
    within("he may come back at once", async {
        for node in &cluster.nodes {
            node.api("bob").get("me").await.expect(200);
        }
    })
    .await;
}
