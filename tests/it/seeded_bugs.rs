//! Bugs on purpose (`src/seeded_bug.rs`): that no release can have them, and, where they are built in
//! (`cargo test --workspace --test it --features seeded-bugs seeded_bugs`), that the judgement of a history finds each one
//! under a fault that brings it out, and finds nothing in the same server without a bug under the same fault.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::node::PROGRAM;

/// Compiles the one file that every bug needs, as cargo does in a profile with or without debug assertions.
fn compiles(debug_assertions: &str) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-C"])
        .arg(format!("debug-assertions={debug_assertions}"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seeded_bug.rs"))
        .current_dir(dir.path())
        .output()
        .expect("the compiler runs")
}

#[test]
fn they_cannot_be_built_into_a_release() {
    let (debug, release) = (compiles("on"), compiles("off"));
    assert!(debug.status.success(), "{}", String::from_utf8_lossy(&debug.stderr));
    let said = String::from_utf8_lossy(&release.stderr);
    assert!(!release.status.success() && said.contains("can't be built into a release"), "{said}");
    // What names the file is what a hook needs to be compiled at all, so a hook without the feature is no program.
    let crate_root = include_str!("../../src/lib.rs");
    assert!(crate_root.contains("#[cfg(feature = \"seeded-bugs\")]\npub mod seeded_bug;\n"));
    let manifest = include_str!("../../Cargo.toml");
    assert!(manifest.contains("\nseeded-bugs = []\n") && !manifest.contains("\ndefault = "), "it is off by default");
    assert!(!manifest.contains("debug-assertions"), "no profile but cargo's own decides on them");
}

/// The program, told of a bug, at its check of the settings.
fn told_of(bug: &str) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(PROGRAM);
    command.arg("check-config").env_clear().env("ROUNDTABLE_SEEDED_BUG", bug).current_dir(dir.path());
    command.output().expect("the program runs")
}

#[cfg(not(feature = "seeded-bugs"))]
#[test]
fn a_program_without_the_feature_has_nothing_of_them() {
    // Symbols, paths of source files in debug information, the name of the variable.
    let found = Command::new("grep").args(["-q", "-a", "-i", "seeded_bug", PROGRAM]).status().expect("grep runs");
    assert_eq!(found.code(), Some(1), "there is a trace of them in {PROGRAM}");
    assert_eq!(told_of("cursor-skip").status.code(), Some(0));
    assert_eq!(told_of("no such bug").status.code(), Some(0));
}

#[cfg(feature = "seeded-bugs")]
mod built_in {
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    use futures_util::FutureExt;
    use serde_json::json;

    use super::told_of;
    use crate::support::checker::Sent;
    use crate::support::cluster::Cluster;
    use crate::support::load::Load;
    use crate::support::node::Node;
    use crate::support::person::Person;
    use crate::support::until;

    /// What waits in the socket of an owner that is frozen: fewer than a connection may have unanswered.
    const LOYAL_SENDS: usize = 20;

    /// Three nodes with that bug, or the same program without one.
    async fn cluster_with(bug: Option<&str>) -> Cluster {
        let more: Vec<(&str, &str)> = bug.map(|bug| ("ROUNDTABLE_SEEDED_BUG", bug)).into_iter().collect();
        Cluster::start_with(3, &more).await
    }

    /// The judgement of a history, or what is wrong with it.
    async fn judged(load: Load, node: &Node) -> Result<usize, String> {
        let judgement = AssertUnwindSafe(load.finish(node)).catch_unwind().await;
        judgement.map(|report| report.entries).map_err(|panic| match panic.downcast::<String>() {
            Ok(said) => *said,
            Err(_) => "it panicked without a word".into(),
        })
    }

    /// Holds that the fault shows nothing without the bug, and one of these with it.
    fn hold(bug: &str, honest: Result<usize, String>, lied: Result<usize, String>, signs: &[&str]) {
        let entries = honest.expect("a server without a bug is found honest");
        let found = lied.expect_err(&format!("{bug} was not noticed"));
        println!("{bug}: {found}\n(without it, {entries} entries and no fault)");
        assert!(signs.iter().any(|sign| found.contains(sign)), "{bug} shows as something else: {found}");
    }

    #[test]
    fn a_bug_that_is_none_is_one_line_and_status_2() {
        let output = told_of("no such bug");
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count(), output.stdout.len()), (Some(2), 1, 0), "{line}");
        for part in ["ROUNDTABLE_SEEDED_BUG", "no such bug", "ack-before-commit", "cursor-skip", "no-epoch-check"] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert_eq!(told_of("cursor-skip").status.code(), Some(0));
    }

    #[tokio::test]
    async fn a_server_with_a_bug_says_so_in_its_log() {
        let node = Node::launch(&[("ROUNDTABLE_SEEDED_BUG", "cursor-skip")]);
        let warned = |line: &str| line.contains("\"WARN\"") && line.contains("cursor-skip");
        until("a warning", || async { node.log().lines().any(warned).then_some(()) }).await;
    }

    async fn kill_of_an_owner(bug: Option<&str>) -> Result<usize, String> {
        let cluster = cluster_with(bug).await;
        let room = cluster.room_on(0, "owner").await;
        let load = Load::start(cluster.ws_urls(), &room, 6, 3).await;
        cluster.nodes[0].kill();
        load.until_acks(60).await;
        judged(load, &cluster.nodes[1]).await
    }

    #[tokio::test]
    async fn an_acknowledgement_before_the_commit_is_noticed_when_the_owner_is_killed() {
        let (honest, lied) = (kill_of_an_owner(None).await, kill_of_an_owner(Some("ack-before-commit")).await);
        hold("ack-before-commit", honest, lied, &["lost:"]);
    }

    async fn readers_that_come_back(bug: Option<&str>) -> Result<usize, String> {
        let cluster = cluster_with(bug).await;
        // The owner lives, so the log grows while readers are away.
        let room = cluster.room_on(2, "owner").await;
        let load = Load::start(cluster.ws_urls(), &room, 6, 12).await;
        // Those of the first come back to the second, and then all of them to the owner.
        for victim in [0, 1] {
            cluster.nodes[victim].kill();
            load.until_acks(60).await;
        }
        judged(load, &cluster.nodes[2]).await
    }

    #[tokio::test]
    async fn a_skipped_entry_is_noticed_when_readers_come_back() {
        let (honest, lied) = (readers_that_come_back(None).await, readers_that_come_back(Some("cursor-skip")).await);
        hold("cursor-skip", honest, lied, &["the reader did not panic"]);
    }

    async fn frozen_owner(bug: Option<&str>) -> Result<usize, String> {
        let cluster = cluster_with(bug).await;
        let room = cluster.room_on(0, "owner").await;
        let mut load = Load::start(cluster.ws_urls(), &room, 6, 3).await;
        let mut loyal = Person::at(&cluster.nodes[0], "loyal").await;
        loyal.joins(&room).await;
        cluster.nodes[0].freeze();
        // What the frozen node finds in a socket when it thaws: nobody else may come to it while it takes itself for the
        // owner, and an owner that is asked nothing shows nothing.
        let mut asked = Vec::new();
        for n in 1..=LOYAL_SENDS {
            let (id, text) = (format!("l{n}"), format!("loyal says l{n}"));
            asked.push(loyal.starts(json!({"type": "send", "room": room, "id": id, "text": text})).await);
        }
        load.goes_on_for(Duration::from_secs(5)).await;
        cluster.nodes[0].thaw();
        for (n, asked) in (1..=LOYAL_SENDS).zip(asked) {
            // A refusal has no place: it may be in the log or not.
            let seq = loyal.answer(asked).await["seq"].as_u64();
            load.also_sent(Sent { user: "loyal".into(), id: format!("l{n}"), text: format!("loyal says l{n}"), seq });
        }
        load.until_acks(60).await;
        cluster.settled().await;
        load.until_acks(30).await;
        judged(load, &cluster.nodes[1]).await
    }

    #[tokio::test]
    async fn an_owner_that_is_none_any_more_is_noticed_when_it_thaws() {
        let (honest, lied) = (frozen_owner(None).await, frozen_owner(Some("no-epoch-check")).await);
        hold("no-epoch-check", honest, lied, &["faults in", "a reader reaches the head", "the reader did not panic"]);
    }
}
