//! The rolling replacement itself: one new node at a time, an old one told to go once the new one is ready (`maxSurge: 1`,
//! `maxUnavailable: 0`), between a migration and a way back of the schema.
//!
//! Invariants: a node that runs is only ever ended where this file says so, and its exit status is looked at; whatever
//! takes longer than its bound is a finding and ends the course; the load's session is listened to all the while, and left
//! to the caller to end.

use std::time::{Duration, Instant};

use crate::crowd::session::Session;
use crate::fail::{Fail, Result};
use crate::report::outcome::Mark;
use crate::stack::Stack;
use crate::stack::child::Server;
use crate::upgrade::gauges::Gauges;

const TICK: Duration = Duration::from_millis(50);
/// For a node to become ready; debug builds on busy machines in mind.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Beyond `server.shutdown_s`: the process' own end.
const EXIT_GRACE: Duration = Duration::from_secs(3);
/// For a migration of the little that a test writes.
const MIGRATED_WITHIN: Duration = Duration::from_secs(60);
/// What a plan of migrations says when something is to be done.
const PENDING: i32 = 3;

/// A build of the server.
#[derive(Clone, Debug)]
pub struct Release {
    pub name: String,
    pub program: std::path::PathBuf,
}

/// How long to stay where.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before, and after each whole replacement.
    pub settle: Duration,
    /// With nodes of both releases.
    pub mixed: Duration,
    /// From a node's being ready to the next one's being told to go (`minReadySeconds`).
    pub min_ready: Duration,
    /// The nodes' `server.shutdown_s`.
    pub shutdown: Duration,
    /// Kill nodes in place of telling them to go: to see that it is noticed.
    pub kill: bool,
}

/// What was measured on the way.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub figures: Vec<(&'static str, f64)>,
    /// What must not happen, beside what the checker finds.
    pub found: Vec<String>,
    pub replaced: u32,
    pub slowest_drain_s: f64,
    /// Of the load's time: when the way there began and ended, and the way back.
    pub there_s: Option<(f64, f64)>,
    pub back_s: Option<(f64, f64)>,
}

pub struct Roll<'a> {
    pub stack: &'a mut Stack,
    pub session: &'a mut Session,
    pub gauges: Gauges,
    pub pace: Pace,
    pub measured: Measured,
    /// Places whose nodes run, the oldest first.
    running: Vec<usize>,
}

impl<'a> Roll<'a> {
    /// For a stack whose first `nodes` nodes are `from`.
    pub fn new(stack: &'a mut Stack, session: &'a mut Session, pace: Pace, from: &Release, nodes: usize) -> Self {
        let mut gauges = Gauges::new(stack.nodes.len());
        let now_s = session.now_s();
        (0..nodes).for_each(|place| gauges.started(place, &from.name, now_s));
        Self { stack, session, gauges, pace, measured: Measured::default(), running: (0..nodes).collect() }
    }

    /// From one to the other and, where that is wished, back.
    pub fn run(mut self, from: &Release, to: &Release, back: bool) -> (Gauges, Measured) {
        let result = self.there(from, to).and_then(|at| if back { self.back(from, to, at) } else { Ok(()) });
        if let Err(fail) = result {
            self.measured.found.push(fail.to_string());
        }
        (self.gauges, self.measured)
    }

    /// Gives the schema's version from before.
    fn there(&mut self, from: &Release, to: &Release) -> Result<u32> {
        self.session.take_p99s();
        self.stay(self.pace.settle)?;
        self.note_p99s("ack_p99_before_ms", "delivery_p99_before_ms");
        let begun = self.session.now_s();
        let (at, pending) = self.plan(to)?;
        let what = if pending { "the schema migrated" } else { "no migration" };
        let mark = self.mark(what);
        self.migrate(to, &[])?;
        self.over(mark);
        if self.plan(to)?.1 {
            return Err(Fail::Broken("migrations are pending after the migration".into()));
        }
        self.stay(self.pace.settle / 2)?;
        self.replace_all(from, to)?;
        self.stay(self.pace.settle)?;
        self.note_p99s("ack_p99_during_ms", "delivery_p99_during_ms");
        self.measured.there_s = Some((begun, self.session.now_s()));
        Ok(at)
    }

    fn back(&mut self, from: &Release, to: &Release, at: u32) -> Result<()> {
        let begun = self.session.now_s();
        let (now, _) = self.plan(to)?;
        let aside = now > at && !self.starts_on_newer(from)?;
        if aside {
            // A program from before newer schemas were let through looks only at what is recorded.
            self.session.say(&format!("{} refuses newer schemas: their records are set aside", from.name));
            self.sql(&format!(
                "CREATE TABLE set_aside AS SELECT * FROM refinery_schema_history WHERE version > {at};\n\
                 DELETE FROM refinery_schema_history WHERE version > {at};"
            ))?;
        }
        self.replace_all(to, from)?;
        if now > at {
            if aside {
                self.sql("INSERT INTO refinery_schema_history SELECT * FROM set_aside; DROP TABLE set_aside;")?;
            }
            let mark = self.mark("the schema as before");
            self.migrate(to, &["--back-to", &at.to_string()])?;
            self.over(mark);
            if self.plan(to)?.0 != at {
                return Err(Fail::Broken(format!("the schema is not back at {at}")));
            }
        }
        self.stay(self.pace.settle)?;
        self.note_p99s("ack_p99_back_ms", "delivery_p99_back_ms");
        self.measured.back_s = Some((begun, self.session.now_s()));
        Ok(())
    }

    /// Every node that runs, one after the other; after the first it stays with nodes of both releases for a while.
    fn replace_all(&mut self, old: &Release, new: &Release) -> Result<()> {
        let count = self.running.len();
        for n in 0..count {
            self.replace(new)?;
            if n == 0 && count > 1 {
                let committed = |roll: &Self| [old, new].map(|release| roll.gauges.committed_by(&release.name));
                let (mark, before) = (self.mark("both releases"), committed(self));
                self.stay(self.pace.mixed)?;
                self.over(mark);
                let after = committed(self);
                let [by_old, by_new] = [after[0] - before[0], after[1] - before[1]];
                let (old, new) = (&old.name, &new.name);
                let told = format!("entries of rooms that they own: {by_old} by {old}, {by_new} by {new}");
                self.session.say(&told);
                if by_old <= 0.0 || by_new <= 0.0 {
                    return Err(Fail::Broken(format!("both releases have to own rooms; {told}")));
                }
            }
        }
        Ok(())
    }

    /// One more node of `new`; then the oldest goes.
    fn replace(&mut self, new: &Release) -> Result<()> {
        let free = (0..self.stack.nodes.len()).find(|place| !self.running.contains(place));
        let free = free.ok_or_else(|| Fail::Setup("no place for another node".into()))?;
        let node = &mut self.stack.nodes[free];
        node.use_program(&new.program);
        node.start()?;
        let now_s = self.session.now_s();
        self.gauges.started(free, &new.name, now_s);
        self.session.set_parts(self.stack.parts());
        self.until(READY_WITHIN, "ready", free, |stack| stack.nodes[free].ready())?;
        self.running.push(free);
        self.stay(self.pace.min_ready)?;
        let oldest = self.running.remove(0);
        let leaves = self.gauges.name(oldest).to_owned();
        let mark = self.mark(&format!("{} replaces {leaves}", self.gauges.name(free)));
        let begun = Instant::now();
        self.gauges.leaves(oldest);
        if self.pace.kill {
            self.stack.nodes[oldest].kill();
        } else {
            self.stack.nodes[oldest].terminate();
        }
        let within = self.pace.shutdown + EXIT_GRACE;
        self.until(within, "gone", oldest, |stack| stack.nodes[oldest].ended().is_some())?;
        let (took, status) = (begun.elapsed().as_secs_f64(), self.stack.nodes[oldest].ended());
        self.measured.slowest_drain_s = self.measured.slowest_drain_s.max(took);
        self.measured.replaced += 1;
        self.over(mark);
        let now_s = self.session.now_s();
        self.gauges.ended(oldest, now_s);
        self.session.set_parts(self.stack.parts());
        match status.and_then(|status| status.code()) {
            Some(0) => Ok(()),
            code => {
                let last = self.stack.nodes[oldest].last_lines();
                self.measured.found.push(format!("{leaves} ended with {code:?} in place of 0\n{last}"));
                Ok(())
            }
        }
    }

    /// Listens to the load, and looks after the nodes.
    fn stay(&mut self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        loop {
            self.step()?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        for &place in &self.running {
            let node = &mut self.stack.nodes[place];
            if let Some(status) = node.ended() {
                let name = self.gauges.name(place);
                return Err(Fail::Broken(format!("{name} ended by itself with {status}\n{}", node.last_lines())));
            }
        }
        let now_s = self.session.now_s();
        self.gauges.look(self.stack, now_s);
        if self.session.attend(Instant::now() + TICK)? {
            Ok(())
        } else {
            Err(Fail::Broken("the load ended before its time".into()))
        }
    }

    fn until(
        &mut self,
        within: Duration,
        what: &str,
        place: usize,
        mut done: impl FnMut(&mut Stack) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + within;
        while !done(self.stack) {
            if Instant::now() > until {
                let last = self.stack.nodes[place].last_lines();
                let name = self.gauges.name(place);
                return Err(Fail::Broken(format!("{name} was not {what} after {within:?}\n{last}")));
            }
            self.step()?;
        }
        Ok(())
    }

    /// The schema's version, and whether `release` has migrations for it.
    fn plan(&mut self, release: &Release) -> Result<(u32, bool)> {
        let (status, told) = self.program(release, &["migrate", "--plan"])?;
        let at = told.strip_prefix("the schema is at ").and_then(|rest| rest.split(',').next()?.parse().ok());
        match (status, at) {
            (0, Some(at)) => Ok((at, false)),
            (PENDING, Some(at)) => Ok((at, true)),
            _ => Err(Fail::Broken(format!("{} migrate --plan ended with {status}: {told}", release.name))),
        }
    }

    fn migrate(&mut self, release: &Release, arguments: &[&str]) -> Result<()> {
        let arguments = [&["migrate"], arguments].concat();
        let (status, told) = self.program(release, &arguments)?;
        self.session.say(told.trim_end());
        if status == 0 {
            return Ok(());
        }
        Err(Fail::Broken(format!("{} {} ended with {status}: {told}", release.name, arguments.join(" "))))
    }

    /// Whether it would take up its work on the schema as it is now.
    fn starts_on_newer(&mut self, release: &Release) -> Result<bool> {
        Ok(self.program(release, &["migrate"])?.0 == 0)
    }

    /// Runs a command of the program with the settings of a node beside the load: its status, and what it printed.
    fn program(&mut self, release: &Release, arguments: &[&str]) -> Result<(i32, String)> {
        let command = self.stack.nodes[self.running[0]].command(&release.program, arguments);
        let running = std::thread::spawn(move || {
            let mut command = command;
            command.output()
        });
        let until = Instant::now() + MIGRATED_WITHIN;
        while !running.is_finished() && Instant::now() < until {
            self.step()?;
        }
        if !running.is_finished() {
            return Err(Fail::Broken(format!("{} {} takes too long", release.name, arguments.join(" "))));
        }
        let output = running.join().map_err(|_| Fail::Setup("a thread that ran a command".into()))??;
        let told = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned()))
    }

    fn sql(&mut self, script: &str) -> Result<()> {
        self.stack.postgres_mut()?.run(script)
    }

    fn mark(&mut self, what: &str) -> usize {
        let at_s = self.session.now_s();
        self.session.say(&format!("{at_s:7.1} s  {what}"));
        self.session.mark(Mark { at_s, until_s: None, what: what.to_owned(), longest_wait_ms: None })
    }

    fn over(&mut self, mark: usize) {
        let now_s = self.session.now_s();
        let mark = self.session.mark_mut(mark);
        mark.until_s = Some(now_s);
    }

    fn note_p99s(&mut self, ack: &'static str, delivery: &'static str) {
        let (acks, deliveries) = self.session.take_p99s();
        for (name, value) in [(ack, acks), (delivery, deliveries)] {
            self.measured.figures.extend(value.map(|value| (name, value)));
        }
    }
}
