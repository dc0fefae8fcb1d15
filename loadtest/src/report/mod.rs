//! From what was measured to what people and programs read: a table, JSON, one HTML page, objectives.

pub mod html;
pub mod number;
pub mod outcome;
pub mod progress;
#[cfg(test)]
pub mod sample;
pub mod slo;
pub mod table;
pub mod text;
mod wording;
mod write;

use std::io::Write;
use std::path::{Path, PathBuf};

use self::outcome::{Ending, Report};
use crate::clock;
use crate::fail::{Fail, Result};

/// Where the result goes and what it is held against; every command takes these.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Deliver {
    /// Write everything measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report to this file, as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Objectives, each broken one gives exit status 1: `p99_ms=50,errors=0` (at most; also `<=`), `acked_per_s>=5000`
    /// (at least), or a profile, `baseline` or `ours`
    #[arg(long, value_name = "LIST")]
    pub slo: Vec<slo::Goals>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

impl Deliver {
    /// Fails where the report could not be written; for a command's beginning, before hours are spent.
    pub fn check(&self) -> Result<()> {
        for path in self.json.iter().chain(&self.html) {
            write::possible(path).map_err(|error| unwritten(path, &error))?;
        }
        Ok(())
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Fail {
    Fail::Unwritten(format!("{}: {error}", path.display()))
}

/// What a whole command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything was measured and everything asked for holds.
    Held,
    /// A verdict does not hold, an objective is broken, a run failed, or there was no run.
    Broken,
    /// Somebody stopped it. Objectives of half a run say little, so this goes before them; a fault that the checker found
    /// stays [`Status::Broken`].
    Interrupted,
}

impl Status {
    pub fn of(report: &Report) -> Self {
        let lied = report.runs.iter().any(|run| run.verdict.as_ref().is_some_and(|v| !v.faults.is_empty()));
        if lied {
            return Self::Broken;
        }
        if report.runs.iter().any(|run| run.ending == Ending::Interrupted) {
            return Self::Interrupted;
        }
        let holds = |run: &outcome::Outcome| {
            run.ending == Ending::Finished
                && run.verdict.as_ref().is_none_or(outcome::Verdict::holds)
                && run.objectives.iter().all(|objective| objective.held)
        };
        if !report.runs.is_empty() && report.runs.iter().all(holds) { Self::Held } else { Self::Broken }
    }

    pub fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Broken => 1,
            Self::Interrupted => 130,
        }
    }
}

/// Judges the objectives, prints the result to stdout and what broke to stderr, and writes the files. All of them are
/// tried; the first that can't be written is the error.
pub fn deliver(report: &mut Report, options: &Deliver) -> Result<Status> {
    if report.ended.is_empty() {
        report.ended = clock::rfc3339_now();
    }
    for run in &mut report.runs {
        // Not a number is nothing measured, and JSON has no word for it.
        run.figures.retain(|_, value| value.is_finite());
        slo::judge(run, &options.slo);
    }
    // A closed stdout must not cost the files.
    let _ = std::io::stdout().write_all(text::render(report).as_bytes());
    for line in text::broken(report) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    let json = options.json.as_ref().map(|path| {
        let text = serde_json::to_vec_pretty(&report).map_err(std::io::Error::other);
        text.and_then(|text| write::whole_file(path, &text)).map_err(|error| unwritten(path, &error))
    });
    let html = options
        .html
        .as_ref()
        .map(|path| write::whole_file(path, html::page(report).as_bytes()).map_err(|error| unwritten(path, &error)));
    json.unwrap_or(Ok(()))?;
    html.unwrap_or(Ok(()))?;
    Ok(Status::of(report))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::report::outcome::Verdict;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        deliver: Deliver,
    }

    #[test]
    fn options_are_read_and_a_bad_objective_is_refused_before_anything_starts() {
        let cli = Cli::try_parse_from(["x", "--slo", "errors=0,p99_ms=5", "--slo", "ours", "--json", "a"]).unwrap();
        assert_eq!(cli.deliver.slo.len(), 2);
        assert_eq!(cli.deliver.slo[0].0.len(), 2);
        let error = Cli::try_parse_from(["x", "--slo", "errors"]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`errors` has no limit: write FIGURE=LIMIT"), "{error}");
    }

    #[test]
    fn the_status_says_what_happened() {
        use Ending::{Failed, Finished, Interrupted};
        let holds = Some(Verdict::default());
        let lost = Some(Verdict { faults: [("lost".to_owned(), 1)].into(), ..Verdict::default() });
        let unfinished = Some(Verdict { incomplete: Some("stopped".to_owned()), ..Verdict::default() });
        let dead = || Failed("dead".to_owned());
        let cases = [
            (Finished, &holds, "", 0),
            (Finished, &None, "", 0),
            (Finished, &holds, "errors=7", 0),
            (Finished, &holds, "errors=0", 1),
            (Finished, &holds, "nothing_like_it=0", 1),
            (Finished, &lost, "", 1),
            (Finished, &unfinished, "", 1),
            (dead(), &holds, "", 1),
            (dead(), &None, "", 1),
            (Interrupted, &holds, "", 130),
            (Interrupted, &unfinished, "", 130),
            (Interrupted, &None, "errors=0", 130),
            (Interrupted, &lost, "", 1),
        ];
        for (ending, verdict, asked, status) in cases {
            let mut report = sample::report();
            report.runs[0].ending = ending.clone();
            report.runs[0].verdict.clone_from(verdict);
            let asked: Vec<slo::Goals> = if asked.is_empty() { Vec::new() } else { vec![asked.parse().unwrap()] };
            slo::judge(&mut report.runs[0], &asked);
            assert_eq!(Status::of(&report).exit_code(), status, "{ending:?} {verdict:?} {asked:?}");
            // One bad run among good ones is enough.
            report.runs.insert(0, sample::report().runs.remove(0));
            assert_eq!(Status::of(&report).exit_code(), status);
        }
        let mut nothing = sample::report();
        nothing.runs.clear();
        assert_eq!(Status::of(&nothing), Status::Broken);
    }

    #[test]
    fn the_files_are_written_and_read_back_also_of_a_run_that_was_stopped() {
        let folder = sample::Folder::new("deliver");
        let (json, html) = (folder.file("r.json"), folder.file("r.html"));
        let options = Deliver { json: Some(json.clone()), html: Some(html.clone()), ..Deliver::default() };
        let mut report = sample::report();
        report.ended.clear();
        report.runs[0].figures.insert("knee_per_s".to_owned(), f64::NAN);
        report.runs[0].ending = Ending::Interrupted;
        options.check().unwrap();
        assert_eq!(deliver(&mut report, &options).unwrap(), Status::Interrupted);
        let read: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert!(!read.ended.is_empty());
        assert!(!read.runs[0].figures.contains_key("knee_per_s"));
        assert_eq!(read.runs[0].timeline.len(), report.runs[0].timeline.len());
        assert!(std::fs::read_to_string(&html).unwrap().contains("Interrupted"));
    }

    #[test]
    fn a_file_that_can_t_be_written_is_one_clear_line_and_costs_no_other_file() {
        let folder = sample::Folder::new("deliver-unwritten");
        let (json, html) = (folder.file("missing/r.json"), folder.file("r.html"));
        let options = Deliver { json: Some(json), html: Some(html.clone()), ..Deliver::default() };
        let error = options.check().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let error = deliver(&mut sample::report(), &options).unwrap_err().to_string();
        assert!(error.contains("missing/r.json: No such file") && !error.contains('\n'), "{error}");
        assert!(html.exists());
    }
}
