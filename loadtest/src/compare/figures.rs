//! What a row found becomes figures with names, rounds become medians, and medians become ratios: to ours and to the bare
//! broadcaster.

use std::collections::BTreeMap;

use crate::compare::server::Usage;
use crate::compare::{broadcast, durable, idle};
use crate::report::outcome::Latency;
use crate::report::table::{Table, median};

pub type Figures = BTreeMap<String, f64>;

fn figures<const N: usize>(pairs: [(&str, f64); N]) -> Figures {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn latency(into: &mut Figures, kind: &str, latency: Option<&Latency>) {
    if let Some(latency) = latency {
        for (name, value) in [("p50", latency.p50_ms), ("p99", latency.p99_ms), ("max", latency.max_ms)] {
            into.insert(format!("{kind}_{name}_ms"), value);
        }
    }
}

fn servers(usage: &Usage) -> f64 {
    usage.nodes.total() + usage.store.total() + usage.bus.total()
}

pub fn of_broadcast(found: &broadcast::Found, delivery: Option<&Latency>) -> Figures {
    let million = found.deliveries.max(1) as f64 / 1e6;
    let mut all = figures([
        ("node_cpu_s_per_million", found.usage.nodes.total() / million),
        ("node_user_s_per_million", found.usage.nodes.user_s / million),
        ("all_cpu_s_per_million", servers(&found.usage) / million),
        ("client_cpu_s_per_million", found.usage.client.total() / million),
        ("deliveries", found.deliveries as f64),
        ("deliveries_per_s", found.deliveries as f64 / found.seconds.max(f64::EPSILON)),
        ("deliveries_per_frame", found.deliveries as f64 / found.frames.max(1) as f64),
        ("sent", found.sent as f64),
        ("refused", found.refused as f64),
        ("lost", found.tally.lost as f64),
        ("behind", found.tally.behind as f64),
        ("repeated", found.tally.repeated as f64),
        ("reordered", found.tally.reordered as f64),
        ("invented", found.tally.strays as f64),
    ]);
    latency(&mut all, "delivery", delivery);
    all
}

pub fn of_durable(found: &durable::Found, ack: Option<&Latency>) -> Figures {
    let each = |cpu: f64| cpu * 1e6 / found.stored.max(1) as f64;
    let mut all = figures([
        ("acked_per_s", found.stored as f64 / found.seconds.max(f64::EPSILON)),
        ("node_us_per_send", each(found.usage.nodes.total())),
        ("store_us_per_send", each(found.usage.store.total())),
        ("all_us_per_send", each(servers(&found.usage))),
        ("client_us_per_send", each(found.usage.client.total())),
        ("sent", found.sent as f64),
        ("repeats", found.repeats as f64),
        ("refused", found.refused as f64),
        ("unanswered", found.unanswered as f64),
        ("lost", found.tally.lost as f64),
        ("behind", found.tally.behind as f64),
        ("repeated", found.tally.repeated as f64),
        ("reordered", found.tally.reordered as f64),
        ("invented", found.tally.strays as f64),
    ]);
    latency(&mut all, "ack", ack);
    all
}

pub fn of_idle(found: &idle::Found) -> Figures {
    let per_session = |before: u64, after: u64| (after as f64 - before as f64) / found.connections.max(1) as f64;
    figures([
        ("rss_per_session_bytes", per_session(found.before.rss, found.after.rss)),
        ("pss_per_session_bytes", per_session(found.before.pss, found.after.pss)),
        ("anonymous_per_session_bytes", per_session(found.before.anonymous, found.after.anonymous)),
        ("rss_mib", found.after.rss as f64 / f64::from(1 << 20)),
        ("rss_before_mib", found.before.rss as f64 / f64::from(1 << 20)),
        ("idle_cpu_percent", found.idle_cpu * 100.0),
        ("entering_s", found.entering_s),
    ])
}

/// The median of each figure over the rounds that know it.
pub fn medians(rounds: &[&Figures]) -> Figures {
    let mut names: Vec<&String> = rounds.iter().flat_map(|round| round.keys()).collect();
    names.sort();
    names.dedup();
    let middle = |name: &String| median(rounds.iter().filter_map(|round| round.get(name).copied()));
    names.into_iter().filter_map(|name| Some((name.clone(), middle(name)?))).collect()
}

/// The table of a workload: its figures with their titles.
pub fn columns(workload: &str) -> &'static [(&'static str, &'static str)] {
    match workload {
        "idle" => &[
            ("pss_per_session_bytes", "B/connection"),
            ("rss_per_session_bytes", "B RSS"),
            ("anonymous_per_session_bytes", "B anonymous"),
            ("rss_before_mib", "MiB before"),
            ("rss_mib", "MiB after"),
            ("idle_cpu_percent", "idle CPU %"),
            ("entering_s", "entering s"),
        ],
        "durable" => &[
            ("acked_per_s", "stored/s"),
            ("ack_p50_ms", "p50 ms"),
            ("ack_p99_ms", "p99 ms"),
            ("node_us_per_send", "server µs"),
            ("store_us_per_send", "store µs"),
            ("client_us_per_send", "client µs"),
            ("repeats", "repeats"),
            ("refused", "refused"),
            ("behind", "behind"),
            ("lost", "lost"),
            ("repeated", "repeated"),
            ("reordered", "reordered"),
        ],
        _ => &[
            ("node_cpu_s_per_million", "server s/M"),
            ("all_cpu_s_per_million", "+store, bus"),
            ("node_user_s_per_million", "server user"),
            ("client_cpu_s_per_million", "client s/M"),
            ("deliveries_per_s", "deliveries/s"),
            ("deliveries_per_frame", "per frame"),
            ("delivery_p50_ms", "p50 ms"),
            ("delivery_p99_ms", "p99 ms"),
            ("delivery_max_ms", "max ms"),
            ("behind", "behind"),
            ("lost", "lost"),
            ("repeated", "repeated"),
            ("reordered", "reordered"),
        ],
    }
}

/// The figures that ratios are of, with the titles of their columns.
pub const RATIOS: [(&str, &str); 8] = [
    ("node_cpu_s_per_million", "CPU/delivery"),
    ("all_cpu_s_per_million", "+store, bus"),
    ("delivery_p50_ms", "p50"),
    ("delivery_p99_ms", "p99"),
    ("pss_per_session_bytes", "B/connection"),
    ("acked_per_s", "stored/s"),
    ("all_us_per_send", "CPU/send"),
    ("ack_p99_ms", "ack p99"),
];

/// `of` / `to` for each of [`RATIOS`] that both have, by the figure's name with `_ratio`.
pub fn ratios(of: &Figures, to: &Figures) -> Figures {
    let by = |name: &str| {
        let (of, to) = (of.get(name)?, to.get(name)?);
        (*to > 0.0).then(|| (format!("{name}_ratio"), of / to))
    };
    RATIOS.iter().filter_map(|(name, _)| by(name)).collect()
}

/// A table of ratios, a row each.
pub fn ratio_table(rows: &[(String, Figures)]) -> String {
    let known = |name: &str| rows.iter().any(|(_, row)| row.contains_key(&format!("{name}_ratio")));
    let shown: Vec<_> = RATIOS.iter().filter(|(name, _)| known(name)).collect();
    let mut table = Table::new(&std::iter::once("").chain(shown.iter().map(|(_, title)| *title)).collect::<Vec<_>>());
    for (name, row) in rows {
        let values = shown.iter().map(|(name, _)| row.get(&format!("{name}_ratio")).copied());
        table.row(name, &values.collect::<Vec<_>>());
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_takes_the_rounds_that_know_the_figure() {
        let rounds = [figures([("a", 1.0), ("b", 5.0)]), figures([("a", 3.0)]), figures([("a", 2.0)])];
        let found = medians(&rounds.iter().collect::<Vec<_>>());
        assert_eq!(found, figures([("a", 2.0), ("b", 5.0)]));
    }

    #[test]
    fn a_ratio_needs_both_and_never_divides_by_nothing() {
        let ours = figures([("node_cpu_s_per_million", 2.0), ("delivery_p50_ms", 0.0), ("acked_per_s", 10.0)]);
        let theirs = figures([("node_cpu_s_per_million", 5.0), ("delivery_p50_ms", 3.0)]);
        assert_eq!(ratios(&theirs, &ours), figures([("node_cpu_s_per_million_ratio", 2.5)]));
    }
}
