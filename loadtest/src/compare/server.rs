//! One peer while it runs: where clients connect, which processes are its, and what they used. Everything ends with its
//! value.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::compare::dialect::{Dialect, Person};
use crate::fail::Result;
use crate::proc::{self, Cpu, Memory};
use crate::stack::child::{Child, TempDir};
use crate::stack::{Parts, Subject, Usage};

/// Longest wait for a server to answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub dialect: Box<dyn Dialect>,
    /// Where clients connect, in turn.
    pub doors: Vec<SocketAddr>,
    pub parts: Parts,
    pub held: Held,
}

/// What ends a server when it is dropped: processes before the directory they use.
pub enum Held {
    Subject(Box<Subject>),
    Own { children: Vec<Child>, _files: TempDir },
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Own { children, .. } = self {
            while children.pop().is_some() {}
        }
    }
}

impl Server {
    /// A Roundtable or the bare broadcaster, as the rest of the harness starts them.
    pub fn of(subject: Subject, dialect: Box<dyn Dialect>) -> Self {
        let parts = Parts {
            nodes: subject.nodes.clone(),
            store: subject.store.clone(),
            bus: subject.bus.clone(),
            ..Parts::default()
        };
        Self { dialect, doors: subject.servers.clone(), parts, held: Held::Subject(Box::new(subject)) }
    }

    /// `readers` people in each of `rooms`, room by room, spread over the doors.
    pub fn people(&self, rooms: &[String], readers: usize) -> Vec<Person> {
        let person = |number: usize| Person {
            number,
            room: rooms[number / readers].clone(),
            server: self.doors[number % self.doors.len()],
        };
        (0..rooms.len() * readers).map(person).collect()
    }

    /// Rooms that have to be made before somebody enters; elsewhere naming them is enough.
    pub fn make_rooms(&self, rooms: &[String]) -> Result<()> {
        match &self.held {
            Held::Subject(subject) => subject.make_rooms(rooms),
            Held::Own { .. } => Ok(()),
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            nodes: proc::cpu(&self.parts.nodes),
            store: proc::cpu(&self.parts.store),
            bus: proc::cpu(&self.parts.bus),
            client: Cpu::own(),
        }
    }

    /// Of what serves clients, with the processes it started; a page that several of them share counts once.
    pub fn memory(&self) -> Memory {
        proc::memory(&proc::family(&self.parts.nodes))
    }

    /// What its processes printed last.
    pub fn last_words(&self) -> String {
        match &self.held {
            Held::Subject(subject) => subject.last_words(),
            Held::Own { children, .. } => {
                let logs = children.iter().map(|child| (child.log().display(), child.last_lines()));
                logs.filter(|(_, text)| !text.is_empty()).map(|(log, text)| format!("--- {log}\n{text}\n")).collect()
            }
        }
    }
}

/// Whether something accepts connections there.
pub fn listens(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok()
}
