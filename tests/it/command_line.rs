//! The program as an operator starts it: arguments, settings that are wrong, exit status.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::node::PROGRAM;

/// Runs the program to its end in an empty directory with nothing but these variables.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir.path())
        .output()
        .expect("the program runs")
}

/// The one line on standard error with which it ended, and the status.
fn refusal(output: &Output) -> (String, Option<i32>) {
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stdout.is_empty(), "nothing else is said");
    assert_eq!(line.lines().count(), 1, "one line: {line:?}");
    (line, output.status.code())
}

#[test]
fn a_wrong_setting_is_one_line_and_status_2() {
    for (key, value, parts) in [
        ("ROUNDTABLE__LIMITS__INFLIGHT", "none", ["limits.inflight", "none", "integer"]),
        ("ROUNDTABLE__LIMITS__INFLIHGT", "3", ["limits.inflihgt", "ROUNDTABLE__LIMITS__INFLIHGT", "unknown"]),
        ("ROUNDTABLE__CLUSTER__REDIS_URL", "redis://:hidden@127.0.0.1", ["cluster.redis_url", "***", "sqlite"]),
        ("ROUNDTABLE__STORE__URL", "mysql://u:hidden@h/d", ["store.url", "***", "postgres://"]),
        (
            "ROUNDTABLE__AUTH__JWT__PUBLIC_KEY_FILE",
            "/nowhere/key.pem",
            ["auth.jwt.public_key_file", "/nowhere/key.pem", "PEM"],
        ),
        (
            "ROUNDTABLE__AUTH__JWT__JWKS_FILE",
            "/nowhere/set.json",
            ["auth.jwt.jwks_file", "/nowhere/set.json", "Key Set"],
        ),
    ] {
        for command in [&[][..], &["serve"], &["check-config"], &["migrate"]] {
            let (line, status) = refusal(&run(command, &[(key, value)]));
            assert_eq!(status, Some(2), "{command:?} {key}: {line}");
            assert!(parts.iter().all(|part| line.contains(part)) && !line.contains("hidden"), "{line}");
        }
    }
    let (line, status) = refusal(&run(&["--config", "missing.toml"], &[]));
    assert!(status == Some(2) && line.contains("missing.toml"), "{line}");
}

#[test]
fn the_settings_can_be_checked_alone() {
    let good = run(&["check-config"], &[("ROUNDTABLE__LOG__LEVEL", "debug")]);
    assert_eq!(good.status.code(), Some(0));
    assert!(good.stderr.is_empty());
    for example in ["default", "production"] {
        let file = format!("{}/config/{example}.toml", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(run(&["--config", &file, "check-config"], &[]).status.code(), Some(0), "{example}");
    }
}

#[test]
fn it_says_what_it_is_and_what_it_can() {
    let version = run(&["--version"], &[]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("roundtable {}\n", env!("CARGO_PKG_VERSION")));
    let help = String::from_utf8_lossy(&run(&["--help"], &[]).stdout).into_owned();
    for word in ["serve", "migrate", "rekey", "check-config", "--config", "--version"] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
    assert_eq!(run(&["dance"], &[]).status.code(), Some(2));
}

#[test]
fn a_taken_port_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (key, other) in [
        ("ROUNDTABLE__SERVER__BIND", "ROUNDTABLE__ADMIN__BIND"),
        ("ROUNDTABLE__ADMIN__BIND", "ROUNDTABLE__SERVER__BIND"),
    ] {
        let (line, status) = refusal(&run(&[], &[(key, &address), (other, "127.0.0.1:0")]));
        assert_eq!(status, Some(1), "{line}");
        assert!(line.contains(&address), "{line}");
    }
}

#[test]
fn migrating_twice_does_nothing_the_second_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite://{}", dir.path().join("rooms.db").display());
    let variables = [("ROUNDTABLE__STORE__URL", url.as_str()), ("ROUNDTABLE__LOG__LEVEL", "error")];
    let first = run(&["migrate"], &variables);
    let second = run(&["migrate"], &variables);
    assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)));
    assert_ne!(first.stdout, second.stdout);
    assert!(String::from_utf8_lossy(&second.stdout).contains("nothing to do"));
}
