//! `upgrade`: its options, the run from the start of the old cluster to the report and the picture.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::crowd::job::{Load, Population};
use crate::crowd::session::{Conduct, Session, nonce};
use crate::fail::{Fail, Result};
use crate::report::outcome::{Ending, Outcome, Report};
use crate::report::progress::Mode;
use crate::report::{Deliver, Status, deliver};
use crate::scenario::{Scenario, Size, mixed};
use crate::stack::options::{StackOptions, executable};
use crate::stack::{Setup, Stack, Store};
use crate::sys;
use crate::upgrade::picture;
use crate::upgrade::roll::{Measured, Pace, Release, Roll};

const WARMUP_S: f64 = 3.0;
/// Longer than any course; the session's end cuts it short.
const MOST_S: f64 = 1_200.0;
const ANSWER_WITHIN_S: f64 = 5.0;
const PATIENCE_S: f64 = 60.0;
/// Nodes beside those that are replaced: `maxSurge: 1`.
const SURGE: usize = 1;
const SHUTDOWN_S: f64 = 25.0;

/// Rolls a private cluster from one build of the server to another under load, and back, and judges every history: nothing
/// may be lost, repeated, reordered, or refused for good; every node that goes has to end with status 0 in time, and while
/// both releases run both have to own rooms that are written to. The new program migrates the schema first, while the old nodes go on with it.
#[derive(Args, Debug)]
pub struct Options {
    /// The program of the release from before; the one to come is --roundtable
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// What the release from before is called in report and picture
    #[arg(long, default_value = "before")]
    from_name: String,
    /// The same of the one to come
    #[arg(long, default_value = "after")]
    to_name: String,
    /// Nodes; one more while one is replaced
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Stay with the new release at the end
    #[arg(long)]
    one_way: bool,
    /// Sends a second over all rooms
    #[arg(long, default_value_t = 150.0)]
    rate: f64,
    /// People who send and watch, each on a connection
    #[arg(long, default_value_t = 60)]
    people: usize,
    /// Rooms, of all sizes
    #[arg(long, default_value_t = 60)]
    rooms: usize,
    /// Seconds before the first and after each whole replacement
    #[arg(long, default_value_t = 4.0)]
    settle: f64,
    /// Seconds with nodes of both releases
    #[arg(long, default_value_t = 4.0)]
    mixed: f64,
    /// Seconds from a node's being ready to the next one's being told to go
    #[arg(long, default_value_t = 1.0)]
    min_ready: f64,
    /// Kill nodes in place of telling them to go, to see that it is noticed
    #[arg(long)]
    kill: bool,
    /// Draw sessions per node over time to this file, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Where logs of a run that failed are kept [default: a directory below the temporary one]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    stack: StackOptions,
    #[command(flatten)]
    deliver: Deliver,
}

/// # Errors
/// Where the run could not be set up, or its report not be written.
pub fn run(options: &Options) -> Result<Status> {
    options.deliver.check()?;
    sys::watch_for_stop()?;
    sys::raise_file_limit()?;
    let pace = pace(options)?;
    let mut report = Report::begin();
    let programs = options.stack.programs()?;
    executable(&options.from, "")?;
    let before = Release { name: options.from_name.clone(), program: std::path::absolute(&options.from)? };
    let after = Release { name: options.to_name.clone(), program: programs.roundtable.clone() };
    let mut setup = Setup {
        programs,
        nodes: options.nodes.into(),
        store: Store::Postgres,
        settings: options.stack.settings.clone(),
        env: options.stack.env.clone(),
        proxied: false,
        spare: SURGE,
    };
    setup.programs.roundtable.clone_from(&before.program);
    let mut say = |what: &str| {
        if !options.deliver.quiet {
            eprintln!("{what}");
        }
    };
    let mut stack = Stack::start(&setup, &mut say)?;
    let (population, load) = crowd(options);
    let progress = Mode::of(options.deliver.quiet);
    let label = format!("{} to {}", before.name, after.name);
    let conduct = Conduct { scenario: "upgrade".into(), label, check: true, progress };
    let mut session = Session::start(&stack.target(), stack.parts(), population, load, conduct)?;
    session.go()?;
    session.attend(std::time::Instant::now() + Duration::from_secs_f64(WARMUP_S))?;
    let roll = Roll::new(&mut stack, &mut session, pace, &before, options.nodes.into());
    let (gauges, measured) = roll.run(&before, &after, !options.one_way);
    let waits = waits(&mut session, &measured);
    let mut outcome = session.end()?;
    outcome.series = gauges.into_series();
    note(options, &mut outcome, measured, waits);
    if let Some(path) = &options.picture {
        let svg = picture::draw(&outcome, [&before.name, &after.name]);
        fs::write(path, svg).map_err(|error| Fail::Unwritten(format!("{}: {error}", path.display())))?;
    }
    report.runs.push(outcome);
    let delivered = deliver(&mut report, &options.deliver);
    if !matches!(delivered, Ok(Status::Held | Status::Interrupted)) {
        keep(options, &stack);
    }
    delivered
}

fn pace(options: &Options) -> Result<Pace> {
    let allowed = |name: &str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(Fail::Setup(format!("{name} must be {least} to {most}"))),
    };
    let seconds = |name: &str, value: f64| allowed(name, value, 0.0, 100.0).map(Duration::from_secs_f64);
    allowed("--rate", options.rate, 0.1, 1e6)?;
    allowed("--people", options.people as f64, 2.0, 1e6)?;
    allowed("--rooms", options.rooms as f64, 1.0, 1e5)?;
    if options.from_name.is_empty() || options.to_name.is_empty() || options.from_name == options.to_name {
        return Err(Fail::Setup("--from-name and --to-name must be two names".into()));
    }
    let shutdown_s = options.stack.number("ROUNDTABLE__SERVER__SHUTDOWN_S")?.unwrap_or(SHUTDOWN_S);
    Ok(Pace {
        settle: seconds("--settle", options.settle)?,
        mixed: allowed("--mixed", options.mixed, 1.0, 100.0).map(Duration::from_secs_f64)?,
        min_ready: seconds("--min-ready", options.min_ready)?,
        shutdown: Duration::from_secs_f64(shutdown_s),
        kill: options.kill,
    })
}

/// The mixed load, as through a balancer; nobody drops a connection by itself, so that what the nodes ask for shows.
fn crowd(options: &Options) -> (Population, Load) {
    let size = Size {
        connections: options.people,
        rooms: options.rooms,
        sends_per_s: options.rate,
        warmup_s: WARMUP_S,
        seconds: MOST_S,
        answer_within_s: ANSWER_WITHIN_S,
        patience_s: PATIENCE_S,
        ..Size::of(Scenario::Mixed)
    };
    let (population, load) = mixed(&nonce(), &size);
    (population, Load { reconnects_per_s: 0.0, any_server: true, ..load })
}

/// The longest waits of sends: before, on the way there, on the way back; and of each mark.
fn waits(session: &mut Session, measured: &Measured) -> Vec<(&'static str, f64)> {
    let begun = measured.there_s.map_or(f64::MAX, |(from, _)| from);
    let spans = [
        ("longest_wait_before_ms", (WARMUP_S, (begun - 1.0).min(session.now_s()))),
        ("longest_wait_during_ms", measured.there_s.unwrap_or_default()),
        ("longest_wait_back_ms", measured.back_s.unwrap_or_default()),
        ("worst_pause_ms", (0.0, session.now_s())),
    ];
    session.weigh_marks();
    let known = spans.into_iter().filter(|(_, (from, until))| until > from);
    known.filter_map(|(name, (from, until))| Some((name, session.longest_wait_ms(from, until)?))).collect()
}

fn note(options: &Options, outcome: &mut Outcome, measured: Measured, waits: Vec<(&'static str, f64)>) {
    let settings = [
        ("from", json!(options.from_name)),
        ("to", json!(options.to_name)),
        ("nodes", json!(options.nodes)),
        ("rate", json!(options.rate)),
        ("min_ready_s", json!(options.min_ready)),
    ];
    outcome.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
    let counts = [("replaced", f64::from(measured.replaced)), ("slowest_drain_s", measured.slowest_drain_s)];
    let figures = measured.figures.into_iter().chain(waits).chain(counts);
    outcome.figures.extend(figures.map(|(name, value)| (name.to_owned(), value)));
    let mut found = measured.found;
    for (figure, what) in [("refused", "refused for good"), ("unanswered", "never answered"), ("backlog", "never sent")]
    {
        if let Some(n) = outcome.figure(figure).filter(|n| *n > 0.0) {
            found.push(format!("{n} sends were {what}"));
        }
    }
    let whole = u32::from(options.nodes) * if options.one_way { 1 } else { 2 };
    if measured.replaced != whole {
        found.push(format!("{} nodes were replaced in place of {whole}", measured.replaced));
    }
    if !found.is_empty() {
        if let Ending::Failed(why) = &outcome.ending {
            found.push(why.clone());
        }
        found.iter().for_each(|what| eprintln!("{what}"));
        let found: Vec<&str> = found.iter().filter_map(|what| what.lines().next()).collect();
        outcome.ending = Ending::Failed(found.join("; "));
    }
}

fn keep(options: &Options, stack: &Stack) {
    eprint!("{}", stack.last_words());
    let dir = options
        .keep
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("roundtable-upgrade-{}", std::process::id())));
    match fs::create_dir_all(&dir).and_then(|()| stack.copy_logs(&dir)) {
        Ok(()) => eprintln!("logs: {}", dir.display()),
        Err(error) => eprintln!("the logs could not be kept: {error}"),
    }
}
