//! The room as a mirror: another node owns it. Passes requests on over a numbered stream and fans out what comes back.
//!
//! Invariants: a request is kept until it is answered, refused by its deadline, or taken along to the next owner; a
//! commit that is not the next one makes the feed jump to its end, and the cursors fetch what lies between.

use std::time::Duration;

use actix::{AsyncContext, Context};
use bytes::Bytes;

use super::owning::Answered;
use super::{Asked, Role, RoomActor};
use crate::actors::envelope::PeerMessage;
use crate::domain::command::{Eviction, Reply};
use crate::domain::stream::StreamOut;
use crate::entry::Entry;
use crate::ids::{NodeId, Seq};
use crate::refusal::Refusal;

/// How soon an owner that did not answer a `Watch` is asked again.
const WATCH_AGAIN: Duration = Duration::from_millis(150);

pub(super) struct Mirroring {
    pub(super) owner: NodeId,
    pub(super) out: StreamOut<Asked, Answered>,
    /// The owner knows of this mirror, and sends commits and answers.
    watched: bool,
    watch_timer: bool,
}

impl RoomActor {
    pub(super) fn mirror(&mut self, owner: NodeId, ctx: &mut Context<Self>) {
        let mut out = StreamOut::new(rand::random());
        for request in std::mem::take(&mut self.held) {
            out.push(request);
        }
        self.role = Role::Mirror(Box::new(Mirroring { owner, out, watched: false, watch_timer: false }));
        self.cx.metrics.mirrors.inc();
        self.watch(ctx);
        self.sweep_later(ctx);
    }

    /// Holds what the mirror has not got answers for, for the next role.
    pub(super) fn take_back(&mut self) {
        if let Role::Mirror(mirroring) = std::mem::replace(&mut self.role, Role::Unowned) {
            self.cx.metrics.mirrors.dec();
            let requests: Vec<Asked> = mirroring.out.into_unanswered().collect();
            for request in requests.into_iter().rev() {
                self.held.push_front(request);
            }
        }
    }

    /// Says who reads here and asks where the log and the stream stand; again until the owner answers, since this and
    /// the answer may be lost. Requests wait for the answer meanwhile.
    pub(super) fn watch(&mut self, ctx: &mut Context<Self>) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        mirroring.watched = false;
        let (owner, stream, have) = (mirroring.owner.clone(), mirroring.out.stream, mirroring.out.have());
        let users = self.local.users().cloned().collect();
        let head = self.feed.head();
        self.tell(&owner, PeerMessage::Watch { stream, have, users, head });
        self.watch_later(ctx);
    }

    fn watch_later(&mut self, ctx: &mut Context<Self>) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        if std::mem::replace(&mut mirroring.watch_timer, true) {
            return;
        }
        ctx.run_later(WATCH_AGAIN, |actor, ctx| {
            let Role::Mirror(mirroring) = &mut actor.role else { return };
            mirroring.watch_timer = false;
            if !mirroring.watched && (!mirroring.out.is_empty() || actor.feed.has_readers()) {
                actor.watch(ctx);
            }
        });
    }

    pub(super) fn pass_on(&mut self, request: Asked, ctx: &mut Context<Self>) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        let (caller, command) = (request.caller.clone(), request.command.clone());
        let n = mirroring.out.push(request);
        if mirroring.watched {
            let (owner, stream, have) = (mirroring.owner.clone(), mirroring.out.stream, mirroring.out.have());
            self.tell(&owner, PeerMessage::Ask { stream, n, have, caller, command });
        } else if !mirroring.watch_timer {
            self.watch(ctx);
        }
        self.sweep_later(ctx);
    }

    fn send_from(&self, from: u64) {
        let Role::Mirror(mirroring) = &self.role else { return };
        let (stream, have) = (mirroring.out.stream, mirroring.out.have());
        for (n, request) in mirroring.out.from(from) {
            let (caller, command) = (request.caller.clone(), request.command.clone());
            self.tell(&mirroring.owner, PeerMessage::Ask { stream, n, have, caller, command });
        }
    }

    pub(super) fn peer(&mut self, from: NodeId, message: PeerMessage, ctx: &mut Context<Self>) {
        self.stopping.touch();
        match message {
            PeerMessage::Watch { .. }
            | PeerMessage::Unwatch
            | PeerMessage::Ask { .. }
            | PeerMessage::Signal { .. }
            | PeerMessage::Left { .. } => self.mirror_says(from, message, ctx),
            message => self.owner_says(&from, message, ctx),
        }
    }

    fn owner_says(&mut self, from: &NodeId, message: PeerMessage, ctx: &mut Context<Self>) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        if mirroring.owner != *from {
            // A former owner: what it committed is in the log, and the present one tells of it.
            return;
        }
        let ours = mirroring.out.stream;
        match message {
            // The owner does not know the stream any more: the numbers start again.
            PeerMessage::Watched { stream, next_n: 1, .. } if stream == ours && mirroring.out.any_answered() => {
                self.new_stream();
                self.watch(ctx);
            }
            PeerMessage::Watched { stream, next_n, head, evict, expiry } if stream == ours => {
                mirroring.watched = true;
                self.feed.advance(head);
                self.feed.set_expiry(expiry);
                for user in evict {
                    self.feed.evict(Some(&user), Eviction::Kicked);
                }
                self.send_from(next_n);
                self.release_signals(ctx);
            }
            PeerMessage::Answer { stream, n, result } if stream == ours => {
                if let Ok(Reply::Admitted { head, .. }) = &result {
                    self.feed.advance(*head);
                }
                let Role::Mirror(mirroring) = &mut self.role else { return };
                let refused = result.is_err();
                for (request, result) in mirroring.out.answered(n, result, refused) {
                    self.answer(request.token, result);
                }
            }
            PeerMessage::Resend { stream, from } if stream == ours => {
                self.cx.metrics.stream_resends.inc();
                self.send_from(from);
            }
            PeerMessage::Commit { first, entries } => self.committed_elsewhere(first, &entries),
            PeerMessage::Hint(hint) => self.feed.hint(&hint),
            PeerMessage::Evict { user, why } => {
                self.flush();
                self.feed.evict(user.as_ref(), why);
            }
            PeerMessage::NotOwner => {
                mirroring.watched = false;
                self.watch_later(ctx);
            }
            PeerMessage::NoRoom => {
                mirroring.watched = false;
                for (request, answer) in mirroring.out.give_up(|_| true) {
                    self.answer(request.token, answer.unwrap_or_else(|| Err(Refusal::no_such_room())));
                }
                self.new_stream();
                if self.feed.has_readers() {
                    self.feed.evict(None, Eviction::Deleted);
                }
            }
            PeerMessage::Rewatch => self.watch(ctx),
            _ => {}
        }
    }

    fn committed_elsewhere(&mut self, first: Seq, entries: &[Bytes]) {
        let last = first + entries.len() as Seq - 1;
        let head = self.feed.head();
        if last <= head {
            return;
        }
        if first > head + 1 {
            return self.feed.advance(last);
        }
        let fresh = entries.iter().skip((head + 1 - first) as usize);
        let decoded: Result<Vec<(Entry, Bytes)>, _> =
            fresh.map(|json| serde_json::from_slice::<Entry>(json).map(|entry| (entry, json.clone()))).collect();
        match decoded {
            Ok(decoded) => {
                let shown = self.feed.append(decoded);
                self.fresh.push(shown);
            }
            Err(error) => {
                // An entry of a later release: the store has it, and reads it as that release wrote it.
                tracing::warn!(room.id = %self.id, error = %error, "room.commit.unreadable");
                self.feed.advance(last);
            }
        }
    }

    /// Numbers start again; requests that are still open go along.
    fn new_stream(&mut self) {
        if let Role::Mirror(mirroring) = &mut self.role {
            let before = std::mem::replace(&mut mirroring.out, StreamOut::new(rand::random()));
            for request in before.into_unanswered() {
                mirroring.out.push(request);
            }
            mirroring.watched = false;
        }
    }

    pub(super) fn mirror_waits(&self) -> bool {
        matches!(&self.role, Role::Mirror(mirroring) if !mirroring.out.is_empty())
    }

    /// Gives up on requests over their deadline; the owner may have missed them, so the stream starts anew.
    pub(super) fn sweep_mirror(&mut self, deadline: Duration, ctx: &mut Context<Self>) {
        let Role::Mirror(mirroring) = &mut self.role else { return };
        let late = mirroring.out.give_up(|request| request.token.since.elapsed() > deadline);
        if late.is_empty() {
            return;
        }
        for (request, answer) in late {
            let too_late = || Err(Refusal::unavailable("the room's owner can't be reached now"));
            self.answer(request.token, answer.unwrap_or_else(too_late));
        }
        self.new_stream();
        self.watch(ctx);
    }

    /// Something from that node (`None`: any) may be lost: ask again, in both directions.
    pub(super) fn link_broken(&mut self, node: Option<&NodeId>, ctx: &mut Context<Self>) {
        self.ask_mirrors_again(node);
        if let Role::Mirror(mirroring) = &self.role
            && node.is_none_or(|node| *node == mirroring.owner)
        {
            self.watch(ctx);
        }
    }
}
