//! Traces over OTLP: their shape through one node and across two, what they must not hold, and a collector that is away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::person::Person;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::{tokens, until, within};

const TEXT: &str = "plugh, and what else is nobody's business";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans(requests: &[Received]) -> Vec<Span> {
    let decoded = |request: &Received| ExportTraceServiceRequest::decode(&*request.raw).expect("protobuf of OTLP");
    let resources = requests.iter().flat_map(|request| decoded(request).resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(json!(text)),
        Any::IntValue(n) => Some(json!(n)),
        other => panic!("{key}: {other:?}"),
    }
}

fn says(span: &Span, key: &str) -> Value {
    attribute(&span.attributes, key).unwrap_or_default()
}

/// Waits for the trace whose span `root` is about the entry `seq` (or, without, any), complete with the spans `names`.
async fn trace_of(receiver: &Receiver, root: &str, seq: u64, names: &[&str]) -> HashMap<String, Span> {
    receiver
        .until(&format!("a trace with {names:?}"), |requests| {
            let all = spans(requests);
            let root = all.iter().find(|span| span.name == root && says(span, "seq") == seq)?;
            let of_trace: HashMap<_, _> = all
                .iter()
                .filter(|span| span.trace_id == root.trace_id)
                .map(|span| (span.name.clone(), span.clone()))
                .collect();
            names.iter().all(|name| of_trace.contains_key(*name)).then_some(of_trace)
        })
        .await
}

/// That each is the parent of the next, and lies within it in time where both are of one process.
fn is_chain(trace: &HashMap<String, Span>, names: &[&str]) {
    for pair in names.windows(2) {
        let (parent, child) = (&trace[pair[0]], &trace[pair[1]]);
        assert_eq!(hex(&child.parent_span_id), hex(&parent.span_id), "{pair:?}");
        assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{pair:?}");
        assert!(child.end_time_unix_nano >= child.start_time_unix_nano, "{pair:?}");
    }
}

fn all_of<'a>(url: &'a str, sample: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("traces.otlp_url", url), ("traces.sample", sample), ("traces.headers", "authorization=Bearer xyzzy")]
}

#[tokio::test]
async fn a_message_is_followed_from_its_session_into_the_store() {
    let receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    let node = Node::with(&all_of(&url, "1.0")).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let seq = alice.sends("lobby", "m1", TEXT).await;
    let way = ["session.send", "room.append", "persistence.batch"];
    let trace = trace_of(&receiver, way[0], seq, &way).await;
    is_chain(&trace, &way);
    assert!(trace[way[0]].parent_span_id.is_empty());
    let id = node.id().await;
    for span in trace.values() {
        assert_eq!(says(span, "node.id"), *id, "{span:?}");
    }
    assert_eq!((says(&trace[way[1]], "room.id"), says(&trace[way[1]], "seq")), (json!("lobby"), json!(seq)));
    assert_eq!((says(&trace[way[2]], "rooms"), says(&trace[way[2]], "entries")), (json!(1), json!(1)));
    // What is refused is traced too.
    alice.refused(json!({"type": "send", "room": "nowhere", "id": "m2", "text": TEXT}), "not_found").await;
    receiver.until("the refusal", |all| spans(all).into_iter().find(|span| says(span, "refused") == "not_found")).await;

    let requests = receiver.received();
    assert_eq!(requests[0].headers["authorization"], "Bearer xyzzy");
    let resource = ExportTraceServiceRequest::decode(&*requests[0].raw).expect("protobuf of OTLP").resource_spans;
    let resource = resource[0].resource.clone().expect("given");
    assert_eq!(attribute(&resource.attributes, "service.name"), Some(json!("roundtable")));
    for request in &requests {
        let raw = String::from_utf8_lossy(&request.raw);
        for hidden in ["plugh", "alice", "127.0.0.1", "m1", &*tokens::of("alice")] {
            assert!(!raw.contains(hidden), "{hidden} in {raw}");
        }
    }
    node.terminate();
    assert!(node.exit().await.success());
}

#[tokio::test]
async fn a_call_over_http_goes_on_with_the_trace_of_its_caller() {
    let receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    // Nothing is traced but what the caller wants.
    let node = Node::with(&all_of(&url, "0.0")).await;
    Person::at(&node, "alice").await.opens(&node, "lobby").await;
    let post = |id: &'static str, flags: &'static str| {
        reqwest::Client::new()
            .post(format!("{}/api/v1/rooms/lobby/messages", node.http()))
            .bearer_auth(tokens::of("alice"))
            .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
            .json(&json!({"id": id, "text": TEXT}))
            .send()
    };
    for (id, flags) in [("m1", "00"), ("m2", "01")] {
        assert_eq!(post(id, flags).await.expect("answered").status(), 201);
    }
    let way = ["http.request", "room.append", "persistence.batch"];
    let trace = trace_of(&receiver, "room.append", 2, &way).await;
    is_chain(&trace, &way);
    let root = &trace[way[0]];
    assert_eq!((hex(&root.trace_id), hex(&root.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!(says(root, "http.request.method"), "POST");
    assert_eq!(says(root, "http.route"), "/api/v1/rooms/{room}/messages");
    assert_eq!(says(root, "http.response.status_code"), 201);
    // Log lines of a call bear its trace and its id.
    let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
    database.execute_batch("DROP TABLE pins").expect("dropped");
    let failed = reqwest::Client::new()
        .get(format!("{}/api/v1/rooms/lobby/pins", node.http()))
        .bearer_auth(tokens::of("alice"))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("x-request-id", "call-1")
        .send();
    assert_eq!(failed.await.expect("answered").status(), 500);
    let line = until("the line", || async {
        node.log().lines().find(|line| line.contains("an HTTP call failed")).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!((&line["span"]["request.id"], &line["span"]["trace_id"]), (&json!("call-1"), &json!(TRACE)), "{line}");
    node.terminate();
    assert!(node.exit().await.success());
    // And nothing of the first, whose caller did not want it.
    assert!(spans(&receiver.received()).iter().all(|span| hex(&span.trace_id) == TRACE && says(span, "seq") != 1));
}

#[tokio::test]
async fn a_message_is_followed_to_the_node_that_owns_the_room() {
    let receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    let cluster = Cluster::start_with(2, &all_of(&url, "1")).await;
    let room = cluster.room_on(1, "alice").await;
    let mut bob = Person::at(&cluster.nodes[0], "bob").await;
    bob.joins(&room).await;
    bob.does(json!({"type": "subscribe", "room": room})).await;
    let seq = bob.sends(&room, "m1", TEXT).await;
    let way = ["session.send", "bus.forward", "room.append", "persistence.batch"];
    let trace = trace_of(&receiver, way[0], seq, &way).await;
    is_chain(&trace, &way);
    let (here, there) = (cluster.nodes[0].id().await, cluster.nodes[1].id().await);
    for (name, node) in way.into_iter().zip([&here, &here, &there, &there]) {
        assert_eq!(says(&trace[name], "node.id"), **node, "{name}");
    }
    assert_eq!(says(&trace["bus.forward"], "owner.id"), *there);
    for request in receiver.received() {
        let raw = String::from_utf8_lossy(&request.raw).into_owned();
        assert!(!raw.contains("plugh") && !raw.contains("bob"), "{raw}");
    }
}

#[tokio::test]
async fn a_log_line_of_a_session_says_which_and_which_room() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", TEXT).await;
    let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
    database.execute_batch("DROP TABLE reactions").expect("dropped");
    alice.refused(json!({"type": "history", "room": "lobby"}), "internal").await;
    let line = until("the line", || async {
        node.log().lines().find(|line| line.contains("a page of history can't be read")).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(line["room.id"], "lobby", "{line}");
    let session = line["session.id"].as_str().expect("an id");
    assert_eq!(session.split('-').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{line}");
    assert_eq!(line["fault.id"].as_str().map(str::len), Some(16), "{line}");
}

#[tokio::test]
async fn without_an_address_or_a_sample_nothing_is_sent() {
    let receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    for settings in [all_of(&url, "0.0"), all_of("", "1.0")] {
        let node = Node::with(&settings).await;
        let mut alice = Person::at(&node, "alice").await;
        alice.opens(&node, "lobby").await;
        alice.sends("lobby", "m1", TEXT).await;
        node.terminate();
        // What waits is sent before the process ends.
        assert!(node.exit().await.success());
        assert_eq!(receiver.received().len(), 0);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_costs_its_spans_and_nothing_else() {
    let receiver = Receiver::start().await;
    receiver.answers(|_| Reply::status(200).after(Duration::from_secs(600)));
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    let node = Node::with(&all_of(&url, "1.0")).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m0", TEXT).await;
    receiver.until_count(1).await;
    // The collector holds the first spans; these fill what may wait, and more.
    let mut slowest = Duration::ZERO;
    for n in 1..=1_500 {
        let began = Instant::now();
        alice.sends("lobby", &format!("m{n}"), TEXT).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    until("dropped spans are counted", || async {
        (node.metric("roundtable_traces_dropped_total").await > 0.0).then_some(())
    })
    .await;
    let began = Instant::now();
    node.terminate();
    assert!(within("the end", node.exit()).await.success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once_and_counted() {
    let receiver = Receiver::start().await;
    receiver.answers(|_| Reply::status(503));
    let url = format!("http://127.0.0.1:{}/v1/traces", receiver.port());
    let node = Node::with(&all_of(&url, "1.0")).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    for n in 1..=2 {
        let before = receiver.received().len();
        alice.sends("lobby", &format!("m{n}"), TEXT).await;
        receiver.until_count(before + 1).await;
    }
    receiver.answers(|_| Reply::status(200));
    alice.sends("lobby", "m3", TEXT).await;
    until("it is back", || async { node.log().contains("traces.collector.back").then_some(()) }).await;
    assert_eq!(node.log().matches("traces.collector.away").count(), 1);
    assert!(node.metric("roundtable_traces_dropped_total").await >= 3.0);
    assert!(node.metric("roundtable_traces_sent_total").await >= 1.0);
}
