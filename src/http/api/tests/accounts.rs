//! Registering, logging in and out, the cookie, and who may use it.

use actix_web::http::header;
use actix_web::test::TestRequest;
use serde_json::json;

use super::{bearer, node, unlimited};
use crate::domain::revoked::Revoked;

#[actix_web::test]
async fn an_account_is_made_once_and_logs_in() {
    let node = node(unlimited()).await;
    let alice = json!({"user": "alice", "password": "correct horse", "name": "Alice", "unknown": [1]});
    let reply = node.post("/api/v1/register", "", alice.clone()).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.json()["user"], json!({"id": "alice", "name": "Alice"}));
    assert_eq!(node.post("/api/v1/register", "", alice.clone()).await.problem(), (409, "conflict".into()));

    let reply = node.post("/api/v1/login", "", alice).await;
    assert_eq!(reply.status, 200);
    let token = reply.json()["token"].as_str().expect("a token").to_owned();
    let me = node.get("/api/v1/me", &token).await;
    assert_eq!(me.json()["user"]["id"], "alice");
    assert_eq!(me.json()["user"]["name"], "Alice");

    let wrong = node.post("/api/v1/login", "", json!({"user": "alice", "password": "wrong horse"})).await;
    let nobody = node.post("/api/v1/login", "", json!({"user": "nobody", "password": "wrong horse"})).await;
    assert_eq!(wrong.problem(), (401, "unauthenticated".into()));
    assert_eq!(wrong.json()["detail"], nobody.json()["detail"], "a refusal does not tell who exists");
    assert_eq!(wrong.header("www-authenticate"), "Bearer");
}

#[actix_web::test]
async fn what_is_wrong_with_an_account_is_named() {
    let node = node(unlimited()).await;
    for (body, field) in [
        (json!({"password": "correct horse"}), "user: "),
        (json!({"user": "-a", "password": "correct horse"}), "user: "),
        (json!({"user": "a".repeat(65), "password": "correct horse"}), "user: "),
        (json!({"user": 7, "password": "correct horse"}), "user: "),
        (json!({"user": "a"}), "password: "),
        (json!({"user": "a", "password": "1234567"}), "password: "),
        (json!({"user": "a", "password": "x".repeat(201)}), "password: "),
        (json!({"user": "a", "password": "correct horse", "name": "n".repeat(101)}), "name: "),
        (json!({"user": "a", "password": "correct horse", "name": "a\u{7}"}), "name: "),
        (json!([]), "the body must be"),
    ] {
        let reply = node.post("/api/v1/register", "", body).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()));
        let detail = reply.json()["detail"].as_str().expect("a text").to_owned();
        assert!(detail.starts_with(field), "{detail}");
    }
}

#[actix_web::test]
async fn the_cookie_stands_for_the_token_and_changes_need_the_csrf_token() {
    let node = node(unlimited()).await;
    let reply = node.post("/api/v1/register", "", json!({"user": "alice", "password": "correct horse"})).await;
    let cookie = reply.header("set-cookie");
    for part in ["roundtable_session=rts_", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"] {
        assert!(cookie.contains(part), "{part}");
    }
    assert!(!cookie.contains("Secure"), "plain http");
    let pair = cookie.split(';').next().expect("name and value").to_owned();
    let with_cookie = |request: TestRequest| request.insert_header((header::COOKIE, pair.clone()));

    let me = node.call(with_cookie(TestRequest::get().uri("/api/v1/me"))).await;
    assert_eq!(me.status, 200);
    let csrf = me.json()["csrf_token"].as_str().expect("a token").to_owned();
    let patch = || with_cookie(TestRequest::patch().uri("/api/v1/me")).set_json(json!({"name": "Alicia"}));
    assert_eq!(node.call(patch()).await.problem(), (403, "forbidden".into()));
    assert_eq!(node.call(patch().insert_header(("X-CSRF-Token", "x"))).await.problem().0, 403);
    assert_eq!(node.call(patch().insert_header(("X-CSRF-Token", csrf))).await.status, 200);
    let me = node.call(with_cookie(TestRequest::get().uri("/api/v1/me"))).await;
    assert_eq!(me.json()["user"]["name"], "Alicia");
}

#[actix_web::test]
async fn logging_out_ends_the_login_and_tells_the_nodes() {
    let node = node(unlimited()).await;
    let token = node.register("alice").await;
    let reply = node.call(bearer(TestRequest::post().uri("/api/v1/logout"), &token)).await;
    assert_eq!(reply.status, 204);
    assert!(reply.body.is_empty());
    assert!(reply.header("set-cookie").contains("Max-Age=0"));
    let revoked = node.revoked.try_recv().expect("told");
    let hash = crate::auth::token_hash(&token).expect("a token of ours");
    assert_eq!(revoked, Revoked::Login(hash));
    assert_eq!(node.get("/api/v1/me", &token).await.problem(), (401, "unauthenticated".into()));
    assert_eq!(node.call(bearer(TestRequest::post().uri("/api/v1/logout"), &token)).await.problem().0, 401);
    assert!(node.revoked.try_recv().is_err());
}

#[actix_web::test]
async fn credentials_that_are_none_are_refused() {
    let node = node(unlimited()).await;
    for value in ["Bearer", "Bearer ", "Basic abc", "Bearer rts_x", "Bearer a.b.c", "rts_x"] {
        let request = TestRequest::get().uri("/api/v1/me").insert_header((header::AUTHORIZATION, value));
        assert_eq!(node.call(request).await.problem(), (401, "unauthenticated".into()), "{value}");
    }
    assert_eq!(node.get("/api/v1/me", "").await.problem().0, 401);
    let request = TestRequest::get().uri("/api/v1/me").insert_header((header::COOKIE, "roundtable_session=x"));
    assert_eq!(node.call(request).await.problem().0, 401);
}

#[actix_web::test]
async fn behind_a_trusted_proxy_the_cookie_is_for_https_alone() {
    let mut config = unlimited();
    config.server.trusted_proxies.0.push("10.0.0.0/8".parse().expect("a network"));
    let node = node(config).await;
    for (peer, user, secure) in [("10.0.0.1:9", "alice", true), ("192.0.2.1:9", "bob", false)] {
        let request = TestRequest::post()
            .uri("/api/v1/register")
            .peer_addr(peer.parse().expect("an address"))
            .insert_header(("X-Forwarded-Proto", "https"))
            .set_json(json!({"user": user, "password": "correct horse"}));
        let reply = node.call(request).await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.header("set-cookie").contains("Secure"), secure);
        assert_eq!(!reply.header("strict-transport-security").is_empty(), secure);
    }
}

#[actix_web::test]
async fn pages_of_foreign_origins_log_nobody_in() {
    let node = node(unlimited()).await;
    for path in ["/api/v1/register", "/api/v1/login"] {
        let request = TestRequest::post()
            .uri(path)
            .insert_header((header::ORIGIN, "https://evil.example"))
            .insert_header((header::HOST, "chat.example"))
            .set_json(json!({"user": "mallory", "password": "correct horse"}));
        assert_eq!(node.call(request).await.problem(), (403, "forbidden".into()));
    }
}
