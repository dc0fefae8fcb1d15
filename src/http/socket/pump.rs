//! One connection's task: moves messages from the socket to the session actor, and what waits in the outbox to the socket.
//!
//! One small future polls three things: the socket for reading (into a buffer that the thread's connections share), the
//! session's actor, and the outbox while the socket takes no more. It owns the connection's end: whatever ends it, a panic
//! of the actor included, the hub is told and the ticket given back.
//!
//! Invariant: nothing is read while the session may not take more (`SessionCore::may_read`), so a client that does not
//! take its answers is not given more.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::ws::Message;
use bytes::Bytes;
use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, ReadBuf};

use super::decoder::Decoder;
use super::gate::Ticket;
use crate::actors::frame::{Closing, Wire};
use crate::actors::hub::Hub;
use crate::actors::session::Session;
use crate::actors::session::core::SessionCore;
use crate::actors::sink::{Sink, TlsSocket};
use crate::auth::Identity;
use crate::http::stream::Socket;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
/// Reads of one turn, after which others have theirs.
const READS: usize = 16;
/// How long the last frames may take to leave.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// How long the client may take to close its side.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Starts the connection's task. `early`: bytes that came behind the request to upgrade.
pub fn spawn(hub: &Rc<Hub>, socket: Socket, wire: Wire, identity: Option<Identity>, ticket: Ticket, early: Vec<u8>) {
    match socket {
        Socket::Tcp(socket) => {
            let (read, write) = socket.into_split();
            start(hub, read, write, wire, identity, ticket, early);
        }
        Socket::Tls(stream) => {
            let (tcp, session) = stream.into_inner();
            let socket = Rc::new(TlsSocket::new(tcp, session));
            start(hub, Unsealed(Rc::clone(&socket)), socket, wire, identity, ticket, early);
        }
    }
}

/// One kind of pump for each kind of socket, so that a plain one has no room for the other.
fn start<R: AsyncRead + Unpin + 'static>(
    hub: &Rc<Hub>,
    read: R,
    write: impl Into<Sink>,
    wire: Wire,
    identity: Option<Identity>,
    ticket: Ticket,
    early: Vec<u8>,
) {
    let core = hub.open(wire, write, identity);
    let decoder = Decoder::new(hub.bounds().frame_bytes, wire.deflate);
    let connection = Connection { core: Rc::clone(&core), hub: Rc::clone(hub), ticket };
    let actor = Session::start(core, Rc::clone(hub));
    // Boxed: a pump that is moved into its task's future would be held there three times over (1.1 KB a connection).
    actix_rt::spawn(run(Box::pin(Pump { read, decoder, connection, actor }), early));
}

/// The reading side of a TLS connection.
struct Unsealed(Rc<TlsSocket>);

impl AsyncRead for Unsealed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer)
    }
}

async fn run<R, S>(mut pump: Pin<Box<Pump<R, S>>>, mut early: Vec<u8>)
where
    R: AsyncRead + Unpin,
    S: Stream<Item = Result<Bytes, actix_web::Error>>,
{
    if !early.is_empty() {
        let this = pump.as_mut().project();
        decode(this.decoder, &this.connection.core, &mut early);
    }
    drop(early);
    std::future::poll_fn(|context| pump.as_mut().poll_running(context)).await;
    let this = pump.as_mut().project();
    this.connection.hub.ended(&this.connection.core);
    // Boxed, since an idle connection should not hold room for its own funeral.
    Box::pin(farewell(this.read, this.connection)).await;
}

/// What must be given back when the connection ends.
struct Connection {
    core: Rc<SessionCore>,
    hub: Rc<Hub>,
    #[allow(dead_code, reason = "held for its drop")]
    ticket: Ticket,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.ended(&self.core);
    }
}

pin_project! {
    struct Pump<R, S> {
        read: R,
        decoder: Decoder,
        connection: Connection,
        #[pin]
        actor: S,
    }
}

impl<R: AsyncRead + Unpin, S: Stream<Item = Result<Bytes, actix_web::Error>>> Pump<R, S> {
    /// Ready when the connection is to end.
    fn poll_running(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Connection { core, hub, .. } = this.connection;
        core.outbox.remember(context.waker());
        for _ in 0..READS {
            let mut read = false;
            let asked = core.may_read();
            if asked {
                match poll_read(this.read, context, |bytes| decode(this.decoder, core, bytes)) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(count)) => {
                        hub.context().metrics.inbound_bytes.inc_by(count as u64);
                        read = true;
                    }
                    Poll::Pending => {}
                }
            }
            core.outbox.cork();
            poll_actor(this.actor.as_mut(), core, hub, context);
            let _ = core.outbox.poll_flush(context);
            hub.settled(core);
            if core.outbox.is_finished() {
                return Poll::Ready(());
            }
            // Where nothing was asked of the socket, it wakes nobody: go on if the session may read by now.
            if !read && (asked || !core.may_read()) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Lets the actor handle what there is. A panic costs this session only.
fn poll_actor<S: Stream<Item = Result<Bytes, actix_web::Error>>>(
    mut actor: Pin<&mut S>,
    core: &Rc<SessionCore>,
    hub: &Rc<Hub>,
    context: &mut Context<'_>,
) {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        loop {
            match actor.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => hub.push(core, bytes),
                Poll::Ready(Some(Err(_)) | None) => return core.close(Closing::GOODBYE),
                Poll::Pending => return,
            }
        }
    }));
    if polled.is_err() {
        hub.context().metrics.panics.inc();
        core.close(Closing::FAULT);
    }
}

fn decode(decoder: &mut Decoder, core: &Rc<SessionCore>, bytes: &mut [u8]) {
    let mut inbox = core.inbox.borrow_mut();
    let fed = decoder.feed(bytes, |message: Message| inbox.push_back(message));
    drop(inbox);
    if let Err(closing) = fed {
        core.close(closing);
    }
}

/// One read into the thread's buffer; `take` gets the bytes. 0: the client's side is closed.
fn poll_read(
    socket: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    take: impl FnOnce(&mut [u8]),
) -> Poll<io::Result<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(socket).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = buffer.filled_mut();
                let count = bytes.len();
                take(bytes);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
}

/// The end of a connection: what waits leaves, then both sides close.
async fn farewell(read: &mut (impl AsyncRead + Unpin), connection: &Connection) {
    let outbox = &connection.core.outbox;
    if !outbox.is_finished() || outbox.is_broken() {
        return;
    }
    outbox.squeeze();
    let flushed = std::future::poll_fn(|context| outbox.poll_flush(context));
    if tokio::time::timeout(FLUSH_WITHIN, flushed).await.is_ok() && !outbox.is_broken() {
        outbox.shutdown();
        let _ = tokio::time::timeout(CLOSE_WITHIN, discard(read)).await;
    }
}

/// Reads until the client has closed its side.
pub async fn discard(socket: &mut (impl AsyncRead + Unpin)) {
    std::future::poll_fn(|context| {
        loop {
            match poll_read(socket, context, |_| ()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
