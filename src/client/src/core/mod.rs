//! The client without anything outside of it: whoever owns a [`Core`] tells it what time it is and what came in, and does
//! what it puts out. No clock, no socket, no randomness of its own, so that what is tested is what runs.
//!
//! Each call begins with [`Core::at`]; afterwards [`Core::next_output`] is asked until it has nothing more, and the core is
//! called again at [`Core::wake_at`] at the latest.

mod connection;
mod cursor;
mod link;
mod outbox;
mod requests;
mod rooms;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use types::{
    Act, Answer, Bounds, Change, Draft, Event, OutboxItem, OutboxState, Output, Patience, Phase, RoomState, Setup,
    State, Status, StoredMessage, Subscribe, Ticket, TokenReason, Told, Transport, Transports,
};

use crate::closing::Pace;
use crate::error::Error;
use crate::frames::{Limits, User};
use cursor::Cursor;
use link::Link;
use outbox::Outbox;
use requests::Jobs;

/// What has its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next attempt to connect; of an older generation it means nothing.
    Connect(u64, TokenReason),
    Job(u64),
    Place(String, u64),
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    setup: Setup,
    now: Duration,
    chance: f64,
    out: VecDeque<Output>,
    state: State,
    link: Option<Link>,
    /// The link takes requests.
    serving: bool,
    /// Raised whenever what is under way must come to nothing.
    generation: u64,
    token: Option<String>,
    address: usize,
    pace: Pace,
    online_since: Option<Duration>,
    attempt: u32,
    /// Attempts by WebSocket in a row that came to nothing.
    blocked: u32,
    socket_works: bool,
    rejections: u32,
    resumed: bool,
    user: Option<User>,
    limits: Option<Limits>,
    waiters: Vec<Ticket>,
    pings: Vec<Ticket>,
    /// Why nothing can be asked any more.
    closed: Option<Error>,
    rooms: BTreeMap<String, Cursor>,
    jobs: Jobs,
    outbox: Outbox,
    timers: BTreeSet<(Duration, Timer)>,
    /// When it is looked after the connection next.
    tick_at: Option<Duration>,
}

impl Core {
    pub fn new(setup: Setup) -> Self {
        let state = State {
            phase: Phase::Idle,
            transport: None,
            node: None,
            draining: false,
            lag: None,
            slow: false,
            catching_up: 0,
            attempt: 0,
            retry_in: None,
            error: None,
        };
        let mut core = Self {
            token: setup.token.clone(),
            now: Duration::ZERO,
            chance: 0.0,
            out: VecDeque::new(),
            state,
            link: None,
            serving: false,
            generation: 0,
            address: 0,
            pace: connection::START_PACE,
            online_since: None,
            attempt: 0,
            blocked: 0,
            socket_works: false,
            rejections: 0,
            resumed: false,
            user: None,
            limits: None,
            waiters: Vec::new(),
            pings: Vec::new(),
            closed: None,
            rooms: BTreeMap::new(),
            jobs: Jobs::default(),
            outbox: Outbox::default(),
            timers: BTreeSet::new(),
            tick_at: None,
            setup,
        };
        if let Some(user) = core.setup.user.clone() {
            core.open_outbox(&user);
        }
        core
    }

    /// What time it is, by a clock that nobody sets, and a random number from 0 up to 1. Comes before every call, and does
    /// what had its time meanwhile.
    pub fn at(&mut self, now: Duration, chance: f64) -> &mut Self {
        self.now = self.now.max(now);
        self.chance = chance;
        self.time_passed();
        self
    }

    /// When `at` is due again, whatever else happens.
    pub fn wake_at(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.tick_at).min()
    }

    pub fn next_output(&mut self) -> Option<Output> {
        loop {
            // What the link has to write goes in the order of everything else.
            self.flush_link();
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            if self.link.is_none() || self.out.is_empty() {
                return None;
            }
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Who one is; known with the first connection.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    pub fn room(&self, room: &str) -> RoomState {
        self.rooms.get(room).map(|cursor| cursor.state.clone()).unwrap_or_default()
    }

    /// By `close`.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Which of the addresses is the present one.
    pub fn address(&self) -> usize {
        self.address % self.setup.addresses.max(1)
    }

    /// Of the present connection.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn put(&mut self, output: Output) {
        self.flush_link();
        self.out.push_back(output);
    }

    fn flush_link(&mut self) {
        if let Some(link) = &mut self.link {
            let connection = link.number;
            while let Some(frame) = link.next_out() {
                self.out.push_back(Output::Write { connection, frame });
            }
        }
    }

    /// Changes what is shown of the connection, where it changes.
    fn tell(&mut self, change: impl FnOnce(&mut State)) {
        let mut next = self.state.clone();
        change(&mut next);
        let behind = |cursor: &&Cursor| matches!(cursor.state.status, Status::Waiting | Status::CatchingUp);
        next.catching_up = self.rooms.values().filter(behind).count();
        if next != self.state {
            self.state = next.clone();
            self.put(Output::State(next));
        }
    }

    fn time_passed(&mut self) {
        self.tick();
        while let Some((at, timer)) = self.timers.first().cloned()
            && at <= self.now
        {
            self.timers.remove(&(at, timer.clone()));
            match timer {
                Timer::Connect(generation, why) => {
                    if generation == self.generation {
                        self.start(why);
                    }
                }
                Timer::Job(number) => self.job_time(number),
                Timer::Place(room, placing) => self.place_again(&room, placing),
            }
        }
    }
}
