//! After a row against Roundtable: the rooms' histories are read back over the wire and held against what was sent, what
//! was acknowledged and what the readers saw. This is the comparison's own short check, so that a row of ours is never
//! fast by being wrong; peers have no such promise to check.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::compare::dialect::{Dialect, Person, odd};
use crate::compare::ledger::Tally;
use crate::compare::peers::roundtable::{self, Roundtable};
use crate::compare::server::Server;
use crate::compare::tag;
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Scenario};
use crate::net::token::Mint;
use crate::net::wire;
use crate::report::outcome::Verdict;

/// Connections that read, each its share of the rooms.
const READERS: usize = 8;
/// Longest time without a page.
const PATIENCE: Duration = Duration::from_secs(30);
/// Kept in words of each kind of fault.
const EXAMPLES: u64 = 20;

/// What is known of a row from outside.
pub struct Row<'a> {
    pub rooms: &'a [String],
    /// Room of each person, by its number.
    pub room_of: &'a dyn Fn(usize) -> usize,
    /// Per person and number the seq of the ack, 0: none came.
    pub acked: &'a [Vec<u64>],
    /// What readers saw, added up.
    pub tally: Tally,
    pub observed: u64,
    /// Whether nothing was told to come again later: then a sender's numbers are in the order of its sends.
    pub ordered: bool,
}

struct Reading<'a> {
    row: &'a Row<'a>,
    dialect: &'a dyn Dialect,
    people: Vec<Person>,
    /// Per connection: the room it reads, and the last seq it has of it.
    at: Vec<(usize, u64)>,
    open: usize,
    last_page: Instant,
    found: Vec<Vec<bool>>,
    last_number: Vec<Option<u64>>,
    verdict: Verdict,
}

impl Reading<'_> {
    fn fault(&mut self, kind: &str, what: impl FnOnce() -> String) {
        let count = self.verdict.faults.entry(kind.to_owned()).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            let what = format!("{kind}: {}", what());
            self.verdict.examples.push(what);
        }
    }

    fn ask(&mut self, fleet: &mut Fleet, conn: usize) {
        let (room, seq) = self.at[conn];
        match self.row.rooms.get(room) {
            Some(room) => fleet.send(conn, roundtable::history(room, seq).as_bytes()),
            None => self.open -= 1,
        }
    }

    fn entry(&mut self, room: usize, expected: u64, seq: u64, text: &[u8]) {
        let name = &self.row.rooms[room];
        self.verdict.entries += 1;
        if seq != expected {
            self.fault("gap", || format!("{name}: seq {seq} where {expected} comes"));
        }
        let known = tag::read(text).filter(|tag| {
            let sent = self.row.acked.get(tag.sender).map_or(0, Vec::len);
            tag.number < sent as u64 && (self.row.room_of)(tag.sender) == room
        });
        let Some(tag) = known else {
            return self.fault("invented", || format!("{name}: seq {seq} was never sent there"));
        };
        let number = tag.number as usize;
        if std::mem::replace(&mut self.found[tag.sender][number], true) {
            self.fault("repeated", || format!("{name}: message {number} of {} is there again at {seq}", tag.sender));
        }
        let acked = self.row.acked[tag.sender][number];
        if acked != 0 && acked != seq {
            self.fault("disagreement", || format!("{name}: acked at {acked}, but at {seq} in the history"));
        }
        if self.row.ordered && self.last_number[tag.sender].is_some_and(|last| last > tag.number) {
            self.fault("reordered", || format!("{name}: message {number} of {} comes late at {seq}", tag.sender));
        }
        self.last_number[tag.sender] = Some(tag.number);
    }
}

impl Scenario for Reading<'_> {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        let mut hello = Vec::new();
        self.dialect.ask(&self.people[conn], 0, &mut hello);
        fleet.send(conn, &hello);
        Ok(())
    }

    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        self.last_page = Instant::now();
        match wire::string(json, &wire::TYPE).unwrap_or_default() {
            b"welcome" => self.ask(fleet, conn),
            b"history" => {
                let (room, mut seq) = self.at[conn];
                roundtable::entries(json, |found, text| {
                    self.entry(room, seq + 1, found, text);
                    seq = found.max(seq);
                });
                self.at[conn] = if roundtable::has_more(json) { (room, seq) } else { (room + READERS, 0) };
                self.ask(fleet, conn);
            }
            b"notice" | b"presence" => {}
            _ => return Err(Fail::Broken(format!("reading back: {}", odd(json)))),
        }
        Ok(())
    }
}

/// Reads every room of the row back and judges.
pub fn run(server: &Server, mint: Mint, row: &Row) -> Result<Verdict> {
    let dialect = Roundtable { mint, stores: true };
    let people = (0..READERS)
        .map(|i| Person { number: 1_000_000 + i, room: String::new(), server: server.doors[i % server.doors.len()] })
        .collect();
    let count = |numbers: &[u64]| numbers.iter().filter(|&&seq| seq != 0).count() as u64;
    let acked: u64 = row.acked.iter().map(|numbers| count(numbers)).sum();
    let sent: u64 = row.acked.iter().map(|numbers| numbers.len() as u64).sum();
    let mut reading = Reading {
        row,
        dialect: &dialect,
        people,
        at: (0..READERS).map(|i| (i, 0)).collect(),
        open: READERS,
        last_page: Instant::now(),
        found: row.acked.iter().map(|numbers| vec![false; numbers.len()]).collect(),
        last_number: vec![None; row.acked.len()],
        verdict: Verdict {
            acked,
            unanswered: sent - acked,
            observed: row.observed,
            observers: row.acked.len() as u64,
            rooms: row.rooms.len() as u64,
            ..Verdict::default()
        },
    };
    let mut fleet = Fleet::new()?;
    for person in &reading.people {
        fleet.connect(&dialect.door(person))?;
    }
    while reading.open > 0 {
        fleet.turn(&mut reading, Instant::now() + Duration::from_millis(20))?;
        if reading.last_page.elapsed() > PATIENCE {
            return Err(Fail::Broken(format!("reading back: nothing for {PATIENCE:?}")));
        }
    }
    for (sender, numbers) in row.acked.iter().enumerate() {
        for (number, &seq) in numbers.iter().enumerate() {
            if seq != 0 && !reading.found[sender][number] {
                reading.fault("forgotten", || format!("message {number} of {sender}, acked at {seq}"));
            }
        }
    }
    let Tally { lost, repeated, reordered, strays } = row.tally;
    let seen = BTreeMap::from([("lost", lost), ("repeated", repeated), ("reordered", reordered), ("invented", strays)]);
    for (kind, count) in seen.into_iter().filter(|&(_, count)| count > 0) {
        reading.fault(kind, || format!("{count} deliveries to readers"));
    }
    Ok(reading.verdict)
}
