//! A TCP proxy that breaks on demand: cuts, swallows or delays, each direction apart.
//!
//! Invariant: what isn't broken is passed on whole and in order. Stands until dropped; its port never changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What is done with the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// Each piece this much later; order stays.
    Delay(Duration),
    /// Read and thrown away, as if the network lost it: both ends believe the connection to stand.
    Drop,
    /// Not read at all: the sender's buffers fill.
    Hold,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server behind the proxy.
    Up,
    Down,
}

#[derive(Clone, Debug)]
struct State {
    up: Flow,
    down: Flow,
    /// New connections are refused (closed at once).
    closed: bool,
    /// Raised to end every connection.
    cuts: u64,
}

/// See the module.
pub struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    task: AbortHandle,
}

impl Proxy {
    /// A proxy on a free port in front of `target` on this machine.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind a free port");
        let port = listener.local_addr().expect("its address").port();
        let begin = State { up: Flow::Pass, down: Flow::Pass, closed: false, cuts: 0 };
        let state = Arc::new(watch::Sender::new(begin));
        let task = tokio::spawn(serve(listener, target, Arc::clone(&state))).abort_handle();
        Self { port, state, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what is done with one direction, for open connections and new ones.
    pub fn set(&self, way: Way, flow: Flow) {
        self.state.send_modify(|state| match way {
            Way::Up => state.up = flow,
            Way::Down => state.down = flow,
        });
    }

    /// Changes both directions.
    pub fn set_both(&self, flow: Flow) {
        self.set(Way::Up, flow);
        self.set(Way::Down, flow);
    }

    /// Ends every open connection; new ones are taken.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends every open connection and takes no new ones until [`Proxy::open`].
    pub fn close(&self) {
        self.state.send_modify(|state| {
            state.closed = true;
            state.cuts += 1;
        });
    }

    pub fn open(&self) {
        self.state.send_modify(|state| state.closed = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn serve(listener: TcpListener, target: u16, state: Arc<watch::Sender<State>>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let watching = state.subscribe();
        if !watching.borrow().closed {
            tokio::spawn(connection(client, target, watching));
        }
    }
}

async fn connection(client: TcpStream, target: u16, state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await else { return };
    // Delays would show otherwise; a socket that can't do it is about to end anyway.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cuts = state.borrow().cuts;
    let mut watching = state.clone();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pump(client_read, server_write, state.clone(), |state| state.up) => {}
        () = pump(server_read, client_write, state.clone(), |state| state.down) => {}
        _ = watching.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
    flow: impl Fn(&State) -> Flow,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        if state.wait_for(|state| flow(state) != Flow::Hold).await.is_err() {
            return;
        }
        let length = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let now = flow(&state.borrow());
        match now {
            Flow::Drop => continue,
            Flow::Delay(by) => tokio::time::sleep(by).await,
            // What was read before the hold began goes when it ends.
            Flow::Hold => {
                if state.wait_for(|state| flow(state) != Flow::Hold).await.is_err() {
                    return;
                }
            }
            Flow::Pass => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
