//! From a room's entries to the outboxes of its readers on this thread.
//!
//! Every reader is a cursor. An entry that is next is pushed as shared bytes; whatever else is wrong (a gap, a reader that
//! was paused, a start in the past) ends in one repair: fetch what lies behind the cursor. Readers at the same place
//! share one fetch.
//!
//! Bounds: [`FETCHES`] fetches at a time a hub, each of half the outbound budget; entries gather for at most
//! `gather::LONGEST` or [`GATHERED_BYTES`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::fanout::Run;
use super::rooms::Room;
use super::{Hub, State};
use crate::actors::frame::Payload;
use crate::actors::messages::{LogEntry, SessionKey, ToRoom};
use crate::actors::session::core::{SessionCore, Tick};
use crate::domain::command::{Eviction, Hint};
use crate::domain::cursor::{Cursor, Meeting};
use crate::domain::gather;
use crate::ids::{RoomId, Seq, UserId};
use crate::limits::PRESENCE_NAMED;
use crate::protocol::{self, Encoding, ServerFrame};

/// Fetches that may be unanswered at a time.
const FETCHES: usize = 64;
/// Bytes of JSON that may gather in one room.
const GATHERED_BYTES: usize = 1024 * 1024;
/// Ticks until a failed fetch is tried again.
const RETRY: Tick = 5;
/// Ticks after which a fetch counts as failed.
pub const FETCH_WITHIN: Tick = 150;

/// One subscription on this thread.
pub struct Reader {
    pub session: Rc<SessionCore>,
    pub cursor: Cursor,
    pub state: ReadState,
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// The next entry.
    Live,
    /// A fetch that was sent.
    Fetching,
    /// Its turn to fetch.
    Hungry,
    /// Its outbox to come down.
    Paused,
    /// The time to fetch again.
    Retrying,
    /// The room to be found again.
    Lost,
}

/// A fetch and who waits for it.
pub struct Fetch {
    pub since: Tick,
    waiting: Vec<SessionKey>,
}

impl Room {
    fn reader(&mut self, core: &SessionCore, slot: u32) -> Option<(usize, &mut Reader)> {
        let at = core.state.borrow().reader(slot)? as usize;
        Some((at, self.readers.get_mut(at)?))
    }
}

impl Hub {
    /// Starts a reader. What gathers is sent first, since it lies before the reader's head.
    pub(super) fn join_room(&self, state: &mut State, core: &Rc<SessionCore>, slot: u32, cursor: Cursor, head: Seq) {
        self.dispatch_gathered(state, slot);
        let room = &mut state.rooms[slot as usize];
        room.seen = room.seen.max(head);
        let reader = room.readers.len();
        room.readers.push(Reader { session: Rc::clone(core), cursor, state: ReadState::Live });
        core.state.borrow_mut().set_reader(slot, Some(reader as u32));
        self.context.metrics.subscriptions.inc();
        self.go_on(state, slot, reader);
    }

    /// Ends a reader and tells the room. `readers`: the session's own list, where it was taken out of the session.
    pub(super) fn leave_room(&self, state: &mut State, core: &Rc<SessionCore>, slot: u32, readers: &[(u32, u32)]) {
        let known = readers.iter().find(|&&(room, _)| room == slot).map(|&(_, reader)| reader);
        let Some(reader) = known.or_else(|| core.state.borrow().reader(slot)) else { return };
        self.remove_reader(state, slot, reader as usize);
        if let Some(caller) = core.caller() {
            let _ = self.to_room(state, slot, ToRoom::Unsubscribed { hub: self.index, caller });
        }
    }

    fn remove_reader(&self, state: &mut State, slot: u32, at: usize) {
        let room = &mut state.rooms[slot as usize];
        let gone = room.readers.swap_remove(at);
        gone.session.state.borrow_mut().set_reader(slot, None);
        if let Some(moved) = room.readers.get(at) {
            moved.session.state.borrow_mut().set_reader(slot, Some(at as u32));
        }
        if room.readers.is_empty() {
            room.readers = Vec::new();
            room.gathered = Vec::new();
        } else if room.readers.capacity() > 4 * room.readers.len() {
            let half = room.readers.capacity() / 2;
            room.readers.shrink_to(half);
        }
        self.context.metrics.subscriptions.dec();
    }

    /// Just committed, in order.
    pub(super) fn deliver(&self, id: &RoomId, entries: Arc<[Arc<LogEntry>]>) {
        let mut state = self.state.borrow_mut();
        let Some((slot, room)) = state.known_room(id) else { return };
        let Some(last) = entries.last().map(|entry| entry.entry.seq) else { return };
        room.seen = room.seen.max(last);
        if room.readers.is_empty() {
            return;
        }
        let now = Instant::now();
        if room.gathered.is_empty() && room.not_before.is_none_or(|not_before| not_before <= now) {
            self.dispatch(&mut state, slot, &entries, now);
            return;
        }
        let first_to_gather = room.gathered.is_empty();
        let consecutive = room.gathered.last().is_none_or(|known| known.entry.seq + 1 == entries[0].entry.seq);
        if !consecutive {
            self.dispatch_gathered(&mut state, slot);
            self.dispatch(&mut state, slot, &entries, now);
            return;
        }
        room.gathered.extend(entries.iter().cloned());
        if room.gathered.iter().map(|entry| entry.json.len()).sum::<usize>() > GATHERED_BYTES {
            self.dispatch_gathered(&mut state, slot);
        } else if first_to_gather {
            state.gathering.push(slot);
            if let Some(at) = state.rooms[slot as usize].not_before {
                drop(state);
                self.flush_gathered_at(at);
            }
        }
    }

    /// Sends what gathered, if anything did.
    pub(super) fn dispatch_gathered(&self, state: &mut State, slot: u32) {
        let gathered = std::mem::take(&mut state.rooms[slot as usize].gathered);
        if !gathered.is_empty() {
            state.gathering.retain(|&gathering| gathering != slot);
            self.dispatch(state, slot, &gathered, Instant::now());
        }
    }

    /// When the first room's entries have gathered long enough, in a task of its own.
    fn flush_gathered_at(&self, at: Instant) {
        actix_rt::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            if let Some(hub) = Hub::current() {
                hub.guarded(Hub::dispatch_due);
            }
        });
    }

    /// Sends what has gathered long enough.
    fn dispatch_due(&self) {
        let now = Instant::now();
        {
            let mut state = self.state.borrow_mut();
            let due: Vec<u32> = {
                let State { gathering, rooms, .. } = &*state;
                let is_due = |slot: &u32| {
                    rooms.get(*slot as usize).is_none_or(|room| room.not_before.is_none_or(|at| at <= now))
                };
                gathering.iter().copied().filter(is_due).collect()
            };
            for slot in due {
                if state.rooms.contains(slot as usize) {
                    self.dispatch_gathered(&mut state, slot);
                }
                state.gathering.retain(|&gathering| gathering != slot);
            }
        }
        self.flush();
    }

    /// One fan-out.
    fn dispatch(&self, state: &mut State, slot: u32, entries: &[Arc<LogEntry>], begin: Instant) {
        let room = &mut state.rooms[slot as usize];
        let id = room.id.clone();
        let mut run = Run::new(&id, entries, self.bounds.frame_bytes);
        let mut behind = Vec::new();
        let mut served = 0;
        for (at, reader) in room.readers.iter_mut().enumerate() {
            if reader.state != ReadState::Live {
                continue;
            }
            served += 1;
            if !self.feed(reader, &mut run) {
                behind.push(at);
            }
        }
        let spent = begin.elapsed() + std::time::Duration::from_nanos(self.write_ns.get() * served as u64);
        let pause = gather::pause(spent);
        room.not_before = (!pause.is_zero()).then(|| begin + pause);
        self.context.metrics.deliveries.inc_by(served as u64 * entries.len() as u64);
        for at in behind {
            self.go_on(state, slot, at);
        }
    }

    /// Pushes what of a run is next for a reader; false where that left it behind the run.
    fn feed(&self, reader: &mut Reader, run: &mut Run<'_>) -> bool {
        let Some((_, last)) = run.bounds() else { return true };
        let wire = reader.session.wire;
        let mut within = None;
        for piece in run.pieces(wire) {
            match reader.cursor.meet(piece.first, piece.last) {
                Meeting::Past => {}
                Meeting::Gap => return false,
                Meeting::Next | Meeting::Within if reader.session.outbox.is_over() => {
                    reader.state = ReadState::Paused;
                    self.context.metrics.cursor_pauses.inc();
                    return true;
                }
                Meeting::Next => {
                    self.push(&reader.session, piece.frame(wire.framing));
                    reader.cursor.take(piece.last);
                }
                Meeting::Within => {
                    within = Some(reader.cursor.next());
                    break;
                }
            }
        }
        match within {
            // The rest starts at the cursor, so this goes no deeper.
            Some(next) => self.feed(reader, &mut run.rest(next)),
            None => !reader.cursor.is_behind(last),
        }
    }

    /// The log goes up to `head`, but the entries are not at hand.
    pub(super) fn advance(&self, id: &RoomId, head: Seq) {
        let mut state = self.state.borrow_mut();
        let Some((slot, _)) = state.known_room(id) else { return };
        self.advance_room(&mut state, slot, head);
    }

    fn advance_room(&self, state: &mut State, slot: u32, head: Seq) {
        let room = &mut state.rooms[slot as usize];
        if head <= room.seen {
            return;
        }
        room.seen = head;
        self.dispatch_gathered(state, slot);
        for at in 0..state.rooms[slot as usize].readers.len() {
            if state.rooms[slot as usize].readers[at].state == ReadState::Live {
                self.go_on(state, slot, at);
            }
        }
    }

    /// Decides what a reader waits for next: live entries, its outbox, or a fetch.
    fn go_on(&self, state: &mut State, slot: u32, at: usize) {
        let room = &mut state.rooms[slot as usize];
        // What gathers will be dispatched to live readers, so it is no reason to fetch.
        let head = room.gathered.first().map_or(room.seen, |entry| entry.entry.seq - 1);
        let reader = &mut room.readers[at];
        if !reader.cursor.is_behind(head) {
            reader.state = ReadState::Live;
            return;
        }
        if reader.session.outbox.is_over() {
            reader.state = ReadState::Paused;
            self.context.metrics.cursor_pauses.inc();
            return;
        }
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded_bug::skips_an_entry() {
            reader.cursor.take(reader.cursor.next());
        }
        let (after, key) = (reader.cursor.after(), reader.session.key);
        if let Some(fetch) = room.fetches.get_mut(&after) {
            fetch.waiting.push(key);
            reader.state = ReadState::Fetching;
        } else if state.fetching >= FETCHES {
            reader.state = ReadState::Hungry;
            state.hungry.push_back((slot, key));
        } else {
            reader.state = ReadState::Fetching;
            room.fetches.insert(after, Fetch { since: self.now(), waiting: vec![key] });
            state.fetching += 1;
            let max_bytes = self.bounds.outbound_bytes / 2;
            if self.to_room(state, slot, ToRoom::Fetch { hub: self.index, after, max_bytes }).is_err() {
                self.fetch_failed(state, slot, after);
            }
        }
    }

    /// A room's answer to a fetch.
    pub(super) fn fetched(&self, id: &RoomId, after: Seq, entries: Option<Vec<Arc<LogEntry>>>, head: Seq) {
        let mut state = self.state.borrow_mut();
        let Some((slot, room)) = state.known_room(id) else { return };
        let empty_behind_head = entries.as_ref().is_some_and(Vec::is_empty) && after < room.seen.max(head);
        let Some(entries) = entries.filter(|_| !empty_behind_head) else {
            self.fetch_failed(&mut state, slot, after);
            self.feed_hungry(&mut state);
            return;
        };
        let Some(fetch) = room.fetches.remove(&after) else { return };
        state.fetching -= 1;
        self.advance_room(&mut state, slot, head);
        let mut run = Run::new(id, &entries, self.bounds.frame_bytes);
        let mut served = 0;
        for key in fetch.waiting {
            let Some(core) = state.session(key).cloned() else { continue };
            let Some((at, reader)) = state.rooms[slot as usize].reader(&core, slot) else { continue };
            if reader.state != ReadState::Fetching || reader.cursor.after() != after {
                continue;
            }
            served += 1;
            self.feed(reader, &mut run);
            if reader.state == ReadState::Fetching {
                self.go_on(&mut state, slot, at);
            }
        }
        self.context.metrics.deliveries.inc_by(served * entries.len() as u64);
        self.feed_hungry(&mut state);
    }

    /// Those who waited for this fetch try again a little later.
    pub(super) fn fetch_failed(&self, state: &mut State, slot: u32, after: Seq) {
        let Some(fetch) = state.rooms[slot as usize].fetches.remove(&after) else { return };
        state.fetching -= 1;
        let due = self.now() + RETRY;
        for key in fetch.waiting {
            let Some(core) = state.session(key).cloned() else { continue };
            if let Some((_, reader)) = state.rooms[slot as usize].reader(&core, slot)
                && reader.state == ReadState::Fetching
                && reader.cursor.after() == after
            {
                reader.state = ReadState::Retrying;
                state.retries.push_back((due, slot, key));
            }
        }
    }

    /// Gives free places to those who wait for one.
    fn feed_hungry(&self, state: &mut State) {
        while state.fetching < FETCHES {
            let Some((slot, key)) = state.hungry.pop_front() else { break };
            self.go_on_if(state, slot, key, ReadState::Hungry);
        }
    }

    /// Those whose time has come try their fetch again; fetches that were not answered count as failed.
    pub(super) fn sweep_fetches(&self, now: Tick) {
        let mut state = self.state.borrow_mut();
        while state.retries.front().is_some_and(|&(due, ..)| due <= now) {
            let Some((_, slot, key)) = state.retries.pop_front() else { break };
            self.go_on_if(&mut state, slot, key, ReadState::Retrying);
        }
        if now.is_multiple_of(10) && state.fetching > 0 {
            let overdue: Vec<(u32, Seq)> = state
                .rooms
                .iter()
                .flat_map(|(slot, room)| {
                    room.fetches.iter().map(move |(&after, fetch)| (slot as u32, after, fetch.since))
                })
                .filter(|&(.., since)| since + FETCH_WITHIN <= now)
                .map(|(slot, after, _)| (slot, after))
                .collect();
            for (slot, after) in overdue {
                self.fetch_failed(&mut state, slot, after);
            }
            self.feed_hungry(&mut state);
        }
    }

    fn go_on_if(&self, state: &mut State, slot: u32, key: SessionKey, expected: ReadState) {
        let Some(core) = state.session(key).cloned() else { return };
        let Some(room) = state.rooms.get_mut(slot as usize) else { return };
        if let Some((at, reader)) = room.reader(&core, slot)
            && reader.state == expected
        {
            self.go_on(state, slot, at);
        }
    }

    /// A session's outbox came down: its paused cursors go on.
    pub(super) fn resume(&self, core: &Rc<SessionCore>) {
        let slots: Vec<u32> = core.state.borrow().readers.iter().map(|&(slot, _)| slot).collect();
        let mut state = self.state.borrow_mut();
        for slot in slots {
            self.go_on_if(&mut state, slot, core.key, ReadState::Paused);
        }
        drop(state);
        self.next_page(core);
    }

    /// A room that was found again admitted a reader.
    pub(super) fn readmitted(&self, state: &mut State, core: &Rc<SessionCore>, slot: u32, head: Seq) {
        let room = &mut state.rooms[slot as usize];
        room.seen = room.seen.max(head);
        if let Some((at, _)) = room.reader(core, slot) {
            self.go_on(state, slot, at);
        }
    }

    /// Presence, typing and read marks: encoded once, dropped for whoever has much waiting.
    pub(super) fn hint(&self, id: &RoomId, hint: Hint) {
        let mut state = self.state.borrow_mut();
        let Some((_, room)) = state.known_room(id) else { return };
        let frame = match hint {
            Hint::Presence { online, joined, left } => {
                let changed = (online as usize <= PRESENCE_NAMED).then_some((joined, left));
                ServerFrame::Presence { room: id.clone(), online, changed }
            }
            Hint::Typing { users } => ServerFrame::Typing { room: id.clone(), users },
            Hint::Read { user, seq } => ServerFrame::Read { room: id.clone(), user, seq },
        };
        let mut json = None;
        let mut msgpack = None;
        for reader in &room.readers {
            let core = &reader.session;
            let made = match core.wire.encoding {
                Encoding::Json => &mut json,
                Encoding::MsgPack => &mut msgpack,
            };
            let payload = made.get_or_insert_with(|| {
                Payload::new(core.wire.encoding, &protocol::encode(core.wire.encoding, &frame, None))
            });
            if core.outbox.push_hint(payload.frame(core.wire.framing)) {
                self.noted.borrow_mut().push(Rc::clone(core));
            }
        }
    }

    /// The room ends subscriptions.
    pub(super) fn evict(&self, id: &RoomId, user: Option<&UserId>, why: Eviction) {
        let mut state = self.state.borrow_mut();
        let Some((slot, _)) = state.known_room(id) else { return };
        self.dispatch_gathered(&mut state, slot);
        let evicted: Vec<Rc<SessionCore>> = state.rooms[slot as usize]
            .readers
            .iter()
            .map(|reader| &reader.session)
            .filter(|core| user.is_none() || core.user() == user)
            .cloned()
            .collect();
        for core in evicted {
            self.evict_reader(&mut state, &core, slot, why);
        }
    }

    pub(super) fn evict_reader(&self, state: &mut State, core: &Rc<SessionCore>, slot: u32, why: Eviction) {
        self.leave_room(state, core, slot, &[]);
        let room = state.rooms[slot as usize].id.clone();
        self.send(core, &ServerFrame::Unsubscribed { room, code: why.as_str() }, None);
    }
}
