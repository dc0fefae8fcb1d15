//! Opens the addresses and assembles the two listeners: the public one (API, page and WebSocket upgrades on one port)
//! and the admin one.
//!
//! Invariants: every address is open before anything else starts, so that a taken port stops the start; each worker
//! thread calls its hook once, before it takes its first connection. Signals are startup's business.

use std::cell::OnceCell;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use socket2::{Domain, Type};
use tokio_rustls::TlsAcceptor;

use super::admin::{self, AdminState};
use super::api::{self, Shared};
use super::redirect::{self, Redirect};
use super::socket::UpgradeService;
use super::socket::gate::Gate;
use super::stream::{Guarded, Socket};
use super::tls;
use crate::actors::hub::Hub;

/// Connections the kernel holds until they are accepted (it may hold fewer: `net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// How long a client may take to send a request's head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long an idle HTTP connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Plain HTTP connections of one worker thread; more wait in the backlog. Upgraded ones are counted by the sockets' gate.
const WORKER_CONNECTIONS: usize = 10_000;
/// How long what a client still sends of a refused body is read and thrown away, so that it reads why instead of a reset
/// connection. WebSockets don't wait for it: their connections are not the HTTP service's any more.
const LINGER: Duration = Duration::from_secs(5);
/// How long a stop waits for calls under way before it cuts them off, in seconds.
const STOP_WAIT_S: u64 = 5;

/// An address could not be opened: taken, not ours, or not allowed.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct BindError {
    pub address: String,
    pub source: io::Error,
}

/// An address as it was opened; a name may stand for several.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    /// The first one, with the port that was really opened where 0 was asked for.
    pub address: SocketAddr,
}

/// Opens `address` (`host:port`). Nothing is accepted yet, but clients that connect already wait their turn.
///
/// # Errors
/// [`BindError`], with the address, if it is taken or can't be opened at all.
pub fn bind(address: impl ToSocketAddrs + Display) -> Result<Listener, BindError> {
    let failed = |source| BindError { address: address.to_string(), source };
    let mut sockets = Vec::new();
    let mut refused = None;
    for one in address.to_socket_addrs().map_err(failed)? {
        match open(one) {
            Ok(socket) => sockets.push(socket),
            // Half an address would be worse than none; but a host without IPv6 may well be named `localhost`.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(error) => refused = Some(error),
        }
    }
    let none = || refused.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it names no address"));
    let first = match sockets.first() {
        Some(first) => first.local_addr().map_err(failed)?,
        None => return Err(failed(none())),
    };
    Ok(Listener { sockets, address: first })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts a worker thread's hub; called on that thread, in its runtime.
pub type StartWorker = Arc<dyn Fn() -> Rc<Hub> + Send + Sync>;

thread_local! {
    /// The hub of this worker thread. A server builds its services anew when one fails, the hub stays.
    static HUB: OnceCell<Rc<Hub>> = const { OnceCell::new() };
}

/// The public server, to be polled; `Server::handle` stops it.
///
/// # Errors
/// Where a listener can't be handed over.
pub fn public(
    listener: Listener,
    workers: usize,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    start_worker: StartWorker,
    tls: Option<TlsAcceptor>,
) -> io::Result<Server> {
    let mut builder = Server::build()
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(STOP_WAIT_S)
        .max_concurrent_connections(WORKER_CONNECTIONS);
    for socket in listener.sockets {
        let shared = shared.clone();
        let upgrades = UpgradeService::new(gate.clone());
        let (start_worker, tls) = (start_worker.clone(), tls.clone());
        let (hsts, patience) = (tls.is_some() || shared.hsts(), shared.stall());
        builder = builder.listen("roundtable", socket, move || {
            let hub = HUB.with(|hub| hub.get_or_init(|| start_worker()).clone());
            let app = App::new().configure(api::routes(shared.clone(), hub));
            let http = HttpService::build()
                .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
                .client_request_timeout(HEAD_WAIT)
                .client_disconnect_timeout(LINGER)
                .on_connect_ext(|connection: &Guarded, data| {
                    data.insert(connection.takeover());
                })
                .upgrade(upgrades.clone())
                .finish(map_config(app, |()| AppConfig::default()));
            let tls = tls.clone();
            fn_service(move |socket| connected(socket, tls.clone(), hsts, patience)).and_then(http)
        })?;
    }
    Ok(builder.run())
}

/// A new connection as the HTTP service takes it, after the handshake where it speaks TLS.
async fn connected(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    hsts: bool,
    patience: Duration,
) -> Result<(Guarded, Protocol, Option<SocketAddr>), DispatchError> {
    let _ = tcp.set_nodelay(true);
    let peer = tcp.peer_addr().ok();
    let socket = match tls {
        None => Socket::Tcp(tcp),
        Some(acceptor) => match tls::accept(&acceptor, tcp).await {
            Some(stream) => Socket::Tls(Box::new(stream)),
            None => return Err(DispatchError::DisconnectTimeout),
        },
    };
    Ok((Guarded::new(socket, hsts, patience), Protocol::Http1, peer))
}

/// The server that sends plain HTTP to https.
///
/// # Errors
/// Where a listener can't be handed over.
pub fn redirecting(listener: Listener, redirect: Arc<Redirect>) -> io::Result<Server> {
    let mut builder = Server::build().workers(1).disable_signals().shutdown_timeout(1);
    for socket in listener.sockets {
        let redirect = redirect.clone();
        builder = builder.listen("roundtable-redirect", socket, move || {
            let app = App::new().configure(redirect::routes(redirect.clone()));
            let http = HttpService::build()
                .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
                .client_request_timeout(HEAD_WAIT)
                .client_disconnect_timeout(Duration::ZERO)
                .finish(map_config(app, |()| AppConfig::default()));
            fn_service(move |socket| connected(socket, None, false, HEAD_WAIT)).and_then(http)
        })?;
    }
    Ok(builder.run())
}

/// The admin server: one thread, which nothing of the public side can keep busy.
///
/// # Errors
/// Where a listener can't be handed over.
pub fn admin(listener: Listener, state: AdminState) -> io::Result<Server> {
    let mut builder = Server::build().workers(1).disable_signals().shutdown_timeout(1);
    for socket in listener.sockets {
        let state = state.clone();
        builder = builder.listen("roundtable-admin", socket, move || {
            let app = App::new().configure(admin::routes(state.clone()));
            HttpService::build()
                .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
                .client_request_timeout(HEAD_WAIT)
                .finish(map_config(app, |()| AppConfig::default()))
                .tcp()
        })?;
    }
    Ok(builder.run())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::http::api::tests::{context, unlimited};

    /// Writes `request` to a new connection and reads until the server closes it.
    async fn raw(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.expect("a listener");
        socket.write_all(request.as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[actix_web::test]
    async fn one_port_serves_the_api_the_page_and_refuses_sockets_as_the_gate_says() {
        let (config, data) = (Arc::new(unlimited()), tempfile::TempDir::new().expect("a temporary directory"));
        let (context, started) = (context(&config, data.path()).await, Arc::new(std::sync::atomic::AtomicU16::new(0)));
        let start_worker: StartWorker = {
            let started = started.clone();
            Arc::new(move || {
                let index = started.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Hub::start(crate::actors::messages::HubIndex(index), context.clone()).1
            })
        };
        let listener = bind("127.0.0.1:0").expect("a free port");
        let address = listener.address;
        let gate = Gate::new(0);
        let server =
            public(listener, 2, Shared::new(&config, Arc::new(|_| {})), gate, start_worker, None).expect("a server");
        let handle = server.handle();
        let running = actix_rt::spawn(server);

        let page = raw(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("<title>Roundtable</title>"));
        let head = raw(address, "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");

        let chunk = "a".repeat(8_000);
        let chunks = format!("1f40\r\n{chunk}\r\n").repeat(9);
        let post = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let answer = raw(address, &format!("{post}{chunks}0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("nosniff"));

        // A client that still sends what was refused reads why, not that the connection was reset.
        let mut socket = TcpStream::connect(address).await.expect("a listener");
        let post = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n";
        socket.write_all(post.as_bytes()).await.expect("it is read");
        let mut begin = [0; 13];
        socket.read_exact(&mut begin).await.expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 413 ");
        socket.write_all(&vec![b'x'; 3_000_000]).await.expect("it is read and thrown away");
        drop(socket);

        let upgrade = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let refused = raw(address, upgrade).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after"), "{refused}");
        // Java's client asks for HTTP/2 like this by default; it is answered in HTTP/1.1.
        let h2c = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABkAAQAAP__\r\n\r\n";
        let mut socket = TcpStream::connect(address).await.expect("a listener");
        socket.write_all(h2c.as_bytes()).await.expect("it is read");
        let mut begin = [0; 15];
        socket.read_exact(&mut begin).await.expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        drop(socket);

        assert_eq!(started.load(std::sync::atomic::Ordering::Relaxed), 2, "once a worker");
        handle.stop(false).await;
        running.await.expect("no panic").expect("a clean end");
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = bind("127.0.0.1:0").expect("a free port");
        let address = first.address.to_string();
        let error = bind(&*address).expect_err("taken");
        assert_eq!(error.address, address);
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(&*address).expect("free again");
    }
}
