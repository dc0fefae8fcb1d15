//! One thing after another: what each close code asks for, the heartbeat, the bounds.

use std::time::Duration;

use serde_json::json;

use super::model::{broken, draft, frame, setup, welcome};
use crate::closing::Ending;
use crate::core::{
    Act, Answer, Core, Output, Phase, Setup, Status, Subscribe, TokenReason, Told, Transport, Transports,
};
use crate::error::Code;
use crate::frames::{ClientFrame, Entry};

const S: Duration = Duration::from_secs(1);

fn outputs(core: &mut Core) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = core.next_output() {
        all.push(output);
    }
    all
}

/// The number of the connection that is to be opened, its address and what carries it.
fn opening(core: &mut Core) -> Option<(u64, usize, Transport)> {
    outputs(core).into_iter().find_map(|output| match output {
        Output::Open { connection, address, transport, .. } => Some((connection, address, transport)),
        _ => None,
    })
}

fn frames(outputs: &[Output]) -> Vec<&ClientFrame> {
    let mut all = Vec::new();
    for output in outputs {
        if let Output::Write { frame, .. } = output {
            all.push(frame);
        }
    }
    all
}

fn results(outputs: &[Output]) -> Vec<(u64, Result<Answer, Code>)> {
    let result = |output: &Output| match output {
        Output::Done { ticket, result } => Some((*ticket, result.clone().map_err(|error| error.code))),
        _ => None,
    };
    outputs.iter().filter_map(result).collect()
}

/// Online on its first connection, with an empty storage.
fn online(setup: Setup) -> (Core, u64) {
    let mut core = Core::new(setup);
    core.at(S, 0.5).connect(1);
    let (connection, ..) = opening(&mut core).expect("a connection");
    core.at(S, 0.5).opened(connection);
    core.at(S, 0.5).frame(connection, welcome());
    core.at(S, 0.5).loaded(Vec::new());
    let told = outputs(&mut core);
    assert!(results(&told).iter().any(|(ticket, result)| *ticket == 1 && result.is_ok()), "{told:?}");
    (core, connection)
}

fn closed(code: u16) -> Ending {
    Ending { code, ..broken() }
}

fn events(seqs: std::ops::RangeInclusive<u64>) -> crate::frames::ServerFrame {
    let entry =
        |seq| json!({"seq": seq, "kind": "message", "user": "bob", "at": "t", "id": format!("{seq}"), "text": "x"});
    frame(json!({"type": "events", "room": "r", "events": seqs.map(entry).collect::<Vec<_>>()}))
}

fn told(outputs: &[Output]) -> Vec<u64> {
    let seqs = |output: &Output| match output {
        Output::Told { told, .. } => told.clone(),
        _ => Vec::new(),
    };
    let seq = |told: Told| match told {
        Told::Entry(entry) => Entry::clone(&entry).seq,
        Told::Reset { .. } => 0,
    };
    outputs.iter().flat_map(seqs).map(seq).collect()
}

#[test]
fn each_close_code_gets_what_it_asks_for() {
    for (code, phase, wait) in [
        (4000, Phase::Closed, None),
        (4003, Phase::Closed, None),
        (4100, Phase::Waiting, Some(500)),
        (4200, Phase::Waiting, Some(0)),
        (4300, Phase::Unauthorized, None),
        (4301, Phase::Unauthorized, None),
        (1006, Phase::Waiting, Some(500)),
        (1011, Phase::Waiting, Some(500)),
    ] {
        let (mut core, connection) = online(setup());
        core.at(10 * S, 0.5).ended(connection, &closed(code));
        let state = core.state().clone();
        assert_eq!((state.phase, state.retry_in.map(|wait| wait.as_millis())), (phase, wait), "{code}");
        if wait.is_some() {
            outputs(&mut core);
            let at = core.wake_at().expect("an attempt");
            core.at(at, 0.5);
            let (_, address, _) = opening(&mut core).expect("another connection");
            assert_eq!(address, 1, "{code}: best elsewhere");
        }
    }
}

#[test]
fn a_drain_is_followed_when_it_says_but_not_again_and_again() {
    let (mut core, mut connection) = online(setup());
    let notice = frame(json!({"type": "notice", "code": "draining", "message": "m", "reconnect_after_ms": 1500}));
    core.at(10 * S, 0.5).frame(connection, notice.clone());
    assert!(core.state().draining);
    core.at(10 * S, 0.5).ended(connection, &closed(4200));
    assert_eq!(core.state().retry_in, Some(Duration::from_millis(1500)));
    outputs(&mut core);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let at = core.wake_at().expect("an attempt");
        core.at(at, 1.0);
        connection = opening(&mut core).expect("a connection").0;
        core.at(at, 1.0).opened(connection);
        core.at(at, 1.0).frame(connection, welcome());
        core.at(at, 1.0).ended(connection, &closed(4200));
        waits.push(core.state().retry_in.expect("a wait").as_millis());
        outputs(&mut core);
    }
    assert!(waits.iter().all(|wait| *wait >= 1000), "{waits:?}");
}

#[test]
fn a_server_that_is_away_is_asked_less_and_less_often() {
    let mut core = Core::new(setup());
    core.at(S, 0.5).connect(1);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (connection, ..) = opening(&mut core).expect("an attempt");
        let now = core.wake_at().map_or(S, |at| at - S);
        core.at(now, 0.5).ended(connection, &broken());
        waits.push(core.state().retry_in.expect("a wait").as_millis());
        outputs(&mut core);
        let at = core.wake_at().expect("an attempt");
        core.at(at, 0.5);
    }
    assert_eq!(waits, [500, 1500, 3000, 6000, 12_000, 22_500, 22_500, 22_500]);
}

#[test]
fn a_blocked_websocket_makes_room_for_a_stream_now_and_then() {
    let mut core = Core::new(Setup { transport: Transports::Auto, ..setup() });
    core.at(S, 0.5).connect(1);
    let mut carried = Vec::new();
    for _ in 0..6 {
        let (connection, _, transport) = opening(&mut core).expect("an attempt");
        carried.push(transport);
        let now = core.wake_at().map_or(S, |at| at - S);
        core.at(now, 0.5).ended(connection, &broken());
        outputs(&mut core);
        let at = core.wake_at().expect("an attempt");
        core.at(at, 0.5);
    }
    use Transport::{Stream, WebSocket};
    assert_eq!(carried, [WebSocket, WebSocket, Stream, WebSocket, Stream, WebSocket]);
}

#[test]
fn a_refused_token_is_replaced_twice_by_its_source_then_it_is_up_to_the_application() {
    let mut core = Core::new(Setup { token_source: true, ..setup() });
    core.at(S, 0.5).connect(1);
    let mut asked = Vec::new();
    for n in 0..3 {
        let Some(Output::WantToken { attempt, why }) =
            outputs(&mut core).into_iter().find(|output| matches!(output, Output::WantToken { .. }))
        else {
            panic!("no token asked for, {n}")
        };
        asked.push(why);
        core.at(S, 0.5).token_came(attempt, why, Ok(Some(format!("t{n}"))));
        let (connection, ..) = opening(&mut core).expect("a connection");
        core.at(S, 0.5).opened(connection);
        core.at(S, 0.5).ended(connection, &closed(4300));
    }
    assert_eq!(asked, [TokenReason::Connect, TokenReason::Rejected, TokenReason::Rejected]);
    assert_eq!(core.state().phase, Phase::Unauthorized);
    assert_eq!(results(&outputs(&mut core)), [(1, Err(Code::Unauthenticated))]);
    // A new one begins anew.
    core.at(S, 0.5).set_token("t3".into(), 2);
    assert!(opening(&mut core).is_some());
}

#[test]
fn a_silent_server_is_slow_first_then_given_up_and_nobody_can_set_this_clock() {
    let (mut core, connection) = online(setup());
    core.at(S, 0.5).frame(connection, frame(json!({"type": "pong", "ref": 1, "at": "t"})));
    // Every 15 s a ping.
    let mut now = S;
    while frames(&outputs(&mut core)).is_empty() {
        now += S;
        core.at(now, 0.5);
        assert!(now < 20 * S, "no ping");
    }
    core.at(now + 2 * S, 0.5);
    assert!(core.state().slow && core.state().lag >= Some(S));
    // Time that steps back is no time.
    core.at(S, 0.5);
    assert_eq!(core.state().phase, Phase::Online);
    for n in 3..=11 {
        core.at(now + n * S, 0.5);
    }
    assert_eq!(core.state().phase, Phase::Waiting);
    assert!(core.state().error.as_ref().is_some_and(|error| error.message.contains("does not answer")));
}

#[test]
fn after_a_sleep_nothing_is_held_against_the_server_but_it_is_asked() {
    let (mut core, connection) = online(setup());
    core.at(S, 0.5).frame(connection, frame(json!({"type": "pong", "ref": 1, "at": "t"})));
    outputs(&mut core);
    core.at(3600 * S, 0.5);
    let told = outputs(&mut core);
    assert!(matches!(frames(&told)[..], [ClientFrame::Ping { .. }]), "{told:?}");
    assert_eq!(core.state().phase, Phase::Online);
}

#[test]
fn the_server_s_window_is_kept_to_and_lanes_keep_their_order() {
    let (mut core, connection) = online(setup());
    for n in 0..10 {
        let room = if n < 5 { "a" } else { "b" };
        core.at(S, 0.5).send(draft(room, &format!("{n}"), "x"), 10 + n);
        core.at(S, 0.5).history("c", (None, None, None), 30 + n);
    }
    let told = outputs(&mut core);
    let written = frames(&told);
    assert_eq!(written.len(), 4, "the window is 4: {written:?}");
    let sends = written.iter().filter(|frame| matches!(frame, ClientFrame::Send { .. })).count();
    assert!(sends <= 2, "one a room: {written:?}");
    let ClientFrame::Send { r#ref, .. } = written[0] else { panic!("{written:?}") };
    let sent = json!({"type": "sent", "ref": r#ref, "room": "a", "id": "0", "seq": 1, "at": "t", "duplicate": false});
    core.at(S, 0.5).frame(connection, frame(sent));
    assert_eq!(results(&outputs(&mut core)).len(), 1);
}

#[test]
fn bounds_are_said() {
    let mut given = setup();
    (given.bounds.outbox_messages, given.bounds.requests) = (2, 1);
    let mut core = Core::new(given);
    for n in 0..3 {
        core.at(S, 0.5).send(draft("a", &format!("{n}"), "x"), n);
        core.at(S, 0.5).act("a", Act::Delete { target: 1 }, 10 + n);
    }
    let refused = results(&outputs(&mut core));
    assert_eq!(refused, [(11, Err(Code::QueueFull)), (2, Err(Code::OutboxFull)), (12, Err(Code::QueueFull))]);
    core.at(S, 0.5).send(draft("a", "1", "x"), 20);
    assert_eq!(results(&outputs(&mut core)), [(20, Err(Code::Conflict))]);
}

#[test]
fn a_message_larger_than_a_frame_is_refused_here_and_a_refusal_for_good_is_told() {
    let (mut core, connection) = online(setup());
    core.at(S, 0.5).send(draft("a", "0", &"x".repeat(70_000)), 10);
    core.at(S, 0.5).send(draft("a", "1", "x"), 11);
    let told = outputs(&mut core);
    assert_eq!(results(&told), [(10, Err(Code::BadRequest))]);
    let ClientFrame::Send { r#ref, .. } = frames(&told)[0] else { panic!("{told:?}") };
    let error = json!({"type": "error", "ref": r#ref, "code": "forbidden", "message": "m", "retryable": false});
    core.at(S, 0.5).frame(connection, frame(error));
    assert_eq!(results(&outputs(&mut core)), [(11, Err(Code::Forbidden))]);
    assert_eq!(core.outbox().count(), 0);
}

#[test]
fn a_read_that_takes_too_long_fails_whatever_the_connections_do() {
    let mut core = Core::new(setup());
    core.at(S, 0.5).history("a", (None, None, None), 7);
    core.at(60 * S, 0.5);
    assert_eq!(results(&outputs(&mut core)), []);
    core.at(61 * S, 0.5);
    assert_eq!(results(&outputs(&mut core)), [(7, Err(Code::Timeout))]);
}

#[test]
fn a_reader_that_takes_nothing_pauses_its_cursor_at_the_bound_and_goes_on_behind_what_it_has() {
    let mut given = setup();
    given.bounds.queued_entries = 10;
    let (mut core, connection) = online(given);
    core.at(S, 0.5).subscribe("r", Subscribe::after(0), 5);
    let asked = outputs(&mut core);
    let ClientFrame::Subscribe { r#ref, after, .. } = frames(&asked)[0] else { panic!("{asked:?}") };
    assert_eq!(*after, Some(0));
    let answer = json!({"type": "subscribed", "ref": r#ref, "room": "r", "head": 40, "verdict": "replay", "role": null, "online": 1});
    core.at(S, 0.5).frame(connection, frame(answer));
    core.at(S, 0.5).frame(connection, events(1..=8));
    core.at(S, 0.5).frame(connection, events(9..=16));
    core.at(S, 0.5).frame(connection, events(17..=24));
    let after_all = outputs(&mut core);
    assert_eq!(told(&after_all), (1..=16).collect::<Vec<_>>());
    assert!(frames(&after_all).iter().any(|frame| matches!(frame, ClientFrame::Unsubscribe { .. })));
    assert_eq!(core.room("r").status, Status::Paused);
    core.at(S, 0.5).taken("r", 11, 11);
    let again = outputs(&mut core);
    let [ClientFrame::Subscribe { after, .. }] = frames(&again)[..] else { panic!("{again:?}") };
    assert_eq!(*after, Some(16));
    assert_eq!((core.room("r").seq, core.room("r").status), (11, Status::Waiting));
}

#[test]
fn credentials_of_somebody_else_are_not_used() {
    let mut core = Core::new(Setup { user: Some("bob".into()), ..setup() });
    core.at(S, 0.5).loaded(Vec::new());
    core.at(S, 0.5).send(draft("a", "1", "x"), 9);
    core.at(S, 0.5).connect(1);
    let (connection, ..) = opening(&mut core).expect("a connection");
    core.at(S, 0.5).opened(connection);
    core.at(S, 0.5).frame(connection, welcome());
    let told = outputs(&mut core);
    assert_eq!(results(&told), [(1, Err(Code::DifferentUser)), (9, Err(Code::DifferentUser))]);
    assert!(!frames(&told).iter().any(|frame| matches!(frame, ClientFrame::Send { .. })));
    assert_eq!(core.outbox().count(), 1, "what bob wanted to say is still bob's");
}
