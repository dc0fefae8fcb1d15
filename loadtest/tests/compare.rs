//! `compare` end to end, as small as it gets: the bare broadcaster beside Roundtable, every workload, one round.
//!
//! `ROUNDTABLE_TEST_SERVER` names a server to use instead of the one of this build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundtable-loadtest"));
    command.arg("compare").args(arguments);
    if let Some(bin) = std::env::var_os("ROUNDTABLE_TEST_POSTGRES_BIN").filter(|bin| !bin.is_empty()) {
        command.arg("--postgres-bin").arg(bin);
    }
    command.output().expect("the harness starts")
}

/// The server's program: of the same build as this test.
fn server() -> PathBuf {
    if let Some(path) = std::env::var_os("ROUNDTABLE_TEST_SERVER") {
        return path.into();
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_roundtable-loadtest")).with_file_name("roundtable");
    assert!(beside.is_file(), "{} is not there: cargo test --workspace builds it", beside.display());
    beside
}

fn runs(json: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(json).expect("the report was written");
    let _ = std::fs::remove_file(json);
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    report["runs"].as_array().expect("the report has runs").clone()
}

/// Small enough for a debug build on a busy machine.
const SMALL: &str = "--rounds 1 --seconds 1 --warmup 0.3 --readers 20 --rate 20 --rooms 4 --room-readers 5 --rooms-rate 40 \
                     --connections 50,150 --settle 0.2 --senders 10 --window 4";

/// Runs it and gives what it printed and what it wrote.
fn compared(name: &str, arguments: &str, more: &[&str]) -> (String, Vec<Value>) {
    let json = std::env::temp_dir().join(format!("roundtable-compare-{name}-{}.json", std::process::id()));
    let mut all: Vec<&str> = arguments.split_whitespace().chain(SMALL.split_whitespace()).collect();
    all.extend(["--json", json.to_str().expect("a plain path")]);
    all.extend(more);
    let output = compare(&all);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out.into_owned(), runs(&json))
}

fn of<'a>(runs: &'a [Value], scenario: &str, subject: &str) -> Vec<&'a Value> {
    runs.iter().filter(|run| run["scenario"] == scenario && run["subject"] == subject).collect()
}

fn assert_faultless(run: &Value) {
    let figure = |name: &str| run["figures"][name].as_f64().expect("a number");
    for fault in ["lost", "repeated", "reordered", "invented", "refused"] {
        assert_eq!(figure(fault), 0.0, "{fault}: {run}");
    }
}

#[test]
fn roundtable_is_compared_with_the_bare_broadcaster_and_read_back() {
    let server = server();
    let program = ["--roundtable", server.to_str().expect("a plain path")];
    let (out, runs) = compared("both", "raw --workload rooms,durable", &program);
    assert!(out.contains("To roundtable") && out.contains("To raw"), "{out}");
    for subject in ["roundtable", "raw"] {
        let [run] = of(&runs, "rooms", subject)[..] else { panic!("one of {subject}: {runs:?}") };
        assert_faultless(run);
        assert!(run["figures"]["deliveries"].as_f64() > Some(0.0), "{run}");
    }
    for scenario in ["rooms", "durable"] {
        let [run] = of(&runs, scenario, "roundtable")[..] else { panic!("one {scenario}: {runs:?}") };
        assert_faultless(run);
        let verdict = &run["verdict"];
        assert!(verdict["entries"].as_u64() > Some(0), "{run}");
        assert_eq!(verdict["entries"], verdict["acked"], "every entry of the history was acked: {run}");
        assert_eq!(verdict["faults"], serde_json::json!({}), "{run}");
    }
    assert!(of(&runs, "durable", "raw").is_empty(), "the bare broadcaster stores nothing");
    assert!(!of(&runs, "ratios", "raw / roundtable").is_empty(), "ratios are kept");
}

#[test]
fn one_large_room_and_idle_connections_are_measured() {
    let (out, runs) = compared("raw", "raw --without-roundtable --workload fanout,idle", &[]);
    assert!(out.contains("1 × 20 readers"), "{out}");
    let [run] = of(&runs, "fanout", "raw")[..] else { panic!("one: {runs:?}") };
    assert_faultless(run);
    assert!(run["figures"]["delivery_p50_ms"].as_f64() > Some(0.0), "{run}");
    assert_eq!(of(&runs, "idle", "raw").len(), 2, "at both numbers of connections");
}

#[test]
fn what_is_missing_is_one_line_before_anything_runs() {
    for (arguments, what) in [
        (vec!["raw", "--roundtable", "/no/such/server"], "/no/such/server"),
        (vec!["socketio", "--without-roundtable", "--cache", "/no/such/cache"], "--install"),
        (vec!["raw", "--readers", "0"], "--readers"),
        (vec!["raw", "--connections", "999999"], "999999"),
    ] {
        // A machine that allows a million files would try it.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -n 16384 2> /dev/null; exec \"$0\" compare \"$@\"",
            env!("CARGO_BIN_EXE_roundtable-loadtest"),
        ]);
        let output = command.args(&arguments).output().expect("the harness starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(what), "{arguments:?}: {err}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
