//! How long a message is on its way, and from where a reader that is behind gets it.

use std::time::Instant;

use prometheus::{Histogram, IntCounter};

use super::Metrics;
use super::make::{LATENCY, Maker};

/// Where a cursor's fetch was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchSource {
    Ring,
    Store,
}

pub(super) struct Way {
    receipt_to_commit: Histogram,
    receipt_to_handover: Histogram,
    cursor_fetches: [IntCounter; 2],
}

impl Way {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            receipt_to_commit: make.histogram(
                "receipt_to_commit_latency_seconds",
                "From reading a request's frame to its entry being durable, on the owner's node.",
                LATENCY,
            ),
            receipt_to_handover: make.histogram(
                "receipt_to_handover_latency_seconds",
                "From reading a request's frame to its entry being handed to the readers' sockets of that node.",
                LATENCY,
            ),
            cursor_fetches: make.counters(
                "cursor_fetches",
                "Reads for cursors that were behind, by source.",
                "source",
                ["ring", "store"],
            ),
        }
    }
}

impl Metrics {
    /// An entry became durable; `received`: when its frame was read.
    pub fn durable(&self, received: Instant) {
        self.way.receipt_to_commit.observe(received.elapsed().as_secs_f64());
    }

    /// An entry was handed to the sockets; `received`: when its frame was read.
    pub fn handed_over(&self, received: Instant) {
        self.way.receipt_to_handover.observe(received.elapsed().as_secs_f64());
    }

    /// A cursor that was behind was served.
    pub fn fetched(&self, source: FetchSource) {
        self.way.cursor_fetches[source as usize].inc();
    }
}
