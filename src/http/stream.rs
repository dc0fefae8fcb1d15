//! A client's connection as the HTTP service sees it: plain or TLS, and guarded.
//!
//! Invariant: the first answer on a connection bears the security headers even where actix-http made it by itself (400 to
//! what it can't parse, 408 to a head that does not come, 431 to one that is too large): such an answer has no other
//! headers than its own three, and is given ours on its way out. After the first bytes nothing is looked at: behind them
//! may be a body, which must leave as it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
    socket: Socket,
    hsts: bool,
    answered: bool,
    /// The first answer with our headers in it, and how many of its bytes have left; `None` most of the time.
    made: Option<Box<Made>>,
}

struct Made {
    bytes: Vec<u8>,
    left: usize,
    /// Bytes of actix-http's own answer that these stand for.
    stands_for: usize,
}

impl Guarded {
    pub fn new(socket: Socket, hsts: bool) -> Self {
        Self { socket, hsts, answered: false, made: None }
    }

    /// The connection itself, for what is no HTTP any more.
    pub fn into_socket(self) -> Socket {
        self.socket
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
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.answered, true) {
            this.made = with_headers(bytes, this.hsts);
        }
        if let Some(made) = &mut this.made {
            while made.left < made.bytes.len() {
                match ready!(Pin::new(&mut this.socket).poll_write(context, &made.bytes[made.left..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => made.left += written,
                }
            }
            let stood_for = made.stands_for;
            this.made = None;
            return Poll::Ready(Ok(stood_for));
        }
        Pin::new(&mut this.socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
