//! The web client as browsers are given it: which addresses have the page, in what form files come, how long they may be kept.

use reqwest::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use reqwest::{Client, Method, Response};

use crate::support::node::Node;

struct Browser {
    client: Client,
    origin: String,
}

impl Browser {
    async fn asks(&self, method: Method, path: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.origin));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        request.send().await.expect("an answer")
    }

    async fn gets(&self, path: &str) -> Response {
        self.asks(Method::GET, path, &[]).await
    }
}

fn header(answer: &Response, name: reqwest::header::HeaderName) -> &str {
    answer.headers().get(&name).unwrap_or_else(|| panic!("{name} in {answer:?}")).to_str().expect("text")
}

#[tokio::test]
async fn the_page_is_at_the_addresses_of_the_client_alone() {
    let node = Node::alone().await;
    let browser = Browser { client: Client::new(), origin: node.http() };
    let page = browser.gets("/").await;
    assert_eq!(page.status(), 200);
    assert_eq!(header(&page, CONTENT_TYPE), "text/html; charset=utf-8");
    let policy = header(&page, CONTENT_SECURITY_POLICY).to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let page = page.text().await.expect("text");
    assert!(
        !page.contains("style=") && !page.contains("<style") && !page.contains("<script>"),
        "nothing inline: {page}"
    );

    for path in ["/r/lobby", "/r/lobby/7", "/r/not-there", "/join", "/r/lobby?x=1"] {
        let same = browser.gets(path).await;
        assert_eq!(same.status(), 200, "{path}");
        assert_eq!(same.text().await.expect("text"), page, "{path}");
    }
    for path in [
        "/index.html",
        "/r",
        "/r/",
        "/r/Not%20a%20room",
        "/r/lobby/x",
        "/r/lobby/7/8",
        "/assets/",
        "/assets/app.js",
        "/join/x",
    ] {
        assert_eq!(browser.gets(path).await.status(), 404, "{path}");
    }
    for path in ["/assets/index.html", "/assets/..%2findex.html", "/assets/table.in", "/assets/icon.svg", "/table.in"] {
        assert_eq!(browser.gets(path).await.status(), 404, "{path}");
    }
    let refused = browser.asks(Method::POST, "/r/lobby", &[]).await;
    assert_eq!((refused.status().as_u16(), header(&refused, ALLOW)), (405, "GET, HEAD"));

    // All that the page names is there.
    let named: Vec<&str> = page.split('"').filter(|one| one.starts_with('/')).collect();
    assert!(named.len() >= 4, "{named:?}");
    for path in named {
        let answer = browser.gets(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let (kind, ours) = (header(&answer, CONTENT_TYPE).to_owned(), path.starts_with("/assets/"));
        let kept = if ours { "public, max-age=31536000, immutable" } else { "no-cache" };
        assert_eq!(header(&answer, CACHE_CONTROL), kept, "{path}");
        let expected = [
            (".css", "text/css; charset=utf-8"),
            (".js", "text/javascript; charset=utf-8"),
            (".svg", "image/svg+xml"),
            (".webmanifest", "application/manifest+json"),
        ];
        let expected = expected.iter().find(|(end, _)| path.ends_with(end)).expect("a known ending").1;
        assert_eq!(kind, expected, "{path}");
    }
}

#[tokio::test]
async fn a_file_comes_in_the_smallest_form_that_is_taken_and_only_when_it_is_news() {
    let node = Node::alone().await;
    let browser = Browser { client: Client::new(), origin: node.http() };
    let page = browser.gets("/").await.text().await.expect("text");
    let script = page.split('"').find(|one| one.ends_with(".js")).expect("a script").to_owned();

    let plain = browser.gets(&script).await;
    assert!(plain.headers().get(CONTENT_ENCODING).is_none());
    assert_eq!(header(&plain, VARY), "Accept-Encoding");
    let whole = plain.bytes().await.expect("its bytes").len();
    let mut tags = vec![];
    for (accepted, form) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("br;q=0.1, gzip", Some("br")),
        ("gzip, deflate", Some("gzip")),
        ("br;q=0, gzip", Some("gzip")),
        ("identity", None),
        ("zstd", None),
        ("gzip;q=0", None),
        ("nonsense;;q", None),
    ] {
        let answer = browser.asks(Method::GET, &script, &[(ACCEPT_ENCODING, accepted)]).await;
        assert_eq!(answer.status(), 200, "{accepted}");
        let got = answer.headers().get(CONTENT_ENCODING).map(|form| form.to_str().expect("text").to_owned());
        assert_eq!(got.as_deref(), form, "{accepted}");
        let tag = header(&answer, ETAG).to_owned();
        let head = browser.asks(Method::HEAD, &script, &[(ACCEPT_ENCODING, accepted)]).await;
        assert_eq!((head.status().as_u16(), header(&head, ETAG)), (200, &*tag));
        let again = browser.asks(Method::GET, &script, &[(ACCEPT_ENCODING, accepted), (IF_NONE_MATCH, &tag)]).await;
        assert_eq!((again.status().as_u16(), header(&again, ETAG)), (304, &*tag), "{accepted}");
        let weak = format!("\"other\", W/{tag}");
        let again = browser.asks(Method::GET, &script, &[(ACCEPT_ENCODING, accepted), (IF_NONE_MATCH, &weak)]).await;
        assert_eq!(again.status(), 304, "{accepted}");
        let news =
            browser.asks(Method::GET, &script, &[(ACCEPT_ENCODING, accepted), (IF_NONE_MATCH, "\"other\"")]).await;
        assert_eq!(news.status(), 200, "{accepted}");
        let bytes = answer.bytes().await.expect("its bytes");
        assert_eq!(bytes.len() == whole, form.is_none(), "{accepted}");
        if form == Some("gzip") {
            assert_eq!(bytes[..2], [0x1f, 0x8b]);
        }
        tags.push((form, tag));
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each form has its own tag: {tags:?}");
}
