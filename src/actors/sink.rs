//! Where an outbox writes to: a TCP connection, or TLS over one.
//!
//! Invariants: a plain connection is the write half and nothing else, as large as it was without TLS beside it. A TLS
//! session takes no bytes while sealed ones still wait for the connection, so that what it holds back is bounded by one
//! write ([`SEALED_BYTES`]) and a reader that takes nothing is felt by the outbox.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// Bytes that a TLS session takes at once; what is sealed of them may wait for the connection.
pub const SEALED_BYTES: usize = 32 * 1024;
/// Reads of one poll that brought no byte of the client's, after which others have their turn.
const EMPTY_READS: usize = 16;

pub enum Sink {
    Tcp(OwnedWriteHalf),
    Tls(Rc<TlsSocket>),
}

impl From<OwnedWriteHalf> for Sink {
    fn from(half: OwnedWriteHalf) -> Self {
        Self::Tcp(half)
    }
}

impl From<Rc<TlsSocket>> for Sink {
    fn from(socket: Rc<TlsSocket>) -> Self {
        Self::Tls(socket)
    }
}

impl Sink {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(half) => half.as_ref(),
            Self::Tls(socket) => &socket.tcp,
        }
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Tls(socket) => socket.try_write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write_vectored(slices),
            Self::Tls(socket) => socket.try_write_vectored(slices),
        }
    }

    /// Writes what was sealed and could not leave.
    pub fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(socket) => socket.try_flush(),
        }
    }

    /// Writes to the kernel's buffer past tokio, which waits for an event that a larger buffer does not bring.
    pub fn send_past_tokio(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => SockRef::from(half.as_ref()).send(bytes),
            Self::Tls(socket) => socket.seal(&[IoSlice::new(bytes)], &mut PastTokio(&socket.tcp)),
        }
    }

    /// Says that nothing more comes.
    pub fn shutdown(&self) {
        if let Self::Tls(socket) = self {
            socket.session.borrow_mut().send_close_notify();
            let _ = socket.try_flush();
        }
        let _ = SockRef::from(self.tcp()).shutdown(Shutdown::Write);
    }
}

/// A TLS session after its handshake, read by the connection's pump and written by its outbox, on one thread.
pub struct TlsSocket {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
}

impl TlsSocket {
    pub fn new(tcp: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(SEALED_BYTES));
        Self { tcp, session: RefCell::new(session) }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.seal(slices, &mut Ready(&self.tcp))
    }

    fn try_flush(&self) -> io::Result<()> {
        drain(&mut self.session.borrow_mut(), &mut Ready(&self.tcp))
    }

    /// Takes bytes once all that was sealed before has left.
    fn seal(&self, slices: &[IoSlice<'_>], out: &mut impl Write) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        drain(&mut session, out)?;
        let taken = session.writer().write_vectored(slices)?;
        match drain(&mut session, out) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Nothing read: the client's side is closed.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        for _ in 0..EMPTY_READS {
            match session.reader().read(buffer.initialize_unfilled()) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                // Closed without a goodbye: a WebSocket says by its close frame whether it was at an end.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match session.read_tls(&mut Ready(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_read_ready(context))?;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let read = session.process_new_packets();
            // An alert, or the answer to a change of keys; what can't leave now does with the next write.
            let _ = drain(&mut session, &mut Ready(&self.tcp));
            if let Err(error) = read {
                return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn drain(session: &mut ServerConnection, out: &mut impl Write) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(out) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The connection as far as it is ready.
struct Ready<'a>(&'a TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PastTokio<'a>(&'a TcpStream);

impl Write for PastTokio<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::actors::outbox::{Flushed, Outbox};

    /// Both ends of a connection after its handshake; the server's has little room in the kernel.
    async fn pair() -> (Rc<TlsSocket>, client::TlsStream<TcpStream>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(server.expect("a pair")));
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let there = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a listener");
        let (here, _) = listener.accept().await.expect("a connection");
        SockRef::from(&here).set_send_buffer_size(16 * 1024).expect("a size");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(client));
        let (here, there) = tokio::join!(acceptor.accept(here), connector.connect(name, there));
        let (tcp, session) = here.expect("a handshake").into_inner();
        (Rc::new(TlsSocket::new(tcp, session)), there.expect("a handshake"))
    }

    #[test]
    fn a_plain_sink_is_as_large_as_the_write_half_alone() {
        assert_eq!(size_of::<Sink>(), size_of::<OwnedWriteHalf>());
    }

    #[tokio::test]
    async fn what_is_flushed_has_left_to_the_last_sealed_byte() {
        let (socket, mut there) = pair().await;
        let outbox = Outbox::new(socket, 1 << 20);
        let sent: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
        for frame in sent.chunks(10_007) {
            outbox.push(Bytes::copy_from_slice(frame));
        }
        assert_eq!(outbox.flush(), Flushed::Waiting, "nobody reads");
        let waited = outbox.waiting_bytes();
        assert_eq!(outbox.flush(), Flushed::Waiting);
        assert_eq!(outbox.waiting_bytes(), waited, "no more is taken while sealed bytes wait");
        let reading = async {
            let mut got = vec![0; sent.len()];
            there.read_exact(&mut got).await.expect("bytes");
            got
        };
        let writing = async {
            let flushed = std::future::poll_fn(|context| outbox.poll_flush(context)).await;
            outbox.shutdown();
            flushed
        };
        let both = async { tokio::join!(reading, writing) };
        let (got, flushed) = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("in time");
        assert_eq!(flushed, Flushed::Empty);
        assert!(got == sent, "every byte arrived, once and in order");
        assert_eq!(there.read(&mut [0]).await.expect("a proper goodbye"), 0);
    }

    #[tokio::test]
    async fn what_the_client_writes_is_read_to_its_end() {
        let (socket, mut there) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let writing = async {
            there.write_all(&sent).await.expect("taken");
            there.shutdown().await.expect("taken");
        };
        let reading = async {
            let mut got = Vec::new();
            let mut room = vec![0; 64 * 1024];
            loop {
                let mut buffer = ReadBuf::new(&mut room);
                std::future::poll_fn(|context| socket.poll_read(context, &mut buffer)).await.expect("bytes");
                if buffer.filled().is_empty() {
                    return got;
                }
                got.extend_from_slice(buffer.filled());
            }
        };
        let (got, ()) = tokio::join!(reading, writing);
        assert!(got == sent, "every byte arrived, once and in order");
    }
}
