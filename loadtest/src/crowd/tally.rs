//! What a worker counts: for the news of a moment, for each step of the load, and for the whole run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::crowd::news::{Interval, Sparse, StepTotals};

/// Microseconds to ten minutes, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds that are right for the library")
}

struct Step {
    totals: StepTotals,
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
}

/// See the module.
pub struct Tally {
    interval: Interval,
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
    waits: BTreeMap<u32, u64>,
    steps: Vec<Step>,
    latencies: BTreeMap<&'static str, Histogram<u64>>,
    counts: BTreeMap<String, u64>,
    pub observed: u64,
    /// Over the whole run, warm-up included.
    sends_due: u64,
}

fn micros(wait: Duration) -> u64 {
    wait.as_micros() as u64
}

impl Tally {
    pub fn new(steps: usize) -> Self {
        let step = || Step { totals: StepTotals::default(), ack: histogram(), delivery: histogram() };
        Self {
            interval: Interval::default(),
            ack: histogram(),
            delivery: histogram(),
            waits: BTreeMap::new(),
            steps: (0..steps).map(|_| step()).collect(),
            latencies: BTreeMap::new(),
            counts: BTreeMap::new(),
            observed: 0,
            sends_due: 0,
        }
    }

    fn step(&mut self, step: Option<usize>) -> Option<&mut Step> {
        self.steps.get_mut(step?)
    }

    /// A message was due in `step`.
    pub fn due(&mut self, step: Option<usize>) {
        self.sends_due += 1;
        if let Some(step) = self.step(step) {
            step.totals.due += 1;
        }
    }

    /// A message left for the first time, now being in `step`.
    pub fn sent(&mut self, step: Option<usize>) {
        self.interval.sent += 1;
        if let Some(step) = self.step(step) {
            step.totals.sent += 1;
        }
    }

    /// An ack came in step `now` for a message that was due in step `due`, in second `due_s` of the load.
    pub fn acked(&mut self, now: Option<usize>, due: Option<usize>, due_s: f64, wait: Duration) {
        let wait = micros(wait);
        self.interval.acked += 1;
        self.ack.saturating_record(wait);
        let longest = self.waits.entry(due_s.max(0.0) as u32).or_default();
        *longest = wait.max(*longest);
        if let Some(step) = self.step(now) {
            step.totals.acked += 1;
        }
        if let Some(step) = self.step(due) {
            step.ack.saturating_record(wait);
        }
    }

    /// A message was given up that had waited so long: slower than any that was acked, not absent.
    pub fn unanswered(&mut self, due: Option<usize>, due_s: f64, wait: Duration) {
        let wait = micros(wait);
        let longest = self.waits.entry(due_s.max(0.0) as u32).or_default();
        *longest = wait.max(*longest);
        if let Some(step) = self.step(due) {
            step.ack.saturating_record(wait);
            step.totals.unanswered += 1;
        }
    }

    /// An entry reached a watcher in step `now`; its message was due in step `due`.
    pub fn delivered(&mut self, now: Option<usize>, due: Option<usize>, wait: Option<Duration>) {
        self.interval.delivered += 1;
        self.observed += 1;
        if let Some(step) = self.step(now) {
            step.totals.delivered += 1;
        }
        let Some(wait) = wait.map(micros) else { return };
        self.delivery.saturating_record(wait);
        if let Some(step) = self.step(due) {
            step.delivery.saturating_record(wait);
        }
    }

    /// An `events` frame came.
    pub fn frame(&mut self, now: Option<usize>) {
        if let Some(step) = self.step(now) {
            step.totals.frames += 1;
        }
    }

    /// Something took its time: `handshake`, `resume`, `history`, `http`.
    pub fn took(&mut self, what: &'static str, wait: Duration) {
        self.latencies.entry(what).or_insert_with(histogram).saturating_record(micros(wait));
    }

    pub fn count(&mut self, what: &str) {
        self.count_n(what, 1);
    }

    pub fn count_n(&mut self, what: &str, n: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += n,
            None => {
                self.counts.insert(what.to_owned(), n);
            }
        }
    }

    /// Something went wrong: counted as an error, and by what it was.
    pub fn error(&mut self, what: &str) {
        self.interval.errors += 1;
        self.count("errors");
        self.count(&format!("errors_{what}"));
    }

    /// What happened since the last call.
    pub fn interval(&mut self) -> Interval {
        let mut interval = std::mem::take(&mut self.interval);
        interval.ack = Sparse::of(&self.ack);
        interval.delivery = Sparse::of(&self.delivery);
        self.ack.reset();
        self.delivery.reset();
        interval.waits = std::mem::take(&mut self.waits).into_iter().map(|(s, us)| (s, us as f64 / 1e3)).collect();
        interval
    }

    pub fn steps(&self) -> Vec<StepTotals> {
        let whole = |step: &Step| StepTotals {
            ack: Sparse::of(&step.ack),
            delivery: Sparse::of(&step.delivery),
            ..step.totals.clone()
        };
        self.steps.iter().map(whole).collect()
    }

    pub fn latencies(&self) -> BTreeMap<String, Sparse> {
        self.latencies.iter().map(|(name, histogram)| ((*name).to_owned(), Sparse::of(histogram))).collect()
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = self.counts.clone();
        counts.insert("sends_due".into(), self.sends_due);
        counts
    }
}
