//! Files that belong to messages (docs/protocol.md, "Files").

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::Answer;
use crate::support::node::Node;
use crate::support::person::Person;
use crate::support::{tokens, until, within};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

/// A picture of `length` bytes.
fn picture(length: usize) -> Vec<u8> {
    let mut bytes = PNG.to_vec();
    bytes.extend((0..length.saturating_sub(PNG.len())).map(|n| (n % 251) as u8));
    bytes
}

/// Uploads `bytes` as `user`; `query` stands behind the `?`.
async fn upload(node: &Node, user: &str, query: &str, mime: &str, bytes: impl Into<reqwest::Body>) -> Answer {
    let url = format!("{}/api/v1/rooms/lobby/attachments?{query}", node.http());
    let mut request = reqwest::Client::new().post(url).bearer_auth(tokens::of(user)).body(bytes);
    if !mime.is_empty() {
        request = request.header("Content-Type", mime);
    }
    Answer::read(within("an answer to an upload", request.send()).await.expect("an answer")).await
}

/// GET without credentials.
async fn fetch(node: &Node, url: &str, headers: &[(&str, &str)]) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    call(node, Method::GET, url, headers).await
}

async fn call(
    node: &Node,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let mut request = reqwest::Client::new().request(method, format!("{}{url}", node.http()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = within("an answer", request.send()).await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, within("the bytes", answer.bytes()).await.expect("to its end").to_vec())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

/// A node that keeps files in `folder` and looks for what has to go every second.
async fn node_with(folder: &Path, more: &[(&str, &str)]) -> Node {
    let url = format!("file://{}", folder.display());
    let mut settings = vec![("attachments.url", &*url), ("attachments.unreferenced_s", "4")];
    settings.extend(more);
    Node::with(&settings).await
}

async fn lobby(node: &Node) -> Person {
    let mut alice = Person::at(node, "alice").await;
    alice.opens(node, "lobby").await;
    alice
}

#[tokio::test]
async fn an_erased_persons_files_go_whether_they_were_sent_or_not() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // Long enough for none of them to go by itself.
    let node = node_with(folder.path(), &[("attachments.unreferenced_s", "12")]).await;
    let mut alice = lobby(&node).await;
    let bob = upload_in(&node, "bob").await;
    let mut links = Vec::new();
    for message in ["m1", "unsent"] {
        let made = upload(&node, "alice", &format!("message={message}"), "image/png", picture(1_000)).await.expect(201);
        links.push(text(&made, "url").to_owned());
    }
    alice.sends("lobby", "m1", "with a file").await;
    for link in &links {
        assert_eq!(fetch(&node, link, &[]).await.0, 200);
    }
    node.api("alice").delete("me").await.expect(204);
    for link in &links {
        assert_eq!(fetch(&node, link, &[]).await.0, 404, "at once");
    }
    until("the bytes are gone", || async { (files(folder.path()).len() == 1).then_some(()) }).await;
    assert_eq!(fetch(&node, &bob, &[]).await.0, 200, "others' stay");
}

/// A file of `user`'s in the lobby, sent; gives its address.
async fn upload_in(node: &Node, user: &str) -> String {
    let mut person = Person::at(node, user).await;
    person.joins("lobby").await;
    let made = upload(node, user, "message=mine", "image/png", picture(1_000)).await.expect(201);
    person.sends("lobby", "mine", "with a file").await;
    text(&made, "url").to_owned()
}

#[tokio::test]
async fn a_file_is_uploaded_shown_with_its_message_and_erased_with_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[("attachments.unreferenced_s", "60")]).await;
    let mut alice = lobby(&node).await;
    let bytes = picture(700_000);
    let made = upload(&node, "alice", "message=m1&name=%E6%97%A5%E6%9C%AC.png", "image/png", bytes.clone()).await;
    let made = made.expect(201);
    let id = text(&made, "id").to_owned();
    let path = format!("rooms/lobby/attachments/{id}");
    assert_eq!((text(&made, "name"), text(&made, "type")), ("日本.png", "image/png"));
    assert_eq!((&made["bytes"], text(&made, "message")), (&json!(700_000), "m1"));
    assert_eq!((text(&made, "user"), text(&made, "sha256").len()), ("alice", 64));
    assert_eq!(fetch(&node, text(&made, "url"), &[]).await.2, bytes, "its uploader sees it at once");
    let bob = node.api("bob");
    bob.get(&path).await.problem(404, "not_found");

    let sent = json!({"id": "m1", "text": "look", "data": {"attachments": [id]}});
    node.api("alice").post("rooms/lobby/messages", sent).await.expect(201);
    let seen = bob.get(&path).await.expect(200);
    let url = text(&seen, "url");
    assert_eq!(fetch(&node, url, &[]).await.2, bytes);
    let several = bob.get(&format!("rooms/lobby/attachments?ids={id},{}", "0".repeat(32))).await.expect(200);
    assert_eq!(several["items"], json!([seen]));
    bob.get("rooms/lobby/attachments?ids=x").await.problem(400, "bad_request");
    bob.get("rooms/lobby/attachments").await.problem(400, "bad_request");

    assert_eq!(files(folder.path()).len(), 1);
    alice.does(json!({"type": "delete", "room": "lobby", "target": 1})).await;
    assert_eq!(fetch(&node, url, &[]).await.0, 404, "at once, though the address is good");
    node.api("alice").get(&path).await.problem(404, "not_found");
    until("the bytes are gone", async || files(folder.path()).is_empty().then_some(())).await;
    assert_eq!(node.metric("roundtable_attachments_kept_bytes_total").await, 700_000.0);
    assert!(!node.log().contains("日本"), "a name is in the log");
}

#[tokio::test]
async fn an_upload_can_be_repeated() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[("attachments.unreferenced_s", "60")]).await;
    lobby(&node).await;
    let first = upload(&node, "alice", "message=m&id=f1&name=a.png", "image/png", picture(1_000)).await.expect(201);
    let again = upload(&node, "alice", "message=m&id=f1&name=a.png", "image/png", picture(1_000)).await.expect(200);
    for key in ["id", "name", "sha256", "at", "bytes"] {
        assert_eq!(first[key], again[key], "{key}");
    }
    upload(&node, "alice", "message=m&id=f1", "", picture(1_001)).await.problem(409, "conflict");
    upload(&node, "alice", "message=n&id=f1", "", picture(1_000)).await.problem(409, "conflict");
    node.api("bob").post("rooms/lobby/join", json!({})).await.expect(200);
    let bobs = upload(&node, "bob", "message=m&id=f1", "", picture(1_000)).await.expect(201);
    assert_ne!(bobs["id"], first["id"], "each person's ids are their own");
    until("only what was kept stays", async || (files(folder.path()).len() == 2).then_some(())).await;
}

#[tokio::test]
async fn uploads_that_lie_or_are_not_allowed_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[]).await;
    lobby(&node).await;
    let says = |answer: Answer| text(&answer.problem(400, "bad_request"), "detail").to_owned();
    for (mime, bytes, detail) in [
        ("image/jpeg", PNG, "the content is image/png, not image/jpeg"),
        ("image/png", b"<script >alert(1)</script>".as_slice(), "the content is text/html, not image/png"),
        ("text/plain", b"<html ><script>", "the content is text/html, not text/plain"),
        ("text/html", b"<html ><script>", "files of type text/html are not taken here"),
        ("image/svg+xml", b"<svg onload='alert(1)'/>", "files of type image/svg+xml are not taken here"),
        ("", b"MZ\x90\0\x03\0\0\0", "files of type application/vnd.microsoft.portable-executable"),
        ("", b"\0\x01\x02\x03", "files of type application/octet-stream"),
        ("image/png", b"", "the body is empty"),
    ] {
        let refused = says(upload(&node, "alice", "message=m", mime, bytes).await);
        assert!(refused.starts_with(detail), "{refused}");
    }
    for (query, field) in [
        ("", "message: "),
        ("message=", "message: "),
        (&*format!("message={}", "m".repeat(65)), "message: "),
        ("message=m&id=%00", "id: "),
        (&*format!("message=m&name={}", "n".repeat(201)), "name: "),
    ] {
        let refused = says(upload(&node, "alice", query, "image/png", PNG).await);
        assert!(refused.starts_with(field), "{refused}");
    }
    upload(&node, "bob", "message=m", "image/png", PNG).await.problem(403, "forbidden");
    node.api("bob").post("rooms/lobby/join", json!({})).await.expect(200);
    node.api("alice").put("rooms/lobby/members/bob", json!({"role": "muted"})).await.expect(200);
    upload(&node, "bob", "message=m", "image/png", PNG).await.problem(403, "forbidden");
    for n in 0..10 {
        upload(&node, "alice", &format!("message=ten&id={n}"), "image/png", PNG).await.expect(201);
    }
    upload(&node, "alice", "message=ten&id=11", "image/png", PNG).await.problem(409, "conflict");
    node.api("alice").patch("rooms/lobby", json!({"archived": true})).await.expect(200);
    upload(&node, "alice", "message=m", "image/png", PNG).await.problem(409, "conflict");
    // The ten are without a message, so they go as well.
    until("nothing is left", async || files(folder.path()).is_empty().then_some(())).await;
}

#[tokio::test]
async fn sizes_are_held_whatever_is_declared() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let limits = [
        ("attachments.max_bytes", "600000"),
        ("attachments.per_user_bytes", "1000000"),
        ("attachments.unreferenced_s", "60"),
    ];
    let node = node_with(folder.path(), &limits).await;
    lobby(&node).await;
    let too_large = upload(&node, "alice", "message=m", "image/png", picture(600_001)).await;
    assert!(text(&too_large.problem(413, "bad_request"), "detail").contains("600000"));
    // Without a length, in chunks.
    let chunk = format!("30d40\r\n{}\r\n", String::from_utf8_lossy(&vec![b'x'; 200_000]));
    let (status, answer) = chunked(&node, &[&chunk, &chunk, &chunk, &chunk]).await;
    assert!(status == 413 && answer.contains("600000"), "{answer}");
    upload(&node, "alice", "message=m", "image/png", picture(600_000)).await.expect(201);
    let quota = upload(&node, "alice", "message=m", "image/png", picture(500_000)).await;
    let quota = quota.problem(413, "bad_request");
    assert!(text(&quota, "detail").contains("600000 of the 1000000 bytes"), "{quota}");
    let (status, answer) = chunked(&node, &[&chunk, &chunk, &chunk, "0\r\n\r\n"]).await;
    assert!(status == 413 && answer.contains("600000 of the 1000000"), "{answer}");
    until("only what was kept stays", async || (files(folder.path()).len() == 1).then_some(())).await;
}

/// An upload without a declared length; the status and the whole answer.
async fn chunked(node: &Node, chunks: &[&str]) -> (u16, String) {
    let mut socket = begin(node, "Transfer-Encoding: chunked\r\n").await;
    for chunk in chunks {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    answer_to(socket).await
}

/// The status and the whole of an answer.
async fn answer_to(mut socket: TcpStream) -> (u16, String) {
    // The whole of a problem, which is an object without another in it.
    let mut answer = Vec::new();
    within("an answer", async {
        while !answer.ends_with(b"}") && socket.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// A connection on which the head of an upload was sent.
async fn begin(node: &Node, headers: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", node.http_port())).await.expect("the node listens");
    let head = format!(
        "POST /api/v1/rooms/lobby/attachments?message=m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\n{headers}\r\n",
        tokens::of("alice")
    );
    socket.write_all(head.as_bytes()).await.expect("it is read");
    socket
}

#[tokio::test]
async fn who_may_not_add_files_any_more_when_the_last_byte_comes_adds_none() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[]).await;
    let (owner, alice) = (node.api("olga"), node.api("alice"));
    owner.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    alice.post("rooms/lobby/join", json!({})).await.expect(200);
    alice.post("rooms/lobby/messages", json!({"id": "m", "text": "before"})).await.expect(201);
    let all = picture(600_000);
    let mute = |role| (Method::PUT, "rooms/lobby/members/alice", json!({"role": role}), 200);
    let archive = |archived| (Method::PATCH, "rooms/lobby", json!({"archived": archived}), 200);
    let ban = |method| (method, "rooms/lobby/bans/alice", json!({}), 204);
    let does = async |(method, path, body, status)| owner.call(method, path, Some(body), &[]).await.expect(status);
    for (change, undo, status) in [
        (mute("muted"), mute("member"), 403),
        (archive(true), archive(false), 409),
        (ban(Method::PUT), ban(Method::DELETE), 403),
    ] {
        let mut socket = begin(&node, "Content-Length: 600000\r\n").await;
        socket.write_all(&all[..500_000]).await.expect("it is read");
        until("it is under way", async || (!files(folder.path()).is_empty()).then_some(())).await;
        does(change).await;
        socket.write_all(&all[500_000..]).await.expect("it is read");
        let (refused, answer) = answer_to(socket).await;
        assert_eq!(refused, status, "{answer}");
        until("nothing stays", async || files(folder.path()).is_empty().then_some(())).await;
        does(undo).await;
    }
}

#[tokio::test]
async fn uploads_that_break_off_or_die_with_the_node_leave_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[]).await;
    lobby(&node).await;
    // As many as one person may have at a time.
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = begin(&node, "Content-Length: 2000000\r\n").await;
        socket.write_all(&picture(1_000_000)).await.expect("it is read");
        sockets.push(socket);
    }
    let fifth = until("the other four are under way", async || {
        let answer = upload(&node, "alice", "message=m", "image/png", PNG).await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert!(fifth.header("retry-after").is_some());
    fifth.problem(429, "rate_limited");
    drop(sockets);
    until("the places are free again", async || {
        (upload(&node, "alice", "message=m", "image/png", PNG).await.status == 201).then_some(())
    })
    .await;
    until("what broke off is gone, and what got no message", async || files(folder.path()).is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn a_node_that_is_killed_amid_an_upload_or_a_removal_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let node = node_with(folder.path(), &[("attachments.unreferenced_s", "60")]).await;
    lobby(&node).await;
    let kept = upload(&node, "alice", "message=m&id=kept", "image/png", picture(300_000)).await.expect(201);
    let mut socket = begin(&node, "Content-Length: 2000000\r\n").await;
    socket.write_all(&picture(1_500_000)).await.expect("it is read");
    until("parts of it are stored", async || (files(folder.path()).len() == 2).then_some(())).await;
    node.kill();
    assert_eq!(files(folder.path()).len(), 2, "what a killed node leaves");
    // Its time is over, and somebody removed the bytes of an erased file, but not yet its row.
    let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
    database.execute("UPDATE doomed_objects SET due = 0", []).expect("it is there");
    let ghost = "INSERT INTO doomed_objects (object, user_id, bytes, due) VALUES (?1, 'alice', 5, 0)";
    database.execute(ghost, ["0".repeat(32)]).expect("it is there");
    drop(database);
    node.restart().await;
    until("what it left is gone", async || (files(folder.path()).len() == 1).then_some(())).await;
    let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
    until("the rows are gone too", async || {
        let left: i64 =
            database.query_row("SELECT count(*) FROM doomed_objects", [], |row| row.get(0)).expect("a count");
        (left == 0).then_some(())
    })
    .await;
    let used: i64 = database.query_row("SELECT bytes FROM attachment_usage", [], |row| row.get(0)).expect("a sum");
    assert_eq!(used, 299_995, "what was removed is free again");
    let again = node.api("alice").get(&format!("rooms/lobby/attachments/{}", text(&kept, "id"))).await.expect(200);
    assert_eq!(fetch(&node, text(&again, "url"), &[]).await.2, picture(300_000));
    assert_eq!(fetch(&node, text(&kept, "url"), &[]).await.0, 200, "the key is kept too");
}

#[tokio::test]
async fn bytes_are_served_so_that_no_browser_runs_them() {
    let node = Node::alone().await;
    lobby(&node).await;
    let header = |headers: &reqwest::header::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    };
    let name = "message=m&name=%22%E6%97%A5%E6%9C%AC%22%0D%0AX-Evil%3A%201%3B.png";
    let made = upload(&node, "alice", name, "image/png", picture(1_000)).await.expect(201);
    let url = text(&made, "url");
    let (status, headers, bytes) = fetch(&node, url, &[]).await;
    assert_eq!((status, bytes), (200, picture(1_000)));
    assert_eq!(header(&headers, "content-type"), "image/png");
    assert_eq!(header(&headers, "x-content-type-options"), "nosniff");
    assert_eq!(header(&headers, "cross-origin-resource-policy"), "same-origin");
    assert_eq!(header(&headers, "etag"), format!("\"{}\"", text(&made, "sha256")));
    assert!(headers.get("x-evil").is_none() && headers.get("set-cookie").is_none());
    let csp = header(&headers, "content-security-policy");
    assert!(csp.contains("sandbox") && csp.contains("default-src 'none'"), "{csp}");
    let cache = header(&headers, "cache-control");
    let age: u64 = cache.rsplit('=').next().and_then(|age| age.parse().ok()).expect("max-age");
    assert!(cache.starts_with("private") && (1..=3_600).contains(&age), "{cache}");
    let shown = header(&headers, "content-disposition");
    assert!(
        shown.starts_with("inline; ") && shown.contains("filename*=UTF-8''%22%E6%97%A5%E6%9C%AC%22X%2DEvil"),
        "{shown}"
    );

    let plain = upload(&node, "alice", "message=m&name=a.html", "text/plain", "no <b>html</b>").await.expect(201);
    let (_, headers, _) = fetch(&node, text(&plain, "url"), &[]).await;
    assert_eq!(header(&headers, "content-type"), "text/plain");
    assert!(header(&headers, "content-disposition").starts_with("attachment; "));

    for (range, status, content_range, part) in [
        ("bytes=0-9", 206, "bytes 0-9/1000", 0..10),
        ("bytes=990-", 206, "bytes 990-999/1000", 990..1_000),
        ("bytes=-10", 206, "bytes 990-999/1000", 990..1_000),
        ("bytes=500-5000", 206, "bytes 500-999/1000", 500..1_000),
        ("bytes=0-1,5-6", 200, "", 0..1_000),
        ("lines=1-2", 200, "", 0..1_000),
    ] {
        let (got, headers, bytes) = fetch(&node, url, &[("Range", range)]).await;
        assert_eq!((got, &*header(&headers, "content-range")), (status, content_range), "{range}");
        assert_eq!(bytes, picture(1_000)[part], "{range}");
    }
    let (status, headers, _) = fetch(&node, url, &[("Range", "bytes=1000-")]).await;
    assert_eq!((status, &*header(&headers, "content-range")), (416, "bytes */1000"));
    assert_eq!(fetch(&node, url, &[("Range", "bytes=0-9"), ("If-Range", "\"other\"")]).await.0, 200);
    let tag = format!("\"{}\"", text(&made, "sha256"));
    assert_eq!(fetch(&node, url, &[("If-None-Match", &tag)]).await.0, 304);
    let (status, headers, bytes) = call(&node, Method::HEAD, url, &[]).await;
    assert_eq!((status, bytes.len(), &*header(&headers, "content-length")), (200, 0, "1000"));

    let open = Node::with(&[("server.allowed_origins", "https://chat.example")]).await;
    lobby(&open).await;
    let made = upload(&open, "alice", "message=m", "image/png", PNG).await.expect(201);
    let (_, headers, _) = fetch(&open, text(&made, "url"), &[]).await;
    assert_eq!(header(&headers, "cross-origin-resource-policy"), "cross-origin");
}

#[tokio::test]
async fn an_address_is_good_for_its_file_and_its_time() {
    let secret = "0123456789abcdef0123456789abcdef";
    let node = Node::with(&[("attachments.link_s", "3"), ("attachments.secret", secret)]).await;
    lobby(&node).await;
    let one = upload(&node, "alice", "message=m", "image/png", picture(100)).await.expect(201);
    let two = upload(&node, "alice", "message=m", "image/png", picture(200)).await.expect(201);
    let signed = |file: &Value| text(file, "url").split_once('?').expect("a query").1.to_owned();
    let swapped = format!("/files/{}?{}", text(&one, "id"), signed(&two));
    let (start, end) = text(&one, "url").split_at(text(&one, "url").len() - 4);
    let tampered = format!("{start}{}", if end == "AAAA" { "BBBB" } else { "AAAA" });
    let later = text(&one, "url").replace("exp=", "exp=1");
    let bare = format!("/files/{}", text(&one, "id"));
    let fetched = fetch(&node, text(&one, "url"), &[]).await.0;
    assert!([200, 403].contains(&fetched), "it may have run out by now");
    for url in [swapped, tampered, later, bare.clone(), format!("{bare}?exp=x&sig=y")] {
        let (status, _, body) = fetch(&node, &url, &[]).await;
        assert_eq!(status, 403, "{url}");
        assert!(String::from_utf8_lossy(&body).contains("not made here"), "{url}");
    }
    assert_eq!(fetch(&node, "/files/..%2Fx?exp=1&sig=y", &[]).await.0, 404);
    until("the address expires", async || {
        let (status, _, body) = fetch(&node, text(&one, "url"), &[]).await;
        (status == 403 && String::from_utf8_lossy(&body).contains("expired")).then_some(())
    })
    .await;
    let fresh = node.api("alice").get(&format!("rooms/lobby/attachments/{}", text(&one, "id"))).await.expect(200);
    assert_ne!(fresh["url"], one["url"]);
    assert!(!node.log().contains(secret) && !node.log().contains("sig="), "a secret is in the log");
}

#[tokio::test]
async fn attachments_can_be_turned_off() {
    let node = Node::with(&[("attachments.url", "")]).await;
    lobby(&node).await;
    let off = upload(&node, "alice", "message=m", "image/png", PNG).await.problem(404, "not_found");
    assert!(text(&off, "detail").contains("attachments.url"), "{off}");
    node.api("alice").get(&format!("rooms/lobby/attachments/{}", "0".repeat(32))).await.problem(404, "not_found");
    assert_eq!(fetch(&node, &format!("/files/{}?exp=1&sig=y", "0".repeat(32)), &[]).await.0, 404);
}

/// With what CI installs as a stand-in for S3: `tests/s3/run` starts it and names it here.
#[tokio::test]
async fn a_bucket_serves_as_well_as_a_folder() {
    let Ok(url) = std::env::var("ROUNDTABLE_TEST_S3_URL") else { return };
    let node = Node::with(&[("attachments.url", &url), ("attachments.unreferenced_s", "4")]).await;
    let mut alice = lobby(&node).await;
    // More than two parts.
    let bytes = picture(11 * 1024 * 1024 + 7);
    let made = upload(&node, "alice", "message=m", "image/png", bytes.clone()).await.expect(201);
    alice.sends("lobby", "m", "look").await;
    let url = text(&made, "url");
    assert!(fetch(&node, url, &[]).await.2 == bytes, "other bytes than were uploaded");
    let range = "bytes=6000000-6000099";
    assert_eq!(fetch(&node, url, &[("Range", range)]).await.2, bytes[6_000_000..6_000_100]);
    let small = upload(&node, "alice", "message=never", "image/png", PNG).await.expect(201);
    assert_eq!(fetch(&node, text(&small, "url"), &[]).await.2, PNG);
    let mut socket = begin(&node, "Content-Length: 20000000\r\n").await;
    socket.write_all(&picture(8_000_000)).await.expect("it is read");
    drop(socket);
    alice.does(json!({"type": "delete", "room": "lobby", "target": 1})).await;
    until("nothing is doomed any more", async || {
        let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            database.query_row(&sql, [], |row| row.get(0)).expect("a count")
        };
        (count("attachments") == 0 && count("doomed_objects") == 0).then_some(())
    })
    .await;
    assert!(!node.log().contains("attachments.store.away"), "the bucket was away");
}
