//! Sending what is due, repeating what was not answered, and noting what was acked.

use std::time::{Duration, Instant};

use roundtable_client::scan::{self, codes};

use crate::checker::entry::text_hash;
use crate::checker::faults::Kind;
use crate::checker::ledger::REFUSED;
use crate::crowd::names;
use crate::crowd::person::{Due, Pending};
use crate::crowd::player::{Ask, Phase, Player, Wake};
use crate::crowd::schedule;
use crate::fail::Result;
use crate::net::fleet::Fleet;
use crate::net::wire;

/// Sends that may be due and unanswered; what would come on top is not offered, and counted.
const MOST_WAITING: u64 = 1 << 20;
/// Members of a room that are looked at for one who can send at once.
const TRIED: usize = 64;
const RETRY: u64 = 100;
const LONGEST_RETRY: u64 = 5_000;

impl Player {
    /// The room that the next message goes to, by weight; in turn where all weigh the same.
    pub(super) fn pick_room(&mut self) -> Option<u32> {
        let &(sum, _) = self.sendable.last()?;
        if self.job.load.room_weights.is_empty() {
            let (_, room) = self.sendable[self.next_sendable % self.sendable.len()];
            self.next_sendable = self.next_sendable.wrapping_add(1);
            return Some(room);
        }
        let at = self.chance.f64() * sum;
        let place = self.sendable.partition_point(|&(upto, _)| upto <= at);
        self.sendable.get(place.min(self.sendable.len() - 1)).map(|&(_, room)| room)
    }

    /// A message is due in `room`: by a member who can send now, else by one who has to wait.
    pub(super) fn due(&mut self, fleet: &mut Fleet, room: u32, due_ns: u64) {
        if self.waiting >= MOST_WAITING {
            // It was due all the same: it belongs to the backlog.
            self.tally.due(self.step_at(due_ns));
            return self.tally.error("not_offered");
        }
        let members = &self.members[room as usize];
        let turn = self.next_member[room as usize];
        self.next_member[room as usize] = (turn + 1) % members.len();
        let at = |i: usize| members[(turn + i) % members.len()] as usize;
        let window = self.job.load.window;
        let ready = |person: &usize| {
            let someone = &self.people[*person];
            someone.live() && someone.pending.len() < window && someone.queue.is_empty()
        };
        let person = (0..members.len().min(TRIED)).map(at).find(ready);
        self.waiting += 1;
        self.tally.due(self.step_at(due_ns));
        match person {
            Some(person) => self.send(fleet, person, Due { room, due_ns }),
            None => {
                let person = at(0);
                self.people[person].queue.push_back(Due { room, due_ns });
            }
        }
    }

    /// Sends a message for the first time.
    fn send(&mut self, fleet: &mut Fleet, person: usize, Due { room, due_ns }: Due) {
        let number = self.people[person].number;
        let message = self.ledger.add(room, number);
        let now = Instant::now();
        let pending = Pending { message, room, due_ns, out: Some(now) };
        self.people[person].pending.push_back(pending);
        self.transmit(fleet, person, pending);
        let step = self.step_at(self.ns(now));
        self.tally.sent(step);
    }

    /// Puts a message on the wire.
    pub(super) fn transmit(&mut self, fleet: &mut Fleet, person: usize, pending: Pending) {
        let Pending { message, room, due_ns, .. } = pending;
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let (name, nonce, worker) = (&self.job.rooms[room as usize], &self.job.nonce, self.job.worker);
        let number = Ask::Send.number(message.into());
        // The id as in `names::message`, without an allocation.
        let id = format_args!("{nonce}-{worker}-{message}");
        let mut hash = 0;
        scan::send(&mut json, number, name, id, |json| {
            let from = json.len();
            wire::stamped(json, due_ns, self.job.load.text_bytes);
            hash = text_hash(&json[from..]);
        });
        self.ledger.invoked(message, hash);
        if let Some(conn) = self.people[person].conn {
            fleet.send(conn, &json);
        }
        self.json = json;
    }

    pub(super) fn send_queued(&mut self, fleet: &mut Fleet, person: usize) {
        while self.people[person].live()
            && self.people[person].pending.len() < self.job.load.window
            && let Some(due) = self.people[person].queue.pop_front()
        {
            self.send(fleet, person, due);
        }
    }

    /// In a closed loop: fills a person's window.
    pub(super) fn refill(&mut self, fleet: &mut Fleet, person: usize) {
        if self.phase != Phase::Running || !schedule::closed_loop(&self.job.load.steps) {
            return;
        }
        while self.people[person].live() && self.people[person].pending.len() < self.job.load.window {
            let someone = &mut self.people[person];
            if someone.member_of.is_empty() {
                return;
            }
            let room = someone.member_of[someone.next_room % someone.member_of.len()];
            someone.next_room += 1;
            let due_ns = self.ns(Instant::now());
            self.waiting += 1;
            self.tally.due(self.step_at(due_ns));
            self.send(fleet, person, Due { room, due_ns });
        }
    }

    pub(super) fn sent(&mut self, fleet: &mut Fleet, person: usize, message: u32, json: &[u8], now: Instant) {
        let Some(seq) = scan::number(json, &scan::SEQ).and_then(|seq| u32::try_from(seq).ok()) else {
            return self.tally.error("sent_without_seq");
        };
        if !self.answers(person, message, json) {
            let what = String::from_utf8_lossy(json).into_owned();
            return self.faults.add(Kind::Invented, || format!("an ack of something else than was asked for: {what}"));
        }
        self.ledger.acked(message, seq, &mut self.faults);
        // A second ack, after a repeat, only has to say the same.
        let Some(pending) = self.people[person].take_pending(message) else { return };
        self.waiting -= 1;
        let now_ns = self.ns(now);
        let wait = Duration::from_nanos(now_ns.saturating_sub(pending.due_ns));
        let due_s = self.second(pending.due_ns);
        self.tally.acked(self.step_at(now_ns), self.step_at(pending.due_ns), due_s, wait);
        self.send_queued(fleet, person);
        self.refill(fleet, person);
    }

    /// Whether a `sent` names the message that its `ref` stands for, and came to whoever sent that.
    fn answers(&self, person: usize, message: u32, json: &[u8]) -> bool {
        self.ledger.get(message).is_some_and(|record| {
            record.sender == self.people[person].number
                && self.room_in(json) == Some(record.room)
                && scan::string(json, &scan::ID).and_then(|id| names::message_of(&self.job.nonce, id))
                    == Some((self.job.worker, message))
        })
    }

    /// An `error` frame.
    pub(super) fn refused(
        &mut self,
        fleet: &mut Fleet,
        person: usize,
        asked: Option<(Ask, u64)>,
        json: &[u8],
        now: Instant,
    ) -> Result<()> {
        let code = String::from_utf8_lossy(scan::string(json, &scan::CODE).unwrap_or(b"unknown")).into_owned();
        let retryable = scan::RETRYABLE.find(json).is_some();
        let retry_ms = scan::number(json, &scan::RETRY).unwrap_or(RETRY).min(LONGEST_RETRY);
        let again = now + Duration::from_millis(retry_ms);
        self.tally.error(&code);
        match asked {
            Some((Ask::Send, message)) => {
                let message = message as u32;
                if retryable {
                    if let Some(pending) = self.people[person].pending.iter_mut().find(|p| p.message == message) {
                        pending.out = None;
                        self.wake(again, person, Wake::Resend(message));
                    }
                } else if self.people[person].take_pending(message).is_some() {
                    self.waiting -= 1;
                    self.tally.count("refused");
                    // Everybody sends where it has joined, and a membership is durable.
                    if codes::NO_MEMBER.contains(&code.as_str()) {
                        let text = String::from_utf8_lossy(json).into_owned();
                        let number = self.people[person].number;
                        self.faults.add(Kind::Forgotten, || {
                            format!("person {number} is a member, yet its message {message} was refused: {text}")
                        });
                    }
                    if let Some(record) = self.ledger.get_mut(message) {
                        record.flags |= REFUSED;
                    }
                    self.send_queued(fleet, person);
                }
            }
            Some((Ask::Probe, message)) => {
                self.probes = self.probes.map(|left| left.saturating_sub(1));
                if !retryable {
                    let text = String::from_utf8_lossy(json).into_owned();
                    self.faults.add(Kind::Forgotten, || {
                        format!("message {message}, acked before, was sent again and refused: {text}")
                    });
                }
            }
            Some((Ask::History, page)) => {
                self.pages.remove(&page);
            }
            Some((ask, n)) if retryable => {
                let visit = self.people[person].visits;
                self.wake(again, person, Wake::AskAgain(ask.number(n), visit));
            }
            Some((ask, _)) => {
                let text = String::from_utf8_lossy(json).into_owned();
                let what = if ask == Ask::Hello { "refuses the token" } else { "does not let anybody in" };
                if self.entered == 0 {
                    self.fail(format!("the target {what}: {text}"));
                }
                self.comes_back(fleet, person, again);
            }
            None => {}
        }
        Ok(())
    }

    /// A refused message goes out again where it still waits for that.
    pub(super) fn resend(&mut self, fleet: &mut Fleet, person: usize, message: u32) {
        if !self.people[person].live() {
            return;
        }
        let waits = |pending: &&mut Pending| pending.message == message && pending.out.is_none();
        let Some(pending) = self.people[person].pending.iter_mut().find(waits) else { return };
        pending.out = Some(Instant::now());
        let pending = *pending;
        self.tally.count("repeats");
        self.transmit(fleet, person, pending);
    }

    /// Acked messages to be sent once more, at most so many, spread over all: who sent them, and their numbers.
    pub(super) fn probed_messages(&self, most: u32) -> Vec<(usize, u32)> {
        let step = (self.ledger.len() / most).max(1);
        let by_number = |number: u32| self.people.iter().position(|someone| someone.number == number);
        let messages = (0..self.ledger.len()).step_by(step as usize).take(most as usize);
        let acked = messages.filter_map(|message| Some((message, self.ledger.get(message)?)));
        acked
            .filter(|(_, record)| record.seq != 0)
            .filter_map(|(message, record)| Some((by_number(record.sender)?, message)))
            .collect()
    }

    /// Sends acked messages once more: their answer must be the same seq.
    pub(super) fn probe(&mut self, fleet: &mut Fleet, most: u32) {
        let mut asks = Vec::new();
        for (person, message) in self.probed_messages(most) {
            let someone = &self.people[person];
            if let Some(conn) = someone.conn.filter(|_| someone.live())
                && let Some(record) = self.ledger.get(message)
            {
                asks.push((conn, message, record.room));
            }
        }
        self.probes = Some(asks.len() as u64);
        for (conn, message, room) in asks {
            let (name, nonce, worker) = (&self.job.rooms[room as usize], &self.job.nonce, self.job.worker);
            let number = Ask::Probe.number(message.into());
            let mut json = Vec::new();
            let id = format_args!("{nonce}-{worker}-{message}");
            scan::send(&mut json, number, name, id, |json| json.extend_from_slice(b"again"));
            fleet.send(conn, &json);
        }
    }

    pub(super) fn probed(&mut self, person: usize, message: u32, json: &[u8]) {
        self.probes = self.probes.map(|left| left.saturating_sub(1));
        self.tally.count("probes");
        let before = self.ledger.get(message).map_or(0, |record| record.seq);
        let seq = scan::number(json, &scan::SEQ).unwrap_or(0);
        if seq != u64::from(before) || !self.answers(person, message, json) || scan::DUPLICATE.find(json).is_none() {
            let what = String::from_utf8_lossy(json).into_owned();
            self.faults.add(Kind::Repeated, || {
                format!("message {message}, acked at {before}, was sent again and answered with {what}")
            });
        }
    }
}
