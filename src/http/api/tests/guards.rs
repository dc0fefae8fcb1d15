//! What stands around every route: headers, CORS, rates, sizes, and answers where there is no route.

use std::net::SocketAddr;

use actix_web::http::{Method, header};
use actix_web::test::TestRequest;
use actix_web::web::Bytes;
use serde_json::json;

use super::{Reply, node, unlimited};

fn assert_secure(reply: &Reply, what: &str) {
    assert!(reply.header("content-security-policy").contains("default-src 'none'"), "{what}");
    assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"), "{what}");
    assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(reply.header("x-frame-options"), "DENY", "{what}");
    assert_eq!(reply.header("referrer-policy"), "no-referrer", "{what}");
    assert!(!reply.header("cache-control").is_empty(), "{what}");
    assert_eq!(reply.header("access-control-allow-origin"), "", "{what}");
}

#[actix_web::test]
async fn every_answer_bears_the_security_headers_and_errors_are_problems() {
    let node = node(unlimited()).await;
    let routes = [
        (Method::GET, "/", 200),
        (Method::HEAD, "/", 200),
        (Method::POST, "/", 405),
        (Method::GET, "/ws", 426),
        (Method::GET, "/nothing", 404),
        (Method::GET, "/api/v1", 404),
        (Method::GET, "/api/v1/nothing", 404),
        (Method::GET, "/api/v1/search", 401),
        (Method::POST, "/api/v1/search", 405),
        (Method::GET, "/api/v1/me/export", 401),
        (Method::DELETE, "/api/v1/me", 401),
        (Method::GET, "/api/v1/me", 401),
        (Method::GET, "/api/v1/login", 405),
        (Method::PUT, "/api/v1/rooms", 405),
        (Method::GET, "/api/v1/rooms/lobby/join", 405),
        (Method::POST, "/api/v1/login", 400),
        (Method::OPTIONS, "/api/v1/login", 204),
        (Method::GET, "/livez", 404),
    ];
    for (method, path, status) in routes {
        let what = format!("{method} {path}");
        let reply = node.call(TestRequest::with_uri(path).method(method)).await;
        assert_eq!(reply.status, status, "{what}");
        assert_secure(&reply, &what);
        if status >= 400 {
            reply.problem();
        }
        if status == 405 {
            assert!(!reply.header("allow").is_empty(), "{what}");
        }
        assert_eq!(reply.header("strict-transport-security"), "");
    }
}

#[actix_web::test]
async fn hsts_is_sent_when_it_is_set() {
    let mut config = unlimited();
    config.server.hsts = true;
    let node = node(config).await;
    assert!(node.get("/nothing", "").await.header("strict-transport-security").starts_with("max-age="));
}

#[actix_web::test]
async fn only_listed_origins_may_read_answers() {
    let mut config = unlimited();
    config.server.allowed_origins.0.push("https://app.example".parse().expect("an origin"));
    let node = node(config).await;
    let preflight = |origin: &'static str| {
        TestRequest::with_uri("/api/v1/rooms")
            .method(Method::OPTIONS)
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"))
            .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, "x-csrf-token, authorization, content-type"))
    };
    let reply = node.call(preflight("https://app.example")).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    for name in ["X-CSRF-Token", "Authorization", "Content-Type"] {
        assert!(reply.header("access-control-allow-headers").contains(name));
    }
    for method in ["POST", "PATCH", "PUT", "DELETE"] {
        assert!(reply.header("access-control-allow-methods").contains(method));
    }
    assert!(reply.header("vary").contains("Origin"));
    for foreign in ["https://evil.example", "http://app.example", "https://app.example.evil", "null"] {
        let reply = node.call(preflight(foreign)).await;
        assert_eq!(reply.header("access-control-allow-origin"), "", "{foreign}");
        assert_eq!(reply.header("access-control-allow-headers"), "", "{foreign}");
    }
    let call = TestRequest::get().uri("/api/v1/me").insert_header((header::ORIGIN, "https://app.example"));
    let reply = node.call(call).await;
    assert_eq!(reply.status, 401, "errors can be read too");
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
}

#[actix_web::test]
async fn calls_and_logins_are_limited_by_address() {
    let mut config = unlimited();
    config.limits.http_per_minute = 5;
    config.limits.logins_per_minute = 2;
    let node = node(config).await;
    let from = |last: u8| SocketAddr::from(([192, 0, 2, last], 9));
    let login = |last: u8| {
        let body = json!({"user": "nobody", "password": "wrong horse"});
        TestRequest::post().uri("/api/v1/login").peer_addr(from(last)).set_json(body)
    };
    for _ in 0..2 {
        assert_eq!(node.call(login(1)).await.status, 401);
    }
    let reply = node.call(login(1)).await;
    assert_eq!(reply.problem(), (429, "rate_limited".into()));
    let seconds: u64 = reply.header("retry-after").parse().expect("whole seconds");
    assert!((1..=30).contains(&seconds));
    assert!(reply.json()["retry_after_ms"].as_u64().expect("milliseconds") <= seconds * 1_000);
    assert_secure(&reply, "429");
    assert_eq!(node.call(login(2)).await.status, 401, "others are not concerned");

    let call = |last: u8| TestRequest::get().uri("/api/v1/rooms").peer_addr(from(last));
    for _ in 0..5 {
        assert_eq!(node.call(call(3)).await.status, 401);
    }
    assert_eq!(node.call(call(3)).await.problem(), (429, "rate_limited".into()));
    let page = TestRequest::get().uri("/").peer_addr(from(3));
    assert_eq!(node.call(page).await.status, 200, "the page is not the API");
}

#[actix_web::test]
async fn bodies_are_bounded_and_bad_ones_named() {
    let node = node(unlimited()).await;
    let post = || TestRequest::post().uri("/api/v1/login");
    let large = Bytes::from(vec![b' '; 64 * 1024 + 1]);
    assert_eq!(node.call(post().set_payload(large.clone())).await.problem(), (413, "bad_request".into()));
    // Without a declared length, as a chunked body has none.
    let mut request = post().set_payload(large).to_request();
    request.headers_mut().remove(header::CONTENT_LENGTH);
    let response = match actix_web::dev::Service::call(&node.service, request).await {
        Ok(response) => response,
        Err(error) => panic!("no answer of ours: {error}"),
    };
    assert_eq!(response.status(), 413);
    for bad in ["{", "nonsense", "{\"user\": \"a\"} x", "\u{0}"] {
        assert_eq!(node.call(post().set_payload(bad)).await.problem(), (400, "bad_request".into()), "{bad}");
    }
}

#[actix_web::test]
async fn the_page_says_what_this_is() {
    let node = node(unlimited()).await;
    let reply = node.get("/", "").await;
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    let page = String::from_utf8(reply.body).expect("text");
    assert!(page.contains("<title>Roundtable</title>"));
    assert!(!page.contains("<script>") && !page.contains("<style"), "its policy forbids what stands in the page");
}
