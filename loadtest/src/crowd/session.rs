//! One run seen from its conductor: starts the worker processes, gathers what they report, and ends in an [`Outcome`].

use std::time::Instant;

use crate::crowd::job::{Load, Population, Target};
use crate::fail::Result;
use crate::report::outcome::{Mark, Outcome};
use crate::stack::Parts;

/// How a run is carried out, beside what is done in it.
#[derive(Clone, Debug)]
pub struct Conduct {
    pub scenario: String,
    pub label: String,
    /// Read the histories back and judge them.
    pub check: bool,
    /// Draw progress on the terminal.
    pub progress: bool,
}

/// What has happened so far, over all workers.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub connected: u64,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    /// Sends due but not yet answered.
    pub waiting: u64,
    /// Refusals, closes and failed connections, each counted.
    pub errors: u64,
}

pub struct Session {}

impl Session {
    /// Makes the rooms, starts the workers and brings everybody in; the load has not begun.
    pub fn start(
        _target: &Target,
        _parts: Parts,
        _population: Population,
        _load: Load,
        _conduct: Conduct,
    ) -> Result<Self> {
        todo!()
    }

    /// Begins the load.
    pub fn go(&mut self) -> Result<()> {
        todo!()
    }

    /// Seconds since the load began, warm-up included.
    pub fn now_s(&self) -> f64 {
        todo!()
    }

    /// Listens to the workers until then and draws progress. `Ok(false)`: the run is over early (stopped by a signal, the
    /// target is silent, a worker died); [`Session::end`] tells why.
    pub fn attend(&mut self, _until: Instant) -> Result<bool> {
        todo!()
    }

    pub fn live(&self) -> &Live {
        todo!()
    }

    /// The processes whose CPU and memory are the server's may change while the run goes on.
    pub fn set_parts(&mut self, _parts: Parts) {
        todo!()
    }

    /// Longest wait for an ack of any send that was due between these two times (see [`Session::now_s`]), those that
    /// still wait included; `None` where none was due.
    pub fn longest_wait_ms(&self, _from_s: f64, _until_s: f64) -> Option<f64> {
        todo!()
    }

    /// Notes what happened; gives its place in the report's marks, so that its end can be told later.
    pub fn mark(&mut self, _mark: Mark) -> usize {
        todo!()
    }

    pub fn mark_mut(&mut self, _place: usize) -> &mut Mark {
        todo!()
    }

    /// Prints a line above the progress bar.
    pub fn say(&mut self, _line: &str) {
        todo!()
    }

    /// Stops the load, waits until every send is answered and every watcher is at its room's head, reads the histories
    /// back, judges them, and tells what was found.
    pub fn end(self) -> Result<Outcome> {
        todo!()
    }
}
