//! Thousands of WebSocket clients on one thread: nonblocking sockets under one level-triggered epoll, one read buffer
//! for all, what is to be written gathered per connection and sent with one call. Its own CPU is small beside the
//! server's and reported apart.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::fail::{Fail, Result};
use crate::sys::{self, Epoll, READ, Readiness, WRITE};
use crate::wire;

/// Connections from one source address to one server port: below the kernel's range of ephemeral ports.
const PER_SOURCE: usize = 20_000;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// What a run does with what its clients see.
pub trait Scenario {
    /// `conn` is a WebSocket now.
    fn opened(&mut self, _fleet: &mut Fleet, _conn: usize) -> Result<()> {
        Ok(())
    }

    /// A text frame for `conn`.
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()>;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

struct Conn {
    socket: TcpStream,
    server: SocketAddr,
    stage: Stage,
    /// The beginning of a frame whose rest has not come yet.
    tail: Vec<u8>,
    out: Vec<u8>,
    dirty: bool,
    wants_write: bool,
}

/// All connections of one run; dropping it closes them.
pub struct Fleet {
    epoll: Epoll,
    conns: Vec<Conn>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
    ready: Vec<Readiness>,
    mask: u32,
}

impl Fleet {
    pub fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            conns: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES],
            ready: Vec::new(),
            mask: 0x9e37_79b9,
        })
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Starts one connection and gives its number, counted from 0.
    pub fn connect(&mut self, server: SocketAddr) -> Result<usize> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        let number = self.conns.len();
        if let (IpAddr::V4(to), true) = (server.ip(), number >= PER_SOURCE)
            && to.is_loopback()
        {
            let source = Ipv4Addr::new(127, 0, 0, 1 + (number / PER_SOURCE) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(Fail::Setup(format!("connecting to {server}: {error}")));
            }
            _ => {}
        }
        let socket = TcpStream::from(socket);
        self.epoll.add(socket.as_raw_fd(), number, WRITE)?;
        self.conns.push(Conn {
            socket,
            server,
            stage: Stage::Connecting,
            tail: Vec::new(),
            out: Vec::new(),
            dirty: false,
            wants_write: true,
        });
        Ok(number)
    }

    /// Queues a text frame; it leaves at the end of the turn, or with [`Fleet::flush`].
    pub fn send(&mut self, conn: usize, json: &[u8]) {
        self.queue(conn, wire::TEXT, json);
    }

    fn queue(&mut self, conn: usize, opcode: u8, payload: &[u8]) {
        // xorshift: a mask has to vary, not to be secret from ourselves.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        let mask = self.mask.to_ne_bytes();
        let to = &mut self.conns[conn];
        wire::frame(&mut to.out, opcode, payload, Some(mask));
        if !to.dirty {
            to.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Writes what is queued.
    pub fn flush(&mut self) -> Result<()> {
        while let Some(conn) = self.dirty.pop() {
            self.conns[conn].dirty = false;
            self.write(conn)?;
        }
        Ok(())
    }

    fn write(&mut self, number: usize) -> Result<()> {
        let conn = &mut self.conns[number];
        let mut sent = 0;
        while sent < conn.out.len() {
            match conn.socket.write(&conn.out[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(number, &format!("writing: {error}"))),
            }
        }
        conn.out.drain(..sent);
        let wants_write = !conn.out.is_empty();
        if wants_write != conn.wants_write {
            conn.wants_write = wants_write;
            let interest = if wants_write { READ | WRITE } else { READ };
            self.epoll.modify(conn.socket.as_raw_fd(), number, interest)?;
        }
        Ok(())
    }

    /// Writes what is queued, waits for news until `until` at most, and shows each frame to `scenario`.
    pub fn turn(&mut self, scenario: &mut impl Scenario, until: Instant) -> Result<()> {
        if sys::stopped() {
            return Err(Fail::Interrupted);
        }
        self.flush()?;
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.wait(until.saturating_duration_since(Instant::now()), &mut ready)?;
        for &readiness in &ready {
            self.attend(scenario, readiness)?;
        }
        self.ready = ready;
        self.flush()
    }

    fn attend(&mut self, scenario: &mut impl Scenario, readiness: Readiness) -> Result<()> {
        let number = readiness.token;
        if self.conns[number].stage == Stage::Connecting {
            let conn = &mut self.conns[number];
            if let Some(error) = conn.socket.take_error()? {
                return Err(lost(number, &format!("connecting to {}: {error}", conn.server)));
            }
            conn.stage = Stage::Upgrading;
            let request = wire::upgrade_request(&conn.server.to_string());
            conn.out.extend_from_slice(request.as_bytes());
            return self.write(number);
        }
        if readiness.writable && self.conns[number].wants_write {
            self.write(number)?;
        }
        if readiness.readable { self.read(scenario, number) } else { Ok(()) }
    }

    fn read(&mut self, scenario: &mut impl Scenario, number: usize) -> Result<()> {
        // The buffer is out of the fleet while frames lie in it, so that the scenario may use the fleet meanwhile.
        let mut buffer = std::mem::take(&mut self.buffer);
        let conn = &mut self.conns[number];
        let kept = conn.tail.len();
        if buffer.len() < kept + READ_BYTES / 2 {
            buffer.resize(kept + READ_BYTES, 0);
        }
        buffer[..kept].copy_from_slice(&conn.tail);
        conn.tail.clear();
        let n = match conn.socket.read(&mut buffer[kept..]) {
            Ok(0) => return Err(lost(number, "the server ended it")),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(lost(number, &format!("reading: {error}"))),
        };
        let used = self.take(scenario, number, &buffer[..kept + n])?;
        if used < kept + n {
            self.conns[number].tail.extend_from_slice(&buffer[used..kept + n]);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Takes what is whole in `bytes`; gives how much that was.
    fn take(&mut self, scenario: &mut impl Scenario, number: usize, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        if self.conns[number].stage == Stage::Upgrading {
            let Some(end) = wire::http_head(bytes) else { return Ok(0) };
            let text = String::from_utf8_lossy(&bytes[..end]);
            if !wire::is_upgraded(&text) {
                return Err(lost(number, &format!("no upgrade: {}", text.lines().next().unwrap_or_default())));
            }
            self.conns[number].stage = Stage::Open;
            used = end;
            scenario.opened(self, number)?;
        }
        while let Some(head) = wire::head(&bytes[used..]) {
            let payload = &bytes[used + head.start..used + head.end];
            used += head.end;
            match head.opcode {
                wire::TEXT if head.last && head.mask.is_none() => scenario.frame(self, number, payload)?,
                wire::PING => self.queue(number, wire::PONG, payload),
                wire::PONG => {}
                wire::CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(lost(number, &format!("closed with {code} {reason}")));
                }
                opcode => return Err(lost(number, &format!("sent a frame that was not asked for, opcode {opcode}"))),
            }
        }
        Ok(used)
    }
}

fn lost(conn: usize, what: &str) -> Fail {
    Fail::Broken(format!("connection {conn}: {what}"))
}
