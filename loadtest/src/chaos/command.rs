//! `chaos`: its options, the run from the start of the cluster to the report, and the line that repeats it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::chaos::conductor::{Conductor, Course};
use crate::chaos::executor::Executor;
use crate::chaos::fault::Kind;
use crate::chaos::schedule::{Fault, schedule};
use crate::chaos::statistics::{by_kind, worst_wait_ms};
use crate::crowd::job::{Load, Population};
use crate::crowd::session::{Conduct, Session};
use crate::fail::{Fail, Result};
use crate::report::outcome::{Ending, Outcome, Report};
use crate::report::progress::Mode;
use crate::report::{Deliver, Status, deliver};
use crate::scenario::{Scenario, Size, mixed};
use crate::stack::options::StackOptions;
use crate::stack::{Setup, Stack, Store};
use crate::sys;

const WARMUP_S: f64 = 3.0;
/// Of load after the schedule, for the healing; the session's end cuts it short.
const TAIL_S: f64 = 30.0;
/// People whose node stands still can't know it before they wait for this long.
const ANSWER_WITHIN_S: f64 = 5.0;
/// Beyond the longest outage, and for slow debug builds.
const PATIENCE_S: f64 = 60.0;
/// Nodes that can join.
const SPARE: usize = 1;
/// `server.shutdown_s` where it is not set.
const SHUTDOWN_S: f64 = 25.0;

const MINUTES: f64 = 3.0;
const NODES: u8 = 3;
const RATE: f64 = 300.0;
const PEOPLE: usize = 60;
const ROOMS: usize = 60;

#[derive(Args, Debug)]
pub struct Options {
    /// The schedule of faults is made from it [default: chosen, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults happen
    #[arg(long, default_value_t = MINUTES)]
    minutes: f64,
    /// Nodes at the start; one more may join
    #[arg(long, default_value_t = NODES, value_parser = clap::value_parser!(u8).range(1..=15))]
    nodes: u8,
    /// Only these faults [default: all that the number of nodes allows]
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Sends a second over all rooms
    #[arg(long, default_value_t = RATE)]
    rate: f64,
    /// People who send and watch, each on a connection
    #[arg(long, default_value_t = PEOPLE)]
    people: usize,
    /// Rooms, of all sizes
    #[arg(long, default_value_t = ROOMS)]
    rooms: usize,
    /// Where logs and findings of a run that failed are kept [default: a directory below the temporary one]
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
    let mut report = Report::begin();
    let seed = options.seed.unwrap_or_else(seed_from_the_clock);
    let plan = Plan::new(options, seed)?;
    let setup = Setup {
        programs: options.stack.programs()?,
        nodes: options.nodes.into(),
        store: Store::Postgres,
        settings: options.stack.settings.clone(),
        env: options.stack.env.clone(),
        proxied: true,
        spare: SPARE,
    };
    println!("seed {seed}: {} faults in {} min", plan.faults.len(), options.minutes);
    let mut say = |what: &str| {
        if !options.deliver.quiet {
            eprintln!("{what}");
        }
    };
    let mut stack = Stack::start(&setup, &mut say)?;
    let (outcome, course) = match plan.run(&mut stack) {
        Ok(found) => found,
        Err(fail) => {
            if !matches!(fail, Fail::Interrupted) {
                plan.keep_and_tell(&stack, &report);
            }
            return Err(fail);
        }
    };
    report.runs.push(outcome);
    let delivered = deliver(&mut report, &options.deliver);
    print!("\n{}", told(&course));
    if !matches!(delivered, Ok(Status::Held | Status::Interrupted)) {
        plan.keep_and_tell(&stack, &report);
    }
    println!("repeat with: {}", plan.repeat());
    delivered
}

struct Plan<'a> {
    options: &'a Options,
    seed: u64,
    length_s: f64,
    faults: Vec<Fault>,
    shutdown_s: f64,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// Where the options contradict each other or leave nothing to do.
    fn new(options: &'a Options, seed: u64) -> Result<Self> {
        let nodes = usize::from(options.nodes);
        if !(options.minutes > 0.0 && options.minutes <= 10_000.0) {
            return Err(Fail::Setup(format!("--minutes {}: must be more than 0 and at most 10000", options.minutes)));
        }
        for (name, good, allowed) in [
            ("--rate", options.rate > 0.0 && options.rate <= 1e6, "more than 0 and at most 1000000"),
            ("--people", (2..=1_000_000).contains(&options.people), "2 to 1000000"),
            ("--rooms", (1..=100_000).contains(&options.rooms), "1 to 100000"),
        ] {
            if !good {
                return Err(Fail::Setup(format!("{name} must be {allowed}")));
            }
        }
        if let Some(kind) = options.faults.iter().find(|kind| kind.needs_nodes() > nodes) {
            let needs = kind.needs_nodes();
            return Err(Fail::Setup(format!("the fault {} needs --nodes {needs} or more", kind.name())));
        }
        let mut allowed = options.faults.clone();
        if allowed.is_empty() {
            allowed.extend(Kind::value_variants().iter().filter(|kind| kind.needs_nodes() <= nodes));
        }
        let length_s = options.minutes * 60.0;
        let faults = schedule(seed, length_s, &allowed, nodes, SPARE);
        if faults.is_empty() {
            return Err(Fail::Setup(format!("no fault is over within --minutes {}: give it more", options.minutes)));
        }
        let shutdown_s = options.stack.number("ROUNDTABLE__SERVER__SHUTDOWN_S")?.unwrap_or(SHUTDOWN_S);
        Ok(Self { options, seed, length_s, faults, shutdown_s })
    }

    fn run(&self, stack: &mut Stack) -> Result<(Outcome, Course)> {
        let (population, load) = self.crowd();
        let progress = Mode::of(self.options.deliver.quiet);
        let conduct = Conduct { scenario: "chaos".into(), label: String::new(), check: true, progress };
        let mut session = Session::start(&stack.target(), stack.parts(), population, load, conduct)?;
        session.go()?;
        let nodes = usize::from(self.options.nodes);
        let executor = Executor::new(self.faults.clone(), nodes, nodes + SPARE, self.shutdown_s);
        let course = Conductor::new(stack, &mut session, executor, WARMUP_S).run(self.length_s);
        let mut outcome = session.end()?;
        self.note(&mut outcome, &course);
        Ok((outcome, course))
    }

    fn note(&self, outcome: &mut Outcome, course: &Course) {
        let options = self.options;
        let settings = [
            ("seed", json!(self.seed)),
            ("minutes", json!(options.minutes)),
            ("nodes", json!(options.nodes)),
            ("rate", json!(options.rate)),
            ("people", json!(options.people)),
            ("rooms", json!(options.rooms)),
            ("faults", Value::from(options.faults.iter().map(|kind| kind.name()).collect::<Vec<_>>())),
        ];
        outcome.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        outcome.figures.extend(figures(course).into_iter().map(|(name, value)| (name.to_owned(), value)));
        if !course.found.is_empty() {
            let mut found: Vec<&str> = course.found.iter().filter_map(|what| what.lines().next()).collect();
            if let Ending::Failed(why) = &outcome.ending {
                found.push(why);
            }
            outcome.ending = Ending::Failed(found.join("; "));
        }
    }
}

impl Plan<'_> {
    /// The mixed load, with more people who drop their connection than there are in a quiet team.
    fn crowd(&self) -> (Population, Load) {
        let options = self.options;
        let size = Size {
            connections: options.people,
            rooms: options.rooms,
            sends_per_s: options.rate,
            warmup_s: WARMUP_S,
            seconds: self.length_s + TAIL_S,
            http_per_s: options.rate / 50.0,
            answer_within_s: ANSWER_WITHIN_S,
            patience_s: PATIENCE_S,
            ..Size::of(Scenario::Mixed)
        };
        let (population, load) = mixed(&format!("chaos-{}", self.seed), &size);
        (population, Load { reconnects_per_s: options.people as f64 / 60.0, ..load })
    }

    /// The nodes' last words, and where everything is for who wants to find out why.
    fn keep_and_tell(&self, stack: &Stack, report: &Report) {
        eprint!("{}", stack.last_words());
        match self.keep(stack, report) {
            Ok(dir) => eprintln!("logs and findings: {}", dir.display()),
            Err(error) => eprintln!("the logs could not be kept: {error}"),
        }
    }

    /// Copies what the processes printed to a directory that stays, with the report, and tells which.
    fn keep(&self, stack: &Stack, report: &Report) -> std::io::Result<PathBuf> {
        let name = format!("roundtable-chaos-{}-{}", self.seed, std::process::id());
        let dir = self.options.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
        fs::create_dir_all(&dir)?;
        stack.copy_logs(&dir)?;
        fs::write(dir.join("report.json"), serde_json::to_vec_pretty(report)?)?;
        Ok(dir)
    }

    /// The command that does the same again.
    fn repeat(&self) -> String {
        let options = self.options;
        let mut words = vec![format!("roundtable-loadtest chaos --seed {} --minutes {}", self.seed, options.minutes)];
        if options.nodes != NODES {
            words.push(format!("--nodes {}", options.nodes));
        }
        if !options.faults.is_empty() {
            let names: Vec<String> = options.faults.iter().map(|kind| kind.name()).collect();
            words.push(format!("--faults {}", names.join(",")));
        }
        if options.rate != RATE {
            words.push(format!("--rate {}", options.rate));
        }
        if options.people != PEOPLE {
            words.push(format!("--people {}", options.people));
        }
        if options.rooms != ROOMS {
            words.push(format!("--rooms {}", options.rooms));
        }
        words.extend(options.stack.typed());
        words.join(" ")
    }
}

fn figures(course: &Course) -> BTreeMap<&'static str, f64> {
    let failed = course.drains.iter().filter(|drain| drain.code != Some(0)).count();
    let mut figures = BTreeMap::from([
        ("faults", course.faults.len() as f64),
        ("drains", course.drains.len() as f64),
        ("failed_drains", failed as f64),
        ("crashes", course.crashes as f64),
    ]);
    if let Some(worst) = worst_wait_ms(&course.faults) {
        figures.insert("worst_pause_ms", worst);
    }
    if let Some(slowest) = course.drains.iter().map(|drain| drain.seconds).reduce(f64::max) {
        figures.insert("slowest_drain_s", slowest);
    }
    figures
}

/// What the faults cost by kind, and how drains ended.
fn told(course: &Course) -> String {
    let mut text = by_kind(&course.faults).render();
    if !course.drains.is_empty() {
        let exits = course.drains.iter().map(|drain| {
            let code = drain.code.map_or_else(|| "no status".to_owned(), |code| code.to_string());
            format!("node {} {code} after {:.1} s", drain.node + 1, drain.seconds)
        });
        text += &format!("\ndrains: {}\n", exits.collect::<Vec<_>>().join(", "));
    }
    text
}

/// Small enough to be typed again.
fn seed_from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xffff)
}
