//! What the clients of a world asked, were told and saw, in the order of time: all that the invariants may look at,
//! besides the store and how the world ended.

use std::collections::BTreeMap;
use std::rc::Rc;

use roundtable::domain::command::Command;
use roundtable::domain::cursor::{Verdict, Wish};
use roundtable::entry::Entry;
use roundtable::ids::{Seq, UserId};

use super::store::Log;
use super::wire::{Answered, ClientIx, Conn, RoomIx, Time};

/// A request as a client sent it; a repeat is another request with the same `ask`.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Time,
    pub client: ClientIx,
    pub conn: Conn,
    pub room: RoomIx,
    pub ask: u64,
    pub command: Command,
}

#[derive(Clone, Debug)]
pub enum Fact {
    /// `log_head`: how far the store's log went when the client heard it.
    Answered {
        req: u64,
        result: Answered,
        log_head: Seq,
    },
    /// A subscription starts, in place of the one before in this room and connection.
    Subscribed {
        client: ClientIx,
        conn: Conn,
        room: RoomIx,
        wish: Wish,
        head: Seq,
        verdict: Verdict,
        log_head: Seq,
    },
    Saw {
        client: ClientIx,
        conn: Conn,
        room: RoomIx,
        entry: Rc<Entry>,
        log_head: Seq,
    },
    /// The subscription is over: asked for and confirmed.
    Unsubscribed {
        conn: Conn,
        room: RoomIx,
    },
}

/// All of a world that the invariants are checked against.
#[derive(Default)]
pub struct History {
    pub users: Vec<UserId>,
    pub requests: BTreeMap<u64, Request>,
    pub facts: Vec<(Time, Fact)>,
    pub logs: Vec<Log>,
    /// What had not come to an end when it had to, in words.
    pub unfinished: Vec<String>,
    /// The most requests a room held, and the most frames that waited for a client.
    pub most_requests: usize,
    pub longest_outbox: usize,
    /// Of all that happened; the same for the same seed.
    pub digest: u64,
    /// All that happened, where it was asked for.
    pub trace: Vec<String>,
}
