//! One hub per worker thread: room → the readers on this thread, and everything a session needs from the rest of the node.
//!
//! Plain thread-local data, used directly by the sessions and the HTTP handlers of the thread; an actor is only its
//! shell for messages from other threads. A room sends one message to each hub with readers, never one per session.
//!
//! Frames are pushed into outboxes during a turn and written at its end ([`Hub::flush`]), so that what is ready together
//! is written together and nothing waits for a timer.
//!
//! Invariants: no reference to the state is held while anything outside of the hub runs; a panic while one message is
//! handled costs that message (a gap in a cursor mends itself by fetching), never the thread's sessions.

mod answers;
mod delivery;
mod drain;
mod fanout;
mod gated;
mod rooms;
pub mod streams;
mod sweep;

pub use sweep::unix_ms;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use bytes::Bytes;
use slab::Slab;

use self::drain::Drain;
use self::gated::Chains;
use self::rooms::Room;
use self::streams::Stream;
use super::frame;
use super::messages::{HubIndex, Lookup, SessionKey, ToHub};
use super::outbox::Outbox;
use super::session::core::{Asked, SECOND, SessionCore, Tick};
use super::session::rates::MessageRates;
use crate::actors::frame::{Closing, Framing, Wire};
use crate::auth::{Authenticator, Identity};
use crate::config::Config;
use crate::ids::{NodeId, RoomId};
use crate::metrics::Metrics;
use crate::outgoing::before_send::BeforeSend;
use crate::ports::MessageStore;
use crate::protocol::{self, ServerFrame};
use crate::telemetry::traces::Traces;

/// What a hub and its sessions work with.
#[derive(Clone)]
pub struct HubContext {
    pub node: NodeId,
    pub router: Recipient<Lookup>,
    pub store: Arc<dyn MessageStore>,
    pub auth: Arc<Authenticator>,
    pub rates: Arc<MessageRates>,
    /// The hook that sees messages before they are stored, where there is one.
    pub before_send: Option<Arc<BeforeSend>>,
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub traces: Option<Arc<Traces>>,
}

/// The settings that count per session or delivery, in the units used here.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub frame_bytes: usize,
    pub outbound_bytes: usize,
    pub stall: Tick,
    pub inflight: u32,
    pub subscriptions: usize,
    pub replay: u64,
}

/// The server pings this often.
pub const HEARTBEAT_S: u32 = 25;

/// The hub of one worker thread.
pub struct Hub {
    index: HubIndex,
    context: HubContext,
    bounds: Bounds,
    state: RefCell<State>,
    /// Sessions whose outboxes are to be flushed at the end of the turn.
    noted: RefCell<Vec<Rc<SessionCore>>>,
    /// When the frames of `send`s answered in this turn were read.
    receipts: RefCell<Vec<Instant>>,
    /// What writing to one socket takes, in nanoseconds, over the last flushes.
    write_ns: Cell<u64>,
    calls: Cell<usize>,
    started: Instant,
}

#[derive(Default)]
struct State {
    sessions: Slab<Rc<SessionCore>>,
    generation: u32,
    rooms: Slab<Room>,
    by_id: HashMap<RoomId, u32>,
    /// Fetches that rooms have not answered.
    fetching: usize,
    /// Readers that wait for their turn to fetch, as room slot and session.
    hungry: VecDeque<(u32, SessionKey)>,
    /// Readers whose fetch failed, with when to try again.
    retries: VecDeque<(Tick, u32, SessionKey)>,
    /// Rooms whose entries gather.
    gathering: Vec<u32>,
    /// Requests that wait for the hook before a message is stored.
    chains: Chains,
    /// Of the sessions whose frames come by posts.
    streams: HashMap<SessionKey, Rc<Stream>>,
    drain: Option<Drain>,
    /// Sessions that have to go and still wait for answers, with the end of their patience.
    leaving: VecDeque<(Instant, SessionKey)>,
    /// The slot where the next is looked for that goes to another node.
    next_to_go: usize,
}

thread_local! {
    static CURRENT: OnceCell<Rc<Hub>> = const { OnceCell::new() };
}

impl Hub {
    /// Starts this thread's hub; to be called once on every worker thread, within its actix system.
    pub fn start(index: HubIndex, context: HubContext) -> (Recipient<ToHub>, Rc<Hub>) {
        let hub = Rc::new(Self::new(index, context));
        CURRENT.with(|current| {
            if current.set(Rc::clone(&hub)).is_err() {
                tracing::error!(hub = index.0, "this thread has a hub already; its HTTP handlers keep the first one");
            }
        });
        let shell = Shell { hub: Rc::clone(&hub) }.start();
        (shell.recipient(), hub)
    }

    fn new(index: HubIndex, context: HubContext) -> Self {
        let limits = &context.config.limits;
        let bounds = Bounds {
            frame_bytes: limits.frame_bytes,
            outbound_bytes: limits.outbound_bytes,
            stall: (limits.stall_s as Tick).saturating_mul(SECOND),
            inflight: limits.inflight as u32,
            subscriptions: limits.subscriptions,
            replay: limits.replay,
        };
        Self {
            index,
            context,
            bounds,
            state: RefCell::default(),
            noted: RefCell::default(),
            receipts: RefCell::default(),
            write_ns: Cell::new(6_000),
            calls: Cell::new(0),
            started: Instant::now(),
        }
    }

    /// This thread's hub; `None` before [`Hub::start`].
    pub fn current() -> Option<Rc<Self>> {
        CURRENT.with(|current| current.get().cloned())
    }

    pub fn context(&self) -> &HubContext {
        &self.context
    }

    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Tenths of a second since the start.
    pub fn now(&self) -> Tick {
        self.tick_of(Instant::now())
    }

    fn tick_of(&self, at: Instant) -> Tick {
        (at.saturating_duration_since(self.started).as_millis() / 100) as Tick
    }

    // ---- sessions

    /// Takes a new connection in. `identity`: by the upgrade's credentials.
    pub fn open(
        &self,
        wire: Wire,
        socket: impl Into<super::sink::Sink>,
        identity: Option<Identity>,
    ) -> Rc<SessionCore> {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        state.generation = state.generation.wrapping_add(1);
        let generation = state.generation;
        let entry = state.sessions.vacant_entry();
        let key = SessionKey { hub: self.index, slot: entry.key() as u32, generation };
        let outbox = Outbox::new(socket, self.bounds.outbound_bytes);
        let core = Rc::new(SessionCore::new(key, wire, outbox, identity, now, HEARTBEAT_S * SECOND));
        entry.insert(Rc::clone(&core));
        self.context.metrics.sessions.inc();
        self.context.metrics.connections(wire.framing.transport()).inc();
        self.context.metrics.sessions_opened.inc();
        if state.drain.is_some() {
            core.close(Closing::DRAINING);
        }
        core
    }

    /// Opens the session of `core` for whoever `identity` says.
    pub fn identified(&self, core: &SessionCore, identity: &Identity) {
        // One that ended in the meantime is no connection of theirs any more.
        if core.identified(identity) && self.state.borrow().session(core.key).is_some() {
            self.context.metrics.people.came(&identity.user.id);
        }
    }

    /// Lets a connection go: ends its subscriptions and forgets its requests. Harmless to repeat.
    pub fn ended(&self, core: &Rc<SessionCore>) {
        let mut state = self.state.borrow_mut();
        if state.session(core.key).is_none() {
            return;
        }
        state.sessions.remove(core.key.slot as usize);
        self.context.metrics.sessions.dec();
        if let Some(user) = core.user() {
            self.context.metrics.people.went(user);
        }
        self.context.metrics.connections(core.wire.framing.transport()).dec();
        if core.wire.framing == Framing::Events {
            state.close_stream(core.key);
        }
        self.context.metrics.closed(core.outbox.close_code());
        // What never reached its room is just forgotten.
        let chained = state.chains.forget(|key, _| key == core.key);
        let (readers, pending) = {
            let mut session = core.state.borrow_mut();
            session.pending.retain(|pending| !chained.contains(&pending.corr));
            session.pages = None;
            session.inflight = 0;
            (std::mem::take(&mut session.readers), std::mem::take(&mut session.pending))
        };
        for (room, _) in readers.iter().rev() {
            self.leave_room(&mut state, core, *room, &readers);
        }
        if let Some(caller) = core.caller() {
            for pending in pending {
                if matches!(pending.kind, Asked::Subscribe { .. } | Asked::Readmit | Asked::Forgotten) {
                    state.remember_orphan(core.key, pending.corr, &pending.room, &caller);
                }
            }
        }
    }

    /// Pushes one whole frame; it leaves at the end of the turn.
    pub fn push(&self, core: &Rc<SessionCore>, frame: Bytes) {
        if core.outbox.push(frame) {
            self.noted.borrow_mut().push(Rc::clone(core));
        }
    }

    /// Whether a session may have one more subscription, or has one to this room.
    pub fn may_subscribe(&self, core: &SessionCore, room: &RoomId) -> bool {
        let session = core.state.borrow();
        if session.readers.len() + session.pending.len() < self.bounds.subscriptions {
            return true;
        }
        let state = self.state.borrow();
        let slots = session.pending.iter().filter(|pending| matches!(pending.kind, Asked::Subscribe { .. })).count();
        session.readers.len() + slots < self.bounds.subscriptions
            || state.by_id.get(room).is_some_and(|&slot| session.reader(slot).is_some())
    }

    /// Encodes and pushes a frame of one session.
    pub fn send(&self, core: &Rc<SessionCore>, frame: &ServerFrame, reference: Option<u64>) {
        if let ServerFrame::Error(refusal) = frame {
            self.context.metrics.refused(refusal.code);
        }
        self.push(core, frame::message(core.wire, &protocol::encode(core.wire.encoding, frame, reference)));
    }

    /// Writes what was pushed in this turn.
    pub fn flush(&self) {
        let mut noted = std::mem::take(&mut *self.noted.borrow_mut());
        if noted.is_empty() {
            return;
        }
        let begin = Instant::now();
        let count = noted.len() as u64;
        for core in &noted {
            core.outbox.flush();
        }
        let spent = begin.elapsed();
        self.write_ns.set((self.write_ns.get() * 7 + spent.as_nanos() as u64 / count) / 8);
        for receipt in self.receipts.borrow_mut().drain(..) {
            self.context.metrics.handed_over(receipt);
        }
        for core in noted.drain(..) {
            self.settled(&core);
        }
        let mut list = self.noted.borrow_mut();
        if list.is_empty() && noted.capacity() <= 4_096 {
            *list = noted;
        }
    }

    /// To be called after a flush: goes on with what waited for the outbox to come down.
    pub fn settled(&self, core: &Rc<SessionCore>) {
        if core.outbox.came_down() {
            self.resume(core);
            core.outbox.wake();
        }
    }

    fn handle(&self, message: ToHub) {
        match message {
            ToHub::Handle { room, handle } => self.handle_found(&room, handle),
            ToHub::Answers { room, answers } => self.answers(&room, answers),
            ToHub::Deliver { room, entries } => self.deliver(&room, entries),
            ToHub::Advance { room, head } => self.advance(&room, head),
            ToHub::Fetched { room, after, entries, head } => self.fetched(&room, after, entries, head),
            ToHub::Hint { room, hint } => self.hint(&room, hint),
            ToHub::Evict { room, user, why } => self.evict(&room, user.as_ref(), why),
            ToHub::Release { room, token, reply } => self.release(&room, token, &reply),
            ToHub::Post { key, post, call } => self.posted(key, post, call),
            ToHub::Revoked { revoked, at } => self.revoked(&revoked, at),
            ToHub::LetGo { count } => self.let_go(count),
            ToHub::Drain { over_ms } => self.drain(Duration::from_millis(over_ms)),
        }
    }

    /// Runs one step so that a panic in it costs only that step.
    fn guarded(&self, step: impl FnOnce(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_err() {
            self.context.metrics.panics.inc();
            tracing::error!(hub = self.index.0, "a fault while a message was handled; the hub goes on");
        }
    }
}

impl State {
    fn session(&self, key: SessionKey) -> Option<&Rc<SessionCore>> {
        self.sessions.get(key.slot as usize).filter(|core| core.key == key)
    }
}

/// The hub's mailbox.
struct Shell {
    hub: Rc<Hub>,
}

impl Actor for Shell {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // Polled whenever the mailbox was emptied: the end of a turn.
        let hub = Rc::clone(&self.hub);
        let flusher = std::future::poll_fn(move |_| {
            hub.guarded(Hub::flush);
            std::task::Poll::<()>::Pending
        });
        context.spawn(actix::fut::wrap_future(flusher));
        context.run_interval(Duration::from_millis(100), |shell, _| shell.hub.guarded(Hub::sweep));
    }
}

impl Handler<ToHub> for Shell {
    type Result = ();

    fn handle(&mut self, message: ToHub, _: &mut Self::Context) {
        self.hub.guarded(|hub| hub.handle(message));
    }
}
