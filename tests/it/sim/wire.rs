//! What passes between the parts of a simulated world: the actors' messages, without what only a real runtime needs.

use std::rc::Rc;

use roundtable::actors::envelope::PeerMessage;
use roundtable::domain::append::{AppendItem, Outcome};
use roundtable::domain::command::{Caller, Command, Reply};
use roundtable::domain::cursor::{Verdict, Wish};
use roundtable::entry::Entry;
use roundtable::ids::{Epoch, NodeId, Seq, UserId};
use roundtable::refusal::Refusal;

use super::store::Opened;

/// Milliseconds since the world began.
pub type Time = u64;
/// A node's place in the list of all that ever ran.
pub type NodeIx = usize;
pub type RoomIx = usize;
pub type ClientIx = usize;
/// A connection, never used twice.
pub type Conn = u64;
pub type Answered = Result<Reply, Refusal>;
pub type Run = Rc<[Rc<Entry>]>;

/// Between a mirror and an owner: the real messages; commits hold shared entries so as not to encode them.
#[derive(Clone, Debug)]
pub enum Wire {
    Peer(PeerMessage),
    Commit { first: Seq, entries: Vec<Rc<Entry>> },
}

/// `actors::messages::ToHub`, of one room.
#[derive(Clone, Debug)]
pub enum ToHub {
    Answers(Vec<(Conn, u32, Answered)>),
    Deliver(Run),
    Advance(Seq),
    Fetched { after: Seq, entries: Option<Vec<Rc<Entry>>>, head: Seq },
    Evict(Option<UserId>),
}

/// `actors::messages::ToRoom`.
#[derive(Clone, Debug)]
pub enum ToRoom {
    Ask { session: Conn, corr: u32, caller: Caller, command: Command },
    Fetch { after: Seq },
    Unsubscribed { user: UserId },
    Behind { head: Seq },
}

/// `actors::messages::RoomControl`, as far as the world makes use of it.
#[derive(Clone, Debug)]
pub enum Control {
    Owner(Option<NodeId>),
    Release,
    NodeLost(NodeId),
    LinkBroken(Option<NodeId>),
    Peer { from: NodeId, message: Wire },
}

/// A room's `run_later`s.
#[derive(Clone, Copy, Debug)]
pub enum Timer {
    WatchAgain,
    Sweep,
    Reopen,
}

/// What a room wants done.
#[derive(Debug)]
pub enum Out {
    Hub(ToHub),
    Tell(NodeId, Wire),
    Append { epoch: Epoch, items: Vec<AppendItem> },
    Open,
    Page { after: Seq },
    Fenced,
    Timer(Time, Timer),
}

/// The store's word to a room; `Err`: unknown.
#[derive(Debug)]
pub enum FromStore {
    Opened(Result<Opened, ()>),
    /// `None`: fenced.
    Appended(Result<Option<Vec<Outcome>>, ()>),
    Page {
        after: Seq,
        entries: Result<Vec<Rc<Entry>>, ()>,
    },
}

/// From a client to its node, in order.
#[derive(Clone, Debug)]
pub enum Up {
    Open { caller: Caller },
    Ask { req: u64, room: RoomIx, command: Command },
    Subscribe { req: u64, room: RoomIx, wish: Wish },
    Unsubscribe { req: u64, room: RoomIx },
    Close,
}

/// From a node to a client, in order.
#[derive(Clone, Debug)]
pub enum Down {
    Answer { req: u64, result: Answered },
    Subscribed { req: u64, room: RoomIx, head: Seq, verdict: Verdict },
    Unsubscribed { req: u64 },
    Events { room: RoomIx, entries: Run },
    Evicted { room: RoomIx },
}
