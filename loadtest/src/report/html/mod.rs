//! The report as one HTML page: everything is in it, nothing is fetched, and it works from a disk, in light and dark, on
//! paper, and without its script.
//!
//! Invariant: all that is not literal goes through [`Markup::text`], which escapes it. The page stays small (below 2 MB
//! for 24 runs of any length): lines are thinned the more, the more runs there are.

mod chart;
mod markup;
mod plots;
mod thin;

use self::markup::Markup;
use super::number::{clock, compact, exact, whole};
use super::outcome::{Ending, Mark, Outcome, Report, Verdict};
use super::{Status, text, wording};

/// Points of a line, and of the same line over all runs together.
const POINTS: usize = 1_000;
const ALL_POINTS: usize = 2_000;
/// More runs than that are folded.
const UNFOLDED: usize = 4;
/// Figures of a scenario that are shown large.
const TILES: usize = 6;

/// The whole page. The objectives must have been judged.
pub fn page(report: &Report) -> String {
    let mut m = Markup::new();
    m.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    m.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    m.raw("<meta name=\"color-scheme\" content=\"light dark\"><meta http-equiv=\"Content-Security-Policy\" ");
    m.raw("content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"><title>");
    m.text(&report.command).raw("</title><style>").raw(include_str!("style.css")).raw("</style></head><body><main>");
    header(&mut m, report);
    if report.runs.len() > 1 {
        overview(&mut m, report);
    }
    for (i, run) in report.runs.iter().enumerate().filter(|(_, run)| !is_ratio(run)) {
        section(&mut m, report, i, run);
    }
    m.raw(
        "</main><footer>Latencies count from the moment at which something was due, so a pause of the server counts ",
    );
    m.raw("with its whole length. – is what was not measured here.</footer>");
    m.raw("<script>").raw(include_str!("hover.js")).raw("</script></body></html>\n");
    m.finish()
}

fn header(m: &mut Markup, report: &Report) {
    m.raw("<header><div class=\"top\"><h1>Roundtable load report</h1>");
    match Status::of(report) {
        Status::Held => badge(m, "good", "Everything held"),
        Status::Broken => badge(m, "bad", "Broken"),
        Status::Interrupted => badge(m, "warn", "Interrupted"),
    }
    m.raw("</div><p class=\"command\"><code>").text(&report.command).raw("</code></p>");
    let broken = text::broken(report);
    if !broken.is_empty() {
        m.raw("<ul class=\"broken\">");
        for line in broken {
            m.element("li", line);
        }
        m.raw("</ul>");
    }
    m.raw("<dl class=\"facts\">");
    let mut fact = |name: &'static str, value: String| {
        if !value.is_empty() {
            m.raw("<div>").element("dt", name).element("dd", value).raw("</div>");
        }
    };
    fact("Started", moment(&report.started));
    fact("Ended", moment(&report.ended));
    fact("Version", report.version.clone());
    let machine = |key: &str| report.machine.get(key).filter(|value| !value.is_null());
    let cpu = machine("cpu").map_or_else(String::new, |cpu| format!("{}, ", wording::setting(cpu)));
    let hosted = if machine("virtual").and_then(serde_json::Value::as_bool) == Some(true) { ", virtual" } else { "" };
    let cores = machine("cores").map_or_else(String::new, |n| format!("{} cores{hosted}", wording::setting(n)));
    fact("Machine", format!("{cpu}{cores}"));
    let mib = machine("memory_mib").and_then(serde_json::Value::as_f64);
    fact("Memory", mib.map_or_else(String::new, |mib| format!("{} GiB", compact(mib / 1024.0))));
    fact("Kernel", machine("kernel").map_or_else(String::new, wording::setting));
    fact("Load at start", machine("load_at_start").map_or_else(String::new, wording::setting));
    m.raw("</dl></header>");
}

/// `2026-01-02 03:04:05 UTC` of RFC 3339.
fn moment(rfc3339: &str) -> String {
    match rfc3339.strip_suffix('Z').and_then(|rest| rest.split_once('T')) {
        Some((day, time)) => format!("{day} {} UTC", time.split('.').next().unwrap_or(time)),
        None => rfc3339.to_owned(),
    }
}

fn badge(m: &mut Markup, class: &'static str, text: &str) {
    m.raw("<span class=\"badge ").raw(class).raw("\">").text(text).raw("</span>");
}

/// A row of a comparison that was measured nowhere, but computed from others.
fn is_ratio(run: &Outcome) -> bool {
    run.scenario == "ratios"
}

/// One table a scenario, its runs as rows.
fn overview(m: &mut Markup, report: &Report) {
    m.raw("<section id=\"overview\"><h2>Overview</h2>");
    let mut scenarios: Vec<&str> = Vec::new();
    for run in &report.runs {
        if !scenarios.contains(&run.scenario.as_str()) {
            scenarios.push(&run.scenario);
        }
    }
    for scenario in scenarios {
        let runs: Vec<(usize, &Outcome)> =
            report.runs.iter().enumerate().filter(|(_, r)| r.scenario == scenario).collect();
        let mut columns = wording::columns(scenario, &runs.iter().map(|(_, run)| *run).collect::<Vec<_>>());
        let ratios = runs.iter().all(|(_, run)| is_ratio(run));
        if ratios {
            columns = runs.iter().flat_map(|(_, run)| run.figures.keys().map(String::as_str)).collect();
            columns.sort_unstable();
            columns.dedup();
        }
        // What has no history to judge says nothing about one where others have.
        let judged = runs.iter().any(|(_, run)| run.verdict.is_some());
        m.raw("<div class=\"wide\"><table><caption>")
            .text(scenario)
            .raw("</caption><thead><tr><th scope=\"col\">run</th>");
        for name in &columns {
            m.raw("<th scope=\"col\" class=\"n\">").text(wording::heading(name)).raw("</th>");
        }
        m.raw(if ratios { "</tr></thead><tbody>" } else { "<th scope=\"col\">result</th></tr></thead><tbody>" });
        for (i, run) in runs {
            m.raw("<tr><th scope=\"row\">");
            if ratios {
                m.text(name(run)).raw("</th>");
            } else {
                m.raw("<a href=\"#run-").text(i + 1).raw("\">").text(name(run)).raw("</a></th>");
            }
            for column in &columns {
                number(m, run.figure(column).map(|value| wording::value(column, value)));
            }
            if !ratios {
                m.raw("<td>");
                result(m, run, judged);
                m.raw("</td>");
            }
            m.raw("</tr>");
        }
        m.raw("</tbody></table></div>");
    }
    m.raw("</section>");
}

fn name(run: &Outcome) -> String {
    let parts = [run.subject.as_str(), run.label.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn number(m: &mut Markup, value: Option<String>) {
    m.raw("<td class=\"n\">").text(value.unwrap_or_else(|| "–".to_owned())).raw("</td>");
}

/// How a run stands, as badges; `judged`: runs beside it have a verdict.
fn result(m: &mut Markup, run: &Outcome, judged: bool) {
    match &run.ending {
        Ending::Finished => {}
        Ending::Interrupted => badge(m, "warn", "interrupted"),
        Ending::Failed(_) => badge(m, "bad", "failed"),
    }
    match &run.verdict {
        None if judged => {}
        None => badge(m, "none", "history not checked"),
        Some(v) if v.holds() => badge(m, "good", "history holds"),
        Some(v) if v.faults.is_empty() => badge(m, "warn", "history not checked to the end"),
        Some(_) => badge(m, "bad", "history broken"),
    }
    match run.objectives.iter().filter(|o| !o.held).count() {
        _ if run.objectives.is_empty() => {}
        0 => badge(m, "good", "objectives held"),
        1 => badge(m, "bad", "1 objective broken"),
        n => badge(m, "bad", &format!("{n} objectives broken")),
    }
}

fn section(m: &mut Markup, report: &Report, i: usize, run: &Outcome) {
    m.raw("<section class=\"run\"><details");
    if report.runs.len() <= UNFOLDED {
        m.raw(" open");
    }
    m.raw("><summary><h2 id=\"run-").text(i + 1).raw("\">").text(wording::title(run)).raw("</h2> ");
    let judged = report.runs.iter().any(|other| other.scenario == run.scenario && other.verdict.is_some());
    result(m, run, judged);
    m.raw("</summary>");
    if let Some(ending) = text::ending(run) {
        m.raw("<p class=\"ending\">").text(ending).raw("</p>");
    }
    tiles(m, run);
    if run.verdict.is_some() || !judged {
        verdict(m, run.verdict.as_ref());
    }
    objectives(m, run);
    latencies(m, run);
    marks(m, run);
    if run.timeline.is_empty() {
        m.raw("<p class=\"note\">There is no timeline of this run.</p>");
    } else {
        m.raw("<h3>Over time</h3><p class=\"note\">One point a second, the warm-up included");
        let limit = (ALL_POINTS / report.runs.len()).clamp(40, POINTS);
        if run.timeline.len() > limit {
            m.raw("; the line is the median of each ").text(compact(run.timeline.len() as f64 / (limit as f64 / 2.0)));
            m.raw(" seconds, the band reaches from their least to their greatest value");
        }
        m.raw(".</p><div class=\"timeline\">").add(&plots::timeline(run, limit)).raw("</div>");
    }
    figures(m, run);
    m.raw("</details></section>");
}

fn tiles(m: &mut Markup, run: &Outcome) {
    let columns = wording::columns(&run.scenario, &[run]);
    if columns.is_empty() {
        return;
    }
    m.raw("<dl class=\"tiles\">");
    let measured = ("seconds measured".to_owned(), compact((run.seconds * 10.0).round() / 10.0));
    let shown = columns
        .iter()
        .take(TILES)
        .filter_map(|name| Some((wording::heading(name), wording::value(name, run.figure(name)?))));
    for (heading, value) in shown.chain([measured]) {
        m.raw("<div>").element("dt", heading).element("dd", value).raw("</div>");
    }
    m.raw("</dl>");
}

fn verdict(m: &mut Markup, v: Option<&Verdict>) {
    let class = match v {
        None => "verdict",
        Some(v) if v.holds() => "verdict good",
        Some(v) if v.faults.is_empty() => "verdict warn",
        Some(_) => "verdict bad",
    };
    m.raw("<div class=\"").raw(class).raw("\">");
    let (examples, lines): (Vec<String>, Vec<String>) =
        text::verdict(v).into_iter().partition(|line| line.starts_with("  "));
    for line in lines {
        m.element("p", line);
    }
    if !examples.is_empty() {
        m.raw("<ul>");
        for example in examples {
            m.element("li", example.trim());
        }
        m.raw("</ul>");
    }
    m.raw("</div>");
}

fn objectives(m: &mut Markup, run: &Outcome) {
    if run.objectives.is_empty() {
        return;
    }
    m.raw("<h3>Objectives</h3><div class=\"wide\"><table class=\"narrow\"><thead><tr><th scope=\"col\">figure</th><th scope=\"col\" class=\"n\">");
    m.raw("measured</th><th scope=\"col\" class=\"n\">limit</th><th scope=\"col\">result</th></tr></thead><tbody>");
    for o in &run.objectives {
        m.raw("<tr><th scope=\"row\">").text(wording::heading(&o.figure)).raw("</th>");
        number(m, o.value.map(exact));
        let sign = if o.at_most { "≤" } else { "≥" };
        number(m, Some(format!("{sign} {}", exact(o.limit))));
        m.raw("<td>");
        match (o.held, o.value) {
            (true, _) => badge(m, "good", "held"),
            (false, None) => badge(m, "bad", "not measured"),
            (false, Some(_)) => badge(m, "bad", "broken"),
        }
        if let Some(profile) = &o.profile {
            m.raw(" <span class=\"note\">").text(profile).raw("</span>");
        }
        m.raw("</td></tr>");
    }
    m.raw("</tbody></table></div>");
}

fn latencies(m: &mut Markup, run: &Outcome) {
    let kinds = wording::kinds(run);
    if kinds.is_empty() {
        return;
    }
    m.raw("<h3>Latency</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">milliseconds</th>");
    for heading in ["count", "p50", "p90", "p95", "p99", "p99.9", "max"] {
        m.raw("<th scope=\"col\" class=\"n\">").text(heading).raw("</th>");
    }
    m.raw("<th scope=\"col\">what it counts</th></tr></thead><tbody>");
    for kind in kinds {
        let Some(l) = run.latencies.get(kind) else { continue };
        m.raw("<tr><th scope=\"row\">").text(kind).raw("</th>");
        number(m, Some(whole(l.count)));
        for ms in [l.p50_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p999_ms, l.max_ms] {
            number(m, Some(compact(ms)));
        }
        let meaning = wording::KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, meaning)| *meaning);
        m.raw("<td class=\"note\">").text(meaning).raw("</td></tr>");
    }
    m.raw("</tbody></table></div>").add(&plots::distribution(run));
}

fn marks(m: &mut Markup, run: &Outcome) {
    if run.marks.is_empty() {
        return;
    }
    m.raw("<h3>What happened</h3><div class=\"wide\"><table class=\"narrow\"><thead><tr><th scope=\"col\" class=\"n\">no.</th>");
    m.raw(
        "<th scope=\"col\" class=\"n\">at</th><th scope=\"col\" class=\"n\">lasted s</th><th scope=\"col\">what</th>",
    );
    m.raw("<th scope=\"col\" class=\"n\">longest wait ms</th></tr></thead><tbody>");
    for (i, Mark { at_s, until_s, what, longest_wait_ms }) in run.marks.iter().enumerate() {
        m.raw("<tr>");
        number(m, Some((i + 1).to_string()));
        number(m, Some(clock(*at_s)));
        number(m, until_s.map(|until| compact(until - at_s)));
        m.raw("<th scope=\"row\">").text(what).raw("</th>");
        number(m, longest_wait_ms.map(compact));
        m.raw("</tr>");
    }
    m.raw("</tbody></table></div>");
}

fn figures(m: &mut Markup, run: &Outcome) {
    m.raw("<div class=\"pair\"><div><h3>All figures</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">figure</th>");
    m.raw("<th scope=\"col\" class=\"n\">value</th><th scope=\"col\">what it says</th></tr></thead><tbody>");
    for (name, value) in wording::ordered(&run.figures) {
        m.raw("<tr><th scope=\"row\" title=\"").text(name).raw("\">").text(wording::heading(name)).raw("</th>");
        number(m, Some(wording::value(name, value)));
        m.raw("<td class=\"note\">").text(wording::meaning(name).unwrap_or("")).raw("</td></tr>");
    }
    m.raw("</tbody></table></div></div>");
    if !run.settings.is_empty() {
        m.raw("<div><h3>Settings</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">setting</th>");
        m.raw("<th scope=\"col\">value</th></tr></thead><tbody>");
        for (name, value) in &run.settings {
            m.raw("<tr><th scope=\"row\">").text(name.replace('_', " ")).raw("</th><td>");
            m.text(wording::setting(value)).raw("</td></tr>");
        }
        m.raw("</tbody></table></div></div>");
    }
    m.raw("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, slo};

    fn judged() -> Report {
        let mut report = sample::report();
        slo::judge(&mut report.runs[0], &["p99_ms=50,errors=0".parse().unwrap(), "baseline".parse().unwrap()]);
        report
    }

    /// What a browser would fetch or follow.
    fn fetches_nothing(page: &str) {
        for word in ["http://", "https://", "src=", "@import", "url(", "<link", "fetch(", "XMLHttpRequest"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    /// Each opened element is closed in turn. Attributes hold no `>`, since all text is escaped.
    fn well_formed(page: &str) {
        let body = &page[page.find("<body>").unwrap()..page.rfind("<script>").unwrap()];
        let mut open: Vec<&str> = Vec::new();
        for tag in body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "closing {tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, ["body"]);
    }

    #[test]
    fn the_page_has_everything_and_needs_nothing() {
        let page = page(&judged());
        fetches_nothing(&page);
        well_formed(&page);
        for part in [
            "Roundtable load report",
            "chaos --seed 42 --minutes 2",
            "Latency by percentile",
            "99.999 %",
            "<h4>Sends <small>",
            "<h4>Deliveries <small>",
            "<h4>Latency <small>",
            "<h4>Errors <small>",
            "<h4>Memory <small>",
            "<h4>CPU <small>",
            "node 1 frozen for 13 s</th>",
            "nothing lost, repeated, reordered or invented",
            "not measured",
            "Some CPU @ 2.50GHz, 2 cores, virtual",
            "prefers-color-scheme",
            "@media print",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg class=\"plot\"").count(), page.matches("<desc>").count());
        // Five faults on each of the plots over time.
        let over_time = page.matches("data-along=\"time\"").count();
        assert_eq!(page.matches("<g class=\"mark\">").count(), 5 * over_time);
    }

    #[test]
    fn no_text_of_a_target_becomes_markup() {
        let bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onmouseover=\"alert(3)' &";
        let mut report = judged();
        report.command = bad.to_owned();
        report.version = bad.to_owned();
        report.started = bad.to_owned();
        report.machine = serde_json::json!({"cpu": bad, "kernel": bad, "cores": bad});
        let mut other = report.runs[0].clone();
        for run in [&mut report.runs[0], &mut other] {
            run.scenario = bad.to_owned();
            run.label = bad.to_owned();
            run.subject = bad.to_owned();
            run.settings = [(bad.to_owned(), serde_json::json!([bad]))].into();
            run.ending = Ending::Failed(bad.to_owned());
            run.figures.insert(bad.to_owned(), 1.0);
            let latency = run.latencies["ack"].clone();
            run.latencies.insert(bad.to_owned(), latency);
            run.timeline[0].rss_mib.insert(bad.to_owned(), 1.0);
            run.marks[0].what = bad.to_owned();
            run.objectives[0].figure = bad.to_owned();
            run.objectives[0].profile = Some(bad.to_owned());
            run.verdict = Some(Verdict {
                faults: [(bad.to_owned(), 1)].into(),
                examples: vec![bad.to_owned()],
                incomplete: Some(bad.to_owned()),
                ..Verdict::default()
            });
        }
        report.runs.push(other);
        let page = page(&report);
        assert!(page.matches("&lt;script&gt;alert(1)").count() > 20);
        assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains("\" onmouseover"));
        assert_eq!(page.matches("<script").count(), 1);
        well_formed(&page);
    }

    #[test]
    fn four_hours_stay_small_and_keep_their_worst_second() {
        let mut report = judged();
        let run = &mut report.runs[0];
        run.timeline = sample::timeline(14_400, &[(7_000.0, 7_004.0)]);
        run.timeline[9_999].ack_p99_ms = Some(7_654.0);
        let page = page(&report);
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
        assert!(page.contains("greatest 7,654"));
        let longest =
            page.split("data-y=\"").skip(1).map(|rest| rest.split('"').next().unwrap().split(' ').count()).max();
        assert_eq!(longest, Some(500));
    }

    #[test]
    fn many_long_runs_stay_small_too() {
        let mut report = judged();
        report.runs[0].timeline = sample::timeline(3_600, &[]);
        report.runs = vec![report.runs[0].clone(); 24];
        let page = page(&report);
        assert!(page.len() < 2_000_000, "{} bytes", page.len());
        assert!(!page.contains("<details open"));
    }

    #[test]
    fn a_comparison_has_its_overview_first() {
        let report = sample::comparison();
        let page = page(&report);
        well_formed(&page);
        let overview = page.find("<section id=\"overview\">").unwrap();
        assert!(overview < page.find("<section class=\"run\">").unwrap());
        assert_eq!(page.matches("<caption>").count(), 2);
        assert_eq!(page.matches("<section class=\"run\">").count(), 12);
        assert!(page.contains("href=\"#run-12\"") && page.contains("id=\"run-12\""));
    }

    #[test]
    fn a_run_that_came_to_nothing_is_still_a_page() {
        let mut report = sample::report();
        let run = &mut report.runs[0];
        run.ending = Ending::Failed("nobody was let in".to_owned());
        run.figures.clear();
        run.latencies.clear();
        run.timeline.clear();
        run.marks.clear();
        run.settings.clear();
        run.verdict = None;
        let shown = page(&report);
        well_formed(&shown);
        assert!(shown.contains("nobody was let in") && shown.contains("no timeline") && !shown.contains("<figure>"));
        report.runs.clear();
        assert!(page(&report).contains("nothing was measured"));
    }

    #[test]
    fn one_value_is_a_distribution() {
        let mut report = sample::report();
        report.runs[0].latencies = [("ack".to_owned(), sample::latency(1, 2_000.0, 1))].into();
        let page = page(&report);
        well_formed(&page);
        let plot = page.split("data-along=\"share\"").nth(1).unwrap();
        assert!(plot.contains("h.01") && !plot.contains("NaN"));
    }

    /// For eyes: `target/report-sample*.html`.
    #[test]
    fn samples_are_written_to_look_at() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        std::fs::create_dir_all(&folder).unwrap();
        let mut soak = judged();
        soak.runs[0].timeline = sample::timeline(14_400, &[(7_000.0, 7_004.0)]);
        soak.runs[0].marks.truncate(2);
        for (name, report) in [("", judged()), ("-comparison", sample::comparison()), ("-soak", soak)] {
            std::fs::write(folder.join(format!("report-sample{name}.html")), page(&report)).unwrap();
        }
    }
}
