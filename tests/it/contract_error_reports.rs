//! Errors reported to Sentry: that they arrive, what they hold, what they must not, and how many there are.

use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::person::Person;
use crate::support::receiver::{Received, Receiver};
use crate::support::{tokens, until};

const TEXT: &str = "plugh, and what else is nobody's business";

/// The event in an envelope: its third line, behind the envelope's head and the item's.
fn event(request: &Received) -> Value {
    let lines: Vec<Value> = request
        .raw
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("lines of JSON"))
        .collect();
    assert_eq!((lines.len(), &lines[1]["type"]), (3, &json!("event")), "{lines:?}");
    lines[2].clone()
}

/// A node that reports to `receiver`, with a room whose pins it can't read, and what it says of that.
async fn broken(receiver: &Receiver, per_minute: &str) -> (Node, String) {
    let dsn = format!("http://key@127.0.0.1:{}/42", receiver.port());
    let settings = [("sentry.dsn", &*dsn), ("sentry.environment", "staging"), ("sentry.events_per_minute", per_minute)];
    let node = Node::with(&settings).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", TEXT).await;
    let database = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the file is there");
    database.execute_batch("DROP TABLE pins").expect("dropped");
    let refused = node.api("alice").get("rooms/lobby/pins").await;
    let request = refused.header("x-request-id").expect("an id").to_owned();
    let problem = refused.problem(500, "internal");
    assert!(!problem.to_string().contains("pins"), "{problem}");
    (node, request)
}

#[tokio::test]
async fn a_fault_is_reported_without_what_people_said() {
    let receiver = Receiver::start().await;
    let (_node, request) = broken(&receiver, "60").await;
    let reports = receiver.until_count(1).await;
    let report = event(&reports[0]);
    assert!(reports[0].headers["x-sentry-auth"].contains("sentry_key=key"), "{:?}", reports[0].headers);
    assert_eq!((&report["environment"], &report["message"]), (&json!("staging"), &json!("an HTTP call failed")));
    assert_eq!(report["release"], format!("roundtable@{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(report["extra"]["request.id"], *request);
    assert_eq!(report["extra"]["fault.id"].as_str().map(str::len), Some(12), "{report}");
    assert!(report["extra"]["error"].as_str().is_some_and(|error| error.contains("no such table")), "{report}");
    // No more than what is listed, and nothing of anybody.
    for (field, _) in report["extra"].as_object().expect("fields") {
        assert!(["request.id", "fault.id", "error"].contains(&&**field), "{field}");
    }
    let raw = String::from_utf8_lossy(&reports[0].raw).into_owned();
    for hidden in ["plugh", "alice", "127.0.0.1", &*tokens::of("alice")] {
        assert!(!raw.contains(hidden), "{raw}");
    }
    for absent in ["user", "server_name", "request", "breadcrumbs", "modules"] {
        assert!(
            report.get(absent).is_none_or(|part| part.as_object().is_some_and(serde_json::Map::is_empty)),
            "{report}"
        );
    }
}

#[tokio::test]
async fn a_storm_of_errors_is_cut() {
    let receiver = Receiver::start().await;
    let (node, _) = broken(&receiver, "1").await;
    for _ in 0..20 {
        node.api("alice").get("rooms/lobby/pins").await.problem(500, "internal");
    }
    until("all are in the log", || async { (node.log().matches("an HTTP call failed").count() == 21).then_some(()) })
        .await;
    // What waits is sent before the process ends.
    node.terminate();
    assert!(node.exit().await.success());
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn nobody_at_the_other_end_costs_nothing() {
    let receiver = Receiver::start().await;
    receiver.answers(|_| crate::support::receiver::Reply::status(500).after(std::time::Duration::from_secs(600)));
    let (node, _) = broken(&receiver, "1000").await;
    for _ in 0..100 {
        node.api("alice").get("rooms/lobby/pins").await.problem(500, "internal");
    }
    Person::at(&node, "bob").await.opens(&node, "den").await;
    node.terminate();
    assert!(node.exit().await.success());
}
