//! `run SCENARIO`: against a target that is there, or a private cluster of its own.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;

use crate::crowd::job::{Load, Population, Target};
use crate::crowd::session::{self, Conduct, Session, nonce};
use crate::fail::{Fail, Result};
use crate::report::outcome::{Ending, Outcome, Report};
use crate::report::progress::Mode;
use crate::report::{Deliver, Status, deliver};
use crate::scenario::{ANSWER_WITHIN_S, PATIENCE_S, Scenario, Size, durable, plan, ramp};
use crate::stack::options::StackOptions;
use crate::stack::{Parts, Setup, Stack, Store};
use crate::sys;

/// The setting whose value is the target's; in the environment, so that it is in no list of processes.
const SECRET: &str = "ROUNDTABLE__AUTH__JWT__SECRET";
/// Above this a schedule is never caught up with, and times no longer fit a clock.
const MOST_PER_S: f64 = 1e6;
const LONGEST_S: f64 = 1e7;
/// Connections at which a profile's objectives are looked at where no number is given.
const PROFILE_CONNECTIONS: [usize; 4] = [100, 500, 1_000, 10_000];

#[derive(Args, Debug)]
pub struct Options {
    #[arg(value_enum)]
    scenario: Scenario,
    /// Servers that run already, several to spread over; their auth.jwt.secret is taken from the environment, from
    /// ROUNDTABLE__AUTH__JWT__SECRET [default: a private cluster is started]
    #[arg(long, value_name = "ws://HOST:PORT", value_delimiter = ',')]
    target: Vec<String>,
    /// Admin listeners of the target's nodes, for CPU and memory from their /metrics
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', requires = "target")]
    target_admin: Vec<String>,
    /// Nodes of the private cluster
    #[arg(long, default_value_t = 1, conflicts_with = "target", value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Store of a private node [default: postgres, for idle on one node sqlite]
    #[arg(long, value_enum, conflicts_with = "target")]
    store: Option<Store>,
    /// Connections; for rooms and ramp those that read, for fanout the readers
    #[arg(long)]
    connections: Option<usize>,
    /// Rooms; durable takes several numbers
    #[arg(long, value_delimiter = ',')]
    rooms: Vec<usize>,
    /// Sends a second over all rooms [durable without it: as many as are acked, then half of that]
    #[arg(long)]
    rate: Option<f64>,
    /// Length of the measured part (ramp: of a step), in seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// The same load before that, in seconds
    #[arg(long)]
    warmup: Option<f64>,
    /// Bytes of a message's text
    #[arg(long)]
    text_bytes: Option<usize>,
    /// Unanswered sends of one connection, at most the target's limits.inflight
    #[arg(long)]
    window: Option<usize>,
    /// GET requests a second over HTTP beside it
    #[arg(long)]
    http_rate: Option<f64>,
    /// ramp: the p99 of acks and deliveries that must be kept, in milliseconds
    #[arg(long, default_value_t = 50.0)]
    until_p99_ms: f64,
    /// A send without an answer is repeated elsewhere after this, in seconds
    #[arg(long, default_value_t = ANSWER_WITHIN_S)]
    answer_within: f64,
    /// The run is given up when the target is silent for this, in seconds
    #[arg(long, default_value_t = PATIENCE_S)]
    patience: f64,
    /// Do not read the histories back and judge them
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    stack: StackOptions,
    #[command(flatten)]
    deliver: Deliver,
}

/// Something that runs can be made against, one after the other.
pub struct Stage {
    target: Target,
    parts: Parts,
    check: bool,
    progress: Mode,
    /// What was started for it.
    stack: Option<Stack>,
}

impl Stage {
    /// Everybody is in; the load has not begun.
    pub fn session(&self, scenario: &str, label: &str, population: Population, load: Load) -> Result<Session> {
        let conduct =
            Conduct { scenario: scenario.into(), label: label.into(), check: self.check, progress: self.progress };
        Session::start(&self.target, self.parts.clone(), population, load, conduct)
    }

    /// One whole run.
    pub fn run(&self, scenario: &str, label: &str, population: Population, load: Load) -> Result<Outcome> {
        let mut session = self.session(scenario, label, population, load)?;
        if session.is_in() {
            session.go()?;
            let end = Instant::now() + Duration::from_secs_f64(session.length_s()) + Duration::from_millis(300);
            session.attend(end)?;
        }
        session.end()
    }
}

pub fn run(options: &Options) -> Result<Status> {
    sys::watch_for_stop()?;
    sys::sharp_timers();
    sys::raise_file_limit()?;
    options.deliver.check()?;
    let sizes = options.sizes()?;
    let mut report = Report::begin();
    let stage = options.stage()?;
    let mut runs = Vec::new();
    let result = options.all(&stage, &sizes, &mut runs);
    if runs.is_empty() {
        return result.map(|()| Status::Broken);
    }
    let trouble = runs.iter().any(|run: &Outcome| {
        matches!(run.ending, Ending::Failed(_)) || run.verdict.as_ref().is_some_and(|verdict| !verdict.holds())
    });
    if let Some(stack) = stage.stack.as_ref().filter(|_| trouble) {
        eprint!("{}", stack.last_words());
    }
    drop(stage);
    report.runs = runs;
    let status = deliver(&mut report, &options.deliver)?;
    result.map(|()| status)
}

impl Options {
    fn all(&self, stage: &Stage, sizes: &[Size], runs: &mut Vec<Outcome>) -> Result<()> {
        for size in sizes {
            match self.scenario {
                Scenario::Durable => {
                    let rooms: &[usize] = if self.rooms.is_empty() { &[1, 1_000] } else { &self.rooms };
                    durable::series(stage, size, rooms, runs)?;
                }
                Scenario::Ramp => runs.push(ramp::run(stage, size, self.until_p99_ms)?),
                scenario => {
                    let (population, load) = plan(scenario, &nonce(), size);
                    let label =
                        if sizes.len() > 1 { format!("{} connections", size.connections) } else { String::new() };
                    runs.push(stage.run(scenario.name(), &label, population, load)?);
                }
            }
            if runs.last().is_some_and(|run| run.ending != Ending::Finished) {
                break;
            }
        }
        Ok(())
    }

    /// The sizes to run one after the other: one, or under a profile of objectives several.
    fn sizes(&self) -> Result<Vec<Size>> {
        let default = Size::of(self.scenario);
        let goals = || self.deliver.slo.iter().flat_map(|goals| &goals.0);
        let http = goals().filter(|goal| goal.figure == "http_per_s" && !goal.at_most).map(|goal| goal.limit);
        // A little more than asked for, so that a rate that is just kept counts as kept.
        let http = http.fold(0.0, f64::max) * 1.05;
        let rooms = match (self.scenario, &self.rooms[..]) {
            (_, []) => default.rooms,
            (Scenario::Durable, _) => 0,
            (_, [rooms]) => *rooms,
            _ => return Err(Fail::Setup("several numbers of --rooms are for durable only".into())),
        };
        let size = Size {
            connections: self.connections.unwrap_or(default.connections),
            rooms,
            sends_per_s: self.rate.unwrap_or(default.sends_per_s),
            warmup_s: self.warmup.unwrap_or(default.warmup_s),
            seconds: self.seconds.unwrap_or(default.seconds),
            text_bytes: self.text_bytes.unwrap_or(default.text_bytes),
            window: self.window.unwrap_or(default.window),
            http_per_s: self.http_rate.unwrap_or(if http > 0.0 { http } else { default.http_per_s }),
            answer_within_s: self.answer_within,
            patience_s: self.patience,
        };
        let lasts = |seconds: f64| (0.0..=LONGEST_S).contains(&seconds);
        for (name, good, allowed) in [
            ("--connections", size.connections <= 1_000_000, "at most 1000000"),
            ("--connections", self.connections != Some(0), "at least 1"),
            ("--rooms", !self.rooms.contains(&0) && self.rooms.iter().all(|&n| n <= 100_000), "1 to 100000"),
            ("--rate", self.rate.is_none_or(|rate| (0.0..=MOST_PER_S).contains(&rate)), "0 to 1000000"),
            ("--seconds", lasts(size.seconds) && size.seconds > 0.0, "more than 0, at most 10000000"),
            ("--warmup", lasts(size.warmup_s), "0 to 10000000"),
            ("--text-bytes", (18..=16_000).contains(&size.text_bytes), "18 to 16000"),
            ("--window", (1..=65_536).contains(&size.window), "1 to 65536"),
            ("--http-rate", (0.0..=MOST_PER_S).contains(&size.http_per_s), "0 to 1000000"),
            ("--until-p99-ms", self.until_p99_ms > 0.0, "more than 0"),
            (
                "--answer-within",
                lasts(size.answer_within_s) && size.answer_within_s > 0.0,
                "more than 0, at most 10000000",
            ),
            ("--patience", lasts(size.patience_s) && size.patience_s > 0.0, "more than 0, at most 10000000"),
        ] {
            if !good {
                return Err(Fail::Setup(format!("{name} must be {allowed}")));
            }
        }
        let sweep = self.connections.is_none() && http > 0.0 && self.scenario == Scenario::Mixed;
        let each = |connections: usize| Size { connections, ..size.clone() };
        Ok(if sweep { PROFILE_CONNECTIONS.map(each).to_vec() } else { vec![size] })
    }

    fn stage(&self) -> Result<Stage> {
        let (check, progress) = (!self.no_check, Mode::of(self.deliver.quiet));
        if self.target.is_empty() {
            let sqlite = self.scenario == Scenario::Idle && self.nodes == 1;
            let setup = Setup {
                programs: self.stack.programs()?,
                nodes: self.nodes.into(),
                store: self.store.unwrap_or(if sqlite { Store::Sqlite } else { Store::Postgres }),
                settings: self.stack.settings.clone(),
                env: self.stack.env.clone(),
                proxied: false,
                spare: 0,
            };
            let mut shown = crate::report::progress::Progress::new(progress);
            let stack = Stack::start(&setup, &mut |what| shown.phase(what, 0, 0))?;
            shown.finish();
            return Ok(Stage { target: stack.target(), parts: stack.parts(), check, progress, stack: Some(stack) });
        }
        let secret = std::env::var(SECRET).map_err(|_| {
            Fail::Setup(format!("--target needs the target's auth.jwt.secret in the environment, as {SECRET}"))
        })?;
        let servers = self.target.iter().map(|url| server(url)).collect::<Result<Vec<_>>>()?;
        let admin = self.target_admin.iter().map(|at| resolve(at, at)).collect::<Result<Vec<_>>>()?;
        let parts = Parts { admin, ..Parts::default() };
        Ok(Stage { target: session::existing(servers, secret), parts, check, progress, stack: None })
    }
}

/// The address behind `ws://HOST:PORT`, with or without `/ws`.
fn server(url: &str) -> Result<SocketAddr> {
    if url.starts_with("wss://") {
        let why = "wss:// can't be measured: TLS in the client would cost more than what is measured; give the ws:// behind it";
        return Err(Fail::Setup(format!("--target {url}: {why}")));
    }
    let rest = url.strip_prefix("ws://").unwrap_or(url);
    let host = rest.strip_suffix("/ws").unwrap_or(rest).trim_end_matches('/');
    if host.contains('/') || host.contains("://") || !host.contains(':') {
        return Err(Fail::Setup(format!("--target {url}: not ws://HOST:PORT")));
    }
    resolve(host, url)
}

fn resolve(host: &str, shown: &str) -> Result<SocketAddr> {
    let found = host.to_socket_addrs().map_err(|error| Fail::Setup(format!("{shown}: {error}")))?;
    // 127.0.0.1 before ::1, where a name has both.
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| Fail::Setup(format!("{shown}: no such host")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_what_is_none_is_said() {
        for url in ["ws://127.0.0.1:8080", "ws://127.0.0.1:8080/ws", "127.0.0.1:8080", "ws://127.0.0.1:8080/"] {
            assert_eq!(server(url).expect(url), SocketAddr::from(([127, 0, 0, 1], 8080)));
        }
        for url in ["wss://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", "ws://127.0.0.1:99999", ""] {
            let said = server(url).expect_err(url).to_string();
            assert!(said.contains(url) && !said.contains('\n'), "{said}");
        }
    }
}
