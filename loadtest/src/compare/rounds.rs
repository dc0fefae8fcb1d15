//! The rounds of a comparison: what is missing is said before anything runs, every row is one outcome, and at the end
//! (a failure's or Ctrl-C's too) come the ratios, then the tables they are made from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::compare::figures::{self, Figures};
use crate::compare::options::{Options, Workload};
use crate::compare::peers::{Places, Row};
use crate::compare::server::{Held, Server};
use crate::compare::{broadcast, durable, idle, install, readback};
use crate::fail::{Fail, Result};
use crate::net::token::Mint;
use crate::report::outcome::{Ending, Latency, Outcome, Report, Verdict};
use crate::report::table::Table;
use crate::report::{Status, deliver};
use crate::stack::options::Programs;
use crate::sys;

/// Senders of the one room of `fanout`.
const FANOUT_SENDERS: usize = 4;

/// Runs the comparison and prints it. A peer that fails a row loses that row; a breach of Roundtable's contract ends all.
pub fn run(options: &Options) -> Result<Status> {
    sys::watch_for_stop()?;
    sys::sharp_timers();
    let files = sys::raise_file_limit()?;
    options.deliver.check()?;
    if !options.deliver.slo.is_empty() {
        return Err(Fail::Setup("a comparison has no objectives: --slo belongs to run".into()));
    }
    let mut counts = options.connections.clone();
    counts.sort_unstable();
    counts.dedup();
    let most = most_connections(options, &counts);
    if most as u64 + 500 > files {
        return Err(Fail::Setup(format!("{most} connections need more than the {files} files allowed")));
    }
    let mut report = Report::begin();
    let mut comparison = Comparison { options, counts, places: places(options, most)?, runs: Vec::new() };
    let rows = comparison.rows()?;
    let result = comparison.all(&rows);
    if comparison.runs.is_empty() {
        return result.map(|()| Status::Broken);
    }
    // What was measured before a failure is worth keeping.
    comparison.print(&rows);
    report.runs = comparison.runs;
    println!("\nEach round:\n");
    let status = deliver(&mut report, &options.deliver)?;
    result.map(|()| status)
}

fn most_connections(options: &Options, counts: &[usize]) -> usize {
    let of = |workload: &Workload| match workload {
        Workload::Fanout => options.readers,
        Workload::Rooms => options.rooms * options.room_readers,
        Workload::Idle => counts.last().copied().unwrap_or(0),
        Workload::Durable => options.senders,
    };
    options.workload.iter().map(of).max().unwrap_or(0)
}

fn places(options: &Options, connections: usize) -> Result<Places<'_>> {
    // Programs are started in directories of their own, so what is relative would not be found.
    let stack = &options.stack;
    let roundtable = match &stack.roundtable {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("roundtable"),
    };
    let redis = install::program(&stack.redis.to_string_lossy()).unwrap_or_else(|| stack.redis.clone());
    let postgres_bin = stack.postgres_bin.as_ref().map(std::path::absolute).transpose()?;
    let programs = Programs { roundtable, postgres_bin, redis };
    let cache = options.cache.clone().unwrap_or_else(install::default_cache);
    let cache = std::path::absolute(cache)?;
    Ok(Places { programs, stack, cache, connections })
}

struct Comparison<'a> {
    options: &'a Options,
    /// Numbers of idle connections, rising.
    counts: Vec<usize>,
    places: Places<'a>,
    runs: Vec<Outcome>,
}

impl Comparison<'_> {
    /// The rows to measure, ours first; what they need is there afterwards.
    fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if !self.options.without_roundtable {
            rows.push(Row::Roundtable { nodes: self.options.nodes });
        }
        for &peer in &self.options.peers {
            rows.extend(Row::of(peer).iter().filter(|row| !rows.contains(row)).copied().collect::<Vec<_>>());
        }
        if rows.contains(&Row::Centrifugo) && !Row::Centrifugo.missing(&self.places).is_empty() {
            eprintln!("centrifugo: skipped, no binary on PATH");
            rows.retain(|&row| row != Row::Centrifugo);
        }
        let missing = |rows: &[Row]| {
            let mut all = Vec::new();
            for one in rows.iter().flat_map(|row| row.missing(&self.places)) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
            all
        };
        let mut found = missing(&rows);
        if self.options.install && !found.is_empty() {
            install::install(&found)?;
            found = missing(&rows);
        }
        if rows.is_empty() {
            return Err(Fail::Setup("nothing is left to compare".into()));
        }
        if !found.is_empty() {
            let remedies: Vec<String> = found.iter().map(install::Missing::remedy).collect();
            return Err(Fail::Setup(remedies.join("; ")));
        }
        Ok(rows)
    }

    fn all(&mut self, rows: &[Row]) -> Result<()> {
        let mut failed = Vec::new();
        for round in 1..=self.options.rounds {
            for &workload in &self.options.workload {
                for &row in rows {
                    if skips(row, workload) {
                        continue;
                    }
                    let since = Instant::now();
                    let name = format!("round {round}, {}, {}", workload.name(), row.name());
                    match self.row(row, workload, round) {
                        Ok(()) if self.options.deliver.quiet => {}
                        Ok(()) => eprintln!("{name}: {:.0} s", since.elapsed().as_secs_f64()),
                        Err(Fail::Interrupted) => return Err(Fail::Interrupted),
                        Err(fail) => {
                            eprintln!("{name}: {fail}");
                            let ending = Ending::Failed(fail.to_string());
                            let label = format!("round {round}");
                            self.runs.push(outcome(row, workload, label, BTreeMap::new(), ending));
                            if row.is_ours() {
                                return Err(fail);
                            }
                            failed.push(name);
                        }
                    }
                }
            }
        }
        match failed.len() {
            0 => Ok(()),
            n => Err(Fail::Setup(format!("{n} of the peers' rows failed: {}", failed.join("; ")))),
        }
    }

    fn row(&mut self, row: Row, workload: Workload, round: u16) -> Result<()> {
        let server = row.start(&self.places)?;
        let found = self.measure(&server, row, workload, round);
        if let Err(Fail::Broken(_)) = &found {
            eprint!("{}", server.last_words());
        }
        let broken = {
            let outcomes = found?;
            let broken = outcomes.iter().filter_map(|outcome| outcome.verdict.as_ref()).find(|v| !v.holds()).cloned();
            self.runs.extend(outcomes);
            broken
        };
        match broken {
            Some(verdict) => Err(Fail::Broken(format!("{:?}: {}", verdict.faults, verdict.examples.join("; ")))),
            None => Ok(()),
        }
    }

    fn measure(&self, server: &Server, row: Row, workload: Workload, round: u16) -> Result<Vec<Outcome>> {
        let label = format!("round {round}");
        match workload {
            Workload::Fanout | Workload::Rooms => {
                let plan = self.plan(workload);
                let rooms = rooms(workload, plan.rooms);
                server.make_rooms(&rooms)?;
                let found = broadcast::run(server, plan, &rooms)?;
                let mut one = outcome(row, workload, label, settings(&plan), Ending::Finished);
                one.seconds = found.seconds;
                let delivery = Latency::of(&found.latency);
                one.figures = figures::of_broadcast(&found, delivery.as_ref());
                one.latencies.extend(delivery.map(|latency| ("delivery".to_owned(), latency)));
                one.verdict = verdict(
                    server,
                    &readback::Row {
                        rooms: &rooms,
                        room_of: &|person| person / plan.readers_per_room,
                        acked: &found.acked,
                        tally: found.tally,
                        observed: found.sent * plan.readers_per_room as u64 - found.tally.lost - found.tally.behind,
                        ordered: found.refused == 0,
                    },
                )?;
                Ok(vec![one])
            }
            Workload::Durable => {
                let plan = durable::Plan {
                    senders: self.options.senders,
                    window: self.options.window.into(),
                    text_bytes: self.options.text_bytes.into(),
                    warmup_s: self.options.warmup,
                    seconds: self.options.seconds,
                };
                let rooms = rooms(workload, plan.senders);
                server.make_rooms(&rooms)?;
                let found = durable::run(server, plan, &rooms)?;
                let mut one = outcome(row, workload, label, settings(&plan), Ending::Finished);
                one.seconds = found.seconds;
                let ack = Latency::of(&found.ack);
                one.figures = figures::of_durable(&found, ack.as_ref());
                one.latencies.extend(ack.map(|latency| ("ack".to_owned(), latency)));
                one.verdict = verdict(
                    server,
                    &readback::Row {
                        rooms: &rooms,
                        room_of: &|person| person,
                        acked: &found.acked,
                        tally: found.tally,
                        observed: found.sent - found.tally.lost - found.tally.behind,
                        ordered: found.repeats == 0,
                    },
                )?;
                Ok(vec![one])
            }
            Workload::Idle => {
                let most = self.counts.last().copied().unwrap_or(0);
                let rooms = rooms(workload, idle::rooms(most));
                server.make_rooms(&rooms)?;
                let settle = Duration::from_secs_f64(self.options.settle);
                let found = idle::run(server, &self.counts, settle, &rooms)?;
                let outcomes = found.iter().map(|found| {
                    let plan = json!({"connections": found.connections, "settle_s": self.options.settle});
                    let label = format!("{} connections, {label}", found.connections);
                    let mut one = outcome(row, workload, label, settings(&plan), Ending::Finished);
                    one.seconds = self.options.settle;
                    one.figures = figures::of_idle(found);
                    one
                });
                Ok(outcomes.collect())
            }
        }
    }

    fn plan(&self, workload: Workload) -> broadcast::Plan {
        let options = self.options;
        let (rooms, readers, senders, rate) = match workload {
            Workload::Rooms => (options.rooms, options.room_readers, 1, options.rooms_rate),
            _ => (1, options.readers, FANOUT_SENDERS.min(options.readers), options.rate),
        };
        broadcast::Plan {
            rooms,
            readers_per_room: readers,
            senders_per_room: senders,
            messages_per_s: rate,
            text_bytes: options.text_bytes.into(),
            warmup_s: options.warmup,
            seconds: options.seconds,
        }
    }

    /// Medians of one row of one case.
    fn medians(&self, case: &Case, row: Row) -> Figures {
        let name = row.name();
        let of = self.runs.iter().filter(|run| run.subject == name && case.has(run) && run.ending == Ending::Finished);
        figures::medians(&of.map(|run| &run.figures).collect::<Vec<_>>())
    }

    fn cases(&self) -> Vec<Case> {
        let of = |&workload: &Workload| match workload {
            Workload::Idle => {
                self.counts.iter().map(|&count| Case { workload, connections: Some(count) }).collect::<Vec<_>>()
            }
            _ => vec![Case { workload, connections: None }],
        };
        self.options.workload.iter().flat_map(of).collect()
    }

    /// Prints ratios, then medians, and keeps the ratios as outcomes of their own.
    fn print(&mut self, rows: &[Row]) {
        let mut kept = Vec::new();
        for base in rows.iter().filter(|row| row.is_ours() || **row == Row::Raw) {
            let mut lines = Vec::new();
            for case in self.cases() {
                let to = self.medians(&case, *base);
                for row in rows.iter().filter(|row| *row != base) {
                    let ratios = figures::ratios(&self.medians(&case, *row), &to);
                    if ratios.is_empty() {
                        continue;
                    }
                    let label = format!("{}, ratio of medians", case.name());
                    let mut one = outcome(*row, case.workload, label, BTreeMap::new(), Ending::Finished);
                    one.scenario = "ratios".into();
                    one.subject = format!("{} / {}", row.name(), base.name());
                    one.figures = ratios.clone();
                    kept.push(one);
                    lines.push((format!("{}: {}", case.name(), row.name()), ratios));
                }
            }
            if !lines.is_empty() {
                println!("\nTo {} (medians of {} rounds):\n", base.name(), self.options.rounds);
                print!("{}", figures::ratio_table(&lines));
            }
        }
        for case in self.cases() {
            let columns = figures::columns(case.workload.name());
            let titles: Vec<_> = std::iter::once("").chain(columns.iter().map(|(_, title)| *title)).collect();
            let mut table = Table::new(&titles);
            let all: Vec<Figures> = rows.iter().map(|&row| self.medians(&case, row)).collect();
            if all.iter().all(Figures::is_empty) {
                continue;
            }
            // A row of dashes is a peer that this is not asked of, or that failed.
            for (row, medians) in rows.iter().zip(all) {
                let values: Vec<_> = columns.iter().map(|(name, _)| medians.get(*name).copied()).collect();
                table.row(&row.name(), &values);
            }
            println!("\n{}:\n", case.title(self.options));
            print!("{}", table.render());
        }
        self.runs.append(&mut kept);
    }
}

/// What is compared with each other: a workload, `idle` at one number of connections.
struct Case {
    workload: Workload,
    connections: Option<usize>,
}

impl Case {
    fn has(&self, run: &Outcome) -> bool {
        let connections = run.settings.get("connections").and_then(Value::as_u64);
        run.scenario == self.workload.name() && connections == self.connections.map(|count| count as u64)
    }

    fn name(&self) -> String {
        match self.connections {
            Some(count) => format!("{} {count}", self.workload.name()),
            None => self.workload.name().into(),
        }
    }

    fn title(&self, options: &Options) -> String {
        let (seconds, bytes) = (options.seconds, options.text_bytes);
        let what = match self.workload {
            Workload::Fanout => format!("1 × {} readers, {} messages/s of {bytes} B", options.readers, options.rate),
            Workload::Rooms => {
                let (rooms, readers, rate) = (options.rooms, options.room_readers, options.rooms_rate);
                format!("{rooms} × {readers} readers, {rate} messages/s of {bytes} B in all")
            }
            Workload::Idle => return format!("{} connections in rooms of {}", self.name(), idle::ROOM),
            Workload::Durable => {
                format!("{} senders with {} unanswered sends of {bytes} B each", options.senders, options.window)
            }
        };
        format!("{}: {what}, {seconds} s", self.name())
    }
}

fn skips(row: Row, workload: Workload) -> bool {
    match workload {
        Workload::Durable => !row.stores(),
        Workload::Idle => !row.has_own_sessions(),
        Workload::Fanout | Workload::Rooms => false,
    }
}

fn rooms(workload: Workload, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{}-{i}", workload.name())).collect()
}

fn settings(plan: &impl serde::Serialize) -> BTreeMap<String, Value> {
    match serde_json::to_value(plan) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

fn outcome(row: Row, workload: Workload, label: String, settings: BTreeMap<String, Value>, ending: Ending) -> Outcome {
    Outcome {
        scenario: workload.name().into(),
        label,
        subject: row.name(),
        settings,
        ending,
        seconds: 0.0,
        figures: BTreeMap::new(),
        latencies: BTreeMap::new(),
        timeline: Vec::new(),
        marks: Vec::new(),
        series: Vec::new(),
        verdict: None,
        objectives: Vec::new(),
    }
}

/// What the histories say of a row of ours; nothing of a peer's.
fn verdict(server: &Server, found: &readback::Row) -> Result<Option<Verdict>> {
    match &server.held {
        Held::Stack(stack) => readback::run(server, &Mint::new(&stack.target().secret), found).map(Some),
        _ => Ok(None),
    }
}
