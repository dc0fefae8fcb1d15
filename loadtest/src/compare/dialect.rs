//! How a peer is spoken to: what a client asks for at the upgrade, what it says until it is in its room, how it
//! publishes, and what it reads in the frames it gets. A dialect keeps nothing; where a connection is in its steps is
//! kept by whoever drives it, so that one engine measures every peer in the same way.

use std::net::SocketAddr;

use crate::net::fleet::Door;

/// One connection. It reads one room, and may publish to it.
#[derive(Clone, Debug)]
pub struct Person {
    /// Its place among all, which is also its connection in the fleet.
    pub number: usize,
    pub room: String,
    pub server: SocketAddr,
}

/// How entering goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Say what belongs to this step and wait for its answer.
    Next(u8),
    /// Nothing new; the step goes on.
    Stay,
    /// Say what the step says again, after so many milliseconds.
    Again(u64),
    /// Say this (an answer to a keepalive); the step goes on.
    Say(&'static [u8]),
    /// It reads its room now.
    In,
}

/// What a frame said to someone who is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message of the room. `seq` where the peer numbers them, `stored` where the frame itself says that it is.
    Message { text: &'a [u8], seq: Option<u64>, stored: bool },
    /// A message of one's own was taken: which, where the peer says it (else the oldest that waits), and at what `seq`.
    Ack { number: Option<u64>, seq: Option<u64> },
    /// A message of one's own was not taken; it may be repeated after so many milliseconds, or never.
    Refused { number: Option<u64>, again_ms: Option<u64> },
    /// A keepalive that wants this answer.
    Answer(&'static [u8]),
}

/// What tells a sender that its message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredSign {
    /// An answer, [`Heard::Ack`].
    Ack,
    /// One's own message coming back with [`Heard::Message`]'s `stored`.
    Echo,
    /// Nothing does: the peer does not store, or does not say when.
    None,
}

/// A peer's language. Frames that make no sense are errors in words, never panics.
pub trait Dialect {
    fn door(&self, person: &Person) -> Door;

    /// What follows when the WebSocket is open: [`Step::Next`] or [`Step::In`].
    fn first(&self) -> Step {
        Step::Next(0)
    }

    /// Appends what `person` says at `step`; nothing where the peer speaks first.
    fn ask(&self, person: &Person, step: u8, out: &mut Vec<u8>);

    /// What `frame` means to someone at `step`.
    fn entering(&self, step: u8, frame: &[u8]) -> Result<Step, String>;

    /// Appends the frame that publishes `text`, whose number among the sender's is `number`.
    fn publish(&self, person: &Person, number: u64, text: &[u8], out: &mut Vec<u8>);

    /// What `frame` says to someone who is in; nothing of it that doesn't matter to a measurement.
    fn hear(&self, frame: &[u8], visit: &mut dyn FnMut(Heard)) -> Result<(), String>;

    fn stored_sign(&self) -> StoredSign {
        StoredSign::None
    }
}

/// `frame` in an error: its beginning, readable.
pub fn odd(frame: &[u8]) -> String {
    format!("unexpected {}", String::from_utf8_lossy(&frame[..frame.len().min(300)]))
}
