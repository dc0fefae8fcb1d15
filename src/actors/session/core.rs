//! What the hub and the session actor of one connection share: its outbox, who it is, its requests in flight and where
//! its cursors are. Thread-local.
//!
//! Invariants: small while idle (collections give their memory back); a request stands in `pending` until it is
//! answered, exactly once; a subscription that a room admitted is balanced by one `Unsubscribed` or one `Evict`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use actix_http::ws::Message;

use crate::actors::frame::{self, Closing, Wire};
use crate::actors::messages::SessionKey;
use crate::actors::outbox::Outbox;
use crate::auth::Identity;
use crate::domain::command::Caller;
use crate::domain::cursor::Wish;
use crate::domain::scopes::Grant;
use crate::ids::{MessageId, Millis, RoomId, UserId};
use crate::ports::Range;
use crate::telemetry::traces::Span;

/// Tenths of a second since the hub's start.
pub type Tick = u32;

/// Ticks of a second.
pub const SECOND: Tick = 10;

pub struct SessionCore {
    pub key: SessionKey,
    pub wire: Wire,
    pub outbox: Outbox,
    /// Set by the hello.
    user: OnceCell<UserId>,
    /// The credentials of the moment are an administrator's; new ones may be less.
    admin: Cell<bool>,
    /// Whole frames that the actor has not handled yet.
    pub inbox: RefCell<VecDeque<Message>>,
    /// No frame is handled and none is read: a hello is being checked, or signals came too fast.
    held: Cell<bool>,
    /// The node drains: nothing more is read, answers are waited for.
    leaving: Cell<bool>,
    pub state: RefCell<SessionState>,
}

/// How far a connection has come.
#[derive(Debug)]
pub enum Phase {
    /// Waits for `hello`; with the upgrade's credentials where it had some.
    New(Option<Box<Identity>>),
    /// The token of `hello` is being checked.
    Checking,
    /// With what an access token is good for; `None`: everything.
    Open(Option<Box<Grant>>),
}

pub struct SessionState {
    pub phase: Phase,
    pub opened: Tick,
    /// Unix milliseconds.
    pub expires_at: Option<Millis>,
    pub expiry_noticed: bool,
    /// Hash of the session token, where it came by one.
    pub login: Option<Box<[u8; 32]>>,
    /// By room slot: where its reader stands in the room's list. Sorted.
    pub readers: Vec<(u32, u32)>,
    pub pending: Vec<Pending>,
    /// Requests that count against `limits.inflight`.
    pub inflight: u32,
    pub next_corr: u32,
    pub next_ping: Tick,
    pub pings_unanswered: u8,
    /// When bytes were last taken, or nothing waited.
    pub progress: Tick,
    /// Typing and read marks that may still pass within this second.
    pub signals_left: u8,
    pub pages: Option<Box<Pages>>,
}

/// Pages of history, read one after the other so that a session holds one at a time.
#[derive(Default)]
pub struct Pages {
    pub waiting: VecDeque<PageJob>,
    pub busy: bool,
}

pub struct PageJob {
    pub room: RoomId,
    pub reference: Option<u64>,
    pub range: Range,
    pub limit: u32,
}

/// A request that a room has not answered.
pub struct Pending {
    pub corr: u32,
    pub reference: Option<u64>,
    pub since: Instant,
    pub room: RoomId,
    pub kind: Asked,
}

/// What was asked, as far as the answer needs it.
pub enum Asked {
    Send {
        id: MessageId,
        /// Where it is traced.
        span: Option<Box<Span>>,
    },
    /// `edit`, `delete`, `react`.
    Change,
    Join,
    Leave,
    Subscribe {
        wish: Wish,
        /// The store was asked whether the place wished for is really past the head.
        verified: bool,
        /// `ref`s of `unsubscribe`s that came behind it.
        unsubscribes: Vec<Option<u64>>,
    },
    /// A subscription asked for again by the hub, since its room was lost.
    Readmit,
    /// Whether a subscription still holds with new credentials, which may be less than those it was made with.
    Recheck,
    /// A `subscribe` that was answered `unavailable`; if the room admits it after all, it is told that it is over.
    Forgotten,
    History {
        range: Range,
        limit: u32,
    },
}

impl Asked {
    /// Whether the client waits for the answer.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Readmit | Self::Recheck | Self::Forgotten)
    }
}

/// Signals a second of one session that pass at once.
pub const SIGNALS: u8 = 100;

impl SessionCore {
    pub fn new(
        key: SessionKey,
        wire: Wire,
        outbox: Outbox,
        identity: Option<Identity>,
        now: Tick,
        ping_in: Tick,
    ) -> Self {
        Self {
            key,
            wire,
            outbox,
            user: OnceCell::new(),
            admin: Cell::new(false),
            inbox: RefCell::new(VecDeque::new()),
            held: Cell::new(false),
            leaving: Cell::new(false),
            state: RefCell::new(SessionState {
                phase: Phase::New(identity.map(Box::new)),
                opened: now,
                expires_at: None,
                expiry_noticed: false,
                login: None,
                readers: Vec::new(),
                pending: Vec::new(),
                inflight: 0,
                next_corr: 0,
                next_ping: now + ping_in,
                pings_unanswered: 0,
                progress: now,
                signals_left: SIGNALS,
                pages: None,
            }),
        }
    }

    /// Who it is; `None` before the hello was accepted.
    pub fn user(&self) -> Option<&UserId> {
        self.user.get()
    }

    /// Who asks, as the credentials of the moment say.
    pub fn caller(&self) -> Option<Caller> {
        let user = self.user.get()?.clone();
        Some(Caller { user, admin: self.admin.get(), from: None })
    }

    /// Opens the session; the user never changes afterwards. Whether this was the first time.
    pub fn identified(&self, identity: &Identity) -> bool {
        let first = self.user.set(identity.user.id.clone()).is_ok();
        if first {
            self.renewed(identity);
        }
        first
    }

    /// Takes new credentials: their end, what they are good for, and what role they give.
    pub fn renewed(&self, identity: &Identity) {
        self.admin.set(identity.admin);
        let mut state = self.state.borrow_mut();
        state.expires_at = identity.expires_at;
        state.expiry_noticed = false;
        state.login = identity.login.map(Box::new);
        state.phase = Phase::Open(identity.grant.clone());
    }

    /// Stops handling frames until [`SessionCore::release`].
    pub fn hold(&self) {
        self.held.set(true);
    }

    pub fn release(&self) {
        if self.held.replace(false) {
            self.outbox.wake();
        }
    }

    /// Reads no more requests; what is in flight is still answered.
    pub fn leave(&self) {
        self.leaving.set(true);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    pub fn is_held(&self) -> bool {
        self.held.get() || self.leaving.get()
    }

    /// Whether the pump may read from the socket.
    pub fn may_read(&self) -> bool {
        !self.is_held() && !self.outbox.is_over() && self.inbox.borrow().is_empty()
    }

    /// Ends the connection once everything that waits is sent.
    pub fn close(&self, closing: Closing) {
        self.outbox.finish(frame::close(self.wire.framing, closing), closing.code, false);
    }

    /// Ends the connection with nothing but the close frame.
    pub fn close_at_once(&self, closing: Closing) {
        self.outbox.finish(frame::close(self.wire.framing, closing), closing.code, true);
    }
}

impl SessionState {
    /// Where the reader of a room stands in the room's list.
    pub fn reader(&self, room: u32) -> Option<u32> {
        self.readers.binary_search_by_key(&room, |&(room, _)| room).ok().map(|at| self.readers[at].1)
    }

    /// Sets or forgets it.
    pub fn set_reader(&mut self, room: u32, reader: Option<u32>) {
        match (self.readers.binary_search_by_key(&room, |&(room, _)| room), reader) {
            (Ok(at), Some(reader)) => self.readers[at].1 = reader,
            (Ok(at), None) => {
                self.readers.remove(at);
            }
            (Err(at), Some(reader)) => self.readers.insert(at, (room, reader)),
            (Err(_), None) => {}
        }
    }

    /// Notes a request and gives the number its answer will bear.
    pub fn ask(&mut self, reference: Option<u64>, room: RoomId, kind: Asked) -> u32 {
        let corr = self.next_corr;
        self.next_corr = self.next_corr.wrapping_add(1);
        self.inflight += u32::from(kind.counts());
        self.pending.push(Pending { corr, reference, since: Instant::now(), room, kind });
        corr
    }

    /// Takes the request that an answer belongs to.
    pub fn answered(&mut self, corr: u32) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.corr == corr)?;
        let pending = self.pending.remove(at);
        self.inflight -= u32::from(pending.kind.counts());
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Some(pending)
    }

    /// The `subscribe` to this room that was sent last and is not answered.
    pub fn pending_subscribe(&mut self, room: &RoomId) -> Option<&mut Vec<Option<u64>>> {
        self.pending.iter_mut().rev().filter(|pending| pending.room == *room).find_map(|pending| {
            match &mut pending.kind {
                Asked::Subscribe { unsubscribes, .. } => Some(unsubscribes),
                _ => None,
            }
        })
    }
}
