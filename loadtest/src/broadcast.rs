//! Open-loop broadcast: messages leave when the schedule says, whatever the server does meanwhile, and a delivery's
//! latency counts from the moment its message was due. So a pause of the server shows in the figures instead of
//! pausing the load (no coordinated omission). Every reader checks that what it gets is consecutive.

use std::io::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::enter::{Visitor, enter};
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Scenario};
use crate::net::wire;
use crate::proc::Memory;
use crate::stack::{Subject, Usage};

/// What is sent to whom.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Plan {
    pub rooms: usize,
    pub readers_per_room: usize,
    pub senders_per_room: usize,
    /// Entries a second over all rooms.
    pub entries_per_s: f64,
    pub text_bytes: usize,
    pub warmup_s: f64,
    pub seconds: f64,
}

/// What one round measured, warm-up excluded.
pub struct Round {
    pub deliveries: u64,
    pub usage: Usage,
    pub memory: Memory,
    pub seconds: f64,
    /// Microseconds from due to received by a reader.
    pub latency: Histogram<u64>,
    /// Microseconds from due to acknowledged to the sender.
    pub ack: Histogram<u64>,
    /// Messages refused because of a rate or window; nothing of them was stored.
    pub refused: u64,
    /// `events` frames that carried the deliveries.
    pub frames: u64,
}

const DRAIN: Duration = Duration::from_secs(30);

struct Broadcast<'a> {
    plan: Plan,
    rooms: &'a [String],
    nonce: &'a str,
    /// Connections: readers first, room by room, then senders.
    readers: usize,
    /// Last seq each reader has seen.
    seen: Vec<u64>,
    /// Acknowledged messages of each room.
    acked: Vec<u64>,
    epoch: Instant,
    start: Instant,
    interval: Duration,
    /// First message that counts.
    first_counted: u64,
    received: u64,
    answered: u64,
    counting: bool,
    round: Round,
    json: Vec<u8>,
}

impl Broadcast<'_> {
    fn due(&self, message: u64) -> Instant {
        self.start + self.interval.mul_f64(message as f64)
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn send(&mut self, fleet: &mut Fleet, message: u64) {
        let rooms = self.plan.rooms as u64;
        let room = (message % rooms) as usize;
        let turn = (message / rooms) as usize % self.plan.senders_per_room;
        let stamp = self.nanos(self.due(message));
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let (id, nonce) = (&self.rooms[room], self.nonce);
        write!(json, r#"{{"type":"send","ref":{message},"room":"{id}","id":"{nonce}-{message}","text":""#)
            .expect("a Vec takes everything");
        wire::stamped(&mut json, stamp, self.plan.text_bytes);
        json.extend_from_slice(b"\"}");
        fleet.send(self.readers + room * self.plan.senders_per_room + turn, &json);
        self.json = json;
    }

    fn events(&mut self, conn: usize, json: &[u8]) -> Result<()> {
        if conn >= self.readers {
            return Err(Fail::Broken("events for a sender without a subscription".into()));
        }
        let now = self.nanos(Instant::now());
        let mut wrong = None;
        self.round.frames += u64::from(self.counting);
        wire::entries(json, |seq, stamp| {
            if seq != self.seen[conn] + 1 {
                wrong = wrong.or(Some((self.seen[conn], seq)));
            }
            self.seen[conn] = seq;
            self.received += 1;
            if self.counting {
                self.round.deliveries += 1;
                if let Some(stamp) = stamp {
                    self.round.latency.saturating_record(now.saturating_sub(stamp) / 1_000);
                }
            }
        });
        match wrong {
            Some((before, seq)) => Err(Fail::Broken(format!("reader {conn} got seq {seq} after {before}"))),
            None => Ok(()),
        }
    }
}

impl Scenario for Broadcast<'_> {
    fn frame(&mut self, _: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        match wire::string(json, &wire::TYPE).unwrap_or_default() {
            b"events" => return self.events(conn, json),
            b"sent" => {
                let message = wire::number(json, &wire::REF).ok_or_else(|| unexpected(json))?;
                self.answered += 1;
                self.acked[(message % self.plan.rooms as u64) as usize] += 1;
                if message >= self.first_counted {
                    let late = Instant::now().saturating_duration_since(self.due(message));
                    self.round.ack.saturating_record(late.as_micros() as u64);
                }
            }
            b"error" if wire::string(json, &wire::CODE) == Some(b"rate_limited") => {
                self.answered += 1;
                self.round.refused += 1;
            }
            b"presence" | b"typing" | b"read" | b"notice" => {}
            _ => return Err(unexpected(json)),
        }
        Ok(())
    }
}

fn unexpected(json: &[u8]) -> Fail {
    Fail::Broken(format!("unexpected {}", String::from_utf8_lossy(json)))
}

/// Microseconds to a minute, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that are right for the library")
}

/// One round against `subject` in `rooms`, which exist. `nonce` makes its message ids new.
pub fn run(subject: &Subject, plan: Plan, rooms: &[String], nonce: &str) -> Result<Round> {
    let mut fleet = Fleet::new()?;
    let server = |i: usize| subject.servers[i % subject.servers.len()];
    let mut visitors: Vec<Visitor> = (0..plan.rooms * plan.readers_per_room)
        .map(|i| {
            let room = i / plan.readers_per_room;
            Visitor { server: server(i), user: format!("reader-{i}"), joins: vec![room], subscribes: Some(room) }
        })
        .collect();
    let readers = visitors.len();
    visitors.extend((0..plan.rooms * plan.senders_per_room).map(|i| Visitor {
        server: server(i),
        user: format!("sender-{i}"),
        joins: vec![i / plan.senders_per_room],
        subscribes: None,
    }));
    let mut heads = enter(&mut fleet, &visitors, rooms, &subject.mint, 200)?;
    heads.truncate(readers);
    let head_of: Vec<u64> = (0..plan.rooms).map(|room| heads[room * plan.readers_per_room]).collect();

    let start = Instant::now() + Duration::from_millis(200);
    let total = ((plan.warmup_s + plan.seconds) * plan.entries_per_s) as u64;
    let first_counted = (plan.warmup_s * plan.entries_per_s) as u64;
    let mut broadcast = Broadcast {
        plan,
        rooms,
        nonce,
        readers,
        seen: heads,
        acked: vec![0; plan.rooms],
        epoch: start - Duration::from_secs(1),
        start,
        interval: Duration::from_secs_f64(1.0 / plan.entries_per_s),
        first_counted,
        received: 0,
        answered: 0,
        counting: false,
        round: Round {
            deliveries: 0,
            usage: Usage::default(),
            memory: Memory::default(),
            seconds: 0.0,
            latency: histogram(),
            ack: histogram(),
            refused: 0,
            frames: 0,
        },
        json: Vec::new(),
    };
    let mut before = (Usage::default(), start);
    let mut next = 0;
    while next < total {
        let now = Instant::now();
        while next < total && broadcast.due(next) <= now {
            if next == first_counted {
                broadcast.counting = true;
                before = (subject.usage(), Instant::now());
            }
            broadcast.send(&mut fleet, next);
            next += 1;
        }
        let until = if next < total { broadcast.due(next) } else { now };
        fleet.turn(&mut broadcast, until)?;
    }
    let per_room = plan.readers_per_room as u64;
    let give_up = Instant::now() + DRAIN;
    while broadcast.answered < total || broadcast.received < broadcast.acked.iter().sum::<u64>() * per_room {
        fleet.turn(&mut broadcast, Instant::now() + Duration::from_millis(20))?;
        if Instant::now() > give_up {
            let (got, acked) = (broadcast.received, broadcast.acked.iter().sum::<u64>());
            let what = format!("{got} deliveries of {acked} acknowledged entries to {per_room} readers each");
            return Err(Fail::Broken(format!("{what}, {} of {total} answered, then nothing", broadcast.answered)));
        }
    }
    broadcast.round.usage = subject.usage() - before.0;
    broadcast.round.seconds = before.1.elapsed().as_secs_f64();
    broadcast.round.memory = subject.memory();
    for (reader, &seen) in broadcast.seen.iter().enumerate() {
        let room = reader / plan.readers_per_room;
        let expected = head_of[room] + broadcast.acked[room];
        if seen != expected {
            return Err(Fail::Broken(format!("reader {reader} ended at seq {seen} instead of {expected}")));
        }
    }
    Ok(broadcast.round)
}
