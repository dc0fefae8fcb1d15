//! Sessions, access tokens, passwords and what ends them (docs/protocol.md, "Credentials").

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::{tokens, until};

const PASSWORD: &str = "correct horse";

fn anonymous(node: &Node) -> Api {
    Api::with(&node.http(), None)
}

fn with(node: &Node, token: &str) -> Api {
    Api::with(&node.http(), Some(token.to_owned()))
}

fn token_of(answer: &Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}

async fn registers(node: &Node, user: &str) -> String {
    let body = json!({"user": user, "password": PASSWORD});
    token_of(&anonymous(node).post("register", body).await.expect(201))
}

async fn tries(node: &Node, user: &str, password: &str, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"user": user, "password": password});
    anonymous(node).call(Method::POST, "login", Some(body), headers).await
}

async fn logs_in(node: &Node, user: &str, headers: &[(&str, &str)]) -> String {
    token_of(&tries(node, user, PASSWORD, headers).await.expect(200))
}

/// At a WebSocket, let in by the upgrade.
async fn connects(node: &Node, user: &str, token: &str) -> Person {
    let mut person = upgrades(node, user, token).await;
    assert_eq!(person.does(json!({"type": "hello"})).await["type"], "welcome");
    person
}

async fn upgrades(node: &Node, user: &str, token: &str) -> Person {
    let bearer = [("Authorization", format!("Bearer {token}"))];
    Person::upgraded(&node.ws_url(), user, Encoding::Json, &bearer).await.expect("the upgrade")
}

async fn makes_token(api: &Api, body: Value) -> (String, String) {
    let made = api.post("me/tokens", body).await.expect(201);
    (made["id"].as_str().expect("an id").to_owned(), token_of(&made))
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let node = Node::alone().await;
    let first = registers(&node, "alice").await;
    let second = logs_in(&node, "alice", &[("User-Agent", &format!("Phone/1 {}", "x".repeat(400)))]).await;
    let third = logs_in(&node, "alice", &[("User-Agent", "Laptop/2")]).await;
    registers(&node, "bob").await;
    let api = with(&node, &third);
    let list = api.get("me/sessions").await.expect(200);
    let items = list["items"].as_array().expect("a list");
    assert_eq!((items.len(), &list["next"]), (3, &Value::Null), "{list}");
    let current: Vec<&Value> = items.iter().filter(|item| item["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!((&current[0]["client"], &current[0]["address"]), (&json!("Laptop/2"), &json!("127.0.0.1")));
    for key in ["created_at", "last_seen_at", "expires_at"] {
        assert!(current[0][key].as_str().is_some_and(|at| at.ends_with('Z')), "{list}");
    }
    let phone = items.iter().find(|item| item["client"].as_str().is_some_and(|c| c.starts_with("Phone"))).expect("it");
    assert_eq!(phone["client"].as_str().map(str::len), Some(200));
    let page = api.get("me/sessions?limit=2").await.expect(200);
    let rest =
        api.get(&format!("me/sessions?limit=2&cursor={}", page["next"].as_str().expect("more"))).await.expect(200);
    assert_eq!((page["items"].as_array().map(Vec::len), rest["items"].as_array().map(Vec::len)), (Some(2), Some(1)));

    // Ended: its sessions close, also one that has not said hello yet, and nobody takes the token any more.
    let mut open = connects(&node, "alice", &second).await;
    let mut silent = upgrades(&node, "alice", &second).await;
    let mut other = connects(&node, "alice", &first).await;
    let id = phone["id"].as_str().expect("an id");
    with(&node, &tokens_of_bob(&node).await).delete(&format!("me/sessions/{id}")).await.problem(404, "not_found");
    api.delete(&format!("me/sessions/{id}")).await.expect(204);
    assert_eq!(open.closed().await, 4003);
    assert_eq!(silent.closed().await, 4003);
    with(&node, &second).get("me").await.problem(401, "unauthenticated");
    api.delete(&format!("me/sessions/{id}")).await.problem(404, "not_found");
    api.delete("me/sessions/nonsense").await.problem(400, "bad_request");
    other.does(json!({"type": "ping"})).await;

    // All but the one that asks.
    let (_, bot) = makes_token(&api, json!({"name": "bot", "scopes": ["read"]})).await;
    let mut mine = connects(&node, "alice", &third).await;
    api.delete("me/sessions").await.expect(204);
    assert_eq!(other.closed().await, 4003);
    with(&node, &first).get("me").await.problem(401, "unauthenticated");
    mine.does(json!({"type": "ping"})).await;
    with(&node, &bot).get("me").await.expect(200);
    assert_eq!(api.get("me/sessions").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
}

async fn tokens_of_bob(node: &Node) -> String {
    logs_in(node, "bob", &[]).await
}

#[tokio::test]
async fn an_access_token_does_what_its_scopes_say() {
    let node = Node::alone().await;
    let alice = with(&node, &registers(&node, "alice").await);
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    alice.post("rooms", json!({"id": "other", "kind": "public"})).await.expect(201);
    let me = alice.get("me").await.expect(200);
    assert_eq!((&me["by"], &me["scopes"]), (&json!("login"), &json!(["read", "write", "rooms", "account"])));

    let (id, reader) = makes_token(&alice, json!({"name": "reader", "scopes": ["read"], "expires_in_s": 60})).await;
    assert!(reader.starts_with("rtp_"), "a prefix to find leaked ones by");
    let api = with(&node, &reader);
    let me = api.get("me").await.expect(200);
    assert_eq!((&me["by"], &me["scopes"], &me["room"]), (&json!("token"), &json!(["read"]), &Value::Null));
    api.get("rooms/lobby/messages").await.expect(200);
    api.get("me/rooms").await.expect(200);
    let message = json!({"id": "1", "text": "hi"});
    for (answer, scope) in [
        (api.post("rooms/lobby/messages", message.clone()).await, "write"),
        (api.post("rooms", json!({"id": "third", "kind": "public"})).await, "rooms"),
        (api.post("rooms/lobby/leave", json!({})).await, "rooms"),
        (api.put("rooms/lobby/bans/bob", json!({})).await, "rooms"),
        (api.post("direct", json!({"user": "bob"})).await, "rooms"),
        (api.patch("me", json!({"name": "A"})).await, "account"),
        (api.get("me/sessions").await, "account"),
        (api.delete("me/sessions").await, "account"),
        (api.get("me/tokens").await, "account"),
        (api.post("me/tokens", json!({"name": "x", "scopes": ["read"]})).await, "account"),
        (api.delete(&format!("me/tokens/{id}")).await, "account"),
        (api.post("me/password", json!({"old": PASSWORD, "new": "better battery"})).await, "account"),
    ] {
        let detail = answer.problem(403, "forbidden")["detail"].as_str().expect("a text").to_owned();
        assert!(detail.ends_with(&format!("scope {scope}")), "{detail}");
    }
    // The same over the WebSocket.
    let mut bot = connects(&node, "alice", &reader).await;
    bot.does(json!({"type": "subscribe", "room": "lobby"})).await;
    bot.does(json!({"type": "history", "room": "lobby"})).await;
    for (request, scope) in [
        (json!({"type": "send", "room": "lobby", "id": "1", "text": "hi"}), "write"),
        (json!({"type": "edit", "room": "lobby", "target": 1, "text": "hi"}), "write"),
        (json!({"type": "delete", "room": "lobby", "target": 1}), "write"),
        (json!({"type": "react", "room": "lobby", "target": 1, "emoji": "x", "active": true}), "write"),
        (json!({"type": "typing", "room": "lobby", "active": true}), "write"),
        (json!({"type": "join", "room": "lobby"}), "rooms"),
        (json!({"type": "leave", "room": "lobby"}), "rooms"),
    ] {
        let refused = bot.refused(request, "forbidden").await;
        assert!(refused["message"].as_str().is_some_and(|text| text.ends_with(&format!("scope {scope}"))), "{refused}");
    }

    // For one room alone.
    let body = json!({"name": "writer", "scopes": ["read", "write"], "room": "lobby"});
    let (_, writer) = makes_token(&alice, body).await;
    let api = with(&node, &writer);
    assert_eq!(api.get("me").await.expect(200)["room"], "lobby");
    api.post("rooms/lobby/messages", message.clone()).await.expect(201);
    for answer in [
        api.post("rooms/other/messages", message).await,
        api.get("rooms/other/messages").await,
        api.get("rooms").await,
        api.get("me/rooms").await,
    ] {
        let problem = answer.problem(403, "forbidden");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("lobby alone")), "{problem}");
    }
    bot.does(json!({"type": "refresh", "token": writer})).await;
    bot.does(json!({"type": "send", "room": "lobby", "id": "2", "text": "hi"})).await;
    bot.refused(json!({"type": "send", "room": "other", "id": "2", "text": "hi"}), "forbidden").await;

    // One that may make others gives no more than it has.
    let (_, maker) = makes_token(&alice, json!({"name": "maker", "scopes": ["account", "read"]})).await;
    let maker = with(&node, &maker);
    maker.post("me/tokens", json!({"name": "x", "scopes": ["write"]})).await.problem(403, "forbidden");
    makes_token(&maker, json!({"name": "x", "scopes": ["read"]})).await;
    // Nor does it last any longer.
    let body = json!({"name": "brief", "scopes": ["account", "read"], "expires_in_s": 600});
    let (brief_id, brief) = makes_token(&alice, body).await;
    let brief = with(&node, &brief);
    let longer = json!({"name": "x", "scopes": ["read"], "expires_in_s": 3600});
    let problem = brief.post("me/tokens", longer).await.problem(403, "forbidden");
    assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("expires_in_s: ")), "{problem}");
    for more in [json!({"name": "x", "scopes": ["read"]}), json!({"name": "x", "scopes": ["read"], "expires_in_s": 60})]
    {
        let made = brief.post("me/tokens", more).await.expect(201);
        assert!(made["expires_at"].as_str() <= brief.get("me").await.expect(200)["expires_at"].as_str(), "{made}");
        assert!(made["expires_at"].is_string(), "{made}");
        alice.delete(&format!("me/tokens/{}", made["id"].as_str().expect("an id"))).await.expect(204);
    }
    alice.delete(&format!("me/tokens/{brief_id}")).await.expect(204);

    // Ended: at once.
    let list = alice.get("me/tokens").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(4), "{list}");
    assert!(!list.to_string().contains(&writer[4..]));
    let shown = list["items"].as_array().and_then(|items| items.iter().find(|item| item["id"] == *id)).expect("it");
    assert_eq!((&shown["name"], &shown["scopes"]), (&json!("reader"), &json!(["read"])));
    alice.delete(&format!("me/tokens/{id}")).await.expect(204);
    with(&node, &reader).get("me").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_named_and_there_are_fifty() {
    let node = Node::alone().await;
    let alice = node.api("alice");
    for (body, field) in [
        (json!({"scopes": ["read"]}), "name: "),
        (json!({"name": " ", "scopes": ["read"]}), "name: "),
        (json!({"name": "n".repeat(101), "scopes": ["read"]}), "name: "),
        (json!({"name": "x"}), "scopes: "),
        (json!({"name": "x", "scopes": []}), "scopes: "),
        (json!({"name": "x", "scopes": ["root"]}), "scopes: "),
        (json!({"name": "x", "scopes": "read"}), "scopes: "),
        (json!({"name": "x", "scopes": ["read"], "expires_in_s": 0}), "expires_in_s: "),
        (json!({"name": "x", "scopes": ["read"], "expires_in_s": 400_000_000}), "expires_in_s: "),
        (json!({"name": "x", "scopes": ["read"], "room": "No Room"}), "room: "),
    ] {
        let problem = alice.post("me/tokens", body).await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(field)), "{problem}");
    }
    for n in 0..50 {
        makes_token(&alice, json!({"name": format!("t{n}"), "scopes": ["read"]})).await;
    }
    alice.post("me/tokens", json!({"name": "x", "scopes": ["read"]})).await.problem(409, "conflict");
    // A token of a user with a JWT is that user, and no administrator.
    let admin = Api::with(&node.http(), Some(tokens::admin("root")));
    let (_, token) = makes_token(&admin, json!({"name": "x", "scopes": ["read", "account"]})).await;
    let answer = with(&node, &token).post("admin/users/alice/disconnect", json!({})).await;
    answer.problem(403, "forbidden");
}

#[tokio::test]
async fn a_token_ends_when_it_said() {
    let node = Node::alone().await;
    let alice = node.api("alice");
    let (_, token) = makes_token(&alice, json!({"name": "short", "scopes": ["read"], "expires_in_s": 1})).await;
    let api = with(&node, &token);
    until("the token ends", || async { (api.get("me").await.status == 401).then_some(()) }).await;
    assert_eq!(alice.get("me/tokens").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_other_logins_end() {
    let node = Node::alone().await;
    let first = registers(&node, "alice").await;
    let second = logs_in(&node, "alice", &[]).await;
    let api = with(&node, &first);
    for (body, status, text) in [
        (json!({"old": "wrong horse", "new": "better battery"}), 403, "old: "),
        (json!({"old": PASSWORD, "new": "short"}), 400, "new: must have 8 to 200"),
        (json!({"old": PASSWORD, "new": "Password123"}), 400, "new: is among the most common"),
        (json!({"old": PASSWORD}), 400, "new: is missing"),
        (json!({"new": "better battery"}), 400, "old: is missing"),
    ] {
        let problem = api.post("me/password", body).await;
        assert_eq!(problem.status, status, "{:?}", problem.body);
        assert!(problem.body["detail"].as_str().is_some_and(|detail| detail.starts_with(text)), "{:?}", problem.body);
    }
    let mut open = connects(&node, "alice", &second).await;
    api.post("me/password", json!({"old": PASSWORD, "new": "better battery"})).await.expect(204);
    assert_eq!(open.closed().await, 4003);
    with(&node, &second).get("me").await.problem(401, "unauthenticated");
    api.get("me").await.expect(200);
    tries(&node, "alice", PASSWORD, &[]).await.problem(401, "unauthenticated");
    tries(&node, "alice", "better battery", &[]).await.expect(200);
    // Whoever comes by JWT has none.
    node.api("jay")
        .post("me/password", json!({"old": PASSWORD, "new": "better battery"}))
        .await
        .problem(403, "forbidden");
    for (password, text) in [("iloveyou1", "most common"), ("dave-1234", "user id")] {
        let body = json!({"user": "Dave-1234", "password": password});
        let problem = anonymous(&node).post("register", body).await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{problem}");
    }
}

#[tokio::test]
async fn guessing_waits_and_locks_nobody_out() {
    let node = Node::with(&[("server.trusted_proxies", "127.0.0.0/8")]).await;
    let body = json!({"user": "alice", "password": PASSWORD});
    let from = |address: &str| vec![("X-Forwarded-For", address.to_owned())];
    fn headers<'a>(pairs: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
        pairs.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
    let home = from("203.0.113.1");
    let made = anonymous(&node).call(Method::POST, "register", Some(body), &headers(&home)).await;
    let cookies: Vec<&str> =
        made.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect();
    let device = cookies.iter().find(|cookie| cookie.starts_with("roundtable_device=")).expect("a device cookie");
    assert!(device.contains("HttpOnly") && device.contains("SameSite=Strict"), "{device}");
    let device = device.split(';').next().expect("name and value").to_owned();
    let session = token_of(&made.body);
    assert_eq!(made.status, 201);

    // From one address it gets slower, and says when.
    let mut throttled = None;
    for _ in 0..10 {
        let answer = tries(&node, "alice", "wrong horse", &headers(&from("198.51.100.1"))).await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s >= 1)));
            throttled = Some(answer.problem(429, "rate_limited"));
            break;
        }
        answer.problem(401, "unauthenticated");
    }
    throttled.expect("too many wrong ones");
    // The right one too, from there; nobody can tell.
    tries(&node, "alice", PASSWORD, &headers(&from("198.51.100.1"))).await.problem(429, "rate_limited");
    // From many addresses it gets slower as well.
    let mut n = 0;
    until("guesses from everywhere are slowed", || {
        n += 1;
        let address = from(&format!("198.51.100.{n}"));
        let node = &node;
        async move { (tries(node, "alice", "wrong horse", &headers(&address)).await.status == 429).then_some(()) }
    })
    .await;
    let mut slowed = tries(&node, "alice", "wrong horse", &headers(&from("192.0.2.77"))).await;
    for n in 78..120 {
        if slowed.status == 429 {
            break;
        }
        slowed = tries(&node, "alice", "wrong horse", &headers(&from(&format!("192.0.2.{n}")))).await;
    }
    slowed.problem(429, "rate_limited");
    // Somebody else is not slowed, unknown ones are the same to see.
    tries(&node, "bob", "wrong horse", &headers(&from("192.0.2.200"))).await.problem(401, "unauthenticated");
    // Who logged in from home is let in there, and with the cookie from anywhere, also after logging out.
    tries(&node, "alice", PASSWORD, &headers(&home)).await.expect(200);
    let mut known = from("192.0.2.201");
    known.push(("Cookie", device.clone()));
    tries(&node, "alice", PASSWORD, &headers(&known)).await.expect(200);
    let api = with(&node, &session);
    api.delete("me/sessions").await.expect(204);
    api.post("logout", json!({})).await.expect(204);
    tries(&node, "alice", PASSWORD, &headers(&known)).await.expect(200);
    // A device that guesses is slowed itself.
    let mut device_slowed = false;
    for _ in 0..10 {
        device_slowed |= tries(&node, "alice", "wrong horse", &headers(&known)).await.status == 429;
    }
    assert!(device_slowed);
}

#[tokio::test]
async fn a_user_has_a_rate_over_http_whatever_the_address() {
    let node = Node::with(&[("limits.http_per_user_minute", "5"), ("server.trusted_proxies", "127.0.0.0/8")]).await;
    let api = node.api("alice");
    let mut last = None;
    for n in 0..12 {
        let address = format!("203.0.113.{n}");
        last = Some(api.call(Method::GET, "me", None, &[("X-Forwarded-For", &address)]).await);
    }
    let last = last.expect("twelve answers");
    assert!(last.header("retry-after").is_some());
    last.problem(429, "rate_limited");
    node.api("bob").get("me").await.expect(200);
}

#[tokio::test]
async fn administrators_disconnect_people_on_every_node() {
    let cluster = Cluster::start(2).await;
    let (one, two) = (&cluster.nodes[0], &cluster.nodes[1]);
    let admin = Api::with(&one.http(), Some(tokens::admin("root")));
    let token = registers(one, "alice").await;
    let (_, bot) = makes_token(&with(one, &token), json!({"name": "bot", "scopes": ["read"]})).await;
    let mut here = connects(one, "alice", &token).await;
    let mut there = connects(two, "alice", &bot).await;
    let mut bob = Person::at(two, "bob").await;
    one.api("bob").post("admin/users/alice/disconnect", json!({})).await.problem(403, "forbidden");
    admin.post("admin/users/nobody/disconnect", json!({})).await.problem(404, "not_found");
    admin.post("admin/users/alice/disconnect", json!({"revoke": "yes"})).await.problem(400, "bad_request");
    // Who came within a tenth of a second is let be.
    here.reads_for(std::time::Duration::from_millis(200)).await;
    admin.post("admin/users/alice/disconnect", json!({})).await.expect(204);
    assert_eq!((here.closed().await, there.closed().await), (4300, 4300));
    // Nothing was taken from them, and who came back stays: the list that nodes read is of the past.
    let mut here = connects(one, "alice", &token).await;
    let mut there = connects(two, "alice", &bot).await;
    here.reads_for(std::time::Duration::from_secs(3)).await;
    here.does(json!({"type": "ping"})).await;
    there.does(json!({"type": "ping"})).await;
    admin.post("admin/users/alice/disconnect", json!({"revoke": true})).await.expect(204);
    assert_eq!((here.closed().await, there.closed().await), (4003, 4003));
    with(two, &bot).get("me").await.problem(401, "unauthenticated");
    with(one, &token).get("me").await.problem(401, "unauthenticated");
    bob.does(json!({"type": "ping"})).await;
    // A JWT is good until it ends.
    admin.post("admin/users/bob/disconnect", json!({})).await.expect(204);
    assert_eq!(bob.closed().await, 4300);
    Person::at(two, "bob").await.does(json!({"type": "ping"})).await;
}

#[tokio::test]
async fn what_is_revoked_ends_on_a_node_that_hears_nothing() {
    let (cluster, cut) = Cluster::with_first_behind_proxies(2).await;
    let (deaf, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let token = registers(other, "alice").await;
    let phone = logs_in(other, "alice", &[]).await;
    let mut open = connects(deaf, "alice", &phone).await;
    with(deaf, &phone).get("me").await.expect(200);
    cut.redis.close();
    with(other, &token).delete("me/sessions").await.expect(204);
    // By reading what was revoked; nobody told it.
    let began = std::time::Instant::now();
    assert_eq!(open.closed().await, 4003);
    until("the login is not honoured", || async { (with(deaf, &phone).get("me").await.status == 401).then_some(()) })
        .await;
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    cut.redis.open();
}
