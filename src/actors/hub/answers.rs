//! A room's answers on their way to the sessions that asked.
//!
//! Invariant: every subscription that a room admitted ends in exactly one of: a reader here that later leaves or is
//! evicted, or an `Unsubscribed` at once, because nobody waits for it any more.

use std::rc::Rc;

use super::{Hub, State};
use crate::actors::frame::Closing;
use crate::actors::messages::{Answer, ToRoom};
use crate::actors::session::core::{Asked, PageJob, Pending, SessionCore};
use crate::domain::command::{Caller, Eviction, Reply};
use crate::domain::cursor::{Cursor, Verdict, Wish};
use crate::entry::Role;
use crate::ids::{RoomId, Seq};
use crate::ports::Range;
use crate::protocol::{self, Accepted, ServerFrame};
use crate::refusal::{Code, Refusal};
use crate::telemetry::traces::{Said, Span, Step};

/// What a room said when it admitted a caller.
#[derive(Clone, Copy)]
struct Admitted {
    role: Option<Role>,
    head: Seq,
    oldest: Seq,
    online: u32,
}

impl Hub {
    pub(super) fn answers(&self, id: &RoomId, answers: Vec<Answer>) {
        let mut state = self.state.borrow_mut();
        let slot = match state.known_room(id) {
            Some((slot, room)) => {
                room.unanswered = room.unanswered.saturating_sub(answers.len());
                slot
            }
            None => return,
        };
        let mut pages = Vec::new();
        for Answer { key, corr, result } in answers {
            let core = state.session(key).cloned();
            let pending = core.as_ref().and_then(|core| core.state.borrow_mut().answered(corr));
            match (core, pending) {
                (Some(core), Some(pending)) => self.answer(&mut state, slot, &core, pending, result, &mut pages),
                _ => {
                    if let (Some(caller), Ok(_)) = (state.orphan(slot, key, corr), result) {
                        self.unsubscribed(&mut state, slot, caller);
                    }
                }
            }
        }
        drop(state);
        for core in pages {
            self.next_page(&core);
        }
    }

    /// `pages`: gets the session where a page of history may be read now.
    fn answer(
        &self,
        state: &mut State,
        slot: u32,
        core: &Rc<SessionCore>,
        pending: Pending,
        result: Result<Reply, Refusal>,
        pages: &mut Vec<Rc<SessionCore>>,
    ) {
        let Pending { reference, since, room, kind, .. } = pending;
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => {
                let kind = match kind {
                    Asked::Send { id, span } => {
                        self.traced(span, &[Said::Room(&room), Said::Refused(refusal.code)]);
                        Asked::Send { id, span: None }
                    }
                    kind => kind,
                };
                return self.refuse(state, slot, core, reference, kind, refusal);
            }
        };
        let frame = match (kind, reply) {
            (Asked::Send { id, span }, Reply::Sent { seq, at, duplicate }) => {
                self.traced(span, &[Said::Room(&room), Said::Seq(seq)]);
                if !duplicate {
                    self.receipts.borrow_mut().push(since);
                }
                ServerFrame::Sent { room, id, seq, at, duplicate }
            }
            (Asked::Change, Reply::Changed { seq }) => ServerFrame::Ok(Accepted::Seq(seq)),
            (Asked::Join, Reply::Member { role }) => ServerFrame::Ok(Accepted::Role(role)),
            (Asked::Leave, Reply::Member { .. }) => ServerFrame::Ok(Accepted::Done),
            (
                Asked::Subscribe { wish: wish @ Wish::After(after), verified: false, unsubscribes },
                Reply::Admitted { role, head, oldest, online },
            ) if after > head => {
                let kind = Asked::Subscribe { wish, verified: true, unsubscribes };
                let corr = core.state.borrow_mut().ask(reference, room.clone(), kind);
                state.rooms[slot as usize].unanswered += 1;
                let admitted = Reply::Admitted { role, head, oldest, online };
                return self.verify(room, core, after, Answer { key: core.key, corr, result: Ok(admitted) });
            }
            (Asked::Subscribe { wish, unsubscribes, .. }, Reply::Admitted { role, head, oldest, online }) => {
                self.subscribed(state, slot, core, reference, wish, Admitted { role, head, oldest, online });
                if !unsubscribes.is_empty() {
                    self.leave_room(state, core, slot, &[]);
                    self.confirm_unsubscribes(core, &unsubscribes);
                }
                return;
            }
            (Asked::Readmit, Reply::Admitted { head, .. }) => {
                // It may have unsubscribed meanwhile.
                if core.state.borrow().reader(slot).is_some() {
                    self.readmitted(state, core, slot, head);
                } else if let Some(caller) = core.caller() {
                    self.unsubscribed(state, slot, caller);
                }
                return;
            }
            (Asked::Recheck, Reply::Admitted { .. }) => return,
            (Asked::Forgotten, Reply::Admitted { .. }) => {
                if let Some(caller) = core.caller() {
                    self.unsubscribed(state, slot, caller);
                }
                return;
            }
            (Asked::History { range, limit }, Reply::Admitted { .. }) => {
                let mut session = core.state.borrow_mut();
                // Counts until the page is sent.
                session.inflight += 1;
                session.pages.get_or_insert_default().waiting.push_back(PageJob { room, reference, range, limit });
                pages.push(Rc::clone(core));
                return;
            }
            _ => {
                let fault = format!("{:08x}{:08x}", core.key.slot, core.key.generation);
                tracing::error!(fault.id = %fault, session.id = %core.key, room.id = %room, "a room's answer does not fit the request");
                ServerFrame::Error(Refusal::internal(fault))
            }
        };
        self.send(core, &frame, reference);
    }

    /// A `send` is answered.
    fn traced(&self, span: Option<Box<Span>>, said: &[Said<'_>]) {
        if let (Some(span), Some(traces)) = (span, &self.context().traces) {
            traces.end(&span, Step::SessionSend, said);
        }
    }

    fn refuse(
        &self,
        state: &mut State,
        slot: u32,
        core: &Rc<SessionCore>,
        reference: Option<u64>,
        kind: Asked,
        refusal: Refusal,
    ) {
        match kind {
            Asked::Forgotten => {}
            Asked::Readmit | Asked::Recheck if matches!(refusal.code, Code::NotFound | Code::Forbidden) => {
                self.evict_reader(state, core, slot, Eviction::Kicked);
            }
            // Whether it may go on is not known: it comes back, and is admitted anew.
            Asked::Recheck => core.close(Closing::TRY_AGAIN),
            // The room is away again; the sweep asks once more.
            Asked::Readmit => {}
            Asked::Subscribe { unsubscribes, .. } => {
                self.send(core, &ServerFrame::Error(refusal), reference);
                if !unsubscribes.is_empty() {
                    // A subscription from before this refused one may still be there.
                    self.leave_room(state, core, slot, &[]);
                    self.confirm_unsubscribes(core, &unsubscribes);
                }
            }
            _ => self.send(core, &ServerFrame::Error(refusal), reference),
        }
    }

    /// A place past the head: either nobody's, or the room's owner was overtaken and does not know it yet. The store knows;
    /// a reader is never sent back from entries that are there.
    fn verify(&self, room: RoomId, core: &Rc<SessionCore>, after: Seq, mut answer: Answer) {
        let (store, caller) = (self.context.store.clone(), core.caller());
        actix_rt::spawn(async move {
            let page = store.page(&room, Range::After(after - 1), 1, 1).await;
            let Some(hub) = Hub::current() else { return };
            if !matches!(&page, Ok(page) if page.entries.is_empty()) {
                hub.not_admitted(&room, caller, page.is_ok().then_some(after));
                answer.result = Err(Refusal::unavailable("the room is being taken over"));
            }
            hub.answers(&room, vec![answer]);
            hub.flush();
        });
    }

    /// Tells a room that what it admitted is refused all the same, and how far the log is known to go.
    fn not_admitted(&self, id: &RoomId, caller: Option<Caller>, head: Option<Seq>) {
        let mut state = self.state.borrow_mut();
        let Some((slot, _)) = state.known_room(id) else { return };
        if let Some(caller) = caller {
            self.unsubscribed(&mut state, slot, caller);
        }
        if let Some(head) = head {
            let _ = self.to_room(&mut state, slot, ToRoom::Behind { head });
        }
    }

    /// Makes the cursor, in place of the old one if there was one.
    fn subscribed(
        &self,
        state: &mut State,
        slot: u32,
        core: &Rc<SessionCore>,
        reference: Option<u64>,
        wish: Wish,
        admitted: Admitted,
    ) {
        let Admitted { role, head, oldest, online } = admitted;
        let (cursor, verdict) = Cursor::start(wish, head, oldest, self.bounds.replay);
        self.leave_room(state, core, slot, &[]);
        let verdict = match verdict {
            Verdict::Live => protocol::Verdict::Live,
            Verdict::Replay => protocol::Verdict::Replay,
            Verdict::Reset => {
                self.context.metrics.cursor_resets.inc();
                protocol::Verdict::Reset
            }
        };
        let room = state.rooms[slot as usize].id.clone();
        self.send(core, &ServerFrame::Subscribed { room, head, verdict, role, online }, reference);
        self.join_room(state, core, slot, cursor, head);
    }

    /// Ends the subscription to a room, after the `subscribe`s for it that are still unanswered.
    pub fn unsubscribe(&self, core: &Rc<SessionCore>, reference: Option<u64>, room: &RoomId) {
        if let Some(unsubscribes) = core.state.borrow_mut().pending_subscribe(room) {
            unsubscribes.push(reference);
            return;
        }
        let mut state = self.state.borrow_mut();
        if let Some((slot, _)) = state.known_room(room) {
            self.leave_room(&mut state, core, slot, &[]);
        }
        self.send(core, &ServerFrame::Ok(Accepted::Done), reference);
    }

    pub(super) fn confirm_unsubscribes(&self, core: &Rc<SessionCore>, references: &[Option<u64>]) {
        for &reference in references {
            self.send(core, &ServerFrame::Ok(Accepted::Done), reference);
        }
    }

    /// Tells a room that a subscription it admitted is over.
    pub(super) fn unsubscribed(&self, state: &mut State, slot: u32, caller: Caller) {
        // Where too much waits for the room's handle, the room was lost with all it had admitted.
        let _ = self.to_room(state, slot, ToRoom::Unsubscribed { hub: self.index, caller });
    }
}
