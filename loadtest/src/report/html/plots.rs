//! Which plots a run gets: the distribution of its latencies, and everything that changed over time, on one time axis.

use super::chart::{Along, Chart, Line, Scale, Span};
use super::markup::Markup;
use super::thin::{Thinned, thin};
use crate::report::outcome::{Outcome, Second};
use crate::report::wording;

/// A kind's or part's colour: the same in every plot.
fn hue(name: &str) -> usize {
    match name {
        "delivery" | "delivered" | "nodes" | "connected" => 0,
        "ack" | "acked" => 1,
        "sent" | "handshake" | "store" => 2,
        "resume" | "bus" | "waiting" => 3,
        "history" => 4,
        "http" | "client" => 5,
        "errors" => 7,
        _ => 6,
    }
}

fn line(name: &str, hue: usize, dashed: bool, at: &[f64], values: &[Option<f64>], limit: usize) -> Line {
    Line { name: name.to_owned(), hue, dashed, points: thin(at, values, limit) }
}

/// The latencies over the share of values above each, both logarithmic.
pub fn distribution(run: &Outcome) -> Markup {
    let mut lines = Vec::new();
    for kind in wording::kinds(run) {
        let Some(latency) = run.latencies.get(kind) else { continue };
        let points = latency.percentiles.iter().filter(|(share, ms)| *share > 0.0 && *share <= 1.0 && ms.is_finite());
        let (at, values) = points.map(|(share, ms)| (-share.log10(), Some(*ms))).unzip();
        let points = Thinned { at, values, band: Vec::new() };
        lines.push(Line { name: kind.to_owned(), hue: hue(kind), dashed: false, points });
    }
    let until = lines.iter().flat_map(|line| line.points.at.iter().copied()).fold(1.0, f64::max);
    let title = "Latency by percentile".to_owned();
    Chart { title, unit: "ms", along: Along::Share, scale: Scale::Log, until, height: 300.0, lines, spans: &[] }.draw()
}

/// What happened when, numbered as in the table of marks.
pub fn spans(run: &Outcome) -> Vec<Span> {
    let known = run.marks.iter().enumerate().filter(|(_, mark)| mark.at_s.is_finite());
    let mut spans: Vec<Span> = known
        .map(|(i, mark)| Span { number: i + 1, from: mark.at_s, until: mark.until_s, what: mark.what.clone() })
        .collect();
    spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    spans
}

/// Everything over time, with at most `limit` points a line; nothing where there is no timeline.
pub fn timeline(run: &Outcome, limit: usize) -> Markup {
    let seconds: Vec<&Second> = run.timeline.iter().filter(|second| second.at_s.is_finite()).collect();
    let at: Vec<f64> = seconds.iter().map(|second| second.at_s).collect();
    let spans = spans(run);
    let ends = spans.iter().map(|span| span.until.unwrap_or(span.from)).chain(at.last().copied());
    let until = ends.fold(0.0, f64::max);
    let of = |value: &dyn Fn(&Second) -> Option<f64>| -> Vec<Option<f64>> {
        seconds.iter().map(|second| value(second).filter(|value| value.is_finite())).collect()
    };
    let count = |name: &str, value: &dyn Fn(&Second) -> u64| {
        line(name, hue(name), false, &at, &of(&|second| Some(value(second) as f64)), limit)
    };
    let ms = |name: &str, kind: &str, dashed: bool, value: &dyn Fn(&Second) -> Option<f64>| {
        line(name, hue(kind), dashed, &at, &of(value), limit)
    };
    let mut m = Markup::new();
    let mut plot = |title: &str, unit: &'static str, scale: Scale, height: f64, mut lines: Vec<Line>| {
        lines.retain(|line| line.points.values.iter().any(Option::is_some));
        let title = title.to_owned();
        m.add(&Chart { title, unit, along: Along::Time, scale, until, height, lines, spans: &spans }.draw());
    };

    if seconds.iter().any(|s| s.sent > 0 || s.acked > 0) {
        let lines = vec![count("sent", &|s| s.sent), count("acked", &|s| s.acked)];
        plot("Sends", "per second", Scale::Linear, 170.0, lines);
    }
    if seconds.iter().any(|s| s.delivered > 0) {
        plot("Deliveries", "per second", Scale::Linear, 150.0, vec![count("delivered", &|s| s.delivered)]);
    }
    let latencies = vec![
        ms("ack p50", "ack", true, &|s| s.ack_p50_ms),
        ms("ack p99", "ack", false, &|s| s.ack_p99_ms),
        ms("delivery p50", "delivery", true, &|s| s.delivery_p50_ms),
        ms("delivery p99", "delivery", false, &|s| s.delivery_p99_ms),
        ms("longest wait of a send", "", false, &|s| s.longest_wait_ms),
    ];
    plot("Latency", "ms", Scale::Log, 240.0, latencies);
    let nodes = run.series.iter().enumerate().map(|(place, series)| {
        let (times, values): (Vec<f64>, Vec<Option<f64>>) =
            series.points.iter().map(|&(at, value)| (at, Some(value))).unzip();
        line(&series.name, place, place >= 7, &times, &values, limit)
    });
    plot("Sessions per node", "sessions", Scale::Linear, 170.0, nodes.collect());
    plot("Connections", "open", Scale::Linear, 120.0, vec![count("connected", &|s| s.connected)]);
    if seconds.iter().any(|s| s.waiting > 0) {
        plot("Sends that wait for their ack", "sends", Scale::Linear, 120.0, vec![count("waiting", &|s| s.waiting)]);
    }
    if seconds.iter().any(|s| s.errors > 0) {
        plot("Errors", "per second", Scale::Linear, 120.0, vec![count("errors", &|s| s.errors)]);
    }
    let parts = |of_second: fn(&Second) -> &std::collections::BTreeMap<String, f64>| {
        let mut names: Vec<&String> = seconds.iter().flat_map(|second| of_second(second).keys()).collect();
        names.sort_by_key(|name| (hue(name), *name));
        names.dedup();
        let value = |name: &String| of(&|second: &Second| of_second(second).get(name).copied());
        names.iter().map(|name| line(name, hue(name), false, &at, &value(name), limit)).collect::<Vec<_>>()
    };
    plot("Memory", "MiB", Scale::Linear, 170.0, parts(|second| &second.rss_mib));
    plot("CPU", "cores", Scale::Linear, 170.0, parts(|second| &second.cpu_s));
    m
}
