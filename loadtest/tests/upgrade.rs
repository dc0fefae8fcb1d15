//! `upgrade` from outside, with one build as both releases: it holds for an honest roll, and notices one that is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtable-loadtest");

fn server() -> PathBuf {
    let beside = Path::new(PROGRAM).with_file_name("roundtable");
    assert!(beside.is_file(), "{} is not there: cargo test --workspace builds it", beside.display());
    beside
}

/// Its status, what it printed as its result, and beside it.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(PROGRAM);
    let Output { status, stdout, stderr } =
        command.arg("upgrade").args(arguments).stdin(Stdio::null()).output().expect("the harness runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// A short run of few people.
fn upgrade(arguments: &[&str]) -> (Option<i32>, String, String) {
    let short =
        ["--rate", "40", "--people", "12", "--rooms", "12", "--settle", "1", "--mixed", "2", "--min-ready", "0.2"];
    run(&[&short, arguments].concat())
}

#[test]
fn a_release_is_rolled_onto_itself_and_back() {
    let server = server();
    let picture = std::env::temp_dir().join(format!("roundtable-upgrade-test-{}.svg", std::process::id()));
    let drawn = picture.to_str().expect("a plain path");
    let (status, result, beside) =
        upgrade(&["--from", server.to_str().expect("a plain path"), "--nodes", "2", "--picture", drawn]);
    assert_eq!(status, Some(0), "{result}{beside}");
    assert!(result.contains("nothing lost, repeated, reordered or invented"), "{result}");
    for said in ["after 1 replaces before 1", "after 2 replaces before 2", "before 4 replaces after 2", "no migration"]
    {
        assert!(beside.contains(said), "{beside}");
    }
    let svg = std::fs::read_to_string(&picture).expect("a picture");
    assert!(svg.contains("<title>before 1</title>") && svg.contains("<title>after 2</title>"), "{svg}");
    std::fs::remove_file(picture).expect("it was there");
}

#[test]
fn a_node_that_does_not_drain_is_noticed() {
    let keep = std::env::temp_dir().join(format!("roundtable-upgrade-kept-{}", std::process::id()));
    let from = server();
    let (from, kept) = (from.to_str().expect("a plain path"), keep.to_str().expect("a plain path"));
    let (status, result, beside) = upgrade(&["--from", from, "--nodes", "1", "--one-way", "--kill", "--keep", kept]);
    assert_eq!(status, Some(1), "{result}{beside}");
    assert!(beside.contains("before 1 ended with None in place of 0"), "{beside}");
    assert!(keep.join("node-1.1.log").is_file(), "its log is kept");
    std::fs::remove_dir_all(keep).expect("it was there");
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_started() {
    let from = server();
    let from = from.to_str().expect("a plain path");
    for (arguments, part) in [
        (&["--from", "/nowhere/roundtable"][..], "/nowhere/roundtable is not there"),
        (&["--from", from, "--from-name", "x", "--to-name", "x"], "must be two names"),
        (&["--from", from, "--rate", "0"], "--rate must be"),
        (&["--from", from, "--mixed", "0"], "--mixed must be"),
    ] {
        let (status, result, beside) = run(arguments);
        assert_eq!((status, result.as_str()), (Some(2), ""), "{beside}");
        assert!(beside.contains(part), "{beside}");
    }
}
