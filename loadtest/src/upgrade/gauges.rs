//! Sessions of each node over time, as the nodes themselves tell: a line for each process that ran, with its release.

use std::time::{Duration, Instant};

use crate::net::http;
use crate::report::outcome::Series;
use crate::stack::Stack;
use crate::usage;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// For a node's answer; one that takes longer has the value from before.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// One process of a node.
struct Process {
    /// `previous 1`
    name: String,
    points: Vec<(f64, f64)>,
    /// Entries that it committed, as owner of their rooms, up to the last look.
    committed: f64,
    /// It was told to go: once it does not answer, nobody is there any more.
    leaves: bool,
    runs: bool,
}

/// See the module.
pub struct Gauges {
    processes: Vec<Process>,
    /// By place in the stack: the process that runs there.
    at: Vec<Option<usize>>,
    next: Instant,
}

impl Gauges {
    pub fn new(places: usize) -> Self {
        Self { processes: Vec::new(), at: vec![None; places], next: Instant::now() }
    }

    /// A process of `release` was started there.
    pub fn started(&mut self, place: usize, release: &str, now_s: f64) {
        let number =
            self.processes.iter().filter(|process| process.name.starts_with(&format!("{release} "))).count() + 1;
        let name = format!("{release} {number}");
        self.at[place] = Some(self.processes.len());
        self.processes.push(Process { name, points: vec![(now_s, 0.0)], committed: 0.0, leaves: false, runs: true });
    }

    /// It was told to go.
    pub fn leaves(&mut self, place: usize) {
        if let Some(process) = self.at[place] {
            self.processes[process].leaves = true;
        }
    }

    /// It is gone.
    pub fn ended(&mut self, place: usize, now_s: f64) {
        if let Some(process) = self.at[place].take() {
            let process = &mut self.processes[process];
            process.points.push((now_s, 0.0));
            process.runs = false;
        }
    }

    pub fn name(&self, place: usize) -> &str {
        self.at[place].map_or("nobody", |process| &self.processes[process].name)
    }

    /// Asks all that run, where it is time to.
    pub fn look(&mut self, stack: &Stack, now_s: f64) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        for (place, process) in self.at.iter().enumerate() {
            let Some(process) = process.map(|process| &mut self.processes[process]) else { continue };
            let answer = http::call_within(ANSWER_WITHIN, stack.nodes[place].admin, "GET", "/metrics", None, "");
            let text = answer.ok().filter(|(status, _)| *status == 200).map(|(_, text)| text);
            let told = |name: &str| text.as_deref().and_then(|text| usage::single(text, name));
            let before = process.points.last().map_or(0.0, |&(_, value)| if process.leaves { 0.0 } else { value });
            process.points.push((now_s, told("roundtable_sessions").unwrap_or(before)));
            process.committed = told("roundtable_entries_committed_total").unwrap_or(process.committed);
        }
    }

    /// Entries that the running processes of `release` have committed by the last look.
    pub fn committed_by(&self, release: &str) -> f64 {
        let of = |process: &&Process| process.runs && process.name.starts_with(&format!("{release} "));
        self.processes.iter().filter(of).map(|process| process.committed).sum()
    }

    pub fn into_series(self) -> Vec<Series> {
        let series = |process: Process| Series { name: process.name, points: process.points };
        self.processes.into_iter().map(series).collect()
    }
}
