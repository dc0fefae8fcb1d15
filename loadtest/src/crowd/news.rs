//! What conductor and workers tell each other, one JSON object a line: orders on a worker's standard input, news on its
//! standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checker::faults::Faults;
use crate::crowd::job::{Load, Person, Target};

/// The first line a worker gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub worker: u32,
    /// Makes this run's messages its own.
    pub nonce: String,
    pub target: Target,
    pub rooms: Vec<String>,
    /// With their numbers over all workers.
    pub people: Vec<(u32, Person)>,
    /// This worker's share.
    pub load: Load,
    /// Keep what is seen, for the checker.
    pub check: bool,
    /// Connections that may be coming in at once.
    pub at_once: usize,
    /// Where the ledger goes at the end.
    pub ledger: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The load begins at this moment of the monotonic clock, in nanoseconds.
    Go(u64),
    /// No new messages; get everything answered, within so many seconds.
    Settle(f64),
    /// Get every watcher to these heads (by room), within so many seconds, then say what there is and end. Without heads:
    /// end at once.
    Heads(Vec<u32>, f64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Entering {
        done: u64,
        of: u64,
    },
    Ready,
    Live(Box<Interval>),
    Settled {
        unanswered: u64,
    },
    Done(Box<Totals>),
    /// The target can't be worked with, in words; the worker settles as far as it can.
    Failed(String),
}

/// Counts of a histogram's values in microseconds: `[value, count]`, without the empty ones.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sparse(pub Vec<(u64, u64)>);

impl Sparse {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for &(value, count) in &self.0 {
            histogram.saturating_record_n(value, count);
        }
    }
}

/// What happened since the last such news, and how things stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    pub errors: u64,
    pub ack: Sparse,
    pub delivery: Sparse,
    /// By second of the load in which sends were due: the longest that one acked since then waited, in milliseconds.
    pub waits: Vec<(u32, f64)>,
    pub connected: u64,
    pub waiting: u64,
    /// When the oldest send that still waits was due, in seconds of the load.
    pub oldest_due_s: Option<f64>,
}

/// One step of the load, by the time at which things were due (latencies) or happened (counts).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepTotals {
    pub due: u64,
    pub sent: u64,
    pub acked: u64,
    /// Given up at the end; their waits are among those of the acks.
    pub unanswered: u64,
    pub delivered: u64,
    pub frames: u64,
    pub ack: Sparse,
    pub delivery: Sparse,
}

/// A worker's last word.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    pub steps: Vec<StepTotals>,
    /// Over the whole run: `handshake`, `resume`, `history`, `http`.
    pub latencies: BTreeMap<String, Sparse>,
    /// Over the whole run, by name: `repeats`, `reconnects`, `errors`, `errors_<code>`, …
    pub counts: BTreeMap<String, u64>,
    pub faults: Faults,
    pub observed: u64,
    pub observers: u64,
}
