//! Nobody makes the server talk to private networks: not by an address in any form, not by a name, not by a redirect.

use std::time::Duration;

use roundtable::outgoing::addresses::Reach;
use roundtable::outgoing::{ANSWER_BYTES, Client, Failure};
use serde_json::{Value, json};
use url::Url;

use crate::support::node::Node;
use crate::support::receiver::{Receiver, Reply};
use crate::support::until;

const WITHIN: Duration = Duration::from_secs(5);

async fn post(client: &Client, url: &str) -> Result<(u16, usize), Failure> {
    let url = Url::parse(url).expect("a URL");
    let answered = client.post(&url, b"{}".to_vec(), [], &[], WITHIN).await?;
    Ok((answered.status, answered.body.len()))
}

#[tokio::test]
async fn addresses_in_private_networks_are_refused_in_every_form() {
    let node = Node::with(&[("webhooks.allow_http", "true")]).await;
    let alice = node.api("alice");
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
    ] {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/hook")] {
            let problem = alice.post("rooms/lobby/webhooks", json!({"url": url})).await.problem(400, "bad_request");
            assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("url: ")), "{url}: {problem}");
        }
    }
    let hook = alice.post("rooms/lobby/webhooks", json!({"url": "https://hooks.example.org/"})).await.expect(201);
    let path = format!("rooms/lobby/webhooks/{}", hook["id"].as_str().expect("an id"));
    alice.patch(&path, json!({"url": "http://[::1]/"})).await.problem(400, "bad_request");
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let inside = Receiver::start().await;
    let strict = Client::new(Reach::default()).expect("a client");
    // The system says that it is 127.0.0.1, or ::1.
    let by_name = format!("http://localhost:{}/", inside.port());
    assert_eq!(post(&strict, &by_name).await, Err(Failure::Private));
    assert_eq!(post(&strict, &inside.url()).await, Err(Failure::Private));
    assert_eq!(inside.received().len(), 0);

    let networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let allowed = Client::new(Reach { all: false, networks }).expect("a client");
    assert_eq!(post(&allowed, &by_name).await, Ok((200, 0)), "only what is allowed of a name is tried");
    assert_eq!(post(&allowed, &inside.url()).await, Ok((200, 0)));
    assert_eq!(inside.received().len(), 2);
}

#[tokio::test]
async fn redirects_are_not_followed_and_long_answers_not_read() {
    let (outer, inside) = (Receiver::start().await, Receiver::start().await);
    let client = Client::new(Reach { all: true, networks: Vec::new() }).expect("a client");
    let to = inside.url();
    for status in [301, 302, 303, 307, 308] {
        let to = to.clone();
        outer.answers(move |_| Reply { headers: vec![format!("location: {to}")], ..Reply::status(status) });
        assert_eq!(post(&client, &outer.url()).await, Ok((status, 0)));
    }
    assert_eq!(inside.received().len(), 0);
    outer.answers(|_| Reply { body: "x".repeat(10 * ANSWER_BYTES), ..Reply::status(200) });
    assert_eq!(post(&client, &outer.url()).await, Ok((200, ANSWER_BYTES)));
    outer.answers(|_| Reply::status(200).after(Duration::from_secs(60)));
    let url = Url::parse(&outer.url()).expect("a URL");
    let late =
        client.post(&url, Vec::new().into_iter().chain(*b"{}").collect(), [], &[], Duration::from_millis(50)).await;
    assert_eq!(late.err(), Some(Failure::TooLate));
}

#[tokio::test]
async fn a_hook_that_leads_inside_later_is_not_told() {
    // Made while private networks were allowed; then the operator changes their mind.
    let inside = Receiver::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("sqlite://{}", dir.path().join("rt.db").display());
    let common = [("store.url", &*store), ("webhooks.allow_http", "true"), ("webhooks.attempts", "1")];
    let node = Node::with(&[&common[..], &[("webhooks.allow_private", "true")]].concat()).await;
    let alice = node.api("alice");
    alice.post("rooms", json!({"id": "lobby", "kind": "public"})).await.expect(201);
    let hook = alice.post("rooms/lobby/webhooks", json!({"url": inside.url()})).await.expect(201);
    node.kill();
    drop(node);
    let node = Node::with(&common).await;
    let alice = node.api("alice");
    alice.post("rooms/lobby/messages", json!({"id": "m1", "text": "secret"})).await.expect(201);
    let path = format!("rooms/lobby/webhooks/{}/dead", hook["id"].as_str().expect("an id"));
    let dead: Value = until("it is given up", || async {
        let list = alice.get(&path).await.expect(200);
        list["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&dead["to"], &dead["reason"]), (&json!(1), &json!("the address is in a private network")));
    assert_eq!(inside.received().len(), 0);
}
