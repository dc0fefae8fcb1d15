//! The worker processes of a run: started with their share of the people, ended with their conductor, heard through one
//! channel.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::crowd::job::{Load, Population, Target};
use crate::crowd::news::{Job, News, Order};
use crate::fail::{Fail, Result};
use crate::stack::child::TempDir;
use crate::sys;

/// Files a worker needs besides its connections.
const SPARE_FILES: u64 = 200;
/// Connections of one worker: its thread is busy before that, and there are source ports for more than this.
const MOST_PEOPLE: u64 = 50_000;

/// What one worker said; `None`: it is gone.
pub type Heard = (usize, Option<News>);

struct Worker {
    process: Child,
    orders: ChildStdin,
}

pub struct Crew {
    workers: Vec<Worker>,
    pub heard: Receiver<Heard>,
    pub ledgers: Vec<std::path::PathBuf>,
    _files: TempDir,
}

impl Crew {
    /// As many workers as the people need.
    pub fn start(nonce: &str, target: &Target, population: &Population, load: &Load, check: bool) -> Result<Self> {
        let files = TempDir::new("crew")?;
        let allowed = sys::raise_file_limit()?.saturating_sub(SPARE_FILES).clamp(1, MOST_PEOPLE);
        let count = (population.people.len() as u64).div_ceil(allowed).max(1) as usize;
        let (tell, heard) = mpsc::channel();
        let mut crew = Self { workers: Vec::new(), heard, ledgers: Vec::new(), _files: files };
        for worker in 0..count {
            let ledger = crew._files.path().join(format!("ledger-{worker}"));
            let job = Job {
                worker: worker as u32,
                nonce: nonce.to_owned(),
                target: target.clone(),
                rooms: population.rooms.clone(),
                people: share_of(population, worker, count),
                load: load.clone(),
                check,
                at_once: (200 / count).max(1),
                ledger: ledger.clone(),
            };
            let job = Job { load: load_share(population, &job, load), ..job };
            crew.ledgers.push(ledger);
            crew.workers.push(start(worker, &job, tell.clone())?);
        }
        Ok(crew)
    }

    pub fn len(&self) -> usize {
        self.workers.len()
    }

    pub fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(|worker| worker.process.id()).collect()
    }

    /// To all that still listen.
    pub fn order(&mut self, order: &Order) {
        let Ok(mut line) = serde_json::to_vec(order) else { return };
        line.push(b'\n');
        for worker in &mut self.workers {
            // One that is gone is noticed by its silence.
            let _ = worker.orders.write_all(&line).and_then(|()| worker.orders.flush());
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.process.kill();
            let _ = worker.process.wait();
        }
    }
}

/// Every `count`th person.
fn share_of(population: &Population, worker: usize, count: usize) -> Vec<(u32, crate::crowd::job::Person)> {
    let people = population.people.iter().enumerate().skip(worker).step_by(count);
    people.map(|(number, person)| (number as u32, person.clone())).collect()
}

/// The part of a load that one worker's people make: sends by its share of those who may send, all else by its share of
/// the people.
fn load_share(population: &Population, job: &Job, load: &Load) -> Load {
    let may_send = |person: &crate::crowd::job::Person| !person.member_of.is_empty();
    let senders = population.people.iter().filter(|person| may_send(person)).count().max(1) as f64;
    let own_senders = job.people.iter().filter(|(_, person)| may_send(person)).count() as f64;
    let (sending, being) = (own_senders / senders, job.people.len() as f64 / population.people.len().max(1) as f64);
    let mut load = load.clone();
    for step in &mut load.steps {
        step.sends_per_s *= if step.sends_per_s.is_finite() { sending } else { 1.0 };
    }
    for rate in [
        &mut load.typing_per_s,
        &mut load.reads_per_s,
        &mut load.history_per_s,
        &mut load.reconnects_per_s,
        &mut load.http_per_s,
    ] {
        *rate *= being;
    }
    load
}

fn start(number: usize, job: &Job, tell: Sender<Heard>) -> Result<Worker> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    sys::tie_to_us(&mut command, libc::SIGKILL);
    let mut process = command.spawn().map_err(|error| Fail::Setup(format!("starting a worker: {error}")))?;
    let (Some(mut orders), Some(news)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(Fail::Setup("a worker without pipes".into()));
    };
    let mut line = serde_json::to_vec(job).map_err(std::io::Error::from)?;
    line.push(b'\n');
    thread::spawn(move || {
        for line in BufReader::new(news).lines() {
            let Some(news) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
            if tell.send((number, Some(news))).is_err() {
                return;
            }
        }
        let _ = tell.send((number, None));
    });
    orders.write_all(&line)?;
    Ok(Worker { process, orders })
}
