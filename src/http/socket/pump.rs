//! One connection's task: moves messages from where they come ([`Intake`]) to the session actor, and what waits in the
//! outbox to the socket.
//!
//! One small future polls three things: the intake (sockets are read into a buffer that the thread's connections share), the
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
use crate::actors::frame::{Closing, Framing, Wire};
use crate::actors::hub::Hub;
use crate::actors::hub::streams::Stream as Posted;
use crate::actors::session::Session;
use crate::actors::session::core::SessionCore;
use crate::actors::sink::{Sink, TlsSocket};
use crate::auth::Identity;
use crate::http::stream::Socket;
use crate::protocol::Encoding;

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

/// Where a connection's messages come from; one kind of pump for each, so that a WebSocket does not ask which it is.
trait Intake {
    type Socket: AsyncRead + Unpin;

    /// Moves what there is into the session's inbox and gives its bytes; 0: the client's side is closed.
    fn poll_take(&mut self, core: &Rc<SessionCore>, context: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// To be read to the client's end when the connection ends.
    fn socket(&mut self) -> &mut Self::Socket;
}

/// A WebSocket's frames.
struct Frames<R> {
    read: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Intake for Frames<R> {
    type Socket = R;

    fn poll_take(&mut self, core: &Rc<SessionCore>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_read(&mut self.read, context, |bytes| decode(&mut self.decoder, core, bytes))
    }

    fn socket(&mut self) -> &mut R {
        &mut self.read
    }
}

/// What is posted to a stream. Of its socket only the end matters; the client has nothing more to say there.
struct Posts<R> {
    read: R,
    stream: Rc<Posted>,
}

impl<R: AsyncRead + Unpin> Intake for Posts<R> {
    type Socket = R;

    fn poll_take(&mut self, core: &Rc<SessionCore>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.stream.take(core) {
            // An empty post is no end.
            Some(bytes) => Poll::Ready(Ok(bytes.max(1))),
            None => poll_read(&mut self.read, context, |_| ()),
        }
    }

    fn socket(&mut self) -> &mut R {
        &mut self.read
    }
}

/// Starts the task of a stream, whose answer's head has left.
pub fn spawn_stream(hub: &Rc<Hub>, socket: Socket, identity: Option<Identity>, ticket: Ticket) {
    let wire = Wire { encoding: Encoding::Json, framing: Framing::Events };
    match socket {
        Socket::Tcp(socket) => {
            let (read, write) = socket.into_split();
            start_stream(hub, read, hub.open(wire, write, identity), ticket);
        }
        Socket::Tls(stream) => {
            let (tcp, session) = stream.into_inner();
            let socket = Rc::new(TlsSocket::new(tcp, session));
            start_stream(hub, Unsealed(Rc::clone(&socket)), hub.open(wire, socket, identity), ticket);
        }
    }
}

fn start_stream<R: AsyncRead + Unpin + 'static>(hub: &Rc<Hub>, read: R, core: Rc<SessionCore>, ticket: Ticket) {
    let stream = hub.open_stream(&core);
    run_pump(hub, Posts { read, stream }, core, ticket);
}

/// Starts the task of a WebSocket. `early`: bytes that came behind the request to upgrade.
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
    mut early: Vec<u8>,
) {
    let core = hub.open(wire, write, identity);
    let mut decoder = Decoder::new(hub.bounds().frame_bytes, wire.framing == Framing::Deflate);
    if !early.is_empty() {
        decode(&mut decoder, &core, &mut early);
    }
    run_pump(hub, Frames { read, decoder }, core, ticket);
}

fn run_pump<I: Intake + 'static>(hub: &Rc<Hub>, intake: I, core: Rc<SessionCore>, ticket: Ticket) {
    let connection = Connection { core: Rc::clone(&core), hub: Rc::clone(hub), ticket };
    let actor = Session::start(core, Rc::clone(hub));
    // Boxed: a pump that is moved into its task's future would be held there three times over (1.1 KB a connection).
    actix_rt::spawn(run(Box::pin(Pump { intake, connection, actor })));
}

/// The reading side of a TLS connection.
struct Unsealed(Rc<TlsSocket>);

impl AsyncRead for Unsealed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer)
    }
}

async fn run<I: Intake, S: Stream<Item = Result<Bytes, actix_web::Error>>>(mut pump: Pin<Box<Pump<I, S>>>) {
    std::future::poll_fn(|context| pump.as_mut().poll_running(context)).await;
    let this = pump.as_mut().project();
    this.connection.hub.ended(&this.connection.core);
    // Boxed, since an idle connection should not hold room for its own funeral.
    Box::pin(farewell(this.intake.socket(), this.connection)).await;
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
    struct Pump<I, S> {
        intake: I,
        connection: Connection,
        #[pin]
        actor: S,
    }
}

impl<I: Intake, S: Stream<Item = Result<Bytes, actix_web::Error>>> Pump<I, S> {
    /// Ready when the connection is to end.
    fn poll_running(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Connection { core, hub, .. } = this.connection;
        core.outbox.remember(context.waker());
        for _ in 0..READS {
            let mut read = false;
            let asked = core.may_read();
            if asked {
                match this.intake.poll_take(core, context) {
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
