//! What an idle session costs: ten thousand of them come in, join and subscribe, the server settles, and its memory is
//! compared with what it was before the first. Then one message to every room proves that all of them were alive.

use std::time::{Duration, Instant};

use crate::enter::{Visitor, enter};
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Scenario};
use crate::net::wire;
use crate::proc::Memory;
use crate::stack::Subject;

/// How many sessions, in rooms of how many.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Plan {
    pub sessions: usize,
    pub room_size: usize,
    pub settle_s: f64,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Measured {
    pub before: Memory,
    pub after: Memory,
    pub rss_per_session: f64,
    pub anonymous_per_session: f64,
    /// CPU of the nodes in the last half of settling, in seconds a second.
    pub idle_cpu: f64,
    pub entering_s: f64,
}

struct Quiet<'a> {
    sessions: usize,
    heads: &'a [u64],
    /// Sessions that have got the entry.
    reached: Vec<bool>,
    count: usize,
    acked: usize,
}

impl Scenario for Quiet<'_> {
    fn frame(&mut self, _: &mut Fleet, conn: usize, json: &[u8]) -> Result<()> {
        let unexpected = || Fail::Broken(format!("unexpected {}", String::from_utf8_lossy(json)));
        match wire::string(json, &wire::TYPE).unwrap_or_default() {
            b"events" if conn < self.sessions => {
                let mut right = true;
                wire::entries(json, |seq, _| right &= seq == self.heads[conn] + 1 && !self.reached[conn]);
                if !right {
                    return Err(unexpected());
                }
                self.reached[conn] = true;
                self.count += 1;
            }
            b"sent" => self.acked += 1,
            b"presence" | b"notice" => {}
            _ => return Err(unexpected()),
        }
        Ok(())
    }
}

/// Measures `subject` once; its `rooms` exist and nobody has been in them.
pub fn run(subject: &Subject, plan: Plan, rooms: &[String], nonce: &str) -> Result<Measured> {
    let visitors: Vec<Visitor> = (0..plan.sessions)
        .map(|i| Visitor {
            server: subject.servers[i % subject.servers.len()],
            user: format!("user-{i}"),
            joins: vec![i / plan.room_size],
            subscribes: Some(i / plan.room_size),
        })
        .collect();
    let before = subject.memory();
    let mut fleet = Fleet::new()?;
    let started = Instant::now();
    let heads = enter(&mut fleet, &visitors, rooms, &subject.mint, 200)?;
    let entering_s = started.elapsed().as_secs_f64();
    let mut quiet =
        Quiet { sessions: plan.sessions, heads: &heads, reached: vec![false; plan.sessions], count: 0, acked: 0 };
    let half = Duration::from_secs_f64(plan.settle_s / 2.0);
    wait(&mut fleet, &mut quiet, half)?;
    let cpu = subject.usage().nodes.total();
    wait(&mut fleet, &mut quiet, half)?;
    let idle_cpu = (subject.usage().nodes.total() - cpu) / half.as_secs_f64().max(f64::EPSILON);
    let after = subject.memory();

    for (room, id) in rooms.iter().enumerate() {
        let json = format!(r#"{{"type":"send","ref":1,"room":"{id}","id":"{nonce}","text":"is everybody here?"}}"#);
        fleet.send(room * plan.room_size, json.as_bytes());
    }
    let give_up = Instant::now() + Duration::from_secs(30);
    while quiet.count < plan.sessions || quiet.acked < rooms.len() {
        fleet.turn(&mut quiet, Instant::now() + Duration::from_millis(20))?;
        if Instant::now() > give_up {
            let (got, of) = (quiet.count, plan.sessions);
            return Err(Fail::Broken(format!("{got} of {of} idle sessions got the entry of their room")));
        }
    }
    let per_session = |before: u64, after: u64| (after as f64 - before as f64) / plan.sessions as f64;
    Ok(Measured {
        before,
        after,
        rss_per_session: per_session(before.rss, after.rss),
        anonymous_per_session: per_session(before.anonymous, after.anonymous),
        idle_cpu,
        entering_s,
    })
}

fn wait(fleet: &mut Fleet, quiet: &mut Quiet, length: Duration) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        fleet.turn(quiet, until)?;
    }
    Ok(())
}
