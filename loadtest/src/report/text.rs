//! What was found, as text for a terminal: how it ended, the figures, the latencies, what happened, the verdict and the
//! objectives. Markdown tables, so that it reads the same wherever it is pasted.
//!
//! Invariant: no text of the target reaches the terminal with control characters in it.

use std::fmt::Write;

use super::number::{clock, compact, exact, whole};
use super::outcome::{Ending, Latency, Mark, Objective, Outcome, Report, Verdict};
use super::progress::plain;
use super::table::Table;
use super::{slo, wording};

/// Examples of faults that are shown; the rest is in the JSON.
const EXAMPLES: usize = 20;

/// The whole result.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let many = report.runs.len() > 1;
    for run in &report.runs {
        if let Some(ending) = ending(run) {
            line(&mut text, &format!("{ending}\n"));
        }
    }
    // Ratios are made from runs and printed by the command that makes them.
    let mut scenarios: Vec<&str> = report.runs.iter().map(|run| run.scenario.as_str()).collect();
    scenarios.retain(|scenario| *scenario != "ratios");
    scenarios.dedup();
    let mut seen = Vec::new();
    for scenario in scenarios {
        if seen.contains(&scenario) {
            continue;
        }
        seen.push(scenario);
        let runs: Vec<&Outcome> = report.runs.iter().filter(|run| run.scenario == scenario).collect();
        heading(&mut text, scenario, &runs);
        figures(&mut text, scenario, &runs);
        latencies(&mut text, &runs);
        // Beside runs that were judged, what was not is what has no history to judge.
        let judged = runs.iter().any(|run| run.verdict.is_some());
        for run in runs {
            marks(&mut text, run, many);
            let name = if many { format!("{}: ", run_name(run)) } else { String::new() };
            let verdict = if judged && run.verdict.is_none() { Vec::new() } else { verdict(run.verdict.as_ref()) };
            for verdict in verdict {
                line(&mut text, &format!("{name}{verdict}"));
            }
            for objective in &run.objectives {
                let held = if objective.held { "held  " } else { "BROKEN" };
                line(&mut text, &format!("{name}{held}  {}", said(objective)));
            }
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    for part in line.split('\n') {
        *text += &plain(part);
        text.push('\n');
    }
}

fn heading(text: &mut String, scenario: &str, runs: &[&Outcome]) {
    let mut subjects: Vec<&str> = runs.iter().map(|run| run.subject.as_str()).collect();
    subjects.dedup();
    let length = runs.iter().map(|run| run.seconds).fold(0.0, f64::max);
    let parts = match subjects.as_slice() {
        [subject] => format!("{scenario} · {subject} · {} s measured", exact((length * 10.0).round() / 10.0)),
        _ => format!("{scenario} · {} s measured", exact((length * 10.0).round() / 10.0)),
    };
    line(text, &format!("{parts}\n"));
}

/// Tells a run from the others of its scenario.
fn run_name(run: &Outcome) -> String {
    let parts = [run.subject.as_str(), run.label.as_str()];
    let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    if name.is_empty() { run.scenario.clone() } else { name }
}

/// A cell's text: a bar would end the cell.
fn cell(text: &str) -> String {
    plain(text).replace('|', "/")
}

fn figures(text: &mut String, scenario: &str, runs: &[&Outcome]) {
    let columns = wording::columns(scenario, runs);
    if columns.is_empty() {
        return;
    }
    let headings: Vec<String> = columns.iter().map(|name| wording::heading(name)).collect();
    let mut table = Table::new(&std::iter::once("run".to_owned()).chain(headings).collect::<Vec<_>>());
    for run in runs {
        let value = |name: &&str| run.figure(name).map_or_else(|| "–".to_owned(), |v| wording::value(name, v));
        table.cells(std::iter::once(cell(&run_name(run))).chain(columns.iter().map(value)).collect());
    }
    let _ = writeln!(text, "{}", table.render());
}

fn latencies(text: &mut String, runs: &[&Outcome]) {
    let mut table = Table::new(&["latency, ms", "count", "p50", "p90", "p95", "p99", "p99.9", "max"]);
    for run in runs {
        for kind in wording::kinds(run) {
            let Some(l) = run.latencies.get(kind) else { continue };
            let name = if runs.len() > 1 { format!("{}: {kind}", run_name(run)) } else { kind.to_owned() };
            let Latency { count, p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, max_ms, .. } = *l;
            let values = [p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, max_ms].map(compact);
            table.cells([cell(&name), whole(count)].into_iter().chain(values).collect());
        }
    }
    if !table.is_empty() {
        let _ = writeln!(text, "{}", table.render());
    }
}

fn marks(text: &mut String, run: &Outcome, many: bool) {
    if run.marks.is_empty() {
        return;
    }
    let title = if many { format!("what happened: {}", run_name(run)) } else { "what happened".to_owned() };
    let mut table = Table::new(&[&cell(&title), "at", "lasted s", "longest wait ms"]);
    for Mark { at_s, until_s, what, longest_wait_ms } in &run.marks {
        let dash = || "–".to_owned();
        table.cells(vec![
            cell(what),
            clock(*at_s),
            until_s.map_or_else(dash, |until| compact(until - at_s)),
            longest_wait_ms.map_or_else(dash, compact),
        ]);
    }
    let _ = writeln!(text, "{}", table.render());
}

/// How a run ended, where it did not simply finish.
pub fn ending(run: &Outcome) -> Option<String> {
    let name = wording::title(run);
    match &run.ending {
        Ending::Finished => None,
        Ending::Interrupted => Some(format!("INTERRUPTED: {name}: what was measured until then stands")),
        Ending::Failed(why) => Some(format!("FAILED: {name}: {why}; what was measured until then stands")),
    }
}

/// The verdict in words, the examples each on a line of their own.
pub fn verdict(verdict: Option<&Verdict>) -> Vec<String> {
    let Some(v) = verdict else { return vec!["history: not checked".to_owned()] };
    let count = |n: u64, one: &str, many: &str| format!("{} {}", whole(n), if n == 1 { one } else { many });
    let seen = format!(
        "{} in {}, {} saw {}",
        count(v.entries, "entry", "entries"),
        count(v.rooms, "room", "rooms"),
        count(v.observers, "observer", "observers"),
        whole(v.observed),
    );
    let mut lines = Vec::new();
    if v.faults.is_empty() {
        let held = "nothing lost, repeated, reordered or invented";
        match &v.incomplete {
            None => lines.push(format!("history: {seen}: {held}")),
            Some(why) => {
                lines.push(format!("history NOT CHECKED TO THE END: {why}; as far as it went: {seen}: {held}"))
            }
        }
    } else {
        let faults = v.faults.iter().map(|(kind, n)| format!("{} {kind}", whole(*n)));
        lines.push(format!("history BROKEN: {} ({seen})", faults.collect::<Vec<_>>().join(", ")));
        lines.extend(v.incomplete.iter().map(|why| format!("history NOT CHECKED TO THE END: {why}")));
        lines.extend(v.examples.iter().take(EXAMPLES).map(|example| format!("  {example}")));
        if v.examples.len() > EXAMPLES {
            lines.push(format!("  … and {} more in the JSON", v.examples.len() - EXAMPLES));
        }
    }
    if v.unanswered > 0 {
        lines.push(format!("history: the outcome of {} stayed unknown", count(v.unanswered, "send", "sends")));
    }
    lines
}

/// An objective and what came of it: `errors 3, at most 0`.
pub fn said(o: &Objective) -> String {
    let value = o.value.map_or_else(|| "not measured".to_owned(), exact);
    let bound = if o.at_most { "at most" } else { "at least" };
    let profile = o.profile.as_ref().map_or_else(String::new, |profile| format!(" ({profile})"));
    format!("{} {value}, {bound} {}{profile}", o.figure, exact(o.limit))
}

/// Everything for which the exit status is not 0, a line each.
pub fn broken(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.runs.is_empty() {
        lines.push("nothing was measured".to_owned());
    }
    for run in &report.runs {
        let name = wording::title(run);
        lines.extend(ending(run));
        if run.verdict.as_ref().is_some_and(|v| !v.holds()) {
            lines.extend(verdict(run.verdict.as_ref()).into_iter().take(1).map(|said| format!("{name}: {said}")));
        }
        for objective in run.objectives.iter().filter(|o| !o.held) {
            let names = match (objective.value, &objective.profile) {
                (None, None) => format!("; there are: {}", slo::names(run).join(", ")),
                _ => String::new(),
            };
            lines.push(format!("{name}: objective broken: {}{names}", said(objective)));
        }
    }
    lines.iter().map(|line| plain(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn one_run_shows_figures_latencies_marks_verdict_and_objectives() {
        let mut report = sample::report();
        slo::judge(&mut report.runs[0], &["p99_ms=50,errors=0,knee>=1".parse().unwrap()]);
        let text = render(&report);
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in:\n{text}"));
        let order = [
            "chaos · 3 nodes, PostgreSQL · 120 s measured",
            "| run ",
            "| latency, ms |",
            "| what happened",
            "history: 5,997,600 entries in 200 rooms, 60 observers saw 1,234,567: nothing lost",
            "held    p99_ms",
            "BROKEN  errors 7, at most 0",
            "BROKEN  knee not measured, at least 1",
        ];
        let places: Vec<usize> = order.into_iter().map(place).collect();
        assert!(places.is_sorted(), "{text}");
        assert!(text.contains("p99.9") && text.contains("–"));
        // Each table's lines are equally long.
        let widths: Vec<usize> = text
            .lines()
            .skip_while(|l| !l.starts_with("| run"))
            .take_while(|l| !l.is_empty())
            .map(|l| l.chars().count())
            .collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn runs_are_rows_by_scenario_and_a_figure_that_one_lacks_is_a_dash() {
        let report = sample::comparison();
        let text = render(&report);
        assert_eq!(text.matches("| run ").count(), 2, "{text}");
        assert_eq!(text.matches("fanout · ").count(), 1);
        let raw = text.lines().find(|l| l.starts_with("| raw")).unwrap();
        assert!(raw.contains(" – "), "{raw}");
    }

    #[test]
    fn how_it_ended_is_said_first() {
        let mut report = sample::report();
        report.runs[0].ending = Ending::Interrupted;
        assert!(render(&report).starts_with("INTERRUPTED: chaos"));
        report.runs[0].ending = Ending::Failed("node 2 died\x1b[2J".to_owned());
        let text = render(&report);
        assert!(text.starts_with("FAILED: chaos") && text.contains("node 2 died [2J"));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn each_kind_of_fault_is_counted_with_examples_and_an_unfinished_check_is_no_success() {
        let mut v = sample::verdict();
        v.faults = [("lost".to_owned(), 2), ("reordered".to_owned(), 1)].into();
        v.examples = (0..30).map(|n| format!("example {n}")).collect();
        v.unanswered = 1;
        let lines = verdict(Some(&v));
        assert!(lines[0].starts_with("history BROKEN: 2 lost, 1 reordered ("), "{lines:?}");
        assert_eq!(lines.iter().filter(|l| l.contains("example")).count(), 20);
        assert!(lines.iter().any(|l| l.contains("10 more")) && lines.iter().any(|l| l.contains("1 send stayed")));

        let unfinished = Verdict { incomplete: Some("out of memory".to_owned()), ..Verdict::default() };
        assert!(verdict(Some(&unfinished))[0].starts_with("history NOT CHECKED TO THE END: out of memory"));
        assert_eq!(verdict(None), ["history: not checked"]);
    }

    #[test]
    fn what_broke_is_one_line_each_and_an_unknown_name_is_answered_with_the_known_ones() {
        let mut report = sample::report();
        slo::judge(&mut report.runs[0], &["knee=1,errors=0".parse().unwrap(), "baseline".parse().unwrap()]);
        let lines = broken(&report);
        assert!(lines[0].contains("knee not measured") && lines[0].contains("ack_p99_ms, "), "{lines:?}");
        assert!(lines.iter().any(|l| l.contains("errors 7, at most 0") && !l.contains("there are")));
        assert!(lines.iter().any(|l| l.contains("store_p95_ms not measured") && l.ends_with("(baseline)")));
        assert!(lines.iter().all(|l| !l.contains('\n')));
        report.runs.clear();
        assert_eq!(broken(&report), ["nothing was measured"]);
    }
}
