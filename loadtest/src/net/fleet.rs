//! Thousands of WebSocket clients on one thread: nonblocking sockets under one level-triggered epoll, one read buffer
//! for all, what is to be written gathered per connection and sent with one call. Its own CPU is small beside the
//! server's and reported apart.
//!
//! Invariants: a connection's number is its own until it is gone, and is given again only after the turn in which it
//! went, so that no late readiness can meet a newcomer. Each connection ends with exactly one call of
//! [`Scenario::lost`], except those that [`Fleet::close`] ends.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use roundtable_client::scan;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fail::{Fail, Result};
use crate::net::wire;
use crate::sys::{self, Epoll, READ, Readiness, WRITE};

/// Connections from one source address: below the kernel's range of ephemeral ports (28,232 by default).
const PER_SOURCE: usize = 20_000;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// A frame above this is an attack or a mistake; the connection ends.
const MOST_FRAME_BYTES: usize = 64 << 20;

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No TCP connection came about.
    Connect(String),
    /// The answer to the upgrade was another one: its status (0: not HTTP) and first line.
    Refused(u16, String),
    /// The server closed it with this code and reason; 1005 stands for none.
    Closed(u16, String),
    /// The stream ended or failed, or carried something that is not a WebSocket.
    Broken(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "connecting: {error}"),
            Self::Refused(_, line) => write!(f, "no upgrade: {line}"),
            Self::Closed(code, reason) => write!(f, "closed with {code} {reason}"),
            Self::Broken(error) => f.write_str(error),
        }
    }
}

/// What a run does with what its clients see.
pub trait Scenario {
    /// `conn` is a WebSocket now.
    fn opened(&mut self, _fleet: &mut Fleet, _conn: usize) -> Result<()> {
        Ok(())
    }

    /// A text frame for `conn`.
    fn frame(&mut self, fleet: &mut Fleet, conn: usize, json: &[u8]) -> Result<()>;

    /// `conn` is gone. By default that ends the run.
    fn lost(&mut self, _fleet: &mut Fleet, conn: usize, why: Lost) -> Result<()> {
        Err(Fail::Broken(format!("connection {conn}: {why}")))
    }
}

/// What is asked for at the upgrade.
#[derive(Clone, Debug)]
pub struct Door {
    pub server: SocketAddr,
    /// The whole request, see [`wire::upgrade_request`].
    pub request: String,
}

impl Door {
    /// Roundtable's own, with the JSON subprotocol.
    pub fn roundtable(server: SocketAddr) -> Self {
        Self { server, request: wire::upgrade_request(&server.to_string(), scan::PATH, Some(scan::subprotocol()), "") }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

struct Conn {
    socket: TcpStream,
    stage: Stage,
    /// The beginning of a frame whose rest has not come yet.
    tail: Vec<u8>,
    /// The text of a fragmented message so far.
    fragments: Vec<u8>,
    /// While connecting and upgrading the request, then frames that wait.
    out: Vec<u8>,
    dirty: bool,
    wants_write: bool,
}

/// All connections of one run; dropping it closes them.
pub struct Fleet {
    epoll: Epoll,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Gone in this turn; free from the next one on.
    leaving: Vec<usize>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
    ready: Vec<Readiness>,
    mask: u32,
    /// First of the local addresses that connections to loopback are spread over, as the last byte of 127.0.n.x.
    pub source_net: u8,
}

impl Fleet {
    pub fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            conns: Vec::new(),
            free: Vec::new(),
            leaving: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES],
            ready: Vec::new(),
            mask: 0x9e37_79b9,
            source_net: 0,
        })
    }

    /// Starts one connection and gives its number, which may be used again after the connection is gone.
    pub fn connect(&mut self, door: &Door) -> Result<usize> {
        let server = door.server;
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        let number = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        if let (IpAddr::V4(to), true) = (server.ip(), number >= PER_SOURCE || self.source_net > 0)
            && to.is_loopback()
        {
            let source = Ipv4Addr::new(127, 0, self.source_net, 1 + (number / PER_SOURCE) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // An error that comes at once is told like one that comes later: by the socket's readiness.
        let _ = socket.connect(&server.into());
        let socket = TcpStream::from(socket);
        self.epoll.add(socket.as_raw_fd(), number, WRITE)?;
        self.conns[number] = Some(Conn {
            socket,
            stage: Stage::Connecting,
            tail: Vec::new(),
            fragments: Vec::new(),
            out: door.request.as_bytes().to_vec(),
            dirty: false,
            wants_write: true,
        });
        Ok(number)
    }

    /// Ends a connection from our side, without a closing handshake, as a process that dies does. Does nothing where it
    /// is gone already.
    pub fn close(&mut self, conn: usize) {
        if self.conns.get_mut(conn).and_then(Option::take).is_some() {
            self.leaving.push(conn);
        }
    }

    /// Queues a text frame; it leaves at the end of the turn, or with [`Fleet::flush`]. For a connection that is gone it
    /// does nothing.
    pub fn send(&mut self, conn: usize, text: &[u8]) {
        self.queue(conn, wire::TEXT, text);
    }

    fn queue(&mut self, conn: usize, opcode: u8, payload: &[u8]) {
        // xorshift: a mask has to vary, not to be secret from ourselves.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        let mask = self.mask.to_ne_bytes();
        let Some(to) = self.conns.get_mut(conn).and_then(Option::as_mut) else { return };
        wire::frame(&mut to.out, opcode, payload, Some(mask));
        if !to.dirty {
            to.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Writes what is queued.
    pub fn flush(&mut self, scenario: &mut impl Scenario) -> Result<()> {
        while let Some(number) = self.dirty.pop() {
            if let Some(conn) = &mut self.conns[number] {
                conn.dirty = false;
                if conn.stage == Stage::Open
                    && let Err(why) = self.write(number)?
                {
                    self.lose(scenario, number, why)?;
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, scenario: &mut impl Scenario, number: usize, why: Lost) -> Result<()> {
        if self.conns[number].is_none() {
            return Ok(());
        }
        self.close(number);
        scenario.lost(self, number, why)
    }

    fn write(&mut self, number: usize) -> Result<std::result::Result<(), Lost>> {
        let Some(conn) = &mut self.conns[number] else { return Ok(Ok(())) };
        let mut sent = 0;
        while sent < conn.out.len() {
            match conn.socket.write(&conn.out[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(Lost::Broken(format!("writing: {error}")))),
            }
        }
        conn.out.drain(..sent);
        let wants_write = !conn.out.is_empty();
        if wants_write != conn.wants_write {
            conn.wants_write = wants_write;
            let interest = if wants_write { READ | WRITE } else { READ };
            self.epoll.modify(conn.socket.as_raw_fd(), number, interest)?;
        }
        Ok(Ok(()))
    }

    /// Writes what is queued, waits for news until `until` at most, and shows each frame to `scenario`.
    pub fn turn(&mut self, scenario: &mut impl Scenario, until: Instant) -> Result<()> {
        if sys::stopped() {
            return Err(Fail::Interrupted);
        }
        self.flush(scenario)?;
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.wait(until.saturating_duration_since(Instant::now()), &mut ready)?;
        for &readiness in &ready {
            if let Err(why) = self.attend(scenario, readiness)? {
                self.lose(scenario, readiness.token, why)?;
            }
        }
        self.ready = ready;
        self.flush(scenario)?;
        self.free.append(&mut self.leaving);
        Ok(())
    }

    fn attend(&mut self, scenario: &mut impl Scenario, readiness: Readiness) -> Result<std::result::Result<(), Lost>> {
        let number = readiness.token;
        let Some(conn) = &mut self.conns[number] else { return Ok(Ok(())) };
        if conn.stage == Stage::Connecting {
            if let Some(error) = conn.socket.take_error()? {
                return Ok(Err(Lost::Connect(error.to_string())));
            }
            conn.stage = Stage::Upgrading;
            return self.write(number);
        }
        if readiness.writable
            && conn.wants_write
            && let Err(why) = self.write(number)?
        {
            return Ok(Err(why));
        }
        if readiness.readable { self.read(scenario, number) } else { Ok(Ok(())) }
    }

    fn read(&mut self, scenario: &mut impl Scenario, number: usize) -> Result<std::result::Result<(), Lost>> {
        // The buffer is out of the fleet while frames lie in it, so that the scenario may use the fleet meanwhile.
        let mut buffer = std::mem::take(&mut self.buffer);
        let found = self.read_into(scenario, number, &mut buffer);
        self.buffer = buffer;
        found
    }

    fn read_into(
        &mut self,
        scenario: &mut impl Scenario,
        number: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<std::result::Result<(), Lost>> {
        let Some(conn) = &mut self.conns[number] else { return Ok(Ok(())) };
        let kept = conn.tail.len();
        if kept > MOST_FRAME_BYTES {
            return Ok(Err(Lost::Broken("a frame of more than 64 MiB".into())));
        }
        if buffer.len() < kept + READ_BYTES / 2 {
            buffer.resize(kept + READ_BYTES, 0);
        }
        buffer[..kept].copy_from_slice(&conn.tail);
        conn.tail.clear();
        let (n, ended) = match conn.socket.read(&mut buffer[kept..]) {
            Ok(0) => (0, Some(Lost::Broken("the server ended it".into()))),
            Ok(n) => (n, None),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (0, None),
            Err(error) => (0, Some(Lost::Broken(format!("reading: {error}")))),
        };
        if let Some(why) = ended {
            return Ok(Err(why));
        }
        let used = match self.take(scenario, number, &buffer[..kept + n])? {
            Ok(used) => used,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(conn) = &mut self.conns[number]
            && used < kept + n
        {
            conn.tail.extend_from_slice(&buffer[used..kept + n]);
        }
        Ok(Ok(()))
    }

    /// Takes what is whole in `bytes`; gives how much that was.
    fn take(
        &mut self,
        scenario: &mut impl Scenario,
        number: usize,
        bytes: &[u8],
    ) -> Result<std::result::Result<usize, Lost>> {
        let mut used = 0;
        if self.stage(number) == Some(Stage::Upgrading) {
            let Some(end) = wire::http_head(bytes) else {
                // What is no HTTP at all never gets an empty line.
                let hopeless = bytes.len() > 16 << 10 || !b"HTTP/1.".starts_with(&bytes[..bytes.len().min(7)]);
                return Ok(if hopeless { Err(Lost::Refused(0, "not an HTTP answer".into())) } else { Ok(0) });
            };
            let text = String::from_utf8_lossy(&bytes[..end]);
            if !wire::is_upgraded(&text) {
                let line = text.lines().next().unwrap_or_default().to_owned();
                let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                return Ok(Err(Lost::Refused(status, line)));
            }
            if let Some(conn) = &mut self.conns[number] {
                conn.stage = Stage::Open;
            }
            used = end;
            scenario.opened(self, number)?;
        }
        // The scenario may close the connection while its frames are read.
        while self.conns[number].is_some()
            && let Some(head) = wire::head(&bytes[used..])
        {
            let payload = &bytes[used + head.start..used + head.end];
            used += head.end;
            if head.mask.is_some() {
                return Ok(Err(Lost::Broken("a masked frame from the server".into())));
            }
            match (head.opcode, head.last) {
                (wire::TEXT, true) => scenario.frame(self, number, payload)?,
                (wire::TEXT | wire::CONTINUATION, last) => {
                    if let Err(why) = self.fragment(scenario, number, payload, last)? {
                        return Ok(Err(why));
                    }
                }
                (wire::PING, _) => self.queue(number, wire::PONG, payload),
                (wire::PONG, _) => {}
                (wire::CLOSE, _) => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Ok(Err(Lost::Closed(code, reason)));
                }
                (opcode, _) => return Ok(Err(Lost::Broken(format!("a frame of opcode {opcode}")))),
            }
        }
        Ok(Ok(used))
    }

    fn fragment(
        &mut self,
        scenario: &mut impl Scenario,
        number: usize,
        payload: &[u8],
        last: bool,
    ) -> Result<std::result::Result<(), Lost>> {
        let Some(conn) = &mut self.conns[number] else { return Ok(Ok(())) };
        if conn.fragments.len() + payload.len() > MOST_FRAME_BYTES {
            return Ok(Err(Lost::Broken("a message of more than 64 MiB".into())));
        }
        conn.fragments.extend_from_slice(payload);
        if last {
            let whole = std::mem::take(&mut conn.fragments);
            scenario.frame(self, number, &whole)?;
        }
        Ok(Ok(()))
    }

    fn stage(&self, number: usize) -> Option<Stage> {
        self.conns[number].as_ref().map(|conn| conn.stage)
    }
}
