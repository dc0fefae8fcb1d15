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
fn a_second_seq_for_the_same_id_is_caught() {
    is_caught(Lie::NotIdempotent, "repeated");
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
