//! How fast things go, and how long commits take: of the last seconds, where the metrics count from the start.
//!
//! Invariant: at most [`SAMPLES`] samples of a fixed size are kept. Reading never changes them, so that any number of people may look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Metric;

use super::Metrics;

/// How often [`Pace::sample`] wants to be called; figures are of the last five to six of these.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);
const SAMPLES: usize = 6;

struct Sample {
    at: Instant,
    entries: u64,
    repeats: u64,
    deliveries: u64,
    opened: u64,
    bytes_in: u64,
    bytes_out: u64,
    commits: Buckets,
}

/// Upper bounds in seconds, each with how many were at most that, and how many there were in all.
struct Buckets {
    bounds: Vec<(f64, u64)>,
    count: u64,
}

/// Figures of the last seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// How many seconds.
    pub over: Duration,
    /// Entries that became durable, a second; and what else happened a second.
    pub entries: f64,
    pub repeats: f64,
    pub deliveries: f64,
    pub opened: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    /// Group commits in all that time.
    pub commits: u64,
    /// Seconds that half, 95 and 99 of a hundred of them took at most; nothing where there were none.
    pub commit_p50: Option<f64>,
    pub commit_p95: Option<f64>,
    pub commit_p99: Option<f64>,
}

/// Samples of a node's metrics. One a node.
pub struct Pace {
    metrics: Arc<Metrics>,
    samples: Mutex<VecDeque<Sample>>,
}

impl Pace {
    /// The first sample is taken at once.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let pace = Self { metrics, samples: Mutex::default() };
        pace.sample(Instant::now());
        pace
    }

    pub fn sample(&self, now: Instant) {
        let sample = self.take(now);
        let mut samples = self.samples();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// What happened since the oldest sample.
    pub fn rates(&self, now: Instant) -> Rates {
        let newest = self.take(now);
        let samples = self.samples();
        newest.since(samples.front().unwrap_or(&newest))
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, at: Instant) -> Sample {
        let metrics = &self.metrics;
        let metric = metrics.commits.latency.metric();
        let histogram = metric.get_histogram();
        let bounds = histogram.get_bucket().iter().map(|one| (one.upper_bound(), one.cumulative_count())).collect();
        Sample {
            at,
            entries: metrics.entries_committed.get(),
            repeats: metrics.entries_duplicate.get(),
            deliveries: metrics.deliveries.get(),
            opened: metrics.sessions_opened.get(),
            bytes_in: metrics.inbound_bytes.get(),
            bytes_out: metrics.outbound_bytes.get(),
            commits: Buckets { bounds, count: metrics.commits.latency.get_sample_count() },
        }
    }
}

impl Sample {
    fn since(&self, before: &Self) -> Rates {
        let over = self.at.saturating_duration_since(before.at);
        // So soon after the start that nothing can be said.
        let seconds = over.as_secs_f64().max(0.001);
        let rate = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before)) as f64 / seconds;
        let commits = self.commits.since(&before.commits);
        Rates {
            over,
            entries: rate(|sample| sample.entries),
            repeats: rate(|sample| sample.repeats),
            deliveries: rate(|sample| sample.deliveries),
            opened: rate(|sample| sample.opened),
            bytes_in: rate(|sample| sample.bytes_in),
            bytes_out: rate(|sample| sample.bytes_out),
            commits: commits.count,
            commit_p50: commits.quantile(0.5),
            commit_p95: commits.quantile(0.95),
            commit_p99: commits.quantile(0.99),
        }
    }
}

impl Buckets {
    fn since(&self, before: &Self) -> Self {
        let pairs = self.bounds.iter().zip(&before.bounds);
        let bounds = pairs.map(|((bound, now), (_, then))| (*bound, now.saturating_sub(*then))).collect();
        Self { bounds, count: self.count.saturating_sub(before.count) }
    }

    /// As Prometheus has it: even within a bucket; what is above the last bound counts as that bound.
    fn quantile(&self, part: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = part * self.count as f64;
        let (mut below, mut counted) = (0.0, 0);
        for (bound, count) in &self.bounds {
            if *count as f64 >= rank && *count > counted {
                let within = (rank - counted as f64) / (count - counted) as f64;
                return Some(below + (bound - below) * within);
            }
            (below, counted) = (*bound, *count);
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_last_seconds_alone() {
        let metrics = Metrics::new();
        let pace = Pace::new(metrics.clone());
        let began = Instant::now();
        let at = |samples: u32| began + SAMPLE_EVERY * samples;
        for sample in 1..=20 {
            metrics.entries_committed.inc_by(100);
            metrics.deliveries.inc_by(2_000);
            metrics.committed(1, 100, Duration::from_millis(if sample < 10 { 90 } else { 2 }));
            pace.sample(at(sample));
        }
        assert_eq!(pace.samples().len(), SAMPLES);
        let rates = pace.rates(at(20));
        assert_eq!(rates.over, SAMPLE_EVERY * (SAMPLES as u32 - 1));
        assert!((rates.entries - 50.0).abs() < 0.01 && (rates.deliveries - 1_000.0).abs() < 0.2, "{rates:?}");
        assert_eq!((rates.commits, rates.repeats), (5, 0.0));
        let p99 = rates.commit_p99.expect("there were commits");
        assert!(p99 > 0.001 && p99 <= 0.002_5, "the slow ones are long ago: {p99}");
        assert!(rates.commit_p50.expect("there were commits") < p99);
        for sample in 21..=30 {
            pace.sample(at(sample));
        }
        let rates = pace.rates(at(30));
        assert_eq!((rates.entries, rates.commits, rates.commit_p50), (0.0, 0, None));
    }

    #[test]
    fn quantiles_lie_where_the_counts_are() {
        let buckets =
            |count, counts: [u64; 3]| Buckets { bounds: [1.0, 2.0, 4.0].into_iter().zip(counts).collect(), count };
        let hundred = buckets(100, [50, 90, 100]);
        assert_eq!(hundred.quantile(0.5), Some(1.0));
        assert_eq!(hundred.quantile(0.7), Some(1.5));
        assert_eq!(hundred.quantile(0.95), Some(3.0));
        assert_eq!(buckets(4, [0, 0, 0]).quantile(0.5), Some(4.0), "above all bounds");
        assert_eq!(buckets(4, [0, 4, 4]).quantile(0.0), Some(1.0), "an empty bucket has nothing");
        assert_eq!(buckets(0, [0, 0, 0]).quantile(0.5), None);
    }
}
