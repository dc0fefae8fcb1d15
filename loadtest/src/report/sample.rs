//! Reports that tests look at: made up, and shaped like real ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hdrhistogram::Histogram;
use serde_json::json;

use super::outcome::{Ending, Latency, Mark, Outcome, Report, Second, Verdict};

/// A folder of a test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("roundtable-report-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    /// Between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub fn latency(values: u64, middle_us: f64, seed: u64) -> Latency {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).unwrap();
    let mut noise = Noise(seed);
    for _ in 0..values {
        let far = -noise.next().max(1e-9).ln();
        histogram.record((middle_us * (0.4 + far.powf(1.6))) as u64 + 1).unwrap();
    }
    Latency::of(&histogram).unwrap()
}

pub fn timeline(seconds: usize, faults: &[(f64, f64)]) -> Vec<Second> {
    let mut noise = Noise(7);
    let second = |i: usize| {
        let at_s = i as f64 + 1.0;
        let since = faults
            .iter()
            .filter(|(from, until)| at_s >= *from && at_s <= until + 3.0)
            .map(|(from, _)| at_s - from)
            .next();
        let (acked, wait) = match since {
            Some(since) if since < 2.0 => (0.0, 1500.0 + 900.0 * noise.next()),
            Some(_) => (6200.0, 400.0 * noise.next() + 40.0),
            None => (5000.0 + 60.0 * noise.next(), 5.0 + 6.0 * noise.next()),
        };
        let answered = acked > 0.0;
        let rss = |base: f64, slope: f64| base + slope * (i as f64).sqrt();
        Second {
            at_s,
            sent: 5000 + (20.0 * noise.next()) as u64,
            acked: acked as u64,
            delivered: (acked * 12.0) as u64,
            errors: u64::from(since.is_some_and(|s| s < 1.0)) * (30.0 * noise.next()) as u64,
            connected: if since.is_some_and(|s| s < 2.0) { 6_700 } else { 10_000 },
            waiting: if answered { 20 } else { 5_000 },
            ack_p50_ms: answered.then_some(wait / 4.0),
            ack_p99_ms: answered.then_some(wait),
            delivery_p50_ms: answered.then_some(wait / 3.0),
            delivery_p99_ms: answered.then_some(wait * 1.4),
            longest_wait_ms: Some(wait * 2.0),
            rss_mib: [
                ("nodes", rss(600.0, 6.0)),
                ("store", rss(240.0, 2.0)),
                ("bus", rss(14.0, 0.3)),
                ("client", 180.0),
            ]
            .map(|(part, mib)| (part.to_owned(), mib))
            .into(),
            cpu_s: [("nodes", 0.9), ("store", 0.4), ("bus", 0.12), ("client", 0.45)]
                .map(|(part, s)| (part.to_owned(), s * (0.9 + 0.2 * noise.next()) * if answered { 1.0 } else { 0.3 }))
                .into(),
        }
    };
    (0..seconds).map(second).collect()
}

pub fn verdict() -> Verdict {
    Verdict {
        entries: 5_997_600,
        acked: 5_997_590,
        observed: 1_234_567,
        observers: 60,
        rooms: 200,
        ..Verdict::default()
    }
}

pub fn outcome() -> Outcome {
    static MADE: LazyLock<Outcome> = LazyLock::new(make);
    MADE.clone()
}

fn make() -> Outcome {
    let faults = [
        (22.0, Some(25.0), "node 2 killed (-9)"),
        (48.0, Some(61.0), "node 1 frozen for 13 s"),
        (74.0, Some(79.5), "node 3 cut off from Redis, both ways"),
        (92.0, None, "Redis emptied"),
        (104.0, Some(106.0), "PostgreSQL restarted"),
    ];
    let spans: Vec<(f64, f64)> = faults.iter().map(|(from, until, _)| (*from, until.unwrap_or(*from))).collect();
    let latencies: [(&str, Latency); 6] = [
        ("ack", latency(100_000, 2_000.0, 1)),
        ("delivery", latency(100_000, 2_600.0, 2)),
        ("handshake", latency(10_000, 1_500.0, 3)),
        ("resume", latency(3_000, 8_000.0, 4)),
        ("history", latency(9_000, 3_100.0, 5)),
        ("http", latency(12_000, 4_000.0, 6)),
    ];
    let figures = [
        ("connections", 10_000.0),
        ("sent_per_s", 5_010.0),
        ("acked_per_s", 4_998.0),
        ("deliveries_per_s", 59_976.4),
        ("acked", 5_997_590.0),
        ("deliveries", 71_971_080.0),
        ("errors", 7.0),
        ("errors_pct", 0.0012),
        ("success_pct", 99.9988),
        ("repeats", 812.0),
        ("reconnects", 6_612.0),
        ("http_per_s", 120.2),
        ("faults", 5.0),
        ("worst_pause_ms", 2_412.5),
        ("rss_mib", 655.4),
        ("rss_per_session_bytes", 21_340.0),
        ("node_cpu_s_per_million", 14.2),
        ("all_cpu_s_per_million", 21.9),
        ("client_cpu_s_per_million", 7.4),
    ];
    Outcome {
        scenario: "chaos".to_owned(),
        label: "seed 42".to_owned(),
        subject: "3 nodes, PostgreSQL".to_owned(),
        settings: BTreeMap::from([
            ("connections".to_owned(), json!(10_000)),
            ("rate".to_owned(), json!(5_000.0)),
            ("rooms".to_owned(), json!(200)),
            ("seed".to_owned(), json!(42)),
            ("faults".to_owned(), json!(["kill", "freeze", "cut"])),
        ]),
        ending: Ending::Finished,
        seconds: 120.0,
        figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
        latencies: latencies.map(|(kind, latency)| (kind.to_owned(), latency)).into(),
        timeline: timeline(130, &spans),
        marks: faults
            .map(|(at_s, until_s, what)| Mark {
                at_s,
                until_s,
                what: what.to_owned(),
                longest_wait_ms: Some(40.0 * at_s),
            })
            .into(),
        series: Vec::new(),
        verdict: Some(verdict()),
        objectives: Vec::new(),
    }
}

pub fn report() -> Report {
    Report {
        version: "0.1.0".to_owned(),
        command: "roundtable-loadtest chaos --seed 42 --minutes 2".to_owned(),
        started: "2026-01-02T03:04:05.000Z".to_owned(),
        ended: "2026-01-02T03:06:45.000Z".to_owned(),
        machine: json!({"cores": 2, "cpu": "Some CPU @ 2.50GHz", "virtual": true, "memory_mib": 7943, "kernel": "6.1.0", "load_at_start": 0.12}),
        runs: vec![outcome()],
    }
}

/// Two scenarios, three subjects, two rounds.
pub fn comparison() -> Report {
    let mut report = report();
    report.command = "roundtable-loadtest compare raw socketio --html r.html".to_owned();
    report.runs.clear();
    for scenario in ["fanout", "durable"] {
        for round in [1, 2] {
            for (n, subject) in ["1 node, PostgreSQL", "raw", "Socket.IO"].into_iter().enumerate() {
                let mut run = outcome();
                run.scenario = scenario.to_owned();
                run.label = format!("round {round}");
                run.subject = subject.to_owned();
                run.marks.clear();
                run.timeline = timeline(40, &[]);
                run.seconds = 30.0;
                run.latencies.retain(|kind, _| kind == "ack" || kind == "delivery");
                run.figures.insert("node_cpu_s_per_million".to_owned(), 14.2 / (n + 1) as f64);
                if subject == "raw" {
                    run.figures.remove("all_cpu_s_per_million");
                    run.figures.remove("errors");
                    run.latencies.remove("ack");
                    run.verdict = None;
                }
                report.runs.push(run);
            }
        }
    }
    report
}
