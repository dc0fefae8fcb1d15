//! What one connection still has to be sent: whole WebSocket frames, shared with everyone else who gets them.
//!
//! Thread-local, no buffer while idle. Frames are pushed without IO and written by [`Outbox::flush`] at the end of a turn,
//! everything that waits in one vectored write. When the socket takes no more, the connection's pump is woken and goes
//! on once the socket can be written.
//!
//! Invariants: frames leave whole and in order; [`Outbox::waiting_bytes`] is exact. Bounds: whoever pushes log entries
//! asks [`Outbox::is_over`] first, so at most the budget and one frame wait; hints are dropped above an eighth of the
//! budget; answers are bounded by the session's inflight window.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use super::sink::Sink;

/// Frames in one vectored write.
const SLICES: usize = 64;

/// Frames the queue keeps room for while idle.
const IDLE_CAPACITY: usize = 4;

/// Bytes the kernel may hold for a connection that is being closed, so that its close frame still gets in.
const LAST_SEND_BUFFER_BYTES: usize = 1024 * 1024;

thread_local! {
    /// Writes and bytes of this thread since they were last taken.
    static WRITTEN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Socket writes and bytes of this thread since the last call, for the metrics.
pub fn take_written() -> (u64, u64) {
    WRITTEN.take()
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits.
    Empty,
    /// The socket takes no more now; the pump was woken to wait for it.
    Waiting,
    /// The connection is broken; nothing more is taken.
    Broken,
}

pub struct Outbox {
    socket: Sink,
    queue: RefCell<VecDeque<Bytes>>,
    waiting_bytes: Cell<usize>,
    /// Over this many bytes the session's cursors pause.
    budget: usize,
    /// Of the front frame, a part has been written.
    begun: Cell<bool>,
    /// Went over the budget and has not come down to half of it since.
    over: Cell<bool>,
    /// The socket took no more at the last write.
    blocked: Cell<bool>,
    /// Noted in the hub's list of outboxes to flush at the end of its turn.
    noted: Cell<bool>,
    /// No more frames are taken: closing or broken.
    finished: Cell<bool>,
    broken: Cell<bool>,
    /// Code of the close frame that was the last one; 0: none.
    close_code: Cell<u16>,
    /// Bytes have been taken since the flag was last read by [`Outbox::took_progress`].
    progress: Cell<bool>,
    pump: RefCell<Option<Waker>>,
}

impl Outbox {
    /// `budget`: `limits.outbound_bytes`.
    pub fn new(socket: impl Into<Sink>, budget: usize) -> Self {
        Self {
            socket: socket.into(),
            queue: RefCell::new(VecDeque::new()),
            waiting_bytes: Cell::new(0),
            budget,
            begun: Cell::new(false),
            over: Cell::new(false),
            blocked: Cell::new(false),
            noted: Cell::new(false),
            finished: Cell::new(false),
            broken: Cell::new(false),
            close_code: Cell::new(0),
            progress: Cell::new(false),
            pump: RefCell::new(None),
        }
    }

    /// Takes a frame; true when the caller must see to a flush (nobody else was told to).
    pub fn push(&self, frame: Bytes) -> bool {
        if self.finished.get() {
            return false;
        }
        self.enqueue(frame);
        !self.blocked.get() && !self.noted.replace(true)
    }

    /// Takes a frame that may be dropped: only while little waits. True as for [`Outbox::push`].
    pub fn push_hint(&self, frame: Bytes) -> bool {
        self.waiting_bytes.get() <= self.budget / 8 && self.push(frame)
    }

    /// Takes `last`, a close frame with this code (0: none), as the last one. With `at_once`, everything that waits and has
    /// not begun to leave is dropped first.
    pub fn finish(&self, last: Bytes, code: u16, at_once: bool) {
        if self.finished.get() {
            return;
        }
        self.close_code.set(code);
        if at_once {
            let mut queue = self.queue.borrow_mut();
            queue.truncate(usize::from(self.begun.get()));
            self.waiting_bytes.set(queue.iter().map(Bytes::len).sum());
        }
        self.enqueue(last);
        self.finished.set(true);
        self.wake();
    }

    fn enqueue(&self, frame: Bytes) {
        let waiting_bytes = self.waiting_bytes.get() + frame.len();
        self.waiting_bytes.set(waiting_bytes);
        if waiting_bytes > self.budget {
            self.over.set(true);
        }
        self.queue.borrow_mut().push_back(frame);
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) -> Flushed {
        self.noted.set(false);
        let mut queue = self.queue.borrow_mut();
        if self.broken.get() {
            return Flushed::Broken;
        }
        loop {
            let written = if queue.is_empty() {
                match self.socket.try_flush() {
                    Ok(()) => break,
                    Err(error) => Err(error),
                }
            } else if queue.len() == 1 {
                self.socket.try_write(&queue[0])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = queue.len().min(SLICES);
                for (slice, frame) in slices.iter_mut().zip(queue.iter()) {
                    *slice = IoSlice::new(frame);
                }
                self.socket.try_write_vectored(&slices[..count])
            };
            match written {
                Ok(0) => return self.fail(&mut queue),
                Ok(bytes) => self.written(&mut queue, bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.blocked.replace(true) {
                        self.wake();
                    }
                    return Flushed::Waiting;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.fail(&mut queue),
            }
        }
        if queue.capacity() > IDLE_CAPACITY {
            *queue = VecDeque::new();
        }
        Flushed::Empty
    }

    fn written(&self, queue: &mut VecDeque<Bytes>, mut bytes: usize) {
        WRITTEN.with(|written| {
            let (writes, total) = written.get();
            written.set((writes + 1, total + bytes as u64));
        });
        self.progress.set(true);
        let waiting_bytes = self.waiting_bytes.get() - bytes;
        self.waiting_bytes.set(waiting_bytes);
        while let Some(front) = queue.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                self.begun.set(self.begun.get() || bytes > 0);
                return;
            }
            bytes -= front.len();
            queue.pop_front();
            self.begun.set(false);
        }
    }

    fn fail(&self, queue: &mut VecDeque<Bytes>) -> Flushed {
        *queue = VecDeque::new();
        self.waiting_bytes.set(0);
        self.finished.set(true);
        self.broken.set(true);
        self.wake();
        Flushed::Broken
    }

    /// For the pump: writes on whenever the socket can take more. Ready when nothing waits or the connection broke.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Flushed> {
        loop {
            if self.blocked.get() {
                match self.socket.tcp().poll_write_ready(context) {
                    Poll::Pending => return Poll::Pending,
                    // An error shows in the write.
                    Poll::Ready(_) => self.blocked.set(false),
                }
            }
            match self.flush() {
                Flushed::Waiting => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// For a connection that is being closed: lets the kernel take what its reader did not, so that a reader that comes back
    /// finds the close frame at the end.
    pub fn squeeze(&self) {
        if self.flush() != Flushed::Waiting {
            return;
        }
        let _ = socket2::SockRef::from(self.socket.tcp()).set_send_buffer_size(LAST_SEND_BUFFER_BYTES);
        let mut queue = self.queue.borrow_mut();
        while let Some(front) = queue.front() {
            match self.socket.send_past_tokio(front) {
                Ok(bytes) if bytes > 0 => self.written(&mut queue, bytes),
                _ => break,
            }
        }
    }

    /// Remembers whom [`Outbox::wake`] wakes.
    pub fn remember(&self, pump: &Waker) {
        let mut known = self.pump.borrow_mut();
        match &*known {
            Some(waker) if waker.will_wake(pump) => {}
            _ => *known = Some(pump.clone()),
        }
    }

    /// Wakes the connection's pump.
    pub fn wake(&self) {
        if let Some(waker) = &*self.pump.borrow() {
            waker.wake_by_ref();
        }
    }

    /// For the pump, which flushes at the end of its own turn: pushes don't ask for a flush until then.
    pub fn cork(&self) {
        self.noted.set(true);
    }

    /// Too much waits: cursors pause and no request is read. Holds until half of the budget is left.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Clears the mark of [`Outbox::is_over`] once little enough waits; true when that was now.
    pub fn came_down(&self) -> bool {
        self.over.get() && self.waiting_bytes.get() <= self.budget / 2 && self.over.replace(false)
    }

    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.get()
    }

    /// Takes no more frames.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// The code of the close frame that was sent or waits; `None`: none yet, or one without a code.
    pub fn close_code(&self) -> Option<u16> {
        Some(self.close_code.get()).filter(|&code| code != 0)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether the reader took bytes since the last call (or nothing waits).
    pub fn took_progress(&self) -> bool {
        self.progress.replace(false) || self.waiting_bytes.get() == 0
    }

    /// Tells the client that nothing more comes.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair(budget: usize) -> (Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let there = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a listener");
        let (here, _) = listener.accept().await.expect("a connection");
        socket2::SockRef::from(&here).set_send_buffer_size(16 * 1024).expect("a size");
        let (_, write) = here.into_split();
        (Outbox::new(write, budget), there)
    }

    #[tokio::test]
    async fn frames_leave_in_order_in_one_turn() {
        let (outbox, mut there) = pair(1_000).await;
        assert!(outbox.push(Bytes::from_static(b"one ")), "the first asks for a flush");
        assert!(!outbox.push(Bytes::from_static(b"two ")), "the second rides along");
        assert!(!outbox.push_hint(Bytes::from_static(b"three")));
        assert_eq!(outbox.waiting_bytes(), 13);
        assert_eq!(outbox.flush(), Flushed::Empty);
        assert_eq!(outbox.waiting_bytes(), 0);
        let mut got = [0; 13];
        there.read_exact(&mut got).await.expect("bytes");
        assert_eq!(&got, b"one two three");
    }

    #[tokio::test]
    async fn a_slow_reader_is_counted_to_the_byte_and_comes_down() {
        let budget = 256 * 1024;
        let (outbox, mut there) = pair(budget).await;
        let mut sent = Vec::new();
        let mut n = 0u32;
        while !outbox.is_over() {
            let frame = Bytes::from(n.to_be_bytes().repeat(4_096));
            sent.extend_from_slice(&frame);
            outbox.push(frame);
            outbox.flush();
            n += 1;
        }
        assert!(outbox.waiting_bytes() > budget && outbox.waiting_bytes() <= budget + 16_384);
        assert!(!outbox.push_hint(Bytes::from_static(b"hint")) && outbox.took_progress());
        assert!(!outbox.took_progress(), "nobody reads");
        assert!(!outbox.came_down());
        let reading = async {
            let mut got = vec![0; sent.len()];
            there.read_exact(&mut got).await.expect("bytes");
            got
        };
        let writing = std::future::poll_fn(|context| outbox.poll_flush(context));
        let (got, flushed) = tokio::join!(reading, writing);
        assert_eq!(flushed, Flushed::Empty);
        assert!(got == sent, "every byte arrived, once and in order");
        assert!(outbox.came_down() && !outbox.is_over());
    }

    #[tokio::test]
    async fn a_close_at_once_drops_what_has_not_begun() {
        let (outbox, mut there) = pair(1 << 20).await;
        let big = Bytes::from(vec![7; 8 << 20]);
        outbox.push(big.clone());
        outbox.push(Bytes::from_static(b"never"));
        assert_eq!(outbox.flush(), Flushed::Waiting);
        outbox.finish(Bytes::from_static(b"bye"), 4201, true);
        assert!(!outbox.push(Bytes::from_static(b"after")));
        let reading = async {
            let mut got = vec![0; big.len() + 3];
            there.read_exact(&mut got).await.expect("bytes");
            got
        };
        let (got, _) = tokio::join!(reading, std::future::poll_fn(|context| outbox.poll_flush(context)));
        assert_eq!(&got[big.len()..], b"bye");
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn a_broken_connection_takes_nothing_more() {
        let (outbox, there) = pair(1_000).await;
        drop(there);
        loop {
            outbox.push(Bytes::from_static(b"x"));
            match std::future::poll_fn(|context| outbox.poll_flush(context)).await {
                Flushed::Broken => break,
                _ => tokio::task::yield_now().await,
            }
        }
        assert!(outbox.is_broken() && !outbox.push(Bytes::from_static(b"x")) && outbox.waiting_bytes() == 0);
    }
}
