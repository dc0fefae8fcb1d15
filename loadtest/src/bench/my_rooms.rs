//! `bench me-rooms`: the list of one's rooms with what is unread in them, for somebody in very many.

use clap::Args;
use serde_json::json;

use super::{Bench, Common, Figures, Times};
use crate::fail::{Fail, Result};
use crate::report::Status;

const READER: &str = "reader";
/// The largest page that there is.
const PAGE: u32 = 200;
/// Every so-manieth message is the reader's own; another one mentions them.
const OWN_EVERY: u32 = 10;
const MENTION_EVERY: u32 = 20;

#[derive(Args, Debug)]
pub struct Options {
    /// Rooms that the reader is in
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: u32,
    /// Messages in each; the first half of them is read
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    messages: u32,
    #[command(flatten)]
    common: Common,
}

pub fn run(options: &Options) -> Result<Status> {
    let mut bench = Bench::start(&options.common)?;
    let token = bench.mint.token(READER);
    eprintln!("making {} rooms", options.rooms);
    for room in 0..options.rooms {
        let body = json!({"id": name(room), "kind": "private"}).to_string();
        bench.call("POST", "rooms", &token, &body)?;
    }
    eprintln!("writing {} messages into each", options.messages);
    bench.sql(&fill(options))?;
    for room in 0..options.rooms {
        let mark = json!({"seq": options.messages / 2}).to_string();
        bench.call("PUT", &format!("rooms/{}/read", name(room)), &token, &mark)?;
    }
    bench.sql("VACUUM (ANALYZE);")?;

    eprintln!("timing");
    let (mut first, mut pages, mut walks) = (Times::default(), Times::default(), Times::default());
    let first_page = format!("me/rooms?limit={PAGE}");
    let calls = options.common.calls;
    for _ in 0..calls {
        first.time(|| bench.call("GET", &first_page, &token, ""))?;
    }
    for _ in 0..calls {
        let total = walks.time(|| walk(&mut bench, &token, &mut pages))?;
        if total != expected(options) {
            let wanted = expected(options);
            return Err(Fail::Broken(format!("rooms, unread, mentions are {total:?}, should be {wanted:?}")));
        }
    }
    let about = json!({
        "rooms": options.rooms,
        "messages_a_room": options.messages,
        "unread_in_all": expected(options).1,
        "mentions_in_all": expected(options).2,
        "page": PAGE,
    });
    let kinds = vec![("first page", first), ("each page of a walk", pages), ("whole walk", walks)];
    Figures { bench: "me-rooms", about, kinds }.deliver(&options.common)
}

fn name(room: u32) -> String {
    format!("bench-{room:06}")
}

/// All pages after each other; how many rooms, unread messages and mentions they show.
fn walk(bench: &mut Bench, token: &str, pages: &mut Times) -> Result<(u64, u64, u64)> {
    let (mut total, mut cursor) = ((0, 0, 0), String::new());
    loop {
        let path = format!("me/rooms?limit={PAGE}{cursor}");
        let page = pages.time(|| bench.json("GET", &path, token, ""))?;
        for room in page["items"].as_array().into_iter().flatten() {
            let count = |field: &str| room[field].as_u64().unwrap_or_default();
            total = (total.0 + 1, total.1 + count("unread"), total.2 + count("mentions"));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(total),
        }
    }
}

/// What [`walk`] must find, counted by hand.
fn expected(options: &Options) -> (u64, u64, u64) {
    let unread = options.messages / 2 + 1..=options.messages;
    let others = unread.clone().filter(|n| n % OWN_EVERY != 0).count() as u64;
    let mentions = unread.filter(|n| n % MENTION_EVERY == 1).count() as u64;
    let rooms = u64::from(options.rooms);
    (rooms, rooms * others, rooms * mentions)
}

/// By the function that the server itself appends with, a hundred rooms a call.
fn fill(options: &Options) -> String {
    let messages = options.messages;
    format!(
        "SELECT count(append_messages(a.nos, a.epochs, a.counts, i.room, i.n, i.at, i.key, NULL, NULL, i.author, i.id,
                i.text, i.data, i.mentions))
        FROM (
            SELECT array_agg(no ORDER BY no) AS nos, array_agg(epoch ORDER BY no) AS epochs,
                array_agg({messages} ORDER BY no) AS counts
            FROM room_heads GROUP BY no / 100
        ) AS a, LATERAL (
            SELECT array_agg(r::integer) AS room, array_agg(n) AS n, array_agg(1767225600000 + n) AS at,
                array_agg(gen_random_uuid()) AS key, array_agg(author) AS author, array_agg('m' || n) AS id,
                array_agg(CASE WHEN called THEN '@{READER} ' ELSE '' END || 'one of the messages of this room') AS text,
                array_agg(NULL::text) AS data,
                array_agg(CASE WHEN called THEN '[\"{READER}\"]' END) AS mentions
            FROM generate_series(1, cardinality(a.nos)) AS r, generate_series(1, {messages}) AS n, LATERAL (
                SELECT CASE WHEN n % {OWN_EVERY} = 0 THEN '{READER}' ELSE 'other-' || n % 7 END AS author,
                    n % {MENTION_EVERY} = 1 AS called
            ) AS who
        ) AS i;"
    )
}
