//! `bench`: small measurements that anybody can repeat on one machine. Where two things are compared, their rounds
//! alternate, so that what else the machine does meets both, and a ratio is one of medians.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::broadcast;
use crate::fail::{Fail, Result};
use crate::idle;
use crate::report::table::{Report, Table, median, quantile_ms};
use crate::sends::{self, Pace, Senders};
use crate::stack::options::Programs;
use crate::stack::{Store, Subject, Usage};
use crate::sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Memory of an idle session
    Idle,
    /// One room with many readers
    Fanout,
    /// Many rooms with few readers
    Rooms,
    /// Durable sends: the most a second, and how long an ack takes
    Durable,
    All,
}

#[derive(Args, Debug)]
pub struct Options {
    #[arg(value_enum, default_value = "all")]
    bench: Bench,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also measure this many nodes on PostgreSQL and Redis, compared with one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Store of a single node [default: sqlite for idle, postgres for the others]
    #[arg(long, value_enum)]
    store: Option<Store>,
    /// Rounds of each measurement; the medians are reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that a round measures [default: 20, durable 10]
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds before that of the same load
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 100)]
    text_bytes: usize,
    /// idle: sessions
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// idle: sessions in each room
    #[arg(long, default_value_t = 100)]
    room_size: usize,
    /// idle: seconds between the last subscription and the measurement
    #[arg(long, default_value_t = 10.0)]
    settle: f64,
    /// fanout: readers of the one room
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// fanout: entries a second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// rooms: how many
    #[arg(long, default_value_t = 200)]
    rooms: usize,
    /// rooms: readers of each
    #[arg(long, default_value_t = 5)]
    room_readers: usize,
    /// rooms: entries a second in each
    #[arg(long, default_value_t = 50.0)]
    room_rate: f64,
    /// durable: numbers of rooms to send to
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    send_rooms: Vec<usize>,
    /// durable: sender connections
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// durable: unanswered requests of a connection, at most limits.inflight
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// durable: messages a second of the open loop, beside half of the maximum
    #[arg(long, default_value_t = 15_000.0)]
    send_rate: f64,
    /// The server's program [default: roundtable beside this one]
    #[arg(long, value_name = "PATH")]
    roundtable: Option<PathBuf>,
    /// Directory of initdb and postgres [default: found]
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis: PathBuf,
    /// A setting of the nodes, as in ROUNDTABLE__LIMITS__REPLAY=5
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Measure these running nodes instead of starting any; their auth.jwt.secret is taken from
    /// ROUNDTABLE__AUTH__JWT__SECRET
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    target: Vec<SocketAddr>,
    /// Process ids of the target's nodes, where they run on this machine
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "target")]
    target_pid: Vec<u32>,
    /// Run the bare broadcaster alone: what this machine and the client can do
    #[arg(long)]
    only_raw: bool,
}

fn setting(text: &str) -> std::result::Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| name.starts_with("ROUNDTABLE__"));
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("not ROUNDTABLE__SECTION__KEY=VALUE".into())
}

pub fn run(options: &Options) -> Result<()> {
    sys::watch_for_stop()?;
    sys::sharp_timers();
    let files = sys::raise_file_limit()?;
    if options.sessions as u64 + 500 > files {
        return Err(Fail::Setup(format!("{} sessions need more than the {files} files allowed", options.sessions)));
    }
    for (what, n) in [("--rounds", options.rounds), ("--readers", options.readers), ("--rooms", options.rooms)] {
        if n == 0 {
            return Err(Fail::Setup(format!("{what} must be at least 1")));
        }
    }
    let mut report = Report::new();
    let run = Run { options, nonce: nonce() };
    let wanted = |bench| options.bench == bench || options.bench == Bench::All;
    let result = (|| {
        if wanted(Bench::Idle) && !options.only_raw {
            report.add(run.idle()?);
        }
        if wanted(Bench::Fanout) {
            let plan = run.plan(1, options.readers, 4, options.rate);
            report.add(run.broadcast("fanout", plan)?);
        }
        if wanted(Bench::Rooms) {
            let plan = run.plan(options.rooms, options.room_readers, 1, options.room_rate * options.rooms as f64);
            report.add(run.broadcast("rooms", plan)?);
        }
        if wanted(Bench::Durable) && !options.only_raw {
            report.add(run.durable()?);
        }
        Ok(())
    })();
    // What was measured before a failure is worth keeping.
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .map_err(|error| Fail::Setup(format!("{}: {error}", path.display())))?;
    }
    result
}

/// Makes the names of this run's rooms and messages its own.
fn nonce() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("b{:x}", now.as_millis())
}

struct Run<'a> {
    options: &'a Options,
    nonce: String,
}

impl Run<'_> {
    fn plan(&self, rooms: usize, readers: usize, senders: usize, rate: f64) -> broadcast::Plan {
        broadcast::Plan {
            rooms,
            readers_per_room: readers,
            senders_per_room: senders,
            entries_per_s: rate,
            text_bytes: self.options.text_bytes,
            warmup_s: self.options.warmup,
            seconds: self.options.seconds.unwrap_or(20.0),
        }
    }

    fn rooms(&self, bench: &str, count: usize) -> Vec<String> {
        (0..count).map(|i| format!("{}-{bench}-{i}", self.nonce)).collect()
    }

    fn start(&self, nodes: usize, default: Store) -> Result<Subject> {
        let options = self.options;
        if !options.target.is_empty() {
            let secret = std::env::var("ROUNDTABLE__AUTH__JWT__SECRET")
                .map_err(|_| Fail::Setup("--target needs ROUNDTABLE__AUTH__JWT__SECRET".into()))?;
            return Ok(Subject::existing(options.target.clone(), options.target_pid.clone(), &secret));
        }
        let roundtable = match &options.roundtable {
            Some(path) => path.canonicalize().map_err(|error| Fail::Setup(format!("{}: {error}", path.display())))?,
            None => std::env::current_exe()?.with_file_name("roundtable"),
        };
        let programs =
            Programs { roundtable, postgres_bin: options.postgres_bin.clone(), redis: options.redis.clone() };
        let store = if nodes > 1 { Store::Postgres } else { options.store.unwrap_or(default) };
        Subject::roundtable(&programs, nodes, store, &options.settings)
    }

    /// One node, and several where asked for.
    fn starts(&self) -> Result<Vec<Subject>> {
        let mut subjects = vec![self.start(1, Store::Postgres)?];
        if self.options.nodes > 1 && self.options.target.is_empty() {
            subjects.push(self.start(self.options.nodes.into(), Store::Postgres)?);
        }
        Ok(subjects)
    }

    fn idle(&self) -> Result<Value> {
        let options = self.options;
        let plan = idle::Plan { sessions: options.sessions, room_size: options.room_size, settle_s: options.settle };
        println!("\nidle: {} sessions in rooms of {}, one round", plan.sessions, plan.room_size);
        let subject = self.start(1, Store::Sqlite)?;
        let rooms = self.rooms("idle", plan.sessions.div_ceil(plan.room_size));
        subject.make_rooms(&rooms)?;
        let found = with_last_words(&subject, idle::run(&subject, plan, &rooms, &self.nonce))?;
        let mut table =
            Table::new(&["", "B RSS/session", "B anonymous/session", "MiB RSS", "idle CPU %", "entering s"]);
        table.row(
            &subject.name,
            &[
                Some(found.rss_per_session),
                Some(found.anonymous_per_session),
                Some(mib(found.after.rss)),
                Some(found.idle_cpu * 100.0),
                Some(found.entering_s),
            ],
        );
        print!("{}", table.render());
        Ok(json!({"bench": "idle", "plan": plan, "subject": subject.name, "found": found}))
    }

    fn broadcast(&self, bench: &str, plan: broadcast::Plan) -> Result<Value> {
        println!(
            "\n{bench}: {} × {} readers, {} entries/s of {} B text in all, {} rounds of {} s",
            plan.rooms, plan.readers_per_room, plan.entries_per_s, plan.text_bytes, self.options.rounds, plan.seconds
        );
        let mut subjects = vec![Subject::raw()?];
        if !self.options.only_raw {
            subjects.append(&mut self.starts()?);
        }
        let rooms = self.rooms(bench, plan.rooms);
        for subject in &subjects {
            with_last_words(subject, subject.make_rooms(&rooms))?;
        }
        let mut rounds: Vec<Vec<Value>> = vec![Vec::new(); subjects.len()];
        for round in 0..self.options.rounds {
            for (subject, rounds) in subjects.iter().zip(&mut rounds) {
                let nonce = format!("{}-{round}", self.nonce);
                let found = with_last_words(subject, broadcast::run(subject, plan, &rooms, &nonce))?;
                rounds.push(broadcast_round(subject, &found));
                // The closing of thousands of connections belongs to nobody's round.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        let columns = [
            ("cpu_s_per_million", "node s/M"),
            ("all_cpu_s_per_million", "+store, bus"),
            ("user_s_per_million", "node user"),
            ("client_cpu_s_per_million", "client s/M"),
            ("deliveries_per_s", "deliveries/s"),
            ("deliveries_per_frame", "per frame"),
            ("p50_ms", "p50 ms"),
            ("p99_ms", "p99 ms"),
            ("max_ms", "max ms"),
            ("refused", "refused"),
        ];
        let medians: Vec<Value> = rounds.iter().map(|rounds| medians(rounds)).collect();
        let mut table = Table::new(&std::iter::once("").chain(columns.map(|(_, title)| title)).collect::<Vec<_>>());
        for (subject, medians) in subjects.iter().zip(&medians) {
            table.row(&subject.name, &columns.map(|(key, _)| medians[key].as_f64()));
        }
        print!("{}", table.render());
        let mut ratios = Vec::new();
        for (i, subject) in subjects.iter().enumerate().skip(1) {
            for base in 0..i {
                ratios.push(ratio(&subject.name, &medians[i], &subjects[base].name, &medians[base]));
            }
        }
        let found: Vec<Value> = subjects
            .iter()
            .zip(medians.iter().zip(&rounds))
            .map(|(subject, (medians, rounds))| json!({"subject": subject.name, "median": medians, "rounds": rounds}))
            .collect();
        Ok(json!({"bench": bench, "plan": plan, "found": found, "ratios": ratios}))
    }

    fn durable(&self) -> Result<Value> {
        let options = self.options;
        let mut found = Vec::new();
        for subject in self.starts()? {
            for &count in &options.send_rooms {
                found.push(with_last_words(&subject, self.sends(&subject, count))?);
            }
        }
        Ok(json!({"bench": "durable", "text_bytes": options.text_bytes, "connections": options.connections,
            "window": options.window, "found": found}))
    }

    fn sends(&self, subject: &Subject, count: usize) -> Result<Value> {
        let options = self.options;
        let seconds = options.seconds.unwrap_or(10.0);
        println!(
            "\ndurable: {}, {count} room{}, {} connections with windows of {}, {} rounds of {seconds} s",
            subject.name,
            if count == 1 { "" } else { "s" },
            options.connections,
            options.window,
            options.rounds
        );
        let rooms = self.rooms(&format!("sends{count}"), count);
        subject.make_rooms(&rooms)?;
        let nonce = format!("{}-{count}", self.nonce);
        let mut senders =
            Senders::enter(subject, rooms, options.connections, options.window, options.text_bytes, nonce)?;
        let columns = [
            ("acked_per_s", "acked/s"),
            ("p50_ms", "p50 ms"),
            ("p99_ms", "p99 ms"),
            ("max_ms", "max ms"),
            ("node_us_per_send", "node µs"),
            ("store_us_per_send", "store µs"),
            ("bus_us_per_send", "bus µs"),
            ("client_us_per_send", "client µs"),
            ("repeats", "repeats"),
            ("backlog", "backlog"),
        ];
        let mut table = Table::new(&std::iter::once("").chain(columns.map(|(_, title)| title)).collect::<Vec<_>>());
        let mut all = Vec::new();
        let mut measure = |name: &str, pace: Pace| -> Result<f64> {
            let mut rounds = Vec::new();
            for _ in 0..options.rounds {
                let (warmup, length) = (Duration::from_secs_f64(options.warmup), Duration::from_secs_f64(seconds));
                rounds.push(send_round(subject, &senders.run(pace, warmup, length)?));
            }
            let medians = medians(&rounds);
            table.row(name, &columns.map(|(key, _)| medians[key].as_f64()));
            let rate = medians["acked_per_s"].as_f64().unwrap_or_default();
            all.push(json!({"pace": name, "median": medians, "rounds": rounds}));
            Ok(rate)
        };
        let most = measure("closed loop", Pace::Closed)?;
        measure("open, half", Pace::Open(most / 2.0))?;
        measure(&format!("open, {}/s", options.send_rate), Pace::Open(options.send_rate))?;
        senders.check_heads()?;
        print!("{}", table.render());
        Ok(json!({"subject": subject.name, "rooms": count, "paces": all}))
    }
}

/// A failure says what the processes under test printed last.
fn with_last_words<T>(subject: &Subject, result: Result<T>) -> Result<T> {
    if let Err(Fail::Broken(_)) = &result {
        eprint!("{}", subject.last_words());
    }
    result
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// CPU is not known of processes that are not ours to see.
fn known(pids: &[u32], value: f64) -> Option<f64> {
    (!pids.is_empty()).then_some(value)
}

fn servers_total(usage: &Usage) -> f64 {
    usage.nodes.total() + usage.store.total() + usage.bus.total()
}

fn broadcast_round(subject: &Subject, found: &broadcast::Round) -> Value {
    let million = found.deliveries as f64 / 1e6;
    let own = |value: f64| known(&subject.nodes, value / million);
    json!({
        "cpu_s_per_million": own(found.usage.nodes.total()),
        "user_s_per_million": own(found.usage.nodes.user_s),
        "all_cpu_s_per_million": own(servers_total(&found.usage)),
        "client_cpu_s_per_million": found.usage.client.total() / million,
        "deliveries": found.deliveries,
        "deliveries_per_s": found.deliveries as f64 / found.seconds,
        "deliveries_per_frame": found.deliveries as f64 / found.frames.max(1) as f64,
        "p50_ms": quantile_ms(&found.latency, 0.5),
        "p99_ms": quantile_ms(&found.latency, 0.99),
        "max_ms": quantile_ms(&found.latency, 1.0),
        "ack_p50_ms": quantile_ms(&found.ack, 0.5),
        "ack_p99_ms": quantile_ms(&found.ack, 0.99),
        "refused": found.refused,
        "rss_mib": known(&subject.nodes, mib(found.memory.rss)),
    })
}

fn send_round(subject: &Subject, found: &sends::Round) -> Value {
    let each = |cpu: f64| cpu * 1e6 / found.acked.max(1) as f64;
    json!({
        "acked": found.acked,
        "acked_per_s": found.acked as f64 / found.seconds,
        "p50_ms": quantile_ms(&found.ack, 0.5),
        "p99_ms": quantile_ms(&found.ack, 0.99),
        "max_ms": quantile_ms(&found.ack, 1.0),
        "node_us_per_send": known(&subject.nodes, each(found.usage.nodes.total())),
        "store_us_per_send": known(&subject.store, each(found.usage.store.total())),
        "bus_us_per_send": known(&subject.bus, each(found.usage.bus.total())),
        "client_us_per_send": each(found.usage.client.total()),
        "repeats": found.repeats,
        "backlog": found.backlog,
    })
}

/// The median of each figure over the rounds that know it.
fn medians(rounds: &[Value]) -> Value {
    let Some(Value::Object(first)) = rounds.first() else { return Value::Null };
    first
        .keys()
        .map(|key| (key.clone(), json!(median(rounds.iter().filter_map(|round| round[key].as_f64())))))
        .collect()
}

fn ratio(name: &str, of: &Value, base_name: &str, base: &Value) -> Value {
    let by = |key: &str| Some(of[key].as_f64()? / base[key].as_f64()?);
    let (node, all) = (by("cpu_s_per_million"), by("all_cpu_s_per_million"));
    let show = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    println!("CPU a delivery, {name} / {base_name}: nodes {}, with store and bus {}", show(node), show(all));
    json!({"of": name, "to": base_name, "node_cpu": node, "all_cpu": all, "p50": by("p50_ms"), "p99": by("p99_ms")})
}
