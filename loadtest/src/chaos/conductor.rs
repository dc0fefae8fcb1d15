//! One run of chaos: keeps load and faults going side by side, tells of each fault, and ends in order whatever happens.
//!
//! Invariant: at the end every fault is healed and every node ready before the load's session ends, since it waits for
//! everybody to catch up; where that takes longer than [`HEALED_WITHIN`] it says so and ends all the same.

use std::time::{Duration, Instant};

use crate::chaos::executor::{Drain, Event, Executor};
use crate::chaos::fault::Kind;
use crate::chaos::statistics::Happened;
use crate::crowd::session::Session;
use crate::fail::Result;
use crate::report::outcome::Mark;
use crate::stack::Stack;
use crate::sys;

/// The contract gives a cluster 3 s after an outage; a fault's waits are counted until then and a little longer, but not
/// into the next fault.
const AFTERMATH_S: f64 = 4.0;
const TICK: Duration = Duration::from_millis(50);
/// For everything to be ready at the end.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// The same where the session is over already, after Ctrl-C say.
const HEALED_WITHIN_STOPPED: Duration = Duration::from_secs(30);

/// What came of the faults.
#[derive(Debug, Default)]
pub struct Course {
    pub faults: Vec<Happened>,
    pub drains: Vec<Drain>,
    pub crashes: u64,
    /// What the cluster did that it must not do, beside what the checker finds.
    pub found: Vec<String>,
}

pub struct Conductor<'a> {
    stack: &'a mut Stack,
    session: &'a mut Session,
    executor: Executor,
    /// Between the start of the load and that of the schedule, in seconds.
    offset_s: f64,
    told: Vec<Told>,
    found: Vec<String>,
}

/// A fault that began, with its place in the schedule and in the session's marks.
struct Told {
    place: usize,
    mark: usize,
    kind: Kind,
    begun_s: f64,
    healed_s: Option<f64>,
    /// Whether its longest wait has been told.
    closed: bool,
}

impl<'a> Conductor<'a> {
    /// The schedule's time begins `offset_s` after the load's.
    pub fn new(stack: &'a mut Stack, session: &'a mut Session, executor: Executor, offset_s: f64) -> Self {
        Self { stack, session, executor, offset_s, told: Vec::new(), found: Vec::new() }
    }

    /// Until `length_s` of the schedule are over, something was found that ends it, or the session ends by itself; then
    /// heals. The session is left to its end by the caller, also where the cluster can't be brought on: that is a
    /// finding like the others.
    pub fn run(mut self, length_s: f64) -> Course {
        let result = self.follow(length_s).and_then(|listening| self.heal(listening));
        if let Err(fail) = result {
            self.found.push(fail.to_string());
        }
        self.course()
    }

    /// False: the session is over.
    fn follow(&mut self, length_s: f64) -> Result<bool> {
        loop {
            let now_s = self.session.now_s() - self.offset_s;
            self.step(now_s)?;
            if now_s >= length_s || !self.found.is_empty() {
                return Ok(true);
            }
            if !self.session.attend(Instant::now() + TICK)? {
                return Ok(false);
            }
        }
    }

    fn step(&mut self, now_s: f64) -> Result<()> {
        for event in self.executor.step(self.stack, now_s)? {
            match event {
                Event::Began(place) => self.began(place),
                Event::Healed(place) => {
                    let now_s = self.session.now_s();
                    if let Some(told) = self.told.iter_mut().find(|told| told.place == place) {
                        told.healed_s = Some(now_s);
                        self.session.mark_mut(told.mark).until_s = Some(now_s);
                    }
                }
                Event::Moved => self.session.set_parts(self.stack.parts()),
                Event::Found(what) => {
                    self.session.say(&what);
                    self.found.push(what);
                }
            }
        }
        for i in 0..self.told.len() {
            if !self.told[i].closed && self.aftermath_end_s(i).is_some_and(|end| self.session.now_s() >= end) {
                self.close(i);
            }
        }
        Ok(())
    }

    /// When sends no longer count to a fault that is healed: a while later, or before the next fault begins. Waits are
    /// kept by whole seconds, so that is before the second in which it does, but not before the healing.
    fn aftermath_end_s(&self, i: usize) -> Option<f64> {
        let healed_s = self.told[i].healed_s?;
        let later = self.told.iter().map(|other| other.begun_s).filter(|&begun_s| begun_s >= healed_s);
        let before = later.map(|begun_s| begun_s.floor() - 0.001);
        Some(before.fold(healed_s + AFTERMATH_S, f64::min).max(healed_s))
    }

    fn began(&mut self, place: usize) {
        let fault = *self.executor.fault(place);
        let begun_s = self.session.now_s();
        for i in 0..self.told.len() {
            if !self.told[i].closed && self.told[i].healed_s.is_some() {
                self.close(i);
            }
        }
        let mut what = fault.action.to_string();
        if fault.length_s > 0.0 {
            what += &format!(", {:.1} s", fault.length_s);
        }
        self.session.say(&format!("{begun_s:7.1} s  {what}"));
        let mark = self.session.mark(Mark { at_s: begun_s, until_s: None, what, longest_wait_ms: None });
        let kind = fault.action.kind();
        self.told.push(Told { place, mark, kind, begun_s, healed_s: None, closed: false });
    }

    /// Tells what a fault cost.
    fn close(&mut self, i: usize) {
        let wait = self.longest_wait(i);
        let told = &mut self.told[i];
        told.closed = true;
        let Some(healed_s) = told.healed_s else { return };
        let mark = self.session.mark_mut(told.mark);
        mark.longest_wait_ms = wait;
        let wait = wait.map_or_else(|| "no send was due".to_owned(), |ms| format!("longest wait {ms:.0} ms"));
        let line = format!("{healed_s:7.1} s  healed after {:.1} s, {wait}: {}", healed_s - told.begun_s, mark.what);
        self.session.say(&line);
    }

    fn longest_wait(&self, i: usize) -> Option<f64> {
        let told = &self.told[i];
        let until_s = self.aftermath_end_s(i).unwrap_or_else(|| self.session.now_s());
        self.session.longest_wait_ms(told.begun_s, until_s)
    }

    fn heal(&mut self, mut listening: bool) -> Result<()> {
        self.executor.finish();
        let begun = Instant::now();
        loop {
            self.step(self.session.now_s() - self.offset_s)?;
            let late = if listening { HEALED_WITHIN } else { HEALED_WITHIN_STOPPED };
            let waits_for = self.executor.not_ready(self.stack);
            // The session has heard the first wish to stop; a second one waits for nothing.
            let hurried = !listening && sys::stopped();
            if hurried || self.executor.quiet() && waits_for.is_empty() {
                break;
            }
            if begun.elapsed() > late {
                self.found.push(format!("not ready {late:?} after the last fault: {}", waits_for.join(", ")));
                break;
            }
            listening = listening && self.session.attend(Instant::now() + TICK)?;
            if !listening {
                std::thread::sleep(TICK);
            }
        }
        // What is due now tells whether the last faults are over for the load too.
        let until = Instant::now() + Duration::from_secs_f64(AFTERMATH_S);
        while listening && Instant::now() < until && !self.told.iter().all(|told| told.closed) {
            listening = self.session.attend(Instant::now() + TICK)?;
            self.step(self.session.now_s() - self.offset_s)?;
        }
        Ok(())
    }

    fn course(mut self) -> Course {
        let mut faults = Vec::new();
        for i in 0..self.told.len() {
            if !self.told[i].closed {
                self.close(i);
            }
            // Sends that still waited when it was told may have waited on.
            let longest_wait_ms = self.longest_wait(i);
            let told = &self.told[i];
            self.session.mark_mut(told.mark).longest_wait_ms = longest_wait_ms;
            faults.push(Happened { kind: told.kind, begun_s: told.begun_s, healed_s: told.healed_s, longest_wait_ms });
        }
        Course { faults, drains: self.executor.drains().to_vec(), crashes: self.executor.crashes(), found: self.found }
    }
}
