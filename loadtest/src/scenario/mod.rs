//! The scenarios of `run`: each is a population and a load, and some are a series of them.

pub mod command;
mod durable;
pub mod population;
mod ramp;

use clap::ValueEnum;

use crate::crowd::job::{Load, Population, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Connect and subscribe at rest: handshakes and memory of a session
    Idle,
    /// One room, many readers
    Fanout,
    /// Many small rooms
    Rooms,
    /// Sends acked a second and how long an ack takes, at several numbers of rooms
    Durable,
    /// A day in a team: rooms of all sizes, typing, reading, scrolling back, connections that drop
    Mixed,
    /// Everybody drops and resumes at once
    Storm,
    /// The mixed load for hours: memory and latency over time
    Soak,
    /// Raises the rate until it is too much, and reports the knee
    Ramp,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Durable => "durable",
            Self::Mixed => "mixed",
            Self::Storm => "storm",
            Self::Soak => "soak",
            Self::Ramp => "ramp",
        }
    }
}

/// How much of it; every scenario has defaults of its own.
#[derive(Clone, Debug)]
pub struct Size {
    pub connections: usize,
    pub rooms: usize,
    pub sends_per_s: f64,
    pub warmup_s: f64,
    pub seconds: f64,
    pub text_bytes: usize,
    pub window: usize,
    pub http_per_s: f64,
    pub answer_within_s: f64,
    pub patience_s: f64,
}

/// Requests of one connection that may be unanswered by default (`limits.inflight`).
pub const WINDOW: usize = 64;
/// Longer than the server's own deadline for a request.
pub const ANSWER_WITHIN_S: f64 = 8.0;
pub const PATIENCE_S: f64 = 30.0;
const FANOUT_SENDERS: usize = 4;
const ROOM_READERS: usize = 5;
const CIRCLE: usize = 100;

impl Size {
    /// What `scenario` does when nothing else is asked for.
    pub fn of(scenario: Scenario) -> Self {
        let size = |connections, rooms, sends_per_s, seconds| Self {
            connections,
            rooms,
            sends_per_s,
            warmup_s: 3.0,
            seconds,
            text_bytes: 100,
            window: WINDOW,
            http_per_s: 0.0,
            answer_within_s: ANSWER_WITHIN_S,
            patience_s: PATIENCE_S,
        };
        match scenario {
            Scenario::Idle => Self { warmup_s: 0.0, ..size(10_000, 0, 0.0, 10.0) },
            Scenario::Fanout => size(1_000, 1, 50.0, 20.0),
            Scenario::Rooms => size(0, 200, 2_000.0, 20.0),
            Scenario::Durable => size(200, 0, f64::INFINITY, 10.0),
            Scenario::Mixed => size(500, 0, 200.0, 30.0),
            Scenario::Storm => size(10_000, 0, 200.0, 40.0),
            Scenario::Soak => size(500, 0, 200.0, 4.0 * 3_600.0),
            Scenario::Ramp => Self { warmup_s: 2.0, ..size(0, 200, 500.0, 8.0) },
        }
    }

    /// A load of one step with nothing but sends.
    fn load(&self) -> Load {
        Load {
            warmup_s: self.warmup_s,
            steps: vec![Step { seconds: self.seconds, sends_per_s: self.sends_per_s }],
            text_bytes: self.text_bytes,
            window: self.window,
            http_per_s: self.http_per_s,
            answer_within_s: self.answer_within_s,
            patience_s: self.patience_s,
            ..Load::default()
        }
    }
}

/// The population and load of a scenario that is a single run.
pub fn plan(scenario: Scenario, prefix: &str, size: &Size) -> (Population, Load) {
    match scenario {
        Scenario::Idle => (population::circles(prefix, size.connections, circle(size)), size.load()),
        Scenario::Fanout => {
            let readers = size.connections / size.rooms.max(1);
            (population::audiences(prefix, size.rooms, readers, FANOUT_SENDERS), size.load())
        }
        Scenario::Rooms | Scenario::Ramp => {
            let readers = if size.connections == 0 { ROOM_READERS } else { size.connections.div_ceil(size.rooms) };
            (population::audiences(prefix, size.rooms, readers, 1), size.load())
        }
        Scenario::Durable => (population::writers(prefix, size.rooms, size.connections), size.load()),
        Scenario::Storm => {
            let load = Load { storms_s: vec![(size.seconds / 4.0).min(10.0)], ..size.load() };
            (population::circles(prefix, size.connections, circle(size)), load)
        }
        Scenario::Mixed | Scenario::Soak => mixed(prefix, size),
    }
}

fn circle(size: &Size) -> usize {
    if size.rooms == 0 { CIRCLE } else { size.connections.div_ceil(size.rooms) }
}

/// A team at work: see [`population::team`]; beside sends a tenth as much typing, a quarter as much reading, a few people
/// who scroll back, and connections that drop without a word.
pub fn mixed(prefix: &str, size: &Size) -> (Population, Load) {
    let rooms = if size.rooms == 0 { (size.connections / 5).max(1) } else { size.rooms };
    let (population, room_weights) = population::team(prefix, size.connections, rooms);
    let load = Load {
        room_weights,
        typing_per_s: size.sends_per_s / 10.0,
        reads_per_s: size.sends_per_s / 4.0,
        history_per_s: size.sends_per_s / 20.0,
        reconnects_per_s: size.connections as f64 / 250.0,
        ..size.load()
    };
    (population, load)
}
