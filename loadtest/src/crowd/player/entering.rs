//! Bringing people in and back: connect, hello, join (once), subscribe where one stopped reading.

use std::time::{Duration, Instant};

use roundtable_client::closing::{Pace, Remedy};
use roundtable_client::scan;

use crate::checker::faults::Kind;
use crate::crowd::names;
use crate::crowd::person::{Hole, Stage};
use crate::crowd::player::{Ask, Phase, Player, Wake};
use crate::fail::Result;
use crate::net::fleet::{Door, Fleet, Lost};

/// Joins or subscriptions of one connection that may be unanswered, below `limits.inflight`.
const ASKED_AT_ONCE: usize = 32;
/// An entrance that takes longer is given up and begun anew elsewhere.
const ENTRANCE: Duration = Duration::from_secs(20);
const FIRST_BACKOFF: Duration = Duration::from_millis(40);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

impl Player {
    /// Starts newcomers, as many at once as the job allows.
    pub(super) fn bring_in(&mut self, fleet: &mut Fleet) -> Result<()> {
        while self.next_newcomer < self.people.len() && self.coming_in < self.job.at_once {
            let person = self.next_newcomer;
            self.next_newcomer += 1;
            self.coming_in += 1;
            self.connect(fleet, person)?;
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, fleet: &mut Fleet, person: usize) -> Result<()> {
        let someone = &mut self.people[person];
        if someone.conn.is_some() {
            return Ok(());
        }
        let servers = &self.job.target.servers;
        let server = servers[someone.next_server % servers.len()];
        let conn = fleet.connect(&Door::roundtable(server))?;
        someone.conn = Some(conn);
        someone.visits = someone.visits.wrapping_add(1);
        someone.stage = Stage::Greeting;
        someone.since = Instant::now();
        if self.by_conn.len() <= conn {
            self.by_conn.resize(conn + 1, u32::MAX);
        }
        self.by_conn[conn] = person as u32;
        Ok(())
    }

    pub(super) fn greet(&mut self, fleet: &mut Fleet, person: usize) {
        let someone = &self.people[person];
        let Some(conn) = someone.conn else { return };
        let mut json = Vec::new();
        scan::hello(&mut json, Ask::Hello.number(0), names::CLIENT, &self.mint.token(&names::user(someone.number)));
        fleet.send(conn, &json);
    }

    pub(super) fn welcomed(&mut self, fleet: &mut Fleet, person: usize, json: &[u8], now: Instant) {
        if let Some(ms) = scan::number(json, &scan::JITTER) {
            self.jitter = Duration::from_millis(ms);
        }
        if let Some(ms) = scan::number(json, &scan::BACKOFF_MAX) {
            self.backoff_most = Duration::from_millis(ms);
        }
        let someone = &mut self.people[person];
        self.tally.took("handshake", now.saturating_duration_since(someone.since));
        someone.attempts = 0;
        someone.reconnect_after = None;
        someone.stage = if someone.joined { Stage::Subscribing } else { Stage::Joining };
        (someone.since, someone.asked, someone.answered) = (now, 0, 0);
        self.ask_more(fleet, person);
    }

    /// Asks for the next joins or subscriptions, and goes on to the next stage after the last answer.
    fn ask_more(&mut self, fleet: &mut Fleet, person: usize) {
        loop {
            let someone = &mut self.people[person];
            let of = match someone.stage {
                Stage::Joining => someone.member_of.len(),
                Stage::Subscribing => someone.cursors.len(),
                _ => return,
            };
            if someone.asked < of && someone.asked - someone.answered < ASKED_AT_ONCE {
                someone.asked += 1;
                let n = someone.asked as u64 - 1;
                let ask = if someone.stage == Stage::Joining { Ask::Join } else { Ask::Subscribe };
                self.ask(fleet, person, ask.number(n));
                continue;
            }
            if someone.answered < of {
                return;
            }
            (someone.asked, someone.answered) = (0, 0);
            if someone.stage == Stage::Joining {
                someone.joined = true;
                someone.stage = Stage::Subscribing;
            } else {
                return self.is_live(fleet, person);
            }
        }
    }

    /// Makes (again) the request that `number` names.
    pub(super) fn ask(&mut self, fleet: &mut Fleet, person: usize, number: u64) {
        let someone = &self.people[person];
        let (Some(conn), Some((ask, n))) = (someone.conn, Ask::of(number)) else { return };
        let room = |room: u32| &self.job.rooms[room as usize];
        let mut json = Vec::new();
        match ask {
            Ask::Join => {
                let Some(&id) = someone.member_of.get(n as usize) else { return };
                scan::join(&mut json, number, room(id));
            }
            Ask::Subscribe => {
                let Some(cursor) = someone.cursors.get(n as usize) else { return };
                scan::subscribe(&mut json, number, room(cursor.room), cursor.seen);
            }
            Ask::Hole => {
                let Some(cursor) = someone.cursors.get(n as usize) else { return };
                let Some(hole) = cursor.hole else { return };
                scan::history(&mut json, number, room(cursor.room), scan::Page::After(hole.after), 200);
            }
            Ask::Hello => return self.greet(fleet, person),
            Ask::Send | Ask::Probe | Ask::History => return,
        }
        fleet.send(conn, &json);
    }

    pub(super) fn joined(&mut self, fleet: &mut Fleet, person: usize) {
        self.people[person].answered += 1;
        self.ask_more(fleet, person);
    }

    pub(super) fn subscribed(&mut self, fleet: &mut Fleet, person: usize, cursor: usize, json: &[u8], now: Instant) {
        let someone = &mut self.people[person];
        let Some(cursor_now) = someone.cursors.get_mut(cursor) else { return };
        let Some(head) = scan::number(json, &scan::HEAD).and_then(|head| u32::try_from(head).ok()) else {
            return self.tally.error("subscribed_without_head");
        };
        cursor_now.goal = head;
        self.ledger.told(cursor_now.room, head);
        match cursor_now.seen {
            None => cursor_now.seen = Some(head),
            Some(seen) if head < seen => {
                let (room, number) = (&self.job.rooms[cursor_now.room as usize], someone.number);
                self.faults.add(Kind::Forgotten, || {
                    format!("{room}: person {number} has seen {seen}, now the head is {head}")
                });
                cursor_now.seen = Some(head);
            }
            Some(seen) if scan::string(json, &scan::VERDICT) == Some(scan::RESET) => {
                let after = cursor_now.hole.map_or(seen, |hole| hole.after);
                cursor_now.hole = (after < head).then_some(Hole { after, until: head });
                cursor_now.seen = Some(head);
                self.tally.count("resets");
            }
            Some(_) => {}
        }
        if self.people[person].cursors[cursor].hole.is_some() {
            self.ask(fleet, person, Ask::Hole.number(cursor as u64));
        }
        self.people[person].answered += 1;
        self.ask_more(fleet, person);
        self.resumed(person, now);
    }

    /// Everything is joined and subscribed.
    fn is_live(&mut self, fleet: &mut Fleet, person: usize) {
        let someone = &mut self.people[person];
        someone.stage = Stage::Live;
        let rooms = someone.member_of.len();
        if !std::mem::replace(&mut someone.entered, true) {
            self.coming_in = self.coming_in.saturating_sub(1);
            self.entered += 1;
        }
        for place in 0..someone.pending.len() {
            let pending = self.people[person].pending[place];
            self.transmit(fleet, person, pending);
            self.people[person].pending[place].out = Some(Instant::now());
            self.tally.count("repeats");
        }
        if rooms > 0 {
            self.send_queued(fleet, person);
            self.refill(fleet, person);
        }
        self.resumed(person, Instant::now());
    }

    /// Notes the end of an absence where there is one.
    pub(super) fn resumed(&mut self, person: usize, now: Instant) {
        let someone = &mut self.people[person];
        if someone.live()
            && someone.caught_up()
            && let Some(since) = someone.away_since.take()
        {
            someone.on_leave = false;
            self.tally.took("resume", now.saturating_duration_since(since));
        }
    }

    /// A connection is gone: what is out has to be sent again, after coming back as the contract says.
    pub(super) fn left(&mut self, fleet: &mut Fleet, person: usize, why: &Lost) {
        let entered = self.entered > 0;
        let backoff = self.backoff(person);
        let within = |most: Duration, chance: &mut fastrand::Rng| most.mul_f64(chance.f64());
        let wait = match why {
            Lost::Connect(_) => {
                self.tally.count("connects_failed");
                backoff
            }
            Lost::Refused(status, line) => {
                self.tally.error(&format!("upgrade_{status}"));
                if !entered && !matches!(status, 429 | 503) {
                    self.fail(format!("{}: no upgrade to a WebSocket: {line}", self.server_of(person)));
                }
                backoff.max(Duration::from_millis(200))
            }
            Lost::Closed(code, _) if Remedy::of(*code) == Remedy::Move => {
                self.tally.count(&format!("closes_{code}"));
                let told = self.people[person].reconnect_after;
                told.unwrap_or_else(|| within(Duration::from_millis(50), &mut self.chance))
            }
            Lost::Closed(code, reason) => {
                self.tally.error(&format!("closed_{code}"));
                if !entered && Remedy::of(*code) != Remedy::Backoff {
                    self.fail(format!("{} closed with {code} {reason}", self.server_of(person)));
                }
                within(self.jitter, &mut self.chance).max(backoff)
            }
            Lost::Broken(_) => {
                self.tally.error("connection_lost");
                within(self.jitter, &mut self.chance).max(backoff)
            }
        };
        self.last_loss = Some(format!("{}: {why}", self.server_of(person)));
        self.comes_back(fleet, person, Instant::now() + wait);
    }

    fn server_of(&self, person: usize) -> String {
        let servers = &self.job.target.servers;
        format!("ws://{}", servers[self.people[person].next_server % servers.len()])
    }

    fn backoff(&mut self, person: usize) -> Duration {
        let someone = &mut self.people[person];
        someone.attempts += 1;
        let attempts = someone.attempts;
        // With several servers the first tries go to the others at once.
        if (someone.attempts as usize) < self.job.target.servers.len() {
            return Duration::from_millis(5);
        }
        Pace { jitter: FIRST_BACKOFF / 2, most: self.backoff_most.min(LONGEST_BACKOFF) }
            .wait(attempts, self.chance.f64())
    }

    /// Ends whatever connection there is and comes back to the next server at `at`.
    pub(super) fn comes_back(&mut self, fleet: &mut Fleet, person: usize, at: Instant) {
        let someone = &mut self.people[person];
        if let Some(conn) = someone.conn.take() {
            fleet.close(conn);
        }
        if someone.entered {
            // Whoever leaves by itself is to be back from when it comes back.
            let now = Instant::now();
            someone.away_since.get_or_insert(if someone.on_leave { at.max(now) } else { now });
        }
        someone.stage = Stage::Away;
        let any = self.job.load.any_server.then(|| self.chance.usize(0..self.job.target.servers.len().max(1)));
        someone.next_server = any.unwrap_or(someone.next_server + 1);
        for pending in &mut someone.pending {
            pending.out = None;
        }
        self.wake(at, person, Wake::Connect);
    }

    /// Gives up connections on which an answer is overdue.
    pub(super) fn give_up_late(&mut self, fleet: &mut Fleet, now: Instant) {
        let patience = Duration::from_secs_f64(self.job.load.answer_within_s);
        for person in 0..self.people.len() {
            let someone = &self.people[person];
            let late = match someone.stage {
                Stage::Away => false,
                Stage::Live => {
                    let outs = someone.pending.iter().filter_map(|pending| pending.out);
                    outs.min().is_some_and(|out| now.saturating_duration_since(out) > patience)
                }
                _ => now.saturating_duration_since(someone.since) > ENTRANCE.max(patience),
            };
            if late {
                self.tally.error("no_answer");
                self.last_loss = Some(format!("{}: no answer", self.server_of(person)));
                self.comes_back(fleet, person, now);
            }
        }
    }

    /// Says why the target can't be worked with, when it has been silent for too long while something was wanted of it.
    pub(super) fn notice_silence(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.last_heard).as_secs_f64();
        if silent < self.job.load.patience_s || self.phase == Phase::Waiting {
            return;
        }
        let wants = self.waiting > 0 || self.people.iter().any(|someone| !someone.live());
        if wants {
            let last = self.last_loss.clone().map(|last| format!("; last: {last}")).unwrap_or_default();
            self.fail(format!("nothing heard from the target for {silent:.0} s{last}"));
        }
    }
}
