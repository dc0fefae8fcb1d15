//! The rooms that this thread uses: their handles, the requests that wait for one, and what happens when a room is lost.
//!
//! Invariants: requests of one session for one room leave in the order they came; a handle is forgotten only when no
//! subscription, no unanswered request and no fetch uses it. Bound: [`WAITING`] messages a room wait for its handle.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::Recipient;
use tokio::sync::oneshot;

use super::delivery::{Fetch, ReadState, Reader};
use super::{Hub, State};
use crate::actors::frame::Closing;
use crate::actors::messages::{LogEntry, Lookup, Origin, SessionKey, ToRoom};
use crate::actors::session::core::{Asked, SessionCore};
use crate::auth::Identity;
use crate::domain::command::{Caller, Command, Eviction, Reply, Signal};
use crate::domain::scopes::{Need, Scope};
use crate::ids::{RoomId, Seq};
use crate::limits::REQUEST_DEADLINE_MS;
use crate::protocol::ServerFrame;
use crate::refusal::Refusal;

/// Messages that wait for one room's handle.
const WAITING: usize = 4_096;

/// HTTP calls of one thread that wait for rooms.
const CALLS: usize = 4_096;

/// How long an answer may take, a little longer than the room's own deadline.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(REQUEST_DEADLINE_MS as u64 + 2_000);

pub struct Room {
    pub id: RoomId,
    handle: Option<Recipient<ToRoom>>,
    looking_up: bool,
    waiting: Vec<ToRoom>,
    /// Requests that the room has not answered.
    pub unanswered: usize,
    pub readers: Vec<Reader>,
    /// The newest entry that this hub knows of.
    pub seen: Seq,
    /// By the place they start behind.
    pub fetches: HashMap<Seq, Fetch>,
    /// Entries that wait for each other.
    pub gathered: Vec<std::sync::Arc<LogEntry>>,
    /// When the next fan-out may begin.
    pub not_before: Option<Instant>,
    /// Subscriptions asked for by sessions that are gone.
    orphans: HashMap<(SessionKey, u32), Caller>,
}

impl Room {
    fn new(id: RoomId) -> Self {
        Self {
            id,
            handle: None,
            looking_up: false,
            waiting: Vec::new(),
            unanswered: 0,
            readers: Vec::new(),
            seen: 0,
            fetches: HashMap::new(),
            gathered: Vec::new(),
            not_before: None,
            orphans: HashMap::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.readers.is_empty() && self.unanswered == 0 && self.waiting.is_empty() && self.fetches.is_empty()
    }

    pub fn is_lost(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| !handle.connected())
    }
}

impl State {
    pub fn room_slot(&mut self, id: &RoomId) -> u32 {
        if let Some(&slot) = self.by_id.get(id) {
            return slot;
        }
        let slot = self.rooms.insert(Room::new(id.clone())) as u32;
        self.by_id.insert(id.clone(), slot);
        slot
    }

    pub fn known_room(&mut self, id: &RoomId) -> Option<(u32, &mut Room)> {
        let slot = *self.by_id.get(id)?;
        Some((slot, self.rooms.get_mut(slot as usize)?))
    }

    fn forget_room(&mut self, slot: u32) {
        let room = self.rooms.remove(slot as usize);
        self.by_id.remove(&room.id);
    }

    /// A session is gone while it waited for a room to admit it.
    pub fn remember_orphan(&mut self, key: SessionKey, corr: u32, room: &RoomId, caller: &Caller) {
        if let Some((_, room)) = self.known_room(room) {
            room.orphans.insert((key, corr), caller.clone());
        }
    }

    /// The caller of a subscription that was admitted too late.
    pub fn orphan(&mut self, slot: u32, key: SessionKey, corr: u32) -> Option<Caller> {
        self.rooms.get_mut(slot as usize)?.orphans.remove(&(key, corr))
    }
}

impl Hub {
    /// Sends to a room, or keeps it until the room's handle is known.
    ///
    /// # Errors
    /// `overloaded` where too much waits for the handle.
    pub(super) fn to_room(&self, state: &mut State, slot: u32, message: ToRoom) -> Result<(), Refusal> {
        if state.rooms[slot as usize].is_lost() {
            self.lost(state, slot);
        }
        let room = &mut state.rooms[slot as usize];
        let asks = matches!(message, ToRoom::Ask { .. });
        match &room.handle {
            Some(handle) => handle.do_send(message),
            None if room.waiting.len() >= WAITING => {
                return Err(Refusal::overloaded("too many requests wait for this room"));
            }
            None => {
                room.waiting.push(message);
                self.look_up(room);
            }
        }
        room.unanswered += usize::from(asks);
        Ok(())
    }

    fn look_up(&self, room: &mut Room) {
        if !room.looking_up {
            room.looking_up = true;
            self.context.router.do_send(Lookup { hub: self.index, room: room.id.clone() });
        }
    }

    /// The router's answer: what waited goes out in order.
    pub(super) fn handle_found(&self, id: &RoomId, handle: Recipient<ToRoom>) {
        let mut state = self.state.borrow_mut();
        let Some((slot, room)) = state.known_room(id) else { return };
        room.looking_up = false;
        for message in room.waiting.drain(..) {
            handle.do_send(message);
        }
        room.waiting = Vec::new();
        room.handle = Some(handle);
        self.readmit(&mut state, slot);
    }

    /// The room's actor is gone with all it knew: what waits for its answers fails, its readers are asked for again.
    pub(super) fn lost(&self, state: &mut State, slot: u32) {
        let room = &mut state.rooms[slot as usize];
        tracing::warn!(room.id = %room.id, "a room is lost; looking it up again");
        room.handle = None;
        room.unanswered = 0;
        room.orphans = HashMap::new();
        state.fetching -= room.fetches.drain().count();
        for reader in &mut room.readers {
            reader.state = ReadState::Lost;
        }
        let id = room.id.clone();
        // Those that wait for the hook are answered below with the others.
        state.chains.forget(|_, room| *room == id);
        let room = &mut state.rooms[slot as usize];
        if !room.readers.is_empty() {
            self.look_up(room);
        }
        let unavailable = ServerFrame::Error(Refusal::unavailable("the room was lost; repeat with the same id"));
        for (_, core) in &state.sessions {
            let mut session = core.state.borrow_mut();
            let failed: Vec<u32> =
                session.pending.iter().filter(|pending| pending.room == id).map(|pending| pending.corr).collect();
            for pending in failed.into_iter().filter_map(|corr| session.answered(corr)) {
                if pending.kind.counts() {
                    self.send(core, &unavailable, pending.reference);
                }
                if let Asked::Subscribe { unsubscribes, .. } = pending.kind {
                    self.confirm_unsubscribes(core, &unsubscribes);
                }
            }
        }
    }

    /// Asks the new room to admit the readers that the lost one had.
    fn readmit(&self, state: &mut State, slot: u32) {
        let room = &state.rooms[slot as usize];
        let id = room.id.clone();
        let lost: Vec<Rc<SessionCore>> = room
            .readers
            .iter()
            .filter(|reader| reader.state == ReadState::Lost)
            .map(|reader| Rc::clone(&reader.session))
            .collect();
        for core in lost {
            let Some(caller) = core.caller() else { continue };
            let corr = core.state.borrow_mut().ask(None, id.clone(), Asked::Readmit);
            let origin = Origin::Session { key: core.key, corr };
            let command = Command::Admit { subscribe: true };
            // The handle was just found, so this is never refused; if it is lost again, the next sweep sees it.
            let _ = self.to_room(state, slot, ToRoom::Ask { origin, caller, command });
        }
    }

    /// The session has new credentials: ends its subscriptions that these don't allow, at once where their scopes say so,
    /// else when the room does.
    pub fn recheck(&self, core: &Rc<SessionCore>, identity: &Identity) {
        let mut state = self.state.borrow_mut();
        let mut rooms: Vec<RoomId> = {
            let session = core.state.borrow();
            let asked = session.pending.iter().filter(|pending| matches!(pending.kind, Asked::Subscribe { .. }));
            let read = session.readers.iter().map(|&(slot, _)| &state.rooms[slot as usize].id);
            asked.map(|pending| &pending.room).chain(read).cloned().collect()
        };
        rooms.sort_unstable();
        rooms.dedup();
        for room in rooms {
            let slot = state.room_slot(&room);
            if identity.allows(Need::Scope(Scope::Read, Some(&room))).is_err() {
                self.evict_reader(&mut state, core, slot, Eviction::Kicked);
                continue;
            }
            let Some(caller) = core.caller() else { return };
            let corr = core.state.borrow_mut().ask(None, room, Asked::Recheck);
            let origin = Origin::Session { key: core.key, corr };
            let command = Command::Admit { subscribe: false };
            if self.to_room(&mut state, slot, ToRoom::Ask { origin, caller, command }).is_err() {
                core.state.borrow_mut().answered(corr);
                core.close(Closing::TRY_AGAIN);
            }
        }
    }

    /// Asks once more for readers whose room refused them while it was away.
    pub(super) fn sweep_readmissions(&self, state: &mut State) {
        let lost: Vec<u32> = state
            .rooms
            .iter()
            .filter(|(_, room)| room.handle.is_some() && room.unanswered == 0 && room.readers.iter().any(is_lost))
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in lost {
            self.readmit(state, slot);
        }
        let unused: Vec<u32> = state
            .rooms
            .iter()
            .filter(|(_, room)| room.handle.is_none() && !room.looking_up && room.is_idle())
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in unused {
            state.forget_room(slot);
        }
    }

    /// A room would like to stop.
    pub(super) fn release(&self, id: &RoomId, token: u64, reply: &Recipient<ToRoom>) {
        let mut state = self.state.borrow_mut();
        let known = state.known_room(id).map(|(slot, room)| (slot, room.is_idle()));
        let released = known.is_none_or(|(_, idle)| idle);
        reply.do_send(ToRoom::Released { hub: self.index, token, released });
        if let Some((slot, true)) = known {
            state.forget_room(slot);
        }
    }

    /// Sends a session's request to a room; it is answered in [`Hub::answers`], or by the sweep when that takes too long.
    pub fn request(
        self: &Rc<Self>,
        core: &Rc<SessionCore>,
        reference: Option<u64>,
        room: &RoomId,
        command: Command,
        kind: Asked,
    ) {
        let Some(caller) = core.caller() else { return };
        let corr = core.state.borrow_mut().ask(reference, room.clone(), kind);
        let mut state = self.state.borrow_mut();
        let slot = state.room_slot(room);
        let sent = match self.chain(&mut state, core, room, corr, (caller, command)) {
            Ok(Some((caller, command))) => {
                let origin = Origin::Session { key: core.key, corr };
                self.to_room(&mut state, slot, ToRoom::Ask { origin, caller, command })
            }
            Ok(None) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = sent {
            core.state.borrow_mut().answered(corr);
            self.send(core, &ServerFrame::Error(refusal), reference);
        }
    }

    /// Sends what is not answered; dropped where too much waits already.
    pub fn signal(&self, caller: &Caller, room: &RoomId, signal: Signal) {
        let mut state = self.state.borrow_mut();
        let slot = state.room_slot(room);
        let _ = self.to_room(&mut state, slot, ToRoom::Signal { caller: caller.clone(), signal });
    }

    /// Asks a room on behalf of an HTTP call on this thread.
    ///
    /// # Errors
    /// The room's refusal; `overloaded` where too many calls wait, `unavailable` where no answer came in time.
    pub async fn ask(&self, room: RoomId, caller: Caller, command: Command) -> Result<Reply, Refusal> {
        if self.calls.get() >= CALLS {
            return Err(Refusal::overloaded("too many calls wait for rooms"));
        }
        let command = {
            let _counted = Counted::new(&self.calls);
            self.checked(&room, &caller, command).await?
        };
        let (answer, waiting) = oneshot::channel();
        {
            let mut state = self.state.borrow_mut();
            let slot = state.room_slot(&room);
            self.to_room(&mut state, slot, ToRoom::Ask { origin: Origin::Call(answer), caller, command })?;
        }
        let _call = Call { hub: self, room, _counted: Counted::new(&self.calls) };
        match tokio::time::timeout(ANSWER_WITHIN, waiting).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::unavailable("the room was lost; repeat with the same id")),
            Err(_) => Err(Refusal::unavailable("the room did not answer in time; repeat with the same id")),
        }
    }
}

fn is_lost(reader: &Reader) -> bool {
    reader.state == ReadState::Lost
}

/// An HTTP call that waits; its room is in use until it ends, however it ends.
struct Call<'a> {
    hub: &'a Hub,
    room: RoomId,
    _counted: Counted<'a>,
}

/// One of the calls that wait, until it is dropped.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(calls: &'a Cell<usize>) -> Self {
        calls.set(calls.get() + 1);
        Self(calls)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some((_, room)) = self.hub.state.borrow_mut().known_room(&self.room) {
            room.unanswered = room.unanswered.saturating_sub(1);
        }
    }
}
