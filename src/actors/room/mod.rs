//! A room on this node: one actor, in one of the roles unowned, opening, owner or mirror. Its handle stays valid through
//! every change of role, so requests never have to look for their room twice and keep their order.
//!
//! Invariants: each request is answered exactly once; a request that can't be served yet is held, in order, within
//! `ROOM_REQUESTS`, `ROOM_REQUEST_BYTES` and `REQUEST_DEADLINE_MS`; a change of role takes the held ones along.
//!
//! The rules here are written down a second time in `tests/it/sim/room`, for the simulation: change both.

pub mod busy;
pub mod feed;
mod mirroring;
mod owning;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod stopping;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};

use self::busy::Busy;
use self::feed::{Feed, Hubs};
use self::mirroring::Mirroring;
use self::owning::Owning;
use self::stopping::Stopping;
use crate::actors::envelope::{Envelope, PeerMessage};
use crate::actors::messages::{
    Answer, Append, HubIndex, LogEntry, Origin, ReadMark, RoomControl, RoomNews, SessionKey, ToHub, ToNode, ToRoom,
};
use crate::actors::persistence::StoreGate;
use crate::domain::command::{Caller, Command, Reply, Signal};
use crate::domain::owner::Request;
use crate::domain::presence::LocalUsers;
use crate::ids::{Millis, NodeId, RoomId, Seq, UserId};
use crate::limits::{PAGE_MAX, REQUEST_DEADLINE_MS, ROOM_REQUEST_BYTES, ROOM_REQUESTS};
use crate::metrics::{FetchSource, Metrics};
use crate::ports::{MessageStore, Range, StoreError};
use crate::refusal::Refusal;
use crate::telemetry::traces::{Said, Span, Step, Traces};

/// How often held requests are looked at for their deadline.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Read marks that wait for a room to have a head.
const SIGNALS_HELD: usize = 1_024;

/// What every room of a node shares.
pub struct RoomContext {
    pub node: NodeId,
    pub store: Arc<dyn MessageStore>,
    pub gate: StoreGate,
    pub hubs: Hubs,
    pub append: Recipient<Append>,
    pub marks: Recipient<ReadMark>,
    pub bus: Recipient<ToNode>,
    pub news: Recipient<RoomNews>,
    pub metrics: Arc<Metrics>,
    pub busy: Arc<Busy>,
    pub traces: Option<Arc<Traces>>,
}

/// Where an answer goes and what is accounted until then.
#[derive(Debug)]
pub struct Token {
    origin: Origin,
    since: Instant,
    weight: usize,
    /// Set where an `Admitted` starts a subscription.
    subscriber: Option<UserId>,
    /// Where it is traced: from here to the answer.
    span: Option<Box<Span>>,
}

type Asked = Request<Token>;

enum Role {
    /// Nobody owns the shard, as far as this node knows: requests wait.
    Unowned,
    /// This node is the owner and reads the room from the store. `tried`: the store was away the last time.
    Opening {
        tried: bool,
    },
    Owner(Box<Owning>),
    /// This node is the owner, and there is no such room.
    Missing,
    Mirror(Box<Mirroring>),
}

/// An answer on its way to a session's hub.
type HubAnswers = Vec<(HubIndex, Vec<Answer>)>;

pub struct RoomActor {
    id: RoomId,
    cx: Arc<RoomContext>,
    feed: Feed,
    role: Role,
    /// Who owns the shard, as the cluster says.
    owner: Option<NodeId>,
    held: VecDeque<Asked>,
    held_signals: Vec<(Caller, Signal)>,
    requests: usize,
    request_bytes: usize,
    sweeping: bool,
    local: LocalUsers,
    /// Nodes with a mirror that wait for this node to open the room, or have not watched again since it did.
    waiting_peers: Vec<NodeId>,
    answers: HubAnswers,
    fresh: Vec<Arc<[Arc<LogEntry>]>>,
    stopping: Stopping,
}

/// The room as the store has it, for the owner.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Opened(Result<Option<crate::ports::OpenedRoom>, StoreError>);

pub(crate) fn now_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

impl RoomActor {
    pub fn new(id: RoomId, owner: Option<NodeId>, cx: Arc<RoomContext>) -> Self {
        Self {
            feed: Feed::new(id.clone(), cx.hubs.clone()),
            id,
            cx,
            role: Role::Unowned,
            owner,
            held: VecDeque::new(),
            held_signals: Vec::new(),
            requests: 0,
            request_bytes: 0,
            sweeping: false,
            local: LocalUsers::default(),
            waiting_peers: Vec::new(),
            answers: Vec::new(),
            fresh: Vec::new(),
            stopping: Stopping::default(),
        }
    }

    fn is_mine(&self) -> bool {
        self.owner.as_ref() == Some(&self.cx.node)
    }

    fn tell(&self, node: &NodeId, message: PeerMessage) {
        let envelope = Envelope::Room(self.id.clone(), message).encode();
        self.cx.bus.do_send(ToNode { node: node.clone(), envelope });
    }

    // ------------------------------------------------------------------------------------------------ requests

    fn ask(&mut self, origin: Origin, caller: Caller, mut command: Command, ctx: &mut Context<Self>) {
        self.stopping.touch();
        let subscriber = matches!(command, Command::Admit { subscribe: true }).then(|| caller.user.clone());
        let weight = command.weight();
        let span = self.cx.traces.as_ref().and_then(|_| traced(&origin, &mut command));
        let token = Token { origin, since: Instant::now(), weight, subscriber, span };
        self.requests += 1;
        self.cx.metrics.room_requests.inc();
        self.cx.metrics.room_request_bytes.add(weight as i64);
        self.request_bytes += weight;
        if self.requests > ROOM_REQUESTS || self.request_bytes > ROOM_REQUEST_BYTES {
            let refusal = Refusal::overloaded("too much waits for this room");
            return self.answer(token, Err(refusal));
        }
        let request = Request { caller, command, token };
        match &mut self.role {
            Role::Owner(owning) if !owning.releasing() => {
                owning.owner.offer(request);
                self.step(ctx);
            }
            Role::Mirror(_) => self.pass_on(request, ctx),
            Role::Opening { tried: true } if !self.cx.gate.is_open() => self.answer(request.token, Err(store_away())),
            Role::Missing => {
                self.hold(request, ctx);
                self.open(ctx);
            }
            _ => self.hold(request, ctx),
        }
    }

    fn hold(&mut self, request: Asked, ctx: &mut Context<Self>) {
        self.held.push_back(request);
        self.sweep_later(ctx);
    }

    /// Answers are gathered by hub and sent by [`Self::flush`], at the end of the turn.
    fn answer(&mut self, token: Token, mut result: Result<Reply, Refusal>) {
        self.requests -= 1;
        self.request_bytes -= token.weight;
        self.cx.metrics.room_requests.dec();
        self.cx.metrics.room_request_bytes.sub(token.weight as i64);
        match result {
            Ok(Reply::Sent { duplicate: false, .. }) => self.cx.metrics.durable(token.since),
            Ok(Reply::Sent { duplicate: true, .. }) => self.cx.metrics.entries_duplicate.inc(),
            _ => {}
        }
        if let Some(span) = &token.span {
            self.tell_span(span, &result);
        }
        match token.origin {
            Origin::Session { key, corr } => {
                if let (Some(user), Ok(Reply::Admitted { online, head, .. })) = (token.subscriber, &mut result) {
                    *head = self.feed.head().max(*head);
                    *online = self.subscribed(key.hub, &user, *online);
                }
                self.answer_session(key, corr, result);
            }
            Origin::Call(call) => {
                // The caller may have given up.
                let _ = call.send(result);
            }
            Origin::Peer { node, stream, n } => self.answer_peer(&node, stream, n, token.subscriber, result),
        }
    }

    /// What became of a request that is traced. Which way it went is the role's that answers it.
    fn tell_span(&self, span: &Span, result: &Result<Reply, Refusal>) {
        let Some(traces) = &self.cx.traces else { return };
        let (step, owner) = match &self.role {
            Role::Mirror(mirroring) => (Step::BusForward, Some(Said::Owner(&mirroring.owner))),
            _ => (Step::RoomAppend, None),
        };
        let outcome = match result {
            Ok(Reply::Sent { seq, .. }) => Some(Said::Seq(*seq)),
            Ok(_) => None,
            Err(refusal) => Some(Said::Refused(refusal.code)),
        };
        let said: Vec<_> = [Some(Said::Room(&self.id)), outcome, owner].into_iter().flatten().collect();
        traces.end(span, step, &said);
    }

    fn answer_session(&mut self, key: SessionKey, corr: u32, result: Result<Reply, Refusal>) {
        let answer = Answer { key, corr, result };
        match self.answers.iter_mut().find(|(hub, _)| *hub == key.hub) {
            Some((_, answers)) => answers.push(answer),
            None => self.answers.push((key.hub, vec![answer])),
        }
    }

    /// Sends what was gathered: answers first, so that an answer and its entry leave in one write.
    fn flush(&mut self) {
        for (hub, answers) in std::mem::take(&mut self.answers) {
            self.feed.send(hub, ToHub::Answers { room: self.id.clone(), answers });
        }
        for entries in std::mem::take(&mut self.fresh) {
            self.feed.deliver(&entries);
        }
    }

    /// A subscription starts on this node; gives how many users are online with it.
    fn subscribed(&mut self, hub: HubIndex, user: &UserId, online: u32) -> u32 {
        self.feed.add_reader(hub);
        let first = self.local.join(user);
        match &mut self.role {
            Role::Owner(owning) if first => owning.joined(&self.cx.node, user),
            Role::Owner(owning) => owning.presence.online(),
            _ => online,
        }
    }

    fn unsubscribed(&mut self, hub: HubIndex, user: &UserId, ctx: &mut Context<Self>) {
        self.stopping.touch();
        self.feed.remove_reader(hub);
        if !self.local.leave(user) {
            return;
        }
        match &mut self.role {
            Role::Owner(owning) => {
                owning.left(&self.cx.node, user);
                self.hint_later(ctx);
            }
            Role::Mirror(mirroring) => {
                let owner = mirroring.owner.clone();
                self.tell(&owner, PeerMessage::Left { users: vec![user.clone()] });
            }
            _ => {}
        }
    }

    fn signal(&mut self, caller: Caller, signal: Signal, ctx: &mut Context<Self>) {
        self.stopping.touch();
        if let Signal::Read { seq } = signal {
            if self.feed.head() == 0 && !matches!(self.role, Role::Owner(_)) {
                if self.held_signals.len() < SIGNALS_HELD {
                    self.held_signals.push((caller, Signal::Read { seq }));
                }
                return;
            }
            let seq = seq.min(self.feed.head());
            if seq == 0 {
                return;
            }
            self.cx.marks.do_send(ReadMark { room: self.id.clone(), user: caller.user.clone(), seq });
            return self.spread(caller, Signal::Read { seq }, ctx);
        }
        self.spread(caller, signal, ctx);
    }

    /// Brings a signal to the owner, who tells the readers.
    fn spread(&mut self, caller: Caller, signal: Signal, ctx: &mut Context<Self>) {
        match &mut self.role {
            Role::Owner(owning) => {
                owning.signal(&caller, &signal, now_ms());
                self.hint_later(ctx);
            }
            Role::Mirror(mirroring) => {
                let owner = mirroring.owner.clone();
                self.tell(&owner, PeerMessage::Signal { caller, signal });
            }
            _ => {}
        }
    }

    fn release_signals(&mut self, ctx: &mut Context<Self>) {
        for (caller, signal) in std::mem::take(&mut self.held_signals) {
            self.signal(caller, signal, ctx);
        }
    }

    // --------------------------------------------------------------------------------------------------- fetch

    fn fetch(&mut self, hub: HubIndex, after: Seq, max_bytes: usize, ctx: &mut Context<Self>) {
        self.stopping.touch();
        if let Some(entries) = self.feed.after(after, max_bytes, now_ms()) {
            self.cx.metrics.fetched(FetchSource::Ring);
            return self.fetched(hub, after, Some(entries));
        }
        self.cx.metrics.fetched(FetchSource::Store);
        let (store, room) = (self.cx.store.clone(), self.id.clone());
        let read = async move {
            let page = store.page(&room, Range::After(after), PAGE_MAX, max_bytes).await?;
            Ok::<_, StoreError>(page.entries.into_iter().map(shared).collect())
        };
        ctx.spawn(read.into_actor(self).map(move |result, actor, _| {
            let entries =
                result.inspect_err(|error| tracing::debug!(room.id = %actor.id, error = %error, "room.fetch.failed"));
            actor.fetched(hub, after, entries.ok());
        }));
    }

    fn fetched(&mut self, hub: HubIndex, after: Seq, entries: Option<Vec<Arc<LogEntry>>>) {
        let (room, head) = (self.id.clone(), self.feed.head());
        self.feed.send(hub, ToHub::Fetched { room, after, entries, head });
    }

    /// An owner that does not know of an entry is none any more; a mirror tells the owner so.
    fn behind(&mut self, head: Seq, ctx: &mut Context<Self>) {
        match &self.role {
            Role::Owner(owning) if owning.is_behind(head) => self.superseded(ctx),
            Role::Mirror(_) if head > self.feed.head() => {
                self.feed.advance(head);
                self.watch(ctx);
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------------------------------------- change of role

    /// Takes the role that fits the present owner; what is held goes along.
    fn take_role(&mut self, ctx: &mut Context<Self>) {
        if !self.is_mine() {
            // Where their view of the owner never changed, only this makes them watch again.
            for peer in std::mem::take(&mut self.waiting_peers) {
                self.tell(&peer, PeerMessage::NotOwner);
            }
        }
        match self.owner.clone() {
            None => self.role = Role::Unowned,
            Some(owner) if owner == self.cx.node => self.open(ctx),
            Some(owner) => self.mirror(owner, ctx),
        }
    }

    fn owner_changed(&mut self, owner: Option<NodeId>, ctx: &mut Context<Self>) {
        if owner == self.owner && !matches!(&self.role, Role::Owner(owning) if owning.releasing()) {
            return;
        }
        self.owner = owner;
        let mine = self.is_mine();
        match &mut self.role {
            // The append under way comes back within a bounded time; then the room takes its new role.
            Role::Owner(owning) if owning.owner.is_appending() => owning.leave(),
            Role::Owner(_) => {
                self.give_up_ownership();
                self.take_role(ctx);
            }
            Role::Mirror(_) => {
                self.take_back();
                self.take_role(ctx);
            }
            // An open under way is judged when it comes back.
            Role::Opening { .. } if !mine => self.take_role(ctx),
            Role::Opening { .. } => {}
            Role::Unowned | Role::Missing => self.take_role(ctx),
        }
    }

    /// The store has fenced the rooms that a person who was erased belonged to, so an append under way finds out by
    /// itself that the members are others now.
    fn forget_person(&mut self, user: &UserId, ctx: &mut Context<Self>) {
        self.feed.forget(user);
        if let Role::Owner(owning) = &self.role
            && owning.knows(user)
            && !owning.releasing()
            && !owning.owner.is_appending()
        {
            self.superseded(ctx);
        }
    }

    fn refuse_held(&mut self, refusal: &Refusal) {
        for request in std::mem::take(&mut self.held) {
            self.answer(request.token, Err(refusal.clone()));
        }
    }

    /// Looks after deadlines as long as anything is held or passed on.
    fn sweep_later(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.sweeping, true) {
            return;
        }
        ctx.run_later(SWEEP_EVERY, |actor, ctx| {
            actor.sweeping = false;
            let deadline = Duration::from_millis(REQUEST_DEADLINE_MS as u64);
            while actor.held.front().is_some_and(|request| request.token.since.elapsed() > deadline)
                && let Some(request) = actor.held.pop_front()
            {
                actor.answer(request.token, Err(Refusal::unavailable("the room's owner can't be reached now")));
            }
            actor.sweep_mirror(deadline, ctx);
            actor.flush();
            if !actor.held.is_empty() || actor.mirror_waits() {
                actor.sweep_later(ctx);
            }
        });
    }
}

/// The span of a request that is traced; what the request does from here on is under it.
fn traced(origin: &Origin, command: &mut Command) -> Option<Box<Span>> {
    let Command::Send { trace: Some(trace), .. } = command else { return None };
    let span = Span::under(**trace, matches!(origin, Origin::Peer { .. }));
    **trace = span.context;
    Some(span)
}

fn store_away() -> Refusal {
    Refusal::unavailable("the store can't be reached now")
}

fn shared(entry: crate::entry::Entry) -> Arc<LogEntry> {
    let json = crate::protocol::encode_entry(crate::protocol::Encoding::Json, &entry);
    Arc::new(LogEntry::new(entry, json))
}

impl Actor for RoomActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.cx.metrics.rooms.inc();
        self.take_role(ctx);
        self.watch_idleness(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.cx.metrics.rooms.dec();
    }
}

impl Handler<ToRoom> for RoomActor {
    type Result = ();

    fn handle(&mut self, message: ToRoom, ctx: &mut Self::Context) {
        match message {
            ToRoom::Ask { origin, caller, command } => self.ask(origin, caller, command, ctx),
            ToRoom::Signal { caller, signal } => self.signal(caller, signal, ctx),
            ToRoom::Fetch { hub, after, max_bytes } => self.fetch(hub, after, max_bytes, ctx),
            ToRoom::Unsubscribed { hub, caller } => self.unsubscribed(hub, &caller.user, ctx),
            ToRoom::Behind { head } => self.behind(head, ctx),
            ToRoom::Released { token, released, .. } => self.released(token, released),
        }
        self.flush();
        self.hint_later(ctx);
    }
}

impl Handler<RoomControl> for RoomActor {
    type Result = ();

    fn handle(&mut self, message: RoomControl, ctx: &mut Self::Context) {
        match message {
            RoomControl::Owner(owner) => self.owner_changed(owner, ctx),
            RoomControl::Release => self.release(ctx),
            RoomControl::NodeLost(node) => self.node_lost(&node, ctx),
            RoomControl::LinkBroken(node) => self.link_broken(node.as_ref(), ctx),
            RoomControl::Peer { from, message } => self.peer(from, message, ctx),
            RoomControl::Forget(user) => self.forget_person(&user, ctx),
            RoomControl::HandedOut(count) => self.handed_out(count, ctx),
            RoomControl::Stop(stop) => self.stop_answer(stop, ctx),
        }
        self.flush();
    }
}
