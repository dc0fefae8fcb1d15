//! Durable sends: how many a second are acknowledged when every sender always has its window full (closed loop), and
//! how long an acknowledgement takes at a given rate (open loop, counted from the moment a message was due). The
//! acknowledged seqs of every room must be 1, 2, 3, … without gap or repeat.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::broadcast::histogram;
use crate::enter::{Visitor, enter};
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Scenario};
use crate::net::wire;
use crate::stack::{Subject, Usage};

/// How the load is paced.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as acknowledgements come back.
    Closed,
    /// Messages a second, whatever comes back.
    Open(f64),
}

pub struct Round {
    pub acked: u64,
    pub seconds: f64,
    pub usage: Usage,
    /// Microseconds from sent (closed) or due (open) to acknowledged.
    pub ack: Histogram<u64>,
    /// Answers that asked to repeat the same id later, by `overloaded`, `unavailable` and the like.
    pub repeats: u64,
    /// Messages that were due but not sent yet when the measurement ended (open loop).
    pub backlog: u64,
}

const DRAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Sending {
    message: u64,
    room: usize,
    due: Instant,
}

/// One sender connection: its window of requests, whose `ref` is their place in it.
struct Sender {
    rooms: Vec<usize>,
    next_room: usize,
    window: Vec<Option<Sending>>,
    free: Vec<u32>,
}

/// Which seqs of a room were acknowledged.
#[derive(Clone, Default)]
struct Seqs {
    seen: Vec<u64>,
    count: u64,
    highest: u64,
}

impl Seqs {
    /// `false`: this one was there already.
    fn add(&mut self, seq: u64) -> bool {
        let (word, bit) = ((seq / 64) as usize, 1 << (seq % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        self.count += 1;
        self.highest = self.highest.max(seq);
        new
    }
}

/// The sender connections of one subject, in their rooms, for any number of rounds.
pub struct Senders<'a> {
    subject: &'a Subject,
    rooms: Vec<String>,
    fleet: Fleet,
    load: Load,
}

struct Load {
    rooms: Vec<String>,
    text_bytes: usize,
    epoch: Instant,
    senders: Vec<Sender>,
    seqs: Vec<Seqs>,
    next_message: u64,
    nonce: String,
    /// To be sent again with the same id: when, by which connection, in which place of its window.
    again: VecDeque<(Instant, usize, u32)>,
    outstanding: u64,
    /// In a closed loop an acknowledgement is followed by the next message.
    refill: bool,
    counting: bool,
    round: Round,
    json: Vec<u8>,
}

fn empty_round() -> Round {
    Round { acked: 0, seconds: 0.0, usage: Usage::default(), ack: histogram(), repeats: 0, backlog: 0 }
}

impl Load {
    fn send(&mut self, fleet: &mut Fleet, conn: usize, due: Instant) -> bool {
        let sender = &mut self.senders[conn];
        let Some(place) = sender.free.pop() else { return false };
        let room = sender.rooms[sender.next_room];
        sender.next_room = (sender.next_room + 1) % sender.rooms.len();
        sender.window[place as usize] = Some(Sending { message: self.next_message, room, due });
        self.next_message += 1;
        self.outstanding += 1;
        self.put(fleet, conn, place);
        true
    }

    fn put(&mut self, fleet: &mut Fleet, conn: usize, place: u32) {
        let Some(Sending { message, room, due }) = self.senders[conn].window[place as usize] else { return };
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let (room, nonce) = (&self.rooms[room], &self.nonce);
        write!(json, r#"{{"type":"send","ref":{place},"room":"{room}","id":"{nonce}-{message}","text":""#)
            .expect("a Vec takes everything");
        let stamp = due.saturating_duration_since(self.epoch).as_nanos() as u64;
        wire::stamped(&mut json, stamp, self.text_bytes);
        json.extend_from_slice(b"\"}");
        fleet.send(conn, &json);
        self.json = json;
    }

    fn repeat(&mut self, fleet: &mut Fleet, now: Instant) {
        while let Some(&(when, conn, place)) = self.again.front()
            && when <= now
        {
            self.again.pop_front();
            self.put(fleet, conn, place);
        }
    }
}

impl Scenario for Load {
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        let unexpected = || Fail::Broken(format!("unexpected {}", String::from_utf8_lossy(json)));
        let place = || wire::number(json, &wire::REF).ok_or_else(unexpected);
        match wire::string(json, &wire::TYPE).unwrap_or_default() {
            b"sent" => {
                let place = place()? as usize;
                let sending = self.senders[conn].window.get_mut(place).and_then(Option::take).ok_or_else(unexpected)?;
                let seq = wire::number(json, &wire::SEQ).ok_or_else(unexpected)?;
                if !self.seqs[sending.room].add(seq) {
                    return Err(Fail::Broken(format!("seq {seq} of {} was given twice", self.rooms[sending.room])));
                }
                self.senders[conn].free.push(place as u32);
                self.outstanding -= 1;
                let now = Instant::now();
                if self.counting {
                    self.round.acked += 1;
                    let late = now.saturating_duration_since(sending.due).as_micros() as u64;
                    self.round.ack.saturating_record(late);
                }
                if self.refill {
                    self.send(fleet, conn, now);
                }
            }
            b"error" if wire::RETRYABLE.find(json).is_some() => {
                self.round.repeats += 1;
                let after = wire::number(json, &wire::RETRY).unwrap_or(20).min(5_000);
                self.again.push_back((Instant::now() + Duration::from_millis(after), conn, place()? as u32));
            }
            b"presence" | b"typing" | b"read" | b"notice" => {}
            _ => return Err(unexpected()),
        }
        Ok(())
    }
}

impl<'a> Senders<'a> {
    /// `connections` senders with windows of `window` requests, in `rooms`, which are new. Each sender writes to its
    /// share of the rooms, or all to the same where there are fewer rooms than senders.
    pub fn enter(
        subject: &'a Subject,
        rooms: Vec<String>,
        connections: usize,
        window: usize,
        text_bytes: usize,
        nonce: String,
    ) -> Result<Self> {
        let share = |i: usize| -> Vec<usize> {
            let stride = connections.min(rooms.len());
            (i % stride..rooms.len()).step_by(stride).collect()
        };
        let visitors: Vec<Visitor> = (0..connections)
            .map(|i| Visitor {
                server: subject.servers[i % subject.servers.len()],
                user: format!("sender-{i}"),
                joins: share(i),
                subscribes: None,
            })
            .collect();
        let mut fleet = Fleet::new()?;
        enter(&mut fleet, &visitors, &rooms, &subject.mint, 200)?;
        let sender = |i: usize| Sender {
            rooms: share(i),
            next_room: 0,
            window: vec![None; window],
            free: (0..window as u32).rev().collect(),
        };
        let load = Load {
            rooms: rooms.clone(),
            text_bytes,
            epoch: Instant::now(),
            senders: (0..connections).map(sender).collect(),
            seqs: vec![Seqs::default(); rooms.len()],
            next_message: 0,
            nonce,
            again: VecDeque::new(),
            outstanding: 0,
            refill: false,
            counting: false,
            round: empty_round(),
            json: Vec::new(),
        };
        Ok(Self { subject, rooms, fleet, load })
    }

    /// One round; afterwards nothing is outstanding and every room's seqs are checked.
    pub fn run(&mut self, pace: Pace, warmup: Duration, length: Duration) -> Result<Round> {
        self.load.round = empty_round();
        let start = Instant::now();
        let counted_from = start + warmup;
        let end = counted_from + length;
        let mut before = None;
        let mut due_messages = 0u64;
        let mut sent_messages = 0u64;
        let mut next_sender = 0;
        self.load.refill = matches!(pace, Pace::Closed);
        if self.load.refill {
            for conn in 0..self.load.senders.len() {
                while self.load.send(&mut self.fleet, conn, Instant::now()) {}
            }
        }
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            if now >= counted_from && before.is_none() {
                before = Some((self.subject.usage(), Instant::now()));
                self.load.counting = true;
            }
            self.load.repeat(&mut self.fleet, now);
            let mut until = now + Duration::from_millis(5);
            if let Pace::Open(rate) = pace {
                due_messages = (now.duration_since(start).as_secs_f64() * rate) as u64 + 1;
                while sent_messages < due_messages {
                    let due = start + Duration::from_secs_f64(sent_messages as f64 / rate);
                    // Round robin over the senders that have room in their windows.
                    let senders = self.load.senders.len();
                    let Some(conn) = (0..senders)
                        .map(|i| (next_sender + i) % senders)
                        .find(|&conn| !self.load.senders[conn].free.is_empty())
                    else {
                        break;
                    };
                    next_sender = conn + 1;
                    self.load.send(&mut self.fleet, conn, due);
                    sent_messages += 1;
                }
                if sent_messages == due_messages {
                    until = start + Duration::from_secs_f64(sent_messages as f64 / rate);
                }
            }
            self.fleet.turn(&mut self.load, until.min(end))?;
        }
        let (usage, since) = before.unwrap_or_else(|| (self.subject.usage(), Instant::now()));
        self.load.round.usage = self.subject.usage() - usage;
        self.load.round.seconds = since.elapsed().as_secs_f64();
        self.load.round.backlog = due_messages.saturating_sub(sent_messages);
        let acked = self.load.round.acked;
        // Acknowledgements that come after the end still count as latency, but not as rate. Messages that were due
        // and never sent would have taken longer still; `backlog` tells of them.
        self.load.refill = false;
        self.load.counting = matches!(pace, Pace::Open(_));
        self.drain()?;
        self.load.counting = false;
        self.load.round.acked = acked;
        Ok(std::mem::replace(&mut self.load.round, empty_round()))
    }

    fn drain(&mut self) -> Result<()> {
        let give_up = Instant::now() + DRAIN;
        while self.load.outstanding > 0 {
            let now = Instant::now();
            self.load.repeat(&mut self.fleet, now);
            self.fleet.turn(&mut self.load, now + Duration::from_millis(5))?;
            if now > give_up {
                return Err(Fail::Broken(format!("{} sends were never answered", self.load.outstanding)));
            }
        }
        for (room, seqs) in self.rooms.iter().zip(&self.load.seqs) {
            if seqs.count != seqs.highest {
                let (count, highest) = (seqs.count, seqs.highest);
                return Err(Fail::Broken(format!(
                    "{room}: {count} sends acknowledged, but the highest seq is {highest}"
                )));
            }
        }
        Ok(())
    }

    /// Asks the server itself, through new sessions, for the heads of up to fifty of the rooms.
    pub fn check_heads(&self) -> Result<()> {
        let step = self.rooms.len().div_ceil(50);
        let sample: Vec<usize> = (0..self.rooms.len()).step_by(step).collect();
        let visitors: Vec<Visitor> = sample
            .iter()
            .map(|&room| Visitor {
                server: self.subject.servers[room % self.subject.servers.len()],
                user: "reader".into(),
                joins: Vec::new(),
                subscribes: Some(room),
            })
            .collect();
        let heads = enter(&mut Fleet::new()?, &visitors, &self.rooms, &self.subject.mint, 50)?;
        for (&room, head) in sample.iter().zip(heads) {
            let acked = self.load.seqs[room].highest;
            if head != acked {
                return Err(Fail::Broken(format!("{}: head {head}, but {acked} sends acknowledged", self.rooms[room])));
            }
        }
        Ok(())
    }
}
