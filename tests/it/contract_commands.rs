//! `roundtable health` and `roundtable smoke`: what supervisors, charts and operators ask of a running node.

use std::process::Output;

use crate::support::node::{Node, PROGRAM};
use crate::support::{until, within};

/// Runs the program to its end with nothing but these variables.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(dir.path()).kill_on_drop(true);
    within("the program ends", command.output()).await.expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn health(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let address = node.admin().replace("http://", "");
    let output = run(arguments, &[("ROUNDTABLE__ADMIN__BIND", &address)]).await;
    (output.status.code(), text(&output.stderr))
}

/// How many people and rooms are there and not erased.
fn left(node: &Node) -> u32 {
    let store = rusqlite::Connection::open(node.path("data/roundtable.db")).expect("the node's store");
    let count = "SELECT (SELECT count(*) FROM rooms WHERE deleted = 0) + (SELECT count(*) FROM users WHERE erased = 0)";
    store.query_row(count, [], |row| row.get(0)).expect("a count")
}

#[tokio::test]
async fn health_is_the_status() {
    let node = Node::alone().await;
    assert_eq!(health(&node, &["health"]).await, (Some(0), String::new()));
    assert_eq!(health(&node, &["health", "--live"]).await, (Some(0), String::new()));

    node.admin_api().post("/drain", serde_json::json!({})).await;
    let not = until("it is told that the node drains", || async {
        let answer = health(&node, &["health"]).await;
        (answer.0 != Some(0)).then_some(answer)
    })
    .await;
    assert_eq!(not.0, Some(1));
    assert!(not.1.contains("draining") && not.1.lines().count() == 1, "{}", not.1);
    assert_eq!(health(&node, &["health", "--live"]).await.0, Some(0));

    node.kill();
    let (status, line) = health(&node, &["health", "--live"]).await;
    assert!(status == Some(1) && line.contains("does not answer"), "{line}");
}

#[tokio::test]
async fn smoke_walks_the_whole_way_and_leaves_nothing() {
    let node = Node::alone().await;
    let output = run(&["smoke", &node.http()], &[]).await;
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), wrong.as_str()), (Some(0), ""), "{said}");
    for step in ["registered", "made a room", "joined", "read it live", "read it from history", "erased"] {
        assert!(said.contains(step), "{step} is missing in {said}");
    }
    assert_eq!(node.metric("roundtable_entries_committed_total").await, 1.0);
    assert_eq!(left(&node), 0);
}

#[tokio::test]
async fn smoke_says_what_failed_and_cleans_up_all_the_same() {
    // Nothing can be sent: who is asked before is away.
    let node = Node::with(&[
        ("hooks.before_send.url", "http://127.0.0.1:9/"),
        ("hooks.before_send.when_away", "refuse"),
        ("hooks.before_send.deadline_ms", "100"),
    ])
    .await;
    let output = run(&["smoke", &node.http()], &[]).await;
    let wrong = text(&output.stderr);
    assert_eq!((output.status.code(), wrong.lines().count()), (Some(1), 1), "{wrong}");
    assert!(wrong.contains("sent or events"), "{wrong}");
    assert_eq!(left(&node), 0);

    for (url, part) in
        [("ws://127.0.0.1:1", "https://HOST"), ("http://127.0.0.1:9", "register"), (&node.admin(), "404")]
    {
        let output = run(&["smoke", url], &[]).await;
        let wrong = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && wrong.contains(part) && wrong.lines().count() == 1,
            "{url}: {wrong}"
        );
    }
}
