//! What an idle connection costs: people come in, room by room, the server settles, and its memory is compared with what
//! it was before the first. At the end one message to every room proves that all of them were alive.

use std::time::{Duration, Instant};

use crate::compare::crowd::Crowd;
use crate::compare::dialect::{Dialect, Heard};
use crate::compare::server::Server;
use crate::compare::tag::{self, Tag};
use crate::fail::{Fail, Result};
use crate::net::fleet::{Fleet, Scenario};
use crate::proc::Memory;

/// In each room.
pub const ROOM: usize = 100;
/// Longest wait for the one message.
const PATIENCE: Duration = Duration::from_secs(30);

/// At one number of connections.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub connections: usize,
    pub before: Memory,
    pub after: Memory,
    /// From the first connection to the last one's being in its room.
    pub entering_s: f64,
    /// CPU of what serves clients in the last half of settling, in seconds a second.
    pub idle_cpu: f64,
}

struct Quiet<'a> {
    dialect: &'a dyn Dialect,
    reached: Vec<bool>,
    count: usize,
    talking: bool,
}

impl Scenario for Quiet<'_> {
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, frame: &[u8]) -> Result<()> {
        let mut wrong = None;
        let dialect = self.dialect;
        let heard = dialect.hear(frame, &mut |heard| match heard {
            Heard::Message { text, .. } => {
                let right = tag::read(text).is_some_and(|tag| tag.sender / ROOM == conn / ROOM);
                if right && self.talking && !std::mem::replace(&mut self.reached[conn], true) {
                    self.count += 1;
                } else {
                    wrong = Some(format!("person {conn} got a message that nobody sent it"));
                }
            }
            Heard::Answer(text) => fleet.send(conn, text),
            Heard::Ack { .. } => {}
            Heard::Refused { .. } => wrong = Some(format!("person {conn} was refused")),
        });
        heard.err().or(wrong).map_or(Ok(()), |why| Err(Fail::Broken(why)))
    }
}

/// Rooms for `connections`.
pub fn rooms(connections: usize) -> usize {
    connections.div_ceil(ROOM)
}

/// Measures `server` at each of `counts`, rising, in `rooms`, in which nobody has been.
pub fn run(server: &Server, counts: &[usize], settle: Duration, rooms: &[String]) -> Result<Vec<Found>> {
    let people = server.people(rooms, ROOM);
    let before = server.memory();
    let mut crowd = Crowd::new(people, &*server.dialect)?;
    let everybody = crowd.people.len();
    let mut quiet = Quiet { dialect: &*server.dialect, reached: vec![false; everybody], count: 0, talking: false };
    let started = Instant::now();
    let mut all = Vec::new();
    let mut settling = Duration::ZERO;
    let mut present = 0;
    for &connections in counts {
        present = connections.min(everybody);
        crowd.enter(present)?;
        let entering = started.elapsed() - settling;
        let half = settle / 2;
        wait(&mut crowd.fleet, &mut quiet, half)?;
        let cpu = server.usage().nodes.total();
        wait(&mut crowd.fleet, &mut quiet, half)?;
        let idle_cpu = (server.usage().nodes.total() - cpu) / half.as_secs_f64().max(f64::EPSILON);
        settling += settle;
        let after = server.memory();
        all.push(Found { connections: present, before, after, entering_s: entering.as_secs_f64(), idle_cpu });
    }
    quiet.talking = true;
    let mut frame = Vec::new();
    for first in (0..present).step_by(ROOM) {
        let mut text = Vec::new();
        tag::write(&mut text, Tag { stamp: 0, sender: first, number: 0 }, 100);
        frame.clear();
        server.dialect.publish(&crowd.people[first], 0, &text, &mut frame);
        crowd.fleet.send(first, &frame);
    }
    let give_up = Instant::now() + PATIENCE;
    while quiet.count < present {
        crowd.fleet.turn(&mut quiet, Instant::now() + Duration::from_millis(20))?;
        if Instant::now() > give_up {
            return Err(Fail::Broken(format!("{} of {present} idle people got their room's message", quiet.count)));
        }
    }
    Ok(all)
}

fn wait(fleet: &mut Fleet, quiet: &mut Quiet, length: Duration) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        fleet.turn(quiet, until)?;
    }
    Ok(())
}
