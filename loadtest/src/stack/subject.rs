//! Roundtable measured before there was a `Stack`: what `bench` and its parts still speak of.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::fail::{Fail, Result};
use crate::net::http;
use crate::net::token::Mint;
use crate::proc::{self, Cpu, Memory};
use crate::stack::child::{Child, TempDir};
use crate::stack::options::Programs;
use crate::stack::ports::loopback;
use crate::stack::{PATIENCE, Setup, Stack, Store};
use crate::sys;

/// Something that serves the protocol, with the processes behind it.
pub struct Subject {
    pub name: String,
    /// Where clients connect, one a node.
    pub servers: Vec<SocketAddr>,
    pub mint: Mint,
    /// Whether rooms exist by being named (the bare broadcaster) or have to be made.
    pub makes_rooms: bool,
    pub nodes: Vec<u32>,
    pub store: Vec<u32>,
    pub bus: Vec<u32>,
    child: Option<Child>,
    stack: Option<Stack>,
    _files: Option<TempDir>,
}

/// CPU used so far by each part of a subject.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Usage {
    pub nodes: Cpu,
    pub store: Cpu,
    pub bus: Cpu,
    pub client: Cpu,
}

impl std::ops::Sub for Usage {
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

impl Subject {
    /// The bare broadcaster, from this same program.
    pub fn raw() -> Result<Self> {
        let files = TempDir::new("raw")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("raw-server");
        let mut child = Child::start("raw", &mut command, files.path().join("raw.log"), libc::SIGTERM)?;
        let log = child.log().to_owned();
        let mut port = None;
        child.wait_until(PATIENCE, || {
            port = fs::read_to_string(&log).ok().and_then(|text| text.lines().next()?.parse::<u16>().ok());
            port.is_some()
        })?;
        Ok(Self {
            name: "raw".into(),
            servers: vec![loopback(port.unwrap_or_default())],
            mint: Mint::new(""),
            makes_rooms: false,
            nodes: vec![child.pid()],
            store: Vec::new(),
            bus: Vec::new(),
            child: Some(child),
            stack: None,
            _files: Some(files),
        })
    }

    /// `count` nodes with `store`, and Redis where there are several.
    pub fn roundtable(programs: &Programs, count: usize, store: Store, settings: &[(String, String)]) -> Result<Self> {
        let setup = Setup {
            programs: programs.clone(),
            nodes: count,
            store,
            settings: settings.to_vec(),
            env: Vec::new(),
            proxied: false,
            spare: 0,
        };
        let stack = Stack::start(&setup, &mut |_| {})?;
        let (target, parts) = (stack.target(), stack.parts());
        Ok(Self {
            name: target.name,
            servers: target.servers,
            mint: Mint::new(&target.secret),
            makes_rooms: true,
            nodes: parts.nodes,
            store: parts.store,
            bus: parts.bus,
            child: None,
            stack: Some(stack),
            _files: None,
        })
    }

    /// Nodes that run already; `nodes` are their process ids where they run here, so that their CPU can be told.
    pub fn existing(servers: Vec<SocketAddr>, nodes: Vec<u32>, secret: &str) -> Self {
        Self {
            name: "target".into(),
            servers,
            mint: Mint::new(secret),
            makes_rooms: true,
            nodes,
            store: Vec::new(),
            bus: Vec::new(),
            child: None,
            stack: None,
            _files: None,
        }
    }

    /// Makes public rooms.
    pub fn make_rooms(&self, rooms: &[String]) -> Result<()> {
        if !self.makes_rooms {
            return Ok(());
        }
        let token = self.mint.token("bench-owner");
        for (room, server) in rooms.iter().zip(self.servers.iter().cycle()) {
            if sys::stopped() {
                return Err(Fail::Interrupted);
            }
            let body = format!(r#"{{"id":"{room}","kind":"public"}}"#);
            match http::call(*server, "POST", "/api/v1/rooms", Some(&token), &body) {
                Ok((201, _)) => {}
                Ok((status, body)) => return Err(Fail::Broken(format!("making room {room}: {status} {body}"))),
                Err(error) => return Err(Fail::Broken(format!("making room {room}: {error}"))),
            }
        }
        Ok(())
    }

    pub fn usage(&self) -> Usage {
        Usage {
            nodes: proc::cpu(&self.nodes),
            store: proc::cpu(&self.store),
            bus: proc::cpu(&self.bus),
            client: Cpu::own(),
        }
    }

    /// Of the nodes together.
    pub fn memory(&self) -> Memory {
        proc::memory(&self.nodes)
    }

    /// What its processes printed last, for the one who has to find out why a run failed.
    pub fn last_words(&self) -> String {
        match (&self.child, &self.stack) {
            (Some(child), _) => child.last_lines(),
            (None, Some(stack)) => stack.last_words(),
            (None, None) => String::new(),
        }
    }
}
