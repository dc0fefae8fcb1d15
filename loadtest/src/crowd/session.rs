//! One run seen from its conductor: makes the rooms, starts the workers, gathers what they report, and ends in an
//! [`Outcome`].
//!
//! Invariants: every wait has an end; whatever goes wrong after the start, [`Session::end`] still tells what was measured
//! until then, and why it is not more.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::checker::faults::Faults;
use crate::checker::judge::Judge;
use crate::checker::ledger::Ledger;
use crate::checker::readback::{self, Found, Source};
use crate::crowd::crew::Crew;
use crate::crowd::figures::{self, Measured, Window};
use crate::crowd::gate;
use crate::crowd::gathered::Gathered;
use crate::crowd::job::{Load, Population, Target};
use crate::crowd::news::{News, Order, Totals};
use crate::crowd::schedule;
use crate::fail::{Fail, Result};
use crate::net::token::Mint;
use crate::report::outcome::{Ending, Mark, Outcome, Verdict};
use crate::report::progress::{LiveLine, Mode, Progress};
use crate::stack::Parts;
use crate::sys;
use crate::usage;

/// How a run is carried out, beside what is done in it.
#[derive(Clone, Debug)]
pub struct Conduct {
    pub scenario: String,
    pub label: String,
    /// Read the histories back and judge them.
    pub check: bool,
    pub progress: Mode,
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

/// See the module.
pub struct Session {
    target: Target,
    parts: Parts,
    parts_changed: bool,
    population: Population,
    load: Load,
    conduct: Conduct,
    nonce: String,
    crew: Crew,
    progress: Progress,
    phase: &'static str,
    begin: Option<Instant>,
    gathered: Gathered,
    marks: Vec<Mark>,
    window: Window,
    last_usage: usage::Usage,
    next_draw: Instant,
    ready: usize,
    settled: usize,
    totals: Vec<Option<Totals>>,
    gone: usize,
    interrupted: bool,
    failed: Option<String>,
}

/// Beyond the patience of the load, for what a worker does after that.
const GRACE: Duration = Duration::from_secs(15);
const DRAW: Duration = Duration::from_millis(250);
/// Between the order to begin and the beginning, so that all workers begin together.
const COUNTDOWN: Duration = Duration::from_millis(200);

/// Makes the names of this run's rooms and messages its own.
pub fn nonce() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("r{:x}", now.as_millis())
}

impl Session {
    /// Makes the rooms, starts the workers and brings everybody in; the load has not begun.
    pub fn start(target: &Target, parts: Parts, population: Population, load: Load, conduct: Conduct) -> Result<Self> {
        let mut progress = Progress::new(conduct.progress);
        progress.phase("looking at the target", 0, 0);
        gate::check(target)?;
        let of = population.rooms.len() as u64;
        let shown = Mutex::new((&mut progress, Instant::now()));
        gate::make_rooms(target, &population.rooms, &|done| {
            if let Ok(mut shown) = shown.lock()
                && shown.1.elapsed() > DRAW
            {
                shown.1 = Instant::now();
                shown.0.phase("making rooms", done as u64, of);
            }
        })?;
        let nonce = nonce();
        let crew = Crew::start(&nonce, target, &population, &load, conduct.check)?;
        let workers = crew.len();
        let mut session = Self {
            target: target.clone(),
            parts,
            parts_changed: false,
            population,
            load,
            conduct,
            nonce,
            progress,
            phase: "entering",
            begin: None,
            gathered: Gathered::new(workers),
            marks: Vec::new(),
            window: Window::default(),
            last_usage: usage::Usage::new(),
            next_draw: Instant::now(),
            ready: 0,
            settled: 0,
            totals: vec![None; workers],
            gone: 0,
            interrupted: false,
            failed: None,
            crew,
        };
        session.window.before_anybody = Some(usage::of(&session.parts, &session.crew.pids()));
        let mut entering = vec![(0, 0); workers];
        let mut last = (0, Instant::now());
        let patience = Duration::from_secs_f64(session.load.patience_s) + GRACE;
        while session.ready < workers && session.going() {
            session.hear(Instant::now() + DRAW, |worker, done, of| entering[worker] = (done, of));
            let (done, of) = entering.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            session.progress.phase("entering", done, of);
            session.draw();
            if done > last.0 {
                last = (done, Instant::now());
            }
            if last.1.elapsed() > patience {
                let seconds = patience.as_secs();
                session.failed = Some(format!("{done} of {of} came in, then nothing for {seconds} s"));
            }
        }
        Ok(session)
    }

    /// Everybody came in.
    pub fn is_in(&self) -> bool {
        self.ready == self.crew.len() && self.going()
    }

    /// Workers that have said their last word.
    fn told(&self) -> usize {
        self.totals.iter().flatten().count()
    }

    fn going(&self) -> bool {
        !self.interrupted && self.failed.is_none() && self.gone == 0
    }

    /// Begins the load.
    pub fn go(&mut self) -> Result<()> {
        self.window.entered = Some(usage::of(&self.parts, &self.crew.pids()));
        self.begin = Some(Instant::now() + COUNTDOWN);
        self.crew.order(&Order::Go(sys::monotonic_ns() + COUNTDOWN.as_nanos() as u64));
        self.phase = "measuring";
        Ok(())
    }

    /// Seconds since the load began, warm-up included.
    pub fn now_s(&self) -> f64 {
        self.begin.map_or(0.0, |begin| Instant::now().saturating_duration_since(begin).as_secs_f64())
    }

    /// Whole length of the load, warm-up included.
    pub fn length_s(&self) -> f64 {
        schedule::length_s(&self.load)
    }

    /// Listens to the workers until then and draws progress. `Ok(false)`: the run is over early (stopped by a signal, the
    /// target is silent, a worker died); [`Session::end`] tells why.
    pub fn attend(&mut self, until: Instant) -> Result<bool> {
        while self.going() && Instant::now() < until {
            self.hear(until, |_, _, _| {});
            self.watch();
            self.draw();
        }
        Ok(self.going())
    }

    /// Takes news until then, but not much longer than one drawing.
    fn hear(&mut self, until: Instant, mut entering: impl FnMut(usize, u64, u64)) {
        let until = until.min(Instant::now() + DRAW);
        loop {
            if sys::take_stop() {
                self.interrupted = true;
            }
            let left = until.saturating_duration_since(Instant::now());
            let (worker, news) = match self.crew.heard.recv_timeout(left.min(DRAW)) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    self.gone = self.crew.len();
                    return;
                }
            };
            match news {
                Some(News::Entering { done, of }) => entering(worker, done, of),
                Some(News::Ready) => self.ready += 1,
                Some(News::Live(interval)) => {
                    let now_s = self.now_s();
                    self.gathered.add(worker, &interval, now_s);
                }
                Some(News::Settled { .. }) => self.settled += 1,
                Some(News::Done(totals)) => self.totals[worker] = Some(*totals),
                Some(News::Failed(why)) => {
                    self.failed.get_or_insert(why);
                }
                None if self.totals[worker].is_none() => {
                    self.gone += 1;
                    self.failed.get_or_insert_with(|| "a worker process of the load died".into());
                }
                None => {}
            }
        }
    }

    /// Takes the measured part's beginning and end, and each second's usage.
    fn watch(&mut self) {
        let Some(begin) = self.begin else { return };
        let now_s = Instant::now().saturating_duration_since(begin).as_secs_f64();
        let (from, to) = (self.load.warmup_s, self.length_s());
        if self.window.began.is_none() && now_s >= from {
            self.window.open(now_s, &self.parts, &self.crew.pids());
        }
        if self.window.ended.is_none() && now_s >= to {
            self.window.close(now_s, &self.parts, &self.crew.pids());
        }
        if self.gathered.turn_to(now_s) {
            let now = usage::of(&self.parts, &self.crew.pids());
            let last = std::mem::replace(&mut self.last_usage, now.clone());
            let place = self.gathered.timeline.len().saturating_sub(2);
            if let Some(second) = self.gathered.timeline.get_mut(place) {
                for (part, used) in now {
                    second.rss_mib.insert(part.into(), used.rss as f64 / f64::from(1 << 20));
                    if let Some(before) = last.get(part) {
                        second.cpu_s.insert(part.into(), (used.cpu - before.cpu).total().max(0.0));
                    }
                }
            }
        }
    }

    fn draw(&mut self) {
        if Instant::now() < self.next_draw {
            return;
        }
        self.next_draw = Instant::now() + DRAW;
        if self.begin.is_none() {
            return;
        }
        let now_s = self.now_s();
        if self.phase == "measuring" {
            let warm = now_s < self.load.warmup_s;
            self.progress.timed(if warm { "warming up" } else { "measuring" }, now_s, self.length_s());
        }
        let timeline = &self.gathered.timeline;
        let whole = timeline.len().checked_sub(2).map(|place| timeline[place].clone()).unwrap_or_default();
        let live = &self.gathered.live;
        self.progress.live(&LiveLine {
            sent_per_s: whole.sent as f64,
            acked_per_s: whole.acked as f64,
            deliveries_per_s: whole.delivered as f64,
            ack_p99_ms: self.gathered.ack_p99_ms,
            delivery_p99_ms: self.gathered.delivery_p99_ms,
            waiting: live.waiting,
            errors: live.errors,
            connected: live.connected,
        });
    }

    pub fn live(&self) -> &Live {
        &self.gathered.live
    }

    /// p99 of acks and of deliveries since the last call, in milliseconds.
    pub fn take_p99s(&mut self) -> (Option<f64>, Option<f64>) {
        self.gathered.take_p99s()
    }

    /// The processes whose CPU and memory are the server's may change while the run goes on.
    pub fn set_parts(&mut self, parts: Parts) {
        self.parts = parts;
        self.parts_changed = true;
    }

    /// Longest wait for an ack of any send that was due between these two times (see [`Session::now_s`]), those that
    /// still wait included; `None` where none was due.
    pub fn longest_wait_ms(&self, from_s: f64, until_s: f64) -> Option<f64> {
        self.gathered.longest_wait_ms(from_s, until_s, self.now_s())
    }

    /// Notes what happened; gives its place in the report's marks, so that its end can be told later.
    pub fn mark(&mut self, mark: Mark) -> usize {
        self.marks.push(mark);
        self.marks.len() - 1
    }

    pub fn mark_mut(&mut self, place: usize) -> &mut Mark {
        &mut self.marks[place]
    }

    /// Notes with each mark the longest wait of a send that was due while it lasted, or in the second of its end.
    pub fn weigh_marks(&mut self) {
        let now_s = self.now_s();
        for mark in &mut self.marks {
            let until_s = mark.until_s.unwrap_or(mark.at_s);
            mark.longest_wait_ms = self.gathered.longest_wait_ms(mark.at_s, until_s, now_s);
        }
    }

    /// Prints a line above the progress bar.
    pub fn say(&mut self, line: &str) {
        self.progress.say(line);
    }

    /// Listens until `done`, or the deadline, or everybody is gone. A stop that was asked for before does not end it, a
    /// further one does.
    fn wait_for(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + within;
        let was_interrupted = std::mem::take(&mut self.interrupted);
        while !done(self) && self.gone < self.crew.len() && Instant::now() < until && !self.interrupted {
            self.hear(Instant::now() + DRAW, |_, _, _| {});
            self.watch();
            self.draw();
        }
        let stopped_again = self.interrupted;
        self.interrupted |= was_interrupted;
        done(self) && !(stopped_again && was_interrupted)
    }

    /// Stops the load, waits until every send is answered and every watcher is at its room's head, reads the histories
    /// back, judges them, and tells what was found.
    pub fn end(mut self) -> Result<Outcome> {
        let patience = Duration::from_secs_f64(self.load.patience_s);
        if self.begin.is_some() && self.window.ended.is_none() {
            let now_s = self.now_s();
            if self.window.began.is_none() {
                self.window.open(now_s.min(self.load.warmup_s), &self.parts, &self.crew.pids());
            }
            self.window.close(now_s, &self.parts, &self.crew.pids());
        }
        self.phase = "settling";
        self.progress.phase("settling", 0, 0);
        let mut incomplete = self.failed.clone();
        let begun = self.begin.is_some();
        let settle_within = if incomplete.is_some() { Duration::ZERO } else { patience };
        self.crew.order(&Order::Settle(settle_within.as_secs_f64()));
        let workers = self.crew.len();
        if begun && !self.wait_for(settle_within + GRACE, |session| session.settled + session.gone >= workers) {
            incomplete.get_or_insert_with(|| "the load did not settle".into());
        }
        let token = Mint::new(&self.target.secret).token("lt-auditor");
        let (servers, rooms) = (self.target.servers.clone(), self.population.rooms.clone());
        let source = |patience| Source { servers: &servers, token: &token, rooms: &rooms, patience };
        let mut heads = Vec::new();
        if self.conduct.check && begun && incomplete.is_none() {
            self.progress.phase("asking for heads", 0, 0);
            match readback::heads(&source(patience)) {
                Ok(found) => heads = found,
                Err(fail) => incomplete = Some(fail.reason()),
            }
        }
        self.phase = "catching up";
        self.progress.phase("catching up", 0, 0);
        self.crew.order(&Order::Heads(heads, patience.as_secs_f64()));
        if !self.wait_for(patience + GRACE * 2, |session| session.told() + session.gone >= workers)
            || self.told() < workers
        {
            incomplete.get_or_insert_with(|| "the workers did not come to an end".into());
        }
        let totals: Vec<Totals> = self.totals.iter_mut().map(|totals| totals.take().unwrap_or_default()).collect();
        let verdict = match self.conduct.check && begun {
            false => None,
            true => Some(self.judge(&totals, &source(patience), incomplete)),
        };
        self.progress.finish();
        let ending = match (&self.failed, self.interrupted) {
            (Some(why), _) => Ending::Failed(why.clone()),
            (None, true) => Ending::Interrupted,
            (None, false) => Ending::Finished,
        };
        let measured = Measured {
            load: &self.load,
            population: &self.population,
            totals: &totals,
            window: &self.window,
            parts_changed: self.parts_changed,
        };
        let (figures, latencies) = figures::of(&measured);
        Ok(Outcome {
            scenario: self.conduct.scenario,
            label: self.conduct.label,
            subject: self.target.name,
            settings: figures::settings(&self.population, &self.load),
            ending,
            seconds: self.window.seconds(),
            figures,
            latencies,
            timeline: self.gathered.into_timeline(),
            marks: self.marks,
            series: Vec::new(),
            verdict,
            objectives: Vec::new(),
        })
    }

    /// Reads the histories back and holds everything against them.
    fn judge(&mut self, totals: &[Totals], source: &Source, mut incomplete: Option<String>) -> Verdict {
        let mut faults = Faults::default();
        totals.iter().for_each(|totals| faults.merge(totals.faults.clone()));
        let ledgers: std::io::Result<Vec<Ledger>> = self.crew.ledgers.iter().map(|path| Ledger::load(path)).collect();
        let ledgers = ledgers.unwrap_or_else(|error| {
            incomplete.get_or_insert(format!("a worker's ledger can't be read: {error}"));
            Vec::new()
        });
        let of: u64 = ledgers.iter().map(|ledger| u64::from(ledger.len())).sum();
        let mut judge = Judge::new(&self.nonce, self.population.rooms.clone(), ledgers, faults);
        let readable = incomplete.is_none();
        if readable {
            let (mut read, progress, mut drawn) = (0, &mut self.progress, Instant::now());
            let result = readback::histories(source, &mut |found| match found {
                Found::Entry(room, entry) => {
                    judge.entry(room, &entry);
                    read += 1;
                    if read % 1024 == 0 && drawn.elapsed() > DRAW {
                        drawn = Instant::now();
                        progress.phase("reading histories back", read, of);
                    }
                }
                Found::End(room) => judge.end_of(room),
            });
            incomplete = result.err().map(|fail| fail.reason());
        }
        let sum = |of: fn(&Totals) -> u64| totals.iter().map(of).sum();
        judge.verdict(sum(|totals| totals.observed), sum(|totals| totals.observers), incomplete)
    }
}

/// The target of `--target` options; its names are looked up once.
pub fn existing(servers: Vec<SocketAddr>, secret: String) -> Target {
    let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
    Target { name: shown.join(", "), servers, secret }
}

impl Fail {
    /// Without the words about what kind of failure it is.
    fn reason(self) -> String {
        match self {
            Self::Broken(why) | Self::Setup(why) => why,
            other => other.to_string(),
        }
    }
}
