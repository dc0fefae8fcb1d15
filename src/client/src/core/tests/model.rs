//! A server in a few lines: rooms' logs, cursors, idempotent sends; and a connection to it that loses, repeats and ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;

use crate::closing::Ending;
use crate::core::{Answer, Bounds, Core, Draft, Output, Patience, Setup, StoredMessage, Subscribe, Told, Transports};
use crate::error::Error;
use crate::frames::{ClientFrame, Entry, ServerFrame};

/// Numbers from a seed, so that every run of a seed is the same.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    pub fn part(&mut self) -> f64 {
        self.below(1 << 20) as f64 / (1 << 20) as f64
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub fn setup() -> Setup {
    Setup {
        addresses: 3,
        token: None,
        token_source: false,
        user: None,
        client: "test/1".into(),
        transport: Transports::WebSocket,
        keep_failed: false,
        bounds: Bounds::default(),
        patience: Patience::default(),
    }
}

pub fn frame(json: serde_json::Value) -> ServerFrame {
    serde_json::from_value(json).expect("a frame")
}

pub fn welcome() -> ServerFrame {
    frame(json!({
        "type": "welcome", "ref": 0, "user": {"id": "alice"}, "session": "s", "node": "n", "server": "roundtable/1",
        "heartbeat_s": 25, "reconnect": {"jitter_ms": 1000, "backoff_max_ms": 8000},
        "limits": {"frame_bytes": 65536, "text_chars": 4000, "data_bytes": 4096, "inflight": 4, "subscriptions": 1000},
    }))
}

pub fn draft(room: &str, id: &str, text: &str) -> Draft {
    Draft { room: room.into(), id: id.into(), text: text.into(), reply_to: None, data: None, at_ms: 0 }
}

pub fn broken() -> Ending {
    Ending::broken("cut")
}

/// One room's log.
#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    cursor: Option<u64>,
}

/// The server, the network and the application around one core.
pub struct World {
    pub core: Core,
    pub chance: Chance,
    pub now: Duration,
    connection: Option<u64>,
    opening: Option<u64>,
    up: VecDeque<ClientFrame>,
    down: VecDeque<ServerFrame>,
    logs: BTreeMap<String, Log>,
    replay: u64,
    others: u64,
    /// What the application was told, by room, and not taken yet.
    pub waiting: BTreeMap<String, VecDeque<Told>>,
    pub taken: BTreeMap<String, Vec<u64>>,
    pub done: BTreeMap<u64, Result<Answer, Error>>,
    pub stored: Vec<StoredMessage>,
    pub faults: bool,
    pub resets: u64,
    pub pauses: u64,
}

impl World {
    pub fn new(seed: u64, setup: Setup, stored: Vec<StoredMessage>) -> Self {
        Self {
            core: Core::new(setup),
            chance: Chance::new(seed),
            now: Duration::ZERO,
            connection: None,
            opening: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            logs: BTreeMap::new(),
            replay: 30,
            others: 0,
            waiting: BTreeMap::new(),
            taken: BTreeMap::new(),
            done: BTreeMap::new(),
            stored,
            faults: true,
            resets: 0,
            pauses: 0,
        }
    }

    pub fn core(&mut self) -> &mut Core {
        let chance = self.chance.part();
        self.core.at(self.now, chance)
    }

    /// Does what the core wants done.
    pub fn settle(&mut self) {
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Open { connection, .. } => {
                    self.cut_wires();
                    self.opening = Some(connection);
                }
                Output::Write { connection, frame } => {
                    if self.connection == Some(connection) {
                        self.up.push_back(frame);
                        self.core().written(connection, 1);
                    }
                }
                Output::Close { .. } => self.cut_wires(),
                Output::WantToken { attempt, why } => self.core().token_came(attempt, why, Ok(None)),
                Output::Load { .. } => {
                    let stored = self.stored.clone();
                    self.core().loaded(stored);
                }
                Output::Put(message) => {
                    self.stored.retain(|other| other.id != message.id || other.room != message.room);
                    self.stored.push(message);
                }
                Output::Remove { room, id, .. } => {
                    self.stored.retain(|other| other.id != id || other.room != room);
                }
                Output::Done { ticket, result } => {
                    assert!(self.done.insert(ticket, result).is_none(), "{ticket} twice")
                }
                Output::Told { room, told } => self.waiting.entry(room).or_default().extend(told),
                Output::Void { room } => drop(self.waiting.remove(&room)),
                Output::Room { state, .. } => self.pauses += u64::from(state.status == crate::core::Status::Paused),
                Output::State(_) | Output::End { .. } | Output::Event(_) => {}
            }
        }
    }

    fn cut_wires(&mut self) {
        (self.connection, self.opening) = (None, None);
        self.up.clear();
        self.down.clear();
        for log in self.logs.values_mut() {
            log.cursor = None;
        }
    }

    fn cut(&mut self) {
        if let Some(connection) = self.connection.take().or(self.opening.take()) {
            self.cut_wires();
            let code = [1006, 1006, 4200, 4201, 4100, 1011][self.chance.below(6) as usize];
            let ending = Ending { code, ..broken() };
            self.core().ended(connection, &ending);
        }
    }

    pub fn append(&mut self, room: &str, user: &str, id: &str, text: &str) -> u64 {
        let log = self.logs.entry(room.into()).or_default();
        let seq = log.entries.len() as u64 + 1;
        let entry = json!({"seq": seq, "kind": "message", "user": user, "at": "t", "id": id, "text": text});
        log.entries.push(serde_json::from_value(entry).expect("an entry"));
        seq
    }

    pub fn log(&self, room: &str) -> Vec<(String, String)> {
        let entries = self.logs.get(room).map_or(&[][..], |log| &log.entries);
        entries.iter().map(|entry| (entry.user.clone(), entry.text().unwrap_or_default().to_owned())).collect()
    }

    /// The server shows what is new to its cursors.
    fn show(&mut self) {
        for (room, log) in &mut self.logs {
            let Some(at) = log.cursor else { continue };
            let events: Vec<_> = log.entries.iter().skip(at as usize).take(7).cloned().collect();
            if events.is_empty() {
                continue;
            }
            log.cursor = Some(at + events.len() as u64);
            let events = ServerFrame::Events { room: room.clone(), events };
            // What the protocol rules out, and a client must not take for the next entry all the same.
            if self.faults && self.chance.one_in(12) {
                self.down.push_back(events.clone());
            }
            if !(self.faults && self.chance.one_in(40)) {
                self.down.push_back(events);
            }
        }
    }

    fn serve(&mut self, asked: ClientFrame) {
        let refuse = self.faults && self.chance.one_in(6);
        let answer = match asked {
            ClientFrame::Hello { .. } => welcome(),
            ClientFrame::Ping { r#ref } => frame(json!({"type": "pong", "ref": r#ref, "at": "t"})),
            ClientFrame::Subscribe { r#ref, room, after, last } => {
                if refuse {
                    return self.refuse(r#ref);
                }
                let log = self.logs.entry(room.clone()).or_default();
                let head = log.entries.len() as u64;
                let start = match (after, last) {
                    (Some(after), _) => after,
                    (None, Some(last)) => head - last.min(head),
                    (None, None) => head,
                };
                let reset = start > head || head - start > self.replay;
                log.cursor = Some(if reset { head } else { start });
                let verdict = if reset {
                    "reset"
                } else if start == head {
                    "live"
                } else {
                    "replay"
                };
                frame(json!({"type": "subscribed", "ref": r#ref, "room": room, "head": head, "verdict": verdict,
                    "role": "member", "online": 1}))
            }
            ClientFrame::Unsubscribe { r#ref, room } => {
                self.logs.entry(room).or_default().cursor = None;
                frame(json!({"type": "ok", "ref": r#ref}))
            }
            ClientFrame::Send { r#ref, room, id, text, .. } => {
                // Refused, and stored or not: unknown.
                if refuse && self.chance.one_in(2) {
                    return self.refuse(r#ref);
                }
                let known = self.logs.get(&room).and_then(|log| log.entries.iter().find(|entry| is(entry, &id)));
                let before = known.map(|entry| entry.seq);
                let seq = before.unwrap_or_else(|| self.append(&room, "alice", &id, &text));
                if refuse {
                    return self.refuse(r#ref);
                }
                frame(json!({"type": "sent", "ref": r#ref, "room": room, "id": id, "seq": seq, "at": "t",
                    "duplicate": before.is_some()}))
            }
            ClientFrame::History { r#ref, room, after, limit, .. } => {
                if refuse {
                    return self.refuse(r#ref);
                }
                let log = self.logs.entry(room.clone()).or_default();
                let (after, limit) = (after.unwrap_or(0) as usize, limit.unwrap_or(50).min(20) as usize);
                let events: Vec<_> = log.entries.iter().skip(after).take(limit).cloned().collect();
                let more = after + events.len() < log.entries.len();
                ServerFrame::History(crate::frames::History { r#ref, room, events, more })
            }
            other => panic!("{other:?}"),
        };
        self.down.push_back(answer);
    }

    fn refuse(&mut self, number: Option<u64>) {
        let code = ["unavailable", "overloaded", "rate_limited"][self.chance.below(3) as usize];
        let refusal = json!({"type": "error", "ref": number, "code": code, "message": "m", "retryable": true,
            "retry_after_ms": 20});
        self.down.push_back(frame(refusal));
    }

    /// The application takes one entry, and holds it against what it has.
    fn take(&mut self, room: &str) {
        let Some(told) = self.waiting.get_mut(room).and_then(VecDeque::pop_front) else { return };
        let taken = self.taken.entry(room.into()).or_default();
        let last = taken.last().copied().unwrap_or(0);
        match told {
            Told::Entry(entry) => {
                assert_eq!(entry.seq, last + 1, "{room}: {:?}", entry);
                let seq = entry.seq;
                taken.push(seq);
                self.core().taken(room, 1, seq);
            }
            Told::Reset { from, head } => {
                assert!(from == last && head > last, "{room}: a reset from {from} to {head} behind {last}");
                taken.extend(last + 1..=head);
                self.resets += 1;
            }
        }
    }

    /// Something happens.
    pub fn step(&mut self, rooms: &[&str]) {
        let room = rooms[self.chance.below(rooms.len() as u64) as usize];
        match self.chance.below(if self.faults { 100 } else { 90 }) {
            0..30 => {
                if let Some(frame) = self.up.pop_front() {
                    self.serve(frame);
                }
            }
            30..60 => {
                if let (Some(frame), Some(connection)) = (self.down.pop_front(), self.connection) {
                    self.core().frame(connection, frame);
                }
            }
            60..70 => self.show(),
            70..80 => self.take(room),
            80..84 => {
                if let Some(connection) = self.opening.take() {
                    self.connection = Some(connection);
                    self.core().opened(connection);
                }
            }
            84..90 => {
                let wait = self.core.wake_at().map_or(Duration::ZERO, |at| at.saturating_sub(self.now));
                self.now += wait.min(Duration::from_millis(300));
                self.core();
            }
            90..92 => self.cut(),
            _ => {
                self.others += 1;
                let id = format!("other-{}", self.others);
                self.append(room, "bob", &id, &id);
            }
        }
        self.settle();
    }

    /// Everything goes well until nothing moves any more.
    pub fn calms_down(&mut self, rooms: &[&str]) {
        self.faults = false;
        for _ in 0..200_000 {
            self.step(rooms);
            let quiet = self.core.outbox().next().is_none()
                && self.waiting.values().all(VecDeque::is_empty)
                && rooms.iter().all(|room| {
                    let head = self.logs.get(*room).map_or(0, |log| log.entries.len());
                    self.taken.get(*room).map_or(0, Vec::len) == head
                });
            if quiet {
                return;
            }
        }
        panic!("does not come to rest: {:?}, {:?}", self.core.state(), self.core.outbox().collect::<Vec<_>>());
    }
}

fn is(entry: &Entry, id: &str) -> bool {
    matches!(&entry.kind, crate::frames::Kind::Message(message) if entry.user == "alice" && message.id == id)
}

/// Any number of people may have a bad day: each seed is another one.
#[test]
fn whatever_the_connection_does_each_entry_comes_once_in_order_and_each_message_is_sent_once() {
    let rooms = ["red", "blue"];
    let (mut resets, mut pauses) = (0, 0);
    for seed in 1..=300 {
        let mut setup = setup();
        setup.user = Some("alice".into());
        setup.bounds.queued_entries = 12;
        let mut world = World::new(seed, setup.clone(), Vec::new());
        world.append("red", "bob", "first", "first");
        world.core().connect(1);
        for (at, room) in rooms.iter().enumerate() {
            let wanted = Subscribe::after(0);
            // In one room what a reset leaves out is told as such, in the other it is read.
            world.core().subscribe(room, if at == 0 { wanted } else { wanted.filled() }, 2 + at as u64);
        }
        world.settle();
        let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for n in 0..3000u64 {
            world.step(&rooms);
            if n % 60 == 0 {
                let room = rooms[world.chance.below(2) as usize];
                let text = format!("{n}");
                world.core().send(draft(room, &text, &text), 100 + n);
                world.settle();
                said.entry(room).or_default().push(text);
            }
            // The process ends, and another one begins with what it left: its unsent messages, and how far it was.
            if n % 1000 == 499 {
                let stored = std::mem::take(&mut world.stored);
                world.cut_wires();
                world.waiting.clear();
                world.core = Core::new(setup.clone());
                world.core().connect(10_000 + n);
                for (at, room) in rooms.iter().enumerate() {
                    let seq = world.taken.get(*room).and_then(|taken| taken.last()).copied().unwrap_or(0);
                    let wanted = Subscribe::after(seq);
                    world.core().subscribe(
                        room,
                        if at == 0 { wanted } else { wanted.filled() },
                        20_000 + n + at as u64,
                    );
                }
                world.stored = stored;
                world.settle();
            }
        }
        world.calms_down(&rooms);
        for room in rooms {
            let mine: Vec<String> =
                world.log(room).into_iter().filter(|(user, _)| user == "alice").map(|(_, text)| text).collect();
            assert_eq!(
                mine,
                *said.entry(room).or_default(),
                "seed {seed}: {room}, in the order in which they were given"
            );
        }
        assert!(world.stored.is_empty(), "seed {seed}: {:?}", world.stored);
        let filled = world.taken.get("blue").map_or(0, Vec::len);
        assert_eq!(filled, world.log("blue").len());
        (resets, pauses) = (resets + world.resets, pauses + world.pauses);
    }
    assert!(resets > 10 && pauses > 10, "{resets} resets, {pauses} pauses: the seeds are too kind");
}
