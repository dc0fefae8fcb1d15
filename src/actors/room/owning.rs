//! The room as its owner: opens it, carries out what `domain::owner` decides, serves the mirrors on other nodes.
//!
//! Invariants: one append in flight; a mirror gets a commit before any answer that counts on it; after an append whose
//! outcome is unknown, or that was fenced, the room is read from the store again before anything else is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use bytes::Bytes;

use super::busy::Written;
use super::{Asked, Opened, Role, RoomActor, Token, now_ms, store_away};
use crate::actors::envelope::PeerMessage;
use crate::actors::messages::{Append, AppendDone, Origin, RoomNews};
use crate::domain::command::{Caller, Command, Eviction, Reply, Signal};
use crate::domain::owner::{Effect, Owner};
use crate::domain::presence::{Activity, Presence};
use crate::domain::rules::{self, People};
use crate::domain::stream::{StreamIn, Taken};
use crate::domain::trace::TraceContext;
use crate::entry::Entry;
use crate::ids::{Epoch, Millis, NodeId, Seq, UserId};
use crate::limits::RING_PRELOAD;
use crate::ports::{Appended, OpenedRoom, RoomAppend, RoomNo, StoreError};
use crate::protocol::{self, Encoding};
use crate::refusal::Refusal;

/// How soon opening is tried again while the store is away, or after another node raised the epoch.
const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// Presence is told at most this often.
const PRESENCE_EVERY: Duration = Duration::from_secs(1);
/// Typing and reads are told at most this often.
const ACTIVITY_EVERY: Duration = Duration::from_millis(250);
/// Presence waits this long for more, so that a storm of joins is told as one.
const PRESENCE_GATHERS: Duration = Duration::from_millis(100);

pub(super) type Answered = Result<Reply, Refusal>;

pub(super) struct Owning {
    pub(super) owner: Owner<Token>,
    no: RoomNo,
    epoch: Epoch,
    written: Arc<Written>,
    /// The mirrors by node.
    peers: HashMap<NodeId, StreamIn<Answered>>,
    pub(super) presence: Presence,
    activity: Activity,
    hint_timer: bool,
    presence_told: Option<Instant>,
    /// Nothing is judged any more: the room is being handed over, or its owner has changed already.
    state: Leaving,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// Say `Fenced` when the append under way is done.
    Handover,
    /// Take the new owner's role when the append under way is done.
    Lost,
}

impl Owning {
    fn new(opened: &OpenedRoom, written: Arc<Written>) -> Self {
        let people =
            People { members: opened.members.clone(), bans: opened.bans.iter().cloned().collect::<HashSet<_>>() };
        Self {
            owner: Owner::new(opened.room.clone(), opened.oldest, people, &opened.recent),
            no: opened.no,
            epoch: opened.epoch,
            written,
            peers: HashMap::new(),
            presence: Presence::default(),
            activity: Activity::default(),
            hint_timer: false,
            presence_told: None,
            state: Leaving::No,
        }
    }

    pub(super) fn releasing(&self) -> bool {
        self.state != Leaving::No
    }

    pub(super) fn leave(&mut self) {
        self.state = Leaving::Lost;
    }

    /// Whether a mirror knows of entries that this owner does not: then another node has opened the room since. (An
    /// append under way finds out by itself.)
    pub(super) fn is_behind(&self, head: Seq) -> bool {
        head > self.owner.room().head && !self.owner.is_appending()
    }

    /// Whether somebody is a member or banned, as far as this owner knows.
    pub(super) fn knows(&self, user: &UserId) -> bool {
        let people = self.owner.people();
        people.role(user).is_some() || people.bans.contains(user)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.owner.is_idle() && self.peers.is_empty()
    }

    pub(super) fn joined(&mut self, node: &NodeId, user: &UserId) -> u32 {
        self.presence.join(node, user);
        self.owner.set_online(self.presence.online());
        self.presence.online()
    }

    pub(super) fn left(&mut self, node: &NodeId, user: &UserId) {
        self.presence.leave(node, user);
        self.owner.set_online(self.presence.online());
    }

    pub(super) fn signal(&mut self, caller: &Caller, signal: &Signal, now: Millis) {
        let (room, people) = (self.owner.room(), self.owner.people());
        match signal {
            Signal::Typing { active } => {
                if rules::write(room, people, caller).is_ok() {
                    self.activity.typing(&caller.user, *active, now);
                }
            }
            Signal::Read { seq } => {
                if people.role(&caller.user).is_some() {
                    self.activity.read(&caller.user, (*seq).min(room.head));
                }
            }
        }
    }

    /// Users who may not read the room (any more).
    fn strangers(&self, users: &[UserId]) -> Vec<UserId> {
        let may_read = |user: &UserId| {
            let caller = Caller { user: user.clone(), admin: false, from: None };
            rules::read(self.owner.room(), self.owner.people(), &caller).is_ok()
        };
        users.iter().filter(|user| !may_read(user)).cloned().collect()
    }
}

impl RoomActor {
    // ---------------------------------------------------------------------------------------------------- open

    pub(super) fn open(&mut self, ctx: &mut Context<Self>) {
        self.role = Role::Opening { tried: false };
        self.read_room(ctx);
    }

    fn read_room(&mut self, ctx: &mut Context<Self>) {
        let (store, room) = (self.cx.store.clone(), self.id.clone());
        let read = async move { Opened(store.open_room(&room, RING_PRELOAD).await) };
        ctx.spawn(read.into_actor(self).map(|opened, _, ctx| ctx.notify(opened)));
    }

    fn opened(&mut self, opened: OpenedRoom, ctx: &mut Context<Self>) {
        tracing::debug!(room.id = %self.id, epoch = opened.epoch.0, head = opened.room.head, "room.opened");
        self.cx.metrics.rooms_opened.inc();
        let mut owning = Owning::new(&opened, self.cx.busy.opened(&self.id));
        for user in self.local.users().cloned().collect::<Vec<_>>() {
            owning.joined(&self.cx.node, &user);
        }
        let strangers = owning.strangers(&self.local.users().cloned().collect::<Vec<_>>());
        self.feed.reload(opened.room.head, opened.recent, opened.room.expiry());
        self.role = Role::Owner(Box::new(owning));
        // Their streams ended with the former role: they open new ones.
        for peer in &self.waiting_peers {
            self.tell(peer, PeerMessage::Rewatch);
        }
        for user in strangers {
            self.feed.evict(Some(&user), Eviction::Kicked);
        }
        for request in std::mem::take(&mut self.held) {
            if let Role::Owner(owning) = &mut self.role {
                owning.owner.offer(request);
            }
        }
        self.release_signals(ctx);
        self.hint_later(ctx);
        self.step(ctx);
    }

    fn missing(&mut self) {
        self.role = Role::Missing;
        for peer in std::mem::take(&mut self.waiting_peers) {
            self.tell(&peer, PeerMessage::NoRoom);
        }
        self.held_signals.clear();
        self.refuse_held(&Refusal::no_such_room());
        if self.feed.has_readers() {
            self.feed.evict(None, Eviction::Deleted);
        }
    }

    // -------------------------------------------------------------------------------------------------- append

    pub(super) fn step(&mut self, ctx: &mut Context<Self>) {
        if let Role::Owner(owning) = &mut self.role
            && !owning.releasing()
        {
            let effects = owning.owner.step(now_ms());
            self.carry_out(effects, ctx);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect<Token>>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Append(items) => {
                    if let Role::Owner(owning) = &self.role {
                        let append = RoomAppend { no: owning.no, epoch: owning.epoch, items };
                        let traced = match &self.cx.traces {
                            Some(_) => spans(owning.owner.under_way().map(|(token, _)| token)),
                            None => Vec::new(),
                        };
                        #[cfg(feature = "seeded-bugs")]
                        let Some(append) = self.acknowledge_first(append, ctx) else { continue };
                        self.cx.append.do_send(Append { append, traced, reply: ctx.address().recipient() });
                    }
                }
                Effect::Answer(token, result) => self.answer(token, result),
                Effect::Show(entries) => self.show(entries),
                Effect::Evict(user, why) => {
                    self.flush();
                    self.feed.evict(user.as_ref(), why);
                    self.tell_peers(&PeerMessage::Evict { user, why });
                }
                Effect::Gone => {
                    self.tell_peers(&PeerMessage::NoRoom);
                    self.give_up_ownership();
                    self.missing();
                }
            }
        }
    }

    fn show(&mut self, entries: Vec<Entry>) {
        self.cx.metrics.entries_committed.inc_by(entries.len() as u64);
        if let Role::Owner(owning) = &self.role {
            owning.written.add(entries.len());
        }
        let first = entries.first().map_or(0, |entry| entry.seq);
        if first != self.feed.head() + 1 {
            // Can't be: appends are one at a time and start at the head the store gave. If it is, cursors fetch.
            tracing::error!(room.id = %self.id, first, head = self.feed.head(), "room.head.differs");
            let last = entries.last().map_or(0, |entry| entry.seq);
            self.feed.advance(last);
            return;
        }
        let encoded: Vec<(Entry, Bytes)> = entries
            .into_iter()
            .map(|entry| {
                let json = protocol::encode_entry(Encoding::Json, &entry);
                (entry, json)
            })
            .collect();
        let entries = encoded.iter().map(|(_, json)| json.clone()).collect();
        self.tell_peers(&PeerMessage::Commit { first, entries });
        let shown = self.feed.append(encoded);
        self.fresh.push(shown);
    }

    /// Stops being the owner; what is queued is held for whoever comes next.
    pub(super) fn give_up_ownership(&mut self) {
        if let Role::Owner(owning) = std::mem::replace(&mut self.role, Role::Unowned) {
            let strayed =
                owning.peers.into_keys().filter(|peer| !self.waiting_peers.contains(peer)).collect::<Vec<_>>();
            self.waiting_peers.extend(strayed);
            let (requests, ready) = owning.owner.into_requests();
            for effect in ready {
                if let Effect::Answer(token, result) = effect {
                    self.answer(token, result);
                }
            }
            for request in requests.into_iter().rev() {
                match request.token.origin {
                    // The mirror keeps it too and asks the next owner.
                    Origin::Peer { .. } => self.forget(request),
                    _ => self.held.push_front(request),
                }
            }
        }
    }

    fn forget(&mut self, request: Asked) {
        self.cx.metrics.room_requests.dec();
        self.cx.metrics.room_request_bytes.sub(request.token.weight as i64);
        self.requests -= 1;
        self.request_bytes -= request.token.weight;
    }

    /// Another node opened the room after this one: it is read again.
    pub(super) fn superseded(&mut self, ctx: &mut Context<Self>) {
        tracing::info!(room.id = %self.id, "room.superseded");
        self.give_up_ownership();
        self.open(ctx);
    }

    /// The cluster hands the room over: no new append, and say so when the one under way is done.
    pub(super) fn release(&mut self, ctx: &mut Context<Self>) {
        match &mut self.role {
            Role::Owner(owning) if owning.owner.is_appending() => owning.state = Leaving::Handover,
            Role::Owner(_) => self.fenced(ctx),
            _ => {
                // Nothing is written here; an open under way is dropped when it comes back.
                if matches!(self.role, Role::Opening { .. }) {
                    self.role = Role::Unowned;
                }
                self.owner = None;
                self.cx.news.do_send(RoomNews::Fenced(self.id.clone()));
            }
        }
    }

    fn fenced(&mut self, ctx: &mut Context<Self>) {
        self.give_up_ownership();
        self.owner = None;
        self.cx.news.do_send(RoomNews::Fenced(self.id.clone()));
        self.sweep_later(ctx);
    }

    /// The append that the room's leaving waited for is done.
    fn left_off(&mut self, state: Leaving, ctx: &mut Context<Self>) {
        if state == Leaving::Handover {
            self.fenced(ctx);
        } else {
            self.give_up_ownership();
            self.take_role(ctx);
        }
    }

    // --------------------------------------------------------------------------------------------------- peers

    fn tell_peers(&self, message: &PeerMessage) {
        let Role::Owner(owning) = &self.role else { return };
        if owning.peers.is_empty() {
            return;
        }
        let envelope = crate::actors::envelope::Envelope::Room(self.id.clone(), message.clone()).encode();
        for node in owning.peers.keys() {
            self.cx.bus.do_send(crate::actors::messages::ToNode { node: node.clone(), envelope: envelope.clone() });
        }
    }

    pub(super) fn answer_peer(
        &mut self,
        node: &NodeId,
        stream: u64,
        n: u64,
        subscriber: Option<UserId>,
        mut result: Answered,
    ) {
        let Role::Owner(owning) = &mut self.role else { return };
        if let (Some(user), Ok(Reply::Admitted { online, .. })) = (subscriber, &mut result) {
            *online = owning.joined(node, &user);
        }
        if let Some(peer) = owning.peers.get_mut(node)
            && peer.stream == stream
        {
            peer.answered(n, result.clone());
            self.tell(node, PeerMessage::Answer { stream, n, result });
        }
    }

    /// What a mirror says to the owner.
    pub(super) fn mirror_says(&mut self, from: NodeId, message: PeerMessage, ctx: &mut Context<Self>) {
        let Role::Owner(owning) = &mut self.role else {
            if matches!(message, PeerMessage::Watch { .. } | PeerMessage::Ask { .. }) {
                self.asked_too_early(from, ctx);
            }
            return;
        };
        match message {
            PeerMessage::Watch { head, .. } if owning.is_behind(head) => {
                self.superseded(ctx);
                self.asked_too_early(from, ctx);
            }
            PeerMessage::Watch { stream, have, users, .. } => {
                self.waiting_peers.retain(|peer| *peer != from);
                if owning.peers.get(&from).is_none_or(|peer| peer.stream != stream) {
                    owning.peers.insert(from.clone(), StreamIn::new(stream));
                }
                owning.presence.reset_node(&from, &users);
                owning.owner.set_online(owning.presence.online());
                let evict = owning.strangers(&users);
                let (head, expiry) = (owning.owner.room().head, Some(owning.owner.room().expiry()));
                let Some(peer) = owning.peers.get_mut(&from) else { return };
                peer.settle(have);
                let (next_n, kept) = (peer.next(), peer.kept());
                self.tell(&from, PeerMessage::Watched { stream, next_n, head, evict, expiry });
                for (n, result) in kept {
                    self.tell(&from, PeerMessage::Answer { stream, n, result });
                }
                self.hint_later(ctx);
            }
            // The mirror keeps it and asks whoever comes next; held here it would overtake the ones before it.
            PeerMessage::Ask { .. } if owning.releasing() => {}
            PeerMessage::Ask { stream, n, have, caller, command } => {
                let Some(peer) = owning.peers.get_mut(&from).filter(|peer| peer.stream == stream) else {
                    return self.tell(&from, PeerMessage::Rewatch);
                };
                peer.settle(have);
                match peer.take(n) {
                    Some(Taken::New) => self.peer_asks(from, (stream, n), caller, command, ctx),
                    Some(Taken::Again(result)) => self.tell(&from, PeerMessage::Answer { stream, n, result }),
                    Some(Taken::Gap(missing)) => self.tell(&from, PeerMessage::Resend { stream, from: missing }),
                    Some(Taken::UnderWay) | None => {}
                }
            }
            PeerMessage::Signal { caller, signal } => {
                owning.signal(&caller, &signal, now_ms());
                self.hint_later(ctx);
            }
            PeerMessage::Left { users } => {
                users.iter().for_each(|user| owning.left(&from, user));
                self.hint_later(ctx);
            }
            PeerMessage::Unwatch => {
                self.waiting_peers.retain(|peer| *peer != from);
                owning.peers.remove(&from);
                owning.presence.drop_node(&from);
                self.hint_later(ctx);
            }
            _ => {}
        }
    }

    /// A mirror takes this node for the owner: it is told when the room is open, or that this node is not.
    fn asked_too_early(&mut self, from: NodeId, ctx: &mut Context<Self>) {
        if !self.is_mine() {
            return self.tell(&from, PeerMessage::NotOwner);
        }
        if !self.waiting_peers.contains(&from) {
            self.waiting_peers.push(from);
        }
        if matches!(self.role, Role::Missing) {
            self.open(ctx);
        }
    }

    fn peer_asks(
        &mut self,
        node: NodeId,
        (stream, n): (u64, u64),
        caller: Caller,
        command: Command,
        ctx: &mut Context<Self>,
    ) {
        self.ask(Origin::Peer { node, stream, n }, caller, command, ctx);
        self.hint_later(ctx);
    }

    pub(super) fn node_lost(&mut self, node: &NodeId, ctx: &mut Context<Self>) {
        self.waiting_peers.retain(|peer| peer != node);
        if let Role::Owner(owning) = &mut self.role {
            owning.peers.remove(node);
            owning.presence.drop_node(node);
            owning.owner.set_online(owning.presence.online());
            self.hint_later(ctx);
        }
    }

    /// Something of that node's (`None`: any node's) is missing here: its mirror says again who is there and what is open.
    pub(super) fn ask_mirrors_again(&self, node: Option<&NodeId>) {
        if let Role::Owner(owning) = &self.role {
            let peers = owning.peers.keys().chain(&self.waiting_peers);
            for peer in peers.filter(|peer| node.is_none_or(|node| node == *peer)) {
                self.tell(peer, PeerMessage::Rewatch);
            }
        }
    }

    // --------------------------------------------------------------------------------------------------- hints

    /// Sees to it that what changed in presence, typing and reads is told before long.
    pub(super) fn hint_later(&mut self, ctx: &mut Context<Self>) {
        let Role::Owner(owning) = &mut self.role else { return };
        if owning.hint_timer || !(owning.presence.changed() || owning.activity.pending()) {
            return;
        }
        owning.hint_timer = true;
        let presence = owning
            .presence_told
            .map_or(PRESENCE_GATHERS, |told| PRESENCE_EVERY.saturating_sub(told.elapsed()).max(PRESENCE_GATHERS));
        let wait = if owning.activity.pending() { presence.min(ACTIVITY_EVERY) } else { presence };
        ctx.run_later(wait, |actor, ctx| actor.tell_hints(ctx));
    }

    fn tell_hints(&mut self, ctx: &mut Context<Self>) {
        let Role::Owner(owning) = &mut self.role else { return };
        owning.hint_timer = false;
        let mut hints = owning.activity.tell(now_ms());
        if owning.presence_told.is_none_or(|told| told.elapsed() >= PRESENCE_EVERY)
            && let Some(presence) = owning.presence.tell()
        {
            owning.presence_told = Some(Instant::now());
            hints.push(presence);
        }
        for hint in hints {
            self.feed.hint(&hint);
            self.tell_peers(&PeerMessage::Hint(hint));
        }
        self.hint_later(ctx);
    }
}

/// Those of requests that are traced.
fn spans<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<TraceContext> {
    tokens.filter_map(|token| token.span.as_ref().map(|span| span.context)).collect()
}

impl Handler<Opened> for RoomActor {
    type Result = ();

    fn handle(&mut self, Opened(result): Opened, ctx: &mut Context<Self>) {
        // The owner may have changed while the store was read.
        if !self.is_mine() || !matches!(self.role, Role::Opening { .. }) {
            return;
        }
        match result {
            Ok(Some(opened)) => self.opened(opened, ctx),
            Ok(None) => self.missing(),
            Err(error) => {
                self.cx.metrics.store_errors.inc();
                tracing::warn!(room.id = %self.id, error = %error, "room.open.failed");
                self.role = Role::Opening { tried: true };
                self.refuse_held(&store_away());
                self.read_room_later(ctx);
            }
        }
        self.flush();
    }
}

impl RoomActor {
    fn read_room_later(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(REOPEN_AFTER, |actor, ctx| {
            if actor.is_mine() && matches!(actor.role, Role::Opening { .. }) {
                actor.read_room(ctx);
            }
        });
    }
}

impl Handler<AppendDone> for RoomActor {
    type Result = ();

    fn handle(&mut self, done: AppendDone, ctx: &mut Context<Self>) {
        let Role::Owner(owning) = &mut self.role else { return };
        #[cfg(feature = "seeded-bugs")]
        let done = super::seeded::counted_alone(done, owning.owner.room().head);
        let AppendDone(result) = done;
        let state = owning.state;
        match result {
            Ok(Appended::Done(outcomes)) => {
                let effects = owning.owner.committed(outcomes);
                self.carry_out(effects, ctx);
                if state == Leaving::No {
                    self.step(ctx);
                } else {
                    self.left_off(state, ctx);
                }
            }
            Ok(Appended::Fenced) => {
                tracing::info!(room.id = %self.id, "room.fenced");
                if state == Leaving::No {
                    // Another node opened the room. If this one is to own it all the same, it opens it again.
                    self.give_up_ownership();
                    self.role = Role::Opening { tried: false };
                    self.sweep_later(ctx);
                    self.read_room_later(ctx);
                } else {
                    self.left_off(state, ctx);
                }
            }
            Err(error) => {
                let refusal = match &error {
                    StoreError::Unavailable(_) => store_away(),
                    StoreError::Fault(_) => Refusal::internal(format_args!("append {}", self.id)),
                };
                let effects = owning.owner.in_doubt(&refusal);
                self.carry_out(effects, ctx);
                if state == Leaving::No {
                    self.give_up_ownership();
                    self.open(ctx);
                } else {
                    self.left_off(state, ctx);
                }
            }
        }
        self.flush();
        self.hint_later(ctx);
    }
}
