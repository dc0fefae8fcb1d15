//! Mirrors `actors/room/owning.rs`: the room as its owner.

use std::collections::BTreeMap;
use std::rc::Rc;

use roundtable::actors::envelope::PeerMessage;
use roundtable::domain::append::Outcome;
use roundtable::domain::command::{Caller, Command};
use roundtable::domain::owner::{Effect, Owner};
use roundtable::domain::presence::Presence;
use roundtable::domain::stream::{StreamIn, Taken};
use roundtable::entry::Entry;
use roundtable::ids::{Epoch, NodeId, Seq};

use super::{Answered, Asked, Cx, Origin, Role, Room, Token, store_away};
use crate::sim::Flaw;
use crate::sim::store::Opened;
use crate::sim::wire::{Out, Time, Timer, Wire};

const REOPEN_AFTER: Time = 200;
/// The wall clock's lead over the world's.
const WALL: i64 = 1_700_000_000_000;

pub struct Owning {
    pub(super) owner: Owner<Token>,
    epoch: Epoch,
    peers: BTreeMap<NodeId, StreamIn<Answered>>,
    presence: Presence,
    state: Leaving,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Handover,
    Lost,
}

impl Owning {
    pub(super) fn releasing(&self) -> bool {
        self.state != Leaving::No
    }

    pub(super) fn leave(&mut self) {
        self.state = Leaving::Lost;
    }

    pub(super) fn is_behind(&self, head: Seq) -> bool {
        head > self.owner.room().head && !self.owner.is_appending()
    }
}

impl Room {
    pub(super) fn open(&mut self, cx: &mut Cx) {
        self.role = Role::Opening { tried: false };
        cx.out.push(Out::Open);
    }

    fn opened(&mut self, opened: Opened, cx: &mut Cx) {
        let recent: Vec<Entry> = opened.recent.iter().map(|entry| (**entry).clone()).collect();
        let head = opened.room.head;
        let owner = Owner::new(opened.room, 1, opened.people, &recent);
        let mut presence = Presence::default();
        self.users().iter().for_each(|user| presence.join(cx.me, user));
        self.feed.reload(head, opened.recent, cx.out);
        let peers = BTreeMap::new();
        self.role = Role::Owner(Box::new(Owning { owner, epoch: opened.epoch, peers, presence, state: Leaving::No }));
        for peer in &self.waiting_peers {
            tell(peer, PeerMessage::Rewatch, cx);
        }
        for request in std::mem::take(&mut self.held) {
            if let Role::Owner(owning) = &mut self.role {
                owning.owner.offer(request);
            }
        }
        self.step(cx);
    }

    // -------------------------------------------------------------------------------------------------- append

    pub(super) fn step(&mut self, cx: &mut Cx) {
        if let Role::Owner(owning) = &mut self.role
            && !owning.releasing()
        {
            let effects = owning.owner.step(WALL + cx.now as i64);
            self.carry_out(effects, cx);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect<Token>>, cx: &mut Cx) {
        for effect in effects {
            match effect {
                Effect::Append(items) => {
                    let Role::Owner(owning) = &self.role else { continue };
                    let epoch = owning.epoch;
                    if cx.flaw == Flaw::OwnerShowsEarly {
                        self.show_early(&items, cx);
                    }
                    cx.out.push(Out::Append { epoch, items });
                }
                Effect::Answer(token, result) => self.answer(token, result, cx),
                Effect::Show(entries) => self.show(entries.into_iter().map(Rc::new).collect(), cx),
                Effect::Evict(user, why) => {
                    self.flush(cx);
                    self.feed.evict(user.clone(), cx.out);
                    self.tell_peers(&Wire::Peer(PeerMessage::Evict { user, why }), cx);
                }
                Effect::Gone => unreachable!("no simulated client deletes a room"),
            }
        }
    }

    fn show(&mut self, entries: Vec<Rc<Entry>>, cx: &mut Cx) {
        let first = entries.first().map_or(0, |entry| entry.seq);
        if first != self.feed.head() + 1 {
            let last = entries.last().map_or(0, |entry| entry.seq);
            self.feed.advance(last, cx.out);
            return;
        }
        self.tell_peers(&Wire::Commit { first, entries: entries.clone() }, cx);
        let shown = self.feed.append(entries);
        self.fresh.push(shown);
    }

    /// [`Flaw::OwnerShowsEarly`]: what is not committed yet, under the number it will probably get.
    fn show_early(&mut self, items: &[roundtable::domain::append::AppendItem], cx: &mut Cx) {
        use roundtable::domain::append::Change;
        use roundtable::entry::{Body, Mentions, Message};
        let first = self.feed.head() + 1;
        let entries: Vec<Rc<Entry>> = items
            .iter()
            .filter_map(|item| match &item.change {
                Change::Message { id, text, .. } => Some((item, id, text)),
                _ => None,
            })
            .zip(first..)
            .map(|((item, id, text), seq)| {
                let message = Message {
                    id: id.clone(),
                    text: Some(text.clone()),
                    reply_to: None,
                    data: None,
                    edited_at: None,
                    mentions: Mentions::default(),
                };
                Rc::new(Entry { seq, user: item.user.clone(), at: item.at, body: Body::Message(message) })
            })
            .collect();
        if !entries.is_empty() {
            self.feed.deliver(entries.into(), cx.out);
        }
    }

    pub(super) fn give_up_ownership(&mut self, cx: &mut Cx) {
        if let Role::Owner(owning) = std::mem::replace(&mut self.role, Role::Unowned) {
            let strayed =
                owning.peers.into_keys().filter(|peer| !self.waiting_peers.contains(peer)).collect::<Vec<_>>();
            self.waiting_peers.extend(strayed);
            let (requests, ready) = owning.owner.into_requests();
            for effect in ready {
                if let Effect::Answer(token, result) = effect {
                    self.answer(token, result, cx);
                }
            }
            for request in requests.into_iter().rev() {
                match request.token.origin {
                    Origin::Peer { .. } => self.requests -= 1,
                    Origin::Session { .. } => self.held.push_front(request),
                }
            }
        }
    }

    pub(super) fn superseded(&mut self, cx: &mut Cx) {
        self.give_up_ownership(cx);
        self.open(cx);
    }

    pub(super) fn release(&mut self, cx: &mut Cx) {
        match &mut self.role {
            Role::Owner(owning) if owning.owner.is_appending() => owning.state = Leaving::Handover,
            Role::Owner(_) => self.fenced(cx),
            _ => {
                if matches!(self.role, Role::Opening { .. }) {
                    self.role = Role::Unowned;
                }
                self.owner = None;
                cx.out.push(Out::Fenced);
            }
        }
    }

    fn fenced(&mut self, cx: &mut Cx) {
        self.give_up_ownership(cx);
        self.owner = None;
        cx.out.push(Out::Fenced);
        self.sweep_later(cx);
    }

    fn left_off(&mut self, state: Leaving, cx: &mut Cx) {
        if state == Leaving::Handover {
            self.fenced(cx);
        } else {
            self.give_up_ownership(cx);
            self.take_role(cx);
        }
    }

    // --------------------------------------------------------------------------------------------------- peers

    fn tell_peers(&self, message: &Wire, cx: &mut Cx) {
        let Role::Owner(owning) = &self.role else { return };
        for node in owning.peers.keys() {
            cx.out.push(Out::Tell(node.clone(), message.clone()));
        }
    }

    pub(super) fn answer_peer(&mut self, node: &NodeId, stream: u64, n: u64, result: Answered, cx: &mut Cx) {
        let Role::Owner(owning) = &mut self.role else { return };
        if let Some(peer) = owning.peers.get_mut(node)
            && peer.stream == stream
        {
            peer.answered(n, result.clone());
            tell(node, PeerMessage::Answer { stream, n, result }, cx);
        }
    }

    pub(super) fn from_mirror(&mut self, from: NodeId, message: PeerMessage, cx: &mut Cx) {
        let Role::Owner(owning) = &mut self.role else {
            if matches!(message, PeerMessage::Watch { .. } | PeerMessage::Ask { .. }) {
                self.asked_too_early(from, cx);
            }
            return;
        };
        match message {
            PeerMessage::Watch { head, .. } if owning.is_behind(head) && cx.flaw != Flaw::NeverSuperseded => {
                self.superseded(cx);
                self.asked_too_early(from, cx);
            }
            PeerMessage::Watch { stream, have, users, .. } => {
                self.waiting_peers.retain(|peer| *peer != from);
                if owning.peers.get(&from).is_none_or(|peer| peer.stream != stream) {
                    owning.peers.insert(from.clone(), StreamIn::new(stream));
                }
                owning.presence.reset_node(&from, &users);
                owning.owner.set_online(owning.presence.online());
                let head = owning.owner.room().head;
                let Some(peer) = owning.peers.get_mut(&from) else { return };
                peer.settle(have);
                let (next_n, kept) = (peer.next(), peer.kept());
                tell(&from, PeerMessage::Watched { stream, next_n, head, evict: Vec::new(), expiry: None }, cx);
                for (n, result) in kept {
                    tell(&from, PeerMessage::Answer { stream, n, result }, cx);
                }
            }
            // The mirror keeps it and asks whoever comes next.
            PeerMessage::Ask { .. } if owning.releasing() && cx.flaw != Flaw::LeavingOwnerHolds => {}
            PeerMessage::Ask { stream, n, have, caller, command } => {
                let Some(peer) = owning.peers.get_mut(&from).filter(|peer| peer.stream == stream) else {
                    return tell(&from, PeerMessage::Rewatch, cx);
                };
                peer.settle(have);
                match peer.take(n) {
                    Some(Taken::New) => self.peer_asks(from, (stream, n), caller, command, cx),
                    Some(Taken::Again(result)) => tell(&from, PeerMessage::Answer { stream, n, result }, cx),
                    Some(Taken::Gap(_)) if cx.flaw == Flaw::StreamTakesGaps => {
                        self.peer_asks(from, (stream, n), caller, command, cx);
                    }
                    Some(Taken::Gap(missing)) => tell(&from, PeerMessage::Resend { stream, from: missing }, cx),
                    None if cx.flaw == Flaw::StreamTakesGaps => self.peer_asks(from, (stream, n), caller, command, cx),
                    Some(Taken::UnderWay) | None => {}
                }
            }
            PeerMessage::Left { users } => users.iter().for_each(|user| owning.presence.leave(&from, user)),
            PeerMessage::Unwatch => {
                self.waiting_peers.retain(|peer| *peer != from);
                owning.peers.remove(&from);
                owning.presence.drop_node(&from);
            }
            _ => {}
        }
    }

    fn asked_too_early(&mut self, from: NodeId, cx: &mut Cx) {
        if !self.is_mine(cx) {
            return tell(&from, PeerMessage::NotOwner, cx);
        }
        if !self.waiting_peers.contains(&from) {
            self.waiting_peers.push(from);
        }
    }

    fn peer_asks(&mut self, node: NodeId, (stream, n): (u64, u64), caller: Caller, command: Command, cx: &mut Cx) {
        self.ask(Origin::Peer { node, stream, n }, caller, command, cx);
    }

    pub(super) fn node_lost(&mut self, node: &NodeId) {
        self.waiting_peers.retain(|peer| peer != node);
        if let Role::Owner(owning) = &mut self.role {
            owning.peers.remove(node);
            owning.presence.drop_node(node);
            owning.owner.set_online(owning.presence.online());
        }
    }

    pub(super) fn ask_mirrors_again(&self, node: Option<&NodeId>, cx: &mut Cx) {
        if let Role::Owner(owning) = &self.role {
            let peers = owning.peers.keys().chain(&self.waiting_peers);
            for peer in peers.filter(|peer| node.is_none_or(|node| node == *peer)) {
                tell(peer, PeerMessage::Rewatch, cx);
            }
        }
    }

    // --------------------------------------------------------------------------------------------------- store

    pub(super) fn on_opened(&mut self, result: Result<Opened, ()>, cx: &mut Cx) {
        if !self.is_mine(cx) || !matches!(self.role, Role::Opening { .. }) {
            return;
        }
        match result {
            Ok(opened) => self.opened(opened, cx),
            Err(()) => {
                self.role = Role::Opening { tried: true };
                self.refuse_held(&store_away(), cx);
                cx.out.push(Out::Timer(REOPEN_AFTER, Timer::Reopen));
            }
        }
    }

    pub(super) fn reopen(&mut self, cx: &mut Cx) {
        if self.is_mine(cx) && matches!(self.role, Role::Opening { .. }) {
            cx.out.push(Out::Open);
        }
    }

    pub(super) fn on_appended(&mut self, result: Result<Option<Vec<Outcome>>, ()>, cx: &mut Cx) {
        let Role::Owner(owning) = &mut self.role else { return };
        let state = owning.state;
        match result {
            Ok(Some(outcomes)) => {
                let effects = owning.owner.committed(outcomes);
                self.carry_out(effects, cx);
                if state == Leaving::No {
                    self.step(cx);
                } else {
                    self.left_off(state, cx);
                }
            }
            Ok(None) => {
                if state == Leaving::No {
                    self.give_up_ownership(cx);
                    self.role = Role::Opening { tried: false };
                    self.sweep_later(cx);
                    cx.out.push(Out::Timer(REOPEN_AFTER, Timer::Reopen));
                } else {
                    self.left_off(state, cx);
                }
            }
            Err(()) => {
                let effects = owning.owner.in_doubt(&store_away());
                self.carry_out(effects, cx);
                if state != Leaving::No {
                    self.left_off(state, cx);
                } else if cx.flaw == Flaw::OwnerTrustsDoubt {
                    self.step(cx);
                } else {
                    self.give_up_ownership(cx);
                    self.open(cx);
                }
            }
        }
    }
}

pub(super) fn tell(node: &NodeId, message: PeerMessage, cx: &mut Cx) {
    cx.out.push(Out::Tell(node.clone(), Wire::Peer(message)));
}

impl Room {
    pub(super) fn requeue(&mut self, requests: Vec<Asked>, cx: &Cx) {
        for request in requests.into_iter().rev() {
            if cx.flaw == Flaw::RequestsTakenBackReversed {
                self.held.push_back(request);
            } else {
                self.held.push_front(request);
            }
        }
    }
}
