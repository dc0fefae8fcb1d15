//! Durable sends in a closed loop: every sender, each in a room of its own, always has its window full, and what counts
//! is what was told to be stored. A room of one's own, because some peers send every message to everybody in its room,
//! the sender included: so it is one delivery a send in every peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::compare::crowd::Crowd;
use crate::compare::dialect::{Dialect, Heard, Person, StoredSign};
use crate::compare::ledger::{Ledger, Tally};
use crate::compare::server::{Server, Usage};
use crate::compare::tag::{self, Tag};
use crate::crowd::tally::histogram;
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Lost, Scenario};

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    pub senders: usize,
    /// Unanswered sends of each.
    pub window: usize,
    pub text_bytes: usize,
    pub warmup_s: f64,
    pub seconds: f64,
}

pub struct Found {
    pub seconds: f64,
    /// Told to be stored while it was measured.
    pub stored: u64,
    pub usage: Usage,
    /// Microseconds from sent to told.
    pub ack: Histogram<u64>,
    /// Of the whole row: sent, told to come again later, refused for good or come back without being stored.
    pub sent: u64,
    pub repeats: u64,
    pub refused: u64,
    pub unanswered: u64,
    pub tally: Tally,
    /// Per sender and number: the seq of the ack, 0 where there was none.
    pub acked: Vec<Vec<u64>>,
}

const DRAIN: Duration = Duration::from_secs(30);
/// Nothing for so long after the end: the rest never comes.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest wait before the same message is sent again.
const MOST_WAIT_MS: u64 = 5_000;

struct Load<'a> {
    plan: Plan,
    people: &'a [Person],
    dialect: &'a dyn Dialect,
    sign: StoredSign,
    epoch: Instant,
    /// Per sender what waits for its answer: number and when it was sent first.
    waiting: Vec<Vec<(u64, Instant)>>,
    outstanding: u64,
    again: VecDeque<(Instant, usize, u64)>,
    sent_by: Vec<u64>,
    seqs: Vec<u64>,
    ledger: Ledger,
    received: u64,
    last_news: Instant,
    refill: bool,
    counting: bool,
    found: Found,
    frame: Vec<u8>,
    text: Vec<u8>,
    /// What one frame said, to be acted upon when it is read.
    said: Vec<Said>,
}

enum Said {
    Stored { number: u64, seq: u64 },
    Refused { number: u64, again_ms: Option<u64> },
    Answer(&'static [u8]),
    Wrong(String),
}

impl Load<'_> {
    fn send(&mut self, fleet: &mut Fleet, conn: usize) {
        let number = self.sent_by[conn];
        self.sent_by[conn] += 1;
        self.found.sent += 1;
        self.found.acked[conn].push(0);
        self.waiting[conn].push((number, Instant::now()));
        self.outstanding += 1;
        self.put(fleet, conn, number);
    }

    fn put(&mut self, fleet: &mut Fleet, conn: usize, number: u64) {
        let stamp = self.epoch.elapsed().as_nanos() as u64;
        self.text.clear();
        tag::write(&mut self.text, Tag { stamp, sender: conn, number }, self.plan.text_bytes);
        self.frame.clear();
        self.dialect.publish(&self.people[conn], number, &self.text, &mut self.frame);
        fleet.send(conn, &self.frame);
    }

    /// A message of `conn` is answered for good; gives when it was sent. `None`: nothing of the kind waits.
    fn answered(&mut self, fleet: &mut Fleet, conn: usize, number: u64) -> Option<Instant> {
        let place = self.waiting[conn].iter().position(|&(of, _)| of == number)?;
        let (_, since) = self.waiting[conn].swap_remove(place);
        self.outstanding -= 1;
        if self.refill {
            self.send(fleet, conn);
        }
        Some(since)
    }

    fn repeat(&mut self, fleet: &mut Fleet, now: Instant) {
        while let Some(&(when, conn, number)) = self.again.front()
            && when <= now
        {
            self.again.pop_front();
            self.put(fleet, conn, number);
        }
    }

    fn act(&mut self, fleet: &mut Fleet, conn: usize, said: Said) -> std::result::Result<(), String> {
        match said {
            Said::Stored { number, seq } => {
                let since = self.answered(fleet, conn, number);
                let since = since.ok_or_else(|| format!("an ack of {number}, which does not wait for one"))?;
                if let Some(place) = self.found.acked[conn].get_mut(number as usize) {
                    *place = seq;
                }
                if self.counting {
                    self.found.stored += 1;
                    self.found.ack.saturating_record(since.elapsed().as_micros() as u64);
                }
            }
            Said::Refused { number, again_ms: Some(ms) } => {
                self.found.repeats += 1;
                let when = Instant::now() + Duration::from_millis(ms.min(MOST_WAIT_MS));
                let place = self.again.partition_point(|&(other, _, _)| other <= when);
                self.again.insert(place, (when, conn, number));
            }
            Said::Refused { number, again_ms: None } => {
                self.found.refused += 1;
                self.answered(fleet, conn, number);
            }
            Said::Answer(text) => fleet.send(conn, text),
            Said::Wrong(why) => return Err(why),
        }
        Ok(())
    }

    /// A message that `conn` got; what it means to it as a sender.
    fn message(&mut self, conn: usize, text: &[u8], seq: Option<u64>, stored: bool) {
        self.received += 1;
        if let Some(seq) = seq {
            if seq != self.seqs[conn] + 1 {
                self.said.push(Said::Wrong(format!("reader {conn} got seq {seq} after {}", self.seqs[conn])));
            }
            self.seqs[conn] = seq;
        }
        let Some(tag) = tag::read(text).filter(|tag| tag.sender == conn) else { return self.ledger.stray() };
        self.ledger.note(conn, 0, tag.number, self.sent_by[conn]);
        if self.sign == StoredSign::Echo && self.waiting[conn].iter().any(|&(number, _)| number == tag.number) {
            let number = tag.number;
            self.said.push(if stored {
                Said::Stored { number, seq: 0 }
            } else {
                Said::Refused { number, again_ms: None }
            });
        }
    }
}

impl Scenario for Load<'_> {
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, frame: &[u8]) -> Result<()> {
        self.last_news = Instant::now();
        let dialect = self.dialect;
        let heard = dialect.hear(frame, &mut |heard| match heard {
            Heard::Message { text, seq, stored } => self.message(conn, text, seq, stored),
            Heard::Ack { number, seq } if self.sign == StoredSign::Ack => {
                let oldest = || self.waiting[conn].iter().map(|&(number, _)| number).min();
                self.said.push(match number.or_else(oldest) {
                    Some(number) => Said::Stored { number, seq: seq.unwrap_or(0) },
                    None => Said::Wrong("an ack, and nothing waits for one".into()),
                });
            }
            Heard::Ack { .. } => {}
            Heard::Refused { number, again_ms } => self.said.push(match number {
                Some(number) => Said::Refused { number, again_ms },
                None => Said::Wrong("something was refused".into()),
            }),
            Heard::Answer(text) => self.said.push(Said::Answer(text)),
        });
        heard.map_err(|why| Fail::Broken(format!("person {conn}: {why}")))?;
        let mut all = std::mem::take(&mut self.said);
        for said in all.drain(..) {
            self.act(fleet, conn, said).map_err(|why| Fail::Broken(format!("person {conn}: {why}")))?;
        }
        self.said = all;
        Ok(())
    }

    fn lost(&mut self, _: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        Err(Fail::Broken(format!("person {conn}: {why}")))
    }
}

/// One row against `server`; `rooms` are as many as the plan has senders, and nobody has been in them.
pub fn run(server: &Server, plan: Plan, rooms: &[String]) -> Result<Found> {
    let mut crowd = Crowd::new(server.people(rooms, 1), &*server.dialect)?;
    crowd.enter(plan.senders)?;
    let start = Instant::now();
    let Crowd { fleet, people, .. } = &mut crowd;
    let mut load = Load {
        plan,
        people,
        dialect: &*server.dialect,
        sign: server.dialect.stored_sign(),
        epoch: start,
        waiting: vec![Vec::with_capacity(plan.window); plan.senders],
        outstanding: 0,
        again: VecDeque::new(),
        sent_by: vec![0; plan.senders],
        seqs: vec![0; plan.senders],
        ledger: Ledger::new(plan.senders, 1),
        received: 0,
        last_news: start,
        refill: true,
        counting: false,
        found: Found {
            seconds: 0.0,
            stored: 0,
            usage: Usage::default(),
            ack: histogram(),
            sent: 0,
            repeats: 0,
            refused: 0,
            unanswered: 0,
            tally: Tally::default(),
            acked: vec![Vec::new(); plan.senders],
        },
        frame: Vec::new(),
        text: Vec::new(),
        said: Vec::new(),
    };
    for conn in 0..plan.senders {
        for _ in 0..plan.window {
            load.send(fleet, conn);
        }
    }
    let counted_from = start + Duration::from_secs_f64(plan.warmup_s);
    let end = counted_from + Duration::from_secs_f64(plan.seconds);
    let mut before = None;
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        if now >= counted_from && before.is_none() {
            before = Some((server.usage(), Instant::now()));
            load.counting = true;
        }
        load.repeat(fleet, now);
        fleet.turn(&mut load, (now + Duration::from_millis(5)).min(end))?;
    }
    let (usage, since) = before.unwrap_or_else(|| (server.usage(), Instant::now()));
    load.found.usage = server.usage() - usage;
    load.found.seconds = since.elapsed().as_secs_f64();
    load.counting = false;
    load.refill = false;
    let give_up = Instant::now() + DRAIN;
    load.last_news = Instant::now();
    while load.outstanding > 0 || load.received + load.found.refused < load.found.sent {
        let now = Instant::now();
        load.repeat(fleet, now);
        fleet.turn(&mut load, now + Duration::from_millis(5))?;
        if now > give_up || load.last_news.elapsed() > SILENCE {
            break;
        }
    }
    let coming = load.last_news.elapsed() < SILENCE;
    let Load { mut found, ledger, sent_by, outstanding, .. } = load;
    found.unanswered = outstanding;
    found.tally = ledger.close(coming, |sender, _| sent_by[sender]);
    found.tally.lost = found.tally.lost.saturating_sub(found.refused);
    Ok(found)
}
