//! The admin listener, settings, start and drain of one node (docs/operations.md).

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::node::{self, Node};
use crate::support::person::{Person, makes};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::{ports, until, within};

/// Runs the program to its end; status, standard output and standard error.
async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    command.current_dir(dir.path()).stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = within("the program ends", command.output()).await.expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_admin_listener_answers() {
    let node = Node::alone().await;
    let admin = node.admin_api();
    assert_eq!(admin.get("/livez").await.status, 200);
    assert_eq!(admin.get("/readyz").await.status, 200);
    let health = admin.get("/health").await.expect(200);
    assert_eq!(health["checks"]["store"]["status"], health["status"], "{health}");
    assert!(health["checks"]["store"]["latency_ms"].is_number(), "{health}");
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", "x").await;
    let cluster = node.cluster().await;
    assert_eq!(cluster["shards"], 1024);
    assert_eq!(cluster["nodes"].as_array().map(Vec::len), Some(1), "{cluster}");
    assert_eq!(cluster["nodes"][0]["id"], cluster["node"]);
    assert_eq!((&cluster["nodes"][0]["state"], &cluster["nodes"][0]["shards"]), (&json!("ready"), &json!(1024)));
    until("the node counts its session and its room", || async {
        let node = node.cluster().await["nodes"][0].clone();
        (node["sessions"] == 1 && node["rooms"] == 1).then_some(())
    })
    .await;
    let room = admin.get("/cluster?room=lobby").await.expect(200);
    assert_eq!((&room["room"], &room["owner"], &room["shard"]), (&json!("lobby"), &cluster["node"], &json!(125)));
    assert!(node.metric("roundtable_sessions").await >= 1.0);
    // It is not there on the public listener.
    for path in ["/livez", "/readyz", "/health", "/metrics", "/cluster", "/drain"] {
        assert_eq!(node.api("alice").get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_setting_is_one_line_and_status_2() {
    let cases: [(node::Settings, &str, &str); 9] = [
        (&[("server.bind", "nonsense")], "server.bind", "nonsense"),
        (&[("server.nonsense", "1")], "server.nonsense", ""),
        (&[("limits.frame_bytes", "many")], "limits.frame_bytes", "many"),
        (&[("limits.inflight", "0")], "limits.inflight", "0"),
        (&[("log.format", "xml")], "log.format", "xml"),
        (&[("server.compression", "perhaps")], "server.compression", "perhaps"),
        (&[("store.url", "mysql://x")], "store.url", "mysql"),
        (&[("cluster.redis_url", "redis://127.0.0.1:1")], "cluster.redis_url", "sqlite"),
        (&[("auth.jwt.public_key_file", "/nowhere/key.pem")], "auth.jwt.public_key_file", "/nowhere/key.pem"),
    ];
    for (settings, key, value) in cases {
        let (status, out, err) = run(node::command(settings)).await;
        assert_eq!(status, Some(2), "{key}: {err}");
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{key}: {out}{err}");
        assert!(err.contains(key) && err.contains(value), "{key}: {err}");
    }
    // A secret is not shown.
    let url = "postgres://user:pa55word@nowhere:port/db";
    let (status, _, err) = run(node::command(&[("store.url", url)])).await;
    assert_eq!(status, Some(2), "{err}");
    assert!(err.contains("store.url") && !err.contains("pa55word"), "{err}");
    let mut command = node::command(&[]);
    command.args(["--config", "/nowhere/config.toml"]);
    let (status, _, err) = run(command).await;
    assert_eq!((status, err.lines().count()), (Some(2), 1), "{err}");
}

#[tokio::test]
async fn the_command_line_explains_itself() {
    let mut help = node::command(&[]);
    help.arg("--help");
    let (status, out, _) = run(help).await;
    assert_eq!(status, Some(0));
    for word in ["serve", "migrate", "check-config", "--config", "--version"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let mut version = node::command(&[]);
    version.arg("--version");
    assert_eq!(run(version).await.1.trim(), format!("roundtable {}", env!("CARGO_PKG_VERSION")));
    let mut check = node::command(&[]);
    check.arg("check-config");
    assert_eq!(run(check).await.0, Some(0));
    let mut check = node::command(&[("log.level", "roundtable=loud")]);
    check.arg("check-config");
    assert_eq!(run(check).await.0, Some(2));
    let mut migrate = node::command(&[]);
    migrate.arg("migrate");
    let (status, _, err) = run(migrate).await;
    assert_eq!(status, Some(0), "{err}");
}

#[tokio::test]
async fn settings_come_from_a_file_and_the_environment_beats_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("roundtable.toml");
    let port = ports::free();
    std::fs::write(
        &file,
        format!("[server]\nbind = \"127.0.0.1:{port}\"\n[limits]\ninflight = 7\nsubscriptions = 9\n"),
    )
    .expect("a file");
    let mut command = node::command(&[
        ("limits.inflight", "5"),
        ("admin.bind", &format!("127.0.0.1:{}", ports::free())),
        ("server.allowed_origins", "https://a.example,https://b.example"),
    ]);
    command.arg("--config").arg(&file).current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let mut process = command.kill_on_drop(true).stderr(Stdio::null()).spawn().expect("the program runs");
    let mut alice = until("it listens where the file says", || async {
        let url = format!("ws://127.0.0.1:{port}/ws");
        Person::upgraded(&url, "alice", crate::support::person::Encoding::Json, &[]).await.ok()
    })
    .await;
    let welcome = alice.says_hello().await;
    assert_eq!((&welcome["limits"]["inflight"], &welcome["limits"]["subscriptions"]), (&json!(5), &json!(9)));
    let _ = process.kill().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let free = format!("127.0.0.1:{}", ports::free());
    for (bind, admin) in [(&address, &free), (&free, &address)] {
        let (status, _, err) = run(node::command(&[("server.bind", bind), ("admin.bind", admin)])).await;
        assert_eq!(status, Some(1), "{err}");
        assert!(err.contains(&address), "{err}");
    }
}

#[tokio::test]
async fn a_store_or_redis_that_is_away_at_the_start_is_waited_for() {
    let postgres = Postgres::start().await;
    let url = postgres.database().await;
    let mut redis = Redis::start().await;
    postgres.stop_hard().await;
    redis.stop_hard();
    let node = Node::launch(&[("store.url", &url), ("cluster.redis_url", &redis.url())]);
    let live = format!("{}/livez", node.admin());
    until("it lives", || async { (node::status(&live).await == Some(200)).then_some(()) }).await;
    let ready = format!("{}/readyz", node.admin());
    assert_eq!(node::status(&ready).await, Some(503));
    postgres.start_again().await;
    assert_eq!(node::status(&ready).await, Some(503), "Redis is still away");
    assert!(node.ended().is_none());
    redis.start_again().await;
    assert!(node.until_ready().await);
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", "at last").await;
}

#[tokio::test]
async fn sigterm_drains_what_was_accepted_and_exits_0() {
    let node = Node::with(&[("server.shutdown_s", "10")]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    let mut idle = Person::at(&node, "idle").await;
    let mut refs = Vec::new();
    for i in 0..40 {
        let send = json!({"type": "send", "room": "lobby", "id": format!("m{i}"), "text": "x"});
        refs.push(alice.starts(send).await);
    }
    alice.answer(refs[0]).await;
    let begun = Instant::now();
    node.terminate();
    let notice = idle.next("notice").await;
    assert_eq!(notice["code"], "draining");
    assert_eq!(idle.closed().await, 4200);
    assert_eq!(alice.closed().await, 4200);
    let status = node.exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    let mut acked = 0;
    while alice.has(|frame| frame["type"] == "sent") {
        let sent = alice.next("sent").await;
        acked = acked.max(sent["seq"].as_u64().unwrap_or(0));
    }
    node.restart().await;
    let log = crate::support::load::whole_log(&node, "lobby").await;
    assert!(log.len() as u64 >= acked, "acknowledged and gone");
}

#[tokio::test]
async fn post_drain_ends_readiness_and_the_process_stays_until_sigterm() {
    let node = Node::alone().await;
    let mut alice = Person::at(&node, "alice").await;
    node.admin_api().post("/drain", Value::Null).await.expect(202);
    assert_eq!(alice.next("notice").await["code"], "draining");
    assert_eq!(alice.closed().await, 4200);
    assert_eq!(node.admin_api().get("/readyz").await.status, 503);
    assert_eq!(node.admin_api().get("/livez").await.status, 200);
    assert!(node.ended().is_none());
    node.terminate();
    assert_eq!(node.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_single_node_restarts_under_load_and_nothing_is_lost() {
    let node = Node::alone().await;
    makes(&node, "owner", "lobby").await;
    let load = Load::start(vec![node.ws_url()], "lobby", 3, 2).await;
    node.kill();
    node.restart().await;
    load.until_acks(30).await;
    node.terminate();
    assert_eq!(node.exit().await.code(), Some(0));
    node.restart().await;
    load.until_acks(30).await;
    let report = load.finish(&node).await;
    assert!(report.closes.contains(&4200) && report.closes.contains(&1006), "{:?}", report.closes);
}
