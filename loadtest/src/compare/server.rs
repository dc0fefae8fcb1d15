//! One peer while it runs: where clients connect, which processes are its, and what they used. Everything ends with its
//! value.

use std::net::{SocketAddr, TcpStream};
use std::ops::Sub;
use std::time::Duration;

use crate::compare::dialect::{Dialect, Person};
use crate::fail::{Fail, Result};
use crate::net::http;
use crate::net::token::Mint;
use crate::proc::{self, Cpu, Memory};
use crate::stack::child::{Child, TempDir};
use crate::stack::postgres::Postgres;
use crate::stack::redis::Redis;
use crate::stack::{Parts, Stack};
use crate::sys;

pub struct Server {
    pub dialect: Box<dyn Dialect>,
    /// Where clients connect, in turn.
    pub doors: Vec<SocketAddr>,
    pub parts: Parts,
    pub held: Held,
}

/// What ends a server when it is dropped; fields go in their order, the directory that all use last.
pub enum Held {
    /// A Roundtable.
    Stack(Box<Stack>),
    Own {
        /// Serve clients.
        children: Vec<Child>,
        _redis: Option<Box<Redis>>,
        _postgres: Option<Box<Postgres>>,
        _files: TempDir,
    },
}

/// CPU used so far by each part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub nodes: Cpu,
    pub store: Cpu,
    pub bus: Cpu,
    pub client: Cpu,
}

impl Sub for Usage {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            nodes: self.nodes - earlier.nodes,
            store: self.store - earlier.store,
            bus: self.bus - earlier.bus,
            client: self.client - earlier.client,
        }
    }
}

impl Server {
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
        let Held::Stack(stack) = &self.held else { return Ok(()) };
        let token = Mint::new(&stack.target().secret).token("owner");
        for (room, door) in rooms.iter().zip(self.doors.iter().cycle()) {
            if sys::stopped() {
                return Err(Fail::Interrupted);
            }
            let body = format!(r#"{{"id":"{room}","kind":"public"}}"#);
            match http::call(*door, "POST", "/api/v1/rooms", Some(&token), &body) {
                Ok((201, _)) => {}
                Ok((status, body)) => return Err(Fail::Broken(format!("making room {room}: {status} {body}"))),
                Err(error) => return Err(Fail::Broken(format!("making room {room}: {error}"))),
            }
        }
        Ok(())
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

    /// What its processes that serve clients printed last.
    pub fn last_words(&self) -> String {
        match &self.held {
            Held::Stack(stack) => stack.last_words(),
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
