//! CPU and memory of each part of what is measured: from the OS where the processes are ours to see, else from the nodes'
//! own `/metrics`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::net::http;
use crate::proc::{self, Cpu};
use crate::stack::Parts;

/// CPU seconds so far and bytes of memory now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    pub cpu: Cpu,
    pub rss: u64,
}

/// By part: `nodes`, `store`, `bus`, `client`; a part that can't be seen is absent.
pub type Usage = BTreeMap<&'static str, Use>;

/// Of all parts; `client` are the run's own worker processes.
pub fn of(parts: &Parts, client: &[u32]) -> Usage {
    let mut usage = Usage::new();
    let seen = [("nodes", &parts.nodes[..]), ("store", &parts.store), ("bus", &parts.bus), ("client", client)];
    for (name, pids) in seen {
        if !pids.is_empty() {
            usage.insert(name, Use { cpu: proc::cpu(pids), rss: proc::resident(pids) });
        }
    }
    if parts.nodes.is_empty() && !parts.admin.is_empty() {
        let each = parts.admin.iter().filter_map(|&admin| told(admin));
        if let Some(sum) = each.reduce(|a, b| Use { cpu: a.cpu + b.cpu, rss: a.rss + b.rss }) {
            usage.insert("nodes", sum);
        }
    }
    if let Some(client) = usage.get_mut("client") {
        client.cpu = client.cpu + Cpu::own();
    }
    usage
}

/// What a node tells of its own process.
fn told(admin: SocketAddr) -> Option<Use> {
    let metrics = scrape(admin)?;
    let cpu = single(&metrics, "process_cpu_seconds_total")?;
    let rss = single(&metrics, "process_resident_memory_bytes")?;
    Some(Use { cpu: Cpu { user_s: cpu, sys_s: 0.0 }, rss: rss as u64 })
}

/// The metrics of a node as text; `None`: it does not answer.
pub fn scrape(admin: SocketAddr) -> Option<String> {
    http::call(admin, "GET", "/metrics", None, "").ok().filter(|(status, _)| *status == 200).map(|(_, text)| text)
}

/// The value of a metric without labels.
pub fn single(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The counts of a Prometheus histogram (without labels of its own): `(upper bound, values up to it)`, rising.
pub fn buckets(metrics: &str, name: &str) -> Vec<(f64, f64)> {
    let start = format!("{name}_bucket{{");
    let bucket = |line: &str| {
        let (labels, count) = line.strip_prefix(&start)?.split_once("} ")?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// Adds the growth of a histogram between two scrapes to `sum`.
pub fn add_growth(sum: &mut Vec<(f64, f64)>, before: &[(f64, f64)], after: &[(f64, f64)]) {
    if sum.is_empty() {
        sum.extend(after.iter().map(|&(bound, _)| (bound, 0.0)));
    }
    for (place, total) in sum.iter_mut().enumerate() {
        let at = |buckets: &[(f64, f64)]| buckets.get(place).map_or(0.0, |&(_, count)| count);
        total.1 += (at(after) - at(before)).max(0.0);
    }
}

/// The quantile of a histogram as Prometheus computes it: linear within the bucket.
pub fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let &(_, all) = buckets.last().filter(|(_, all)| *all > 0.0)?;
    let rank = q * all;
    let place = buckets.iter().position(|&(_, count)| count >= rank)?;
    let (low, before) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
    let (high, upto) = buckets[place];
    if high.is_infinite() {
        return Some(low);
    }
    Some(low + (high - low) * (rank - before) / (upto - before).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE x histogram\nx_bucket{le=\"0.1\"} 5\nx_bucket{le=\"1\"} 9\nx_bucket{le=\"+Inf\"} 10\n\
                           x_sum 3\nprocess_cpu_seconds_total 12.5\n";

    #[test]
    fn metrics_are_read() {
        assert_eq!(single(METRICS, "process_cpu_seconds_total"), Some(12.5));
        assert_eq!(single(METRICS, "process_cpu"), None);
        assert_eq!(buckets(METRICS, "x"), [(0.1, 5.0), (1.0, 9.0), (f64::INFINITY, 10.0)]);
    }

    #[test]
    fn quantiles_are_those_of_the_growth() {
        let mut sum = Vec::new();
        add_growth(&mut sum, &[(0.1, 5.0), (1.0, 5.0), (f64::INFINITY, 5.0)], &buckets(METRICS, "x"));
        assert_eq!(sum, [(0.1, 0.0), (1.0, 4.0), (f64::INFINITY, 5.0)]);
        assert!((quantile(&sum, 0.4).expect("there are values") - 0.55).abs() < 1e-9);
        assert_eq!(quantile(&sum, 0.99), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
