//! Against a server whose certificate is of an authority of one's own.

use std::time::Duration;

use roundtable_client::http::Method;
use roundtable_client::{Client, Code, Options, Phase, Subscribe, Transport, Transports};
use serde_json::json;

use super::{ENCODINGS, Reader, online, options, reaches};
use crate::support::certificates::Authority;
use crate::support::node::Node;
use crate::support::within;

async fn node(authority: &Authority) -> (Node, String) {
    let (cert, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let node = Node::with(&[("server.tls.cert_file", &*cert), ("server.tls.key_file", &*key)]).await;
    let address = format!("https://localhost:{}", node.http_port());
    (node, address)
}

fn trusting(address: &str, authority: &Authority) -> Options {
    Options { root_certificates: authority.pem().as_bytes().to_vec(), ..options(address, "alice") }
}

#[actix_rt::test]
async fn sockets_streams_and_calls_are_over_tls() {
    let authority = Authority::new();
    let (_node, address) = node(&authority).await;
    let ways = ENCODINGS.map(|encoding| (encoding, Transports::WebSocket)).into_iter();
    for (at, (encoding, transport)) in ways.chain([(ENCODINGS[0], Transports::Stream)]).enumerate() {
        let alice = online(Options { encoding, transport, ..trusting(&address, &authority) }).await;
        let id = format!("room-{at}");
        let made = alice.call(Method::POST, "rooms", Some(json!({"id": id, "kind": "public"}))).await.expect("made");
        assert_eq!(made["id"], json!(id));
        let room = alice.room(&id);
        let reader = Reader::of(&room, 0);
        room.subscribe(Subscribe::from_now()).await.expect("subscribed");
        for n in 1..=50 {
            let sent = within("the commit", room.send(format!("{n} {}", "x".repeat(3_000)))).await.expect("sent");
            assert_eq!(sent.seq, n);
        }
        reader.sees(50).await;
        reader.is_right();
        let way = alice.state().borrow().transport;
        assert_eq!(way, Some(if transport == Transports::Stream { Transport::Stream } else { Transport::WebSocket }));
        alice.close().await;
    }
}

#[actix_rt::test]
async fn whom_the_client_does_not_trust_learns_no_token() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (node, address) = node(&theirs).await;
    for transport in [Transports::WebSocket, Transports::Stream] {
        let alice = Client::new(Options { transport, ..trusting(&address, &ours) }).expect("options");
        let connecting = tokio::time::timeout(Duration::from_secs(3), alice.connect()).await;
        assert!(connecting.is_err(), "{connecting:?}");
        let state = reaches(&alice, "it waits for the next try", |state| state.phase == Phase::Waiting).await;
        assert!(format!("{state:?}").contains("ertificate"), "{state:?}");
        let refused = alice.call(Method::GET, "me", None).await.expect_err("not trusted");
        assert_eq!(refused.code, Code::Network);
        assert!(refused.to_string().contains("ertificate"), "{refused}");
        alice.close().await;
    }
    assert_eq!(node.metric("roundtable_sessions").await, 0.0);
    // And what is no certificate is told at once.
    let wrong = Options { root_certificates: b"none".to_vec(), ..options(&*address, "alice") };
    assert_eq!(Client::new(wrong).map(|_| ()).expect_err("no certificate").code, Code::BadRequest);
}
