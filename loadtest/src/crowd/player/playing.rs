//! Keeping to the schedule, from the first newcomer to the last answer.

use std::time::{Duration, Instant};

use roundtable_client::scan;

use crate::checker::faults::Kind;
use crate::crowd::person::Stage;
use crate::crowd::player::{Phase, Player, Wake};
use crate::crowd::schedule;
use crate::fail::Result;
use crate::net::fleet::Fleet;

/// How often connections are looked through for overdue answers.
const SCAN: Duration = Duration::from_millis(200);
/// Messages asked for once more at the end.
const PROBES: u32 = 200;
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

impl Player {
    /// The load begins at `begin_ns` of the monotonic clock.
    pub fn go(&mut self, begin_ns: u64) {
        self.begin_ns = begin_ns;
        self.phase = Phase::Running;
        self.last_heard = Instant::now();
    }

    /// No new messages from now on. Those that were due and never left stay behind, with the time that they have waited:
    /// the rate was not sustained, which is no reason to go on for longer.
    pub fn settle(&mut self, within: Duration) {
        self.phase = Phase::Settling;
        self.settle_had_time = !within.is_zero();
        let now = Instant::now();
        self.settle_until = Some(now + within);
        let now_ns = self.ns(now);
        for person in 0..self.people.len() {
            for due in std::mem::take(&mut self.people[person].queue) {
                let wait = Duration::from_nanos(now_ns.saturating_sub(due.due_ns));
                self.tally.unanswered(self.step_at(due.due_ns), self.second(due.due_ns), wait);
                self.waiting -= 1;
            }
        }
    }

    /// Everything is answered, or time is up.
    pub fn settled(&self, now: Instant) -> bool {
        self.phase == Phase::Settling && (self.waiting == 0 || self.settle_until.is_some_and(|until| now >= until))
    }

    /// Everybody is to come to these heads (by room).
    pub fn finish(&mut self, fleet: &mut Fleet, heads: Vec<u32>, within: Duration) {
        self.phase = Phase::Finishing;
        if heads.is_empty() {
            self.probes = Some(0);
        } else if self.job.target.servers.len() > 1 {
            self.move_on(fleet);
        }
        self.heads = heads;
        // A head that is told too low must excuse nobody: what one client knows, all have to see.
        for (room, head) in self.heads.iter_mut().enumerate() {
            *head = self.ledger.top(room as u32).max(*head);
        }
        self.finish_until = Some(Instant::now() + within);
    }

    /// Sends those whose messages will be asked for once more to the next server, so that another node has to know them.
    fn move_on(&mut self, fleet: &mut Fleet) {
        let now = Instant::now();
        for (person, _) in self.probed_messages(PROBES) {
            if self.people[person].live() {
                self.people[person].on_leave = true;
                self.comes_back(fleet, person, now);
            }
        }
    }

    /// Time to get everything answered is over. What is not counts with the time that it has waited, and where there was
    /// time at all it is a fault: an outage had ended, or there was none.
    pub fn give_up_unanswered(&mut self, now: Instant) {
        let now_ns = self.ns(now);
        let had_time = self.settle_had_time;
        for place in 0..self.people.len() {
            for due_ns in self.people[place].pending.iter().map(|pending| pending.due_ns).collect::<Vec<_>>() {
                let wait = Duration::from_nanos(now_ns.saturating_sub(due_ns));
                self.tally.unanswered(self.step_at(due_ns), self.second(due_ns), wait);
            }
            let (unanswered, number) = (self.people[place].pending.len(), self.people[place].number);
            if unanswered > 0 && had_time {
                self.faults.add(Kind::Behind, || format!("person {number}: {unanswered} sends were never answered"));
            }
        }
    }

    /// Everybody is at the heads and the probes are answered, or time is up; faults are noted then.
    pub fn finished(&mut self, fleet: &mut Fleet, now: Instant) -> bool {
        if self.phase != Phase::Finishing {
            return false;
        }
        let time_is_up = self.finish_until.is_none_or(|until| now >= until);
        match self.probes {
            Some(0) => true,
            Some(left) if time_is_up => {
                self.faults
                    .add(Kind::Behind, || format!("{left} messages that were sent again at the end got no answer"));
                true
            }
            Some(_) => false,
            None => {
                if self.at_heads(time_is_up) {
                    self.finish_until = Some(now + PROBE_PATIENCE);
                    self.probe(fleet, PROBES);
                    return self.probes == Some(0);
                }
                time_is_up
            }
        }
    }

    /// Does what is due.
    pub fn step(&mut self, fleet: &mut Fleet, now: Instant) -> Result<()> {
        while let Some(&std::cmp::Reverse((at, person, what))) = self.wakes.peek()
            && at <= now
        {
            self.wakes.pop();
            let person = person as usize;
            match what {
                Wake::Connect => self.connect(fleet, person)?,
                Wake::Resend(message) => self.resend(fleet, person, message),
                Wake::AskAgain(number, visit) => {
                    if self.people[person].visits == visit {
                        self.ask(fleet, person, number);
                    }
                }
            }
        }
        if self.phase == Phase::Entering {
            self.bring_in(fleet)?;
            if self.entered == self.people.len() {
                self.phase = Phase::Waiting;
            }
        }
        if self.phase == Phase::Running {
            self.play(fleet, now)?;
        }
        if now.saturating_duration_since(self.last_scan) >= SCAN {
            self.last_scan = now;
            self.give_up_late(fleet, now);
            self.notice_silence(now);
            self.forget_late_pages(now);
        }
        Ok(())
    }

    fn play(&mut self, fleet: &mut Fleet, now: Instant) -> Result<()> {
        let now_s = self.second(self.ns(now));
        let at = |due_s: f64, begin_ns: u64| begin_ns + (due_s * 1e9) as u64;
        if schedule::closed_loop(&self.job.load.steps) {
            if now_s < 0.0 {
                return Ok(());
            }
            if now_s >= schedule::length_s(&self.job.load) {
                self.phase = Phase::Waiting;
                return Ok(());
            }
            if !std::mem::replace(&mut self.filled, true) {
                for person in 0..self.people.len() {
                    self.refill(fleet, person);
                }
            }
        }
        while let Some(due_s) = self.sends.take(now_s) {
            if let Some(room) = self.pick_room() {
                self.due(fleet, room, at(due_s, self.begin_ns));
            }
        }
        while self.typing.take(now_s).is_some() {
            self.hint(fleet, |json, room, _| scan::typing(json, room));
        }
        while self.reads.take(now_s).is_some() {
            self.hint(fleet, scan::read);
        }
        while let Some(due_s) = self.history.take(now_s) {
            if let Some(person) = self.somebody() {
                self.ask_history(fleet, person, at(due_s, self.begin_ns));
            }
        }
        while self.reconnects.take(now_s).is_some() {
            if let Some(person) = self.somebody() {
                self.tally.count("reconnects");
                self.people[person].on_leave = true;
                let away = Duration::from_secs_f64(2.0 * self.chance.f64());
                self.comes_back(fleet, person, now + away);
            }
        }
        while self.storms.last().is_some_and(|&at| at <= now_s) {
            self.storms.pop();
            for person in 0..self.people.len() {
                if self.people[person].stage != Stage::Away {
                    self.tally.count("reconnects");
                    self.people[person].on_leave = true;
                    self.comes_back(fleet, person, now);
                }
            }
        }
        Ok(())
    }

    /// When something is next due by the schedule.
    pub fn next_due(&self) -> Option<Instant> {
        if self.phase != Phase::Running {
            return self.wakes.peek().map(|wake| wake.0.0);
        }
        let streams = [&self.sends, &self.typing, &self.reads, &self.history, &self.reconnects];
        let next_s =
            streams.iter().filter_map(|stream| stream.next()).chain(self.storms.last().copied()).min_by(f64::total_cmp);
        let next = next_s.map(|due_s| {
            let ns = self.begin_ns + (due_s * 1e9) as u64;
            self.base.0 + Duration::from_nanos(ns.saturating_sub(self.base.1))
        });
        next.into_iter().chain(self.wakes.peek().map(|wake| wake.0.0)).min()
    }

    /// Any person that is there; a few tries, since most are.
    fn somebody(&mut self) -> Option<usize> {
        (0..8)
            .map(|_| self.chance.usize(0..self.people.len().max(1)))
            .find(|&person| self.people.get(person).is_some_and(|someone| someone.live()))
    }

    /// A hint of somebody about a room that it watches and is a member of.
    fn hint(&mut self, fleet: &mut Fleet, frame: impl Fn(&mut Vec<u8>, &str, u32)) {
        let Some(person) = self.somebody() else { return };
        let someone = &self.people[person];
        let Some(conn) = someone.conn else { return };
        let mine: Vec<_> = someone.cursors.iter().filter(|cursor| someone.member_of.contains(&cursor.room)).collect();
        if mine.is_empty() {
            return;
        }
        let cursor = mine[self.chance.usize(0..mine.len())];
        let mut json = Vec::new();
        frame(&mut json, &self.job.rooms[cursor.room as usize], cursor.seen.unwrap_or(0));
        fleet.send(conn, &json);
    }
}
