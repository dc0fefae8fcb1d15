//! Plays a worker's people: brings them in and back ([`entering`]), sends what is due ([`sending`]), reads what comes
//! ([`watching`]) and keeps to the schedule ([`playing`]).
//!
//! Invariant: nothing here waits for the server: what is due is noted when it is due, whatever the connections do.

mod entering;
mod playing;
mod sending;
mod watching;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use roundtable_client::scan::{self, types};

use crate::checker::faults::Faults;
use crate::checker::ledger::Ledger;
use crate::crowd::news::{Interval, Job, Totals};
use crate::crowd::person::Someone;
use crate::crowd::schedule::{self, Stream};
use crate::crowd::tally::Tally;
use crate::fail::Result;
use crate::net::fleet::{Fleet, Lost, Scenario};
use crate::net::token::Mint;
use crate::sys;

/// What a request's `ref` says besides which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Ask {
    Hello,
    Join,
    Subscribe,
    Send,
    History,
    Hole,
    Probe,
}

const ASK_SHIFT: u32 = 40;

impl Ask {
    fn number(self, n: u64) -> u64 {
        (self as u64) << ASK_SHIFT | n
    }

    fn of(number: u64) -> Option<(Self, u64)> {
        let all = [Self::Hello, Self::Join, Self::Subscribe, Self::Send, Self::History, Self::Hole, Self::Probe];
        let ask = *all.get((number >> ASK_SHIFT) as usize)?;
        Some((ask, number & ((1 << ASK_SHIFT) - 1)))
    }
}

/// Something to do later for one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Connect,
    /// A message that was refused for now.
    Resend(u32),
    /// Any other request that was refused for now, on the connection of this visit.
    AskAgain(u64, u32),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Entering,
    /// Everybody is in; the load has not begun.
    Waiting,
    Running,
    Settling,
    Finishing,
}

/// A `history` request of the schedule that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Page {
    due_ns: u64,
    room: u32,
    /// Entries below this were asked for; whoever asked has seen them all.
    before: u32,
}

/// By a number of their own.
type Pages = HashMap<u64, Page, FixedState>;

pub struct Player {
    job: Job,
    mint: Mint,
    /// One moment on both clocks.
    base: (Instant, u64),
    begin_ns: u64,
    phase: Phase,
    people: Vec<Someone>,
    by_conn: Vec<u32>,
    room_of: HashMap<Vec<u8>, u32, FixedState>,
    /// People by room, of those who may send there, and whose turn it is.
    members: Vec<Vec<u32>>,
    next_member: Vec<usize>,
    /// Rooms that somebody here may send to, with the sum of the weights up to each.
    sendable: Vec<(f64, u32)>,
    next_sendable: usize,
    ledger: Ledger,
    faults: Faults,
    tally: Tally,
    wakes: BinaryHeap<Reverse<(Instant, u32, Wake)>>,
    sends: Stream,
    typing: Stream,
    reads: Stream,
    history: Stream,
    reconnects: Stream,
    /// Latest first.
    storms: Vec<f64>,
    /// In a closed loop: everybody's window was filled for the first time.
    filled: bool,
    pages: Pages,
    next_page: u64,
    chance: fastrand::Rng,
    jitter: Duration,
    backoff_most: Duration,
    /// People never yet brought in, and how many are on their way for the first time.
    next_newcomer: usize,
    coming_in: usize,
    entered: usize,
    /// Sends due and not answered.
    waiting: u64,
    last_heard: Instant,
    last_loss: Option<String>,
    last_scan: Instant,
    failed: Option<String>,
    settle_until: Option<Instant>,
    /// Whether settling was given any time.
    settle_had_time: bool,
    heads: Vec<u32>,
    finish_until: Option<Instant>,
    /// Messages sent once more at the end, to hear the same seq again: `None` until then.
    probes: Option<u64>,
    json: Vec<u8>,
}

impl Player {
    pub fn new(job: Job) -> Self {
        let rooms = job.rooms.len();
        let servers = job.target.servers.len().max(1);
        let people: Vec<Someone> = job
            .people
            .iter()
            .map(|(number, person)| {
                Someone::new(*number, person.member_of.clone(), &person.watches, *number as usize % servers)
            })
            .collect();
        let mut members = vec![Vec::new(); rooms];
        for (i, someone) in people.iter().enumerate() {
            for &room in &someone.member_of {
                members[room as usize].push(i as u32);
            }
        }
        let mut sum = 0.0;
        let mut sendable = Vec::new();
        for (room, members) in members.iter().enumerate() {
            if !members.is_empty() {
                sum += job.load.room_weights.get(room).copied().unwrap_or(1.0).max(0.0);
                sendable.push((sum, room as u32));
            }
        }
        let load = &job.load;
        let length = schedule::length_s(load);
        let steady = |per_s: f64| Stream::steady(per_s, 0.0, length);
        let mut storms: Vec<f64> = load.storms_s.iter().map(|at| at + load.warmup_s).collect();
        storms.sort_by(|a, b| b.total_cmp(a));
        let now = Instant::now();
        Self {
            mint: Mint::new(&job.target.secret),
            base: (now, sys::monotonic_ns()),
            begin_ns: u64::MAX,
            phase: Phase::Entering,
            by_conn: Vec::new(),
            room_of: job.rooms.iter().enumerate().map(|(i, room)| (room.clone().into_bytes(), i as u32)).collect(),
            next_member: vec![0; rooms],
            members,
            sendable,
            next_sendable: 0,
            ledger: Ledger::new(rooms),
            faults: Faults::default(),
            tally: Tally::new(load.steps.len()),
            wakes: BinaryHeap::new(),
            sends: Stream::sends(load),
            typing: steady(load.typing_per_s),
            reads: steady(load.reads_per_s),
            history: steady(load.history_per_s),
            reconnects: steady(load.reconnects_per_s),
            storms,
            filled: false,
            pages: Pages::default(),
            next_page: 0,
            chance: fastrand::Rng::with_seed(u64::from(job.worker) + 1),
            jitter: Duration::from_millis(500),
            backoff_most: Duration::from_secs(10),
            next_newcomer: 0,
            coming_in: 0,
            entered: 0,
            waiting: 0,
            last_heard: now,
            last_loss: None,
            last_scan: now,
            failed: None,
            settle_until: None,
            settle_had_time: false,
            heads: Vec::new(),
            finish_until: None,
            probes: None,
            json: Vec::new(),
            people,
            job,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// People who came in at least once, and all.
    pub fn entered(&self) -> (usize, usize) {
        (self.entered, self.people.len())
    }

    /// Why the target can't be worked with, once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failed.take()
    }

    fn fail(&mut self, why: String) {
        if self.failed.is_none() {
            self.failed = Some(why);
        }
    }

    fn ns(&self, at: Instant) -> u64 {
        self.base.1 + at.saturating_duration_since(self.base.0).as_nanos() as u64
    }

    /// Seconds of the load at a moment of the monotonic clock; negative before it begins.
    fn second(&self, ns: u64) -> f64 {
        if self.begin_ns == u64::MAX { -1.0 } else { (ns as f64 - self.begin_ns as f64) / 1e9 }
    }

    fn step_at(&self, ns: u64) -> Option<usize> {
        schedule::step_at(&self.job.load, self.second(ns))
    }

    /// What happened since the last call, and how things stand.
    pub fn interval(&mut self) -> Interval {
        let mut interval = self.tally.interval();
        interval.connected = self.people.iter().filter(|someone| someone.live()).count() as u64;
        interval.waiting = self.waiting;
        let oldest = |someone: &Someone| {
            let pending = someone.pending.iter().map(|pending| pending.due_ns);
            pending.chain(someone.queue.front().map(|due| due.due_ns)).min()
        };
        let oldest = self.people.iter().filter_map(oldest).min();
        interval.oldest_due_s = oldest.map(|ns| self.second(ns));
        interval
    }

    /// Sends that are out and not answered.
    pub fn unanswered(&self) -> u64 {
        self.people.iter().map(|someone| someone.pending.len() as u64).sum()
    }

    pub fn totals(&self) -> Totals {
        Totals {
            steps: self.tally.steps(),
            latencies: self.tally.latencies(),
            counts: self.tally.counts(),
            faults: self.faults.clone(),
            observed: self.tally.observed,
            observers: self.people.iter().map(|someone| someone.cursors.len() as u64).sum(),
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn person_at(&self, conn: usize) -> Option<usize> {
        let person = *self.by_conn.get(conn)? as usize;
        (self.people.get(person)?.conn == Some(conn)).then_some(person)
    }

    fn room_in(&self, json: &[u8]) -> Option<u32> {
        self.room_of.get(scan::string(json, &scan::ROOM)?).copied()
    }

    fn wake(&mut self, at: Instant, person: usize, what: Wake) {
        self.wakes.push(Reverse((at, person as u32, what)));
    }
}

impl Scenario for Player {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        self.last_heard = Instant::now();
        if let Some(person) = self.person_at(conn) {
            self.greet(fleet, person);
        }
        Ok(())
    }

    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        let now = Instant::now();
        self.last_heard = now;
        let Some(person) = self.person_at(conn) else { return Ok(()) };
        let asked = || scan::number(json, &scan::REF).and_then(Ask::of);
        match scan::string(json, &scan::TYPE).unwrap_or_default() {
            types::EVENTS => self.events(fleet, person, json, now),
            types::SENT => match asked() {
                Some((Ask::Send, message)) => self.sent(fleet, person, message as u32, json, now),
                Some((Ask::Probe, message)) => self.probed(person, message as u32, json),
                _ => self.tally.error("unexpected_answer"),
            },
            types::WELCOME => self.welcomed(fleet, person, json, now),
            types::OK => {
                if let Some((Ask::Join, _)) = asked() {
                    self.joined(fleet, person);
                }
            }
            types::SUBSCRIBED => {
                if let Some((Ask::Subscribe, cursor)) = asked() {
                    self.subscribed(fleet, person, cursor as usize, json, now);
                }
            }
            types::HISTORY => match asked() {
                Some((Ask::Hole, cursor)) => self.hole_page(fleet, person, cursor as usize, json, now),
                Some((Ask::History, page)) => self.history_page(page, json, now),
                _ => self.tally.error("unexpected_answer"),
            },
            types::ERROR => self.refused(fleet, person, asked(), json, now)?,
            types::NOTICE => {
                let after = scan::number(json, &scan::RECONNECT_AFTER).map(Duration::from_millis);
                self.people[person].reconnect_after = after.or(self.people[person].reconnect_after);
            }
            types::PRESENCE | types::TYPING | types::READ | types::PONG => {}
            types::UNSUBSCRIBED => self.tally.error("unsubscribed"),
            other => {
                let what = String::from_utf8_lossy(other).into_owned();
                self.tally.error(&format!("frame_{what}"));
            }
        }
        Ok(())
    }

    fn lost(&mut self, fleet: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        if let Some(person) = self.person_at(conn) {
            self.left(fleet, person, &why);
        }
        Ok(())
    }
}
