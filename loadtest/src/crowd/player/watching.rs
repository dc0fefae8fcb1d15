//! Reading: every entry must be the next one of its cursor, and the same that others saw there.

use std::time::{Duration, Instant};

use roundtable_client::scan;

use crate::checker::entry::{self, Checked as _};
use crate::checker::faults::Kind;
use crate::crowd::player::{Ask, Page, Player};
use crate::net::fleet::Fleet;

impl Player {
    pub(super) fn events(&mut self, _fleet: &mut Fleet, person: usize, json: &[u8], now: Instant) {
        let now_ns = self.ns(now);
        let step = self.step_at(now_ns);
        self.tally.frame(step);
        let Some(room) = self.room_in(json) else {
            return self.faults.add(Kind::Invented, || "events of a room that nobody asked for".into());
        };
        let (load, begin_ns) = (&self.job.load, self.begin_ns);
        let due_step = |stamp: u64| {
            let due_s = if begin_ns == u64::MAX { -1.0 } else { (stamp as f64 - begin_ns as f64) / 1e9 };
            crate::crowd::schedule::step_at(load, due_s)
        };
        let someone = &mut self.people[person];
        let (number, on_leave) = (someone.number, someone.on_leave);
        let Some(cursor) = someone.cursors.iter_mut().find(|cursor| cursor.room == room) else {
            return self.faults.add(Kind::Invented, || format!("person {number}: events of a room it does not watch"));
        };
        let was_behind = !cursor.caught_up();
        let (faults, ledger, tally, check) = (&mut self.faults, &mut self.ledger, &mut self.tally, self.job.check);
        let name = &self.job.rooms[room as usize];
        let whole = entry::visit(json, |entry| {
            let seen = cursor.seen.unwrap_or(0);
            if entry.seq != seen + 1 {
                let kind = if entry.seq <= seen { Kind::Repeated } else { Kind::Gap };
                let seq = entry.seq;
                faults.add(kind, || format!("{name}: person {number} was shown {seq} after {seen}"));
            }
            cursor.seen = Some(seen.max(entry.seq));
            if check {
                ledger.saw(room, &entry, faults);
            }
            // What came while somebody was away by its own doing is timed as its resuming.
            let stamp = entry.stamp().filter(|_| !(on_leave && entry.seq <= cursor.goal));
            let wait = stamp.map(|stamp| Duration::from_nanos(now_ns.saturating_sub(stamp)));
            tally.delivered(step, stamp.and_then(due_step), wait);
        });
        if !whole {
            self.faults.add(Kind::Invented, || format!("{name}: an events frame that can't be read"));
        }
        if was_behind {
            self.resumed(person, now);
        }
    }

    /// A page of what a cursor that was reset has missed.
    pub(super) fn hole_page(&mut self, fleet: &mut Fleet, person: usize, at: usize, json: &[u8], now: Instant) {
        let someone = &mut self.people[person];
        let number = someone.number;
        let Some(cursor) = someone.cursors.get_mut(at) else { return };
        let (room, Some(mut hole)) = (cursor.room, cursor.hole) else { return };
        let before = hole.after;
        let (faults, ledger, tally, check) = (&mut self.faults, &mut self.ledger, &mut self.tally, self.job.check);
        let name = &self.job.rooms[room as usize];
        let whole = entry::visit(json, |entry| {
            if entry.seq > hole.until {
                return;
            }
            if entry.seq != hole.after + 1 {
                let (seq, after) = (entry.seq, hole.after);
                faults.add(Kind::Gap, || format!("{name}: the history shows person {number} {seq} after {after}"));
            }
            hole.after = entry.seq.max(hole.after);
            if check {
                ledger.saw(room, &entry, faults);
            }
            tally.observed += 1;
        });
        if !whole {
            faults.add(Kind::Invented, || format!("{name}: a page of history that can't be read"));
        }
        let done = hole.after >= hole.until;
        if hole.after == before && !done {
            let until = hole.until;
            faults.add(Kind::Gap, || format!("{name}: the history ends at {before}, but its head was {until}"));
        }
        let stuck = hole.after == before;
        cursor.hole = (!done && !stuck).then_some(hole);
        if cursor.hole.is_some() {
            self.ask(fleet, person, Ask::Hole.number(at as u64));
        } else {
            self.resumed(person, now);
        }
    }

    /// Asks for a page somewhere in the history, as somebody who scrolls back does.
    pub(super) fn ask_history(&mut self, fleet: &mut Fleet, person: usize, due_ns: u64) {
        let someone = &self.people[person];
        let (Some(conn), false) = (someone.conn, someone.cursors.is_empty()) else { return };
        let cursor = &someone.cursors[self.chance.usize(0..someone.cursors.len())];
        let (room, seen) = (&self.job.rooms[cursor.room as usize], cursor.seen.unwrap_or(0));
        let number = Ask::History.number(self.next_page);
        let before = if seen > 0 { self.chance.u32(1..=seen) } else { 1 };
        self.pages.insert(self.next_page, Page { due_ns, room: cursor.room, before });
        self.next_page += 1;
        let mut json = Vec::new();
        scan::history(&mut json, number, room, scan::Page::Before(before), 50);
        fleet.send(conn, &json);
    }

    pub(super) fn history_page(&mut self, page: u64, json: &[u8], now: Instant) {
        let now_ns = self.ns(now);
        // Without one it was given up already.
        let Some(Page { due_ns, room, before }) = self.pages.remove(&page) else { return };
        self.tally.took("history", Duration::from_nanos(now_ns.saturating_sub(due_ns)));
        if self.room_in(json) != Some(room) {
            return self.faults.add(Kind::Invented, || "a page of another room's history than was asked for".into());
        }
        let name = &self.job.rooms[room as usize];
        let (faults, ledger, check) = (&mut self.faults, &mut self.ledger, self.job.check);
        let mut last = 0;
        let whole = entry::visit(json, |entry| {
            if last != 0 && entry.seq != last + 1 {
                let (seq, after) = (entry.seq, last);
                faults.add(Kind::Gap, || format!("{name}: a page of history has {seq} after {after}"));
            }
            last = entry.seq;
            if check {
                ledger.saw(room, &entry, faults);
            }
        });
        if !whole {
            faults.add(Kind::Invented, || format!("{name}: a page of history that can't be read"));
        } else if last + 1 != before {
            faults.add(Kind::Gap, || format!("{name}: the page of history before {before} ends with {last}"));
        }
    }

    /// Whether every watcher has everything up to the heads asked for; faults for those who don't when time is up.
    pub(super) fn at_heads(&mut self, time_is_up: bool) -> bool {
        let mut all = true;
        for someone in &self.people {
            for cursor in &someone.cursors {
                let head = self.heads.get(cursor.room as usize).copied().unwrap_or(0);
                let seen = cursor.seen.unwrap_or(0);
                if seen >= head && cursor.hole.is_none() && someone.live() {
                    continue;
                }
                all = false;
                if time_is_up {
                    let (name, number) = (&self.job.rooms[cursor.room as usize], someone.number);
                    let stage = someone.stage;
                    self.faults.add(Kind::Behind, || {
                        format!("{name}: person {number} ({stage:?}) stays at {seen}, the head is {head}")
                    });
                }
            }
        }
        all
    }

    /// The messages still under way by `history`, which nobody answers after a lost connection.
    pub(super) fn forget_late_pages(&mut self, now: Instant) {
        let oldest = self.ns(now).saturating_sub(60_000_000_000);
        let before = self.pages.len();
        self.pages.retain(|_, page| page.due_ns > oldest);
        self.tally.count_n("history_unanswered", (before - self.pages.len()) as u64);
    }
}
