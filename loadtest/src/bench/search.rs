//! `bench search`: searches over very many messages, of words that are said often, now and then, hardly ever and never.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::language::Language;
use super::{Bench, Common, Figures, Times};
use crate::chaos::chance::Chance;
use crate::fail::{Fail, Result};
use crate::net::http::{self, Kept};
use crate::report::Status;
use crate::sys;

const READER: &str = "reader";
const OTHER: &str = "other";
const ROOMS: u32 = 100;
const SENDERS: usize = 500;
/// Messages of one COPY.
const CHUNK: u32 = 50_000;
/// Milliseconds from one message to the next.
const APART_MS: i64 = 2_000;
/// Calls of each kind before those that are timed.
const WARM_UP: u32 = 5;
/// How long the index may stand still before the bench gives up.
const INDEX_STALL: Duration = Duration::from_secs(120);
/// How long it stands still before the bench looks whether it is done.
const INDEX_SETTLED: Duration = Duration::from_secs(3);
/// Fails where the index is behind a log.
const BEHIND: &str = "DO $$ BEGIN
    IF EXISTS (SELECT FROM room_heads h LEFT JOIN search_progress p ON p.room_no = h.no WHERE h.head > coalesce(p.seq, 0))
    THEN RAISE 'the index is behind'; END IF;
END $$;";

#[derive(Args, Debug)]
pub struct Options {
    /// Messages in all rooms together
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    messages: u32,
    /// Seed of the texts and of the queries
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

pub fn run(options: &Options) -> Result<Status> {
    let mut bench = Bench::start(&options.common)?;
    let (reader, other) = (bench.mint.token(READER), bench.mint.token(OTHER));
    eprintln!("making {ROOMS} rooms");
    for room in 0..ROOMS {
        // Half of them public; of the private ones the reader is in every second.
        let kind = if room % 2 == 0 { "public" } else { "private" };
        let owner = if room % 4 == 1 { &reader } else { &other };
        bench.call("POST", "rooms", owner, &json!({"id": name(room), "kind": kind}).to_string())?;
    }
    let mut chance = Chance::new(options.seed);
    let language = Language::new(&mut chance);
    eprintln!("writing {} messages", options.messages);
    fill(&mut bench, options.messages, &language, &mut chance)?;
    eprintln!("waiting for the index");
    let indexed = until_indexed(&mut bench, options.messages)?;
    // As it would be some minutes later by itself.
    bench.sql("VACUUM (ANALYZE) search, search_progress, entries; CHECKPOINT;")?;

    // The server has closed the connection meanwhile, for nothing was asked on it.
    bench.http = Kept::new(bench.stack.target().servers[0]);
    eprintln!("timing");
    let mut kinds = Vec::new();
    let mut found = serde_json::Map::new();
    for kind in Kind::ALL {
        let (mut times, mut items) = (Times::default(), 0);
        for _ in 0..WARM_UP {
            let path = format!("search?limit=20&{}", kind.query(&language, &mut chance));
            bench.call("GET", &path, &reader, "")?;
        }
        for _ in 0..options.common.calls {
            let path = format!("search?limit=20&{}", kind.query(&language, &mut chance));
            let page = times.time(|| bench.json("GET", &path, &reader, ""))?;
            items += page["items"].as_array().map_or(0, Vec::len);
        }
        found.insert(kind.name().to_owned(), json!(items as f64 / f64::from(options.common.calls)));
        kinds.push((kind.name(), times));
    }
    let every = kinds.iter().flat_map(|(_, times): &(_, Times)| times.0.iter().copied()).collect();
    kinds.push(("all kinds together", Times(every)));
    let about = json!({
        "messages": options.messages,
        "rooms": ROOMS,
        "indexed_a_second": indexed,
        "results_on_the_first_page_of_20": found,
    });
    Figures { bench: "search", about, kinds }.deliver(&options.common)
}

fn name(room: u32) -> String {
    format!("bench-{room:06}")
}

/// Straight into the tables, in the order of time over all rooms. Rooms are numbered from 1 in a new database.
fn fill(bench: &mut Bench, messages: u32, language: &Language, chance: &mut Chance) -> Result<()> {
    let mut seqs = vec![0_u32; ROOMS as usize];
    let began = 1_767_225_600_000_i64 - i64::from(messages) * APART_MS;
    let mut text = String::new();
    let mut n = 0;
    while n < messages {
        let mut script =
            String::from("COPY entries (room_no, seq, at, key, kind, user_id, message_id, text) FROM stdin;\n");
        let to = messages.min(n + CHUNK);
        while n < to {
            // Some rooms are busier than others.
            let room = chance.below(ROOMS as usize).min(chance.below(ROOMS as usize));
            seqs[room] += 1;
            text.clear();
            language.message(chance, &mut text);
            let (no, seq, at) = (room + 1, seqs[room], began + i64::from(n) * APART_MS);
            let sender = chance.below(SENDERS).min(chance.below(SENDERS));
            let line =
                writeln!(script, "{no}\t{seq}\t{at}\t00000000-0000-4000-8000-{n:012x}\t0\tuser-{sender}\tm{n}\t{text}");
            line.map_err(|error| Fail::Broken(error.to_string()))?;
            n += 1;
        }
        script.push_str("\\.\n");
        bench.sql(&script)?;
    }
    bench.sql(
        "UPDATE room_heads h SET head = (SELECT coalesce(max(e.seq), 0) FROM entries e WHERE e.room_no = h.no);
        VACUUM (ANALYZE);",
    )
}

/// Waits until the server has brought everything into its index; how many entries a second it brought in.
fn until_indexed(bench: &mut Bench, messages: u32) -> Result<f64> {
    let parts = bench.stack.parts();
    let admin = *parts.admin.first().ok_or_else(|| Fail::Broken("the node has ended".into()))?;
    let messages = f64::from(messages);
    let (mut first, mut count, mut moved) = (None, 0.0, Instant::now());
    while count < messages {
        std::thread::sleep(Duration::from_millis(200));
        if sys::stopped() {
            return Err(Fail::Interrupted);
        }
        let metrics = http::call(admin, "GET", "/metrics", None, "").map(|(_, text)| text).unwrap_or_default();
        let line = metrics.lines().find_map(|line| line.strip_prefix("roundtable_search_indexed_entries_total "));
        let now = line.and_then(|value| value.parse::<f64>().ok()).unwrap_or(count);
        if now > count {
            (count, moved) = (now, Instant::now());
            first.get_or_insert((moved, count));
            eprint!("\r{count} of {messages}");
        } else if moved.elapsed() > INDEX_SETTLED && first.is_some() && bench.sql(BEHIND).is_ok() {
            // A step whose end the server did not hear of in time is done and not counted.
            break;
        } else if moved.elapsed() > INDEX_STALL {
            return Err(Fail::Broken(format!("the index stands still at {count} of {messages} messages")));
        }
    }
    eprintln!();
    let (began, before) = first.unwrap_or((moved, 0.0));
    Ok(((count - before) / moved.duration_since(began).as_secs_f64().max(0.001)).round())
}

#[derive(Clone, Copy)]
enum Kind {
    Common,
    Middling,
    Rare,
    TwoCommon,
    CommonAndRare,
    Japanese,
    JapaneseLonger,
    Phrase,
    Part,
    OneRoom,
    OneSender,
    Nothing,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Common,
        Self::Middling,
        Self::Rare,
        Self::TwoCommon,
        Self::CommonAndRare,
        Self::Japanese,
        Self::JapaneseLonger,
        Self::Phrase,
        Self::Part,
        Self::OneRoom,
        Self::OneSender,
        Self::Nothing,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Common => "a common word",
            Self::Middling => "a middling word",
            Self::Rare => "a rare word",
            Self::TwoCommon => "two common words",
            Self::CommonAndRare => "a common and a rare word",
            Self::Japanese => "two Japanese characters",
            Self::JapaneseLonger => "two Japanese words in a row",
            Self::Phrase => "a phrase",
            Self::Part => "a part of a word",
            Self::OneRoom => "a common word in one room",
            Self::OneSender => "a middling word of one sender",
            Self::Nothing => "nothing to find",
        }
    }

    fn query(self, language: &Language, chance: &mut Chance) -> String {
        let mut english = |from: usize, to: usize| language.english[from + chance.below(to - from)].clone();
        let typed = match self {
            Self::Common | Self::OneRoom => english(0, 20),
            Self::Middling | Self::OneSender => english(300, 2_000),
            Self::Rare => english(10_000, 20_000),
            Self::TwoCommon => format!("{} {}", english(0, 20), english(0, 60)),
            Self::CommonAndRare => format!("{} {}", english(0, 20), english(10_000, 20_000)),
            Self::Phrase => format!("\"{} {}\"", english(0, 20), english(0, 60)),
            Self::Part => {
                let word = english(300, 20_000);
                word.chars().skip(1).take(5).collect()
            }
            Self::Nothing => format!("{}zq{}", english(0, 20_000), english(0, 20_000)),
            Self::Japanese => {
                let words: Vec<&String> = language.japanese.iter().filter(|word| word.chars().count() == 2).collect();
                words[chance.below(words.len().min(2_000))].clone()
            }
            Self::JapaneseLonger => {
                let mut word = || language.japanese[chance.below(300)].as_str();
                format!("{}の{}", word(), word())
            }
        };
        let mut query = format!("q={}", escaped(&typed));
        match self {
            Self::OneRoom => query.push_str(&format!("&room={}", name(2 * chance.below(ROOMS as usize / 2) as u32))),
            Self::OneSender => query.push_str(&format!("&from=user-{}", chance.below(SENDERS))),
            _ => {}
        }
        query
    }
}

/// For a query string.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
