//! The owned socket: every WebSocket connection from its upgrade to its end.
//!
//! actix-http hands over each request with `Upgrade: websocket` together with its socket ([`UpgradeService`]). What is
//! agreed on is answered here and the connection goes on in a small task of its own ([`pump`]), out of actix-http's sight:
//! so bytes are counted exactly, a connection costs little while idle, and compression and slow readers are ours to handle.
//!
//! A stream ([`stream_answer`]) is taken over in the same way once its answer's head has left, and is the same from then
//! on, but that its frames come by posts and leave as events.
//!
//! Invariant: whatever is not agreed on is answered like any HTTP error and the connection ends; every connection that is
//! taken holds a [`gate::Ticket`].

mod decoder;
mod extensions;
pub mod gate;
pub mod handshake;
mod pump;

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_codec::Framed;
use actix_http::{HttpMessage, Request, h1};
use actix_rt::net::TcpStream;
use actix_service::{Service, ServiceFactory};
use actix_web::body::{BodySize, MessageBody};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, Ready, ready};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tracing::Instrument;

pub use self::gate::Gate;
use self::gate::{Closed, Ticket};
use self::handshake::{Agreed, Rejected};
use super::client_address::client_ip;
use super::problem::Problem;
use super::request_id::{self, RequestId};
use super::security;
use super::stream::{Guarded, Socket, Takeover};
use crate::actors::frame::{Framing, Wire};
use crate::actors::hub::Hub;
use crate::auth::Identity;
use crate::metrics::ConnectRefusal;
use crate::refusal::{Code, Refusal};

/// Bytes the kernel may hold for one connection besides the outbox; it may use twice as much.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Milliseconds after which to try again while the node starts or drains.
const RETRY_MS: u64 = 1_000;
/// How long a refusal may take to be written.
const REFUSAL_WITHIN: Duration = Duration::from_secs(5);

/// Makes the service of each worker thread; for `HttpService::build().upgrade(…)`. The thread's [`Hub`] must be started
/// before the first connection.
#[derive(Clone)]
pub struct UpgradeService {
    gate: Arc<Gate>,
}

impl UpgradeService {
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

impl ServiceFactory<(Request, Framed<Guarded, h1::Codec>)> for UpgradeService {
    type Response = ();
    type Error = actix_http::Error;
    type Config = ();
    type Service = Self;
    type InitError = ();
    type Future = Ready<Result<Self, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        ready(Ok(self.clone()))
    }
}

impl Service<(Request, Framed<Guarded, h1::Codec>)> for UpgradeService {
    type Response = ();
    type Error = actix_http::Error;
    type Future = LocalBoxFuture<'static, Result<(), actix_http::Error>>;

    actix_service::always_ready!();

    fn call(&self, (request, framed): (Request, Framed<Guarded, h1::Codec>)) -> Self::Future {
        // Taken apart here: the buffers of `Framed` would otherwise live as long as the connection.
        let parts = framed.into_parts();
        let (early, unsent) = (parts.read_buf, parts.write_buf);
        let Some(socket) = parts.io.into_socket() else { return Box::pin(ready(Ok(()))) };
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            // In a task of its own, so that actix-http's part of the connection is freed.
            actix_rt::spawn(upgrade(request, socket, early.to_vec(), unsent.to_vec(), gate));
            Ok(())
        })
    }
}

/// Everything before the connection's own task. `early`: bytes the client sent behind its request; `unsent`: answers to
/// earlier requests on the same connection.
async fn upgrade(request: Request, mut socket: Socket, early: Vec<u8>, unsent: Vec<u8>, gate: Arc<Gate>) {
    let Some(hub) = Hub::current() else {
        tracing::error!("a connection came to a thread without a hub");
        return;
    };
    if !unsent.is_empty() && socket.write_all(&unsent).await.is_err() {
        return;
    }
    drop(unsent);
    let id = RequestId::of(request.headers());
    let welcomed = welcome(&request, &hub, &gate).instrument(tracing::info_span!("http", request.id = %id)).await;
    let security = security::lines(by_https(&request, &hub));
    let bears = format!("{security}{}: {id}\r\n", request_id::HEADER);
    drop(request);
    match welcomed {
        Ok((agreed, identity, ticket)) => {
            if configure(socket.tcp(), &hub).is_err()
                || socket.write_all(&agreed.response(&bears)).await.is_err()
                || socket.flush().await.is_err()
            {
                return;
            }
            drop((bears, security));
            let framing = if agreed.deflate { Framing::Deflate } else { Framing::Plain };
            let wire = Wire { encoding: agreed.encoding, framing };
            pump::spawn(&hub, socket, wire, identity, ticket, early);
        }
        Err(rejected) => {
            hub.context().metrics.connect_refused(rejected.reason);
            let response = rejected.problem.last_words(&bears);
            let _ = tokio::time::timeout(REFUSAL_WITHIN, refuse(socket, &response)).await;
        }
    }
}

async fn welcome(
    request: &Request,
    hub: &Rc<Hub>,
    gate: &Arc<Gate>,
) -> Result<(Agreed, Option<Identity>, Ticket), Rejected> {
    let config = &hub.context().config;
    let agreed = handshake::agree(request.head(), config)?;
    let trusted: Vec<IpNet> = config.server.trusted_proxies.iter().map(|network| network.0).collect();
    let address = client_ip(peer(request), request.head().headers(), &trusted);
    let (identity, ticket) = let_in(hub, gate, address, agreed.token.as_deref()).await?;
    Ok((agreed, identity, ticket))
}

/// Counts a connection in and looks at its credentials, which may be none.
async fn let_in(
    hub: &Rc<Hub>,
    gate: &Arc<Gate>,
    address: IpAddr,
    token: Option<&str>,
) -> Result<(Option<Identity>, Ticket), Rejected> {
    let ticket = gate.enter(address).map_err(|closed| match closed {
        Closed::NotNow => unavailable("this node is starting or leaving; try another or again"),
        Closed::TooMany => {
            let detail = "more connections than limits.connections_per_ip";
            Rejected::new(ConnectRefusal::RateLimited, Refusal::rate_limited(detail, RETRY_MS))
        }
    })?;
    let Some(token) = token else { return Ok((None, ticket)) };
    match hub.context().auth.authenticate(token).await {
        Ok(identity) => Ok((Some(identity), ticket)),
        Err(error) => {
            let refusal = Refusal::from(error);
            Err(if refusal.code.retryable() {
                unavailable(refusal.message)
            } else if refusal.code == Code::Forbidden {
                Rejected::new(ConnectRefusal::Unauthenticated, refusal)
            } else {
                Rejected::new(ConnectRefusal::Unauthenticated, Refusal::unauthenticated(refusal.message))
            })
        }
    }
}

/// The answer that becomes a stream, by the handler of a request for one.
///
/// # Errors
/// Why not, already counted.
pub async fn stream_answer(
    hub: &Rc<Hub>,
    gate: &Arc<Gate>,
    address: IpAddr,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    let admitted = match handshake::stream_credentials(request.headers(), &hub.context().config) {
        Ok(token) => let_in(hub, gate, address, token.as_deref()).await,
        Err(rejected) => Err(rejected),
    };
    let (identity, ticket) = admitted.map_err(|rejected| {
        hub.context().metrics.connect_refused(rejected.reason);
        rejected.problem
    })?;
    let takeover =
        request.conn_data::<Takeover>().cloned().ok_or_else(|| unavailable("not on this listener").problem)?;
    let hub = Rc::clone(hub);
    let body = TakenOver {
        takeover,
        then: Some(Box::new(move |socket| {
            if configure(socket.tcp(), &hub).is_ok() {
                pump::spawn_stream(&hub, socket, identity, ticket);
            }
        })),
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // Proxies that gather answers would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .force_close()
        .body(body))
}

/// A body that is written past actix-http: it says nothing, and takes the connection over as soon as the head has left.
struct TakenOver {
    takeover: Takeover,
    then: Option<Box<dyn FnOnce(Socket)>>,
}

impl MessageBody for TakenOver {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let socket = std::task::ready!(this.takeover.poll_socket(context));
        if let (Some(socket), Some(then)) = (socket, this.then.take()) {
            then(socket);
        }
        Poll::Ready(None)
    }
}

fn peer(request: &Request) -> IpAddr {
    request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip())
}

/// Whether the answer bears HSTS.
fn by_https(request: &Request, hub: &Hub) -> bool {
    let server = &hub.context().config.server;
    let trusted: Vec<IpNet> = server.trusted_proxies.iter().map(|network| network.0).collect();
    server.hsts || security::came_by_https(peer(request), request.headers(), &trusted, server.tls.enabled())
}

fn unavailable(detail: impl Into<String>) -> Rejected {
    Rejected::new(ConnectRefusal::Unavailable, Refusal::unavailable(detail).retry_after(RETRY_MS))
}

async fn refuse(mut socket: Socket, response: &[u8]) -> std::io::Result<()> {
    socket.write_all(response).await?;
    socket.flush().await?;
    socket.shutdown().await?;
    // Until the client has closed too: closing with unread bytes would tear the answer from its hands.
    pump::discard(&mut socket).await;
    Ok(())
}

/// Socket options of a session's connection.
fn configure(socket: &TcpStream, hub: &Hub) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // A peer that is gone without a word is noticed by the kernel too; a little later than a stall is by the hub.
    let stall = Duration::from_secs(hub.context().config.limits.stall_s);
    socket.set_tcp_user_timeout(Some(stall + Duration::from_secs(10)))
}
