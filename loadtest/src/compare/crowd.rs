//! People of one peer: brought in a bounded number at a time, whatever the peer's language, and then held for the load.
//!
//! Invariant: person `i` is connection `i` of the fleet, because nothing is closed before the end of a row.

use std::time::{Duration, Instant};

use crate::compare::dialect::{Dialect, Person, Step};
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Lost, Scenario};

/// Entering at the same time: enough to keep both sides busy, below every accept queue.
const AT_ONCE: usize = 100;
/// Longest time in which nobody gets a step further.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that a peer may ask somebody to wait before the same step again.
const MOST_WAIT_MS: u64 = 5_000;

pub struct Crowd<'a> {
    pub fleet: Fleet,
    pub people: Vec<Person>,
    pub dialect: &'a dyn Dialect,
    entered: usize,
}

struct Entrance<'a> {
    people: &'a [Person],
    dialect: &'a dyn Dialect,
    steps: Vec<u8>,
    inside: Vec<bool>,
    count: usize,
    last_step: Instant,
    again: Vec<(Instant, usize)>,
    frame: Vec<u8>,
}

impl Entrance<'_> {
    fn ask(&mut self, fleet: &mut Fleet, conn: usize) {
        self.frame.clear();
        self.dialect.ask(&self.people[conn], self.steps[conn], &mut self.frame);
        if !self.frame.is_empty() {
            fleet.send(conn, &self.frame);
        }
    }

    fn go(&mut self, fleet: &mut Fleet, conn: usize, step: Step) {
        match step {
            Step::Next(step) => {
                self.steps[conn] = step;
                self.last_step = Instant::now();
                self.ask(fleet, conn);
            }
            Step::Stay => {}
            Step::Again(ms) => {
                self.again.push((Instant::now() + Duration::from_millis(ms.min(MOST_WAIT_MS)), conn));
            }
            Step::Say(answer) => fleet.send(conn, answer),
            Step::In => {
                self.last_step = Instant::now();
                if !std::mem::replace(&mut self.inside[conn], true) {
                    self.count += 1;
                }
            }
        }
    }
}

impl Scenario for Entrance<'_> {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        let first = self.dialect.first();
        self.go(fleet, conn, first);
        Ok(())
    }

    fn frame(&mut self, fleet: &mut Fleet, conn: usize, frame: &[u8]) -> Result<()> {
        if self.inside[conn] {
            // Keepalives and what others' coming makes the peer say.
            let mut answer = None;
            let heard = self.dialect.hear(frame, &mut |heard| {
                if let super::dialect::Heard::Answer(text) = heard {
                    answer = Some(text);
                }
            });
            heard.map_err(|why| Fail::Broken(format!("person {conn}, entered: {why}")))?;
            if let Some(answer) = answer {
                fleet.send(conn, answer);
            }
            return Ok(());
        }
        let step = self.dialect.entering(self.steps[conn], frame);
        let step = step.map_err(|why| Fail::Broken(format!("person {conn}, entering: {why}")))?;
        self.go(fleet, conn, step);
        Ok(())
    }

    fn lost(&mut self, _: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        Err(Fail::Broken(format!("person {conn}, entering: {why}")))
    }
}

impl<'a> Crowd<'a> {
    pub fn new(people: Vec<Person>, dialect: &'a dyn Dialect) -> Result<Self> {
        Ok(Self { fleet: Fleet::new()?, people, dialect, entered: 0 })
    }

    /// Brings in the first `until` people, those that are in already excepted.
    pub fn enter(&mut self, until: usize) -> Result<()> {
        let until = until.min(self.people.len());
        let mut entrance = Entrance {
            people: &self.people,
            dialect: self.dialect,
            steps: vec![0; self.people.len()],
            inside: (0..self.people.len()).map(|i| i < self.entered).collect(),
            count: self.entered,
            last_step: Instant::now(),
            again: Vec::new(),
            frame: Vec::new(),
        };
        let mut started = self.entered;
        while entrance.count < until {
            while started < until && started - entrance.count < AT_ONCE {
                let conn = self.fleet.connect(&self.dialect.door(&self.people[started]))?;
                if conn != started {
                    return Err(Fail::Setup(format!("person {started} got connection {conn}")));
                }
                started += 1;
            }
            let now = Instant::now();
            while let Some(due) = entrance.again.iter().position(|&(when, _)| when <= now) {
                let (_, conn) = entrance.again.swap_remove(due);
                entrance.ask(&mut self.fleet, conn);
            }
            self.fleet.turn(&mut entrance, now + Duration::from_millis(20))?;
            if entrance.last_step.elapsed() > PATIENCE {
                let count = entrance.count;
                return Err(Fail::Broken(format!("{count} of {until} came in, then nothing for {PATIENCE:?}")));
            }
        }
        self.entered = until;
        Ok(())
    }
}
