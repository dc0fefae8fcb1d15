//! Making metrics: each is registered under its whole name where it is made.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Seconds; from a tenth of a millisecond, since a commit takes that little here, to what a client would call an outage.
pub(super) const LATENCY: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
pub(super) const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];

/// Registers with one registry; a name that is taken twice is a mistake in this module, which its tests meet.
pub(super) struct Maker(pub(super) Registry);

impl Maker {
    pub(super) fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names and labels are constants of this module and well-formed");
        self.0.register(Box::new(metric.clone())).expect("every name occurs once in this module");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(format!("roundtable_{name}_total"), help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(format!("roundtable_{name}"), help))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(format!("roundtable_{name}"), help).buckets(buckets.to_vec());
        self.keep(Histogram::with_opts(opts))
    }

    /// One gauge a value of the label, all there from the start.
    pub(super) fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [&str; N],
    ) -> [IntGauge; N] {
        let family = self.keep(IntGaugeVec::new(Opts::new(format!("roundtable_{name}"), help), &[label]));
        values.map(|value| family.with_label_values(&[value]))
    }

    /// One counter a value of the label, all there from the start.
    pub(super) fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [&str; N],
    ) -> [IntCounter; N] {
        let family = self.keep(IntCounterVec::new(Opts::new(format!("roundtable_{name}_total"), help), &[label]));
        values.map(|value| family.with_label_values(&[value]))
    }
}
