//! Bringing sessions in: connect, hello, join, subscribe, a bounded number at a time so that the accept queue and the
//! password-free first sight of ten thousand users don't become the measurement.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::fail::{Fail, Result};
use crate::net::fleet::{Door, Fleet, Scenario};
use crate::net::token::Mint;
use crate::net::wire;

/// One session to bring in; rooms are numbers in the list given to [`enter`].
pub struct Visitor {
    pub server: SocketAddr,
    pub user: String,
    pub joins: Vec<usize>,
    pub subscribes: Option<usize>,
}

/// Joins of one session that may be unanswered, below `limits.inflight`.
const JOINS_AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(60);
const HELLO: u64 = 0;
const SUBSCRIBE: u64 = 1 << 40;

#[derive(Clone, Default)]
struct Progress {
    /// Joins asked for, and answered.
    asked: usize,
    joined: usize,
    head: Option<u64>,
    done: bool,
}

struct Entrance<'a> {
    visitors: &'a [Visitor],
    rooms: &'a [String],
    mint: &'a Mint,
    /// Connections of the fleet that were there before.
    base: usize,
    progress: Vec<Progress>,
    done: usize,
    last_step: Instant,
    /// Refused for now: when to ask again, who, and what (its `ref`).
    again: Vec<(Instant, usize, u64)>,
}

impl Entrance<'_> {
    fn ask(&mut self, fleet: &mut Fleet, visitor: usize, request: u64) {
        let who = &self.visitors[visitor];
        let json = match request {
            HELLO => format!(
                r#"{{"type":"hello","ref":{HELLO},"client":"roundtable-loadtest/{}","token":"{}"}}"#,
                env!("CARGO_PKG_VERSION"),
                self.mint.token(&who.user)
            ),
            SUBSCRIBE => {
                let room = &self.rooms[who.subscribes.expect("asked for where there is a room only")];
                format!(r#"{{"type":"subscribe","ref":{SUBSCRIBE},"room":"{room}"}}"#)
            }
            join => {
                let room = &self.rooms[who.joins[join as usize - 1]];
                format!(r#"{{"type":"join","ref":{join},"room":"{room}"}}"#)
            }
        };
        fleet.send(self.base + visitor, json.as_bytes());
    }

    fn advance(&mut self, fleet: &mut Fleet, visitor: usize) {
        let joins = self.visitors[visitor].joins.len();
        while self.progress[visitor].asked < joins
            && self.progress[visitor].asked - self.progress[visitor].joined < JOINS_AT_ONCE
        {
            self.progress[visitor].asked += 1;
            let request = self.progress[visitor].asked as u64;
            self.ask(fleet, visitor, request);
        }
        if self.progress[visitor].joined == joins {
            if self.visitors[visitor].subscribes.is_some() {
                self.ask(fleet, visitor, SUBSCRIBE);
            } else {
                self.finish(visitor);
            }
        }
    }

    fn finish(&mut self, visitor: usize) {
        self.progress[visitor].done = true;
        self.done += 1;
    }

    fn ask_again(&mut self, fleet: &mut Fleet, now: Instant) {
        let mut i = 0;
        while i < self.again.len() {
            if self.again[i].0 <= now {
                let (_, visitor, request) = self.again.swap_remove(i);
                self.ask(fleet, visitor, request);
            } else {
                i += 1;
            }
        }
    }
}

impl Scenario for Entrance<'_> {
    fn opened(&mut self, fleet: &mut Fleet, conn: usize) -> Result<()> {
        self.ask(fleet, conn - self.base, HELLO);
        Ok(())
    }

    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        let Some(visitor) = conn.checked_sub(self.base) else { return Ok(()) };
        self.last_step = Instant::now();
        match wire::string(json, &wire::TYPE).unwrap_or_default() {
            b"welcome" => self.advance(fleet, visitor),
            b"ok" => {
                self.progress[visitor].joined += 1;
                self.advance(fleet, visitor);
            }
            b"subscribed" => {
                self.progress[visitor].head = wire::number(json, &wire::HEAD);
                self.finish(visitor);
            }
            b"error" => {
                let request = wire::number(json, &wire::REF);
                match request {
                    Some(request) if wire::RETRYABLE.find(json).is_some() => {
                        let after = wire::number(json, &wire::RETRY).unwrap_or(100).min(5_000);
                        self.again.push((Instant::now() + Duration::from_millis(after), visitor, request));
                    }
                    _ => return Err(Fail::Broken(format!("entering: {}", String::from_utf8_lossy(json)))),
                }
            }
            b"presence" | b"typing" | b"read" | b"notice" => {}
            _ => return Err(Fail::Broken(format!("entering: unexpected {}", String::from_utf8_lossy(json)))),
        }
        Ok(())
    }
}

/// Brings all `visitors` in, in their order, as the fleet's next connections. Gives the head that each one's
/// subscription started at (0 where there is none).
pub fn enter(
    fleet: &mut Fleet,
    visitors: &[Visitor],
    rooms: &[String],
    mint: &Mint,
    at_once: usize,
) -> Result<Vec<u64>> {
    let mut entrance = Entrance {
        visitors,
        rooms,
        mint,
        base: fleet.len(),
        progress: vec![Progress::default(); visitors.len()],
        done: 0,
        last_step: Instant::now(),
        again: Vec::new(),
    };
    let mut started = 0;
    while entrance.done < visitors.len() {
        while started < visitors.len() && started - entrance.done < at_once {
            fleet.connect(&Door::roundtable(visitors[started].server))?;
            started += 1;
        }
        let now = Instant::now();
        entrance.ask_again(fleet, now);
        fleet.turn(&mut entrance, now + Duration::from_millis(50))?;
        if entrance.last_step.elapsed() > PATIENCE {
            let (done, of) = (entrance.done, visitors.len());
            return Err(Fail::Broken(format!("{done} of {of} sessions came in, then nothing for {PATIENCE:?}")));
        }
    }
    entrance
        .progress
        .iter()
        .zip(visitors)
        .map(|(progress, visitor)| match progress.head {
            None if visitor.subscribes.is_some() => Err(Fail::Broken("subscribed without a head".into())),
            head => Ok(head.unwrap_or(0)),
        })
        .collect()
}
