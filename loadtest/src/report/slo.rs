//! Objectives: what a run's figures must be, as given by `--slo`, and the profiles that are known by a name.
//!
//! Invariant: an objective is held only by a figure that was measured. What the run has no figure for is broken.

use std::str::FromStr;

use super::outcome::{Objective, Outcome};

/// One thing asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    pub figure: String,
    /// `true`: at most `limit`; `false`: at least.
    pub at_most: bool,
    pub limit: f64,
    pub profile: Option<&'static str>,
}

/// What one `--slo` asks for: `p99_ms=50,errors=0`, or the name of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Goals(pub Vec<Goal>);

/// A profile's lines: figure, whether at most, limit.
type Profile = [(&'static str, bool, f64); 8];

const AT_MOST: bool = true;
const AT_LEAST: bool = false;

/// Each profile with the scenarios' figures it asks for. `baseline` are the founding requirements; `ours` is ten times
/// stricter: a tenth of each time, size and share of failures, ten times the rate.
pub const PROFILES: [(&str, Profile); 2] = [
    (
        "baseline",
        [
            ("handshake_p95_ms", AT_MOST, 500.0),
            ("delivery_p95_ms", AT_MOST, 200.0),
            ("rss_bytes_per_1000_connections", AT_MOST, 1e9),
            ("http_p95_ms", AT_MOST, 200.0),
            ("http_per_s", AT_LEAST, 100.0),
            ("store_p95_ms", AT_MOST, 100.0),
            ("success_pct", AT_LEAST, 99.5),
            ("errors_pct", AT_MOST, 1.0),
        ],
    ),
    (
        "ours",
        [
            ("handshake_p95_ms", AT_MOST, 50.0),
            ("delivery_p95_ms", AT_MOST, 20.0),
            ("rss_bytes_per_1000_connections", AT_MOST, 1e8),
            ("http_p95_ms", AT_MOST, 20.0),
            ("http_per_s", AT_LEAST, 1000.0),
            ("store_p95_ms", AT_MOST, 10.0),
            ("success_pct", AT_LEAST, 99.95),
            ("errors_pct", AT_MOST, 0.1),
        ],
    ),
];

impl FromStr for Goals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut goals = Vec::new();
        for part in text.split(',').map(str::trim) {
            match PROFILES.iter().find(|(name, _)| *name == part) {
                Some((name, lines)) => goals.extend(lines.iter().map(|&(figure, at_most, limit)| Goal {
                    figure: figure.to_owned(),
                    at_most,
                    limit,
                    profile: Some(*name),
                })),
                None => goals.push(goal(part)?),
            }
        }
        Ok(Self(goals))
    }
}

fn goal(part: &str) -> Result<Goal, String> {
    let wrong = |why: &str| {
        let profiles = PROFILES.map(|(name, _)| format!("`{name}`")).join(" or ");
        format!("{why}: write FIGURE=LIMIT or FIGURE<=LIMIT (at most), FIGURE>=LIMIT (at least), or {profiles}")
    };
    let sign = part.find(['<', '>', '=']).ok_or_else(|| wrong(&format!("`{part}` has no limit")))?;
    let (figure, rest) = (part[..sign].trim(), &part[sign..]);
    let known = ["<=", ">=", "="].into_iter().find(|sign| rest.starts_with(sign));
    let sign = known.ok_or_else(|| wrong(&format!("`{part}` compares in a way not known here")))?;
    if figure.is_empty() || !figure.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_') {
        return Err(wrong(&format!("`{figure}` is no figure's name")));
    }
    let number = rest[sign.len()..].trim().replace('_', "");
    let limit = number.parse().ok().filter(|limit: &f64| limit.is_finite() && *limit >= 0.0);
    let limit = limit.ok_or_else(|| wrong(&format!("the limit of `{figure}` is no number from 0 up")))?;
    Ok(Goal { figure: figure.to_owned(), at_most: sign != ">=", limit, profile: None })
}

impl Goal {
    pub fn judge(&self, run: &Outcome) -> Objective {
        let value = run.figure(&self.figure).filter(|value| value.is_finite());
        let within = |value: f64| if self.at_most { value <= self.limit } else { value >= self.limit };
        Objective {
            figure: self.figure.clone(),
            at_most: self.at_most,
            limit: self.limit,
            value,
            held: value.is_some_and(within),
            profile: self.profile.map(str::to_owned),
        }
    }
}

/// Judges a run by everything asked for; replaces what was judged before.
pub fn judge(run: &mut Outcome, asked: &[Goals]) {
    run.objectives = asked.iter().flat_map(|goals| &goals.0).map(|goal| goal.judge(run)).collect();
}

/// The names that an objective of this run could have had.
pub fn names(run: &Outcome) -> Vec<String> {
    let mut names: Vec<String> = run.figures.keys().cloned().collect();
    for kind in run.latencies.keys() {
        names.extend(["p50", "p90", "p95", "p99", "p999", "max"].map(|quantile| format!("{kind}_{quantile}_ms")));
    }
    names.extend(["p50_ms", "p95_ms", "p99_ms"].into_iter().filter(|n| run.figure(n).is_some()).map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn asked(text: &str) -> Goals {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_is_read_with_its_three_signs() {
        let Goals(goals) = asked("p99_ms=50, errors<=0,acked_per_s>=1_000");
        let told: Vec<_> = goals.iter().map(|g| (g.figure.as_str(), g.at_most, g.limit)).collect();
        assert_eq!(told, [("p99_ms", true, 50.0), ("errors", true, 0.0), ("acked_per_s", false, 1000.0)]);
    }

    #[test]
    fn what_is_no_objective_is_refused_in_one_line_with_the_form() {
        for bad in
            ["", "p99_ms", "p99_ms=", "=5", "p99_ms=abc", "a=-1", "a=nan", "a=inf", "a<5", "a==5", "a=1,,b=2", "A b=1"]
        {
            let error = bad.parse::<Goals>().unwrap_err();
            assert!(error.contains("FIGURE>=LIMIT") && error.contains("`baseline`"), "{bad}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn limits_are_held_up_to_the_limit_itself() {
        let mut run = sample::outcome();
        run.figures.insert("errors".to_owned(), 3.0);
        for (text, held) in [("errors=3", true), ("errors=2", false), ("errors>=3", true), ("errors>=4", false)] {
            judge(&mut run, &[asked(text)]);
            assert_eq!(run.objectives[0].held, held, "{text}");
        }
    }

    #[test]
    fn a_quantile_without_a_kind_is_the_delivery_s_or_else_the_ack_s() {
        let mut run = sample::outcome();
        assert_eq!(run.figure("p99_ms"), Some(run.latencies["delivery"].p99_ms));
        run.latencies.remove("delivery");
        assert_eq!(run.figure("p99_ms"), Some(run.latencies["ack"].p99_ms));
        run.latencies.clear();
        assert_eq!(run.figure("p99_ms"), None);
    }

    #[test]
    fn what_was_not_measured_is_broken_never_held() {
        let mut run = sample::outcome();
        run.latencies.remove("http");
        judge(&mut run, &[asked("nonsense>=0"), asked("baseline")]);
        let [nonsense, profile @ ..] = run.objectives.as_slice() else { panic!("none judged") };
        assert_eq!((nonsense.value, nonsense.held, nonsense.profile.as_deref()), (None, false, None));
        let http = profile.iter().find(|o| o.figure == "http_p95_ms").unwrap();
        assert_eq!((http.value, http.held, http.profile.as_deref()), (None, false, Some("baseline")));
        assert!(names(&run).contains(&"ack_p999_ms".to_owned()));

        run.figures.insert("acked".to_owned(), f64::NAN);
        judge(&mut run, &[asked("acked>=0")]);
        assert!(!run.objectives[0].held, "not a number is no measurement");
    }

    #[test]
    fn a_gigabyte_is_counted_in_bytes() {
        let mut run = sample::outcome();
        let limit = 1e9 / 1_048_576.0;
        for (mib, held) in [(limit - 0.01, true), (limit + 0.01, false)] {
            run.figures.insert("rss_mib_per_1000_connections".to_owned(), mib);
            judge(&mut run, &[asked("baseline")]);
            let rss = run.objectives.iter().find(|o| o.figure.starts_with("rss_bytes")).unwrap();
            assert_eq!(rss.held, held, "{mib}");
        }
    }

    #[test]
    fn ours_is_ten_times_stricter_in_every_line() {
        let [(_, baseline), (_, ours)] = PROFILES;
        for ((figure, at_most, limit), (same, way, strict)) in baseline.into_iter().zip(ours) {
            assert_eq!((figure, at_most), (same, way));
            let expected = match (figure, at_most) {
                ("success_pct", _) => 100.0 - (100.0 - limit) / 10.0,
                (_, AT_MOST) => limit / 10.0,
                (_, AT_LEAST) => limit * 10.0,
            };
            assert!((strict - expected).abs() < 1e-9, "{figure}");
        }
    }
}
