//! What a command found, as it is written to JSON and as every other form of the report is made from.
//!
//! Invariant: figures have their unit at the end of their name, and one name means the same in every scenario, so that
//! objectives (`--slo`), tables and charts need no knowledge of scenarios. What is not known here is absent, never 0.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;

/// One whole command: one or more runs on one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    /// As typed, without the program's directory.
    pub command: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub ended: String,
    /// See [`super::table::machine`].
    pub machine: Value,
    pub runs: Vec<Outcome>,
}

impl Report {
    /// Of the command that this process was started with, which begins now; `ended` is filled by [`super::deliver`].
    pub fn begin() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: told(std::env::args().skip(1)),
            started: clock::rfc3339_now(),
            ended: String::new(),
            machine: super::table::machine(),
            runs: Vec::new(),
        }
    }
}

/// A command line as it may be shown to others: without secrets.
fn told(args: impl Iterator<Item = String>) -> String {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["secret", "token", "password"].iter().any(|word| name.contains(word))
    };
    let mut words = vec!["roundtable-loadtest".to_owned()];
    let mut hide = false;
    for arg in args {
        // The name in `--name=value`, `NAME=value` (of `--set` or `--env`) and `--set=NAME=value`.
        let name = arg.match_indices('=').map(|(at, _)| &arg[..at]).find(|name| secret(name));
        let word = match name {
            _ if hide => "…".to_owned(),
            Some(name) => format!("{name}=…"),
            // `postgres://user:password@host`
            _ => match (arg.find("://"), arg.rfind('@')) {
                (Some(scheme), Some(host)) if scheme < host => match arg[scheme + 3..host].find(':') {
                    Some(colon) => format!("{}:…{}", &arg[..scheme + 3 + colon], &arg[host..]),
                    None => arg.clone(),
                },
                _ => arg.clone(),
            },
        };
        hide = !hide && arg.starts_with("--") && !arg.contains('=') && secret(&arg);
        words.push(if word.contains([' ', '<', '>', '&', ';', '*', '|']) { format!("'{word}'") } else { word });
    }
    words.join(" ")
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "why")]
pub enum Ending {
    Finished,
    /// Somebody stopped it; what was measured until then stands.
    Interrupted,
    /// The target died, or never let anybody in; in words.
    Failed(String),
}

/// One run of one scenario against one subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// `fanout`, `durable`, `chaos`, …
    pub scenario: String,
    /// What tells this run from the others of its command: `1,000 rooms`, `raw, round 2`; may be empty.
    pub label: String,
    /// What was measured: `3 nodes, PostgreSQL`.
    pub subject: String,
    /// The parameters, for the reader who wants to repeat it.
    pub settings: BTreeMap<String, Value>,
    pub ending: Ending,
    /// Length of the measured part.
    pub seconds: f64,
    /// Every figure, by name: `acked_per_s`, `ack_p99_ms`, `rss_per_session_bytes`, `errors`, …
    pub figures: BTreeMap<String, f64>,
    /// By kind: `delivery`, `ack`, `handshake`, `resume`, `history`, `http`.
    pub latencies: BTreeMap<String, Latency>,
    /// One a second of the whole run, warm-up included.
    pub timeline: Vec<Second>,
    /// What happened when: faults, steps of a ramp, the moment of a storm.
    pub marks: Vec<Mark>,
    /// Sessions of each node over time, where nodes came and went on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
    /// Absent where the checker was switched off.
    pub verdict: Option<Verdict>,
    /// Filled by `--slo`.
    pub objectives: Vec<Objective>,
}

impl Outcome {
    /// A figure by its name. Beside what is in `figures`: a latency's quantile (`ack_p99_ms`); `p50_ms`, `p95_ms` and
    /// `p99_ms` without a kind, which are the delivery's where there are deliveries and else the ack's; `seconds`; and
    /// `rss_bytes_per_1000_connections`.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied().or_else(|| match name {
            "seconds" => Some(self.seconds),
            "rss_bytes_per_1000_connections" => Some(self.figure("rss_mib_per_1000_connections")? * 1_048_576.0),
            "p50_ms" | "p95_ms" | "p99_ms" => {
                self.figure(&format!("delivery_{name}")).or_else(|| self.figure(&format!("ack_{name}")))
            }
            _ => {
                let (kind, quantile) = super::wording::quantile(name)?;
                let latency = self.latencies.get(kind)?;
                Some(match quantile {
                    "p50" => latency.p50_ms,
                    "p90" => latency.p90_ms,
                    "p95" => latency.p95_ms,
                    "p99" => latency.p99_ms,
                    "p999" => latency.p999_ms,
                    _ => latency.max_ms,
                })
            }
        })
    }
}

/// A distribution of latencies in milliseconds, counted from the intended time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Share of values above (1 − quantile, descending from 1) with the latency there: for a plot whose x axis is
    /// logarithmic in the share. About 60 points: `[share, ms]`.
    pub percentiles: Vec<(f64, f64)>,
}

impl Latency {
    /// Of a histogram of microseconds; `None` where nothing was recorded.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        let smallest = 1.0 / histogram.len() as f64;
        let mut percentiles = Vec::new();
        let mut share: f64 = 1.0;
        while share > smallest {
            percentiles.push((share, at(1.0 - share)));
            // Eight points a decade.
            share /= 10f64.powf(0.125);
        }
        percentiles.push((smallest, at(1.0)));
        Some(Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            percentiles,
        })
    }
}

/// What happened in one second of a run. Counts are of that second, gauges are its last value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the load began; the warm-up starts at 0.
    pub at_s: f64,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    pub errors: u64,
    /// Open connections.
    pub connected: u64,
    /// Sends due but not yet answered.
    pub waiting: u64,
    pub ack_p50_ms: Option<f64>,
    pub ack_p99_ms: Option<f64>,
    pub delivery_p50_ms: Option<f64>,
    pub delivery_p99_ms: Option<f64>,
    /// Longest wait of a send that was due in this second, acked whenever.
    pub longest_wait_ms: Option<f64>,
    /// Of each part that is known (`nodes`, `store`, `bus`, `client`): memory, and CPU seconds used in this second.
    pub rss_mib: BTreeMap<String, f64>,
    pub cpu_s: BTreeMap<String, f64>,
}

/// A gauge over the life of what it is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    /// Seconds since the load began, ascending, with the value there.
    pub points: Vec<(f64, f64)>,
}

/// Something that happened at a known time of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub at_s: f64,
    /// Where it lasted: its end.
    pub until_s: Option<f64>,
    pub what: String,
    /// A fault's: the longest that a send due between its start and its end (and a while after) waited for its ack.
    pub longest_wait_ms: Option<f64>,
}

/// What the checker says of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub entries: u64,
    pub acked: u64,
    /// Sends whose outcome stayed unknown.
    pub unanswered: u64,
    /// Entries seen by observers, each observer counted.
    pub observed: u64,
    pub observers: u64,
    pub rooms: u64,
    /// How many faults of each kind: `lost`, `repeated`, `reordered`, `invented`, `gap`, `disagreement`, `forgotten`.
    pub faults: BTreeMap<String, u64>,
    /// The first of them in words, at most twenty of a kind.
    pub examples: Vec<String>,
    /// Why the check could not be completed, where it could not.
    pub incomplete: Option<String>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.incomplete.is_none()
    }
}

/// One objective and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// The figure's name.
    pub figure: String,
    /// `true`: at most `limit`; `false`: at least.
    pub at_most: bool,
    pub limit: f64,
    /// Absent where the run has no such figure, which breaks the objective too.
    pub value: Option<f64>,
    pub held: bool,
    /// The profile it is from, if it is from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_without_its_secrets() {
        let words =
            ["run", "--secret", "abc", "--admin-token=def", "--store", "postgres://u:pw@h/db", "--slo", "p99_ms<=5"];
        let told = |words: &[&str]| told(words.iter().map(|&word| word.to_owned()));
        let more = ["run", "--set", "ROUNDTABLE__AUTH__JWT__SECRET=abc", "--env=MY_TOKEN=def", "--set", "A__B=c=d"];
        assert_eq!(
            told(&more),
            "roundtable-loadtest run --set ROUNDTABLE__AUTH__JWT__SECRET=… --env=MY_TOKEN=… --set A__B=c=d"
        );
        let shown = "run --secret … --admin-token=… --store postgres://u:…@h/db --slo 'p99_ms<=5'";
        assert_eq!(told(&words), format!("roundtable-loadtest {shown}"));
    }
}
