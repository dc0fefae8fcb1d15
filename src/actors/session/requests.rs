//! What each request of an open session becomes.

use std::rc::Rc;

use super::Session;
use super::core::{Asked, Phase, SessionCore};
use super::scopes::need;
use crate::actors::frame::Closing;
use crate::actors::hub::{Hub, unix_ms};
use crate::domain::command::{Command, Signal};
use crate::domain::cursor::Wish;
use crate::ids::RoomId;
use crate::ports::Range;
use crate::protocol::{Accepted, Bound, From, Request, ServerFrame};
use crate::refusal::Refusal;

/// When to try again after the inflight window was full, in milliseconds.
const WINDOW_RETRY_MS: u64 = 100;

impl Session {
    pub(super) fn request(&self, reference: Option<u64>, request: Request) {
        if let Err(refusal) = self.allows(&request) {
            return self.refuse(reference, refusal);
        }
        match request {
            Request::Hello { .. } => return self.core.close(Closing::SECOND_HELLO),
            Request::Ping => return self.hub.send(&self.core, &ServerFrame::Pong { at: unix_ms() }, reference),
            Request::Typing { room, active } => return self.signal(&room, Signal::Typing { active }),
            Request::Read { room, seq } => return self.signal(&room, Signal::Read { seq }),
            _ => {}
        }
        if self.core.state.borrow().inflight >= self.hub.bounds().inflight {
            let refusal = Refusal::rate_limited("more unanswered requests than limits.inflight", WINDOW_RETRY_MS);
            return self.refuse(reference, refusal);
        }
        match request {
            Request::Hello { .. } | Request::Ping | Request::Typing { .. } | Request::Read { .. } => {}
            Request::Refresh { token } => self.refresh(reference, token),
            Request::Subscribe { room, from } => self.subscribe(reference, &room, from),
            Request::Unsubscribe { room } => self.hub.unsubscribe(&self.core, reference, &room),
            Request::Join { room } => self.ask(reference, &room, Command::Join, Asked::Join),
            Request::Leave { room } => self.ask(reference, &room, Command::Leave, Asked::Leave),
            Request::Send { room, id, text, reply_to, data } => {
                let over_rate_ms = self.over_rate_ms();
                let span = self.hub.context().traces.as_ref().and_then(|traces| traces.root());
                let trace = span.as_ref().map(|span| Box::new(span.context));
                let kind = Asked::Send { id: id.clone(), span };
                let command = Command::Send { id, text, reply_to, data, over_rate_ms, refused: None, trace };
                self.ask(reference, &room, command, kind);
            }
            Request::Edit { room, target, text } => self.change(reference, &room, Command::Edit { target, text }),
            Request::React { room, target, emoji, active } => {
                self.change(reference, &room, Command::React { target, emoji, active });
            }
            Request::Delete { room, target } => self.ask(reference, &room, Command::Delete { target }, Asked::Change),
            Request::History { room, bound, limit } => {
                let range = match bound {
                    Bound::After(seq) => Range::After(seq),
                    Bound::Before(seq) => Range::Before(seq),
                    Bound::Newest => Range::Newest,
                };
                self.ask(reference, &room, Command::Admit { subscribe: false }, Asked::History { range, limit });
            }
        }
    }

    fn allows(&self, request: &Request) -> Result<(), Refusal> {
        match &self.core.state.borrow().phase {
            Phase::Open(Some(grant)) => grant.allows(need(request)),
            _ => Ok(()),
        }
    }

    fn ask(&self, reference: Option<u64>, room: &RoomId, command: Command, kind: Asked) {
        self.hub.request(&self.core, reference, room, command, kind);
    }

    fn over_rate_ms(&self) -> Option<u64> {
        self.core.user().and_then(|user| self.hub.context().rates.over_ms(user))
    }

    /// An edit or a reaction: logged like a message, so the same rate holds; a repeat is harmless and needs no exception.
    fn change(&self, reference: Option<u64>, room: &RoomId, command: Command) {
        match self.over_rate_ms() {
            Some(ms) => self.refuse(reference, Refusal::rate_limited("more than limits.messages_per_minute", ms)),
            None => self.ask(reference, room, command, Asked::Change),
        }
    }

    fn subscribe(&self, reference: Option<u64>, room: &RoomId, from: From) {
        if !self.hub.may_subscribe(&self.core, room) {
            let refusal = Refusal::conflict("as many subscriptions as limits.subscriptions allows; end one first");
            return self.refuse(reference, refusal);
        }
        let wish = match from {
            From::Head => Wish::Head,
            From::After(seq) => Wish::After(seq),
            From::Last(count) => Wish::Last(count),
        };
        let kind = Asked::Subscribe { wish, verified: false, unsubscribes: Vec::new() };
        self.ask(reference, room, Command::Admit { subscribe: true }, kind);
    }

    /// Hints need no answer and have no window, so too many of them stop the reading until the next second.
    fn signal(&self, room: &RoomId, signal: Signal) {
        let Some(caller) = self.core.caller() else { return };
        let left = {
            let mut state = self.core.state.borrow_mut();
            state.signals_left = state.signals_left.saturating_sub(1);
            state.signals_left
        };
        self.hub.signal(&caller, room, signal);
        if left == 0 {
            self.core.hold();
        }
    }

    fn refresh(&self, reference: Option<u64>, token: String) {
        self.core.state.borrow_mut().inflight += 1;
        let (core, hub) = (Rc::clone(&self.core), Rc::clone(&self.hub));
        actix_rt::spawn(async move {
            let answer = refreshed(&hub, &core, &token).await;
            {
                let mut state = core.state.borrow_mut();
                state.inflight = state.inflight.saturating_sub(1);
            }
            hub.send(&core, &answer, reference);
            hub.flush();
        });
    }
}

async fn refreshed(hub: &Rc<Hub>, core: &Rc<SessionCore>, token: &str) -> ServerFrame {
    match hub.context().auth.authenticate(token).await {
        Ok(identity) if core.user() == Some(&identity.user.id) => {
            let was_admin = core.caller().is_some_and(|caller| caller.admin);
            core.renewed(&identity);
            // What lasts longer than a request must not rest on what the former ones allowed.
            if identity.grant.is_some() || was_admin && !identity.admin {
                hub.recheck(core, &identity);
            }
            ServerFrame::Ok(Accepted::ExpiresAt(identity.expires_at))
        }
        Ok(_) => ServerFrame::Error(Refusal::forbidden("the token is another user's")),
        Err(refusal) => ServerFrame::Error(Refusal::from(refusal)),
    }
}
