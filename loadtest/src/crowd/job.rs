//! What a run is to do, in plain data: it goes to the worker processes as JSON and into the report's settings.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where the load goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// What the report calls it: `3 nodes, PostgreSQL`.
    pub name: String,
    /// Where clients connect, in turn. A node that isn't up is tried and passed over, so nodes that come later belong in
    /// the list from the start.
    pub servers: Vec<SocketAddr>,
    /// `auth.jwt.secret`, with which the run mints its users' tokens.
    pub secret: String,
}

/// Who takes part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Population {
    /// Room ids; everything else names a room by its place in here. They are made (public) before anybody enters.
    pub rooms: Vec<String>,
    pub people: Vec<Person>,
}

/// One connection with a user of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Person {
    /// Rooms it is a member of and may send to.
    pub member_of: Vec<u32>,
    /// Rooms whose every entry it wants to see.
    pub watches: Vec<u32>,
}

/// What people do, each stream on a schedule that waits for nobody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    pub warmup_s: f64,
    /// Length of the measured part; the rate of sends may differ between its steps.
    pub steps: Vec<Step>,
    /// Bytes of a message's text.
    pub text_bytes: usize,
    /// Unanswered sends of one connection, below `limits.inflight`.
    pub window: usize,
    /// Rooms are sent to in proportion to these; empty: alike.
    pub room_weights: Vec<f64>,
    pub typing_per_s: f64,
    pub reads_per_s: f64,
    pub history_per_s: f64,
    /// Whoever comes back does so to any of the servers, as through a balancer; else to the next in turn.
    pub any_server: bool,
    /// People who drop their connection without a word and come back.
    pub reconnects_per_s: f64,
    /// `GET` requests over HTTP: a room's messages.
    pub http_per_s: f64,
    /// When everybody drops and comes back at once, in seconds of the measured part.
    pub storms_s: Vec<f64>,
    /// An unanswered send is repeated on another connection after this.
    pub answer_within_s: f64,
    /// With nothing at all heard from the target for so long, the run ends as failed.
    pub patience_s: f64,
}

/// A stretch of the measured part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Step {
    pub seconds: f64,
    /// Sends a second over all rooms; infinite: each window always full (a closed loop).
    #[serde(with = "rate")]
    pub sends_per_s: f64,
}

/// JSON has no infinity: it is written as null.
mod rate {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(rate: &f64, to: S) -> Result<S::Ok, S::Error> {
        rate.is_finite().then_some(*rate).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}
