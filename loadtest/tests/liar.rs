//! The checker against servers that lie, each in one way; and runs against what is no Roundtable, or stops being one.

#[path = "support/liar.rs"]
mod liar;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use liar::Lie;

struct Ran {
    status: i32,
    out: String,
    err: String,
    took: Duration,
}

fn run(target: &str, more: &[&str]) -> Ran {
    let began = Instant::now();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_roundtable-loadtest"))
        .args(["run", "rooms", "--target", target, "--rooms", "2", "--connections", "6", "--rate", "100"])
        .args(["--warmup", "0", "--seconds", "2", "--patience", "3", "--quiet"])
        .args(more)
        .env("ROUNDTABLE__AUTH__JWT__SECRET", "any")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { status: status.code().expect("an exit status"), out: text(stdout), err: text(stderr), took: began.elapsed() }
}

fn against(lie: Lie) -> Ran {
    run(&format!("ws://{}", liar::start(lie)), &[])
}

/// The run must fail and name the fault.
fn is_caught(lie: Lie, fault: &str) {
    let ran = against(lie);
    assert_eq!(ran.status, 1, "{lie:?} was not caught:\n{}{}", ran.out, ran.err);
    assert!(ran.out.contains(&format!("{fault}: ")), "{lie:?} is not told as {fault}:\n{}", ran.out);
}

#[test]
fn an_honest_server_passes() {
    let ran = against(Lie::None);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("nothing lost, repeated, reordered or invented"), "{}", ran.out);
}

#[test]
fn a_room_whose_making_was_not_answered_is_there_at_the_second_try() {
    let ran = against(Lie::RoomUnanswered);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn without_the_checker_a_lie_in_the_history_goes_unnoticed_so_it_is_the_checker_that_notices() {
    let ran = run(&format!("ws://{}", liar::start(Lie::Altered)), &["--no-check"]);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn a_lost_message_is_caught() {
    is_caught(Lie::Lost, "lost");
}

#[test]
fn an_acked_and_forgotten_message_is_caught() {
    is_caught(Lie::Forgotten, "forgotten");
}

#[test]
fn a_doubled_message_is_caught() {
    is_caught(Lie::Doubled, "repeated");
}

#[test]
fn an_entry_shown_twice_is_caught() {
    is_caught(Lie::ShownTwice, "repeated");
}

#[test]
fn reordered_messages_are_caught() {
    is_caught(Lie::Reordered, "reordered");
}

#[test]
fn an_invented_entry_is_caught() {
    is_caught(Lie::Invented, "invented");
}

#[test]
fn an_altered_text_is_caught() {
    is_caught(Lie::Altered, "invented");
}

#[test]
fn an_entry_left_out_for_one_reader_is_caught() {
    is_caught(Lie::Skipped, "gap");
}

#[test]
fn readers_who_see_different_texts_are_caught() {
    is_caught(Lie::Disagreeing, "disagreement");
}

#[test]
fn a_send_that_is_never_answered_is_caught() {
    is_caught(Lie::Mute, "behind");
}

#[test]
fn a_second_seq_for_the_same_id_is_caught() {
    is_caught(Lie::NotIdempotent, "repeated");
}

#[test]
fn an_ack_of_another_message_is_caught() {
    is_caught(Lie::AckOfAnother, "invented");
}

#[test]
fn a_reader_who_is_shown_no_more_is_caught_though_the_head_is_told_too_low() {
    is_caught(Lie::Deaf, "behind");
}

#[test]
fn a_head_far_ahead_is_caught() {
    is_caught(Lie::HeadAhead, "forgotten");
}

#[test]
fn a_membership_that_is_forgotten_is_caught() {
    is_caught(Lie::MemberForgotten, "forgotten");
}

#[test]
fn a_refused_repeat_is_caught() {
    is_caught(Lie::RepeatRefused, "forgotten");
}

#[test]
fn pages_of_history_are_held_to_what_was_asked_for() {
    for (lie, status) in [(Lie::None, 0), (Lie::EmptyPages, 1)] {
        let program = env!("CARGO_BIN_EXE_roundtable-loadtest");
        let target = format!("ws://{}", liar::start(lie));
        let Output { status: ended, stdout, stderr } = Command::new(program)
            .args(["run", "mixed", "--target", &target, "--connections", "10", "--rate", "200"])
            .args(["--warmup", "0", "--seconds", "2", "--patience", "3", "--quiet"])
            .env("ROUNDTABLE__AUTH__JWT__SECRET", "any")
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        let out = String::from_utf8_lossy(&stdout);
        assert_eq!(ended.code(), Some(status), "{lie:?}: {out}{}", String::from_utf8_lossy(&stderr));
        assert_eq!(out.contains("gap: "), status == 1, "{lie:?}: {out}");
    }
}

#[test]
fn times_and_rates_beyond_any_clock_are_refused() {
    for (option, value) in [("--patience", "1e300"), ("--seconds", "1e300"), ("--rate", "1e300"), ("--warmup", "1e18")]
    {
        let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_roundtable-loadtest"))
            .args(["run", "rooms", "--target", "ws://127.0.0.1:1", option, value])
            .env("ROUNDTABLE__AUTH__JWT__SECRET", "any")
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        let err = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), err.lines().count()), (Some(2), 1), "{err}");
        assert!(err.contains(&format!("{option} must be")), "{err}");
    }
}

/// One line on stderr that says what is wrong, exit status 2, and soon.
fn is_refused(ran: &Ran, why: &str) {
    assert_eq!(ran.status, 2, "{}{}", ran.out, ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.contains(why), "{}", ran.err);
    assert!(ran.took < Duration::from_secs(30), "it took {:?}", ran.took);
}

#[test]
fn a_target_that_is_not_there_is_one_line() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    is_refused(&run(&format!("ws://{port}"), &[]), "is not there: Connection refused");
}

#[test]
fn a_target_that_is_no_roundtable_is_one_line() {
    is_refused(&against(Lie::NoWebSocket), "is not a Roundtable: no WebSocket at /ws (HTTP/1.1 404 Not Found)");
}

#[test]
fn a_target_that_says_nothing_is_one_line() {
    is_refused(&against(Lie::Silent), "does not answer within 10 s");
}

#[test]
fn a_target_that_refuses_the_token_is_one_line() {
    is_refused(&against(Lie::TokenRefused), "refuses the token");
}

#[test]
fn a_target_that_dies_midway_ends_the_run_with_what_was_measured() {
    let ran = against(Lie::Dying);
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("nothing heard from the target"), "{}", ran.out);
    assert!(ran.out.contains("delivery"), "what was measured is told:\n{}", ran.out);
    assert!(ran.took < Duration::from_secs(45), "it took {:?}", ran.took);
}

#[test]
fn more_connections_than_files_are_played_by_several_processes_and_judged_as_one() {
    let target = format!("ws://{}", liar::start(Lie::None));
    let program = env!("CARGO_BIN_EXE_roundtable-loadtest");
    // Half of what is left beside 200 files for everything else: two processes.
    let Output { status, stdout, stderr } = Command::new("sh")
        .args(["-c", "ulimit -n 240; exec \"$@\"", "sh", program, "run", "rooms", "--target", &target])
        .args(["--rooms", "4", "--connections", "68", "--rate", "100", "--warmup", "0", "--seconds", "2", "--quiet"])
        .env("ROUNDTABLE__AUTH__JWT__SECRET", "any")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let out = String::from_utf8_lossy(&stdout);
    assert!(status.success(), "{out}{}", String::from_utf8_lossy(&stderr));
    assert!(out.contains("68 observers"), "{out}");
}

#[test]
fn one_who_is_stopped_gets_the_report_so_far() {
    let target = format!("ws://{}", liar::start(Lie::None));
    let began = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_roundtable-loadtest"))
        .args(["run", "rooms", "--target", &target, "--rooms", "2", "--connections", "4", "--rate", "100"])
        .args(["--warmup", "0", "--seconds", "600"])
        .env("ROUNDTABLE__AUTH__JWT__SECRET", "any")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // Its progress is a plain line where nobody watches; the first one says that the load has begun.
    let mut child = child;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("a pipe")));
    lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("measuring")).expect("it measures");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let Output { status, stdout, .. } = child.wait_with_output().expect("it ends");
    rest.join().expect("stderr ends with it");
    let out = String::from_utf8_lossy(&stdout);
    assert_eq!(status.code(), Some(130), "{out}");
    assert!(out.contains("nothing lost, repeated, reordered or invented"), "{out}");
    assert!(began.elapsed() < Duration::from_secs(60));
}
