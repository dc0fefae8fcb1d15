//! A TCP proxy that breaks on demand: holds back, loses or delays, each direction apart, or refuses altogether.
//!
//! Invariants: what isn't broken is passed on whole and in order; its port never changes; it stands until dropped. A
//! connection that lost bytes never goes on: it ends when the loss does, since no network gives a TCP stream with a hole
//! to an application. Two threads carry a connection, and there are at most [`MOST`] connections: more are refused.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Connections at a time; a node has fewer than fifty.
const MOST: usize = 128;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 128 * 1024;
const PIECE_BYTES: usize = 32 * 1024;

/// What is done with the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// Each piece this much later; order stays.
    Delay(Duration),
    /// Read and thrown away, as if the network lost it: both ends believe the connection to stand.
    Lose,
    /// Not read at all: the sender's buffers fill. It goes on when this ends.
    Hold,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server behind the proxy.
    Up,
    Down,
}

/// See the module.
pub struct Proxy {
    port: u16,
    listener: TcpListener,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Of `Way::Up` and `Way::Down`.
    flows: [Flow; 2],
    /// New connections are closed as soon as they are taken.
    closed: bool,
    ended: bool,
    connections: HashMap<u64, Connection>,
    next: u64,
}

struct Connection {
    client: TcpStream,
    server: Option<TcpStream>,
    /// Whether bytes of this direction were thrown away.
    lost: [bool; 2],
    /// Directions whose end was passed on.
    over: u8,
}

/// What becomes of a piece that was read.
#[derive(PartialEq, Eq)]
enum Fate {
    Passed,
    Lost,
    /// The connection was cut meanwhile.
    Cut,
}

impl Proxy {
    /// A proxy on a free loopback port in front of `target`.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = State { flows: [Flow::Pass; 2], closed: false, ended: false, connections: HashMap::new(), next: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = {
            let (listener, shared) = (listener.try_clone()?, Arc::clone(&shared));
            thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, target, &shared))?
        };
        Ok(Self { port, listener, shared, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what is done with one direction, for open connections and new ones.
    pub fn set(&self, way: Way, flow: Flow) {
        let mut state = self.shared.lock();
        state.flows[way as usize] = flow;
        if flow != Flow::Lose {
            state.cut(|connection| connection.lost[way as usize]);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends every open connection and takes no new ones until [`Proxy::heal`].
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.cut(|_| true);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.shared.lock().closed = false;
        self.set(Way::Up, Flow::Pass);
        self.set(Way::Down, Flow::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.close();
        // Wakes the acceptor; a listener that is shut down takes nothing any more.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    /// Ends and forgets the connections that `which` picks.
    fn cut(&mut self, which: impl Fn(&Connection) -> bool) {
        self.connections.retain(|_, connection| {
            let cut = which(connection);
            if cut {
                connection.shutdown();
            }
            !cut
        });
    }
}

impl Connection {
    fn shutdown(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(server) = &self.server {
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is made in one step, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the direction's flow wants it. `end`: it is not a piece but the end of the stream.
    fn fate(&self, id: u64, way: Way, end: bool) -> Fate {
        let read = Instant::now();
        let mut state = self.lock();
        loop {
            let flow = state.flows[way as usize];
            let Some(connection) = state.connections.get_mut(&id) else { return Fate::Cut };
            state = match flow {
                Flow::Pass => return Fate::Passed,
                Flow::Delay(by) => {
                    let left = by.saturating_sub(read.elapsed());
                    if left.is_zero() {
                        return Fate::Passed;
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                Flow::Lose => {
                    connection.lost[way as usize] = true;
                    if !end {
                        return Fate::Lost;
                    }
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                Flow::Hold => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The end of one direction was passed on; after the second one the connection is over.
    fn direction_over(&self, id: u64) {
        let mut state = self.lock();
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.over += 1;
            if connection.over == 2 {
                state.connections.remove(&id);
            }
        }
    }

    fn cut(&self, id: u64) {
        if let Some(connection) = self.lock().connections.remove(&id) {
            connection.shutdown();
        }
        self.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    loop {
        let client = listener.accept();
        let mut state = shared.lock();
        if state.ended {
            return;
        }
        let Ok((client, _)) = client else {
            drop(state);
            // Out of files, say: it may pass, and a client waits in the backlog meanwhile.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if state.closed || state.connections.len() >= MOST {
            continue;
        }
        let Ok(kept) = client.try_clone() else { continue };
        let id = state.next;
        state.next += 1;
        state.connections.insert(id, Connection { client: kept, server: None, lost: [false; 2], over: 0 });
        drop(state);
        let (shared, spawner) = (Arc::clone(shared), thread::Builder::new().stack_size(STACK_BYTES));
        let carrier = Arc::clone(&shared);
        if spawner.spawn(move || carry(id, client, target, &carrier)).is_err() {
            shared.cut(id);
        }
    }
}

/// Connects to the target and carries both directions until the end.
fn carry(id: u64, client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) {
    let carried = (|| -> io::Result<()> {
        let server = TcpStream::connect_timeout(&target, CONNECT_WITHIN)?;
        // Delays would show otherwise.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        match shared.lock().connections.get_mut(&id) {
            Some(connection) => connection.server = Some(server.try_clone()?),
            None => return Ok(()),
        }
        let (from, to, down) = (server.try_clone()?, client.try_clone()?, Arc::clone(shared));
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || pump(id, Way::Down, from, to, &down))?;
        pump(id, Way::Up, client, server, shared);
        Ok(())
    })();
    if carried.is_err() {
        shared.cut(id);
    }
}

fn pump(id: u64, way: Way, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match from.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        match shared.fate(id, way, length == 0) {
            Fate::Passed if length == 0 => {
                let _ = to.shutdown(Shutdown::Write);
                return shared.direction_over(id);
            }
            Fate::Passed if to.write_all(&piece[..length]).is_err() => break,
            Fate::Passed | Fate::Lost => {}
            Fate::Cut => return,
        }
    }
    shared.cut(id);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &socket, &mut &socket));
            }
        });
        address
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("the proxy takes it");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        socket
    }

    fn says(mut socket: &TcpStream, text: &str) {
        socket.write_all(text.as_bytes()).expect("written");
    }

    fn hears(mut socket: &TcpStream, text: &str) {
        let mut bytes = vec![0; text.len()];
        socket.read_exact(&mut bytes).expect("read");
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    fn hears_nothing(mut socket: &TcpStream) {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let error = socket.read(&mut [0]).expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    }

    fn is_cut(mut socket: &TcpStream) {
        match socket.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("not cut: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_broken_passes_whole_and_so_does_its_end() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        let socket = client(&proxy);
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(7) >> 3) as u8).collect();
        let mut got = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&socket).write_all(&sent).expect("written");
                socket.shutdown(Shutdown::Write).expect("an end");
            });
            (&socket).read_to_end(&mut got).expect("read");
        });
        assert!(got == sent);
        let until = Instant::now() + Duration::from_secs(5);
        while !proxy.shared.lock().connections.is_empty() {
            assert!(Instant::now() < until, "a connection that is over is forgotten");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_held_goes_on_when_the_hold_ends() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        let socket = client(&proxy);
        for way in [Way::Up, Way::Down] {
            proxy.set(way, Flow::Hold);
            says(&socket, "held");
            hears_nothing(&socket);
            proxy.set(way, Flow::Pass);
            hears(&socket, "held");
        }
    }

    #[test]
    fn what_is_lost_is_lost_and_the_connection_ends_with_the_loss() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        for way in [Way::Up, Way::Down] {
            let (hit, spared) = (client(&proxy), client(&proxy));
            says(&hit, "a");
            hears(&hit, "a");
            says(&spared, "b");
            hears(&spared, "b");
            proxy.set(way, Flow::Lose);
            says(&hit, "lost");
            hears_nothing(&hit);
            proxy.set(way, Flow::Pass);
            is_cut(&hit);
            says(&spared, "c");
            hears(&spared, "c");
        }
    }

    #[test]
    fn an_end_is_not_told_while_the_direction_loses() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        let socket = client(&proxy);
        says(&socket, "a");
        hears(&socket, "a");
        proxy.set(Way::Up, Flow::Lose);
        socket.shutdown(Shutdown::Write).expect("an end");
        hears_nothing(&socket);
        proxy.heal();
        is_cut(&socket);
    }

    #[test]
    fn a_delay_is_kept_and_ends_at_once_when_lifted() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        let socket = client(&proxy);
        proxy.set(Way::Up, Flow::Delay(Duration::from_millis(50)));
        let begun = Instant::now();
        says(&socket, "late");
        hears(&socket, "late");
        assert!(begun.elapsed() >= Duration::from_millis(50));
        proxy.set(Way::Up, Flow::Delay(Duration::from_secs(60)));
        says(&socket, "later");
        hears_nothing(&socket);
        proxy.heal();
        hears(&socket, "later");
    }

    #[test]
    fn a_closed_proxy_cuts_and_refuses_until_it_is_healed() {
        let proxy = Proxy::start(echo()).expect("a proxy");
        let socket = client(&proxy);
        says(&socket, "a");
        hears(&socket, "a");
        proxy.close();
        is_cut(&socket);
        is_cut(&client(&proxy));
        proxy.heal();
        let socket = client(&proxy);
        says(&socket, "b");
        hears(&socket, "b");
        let port = proxy.port();
        drop(proxy);
        is_cut(&socket);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
}
