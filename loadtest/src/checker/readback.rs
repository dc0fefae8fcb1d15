//! Reads rooms' heads and histories back, over a few connections at once, page by page. A connection that is lost is
//! made anew; only a long silence or a refusal for good ends it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roundtable_client::scan::{self, types};

use crate::checker::entry::{self, Entry};
use crate::crowd::names;
use crate::fail::{Fail, Result};
use crate::net::fleet::{Door, Fleet, Lost, Scenario};

const LANES: usize = 8;
const PAGE: u32 = 200;
const ANSWER: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

/// Where to read, and as whom.
pub struct Source<'a> {
    pub servers: &'a [SocketAddr],
    pub token: &'a str,
    pub rooms: &'a [String],
    /// With no answer for so long it is given up.
    pub patience: Duration,
}

/// What is told of a room while it is read.
pub enum Found<'a> {
    Entry(u32, Entry<'a>),
    /// This was all of the room.
    End(u32),
}

struct Lane {
    conn: Option<usize>,
    welcome: bool,
    room: Option<u32>,
    after: u32,
    /// When it asked last, and when it is to act next.
    asked: Option<Instant>,
    act_at: Instant,
}

struct Reading<'a, 'b> {
    source: &'a Source<'a>,
    /// Only each room's newest entry.
    heads_only: bool,
    lanes: Vec<Lane>,
    next_room: u32,
    done: usize,
    tries: usize,
    last_progress: Instant,
    last_trouble: String,
    refused: Option<String>,
    tell: &'b mut dyn FnMut(Found),
}

/// The head of each room, in their order.
pub fn heads(source: &Source) -> Result<Vec<u32>> {
    let mut heads = vec![0; source.rooms.len()];
    read(source, true, &mut |found| {
        if let Found::Entry(room, entry) = found {
            heads[room as usize] = entry.seq;
        }
    })?;
    Ok(heads)
}

/// Every entry of every room, each room's in order; several rooms may be under way at once.
pub fn histories(source: &Source, tell: &mut dyn FnMut(Found)) -> Result<()> {
    read(source, false, tell)
}

fn read(source: &Source, heads_only: bool, tell: &mut dyn FnMut(Found)) -> Result<()> {
    let now = Instant::now();
    let lane = || Lane { conn: None, welcome: false, room: None, after: 0, asked: None, act_at: now };
    let mut reading = Reading {
        source,
        heads_only,
        lanes: (0..LANES.min(source.rooms.len())).map(|_| lane()).collect(),
        next_room: 0,
        done: 0,
        tries: 0,
        last_progress: now,
        last_trouble: "no answer".into(),
        refused: None,
        tell,
    };
    let mut fleet = Fleet::new()?;
    while reading.done < source.rooms.len() {
        let now = Instant::now();
        for lane in 0..reading.lanes.len() {
            reading.act(&mut fleet, lane, now)?;
        }
        fleet.turn(&mut reading, now + Duration::from_millis(20))?;
        if let Some(why) = reading.refused.take() {
            return Err(Fail::Broken(format!("reading back: {why}")));
        }
        if reading.last_progress.elapsed() > source.patience {
            let (done, of) = (reading.done, source.rooms.len());
            let why = format!("reading back: {done} of {of} rooms, then nothing: {}", reading.last_trouble);
            return Err(Fail::Broken(why));
        }
    }
    Ok(())
}

impl Reading<'_, '_> {
    /// Connects, asks, or gives up waiting, whatever is due on a lane.
    fn act(&mut self, fleet: &mut Fleet, number: usize, now: Instant) -> Result<()> {
        let lane = &mut self.lanes[number];
        if lane.asked.is_some_and(|asked| now.saturating_duration_since(asked) > ANSWER) {
            if let Some(conn) = lane.conn.take() {
                fleet.close(conn);
            }
            (lane.welcome, lane.asked) = (false, None);
        }
        if lane.asked.is_some() || lane.act_at > now {
            return Ok(());
        }
        match lane.conn {
            None => {
                let server = self.source.servers[(number + self.tries) % self.source.servers.len()];
                lane.conn = Some(fleet.connect(&Door::roundtable(server))?);
                lane.asked = Some(now);
            }
            Some(_) if lane.welcome => self.ask(fleet, number, now),
            Some(_) => {}
        }
        Ok(())
    }

    fn ask(&mut self, fleet: &mut Fleet, number: usize, now: Instant) {
        let lane = &mut self.lanes[number];
        if lane.room.is_none() && (self.next_room as usize) < self.source.rooms.len() {
            (lane.room, lane.after) = (Some(self.next_room), 0);
            self.next_room += 1;
        }
        let (Some(room), Some(conn)) = (lane.room, lane.conn) else { return };
        let name = &self.source.rooms[room as usize];
        let (page, limit) =
            if self.heads_only { (scan::Page::Newest, 1) } else { (scan::Page::After(lane.after), PAGE) };
        let mut json = Vec::new();
        scan::history(&mut json, 1, name, page, limit);
        lane.asked = Some(now);
        fleet.send(conn, &json);
    }

    fn lane_of(&self, conn: usize) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.conn == Some(conn))
    }

    fn page(&mut self, fleet: &mut Fleet, number: usize, json: &[u8], now: Instant) {
        let Some(room) = self.lanes[number].room else { return };
        let (mut last, tell) = (self.lanes[number].after, &mut self.tell);
        let whole = entry::visit(json, |entry| {
            last = entry.seq;
            tell(Found::Entry(room, entry));
        });
        let more = !self.heads_only && scan::MORE.find(json).is_some();
        let stuck = more && last <= self.lanes[number].after;
        if !whole || stuck {
            let name = &self.source.rooms[room as usize];
            self.refused = Some(format!("{name}: a page after {} that can't be followed", self.lanes[number].after));
            return;
        }
        let lane = &mut self.lanes[number];
        (lane.after, lane.asked) = (last, None);
        if !more {
            lane.room = None;
            self.done += 1;
            (self.tell)(Found::End(room));
        }
        self.ask(fleet, number, now);
    }
}

impl Scenario for Reading<'_, '_> {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        let mut json = Vec::new();
        scan::hello(&mut json, 0, names::CLIENT, self.source.token);
        fleet.send(conn, &json);
        Ok(())
    }

    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        let Some(number) = self.lane_of(conn) else { return Ok(()) };
        let now = Instant::now();
        match scan::string(json, &scan::TYPE).unwrap_or_default() {
            types::WELCOME => {
                (self.lanes[number].welcome, self.lanes[number].asked) = (true, None);
                self.ask(fleet, number, now);
            }
            types::HISTORY => {
                self.last_progress = now;
                self.page(fleet, number, json, now);
            }
            types::ERROR => {
                let text = String::from_utf8_lossy(json).into_owned();
                if scan::RETRYABLE.find(json).is_none() {
                    self.refused = Some(text.clone());
                }
                let after = scan::number(json, &scan::RETRY).unwrap_or(100).min(5_000);
                self.lanes[number].asked = None;
                self.lanes[number].act_at = now + Duration::from_millis(after);
                self.last_trouble = text;
            }
            _ => {}
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        if let Some(number) = self.lane_of(conn) {
            self.tries += 1;
            self.last_trouble = why.to_string();
            let lane = &mut self.lanes[number];
            (lane.conn, lane.welcome, lane.asked) = (None, false, None);
            lane.act_at = Instant::now() + PAUSE;
        }
        Ok(())
    }
}
