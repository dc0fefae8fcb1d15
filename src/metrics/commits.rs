//! Group commits: how large they are, how long they take, and what waits for one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{Gauge, Histogram, IntGauge};

use super::Metrics;
use super::make::{LATENCY, Maker, SIZES};

pub(super) struct Commits {
    items: Histogram,
    rooms: Histogram,
    pub(super) latency: Histogram,
    queue: IntGauge,
    age: Gauge,
    began: Instant,
    /// Since when the oldest item waits: microseconds after `began`; 0: nothing waits.
    oldest_us: AtomicU64,
}

impl Commits {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            items: make.histogram("commit_batch_items", "Items of one group commit.", SIZES),
            rooms: make.histogram("commit_batch_rooms", "Rooms of one group commit.", SIZES),
            latency: make.histogram(
                "commit_latency_seconds",
                "From handing a batch to the store to its answer.",
                LATENCY,
            ),
            queue: make.gauge("persistence_queue_items", "Items that wait for a group commit to begin."),
            age: make.keep(Gauge::new(
                "roundtable_persistence_oldest_waiting_time_seconds",
                "How long the oldest item that is not committed yet has waited; 0: there is none.",
            )),
            began: Instant::now(),
            oldest_us: AtomicU64::new(0),
        }
    }

    /// The age is of the moment at which somebody looks.
    pub(super) fn refresh(&self) {
        let age = match self.oldest_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.began.elapsed().saturating_sub(Duration::from_micros(since)),
        };
        self.age.set(age.as_secs_f64());
    }
}

impl Metrics {
    /// A group commit was answered.
    pub fn committed(&self, rooms: usize, items: usize, took: Duration) {
        self.commits.rooms.observe(rooms as f64);
        self.commits.items.observe(items as f64);
        self.commits.latency.observe(took.as_secs_f64());
    }

    /// `items` wait for a commit to begin; the oldest that is not committed, waiting or under way, came at `oldest`.
    pub fn commits_wait(&self, items: usize, oldest: Option<Instant>) {
        self.commits.queue.set(items as i64);
        let since = |at: Instant| (at.saturating_duration_since(self.commits.began).as_micros() as u64).max(1);
        self.commits.oldest_us.store(oldest.map_or(0, since), Ordering::Relaxed);
    }

    /// Items that wait for a group commit to begin.
    pub fn commit_queue(&self) -> i64 {
        self.commits.queue.get()
    }
}
