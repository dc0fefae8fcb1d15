//! One person of the crowd: where its connection stands, what it still waits for, and how far it has read.
//!
//! Invariants: a message is in `pending` from its first transmission until its ack or final refusal, in the order of the
//! numbers; a cursor's `seen` is the seq of the last entry that was shown without a gap.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A message that was sent and not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub message: u32,
    pub room: u32,
    /// When it was due, by the monotonic clock.
    pub due_ns: u64,
    /// When it went out last; `None`: it has to go out again.
    pub out: Option<Instant>,
}

/// A message that is due and has not been sent.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub room: u32,
    pub due_ns: u64,
}

/// What is missing between where a cursor was and where it was set to: read from the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub after: u32,
    pub until: u32,
}

#[derive(Clone, Debug)]
pub struct Cursor {
    pub room: u32,
    /// `None` until the first `subscribed`.
    pub seen: Option<u32>,
    /// The head that the last `subscribed` told of.
    pub goal: u32,
    pub hole: Option<Hole>,
}

impl Cursor {
    /// Whether it has everything up to its goal.
    pub fn caught_up(&self) -> bool {
        self.hole.is_none() && self.seen.is_some_and(|seen| seen >= self.goal)
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// None; one is tried at a time that is noted elsewhere.
    Away,
    /// Until `welcome`.
    Greeting,
    /// Until all joins are answered.
    Joining,
    /// Until all subscriptions are answered.
    Subscribing,
    Live,
}

#[derive(Debug)]
pub struct Someone {
    /// Over all workers.
    pub number: u32,
    pub member_of: Vec<u32>,
    pub cursors: Vec<Cursor>,
    pub conn: Option<usize>,
    pub stage: Stage,
    /// Since its stage began.
    pub since: Instant,
    pub next_server: usize,
    /// Connections begun so far: tells the present one from an earlier one with the same number.
    pub visits: u32,
    /// Connections that failed since the last one that came in.
    pub attempts: u32,
    /// It was live once.
    pub entered: bool,
    /// Its memberships stand (they outlive connections).
    pub joined: bool,
    /// Requests of the entrance asked and answered in this stage.
    pub asked: usize,
    pub answered: usize,
    pub pending: VecDeque<Pending>,
    pub queue: VecDeque<Due>,
    /// Since it lost its last connection, until it has everything again.
    pub away_since: Option<Instant>,
    /// That absence was its own doing, so what it missed meanwhile says nothing about deliveries.
    pub on_leave: bool,
    /// What the server asked for before it closed.
    pub reconnect_after: Option<Duration>,
    pub next_room: usize,
}

impl Someone {
    pub fn new(number: u32, member_of: Vec<u32>, watches: &[u32], first_server: usize) -> Self {
        let cursor = |&room: &u32| Cursor { room, seen: None, goal: 0, hole: None };
        Self {
            number,
            member_of,
            cursors: watches.iter().map(cursor).collect(),
            conn: None,
            stage: Stage::Away,
            since: Instant::now(),
            next_server: first_server,
            visits: 0,
            attempts: 0,
            entered: false,
            joined: false,
            asked: 0,
            answered: 0,
            pending: VecDeque::new(),
            queue: VecDeque::new(),
            away_since: None,
            on_leave: false,
            reconnect_after: None,
            next_room: 0,
        }
    }

    pub fn live(&self) -> bool {
        self.stage == Stage::Live
    }

    pub fn caught_up(&self) -> bool {
        self.cursors.iter().all(Cursor::caught_up)
    }

    pub fn take_pending(&mut self, message: u32) -> Option<Pending> {
        let place = self.pending.iter().position(|pending| pending.message == message)?;
        self.pending.remove(place)
    }
}
