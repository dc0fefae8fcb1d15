//! Login by an OpenID Connect provider (docs/protocol.md, "Logging in elsewhere"), against one that the tests run.

use std::collections::HashMap;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::node::Node;
use crate::support::provider::{CLIENT, Provider, SECRET};
use crate::support::{ports, within};

/// A node that knows a provider, and the provider.
struct Setting {
    node: Node,
    provider: Provider,
}

impl Setting {
    async fn new(more: &[(&str, &str)]) -> Self {
        // The node's port is in the address that the provider knows, so it is chosen first.
        let port = ports::free();
        let back = format!("http://127.0.0.1:{port}/api/v1/oidc/callback");
        let provider = Provider::start(&back);
        let mut settings = vec![
            ("auth.oidc.issuer", &*provider.issuer),
            ("auth.oidc.client_id", CLIENT),
            ("auth.oidc.client_secret", SECRET),
            ("auth.oidc.redirect_url", &back),
            ("auth.oidc.label", "The test's"),
        ];
        settings.extend(more);
        let node = Node::on_port(port, &settings).await;
        Self { node, provider }
    }

    fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Browser { base: self.node.http(), client: client.expect("a client"), cookies: HashMap::new() }
    }

    /// From the login link to the answer of the callback.
    async fn logs_in(&self) -> (Browser, Page) {
        let mut browser = self.browser();
        let back = browser.until_back().await;
        let page = browser.goes(&back).await;
        (browser, page)
    }

    /// The id of whoever logs in, which must work.
    async fn user(&self, person: Value) -> String {
        self.provider.person(person);
        let (browser, page) = self.logs_in().await;
        assert_eq!((page.status, page.header("location")), (303, "/"), "{page:?}");
        browser.me().await["user"]["id"].as_str().expect("an id").to_owned()
    }
}

/// Keeps cookies for the node alone and follows nothing by itself.
struct Browser {
    base: String,
    client: reqwest::Client,
    cookies: HashMap<String, String>,
}

#[derive(Debug)]
struct Page {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The code of a problem.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        (self.status, body["code"].as_str().expect("a code").to_owned())
    }
}

impl Browser {
    async fn goes(&mut self, url: &str) -> Page {
        self.goes_with(url, "*/*").await
    }

    async fn goes_with(&mut self, url: &str, accept: &str) -> Page {
        let url = if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() };
        let mut request = self.client.get(&url).header("accept", accept);
        if url.starts_with(&self.base) && !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = within("an answer", request.send()).await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text");
            let (name, rest) = cookie.split_once('=').expect("a cookie");
            let value = rest.split(';').next().unwrap_or_default();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { status, headers, body: answer.text().await.expect("text") }
    }

    /// Through the provider, to the address that it sends the browser back to.
    async fn until_back(&mut self) -> String {
        let there = self.goes("/api/v1/oidc/login").await;
        assert_eq!(there.status, 302, "{there:?}");
        let back = self.goes(there.header("location")).await;
        assert_eq!(back.status, 302, "{back:?}");
        back.header("location").to_owned()
    }

    async fn me(&self) -> Value {
        let cookie = format!("roundtable_session={}", self.cookies["roundtable_session"]);
        Api::with(&self.base, None).call(reqwest::Method::GET, "me", None, &[("Cookie", &cookie)]).await.expect(200)
    }
}

#[tokio::test]
async fn somebody_logs_in_and_is_the_same_user_the_next_time() {
    let setting = Setting::new(&[]).await;
    let ways = Api::with(&setting.node.http(), None).get("auth").await.expect(200);
    assert_eq!(ways, json!({"password": true, "oidc": {"label": "The test's", "login": "/api/v1/oidc/login"}}));
    setting.provider.person(json!({"sub": "s-1", "preferred_username": "carol", "name": "Carol C."}));
    let mut browser = setting.browser();
    let there = browser.goes("/api/v1/oidc/login").await;
    let cookie = there.header("set-cookie").to_lowercase();
    for part in ["roundtable_oidc=", "httponly", "samesite=lax", "path=/api/v1/oidc", "max-age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let url = url::Url::parse(there.header("location")).expect("a URL");
    for (name, value) in url.query_pairs() {
        let secret = ["state", "nonce", "code_challenge"].contains(&&*name);
        assert!(!secret || (value.len() == 43 && !cookie.contains(&value.to_lowercase())), "{name} is in the cookie");
    }
    let (browser, page) = setting.logs_in().await;
    assert_eq!((page.status, page.header("location")), (303, "/"), "{page:?}");
    let session = page.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().expect("text").to_lowercase());
    let session: Vec<String> = session.collect();
    assert!(session.iter().any(|cookie| cookie.starts_with("roundtable_session=rts_") && cookie.contains("httponly")));
    assert!(!browser.cookies.contains_key("roundtable_oidc"), "the login under way is over");
    let me = browser.me().await;
    assert_eq!((&me["user"]["id"], &me["user"]["name"]), (&json!("carol"), &json!("Carol C.")));
    // Whatever the provider calls them now.
    let later = setting.user(json!({"sub": "s-1", "preferred_username": "caroline", "name": "Caroline"})).await;
    assert_eq!(later, "carol");
    // Nothing of it is in the log.
    for hidden in ["rts_", SECRET, "code 1", "s-1", "Carol"] {
        assert!(!setting.node.log().contains(hidden), "{hidden} is in the log");
    }
}

#[tokio::test]
async fn a_login_is_finished_only_by_the_browser_that_began_it() {
    let setting = Setting::new(&[]).await;
    setting.provider.person(json!({"sub": "s-1", "preferred_username": "carol"}));
    let (mut mallory, mut victim) = (setting.browser(), setting.browser());
    let back = mallory.until_back().await;
    // Somebody is made to follow the link: without a login under way, and with another.
    assert_eq!(victim.goes(&back).await.problem(), (403, "forbidden".to_owned()));
    let own = victim.until_back().await;
    assert_eq!(victim.goes(&back).await.problem(), (403, "forbidden".to_owned()));
    assert!(!victim.cookies.contains_key("roundtable_session"));
    // That ended the victim's own login, which its cookie was for.
    assert_eq!(victim.goes(&own).await.problem(), (403, "forbidden".to_owned()));
    let state = url::Url::parse(&back)
        .expect("a URL")
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("one")
        .1
        .into_owned();
    for wrong in [String::new(), state.to_lowercase(), format!("{state}x"), "x".repeat(43)] {
        let mut other = setting.browser();
        other.cookies = mallory.cookies.clone();
        let page = other.goes(&format!("/api/v1/oidc/callback?code=x&state={wrong}")).await;
        assert_eq!(page.problem(), (403, "forbidden".to_owned()), "{wrong}");
    }
    for wrong in [format!("state={}", "x".repeat(201)), format!("code={}&state={state}", "x".repeat(4_001))] {
        let page = setting.browser().goes(&format!("/api/v1/oidc/callback?{wrong}")).await;
        assert_eq!(page.problem(), (400, "bad_request".to_owned()), "{wrong}");
    }
    // Only a person is shown a page, and nothing of what the request said is on it.
    let probe = "/api/v1/oidc/callback?code=%3Cscript%3E&state=%3Cscript%3E&error=%3Cscript%3E";
    let page = victim.goes_with(probe, "text/html,*/*").await;
    assert_eq!((page.status, page.header("content-type")), (403, "text/html; charset=utf-8"));
    assert!(page.body.contains("begin again") && !page.body.contains("script"), "{}", page.body);
    assert!(!page.header("content-security-policy").contains("unsafe-inline"));
    // The one who began it may finish it.
    assert_eq!(mallory.goes(&back).await.status, 303);
}

#[tokio::test]
async fn a_code_counts_once() {
    let setting = Setting::new(&[]).await;
    setting.provider.person(json!({"sub": "s-1", "preferred_username": "carol"}));
    let mut browser = setting.browser();
    let back = browser.until_back().await;
    let cookies = browser.cookies.clone();
    assert_eq!(browser.goes(&back).await.status, 303);
    assert_eq!(browser.goes(&back).await.problem(), (403, "forbidden".to_owned()), "its cookie is gone");
    browser.cookies = cookies;
    assert_eq!(browser.goes(&back).await.problem(), (401, "unauthenticated".to_owned()), "kept cookies don't help");
}

#[tokio::test]
async fn a_token_that_does_not_hold_lets_nobody_in() {
    let setting = Setting::new(&[]).await;
    setting.provider.person(json!({"sub": "s-1", "preferred_username": "carol"}));
    let now = crate::support::tokens::now_s();
    let twists: Vec<(&str, Value)> = vec![
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("exp", json!(now - 1)),
        ("aud", json!("somebody-else")),
        ("aud", json!([CLIENT, "somebody-else"])),
        ("iss", json!("http://127.0.0.1:1")),
    ];
    for (claim, value) in twists {
        let what = format!("{claim}: {value}");
        setting.provider.twists(move |claims| {
            if value.is_null() {
                claims.as_object_mut().expect("an object").remove(claim);
            } else {
                claims[claim] = value.clone();
            }
        });
        let (browser, page) = setting.logs_in().await;
        assert_eq!(page.problem(), (401, "unauthenticated".to_owned()), "{what}");
        assert!(!browser.cookies.contains_key("roundtable_session"), "{what}");
    }
    setting.provider.twists_nothing();
    assert_eq!(setting.logs_in().await.1.status, 303);
}

#[tokio::test]
async fn keys_change_and_strangers_keys_do_not_count() {
    let setting = Setting::new(&[]).await;
    assert_eq!(setting.user(json!({"sub": "s-1", "preferred_username": "carol"})).await, "carol");
    let before = setting.provider.key_fetches();
    // A key that the provider does not show is nobody's.
    setting.provider.rotates(false);
    for _ in 0..5 {
        assert_eq!(setting.logs_in().await.1.problem(), (401, "unauthenticated".to_owned()));
    }
    assert!(setting.provider.key_fetches() - before <= 2, "a stranger's tokens make no storm of questions");
    // A new one that it shows is found, once the last look is a while ago.
    setting.provider.rotates(true);
    crate::support::until("the new key is found", || async { (setting.logs_in().await.1.status == 303).then_some(()) })
        .await;
    setting.provider.signs_as_at_first();
    assert_eq!(setting.logs_in().await.1.status, 303, "the old one is good while it is shown");
}

#[tokio::test]
async fn an_id_belongs_to_who_had_it_first() {
    let setting = Setting::new(&[]).await;
    let api = Api::with(&setting.node.http(), None);
    api.post("register", json!({"user": "dave", "password": "correct horse"})).await.expect(201);
    setting.node.api("erin").get("me").await.expect(200);
    for taken in ["dave", "erin"] {
        setting.provider.person(json!({"sub": format!("s-{taken}"), "preferred_username": taken}));
        let (browser, page) = setting.logs_in().await;
        assert_eq!(page.problem(), (403, "forbidden".to_owned()), "{taken}");
        assert!(!browser.cookies.contains_key("roundtable_session"));
    }
    assert_eq!(setting.user(json!({"sub": "s-1", "preferred_username": "carol"})).await, "carol");
    api.post("register", json!({"user": "carol", "password": "correct horse"})).await.problem(409, "conflict");
    api.post("login", json!({"user": "carol", "password": "correct horse"})).await.problem(401, "unauthenticated");
    setting.node.api("carol").get("me").await.problem(401, "unauthenticated");
    // Another person of the provider who took over the name.
    setting.provider.person(json!({"sub": "s-2", "preferred_username": "carol"}));
    assert_eq!(setting.logs_in().await.1.problem(), (403, "forbidden".to_owned()));
    // A name that is no id here.
    setting.provider.person(json!({"sub": "s-3", "preferred_username": "carol@example.org"}));
    let page = setting.logs_in().await.1;
    assert_eq!(page.problem(), (403, "forbidden".to_owned()));
    assert!(page.body.contains("preferred_username") && !page.body.contains("carol@"), "{}", page.body);
}

#[tokio::test]
async fn the_id_may_come_from_a_verified_address() {
    let setting = Setting::new(&[("auth.oidc.user_claim", "email"), ("auth.oidc.name_claim", "nickname")]).await;
    let person = |verified: bool| json!({"sub": "s-1", "email": "carol.c@example.org", "email_verified": verified, "nickname": "C"});
    setting.provider.person(person(false));
    assert_eq!(setting.logs_in().await.1.problem(), (403, "forbidden".to_owned()));
    assert_eq!(setting.user(person(true)).await, "carol.c");
}

#[tokio::test]
async fn a_provider_that_is_away_is_said_and_comes_back() {
    let setting = Setting::new(&[]).await;
    setting.provider.person(json!({"sub": "s-1", "preferred_username": "carol"}));
    setting.provider.is_away(true);
    let page = setting.browser().goes("/api/v1/oidc/login").await;
    assert_eq!(page.problem(), (503, "unavailable".to_owned()));
    assert!(page.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0));
    setting.provider.is_away(false);
    let mut browser = setting.browser();
    crate::support::until("the provider is asked again", || async {
        (setting.browser().goes("/api/v1/oidc/login").await.status == 302).then_some(())
    })
    .await;
    // Away between there and back: the same link works once it is there again.
    let back = browser.until_back().await;
    let cookies = browser.cookies.clone();
    setting.provider.is_away(true);
    assert_eq!(browser.goes(&back).await.problem(), (503, "unavailable".to_owned()));
    setting.provider.is_away(false);
    browser.cookies = cookies;
    assert_eq!(browser.goes(&back).await.status, 303);
    // A refusal of the provider's own.
    let mut other = setting.browser();
    let back = other.until_back().await;
    let refused = back.replace("code=", "error=access_denied&x=");
    assert_eq!(other.goes(&refused).await.problem(), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn without_a_provider_there_is_nothing_to_log_in_at() {
    let node = Node::alone().await;
    let api = Api::with(&node.http(), None);
    assert_eq!(api.get("auth").await.expect(200), json!({"password": true, "oidc": null}));
    api.get("oidc/login").await.problem(404, "not_found");
    api.get("oidc/callback?code=x&state=y").await.problem(404, "not_found");
    for (settings, parts) in [
        (vec![("auth.oidc.issuer", "http://login.example")], ["auth.oidc.issuer", "https://"]),
        (vec![("auth.oidc.issuer", "https://login.example")], ["auth.oidc.client_id", "issuer"]),
        (
            vec![("auth.oidc.issuer", "https://login.example"), ("auth.oidc.client_id", "x")],
            ["auth.oidc.client_secret", "client_secret_file"],
        ),
        (
            vec![
                ("auth.oidc.issuer", "https://login.example"),
                ("auth.oidc.client_id", "x"),
                ("auth.oidc.client_secret", "hidden"),
            ],
            ["auth.oidc.redirect_url", "server.public_url"],
        ),
        (vec![("auth.oidc.user_claim", "upn")], ["auth.oidc.user_claim", "preferred_username"]),
    ] {
        let output = crate::support::node::command(&settings).arg("check-config").output().expect("it runs");
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.lines().count() == 1 && parts.iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains("hidden"), "{line}");
    }
}
