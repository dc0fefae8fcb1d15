//! The admin listener, settings, start and drain of one node (docs/operations.md).

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
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
    let again = Person::at(&node, "alice").await;
    let _bob = Person::at(&node, "bob").await;
    assert_eq!((node.metric("roundtable_sessions").await, node.metric("roundtable_people").await), (3.0, 2.0));
    drop((alice, again));
    until("only bob is there", || async { (node.metric("roundtable_people").await == 1.0).then_some(()) }).await;
    // It is not there on the public listener.
    for path in ["/livez", "/readyz", "/health", "/metrics", "/cluster", "/overview", "/drain"] {
        assert_eq!(node.api("alice").get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_waits_for_the_store_is_told_with_its_age() {
    let postgres = Postgres::start().await;
    let node = Node::with(&[("store.url", &postgres.database().await)]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "m1", "x").await;
    let age = || node.metric("roundtable_persistence_oldest_waiting_time_seconds");
    assert_eq!(age().await, 0.0);
    postgres.freeze();
    let sent = alice.starts(json!({"type": "send", "room": "lobby", "id": "m2", "text": "y"})).await;
    until("it has waited for half a second", || async { (age().await > 0.5).then_some(()) }).await;
    assert!(node.metric("roundtable_room_requests_bytes").await > 0.0);
    postgres.thaw();
    alice.answer(sent).await;
    assert_eq!((age().await, node.metric("roundtable_room_requests_bytes").await), (0.0, 0.0));
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
    // Whoever wants a stream is not held on this node by a connection that stays.
    let turned = node.api("alice").get("stream").await;
    assert_eq!((turned.status, turned.header("connection")), (503, Some("close")));
    assert!(node.ended().is_none());
    node.terminate();
    assert_eq!(node.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_operators_page_is_of_this_program_alone() {
    let node = Node::alone().await;
    let admin = node.admin_api();
    let page = admin.get("/").await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
    let text = page.body.as_str().expect("a page").to_owned();
    assert!(!text.contains("style=") && !text.contains("<style"), "nothing inline: {text}");
    let handler = |word: &str| word.starts_with("on") && word.contains('=');
    assert!(!text.split_whitespace().any(handler), "nothing inline: {text}");
    let named = text.split('"').filter(|one| [".js", ".css", ".svg"].iter().any(|end| one.ends_with(end)));
    let mut files: Vec<String> = named.map(|name| format!("/{name}")).collect();
    files.extend(["/".to_owned(), "/words.js".to_owned()]);
    files.sort();
    files.dedup();
    assert_eq!(files, ["/", "/icon.svg", "/operator.css", "/operator.js", "/words.js"]);
    let kinds = ["text/html; charset=utf-8", "image/svg+xml", "text/css; charset=utf-8"];
    let script = "text/javascript; charset=utf-8";
    for (path, kind) in files.iter().zip(kinds.into_iter().chain([script, script])) {
        let file = admin.get(path).await;
        assert_eq!((file.status, file.headers["content-type"].to_str().expect("text")), (200, kind), "{path}");
        for (name, value) in [
            ("content-security-policy", policy.as_str()),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(file.headers[name], value, "{path}: {name}");
        }
        let text = file.body.as_str().expect("a text").replace("http://www.w3.org/2000/svg", "");
        for outside in ["://", "\"//", "'//", "innerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!text.contains(outside), "{path}: {outside}");
        }
        assert_eq!(admin.post(path, Value::Null).await.status, 405, "{path}");
    }
    assert_eq!(admin.get("/index.html").await.status, 404);
}

#[tokio::test]
async fn the_overview_of_one_node_tells_what_happens_there() {
    let node = Node::alone().await;
    let admin = node.admin_api();
    let mut alice = Person::at(&node, "alice").await;
    // More than are told of; the busiest have the most messages.
    for n in 0..32 {
        let room = format!("room-{n:02}");
        alice.opens(&node, &room).await;
        for m in 0..n % 4 * 3 {
            alice.sends(&room, &format!("{room}-{m}"), "nobody's business").await;
        }
    }
    let overview = until("everything is counted", || async {
        let overview = admin.get("/overview").await.expect(200);
        (overview["now"]["subscriptions"] == 32).then_some(overview)
    })
    .await;
    let id = node.id().await;
    let own = &overview["node"];
    assert_eq!((&own["id"], &own["state"], &own["reasons"]), (&json!(id), &json!("ready"), &json!([])));
    assert_eq!(own["version"], env!("CARGO_PKG_VERSION"));
    assert!(own["uptime_s"].is_u64(), "{own}");
    assert_eq!(overview["drain"], Value::Null);
    assert_eq!((&overview["now"]["sessions"], &overview["now"]["rooms"]), (&json!(1), &json!(32)));
    for name in ["over_s", "entries_per_s", "repeats_per_s", "deliveries_per_s", "connections_per_s"] {
        assert!(overview["rates"][name].is_number(), "{name}: {overview}");
    }
    assert_eq!(overview["checks"]["store"]["status"], "ok");
    assert_eq!(overview["checks"]["redis"], Value::Null, "there is none");
    let nodes = overview["cluster"]["nodes"].as_array().expect("nodes");
    assert_eq!((nodes.len(), &overview["cluster"]["nodes_left_out"]), (1, &json!(0)));
    assert_eq!((&nodes[0]["id"], &nodes[0]["state"], &nodes[0]["shards"]), (&json!(id), &json!("ready"), &json!(1024)));
    assert_eq!(overview["shards"]["owners"], json!([id]));
    assert_eq!(overview["shards"]["map"], json!(vec![0; 1024]));

    let busiest = overview["rooms"]["busiest"].as_array().expect("rooms");
    assert_eq!(busiest.len(), 20, "no more are told");
    let entries: Vec<u64> = busiest.iter().map(|room| room["entries"].as_u64().expect("a count")).collect();
    assert_eq!(entries, [[9; 8].as_slice(), &[6; 8], &[3; 4]].concat());
    let first: Vec<&str> = busiest[..8].iter().map(|room| room["room"].as_str().expect("an id")).collect();
    let wanted = ["room-03", "room-07", "room-11", "room-15", "room-19", "room-23", "room-27", "room-31"];
    assert_eq!(first, wanted);
    let text = overview.to_string();
    assert!(!text.contains("business") && !text.contains("alice") && text.len() < 64 * 1024, "{}", text.len());

    // Rates are of the last seconds, and end with what they count.
    for n in 0..50 {
        alice.sends("room-01", &format!("late-{n}"), "x").await;
    }
    until("messages are seen", || async {
        let overview = admin.get("/overview").await.expect(200);
        let positive = |value: &Value| value.as_f64() > Some(0.0);
        let (rates, commits) = (&overview["rates"], &overview["commits"]);
        let seen = positive(&rates["entries_per_s"]) && positive(&rates["deliveries_per_s"]);
        (seen && positive(&commits["p50_ms"]) && commits["p99_ms"].as_f64() >= commits["p50_ms"].as_f64()).then_some(())
    })
    .await;
    until("it is quiet again", || async {
        let overview = admin.get("/overview").await.expect(200);
        (overview["rates"]["entries_per_s"] == 0.0 && overview["commits"]["p99_ms"].is_null()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_overview_of_a_cluster_shows_a_drain_from_both_sides() {
    let cluster = Cluster::start(2).await;
    let (first, second) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (a, b) = (first.id().await, second.id().await);
    let mut alice = Person::at(first, "alice").await;
    alice.opens(first, "lobby").await;
    let of = |overview: &Value, id: &str| {
        let nodes = overview["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().find(|node| node["id"] == id).unwrap_or_default()
    };
    until("the second node knows of the session at the first", || async {
        let overview = second.admin_api().get("/overview").await.expect(200);
        let (known, own) = (of(&overview, &a), of(&overview, &b));
        let shards = known["shards"].as_u64().unwrap_or(0) + own["shards"].as_u64().unwrap_or(0);
        (known["sessions"] == 1 && known["state"] == "ready" && own["sessions"] == 0 && shards == 1024).then_some(())
    })
    .await;
    let overview = second.admin_api().get("/overview").await.expect(200);
    assert_eq!((&overview["cluster"]["leased"], &overview["checks"]["redis"]["status"]), (&json!(true), &json!("ok")));
    assert!(overview["cluster"]["heard_s"].as_f64() < Some(5.0), "{overview}");
    let owners = overview["shards"]["owners"].as_array().expect("owners").len();
    assert_eq!(owners, 2);
    let places = overview["shards"]["map"].as_array().expect("a map");
    assert!(places.len() == 1024 && places.iter().all(|place| place.as_u64() < Some(2)), "{places:?}");
    let before = of(&overview, &a)["shards"].as_i64();

    first.admin_api().post("/drain", Value::Null).await.expect(202);
    assert_eq!(alice.closed().await, 4200);
    let overview = until("the first has nothing left", || async {
        let overview = first.admin_api().get("/overview").await.expect(200);
        let drain = &overview["drain"];
        (drain["sessions_left"] == 0 && drain["shards_left"] == 0).then_some(overview)
    })
    .await;
    assert_eq!((&overview["node"]["state"], &overview["node"]["reasons"]), (&json!("draining"), &json!(["draining"])));
    let drain = &overview["drain"];
    assert_eq!((&drain["sessions_before"], drain["shards_before"].as_i64()), (&json!(1), before), "{drain}");
    assert!(drain["for_s"].is_u64(), "{drain}");
    until("the second has it all", || async {
        let overview = second.admin_api().get("/overview").await.expect(200);
        let (known, own) = (of(&overview, &a), of(&overview, &b));
        (known["state"] == "draining" && known["shards"] == 0 && own["shards"] == 1024).then_some(())
    })
    .await;
    first.terminate();
    assert_eq!(first.exit().await.code(), Some(0));
    until("the first is lost", || async {
        let overview = second.admin_api().get("/overview").await.expect(200);
        let known = of(&overview, &a);
        (known["state"] == "lost" && known["since_s"].as_u64() < Some(60)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_page_of_others_can_drain_a_node() {
    let node = Node::alone().await;
    let admin = node.admin_api();
    let host = node.admin();
    let neighbour = format!("http://127.0.0.1:{}", ports::free());
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://elsewhere.example")],
        &[("origin", neighbour.as_str())],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://elsewhere.example")],
        // What a proxy might say of itself counts for nothing.
        &[("origin", "https://elsewhere.example"), ("x-forwarded-host", "elsewhere.example")],
    ] {
        let refused = admin.call(reqwest::Method::POST, "/drain", None, headers).await;
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("forbidden")), "{headers:?}");
    }
    assert_eq!(admin.get("/readyz").await.status, 200, "nothing happened");
    let own = [("sec-fetch-site", "same-origin"), ("origin", host.as_str())];
    assert_eq!(admin.call(reqwest::Method::POST, "/drain", None, &own).await.status, 202);
    until("it drains", || async { (admin.get("/readyz").await.status == 503).then_some(()) }).await;
    // As `curl -X POST` asks; again it does nothing more.
    assert_eq!(admin.call(reqwest::Method::POST, "/drain", None, &[]).await.status, 202);
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
