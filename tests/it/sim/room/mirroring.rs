//! Mirrors `actors/room/mirroring.rs`: the room as a mirror.

use std::rc::Rc;

use roundtable::actors::envelope::PeerMessage;
use roundtable::domain::command::Reply;
use roundtable::domain::stream::StreamOut;
use roundtable::entry::Entry;
use roundtable::ids::{NodeId, Seq};
use roundtable::refusal::Refusal;

use super::owning::tell;
use super::{Answered, Asked, Cx, Role, Room};
use crate::sim::Flaw;
use crate::sim::wire::{Out, Time, Timer, Wire};

const WATCH_AGAIN: Time = 150;

pub struct Mirroring {
    owner: NodeId,
    out: StreamOut<Asked, Answered>,
    watched: bool,
    watch_timer: bool,
}

impl Room {
    pub(super) fn mirror(&mut self, owner: NodeId, cx: &mut Cx) {
        let mut out = StreamOut::new(cx.chance.bits());
        for request in std::mem::take(&mut self.held) {
            out.push(request);
        }
        self.role = Role::Mirror(Box::new(Mirroring { owner, out, watched: false, watch_timer: false }));
        self.watch(cx);
        self.sweep_later(cx);
    }

    pub(super) fn take_back(&mut self, cx: &Cx) {
        if let Role::Mirror(mirroring) = std::mem::replace(&mut self.role, Role::Unowned) {
            self.requeue(mirroring.out.into_unanswered().collect(), cx);
        }
    }

    pub(super) fn watch(&mut self, cx: &mut Cx) {
        let users = self.users();
        let Role::Mirror(mirroring) = &mut self.role else { return };
        mirroring.watched = false;
        let (stream, have, head) = (mirroring.out.stream, mirroring.out.have(), self.feed.head());
        tell(&mirroring.owner, PeerMessage::Watch { stream, have, users, head }, cx);
        self.watch_later(cx);
    }

    fn watch_later(&mut self, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        if !std::mem::replace(&mut mirroring.watch_timer, true) {
            cx.out.push(Out::Timer(WATCH_AGAIN, Timer::WatchAgain));
        }
    }

    pub(super) fn watch_again(&mut self, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        mirroring.watch_timer = false;
        if !mirroring.watched && (!mirroring.out.is_empty() || self.feed.has_readers()) {
            self.watch(cx);
        }
    }

    pub(super) fn pass_on(&mut self, request: Asked, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        let (caller, command) = (request.caller.clone(), request.command.clone());
        let n = mirroring.out.push(request);
        if mirroring.watched {
            let (stream, have) = (mirroring.out.stream, mirroring.out.have());
            tell(&mirroring.owner, PeerMessage::Ask { stream, n, have, caller, command }, cx);
        } else if !mirroring.watch_timer {
            self.watch(cx);
        }
        self.sweep_later(cx);
    }

    fn send_from(&self, from: u64, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &self.role else { return };
        let (stream, have) = (mirroring.out.stream, mirroring.out.have());
        for (n, request) in mirroring.out.from(from) {
            let (caller, command) = (request.caller.clone(), request.command.clone());
            tell(&mirroring.owner, PeerMessage::Ask { stream, n, have, caller, command }, cx);
        }
    }

    pub(super) fn peer(&mut self, from: NodeId, message: Wire, cx: &mut Cx) {
        match message {
            Wire::Peer(
                message @ (PeerMessage::Watch { .. }
                | PeerMessage::Unwatch
                | PeerMessage::Ask { .. }
                | PeerMessage::Signal { .. }
                | PeerMessage::Left { .. }),
            ) => self.from_mirror(from, message, cx),
            message => self.from_owner(&from, message, cx),
        }
    }

    fn from_owner(&mut self, from: &NodeId, message: Wire, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        if mirroring.owner != *from {
            return;
        }
        let ours = mirroring.out.stream;
        let message = match message {
            Wire::Commit { first, entries } => return self.committed_elsewhere(first, entries, cx),
            Wire::Peer(message) => message,
        };
        match message {
            PeerMessage::Watched { stream, next_n: 1, .. } if stream == ours && mirroring.out.any_answered() => {
                self.new_stream(cx);
                self.watch(cx);
            }
            PeerMessage::Watched { stream, next_n, head, .. } if stream == ours => {
                mirroring.watched = true;
                self.advance(head, cx);
                self.send_from(next_n, cx);
            }
            PeerMessage::Answer { stream, n, result } if stream == ours => {
                if let Ok(Reply::Admitted { head, .. }) = &result {
                    self.advance(*head, cx);
                }
                let Role::Mirror(mirroring) = &mut self.role else { return };
                let refused = result.is_err();
                for (request, result) in mirroring.out.answered(n, result, refused) {
                    self.answer(request.token, result, cx);
                }
            }
            PeerMessage::Resend { stream, from } if stream == ours => self.send_from(from, cx),
            PeerMessage::Evict { user, .. } => {
                self.flush(cx);
                self.feed.evict(user, cx.out);
            }
            PeerMessage::NotOwner => {
                mirroring.watched = false;
                self.watch_later(cx);
            }
            PeerMessage::Rewatch => self.watch(cx),
            _ => {}
        }
    }

    fn advance(&mut self, head: Seq, cx: &mut Cx) {
        if cx.flaw != Flaw::MirrorIgnoresAdvance {
            self.feed.advance(head, cx.out);
        }
    }

    fn committed_elsewhere(&mut self, first: Seq, entries: Vec<Rc<Entry>>, cx: &mut Cx) {
        let last = first + entries.len() as Seq - 1;
        let head = self.feed.head();
        if last <= head {
            return;
        }
        if first > head + 1 {
            return self.advance(last, cx);
        }
        let shown = self.feed.append(entries.into_iter().skip((head + 1 - first) as usize).collect());
        self.fresh.push(shown);
    }

    fn new_stream(&mut self, cx: &mut Cx) {
        if let Role::Mirror(mirroring) = &mut self.role {
            let before = std::mem::replace(&mut mirroring.out, StreamOut::new(cx.chance.bits()));
            for request in before.into_unanswered() {
                mirroring.out.push(request);
            }
            mirroring.watched = false;
        }
    }

    pub(super) fn mirror_waits(&self) -> bool {
        matches!(&self.role, Role::Mirror(mirroring) if !mirroring.out.is_empty())
    }

    pub(super) fn sweep_mirror(&mut self, deadline: Time, cx: &mut Cx) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        let late = mirroring.out.give_up(|request| cx.now - request.token.since > deadline);
        if late.is_empty() {
            return;
        }
        for (request, answer) in late {
            let too_late = || Err(Refusal::unavailable("the room's owner can't be reached now"));
            self.answer(request.token, answer.unwrap_or_else(too_late), cx);
        }
        self.new_stream(cx);
        self.watch(cx);
    }

    pub(super) fn link_broken(&mut self, node: Option<&NodeId>, cx: &mut Cx) {
        self.ask_mirrors_again(node, cx);
        if let Role::Mirror(mirroring) = &self.role
            && node.is_none_or(|node| *node == mirroring.owner)
        {
            self.watch(cx);
        }
    }
}
