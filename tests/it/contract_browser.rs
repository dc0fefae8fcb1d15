//! What a browser may be made to do by a page that means harm, and what keeps it from doing it (docs/operations.md,
//! "Browsers"): headers graded on every kind of answer, forged calls, sockets from elsewhere, frames, texts that look
//! like code. Each as a browser would send it.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::{Answer, Api};
use crate::support::node::Node;
use crate::support::person::{Encoding, Person};
use crate::support::raw::RawSocket;
use crate::support::within;

/// A registered user: the cookie as a browser sends it back, and the token for `X-CSRF-Token`.
async fn registered(node: &Node, user: &str) -> (String, String) {
    let api = Api::with(&node.http(), None);
    let answer = api.post("register", json!({"user": user, "password": "correct horse"})).await;
    let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().expect("name=value").to_owned();
    let me = api.call(Method::GET, "me", None, &[("Cookie", &cookie)]).await.expect(200);
    (cookie, me["csrf_token"].as_str().expect("a token").to_owned())
}

/// What an answer must bear; `true`: the value is right.
type Rule = (&'static str, fn(&str) -> bool);

/// As the graders of public sites count: each of them worth points, none of them missing here.
const RULES: [Rule; 9] = [
    ("content-security-policy", |csp| {
        let policies: Vec<&str> = csp.split(';').map(str::trim).collect();
        let has = |wanted: &str| policies.contains(&wanted);
        has("default-src 'none'")
            && has("frame-ancestors 'none'")
            && has("base-uri 'none'")
            && policies.iter().any(|policy| policy.starts_with("form-action "))
            && !["unsafe-inline", "unsafe-eval", "http:", "https:", "*"].iter().any(|bad| csp.contains(bad))
    }),
    ("x-content-type-options", |value| value == "nosniff"),
    ("x-frame-options", |value| value == "DENY"),
    ("referrer-policy", |value| value == "no-referrer"),
    ("permissions-policy", |value| {
        ["camera=()", "microphone=()", "geolocation=()"].iter().all(|one| value.contains(one))
    }),
    ("cross-origin-opener-policy", |value| value == "same-origin"),
    ("cross-origin-resource-policy", |value| value == "same-origin"),
    ("cache-control", |value| ["no-store", "no-cache"].contains(&value)),
    ("strict-transport-security", |value| {
        let age = value.strip_prefix("max-age=").and_then(|rest| rest.split(';').next()?.parse::<u64>().ok());
        age.is_some_and(|seconds| seconds >= 15_768_000)
    }),
];

/// Every rule that the header lines break.
fn broken<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let says = |(name, right): &Rule| match header(name) {
        Some(value) if right(value) => None,
        value => Some(format!("{name}: {value:?}")),
    };
    RULES.iter().filter_map(says).collect()
}

#[tokio::test]
async fn every_kind_of_answer_passes_the_graders() {
    let node = Node::with(&[
        ("server.hsts", "true"),
        ("limits.logins_per_minute", "1"),
        ("server.allowed_origins", "https://app.example"),
    ])
    .await;
    let alice = node.api("alice");
    let nobody = Api::with(&node.http(), None);
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    nobody.post("login", json!({"user": "x", "password": "wrong horse"})).await.problem(401, "unauthenticated");
    let preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")];
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let large = json!({"id": "x", "text": "x".repeat(100_000)});
    let answers: Vec<(u16, Answer)> = vec![
        (200, nobody.get("/").await),
        (200, nobody.call(Method::HEAD, "/", None, &[]).await),
        (200, nobody.get("auth").await),
        (200, alice.get("me").await),
        (201, alice.post("rooms", json!({"id": "other", "kind": "public"})).await),
        (204, alice.delete("rooms/other").await),
        (204, nobody.call(Method::OPTIONS, "me", None, &preflight).await),
        (204, nobody.call(Method::OPTIONS, "me", None, &[]).await),
        (400, alice.post("rooms", json!([])).await),
        (401, nobody.get("me").await),
        (403, node.api("bob").post("rooms/lobby/messages", json!({"id": "b", "text": "x"})).await),
        (404, nobody.get("/nowhere").await),
        (404, nobody.get("nowhere").await),
        (404, nobody.get("oidc/login").await),
        (405, nobody.call(Method::PUT, "me", None, &[]).await),
        (409, alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await),
        (413, alice.post("rooms/lobby/messages", large).await),
        (426, nobody.get("/ws").await),
        (426, nobody.call(Method::GET, "/ws", None, &upgrade).await),
        (404, nobody.call(Method::GET, "/elsewhere", None, &upgrade).await),
        (429, nobody.post("login", json!({"user": "x", "password": "wrong horse"})).await),
        (200, node.admin_api().get("/livez").await),
    ];
    for (status, answer) in &answers {
        assert_eq!(answer.status, *status, "{answer:?}");
        let admin = answer.body == json!({"status": "ok"});
        let faults = broken(|name| answer.header(name));
        let faults: Vec<_> = faults.iter().filter(|fault| !(admin && fault.starts_with("strict-transport"))).collect();
        assert!(faults.is_empty(), "{status} {:?}: {faults:?}", answer.body);
        assert!(answer.header("x-request-id").is_some_and(|id| id.len() >= 8), "{answer:?}");
        for tells in ["server", "x-powered-by"] {
            assert_eq!(answer.header(tells), None, "{answer:?}");
        }
    }
    // The page may have scripts of our own, nothing else may have any.
    assert!(answers[0].1.header("content-security-policy").is_some_and(|csp| csp.contains("script-src 'self'")));
    assert!(answers[3].1.header("content-security-policy").is_some_and(|csp| !csp.contains("script-src")));
}

/// Sends bytes that no HTTP client would, and gives the answer to the end of the connection.
async fn raw(node: &Node, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("it listens");
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("an answer", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn line<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_the_same_headers() {
    let node = Node::with(&[("server.hsts", "true")]).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(1_000));
    for (bytes, statuses) in [
        (&b"nonsense\r\n\r\n"[..], &["400"][..]),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", &["400"]),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", &["400"]),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", &["400"]),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", &["400"]),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &["400"]),
        (long.as_bytes(), &["400", "431"]),
        (many.as_bytes(), &["400", "431"]),
    ] {
        let answer = raw(&node, bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} "))), "{shown}: {answer}");
        let faults = broken(|name| line(&answer, name));
        assert!(faults.is_empty(), "{shown}: {faults:?}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_cut_off_and_holds_nobody_up() {
    let node = Node::with(&[("server.hsts", "true")]).await;
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("it listens");
        // Some send nothing, some begin well and go on a byte at a time.
        if n % 2 == 0 {
            socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ").await.expect("written");
        }
        slow.push(socket);
    }
    let api = Api::with(&node.http(), None);
    api.get("/").await.expect(200);
    let dripping = slow.swap_remove(0);
    let (mut read, mut write) = dripping.into_split();
    let drip = async {
        // Until it is refused to.
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = String::new();
    within("it is cut off", async {
        tokio::select! {
            _ = read.read_to_string(&mut answer) => {}
            () = drip => {}
        }
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(broken(|name| line(&answer, name)).is_empty(), "{answer}");
    // A body that does not come is as bad.
    let token = crate::support::tokens::of("alice");
    let head = format!(
        "POST /api/v1/rooms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 50\r\n\
         Connection: close\r\n\r\n{{\"id\""
    );
    let answer = raw(&node, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("in time"), "{answer}");
}

#[tokio::test]
async fn a_page_elsewhere_can_not_call_in_the_name_of_its_visitor() {
    let node = Node::with(&[("server.allowed_origins", "https://app.example")]).await;
    let (cookie, csrf) = registered(&node, "carol").await;
    let (_, others) = registered(&node, "mallory").await;
    let api = Api::with(&node.http(), None);
    let url = format!("{}/api/v1/rooms", node.http());
    let client = reqwest::Client::new();
    let body = r#"{"id": "lobby", "kind": "public"}"#;
    // What a form or a simple fetch can send without being asked first, from an origin that is not ours.
    for kind in
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "application/json"]
    {
        for (origin, site) in [("https://evil.example", "cross-site"), ("null", "cross-site"), ("", "none")] {
            let mut request = client.post(&url).header("cookie", &cookie).header("content-type", kind).body(body);
            request = request.header("sec-fetch-site", site).header("sec-fetch-mode", "no-cors");
            if !origin.is_empty() {
                request = request.header("origin", origin);
            }
            let answer = within("an answer", request.send()).await.expect("an answer");
            assert_eq!(answer.status(), 403, "{kind} from {origin:?}");
            assert!(answer.headers().get("access-control-allow-origin").is_none());
        }
    }
    // No token, a wrong one, another user's, and the right one in the wrong place.
    for wrong in ["", "x", &others, &csrf[1..], &format!("{csrf}x")] {
        let headers = [("Cookie", &*cookie), ("X-CSRF-Token", wrong)];
        for (method, path) in [
            (Method::POST, "rooms"),
            (Method::PATCH, "me"),
            (Method::POST, "logout"),
            (Method::POST, "direct"),
            (Method::PUT, "rooms/x/members/mallory"),
            (Method::DELETE, "rooms/x"),
        ] {
            let answer = api.call(method.clone(), path, Some(json!({"id": "lobby", "kind": "public"})), &headers).await;
            assert_eq!(answer.status, 403, "{method} {path} with {wrong:?}");
        }
    }
    let in_query = format!("rooms?csrf_token={csrf}&X-CSRF-Token={csrf}");
    api.call(
        Method::POST,
        &in_query,
        Some(json!({"id": "lobby", "kind": "public", "csrf_token": csrf})),
        &[("Cookie", &cookie)],
    )
    .await
    .problem(403, "forbidden");
    node.api("alice").get("rooms/lobby").await.problem(404, "not_found");
    // Nobody is logged in as somebody else behind their back.
    for path in ["login", "register"] {
        let credentials = json!({"user": "mallory2", "password": "correct horse"});
        let answer = api.call(Method::POST, path, Some(credentials), &[("Origin", "https://evil.example")]).await;
        assert_eq!(answer.header("set-cookie"), None);
        answer.problem(403, "forbidden");
    }
    // A preflight from elsewhere is given nothing; one from a listed page is, by name and never by a star.
    for (origin, allowed) in [
        ("https://evil.example", None),
        ("https://app.example.evil.example", None),
        ("http://app.example", None),
        ("null", None),
        ("https://app.example", Some("https://app.example")),
    ] {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-csrf-token,content-type"),
        ];
        let answer = api.call(Method::OPTIONS, "rooms", None, &headers).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), allowed.map(|_| "true"), "{origin}");
    }
    // And the right way works, from a listed page too.
    let right = [("Cookie", &*cookie), ("X-CSRF-Token", &*csrf), ("Origin", "https://app.example")];
    api.call(Method::POST, "rooms", Some(json!({"id": "lobby", "kind": "public"})), &right).await.expect(201);
}

#[tokio::test]
async fn a_page_elsewhere_can_not_open_a_socket_in_the_name_of_its_visitor() {
    let node = Node::with(&[("server.allowed_origins", "https://app.example")]).await;
    let (cookie, _) = registered(&node, "carol").await;
    let own = node.http();
    for (origin, status) in [
        (Some("https://evil.example"), "403"),
        (Some("null"), "403"),
        (Some("https://app.example.evil.example"), "403"),
        (Some("file://"), "403"),
        (None, "403"),
        (Some("https://app.example"), "101"),
        (Some(&*own), "101"),
    ] {
        let origin_line = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let (_socket, head) = RawSocket::request(&node, &format!("Cookie: {cookie}\r\n{origin_line}")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin:?}: {head}");
        for name in ["content-security-policy", "x-content-type-options", "x-request-id"] {
            assert!(line(&head, name).is_some(), "{name}: {head}");
        }
    }
    // Without the cookie it is nobody, wherever it comes from, until a hello says otherwise.
    let mut stranger =
        Person::upgraded(&node.ws_url(), "x", Encoding::Json, &[("Origin", "https://evil.example".to_owned())])
            .await
            .expect("the upgrade");
    let answer = stranger.asks(json!({"type": "hello"})).await;
    assert_eq!(answer["code"], "unauthenticated");
    // A refusal is the same problem as everywhere.
    let refused = Api::with(&node.http(), None)
        .call(
            Method::GET,
            "/ws",
            None,
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Cookie", &cookie),
            ],
        )
        .await
        .problem(403, "forbidden");
    assert_eq!(refused["type"], "urn:roundtable:problem:forbidden");
    assert_eq!((&refused["status"], &refused["retryable"]), (&json!(403), &json!(false)));
}

#[tokio::test]
async fn a_request_s_id_goes_through() {
    let node = Node::with(&[("log.level", "info,roundtable=debug")]).await;
    let api = Api::with(&node.http(), None);
    let id = "trace-0af7651916cd43dd.8448_eb";
    let answer = api.call(Method::GET, "me", None, &[("X-Request-Id", id)]).await;
    assert_eq!(answer.header("x-request-id"), Some(id));
    for bad in ["", "a b", "<script>", "\"", "%0d%0ax: y", &"x".repeat(65)] {
        let answer = api.call(Method::GET, "me", None, &[("X-Request-Id", bad)]).await;
        let made = answer.header("x-request-id").expect("an id");
        assert!(made != bad && made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{bad}: {made}");
    }
    let (_, head) = RawSocket::request(&node, &format!("X-Request-Id: {id}\r\n")).await;
    assert_eq!(line(&head, "x-request-id"), Some(id));
}

/// Texts that look like code to one reader or another.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "</title><svg/onload=alert(1)>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "\u{202e}evil\u{200b}\u{feff}",
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "\" OR \"\"=\"",
    "1); DELETE FROM entries; --",
    "%27 UNION SELECT password_hash FROM users--",
    "\\'; SELECT pg_sleep(10); --$$",
];

#[tokio::test]
async fn texts_that_look_like_code_are_texts_over_sqlite() {
    let node = Node::alone().await;
    texts_that_look_like_code_are_texts(&node).await;
}

#[tokio::test]
async fn texts_that_look_like_code_are_texts_over_postgres() {
    let url = crate::support::postgres::Postgres::shared().await.database().await;
    let node = Node::with(&[("store.url", &url)]).await;
    texts_that_look_like_code_are_texts(&node).await;
}

fn is_plain_json(answer: &Answer) {
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(["application/json", "application/problem+json"].contains(&kind) || answer.body.is_null(), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.status < 500, "{answer:?}");
}

async fn texts_that_look_like_code_are_texts(node: &Node) {
    let (alice, bob) = (node.api("alice"), node.api("bob"));
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    bob.post("rooms/lobby/join", json!({})).await.expect(200);
    let mut listener = Person::at(node, "bob").await;
    listener.does(json!({"type": "subscribe", "room": "lobby"})).await;
    for (n, text) in HOSTILE.into_iter().enumerate() {
        // Every field that takes a text gives it back exactly.
        let sent = alice.post("rooms/lobby/messages", json!({"id": text, "text": text, "data": {text: text}})).await;
        is_plain_json(&sent);
        let sent = sent.expect(201);
        assert_eq!(sent["id"], *text);
        let seq = sent["seq"].as_u64().expect("a seq");
        listener.sees("lobby", seq, text).await;
        let again = alice.post("rooms/lobby/messages", json!({"id": text, "text": text})).await.expect(200);
        assert_eq!((&again["seq"], &again["duplicate"]), (&json!(seq), &json!(true)));
        let page = alice.get("rooms/lobby/messages?limit=1").await;
        is_plain_json(&page);
        let item = &page.expect(200)["items"][0];
        assert_eq!((&item["text"], &item["id"], &item["data"][text]), (&json!(text), &json!(text), &json!(text)));
        let emoji: String = text.chars().take(32).collect();
        let react = json!({"type": "react", "room": "lobby", "target": seq, "emoji": emoji, "active": true});
        listener.does(react).await;
        let changed = alice.patch("rooms/lobby", json!({"name": text, "topic": text})).await;
        is_plain_json(&changed);
        let room = bob.get("rooms/lobby").await.expect(200);
        assert_eq!((&room["name"], &room["topic"]), (&json!(text), &json!(text)));
        let named = alice.patch("me", json!({"name": text})).await;
        is_plain_json(&named);
        assert_eq!(alice.get("me").await.expect(200)["user"]["name"], *text);
        let password = format!("{text} as a password");
        let user = format!("user-{n}");
        let anonymous = Api::with(&node.http(), None);
        anonymous.post("register", json!({"user": user, "password": password, "name": text})).await.expect(201);
        anonymous.post("login", json!({"user": user, "password": password})).await.expect(200);
        anonymous.post("login", json!({"user": user, "password": text})).await.problem(401, "unauthenticated");
        // Whatever is no valid id, cursor or number is refused by its rule and is never shown as a page.
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let encoded = encoded.replace('+', "%20");
        let refused = [
            anonymous.post("login", json!({"user": text, "password": text})).await,
            anonymous.post("register", json!({"user": text, "password": password})).await,
            alice.post("rooms", json!({"id": text, "kind": "public"})).await,
            alice.post("rooms", json!({"id": "x", "kind": text})).await,
            alice.post("direct", json!({"user": text})).await,
            alice.get(&format!("rooms/{encoded}")).await,
            alice.get(&format!("rooms/{encoded}/messages")).await,
            alice.put(&format!("rooms/lobby/members/{encoded}"), json!({"role": "member"})).await,
            alice.put("rooms/lobby/members/bob", json!({"role": text})).await,
            alice.delete(&format!("rooms/lobby/bans/{encoded}")).await,
            alice.get(&format!("rooms?limit={encoded}")).await,
            alice.get(&format!("rooms?cursor={encoded}")).await,
            alice.get(&format!("me/rooms?cursor={encoded}")).await,
            alice.get(&format!("rooms/lobby/members?cursor={encoded}")).await,
            alice.get(&format!("rooms/lobby/bans?cursor={encoded}")).await,
            alice.get(&format!("rooms/lobby/messages?before={encoded}")).await,
            alice.get(&format!("rooms/lobby/messages?after={encoded}")).await,
            alice.get(&format!("rooms/lobby/messages?cursor={encoded}")).await,
            alice.get(&format!("/{encoded}")).await,
            Api::with(&node.http(), Some("forged".to_owned())).get("me").await,
        ];
        for answer in &refused {
            is_plain_json(answer);
            assert!((400..500).contains(&answer.status), "{text}: {answer:?}");
        }
        // As a cursor of the right form.
        let forged = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
        for path in ["rooms", "me/rooms", "rooms/lobby/members", "rooms/lobby/bans", "rooms/lobby/messages"] {
            alice.get(&format!("{path}?cursor={forged}")).await.problem(400, "bad_request");
        }
    }
    // Everybody and everything is still there.
    let count = HOSTILE.len();
    let page: Value = alice.get("rooms/lobby/messages?limit=200").await.expect(200);
    let texts: Vec<&str> = page["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|item| item["kind"] == "message")
        .filter_map(|item| item["text"].as_str())
        .collect();
    assert_eq!(texts, HOSTILE, "{count} messages");
    assert!(!node.log().contains("alert(1)") && !node.log().contains("DROP TABLE"), "a text is in the log");
}
