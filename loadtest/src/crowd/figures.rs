//! From what the workers counted and the OS told to the figures of the report. A figure's name ends in its unit.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::crowd::job::{Load, Population};
use crate::crowd::news::Totals;
use crate::crowd::schedule;
use crate::crowd::tally::histogram;
use crate::report::outcome::Latency;
use crate::stack::Parts;
use crate::usage::{self, Usage};

/// The histogram of the server that tells how long the store takes.
const STORE: &str = "roundtable_commit_latency_seconds";

/// Usage at the turning points of a run.
#[derive(Default)]
pub struct Window {
    pub before_anybody: Option<Usage>,
    pub entered: Option<Usage>,
    pub began: Option<(f64, Usage)>,
    pub ended: Option<(f64, Usage)>,
    store_before: Vec<Vec<(f64, f64)>>,
    store: Vec<(f64, f64)>,
}

impl Window {
    /// The measured part begins.
    pub fn open(&mut self, now_s: f64, parts: &Parts, client: &[u32]) {
        self.store_before = stores(parts);
        self.began = Some((now_s, usage::of(parts, client)));
    }

    /// It ends.
    pub fn close(&mut self, now_s: f64, parts: &Parts, client: &[u32]) {
        self.ended = Some((now_s, usage::of(parts, client)));
        for (before, after) in self.store_before.iter().zip(stores(parts)) {
            usage::add_growth(&mut self.store, before, &after);
        }
    }

    pub fn seconds(&self) -> f64 {
        match (&self.began, &self.ended) {
            (Some((from, _)), Some((to, _))) => to - from,
            _ => 0.0,
        }
    }

    /// Seconds over which the counts of the load's steps go: those start and end by the schedule, not when the usage
    /// was read.
    fn counted_s(&self, load: &Load) -> f64 {
        let ended = self.ended.as_ref().map_or(0.0, |&(at, _)| at);
        (ended.min(schedule::length_s(load)) - load.warmup_s).max(0.0)
    }

    /// CPU seconds that a part used in the measured part of the run.
    fn cpu_s(&self, part: &str) -> Option<f64> {
        let (_, from) = self.began.as_ref()?;
        let (_, to) = self.ended.as_ref()?;
        // Nothing at all is what a counter of whole seconds says of a short run.
        Some((to.get(part)?.cpu - from.get(part)?.cpu).total()).filter(|&cpu| cpu > 0.0)
    }
}

fn stores(parts: &Parts) -> Vec<Vec<(f64, f64)>> {
    let scraped = |&admin| usage::scrape(admin).map(|text| usage::buckets(&text, STORE)).unwrap_or_default();
    parts.admin.iter().map(scraped).collect()
}

pub struct Measured<'a> {
    pub load: &'a Load,
    pub population: &'a Population,
    pub totals: &'a [Totals],
    pub window: &'a Window,
    /// Nodes came and went, so that sums over their processes mean nothing.
    pub parts_changed: bool,
}

/// Figures and latencies by name.
pub fn of(run: &Measured) -> (BTreeMap<String, f64>, BTreeMap<String, Latency>) {
    let mut figures = BTreeMap::new();
    let latencies = latencies(run);
    for (kind, latency) in &latencies {
        for (quantile, value) in [
            ("p50", latency.p50_ms),
            ("p90", latency.p90_ms),
            ("p95", latency.p95_ms),
            ("p99", latency.p99_ms),
            ("p999", latency.p999_ms),
            ("max", latency.max_ms),
        ] {
            figures.insert(format!("{kind}_{quantile}_ms"), value);
        }
    }
    let mut put = |name: &str, value: f64| {
        if value.is_finite() {
            figures.insert(name.to_owned(), value);
        }
    };
    let seconds = run.window.counted_s(run.load);
    let steps = || run.totals.iter().flat_map(|totals| &totals.steps);
    let count = |name: &str| run.totals.iter().filter_map(|totals| totals.counts.get(name)).sum::<u64>() as f64;
    let (due, sent): (u64, u64) = (steps().map(|step| step.due).sum(), steps().map(|step| step.sent).sum());
    let acked: u64 = steps().map(|step| step.acked).sum();
    let unanswered: u64 = steps().map(|step| step.unanswered).sum();
    let answered = latencies.get("ack").map_or(0, |ack| ack.count).saturating_sub(unanswered);
    let delivered: u64 = steps().map(|step| step.delivered).sum();
    let frames: u64 = steps().map(|step| step.frames).sum();
    let connections = run.population.people.len() as f64;
    put("connections", connections);
    put("rooms", run.population.rooms.len() as f64);
    put("errors", count("errors"));
    put("repeats", count("repeats"));
    put("reconnects", count("reconnects"));
    put("resets", count("resets"));
    put("backlog", due.saturating_sub(sent) as f64);
    if due > 0 {
        put("refused", count("refused"));
        put("unanswered", unanswered as f64);
        put("sent", sent as f64);
        put("acked", acked as f64);
        put("sent_per_s", sent as f64 / seconds);
        put("acked_per_s", acked as f64 / seconds);
        put("success_pct", 100.0 * answered as f64 / due as f64);
    }
    let requests = count("sends_due") + count("http_requests") + count("probes");
    if requests > 0.0 {
        put("errors_pct", 100.0 * count("errors") / requests);
    }
    if count("http_requests") > 0.0 {
        put("http_per_s", count("http_requests") / (run.load.warmup_s + seconds));
    }
    if delivered > 0 {
        put("deliveries", delivered as f64);
        put("deliveries_per_s", delivered as f64 / seconds);
        put("deliveries_per_frame", delivered as f64 / frames.max(1) as f64);
    }
    if let Some(p95) = usage::quantile(&run.window.store, 0.95) {
        put("store_p95_ms", p95 * 1e3);
    }
    for (name, n) in run.totals.iter().flat_map(|totals| &totals.counts) {
        if name.starts_with("errors_") || name.starts_with("closes_") {
            put(name, *n as f64);
        }
    }
    if !run.parts_changed {
        costs(run, delivered as f64 / 1e6, acked as f64, connections, &mut put);
    }
    (figures, latencies)
}

/// What a delivery, a send and a connection cost.
fn costs(run: &Measured, millions: f64, acked: f64, connections: f64, put: &mut impl FnMut(&str, f64)) {
    let window = run.window;
    let cpu = |part: &str| window.cpu_s(part);
    let servers = ["nodes", "store", "bus"].iter().filter_map(|part| cpu(part)).sum::<f64>();
    if millions > 0.0 {
        for (name, cpu) in [("node", cpu("nodes")), ("all", cpu("nodes").map(|_| servers)), ("client", cpu("client"))] {
            if let Some(cpu) = cpu {
                put(&format!("{name}_cpu_s_per_million"), cpu / millions);
            }
        }
    }
    if acked > 0.0 {
        for (name, part) in [("node", "nodes"), ("store", "store"), ("bus", "bus"), ("client", "client")] {
            if let Some(cpu) = cpu(part) {
                put(&format!("{name}_us_per_send"), cpu * 1e6 / acked);
            }
        }
    }
    let rss = |usage: Option<&Usage>| usage.and_then(|usage| usage.get("nodes")).map(|nodes| nodes.rss as f64);
    if let Some(cpu) = cpu("nodes").filter(|_| window.seconds() > 0.0) {
        put("node_cpu_pct", 100.0 * cpu / window.seconds());
    }
    let after = rss(window.ended.as_ref().map(|(_, usage)| usage));
    if let Some(after) = after {
        put("rss_mib", after / f64::from(1 << 20));
        put("rss_mib_per_1000_connections", after / f64::from(1 << 20) / (connections / 1_000.0).max(1.0));
    }
    // Of the sessions alone: before the load makes other memory grow.
    if let (Some(before), Some(entered)) = (rss(window.before_anybody.as_ref()), rss(window.entered.as_ref())) {
        put("rss_per_session_bytes", (entered - before) / connections.max(1.0));
    }
}

fn latencies(run: &Measured) -> BTreeMap<String, Latency> {
    let mut histograms = BTreeMap::new();
    for totals in run.totals {
        let mut add = |name: &str, sparse: &crate::crowd::news::Sparse| {
            sparse.add_to(histograms.entry(name.to_owned()).or_insert_with(histogram));
        };
        for step in &totals.steps {
            add("ack", &step.ack);
            add("delivery", &step.delivery);
        }
        for (name, sparse) in &totals.latencies {
            add(name, sparse);
        }
    }
    histograms.into_iter().filter_map(|(name, histogram)| Some((name, Latency::of(&histogram)?))).collect()
}

/// What the report says of the run's parameters.
pub fn settings(population: &Population, load: &Load) -> BTreeMap<String, Value> {
    let watchers: usize = population.people.iter().map(|person| person.watches.len()).sum();
    let mut settings: BTreeMap<String, Value> = [
        ("people", json!(population.people.len())),
        ("rooms", json!(population.rooms.len())),
        ("subscriptions", json!(watchers)),
        ("window", json!(load.window)),
        ("text_bytes", json!(load.text_bytes)),
        ("warmup_s", json!(load.warmup_s)),
        ("sends_per_s", json!(load.steps.iter().map(|step| rate(step.sends_per_s)).collect::<Vec<_>>())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    for (name, value) in [
        ("typing_per_s", load.typing_per_s),
        ("reads_per_s", load.reads_per_s),
        ("history_per_s", load.history_per_s),
        ("reconnects_per_s", load.reconnects_per_s),
        ("http_per_s", load.http_per_s),
    ] {
        if value > 0.0 {
            settings.insert(name.to_owned(), json!(value));
        }
    }
    settings
}

fn rate(per_s: f64) -> Value {
    if per_s.is_finite() { json!(per_s) } else { json!("closed loop") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::job::Step;
    use crate::crowd::news::StepTotals;

    #[test]
    fn rates_are_of_the_scheduled_seconds_however_late_the_usage_was_read() {
        let load = Load { warmup_s: 3.0, steps: vec![Step { seconds: 20.0, sends_per_s: 10.0 }], ..Load::default() };
        let step = StepTotals { due: 200, sent: 200, acked: 200, ..StepTotals::default() };
        let totals = [Totals { steps: vec![step], ..Totals::default() }];
        let population = Population::default();
        for (began, ended, per_s) in [(3.2, 23.25, Some(10.0)), (3.0, 13.0, Some(20.0)), (2.0, 2.0, None)] {
            let window =
                Window { began: Some((began, Usage::new())), ended: Some((ended, Usage::new())), ..Window::default() };
            let run = Measured {
                load: &load,
                population: &population,
                totals: &totals,
                window: &window,
                parts_changed: false,
            };
            assert_eq!(of(&run).0.get("acked_per_s").copied(), per_s, "{began} to {ended}");
        }
    }
}
