//! Open-loop broadcast to any peer: messages leave when the schedule says, whatever the peer does meanwhile, and a
//! delivery's latency counts from the moment its message was due. Senders are readers too, in every peer, because some
//! know no others.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::compare::crowd::Crowd;
use crate::compare::dialect::{Heard, StoredSign};
use crate::compare::ledger::{Ledger, Tally};
use crate::compare::server::{Server, Usage};
use crate::compare::tag::{self, Tag};
use crate::crowd::tally::histogram;
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Lost, Scenario};

/// What is sent to whom.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    pub rooms: usize,
    pub readers_per_room: usize,
    /// How many of the readers of a room send, in turn.
    pub senders_per_room: usize,
    /// Over all rooms.
    pub messages_per_s: f64,
    pub text_bytes: usize,
    pub warmup_s: f64,
    pub seconds: f64,
}

/// What one row measured, warm-up excluded where it isn't about what became of messages.
pub struct Found {
    pub seconds: f64,
    pub deliveries: u64,
    /// Frames that carried them.
    pub frames: u64,
    pub usage: Usage,
    /// Microseconds from due to received by a reader.
    pub latency: Histogram<u64>,
    /// Of the whole row.
    pub sent: u64,
    pub refused: u64,
    pub tally: Tally,
    /// Per sender (a number among the people) and number: the seq of the ack, 0 where there was none.
    pub acked: Vec<Vec<u64>>,
}

/// After the last message: longest wait for the rest.
const DRAIN: Duration = Duration::from_secs(30);
/// Nothing for so long: the rest is lost. Only ever waited for where something is.
const SILENCE: Duration = Duration::from_secs(5);
/// After everything is there: what comes within it too much is still seen.
const QUIET: Duration = Duration::from_millis(100);
/// Between the last one's coming in and the first message.
const SETTLE: Duration = Duration::from_millis(500);

struct Broadcast<'a> {
    plan: Plan,
    dialect: &'a dyn crate::compare::dialect::Dialect,
    epoch: Instant,
    start: Instant,
    ledger: Ledger,
    /// Messages sent by each person.
    sent_by: Vec<u64>,
    sent: u64,
    acks: u64,
    received: u64,
    /// The last seq that each person saw, where the peer has them.
    seqs: Vec<u64>,
    last_news: Instant,
    counting: bool,
    found: Found,
    answers: Vec<&'static [u8]>,
}

impl Broadcast<'_> {
    fn due(&self, message: u64) -> Instant {
        self.start + Duration::from_secs_f64(message as f64 / self.plan.messages_per_s)
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn send(&mut self, fleet: &mut Fleet, people: &[super::dialect::Person], message: u64, frame: &mut Vec<u8>) {
        let rooms = self.plan.rooms as u64;
        let turn = (message / rooms) as usize % self.plan.senders_per_room;
        let sender = (message % rooms) as usize * self.plan.readers_per_room + turn;
        let number = self.sent_by[sender];
        let mut text = Vec::with_capacity(self.plan.text_bytes + 64);
        tag::write(&mut text, Tag { stamp: self.nanos(self.due(message)), sender, number }, self.plan.text_bytes);
        frame.clear();
        self.dialect.publish(&people[sender], number, &text, frame);
        fleet.send(sender, frame);
        self.sent_by[sender] += 1;
        self.found.acked[sender].push(0);
        self.sent += 1;
    }

    /// A message that reader `conn` got. The error is a breach of consecutive seqs.
    fn message(&mut self, conn: usize, text: &[u8], seq: Option<u64>, now: u64) -> std::result::Result<(), String> {
        if let Some(seq) = seq {
            if seq != self.seqs[conn] + 1 {
                return Err(format!("reader {conn} got seq {seq} after {}", self.seqs[conn]));
            }
            self.seqs[conn] = seq;
        }
        let room = conn / self.plan.readers_per_room;
        let of_room = |tag: &Tag| {
            let turn = tag.sender.checked_sub(room * self.plan.readers_per_room)?;
            (turn < self.plan.senders_per_room).then_some(turn)
        };
        let Some((tag, turn)) = tag::read(text).and_then(|tag| Some((tag, of_room(&tag)?))) else {
            self.ledger.stray();
            return Ok(());
        };
        self.ledger.note(conn, turn, tag.number, self.sent_by[tag.sender]);
        self.received += 1;
        if self.counting {
            self.found.deliveries += 1;
            self.found.latency.saturating_record(now.saturating_sub(tag.stamp) / 1_000);
        }
        Ok(())
    }
}

impl Scenario for Broadcast<'_> {
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, frame: &[u8]) -> Result<()> {
        self.last_news = Instant::now();
        let now = self.nanos(self.last_news);
        let before = self.received;
        let mut wrong = None;
        let mut answers = std::mem::take(&mut self.answers);
        let dialect = self.dialect;
        let heard = dialect.hear(frame, &mut |heard| match heard {
            Heard::Message { text, seq, .. } => {
                if let Err(why) = self.message(conn, text, seq, now) {
                    wrong.get_or_insert(why);
                }
            }
            Heard::Ack { number: Some(number), seq } => match self.found.acked[conn].get_mut(number as usize) {
                Some(place) if *place == 0 => {
                    *place = seq.unwrap_or(0);
                    self.acks += 1;
                }
                _ => {
                    wrong.get_or_insert(format!("an ack of {number}, which does not wait for one"));
                }
            },
            Heard::Ack { .. } => {}
            Heard::Refused { .. } => self.found.refused += 1,
            Heard::Answer(text) => answers.push(text),
        });
        for answer in answers.drain(..) {
            fleet.send(conn, answer);
        }
        self.answers = answers;
        if let Some(why) = heard.err().or(wrong) {
            return Err(Fail::Broken(why));
        }
        self.found.frames += u64::from(self.counting && self.received > before);
        Ok(())
    }

    fn lost(&mut self, _: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        Err(Fail::Broken(format!("person {conn}: {why}")))
    }
}

/// One row against `server` in `rooms`, in which nobody has been.
pub fn run(server: &Server, plan: Plan, rooms: &[String]) -> Result<Found> {
    let people = server.people(rooms, plan.readers_per_room);
    let everybody = people.len();
    let mut crowd = Crowd::new(people, &*server.dialect)?;
    crowd.enter(everybody)?;
    let start = Instant::now() + SETTLE;
    let total = ((plan.warmup_s + plan.seconds) * plan.messages_per_s) as u64;
    let first_counted = (plan.warmup_s * plan.messages_per_s) as u64;
    let mut broadcast = Broadcast {
        plan,
        dialect: &*server.dialect,
        epoch: start - Duration::from_secs(1),
        start,
        ledger: Ledger::new(everybody, plan.senders_per_room),
        sent_by: vec![0; everybody],
        sent: 0,
        acks: 0,
        received: 0,
        seqs: vec![0; everybody],
        last_news: start,
        counting: false,
        found: Found {
            seconds: 0.0,
            deliveries: 0,
            frames: 0,
            usage: Usage::default(),
            latency: histogram(),
            sent: 0,
            refused: 0,
            tally: Tally::default(),
            acked: vec![Vec::new(); everybody],
        },
        answers: Vec::new(),
    };
    let mut before = (server.usage(), start);
    let mut frame = Vec::new();
    let mut next = 0;
    while next < total {
        let now = Instant::now();
        while next < total && broadcast.due(next) <= now {
            if next == first_counted {
                broadcast.counting = true;
                before = (server.usage(), Instant::now());
            }
            broadcast.send(&mut crowd.fleet, &crowd.people, next, &mut frame);
            next += 1;
        }
        let until = if next < total { broadcast.due(next) } else { now };
        crowd.fleet.turn(&mut broadcast, until)?;
    }
    let give_up = Instant::now() + DRAIN;
    broadcast.last_news = Instant::now();
    let readers = plan.readers_per_room as u64;
    let mut ended = Instant::now();
    while broadcast.received < (broadcast.sent - broadcast.found.refused.min(broadcast.sent)) * readers {
        crowd.fleet.turn(&mut broadcast, Instant::now() + Duration::from_millis(20))?;
        ended = Instant::now();
        if ended > give_up || broadcast.last_news.elapsed() > SILENCE {
            ended = broadcast.last_news;
            break;
        }
    }
    let coming = broadcast.last_news.elapsed() < SILENCE;
    let usage = server.usage() - before.0;
    // The acks of the last messages may come after their deliveries, and repeats after everything.
    let acks = server.dialect.stored_sign() == StoredSign::Ack;
    let (quiet, silent) = (Instant::now() + QUIET, Instant::now() + SILENCE);
    loop {
        let now = Instant::now();
        let unanswered = acks && broadcast.acks + broadcast.found.refused < broadcast.sent;
        if now >= if unanswered { silent } else { quiet } {
            break;
        }
        crowd.fleet.turn(&mut broadcast, now + Duration::from_millis(20))?;
    }
    let Broadcast { mut found, ledger, sent_by, sent, .. } = broadcast;
    found.seconds = ended.saturating_duration_since(before.1).as_secs_f64();
    found.usage = usage;
    found.sent = sent;
    found.tally =
        ledger.close(coming, |reader, turn| sent_by[reader / plan.readers_per_room * plan.readers_per_room + turn]);
    // What was refused was told, so it is not lost.
    found.tally.lost = found.tally.lost.saturating_sub(found.refused * readers);
    Ok(found)
}
