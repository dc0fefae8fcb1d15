//! A client's connection as the HTTP service sees it: plain or TLS, and guarded.
//!
//! Invariant: the first answer on a connection bears the security headers even where actix-http made it by itself (400 to
//! what it can't parse, 408 to a head that does not come, 431 to one that is too large): such an answer has no other
//! headers than its own three, and is given ours on its way out. After the first bytes nothing is looked at: behind them
//! may be a body, which must leave as it is.
//!
//! A client that takes no byte of its answer for a while is cut off: what the answer holds (a download's place among the
//! few there are, an export's) is not its to keep.
//!
//! A connection can be taken over from actix-http ([`Takeover`]), which then sees one that has ended.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::security;

/// A client's connection.
pub enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

/// A connection whose first answer is looked at.
pub struct Guarded {
    held: Rc<RefCell<Held>>,
    hsts: bool,
    answered: bool,
    /// The first answer with our headers in it, and how many of its bytes have left; `None` most of the time.
    made: Option<Box<Made>>,
    /// How long it may take nothing while something waits.
    patience: Duration,
    /// Runs while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

struct Made {
    bytes: Vec<u8>,
    left: usize,
    /// Bytes of actix-http's own answer that these stand for.
    stands_for: usize,
}

impl Guarded {
    pub fn new(socket: Socket, hsts: bool, patience: Duration) -> Self {
        let held = Rc::new(RefCell::new(Held { socket: Some(socket), wanted: Wanted::No }));
        Self { held, hsts, answered: false, made: None, patience, stalled: None }
    }

    /// What became of writing; an error where nothing was taken for too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The connection itself, for what is no HTTP any more; `None` where it was taken over.
    pub fn into_socket(self) -> Option<Socket> {
        self.held.borrow_mut().socket.take()
    }

    /// The way to take it over while it is actix-http's.
    pub fn takeover(&self) -> Takeover {
        Takeover(Rc::clone(&self.held))
    }
}

struct Held {
    /// `None` once it was taken over: whatever is written then is dropped, and the client seems to be gone.
    socket: Option<Socket>,
    wanted: Wanted,
}

/// Whether somebody wants to take the connection over.
enum Wanted {
    No,
    /// As soon as what was written so far has left.
    Yes(Waker),
    /// It has left.
    Now,
}

/// Takes a connection over in the midst of an answer: its head leaves as actix-http wrote it, with all that middleware
/// added, and the body is written by whoever took over.
#[derive(Clone)]
pub struct Takeover(Rc<RefCell<Held>>);

impl Takeover {
    /// For the body of the answer, when it is first polled: by then the head was written, though it may not have left.
    /// `None` where the connection is another's already.
    pub fn poll_socket(&self, context: &mut Context<'_>) -> Poll<Option<Socket>> {
        let mut held = self.0.borrow_mut();
        match held.wanted {
            Wanted::Now => Poll::Ready(held.socket.take()),
            Wanted::No | Wanted::Yes(_) => {
                held.wanted = Wanted::Yes(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// `first` with the security headers, where it is an answer that actix-http made by itself.
fn with_headers(first: &[u8], hsts: bool) -> Option<Box<Made>> {
    let text = std::str::from_utf8(first).ok()?;
    let head = text.strip_prefix("HTTP/1.1 ")?.strip_suffix("\r\n\r\n")?;
    let (status, fields) = head.split_once("\r\n")?;
    let of_actix = ["400", "408", "431", "500"].iter().any(|code| status.starts_with(code));
    let bare = fields.split("\r\n").all(|field| {
        let name = field.split(':').next().unwrap_or_default();
        ["content-length", "connection", "date"].iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    if !of_actix || !bare {
        return None;
    }
    let bytes = format!("HTTP/1.1 {head}\r\n{}\r\n", security::lines(hsts)).into_bytes();
    Some(Box::new(Made { bytes, left: 0, stands_for: first.len() }))
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.held.borrow_mut().socket {
            Some(socket) => Pin::new(socket).poll_read(context, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = {
            let mut held = this.held.borrow_mut();
            let Some(socket) = &mut held.socket else { return Poll::Ready(Ok(bytes.len())) };
            if !std::mem::replace(&mut this.answered, true) {
                this.made = with_headers(bytes, this.hsts);
            }
            if let Some(made) = &mut this.made {
                while made.left < made.bytes.len() {
                    match ready!(Pin::new(&mut *socket).poll_write(context, &made.bytes[made.left..]))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => made.left += written,
                    }
                }
                let stood_for = made.stands_for;
                this.made = None;
                return Poll::Ready(Ok(stood_for));
            }
            Pin::new(socket).poll_write(context, bytes)
        };
        this.watched(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.held.borrow_mut().socket {
            Some(socket) => Pin::new(socket).poll_flush(context),
            None => return Poll::Ready(Ok(())),
        };
        ready!(this.watched(context, flushed))?;
        let mut held = this.held.borrow_mut();
        if matches!(held.wanted, Wanted::Yes(_))
            && let Wanted::Yes(waker) = std::mem::replace(&mut held.wanted, Wanted::Now)
        {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.held.borrow_mut().socket {
            Some(socket) => Pin::new(socket).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_cut_off_and_who_is_slow_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, server) = (client.expect("connected"), server.expect("accepted").0);
        let mut guarded = Guarded::new(Socket::Tcp(server), false, Duration::from_millis(500));
        let slow = tokio::spawn(async move {
            // Three times as long as it may take nothing.
            let mut taken = vec![0; 1 << 20];
            for _ in 0..15 {
                sleep(Duration::from_millis(100)).await;
                client.read_exact(&mut taken).await.expect("bytes");
            }
            client
        });
        let written = timeout(Duration::from_secs(20), async {
            let chunk = vec![0; 1 << 16];
            for n in 1_u64.. {
                if let Err(error) = guarded.write_all(&chunk).await {
                    return (n, error.kind());
                }
            }
            unreachable!("it ends with an error");
        });
        let (chunks, kind) = written.await.expect("cut off");
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(chunks > 15 * 16, "all that was taken came before: {chunks}");
        drop(slow.await.expect("no panic"));
    }

    #[test]
    fn only_an_answer_without_headers_of_ours_is_given_them() {
        let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: x\r\n\r\n";
        let made = with_headers(bare.as_bytes(), true).expect("an answer of actix-http");
        let text = String::from_utf8(made.bytes).expect("text");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n") && text.ends_with("\r\n\r\n"));
        assert!(text.contains("\r\nx-content-type-options: nosniff\r\n") && text.contains("\r\nstrict-transport"));
        assert_eq!(text.matches("\r\n\r\n").count(), 1, "{text}");
        assert_eq!(made.stands_for, bare.len());
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-content-type-options: nosniff\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            "",
        ] {
            assert!(with_headers(other.as_bytes(), false).is_none(), "{other}");
        }
    }
}
