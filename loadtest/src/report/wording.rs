//! How figures are called and ordered for people. A name that isn't known here is still shown, spelled out.

use std::collections::BTreeMap;

use super::number::{compact, exact};
use super::outcome::Outcome;

/// Kinds of latency in the order in which a reader wants them, with what each counts.
pub const KINDS: [(&str, &str); 7] = [
    ("ack", "from when a send was due until its sender had the ack"),
    ("delivery", "from when a send was due until a reader had the entry"),
    ("handshake", "from connecting until the session was accepted"),
    ("resume", "from coming back until everything missed was seen"),
    ("history", "a page of history, over the session"),
    ("http", "a page of history, over HTTP"),
    ("store", "queries of the database"),
];

/// Name, heading with its unit, and what it says.
const FIGURES: [(&str, &str, &str); 37] = [
    ("connections", "connections", "sessions open in the measured part"),
    ("connect_per_s", "connects/s", "sessions that came in per second, at the start"),
    ("sent_per_s", "sent/s", "sends per second"),
    ("acked_per_s", "acked/s", "sends acknowledged per second"),
    ("deliveries_per_s", "deliveries/s", "entries that readers got per second, each reader counted"),
    ("sent", "sent", "sends"),
    ("acked", "acked", "sends acknowledged: they must stay in the history for ever"),
    ("deliveries", "deliveries", "entries that readers got, each reader counted"),
    ("deliveries_per_frame", "per frame", "entries in one frame; above 1, the server gathered"),
    ("backlog", "backlog", "sends due whose connection had its window full: the rate was not sustained"),
    ("refused", "refused", "sends refused for good, not to be tried again"),
    ("unanswered", "unanswered", "sends given up at the end without an answer"),
    ("replaced", "replaced", "nodes that were replaced by one of another release"),
    ("slowest_drain_s", "slowest drain s", "the longest from telling a node to go until it had ended"),
    ("errors", "errors", "refusals, closed and failed connections"),
    ("errors_pct", "errors %", "errors per hundred operations"),
    ("success_pct", "success %", "sends that were acknowledged, per hundred"),
    ("repeats", "repeats", "sends asked again, for want of an answer"),
    ("reconnects", "reconnects", "connections that had to come back or were made to"),
    ("http_per_s", "http/s", "HTTP requests answered per second"),
    ("faults", "faults", "faults made by the schedule"),
    ("worst_pause_ms", "worst pause ms", "the longest that any send waited for its ack, faults included"),
    ("rss_per_session_bytes", "B RSS/session", "growth of the nodes' memory per session"),
    ("rss_mib", "RSS MiB", "memory of the nodes"),
    ("rss_mib_per_1000_connections", "MiB/1,000 conn", "memory of the nodes per 1,000 connections"),
    ("rss_bytes_per_1000_connections", "B/1,000 conn", "the same in bytes"),
    ("node_cpu_s_per_million", "node s/M", "CPU seconds of the nodes per million deliveries"),
    ("all_cpu_s_per_million", "+store, bus s/M", "the same with database and bus"),
    ("client_cpu_s_per_million", "client s/M", "CPU seconds of this program per million deliveries"),
    ("node_us_per_send", "node µs/send", "CPU microseconds of the nodes per acknowledged send"),
    ("store_us_per_send", "store µs/send", "the same of the database"),
    ("bus_us_per_send", "bus µs/send", "the same of the bus"),
    ("client_us_per_send", "client µs/send", "the same of this program"),
    ("p50_ms", "p50 ms", "delivery's where there are deliveries, else the ack's"),
    ("p95_ms", "p95 ms", "delivery's where there are deliveries, else the ack's"),
    ("p99_ms", "p99 ms", "delivery's where there are deliveries, else the ack's"),
    ("seconds", "seconds", "length of the measured part"),
];

/// The figures of a scenario's table, most telling first; a table shows those that at least one run has.
const COLUMNS: [(&[&str], &[&str]); 8] = [
    (
        &["idle"],
        &[
            "connections",
            "connect_per_s",
            "handshake_p50_ms",
            "handshake_p95_ms",
            "handshake_p99_ms",
            "rss_per_session_bytes",
            "rss_mib",
            "rss_mib_per_1000_connections",
            "errors",
        ],
    ),
    (
        &["fanout", "rooms"],
        &[
            "deliveries_per_s",
            "delivery_p50_ms",
            "delivery_p99_ms",
            "delivery_p999_ms",
            "node_cpu_s_per_million",
            "all_cpu_s_per_million",
            "client_cpu_s_per_million",
            "deliveries_per_frame",
            "backlog",
            "errors",
        ],
    ),
    (
        &["durable"],
        &[
            "acked_per_s",
            "ack_p50_ms",
            "ack_p99_ms",
            "ack_p999_ms",
            "node_us_per_send",
            "store_us_per_send",
            "bus_us_per_send",
            "client_us_per_send",
            "backlog",
            "errors",
        ],
    ),
    (
        &["ramp"],
        &[
            "knee_per_s",
            "sent_per_s",
            "acked_per_s",
            "deliveries_per_s",
            "ack_p50_ms",
            "ack_p99_ms",
            "delivery_p99_ms",
            "backlog",
            "errors",
        ],
    ),
    (
        &["storm"],
        &[
            "connections",
            "reconnects",
            "resume_p50_ms",
            "resume_p99_ms",
            "resume_max_ms",
            "handshake_p99_ms",
            "delivery_p99_ms",
            "worst_pause_ms",
            "errors",
        ],
    ),
    (
        &["chaos"],
        &[
            "faults",
            "worst_pause_ms",
            "acked",
            "deliveries",
            "ack_p50_ms",
            "ack_p99_ms",
            "delivery_p99_ms",
            "repeats",
            "reconnects",
            "errors",
        ],
    ),
    (
        &["upgrade"],
        &[
            "replaced",
            "worst_pause_ms",
            "longest_wait_before_ms",
            "ack_p99_before_ms",
            "ack_p99_during_ms",
            "ack_p99_back_ms",
            "slowest_drain_s",
            "acked",
            "deliveries",
            "refused",
            "unanswered",
            "reconnects",
            "errors",
        ],
    ),
    (
        &[],
        &[
            "connections",
            "acked_per_s",
            "deliveries_per_s",
            "ack_p50_ms",
            "ack_p99_ms",
            "delivery_p50_ms",
            "delivery_p99_ms",
            "history_p99_ms",
            "rss_mib",
            "node_cpu_s_per_million",
            "backlog",
            "errors",
        ],
    ),
];

/// The columns of a table of these runs of one scenario.
pub fn columns(scenario: &str, runs: &[&Outcome]) -> Vec<&'static str> {
    let of = COLUMNS.iter().find(|(scenarios, _)| scenarios.is_empty() || scenarios.contains(&scenario));
    let names = of.map_or(&[][..], |(_, names)| names);
    names.iter().copied().filter(|name| runs.iter().any(|run| run.figure(name).is_some())).collect()
}

/// A figure's heading, its unit included: `ack_p999_ms` is `ack p99.9 ms`.
pub fn heading(name: &str) -> String {
    if let Some((_, heading, _)) = FIGURES.iter().find(|(known, ..)| *known == name) {
        return (*heading).to_owned();
    }
    let (name, per_s) = name.strip_suffix("_per_s").map_or((name, ""), |rest| (rest, "/s"));
    let (name, pct) = name.strip_suffix("_pct").map_or((name, ""), |rest| (rest, " %"));
    format!("{}{per_s}{pct}", name.replace("_p999", "_p99.9").replace('_', " "))
}

/// What a figure says, where that is known here.
pub fn meaning(name: &str) -> Option<&'static str> {
    FIGURES.iter().find(|(known, ..)| *known == name).map(|(.., meaning)| *meaning)
}

/// A figure's value as it is shown: shares that nearly are 100 keep what they lack.
pub fn value(name: &str, value: f64) -> String {
    if name.ends_with("_pct") { exact(value) } else { compact(value) }
}

/// All figures of a run but the latencies' quantiles, which have a table of their own: known ones first.
pub fn ordered(figures: &BTreeMap<String, f64>) -> Vec<(&str, f64)> {
    let place = |name: &str| FIGURES.iter().position(|(known, ..)| *known == name).unwrap_or(FIGURES.len());
    let mut all: Vec<(&str, f64)> = figures
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .filter(|(name, _)| quantile(name).is_none())
        .collect();
    all.sort_by_key(|(name, _)| place(name));
    all
}

/// Of `ack_p99_ms`: kind and quantile.
pub fn quantile(name: &str) -> Option<(&str, &str)> {
    let (kind, quantile) = name.strip_suffix("_ms")?.rsplit_once('_')?;
    matches!(quantile, "p50" | "p90" | "p95" | "p99" | "p999" | "max").then_some((kind, quantile))
}

/// The latencies of a run, those known first and in their order.
pub fn kinds(run: &Outcome) -> Vec<&str> {
    let place = |kind: &str| KINDS.iter().position(|(known, _)| *known == kind).unwrap_or(KINDS.len());
    let mut kinds: Vec<&str> = run.latencies.keys().map(String::as_str).collect();
    kinds.sort_by_key(|kind| place(kind));
    kinds
}

/// What a run is called among the others of its command.
pub fn title(run: &Outcome) -> String {
    let parts = [run.scenario.as_str(), run.label.as_str(), run.subject.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// A value of the settings: text without its quotes, the rest as JSON.
pub fn setting(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_carry_the_unit_also_of_names_nobody_knew() {
        assert_eq!(heading("ack_p999_ms"), "ack p99.9 ms");
        assert_eq!(heading("rss_per_session_bytes"), "B RSS/session");
        assert_eq!(heading("knee_per_s"), "knee/s");
        assert_eq!(heading("lost_pct"), "lost %");
    }

    #[test]
    fn quantiles_are_told_from_other_figures() {
        assert_eq!(quantile("history_p999_ms"), Some(("history", "p999")));
        assert_eq!(quantile("worst_pause_ms"), None);
        assert_eq!(quantile("p99_ms"), None);
    }

    #[test]
    fn a_share_just_below_a_hundred_is_not_rounded_to_it() {
        assert_eq!(value("success_pct", 99.96), "99.96");
        assert_eq!(value("acked_per_s", 99.96), "100");
    }
}
