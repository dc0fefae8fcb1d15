//! Requests that wait for the hook before a message is stored. Each session and room has a chain: all questions of a
//! chain are asked at once, and its requests go on to the room in the order they came, each when its own answer is there
//! and the ones before it are gone.
//!
//! Invariants: without a hook nothing here exists; what a chain holds is in its session's `pending`, so it counts
//! against `limits.inflight`, and goes with its session or room. Since every answer is there within the hook's deadline,
//! no request waits here for longer than that. Bound: [`CHAINED`] requests a thread.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::{Hub, State};
use crate::actors::messages::{Origin, SessionKey, ToRoom};
use crate::actors::session::core::SessionCore;
use crate::domain::command::{Caller, Command};
use crate::ids::RoomId;
use crate::protocol::ServerFrame;
use crate::refusal::Refusal;

/// Requests of one thread that wait in chains; more are refused with `overloaded`.
const CHAINED: usize = 16_384;

/// The requests that wait, by session and room.
#[derive(Default)]
pub(super) struct Chains {
    by_place: HashMap<(SessionKey, RoomId), VecDeque<Link>>,
    held: usize,
}

/// One request.
struct Link {
    corr: u32,
    caller: Caller,
    /// `None` while the hook is asked.
    ready: Option<Result<Command, Refusal>>,
}

impl Chains {
    /// Whether a request of this session to this room has others before it.
    fn holds(&self, key: SessionKey, room: &RoomId) -> bool {
        self.held > 0 && self.by_place.contains_key(&(key, room.clone()))
    }

    /// Forgets the chains that `leaves` says; gives the numbers of their requests.
    pub(super) fn forget(&mut self, leaves: impl Fn(SessionKey, &RoomId) -> bool) -> Vec<u32> {
        if self.held == 0 {
            return Vec::new();
        }
        let mut forgotten = Vec::new();
        self.by_place.retain(|(key, room), chain| {
            let goes = leaves(*key, room);
            if goes {
                forgotten.extend(chain.iter().map(|link| link.corr));
            }
            !goes
        });
        self.held -= forgotten.len();
        forgotten
    }
}

impl Hub {
    /// Takes a request into its chain, where it has to wait; gives it back where it need not.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn chain(
        self: &Rc<Self>,
        state: &mut State,
        core: &SessionCore,
        room: &RoomId,
        corr: u32,
        (caller, command): (Caller, Command),
    ) -> Result<Option<(Caller, Command)>, Refusal> {
        let Some(hook) = &self.context.before_send else { return Ok(Some((caller, command))) };
        let asks = hook.concerns(room, &command);
        if !asks && !state.chains.holds(core.key, room) {
            return Ok(Some((caller, command)));
        }
        if state.chains.held >= CHAINED {
            return Err(Refusal::overloaded("too many messages wait to be checked"));
        }
        state.chains.held += 1;
        let chain = state.chains.by_place.entry((core.key, room.clone())).or_default();
        if !asks {
            chain.push_back(Link { corr, caller, ready: Some(Ok(command)) });
            return Ok(None);
        }
        chain.push_back(Link { corr, caller: caller.clone(), ready: None });
        let (hub, hook, key, room) = (Rc::clone(self), std::sync::Arc::clone(hook), core.key, room.clone());
        actix_rt::spawn(async move {
            let judged = hook.judge(&room, &caller, command).await;
            hub.judged(key, &room, corr, judged);
            hub.flush();
        });
        Ok(None)
    }

    /// The hook's answer is there: what is ready at the front of the chain goes on.
    fn judged(&self, key: SessionKey, room: &RoomId, corr: u32, judged: Result<Command, Refusal>) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let place = (key, room.clone());
        let Some(chain) = state.chains.by_place.get_mut(&place) else { return };
        let Some(link) = chain.iter_mut().find(|link| link.corr == corr) else { return };
        link.ready = Some(judged);
        let ready = chain.iter().take_while(|link| link.ready.is_some()).count();
        let gone: Vec<Link> = chain.drain(..ready).collect();
        if chain.is_empty() {
            state.chains.by_place.remove(&place);
        }
        state.chains.held -= gone.len();
        let Some(core) = state.session(key).cloned() else { return };
        for Link { corr, caller, ready } in gone {
            let Some(request) = ready else { continue };
            // The room may be lost while these go on; then they are answered already.
            if !core.state.borrow().pending.iter().any(|pending| pending.corr == corr) {
                continue;
            }
            let slot = state.room_slot(room);
            let origin = Origin::Session { key, corr };
            let sent = request.and_then(|command| self.to_room(state, slot, ToRoom::Ask { origin, caller, command }));
            if let Err(refusal) = sent {
                let pending = core.state.borrow_mut().answered(corr);
                self.send(&core, &ServerFrame::Error(refusal), pending.and_then(|pending| pending.reference));
            }
        }
    }

    /// A call over HTTP, as the hook lets it pass. Nothing else of the caller's waits for it.
    ///
    /// # Errors
    /// The hook's refusal of an edit.
    pub(super) async fn checked(&self, room: &RoomId, caller: &Caller, command: Command) -> Result<Command, Refusal> {
        match &self.context.before_send {
            Some(hook) if hook.concerns(room, &command) => hook.judge(room, caller, command).await,
            _ => Ok(command),
        }
    }
}
