//! Mirrors `actors/hub/{answers,delivery}.rs` and what of `actors/session` a request needs: sessions, their cursors, and
//! how a cursor that is behind fetches. Where a function has the same name as one there, it follows the same rules.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use roundtable::domain::command::{Caller, Command, Reply};
use roundtable::domain::cursor::{Cursor, Meeting, Wish};
use roundtable::entry::Entry;
use roundtable::ids::{Seq, UserId};
use roundtable::refusal::Refusal;

use super::Flaw;
use super::chance::Chance;
use super::wire::{Answered, Conn, Down, RoomIx, Run, Time, ToHub, ToRoom, Up};

/// Fetches under way at a time.
const FETCHES: usize = 2;
const RETRY: Time = 500;
/// `limits.outbound_bytes`, in frames.
pub const OUTBOX: usize = 6;
/// `limits.frame_bytes`, in entries.
const FRAME: usize = 3;
/// `limits.replay`.
pub const REPLAY: u64 = 10_000;

/// What a hub wants done.
#[derive(Debug)]
pub enum HubOut {
    Room(RoomIx, ToRoom),
    /// To a session's client.
    Push(Conn, Down),
    /// Ask the store whether the entry is there, and call [`Hub::verified`].
    Verify {
        room: RoomIx,
        conn: Conn,
        corr: u32,
        seq: Seq,
        head: Seq,
    },
    /// Call [`Hub::timer`] after so long.
    Timer(Time, HubTimer),
}

#[derive(Clone, Copy, Debug)]
pub enum HubTimer {
    Retry(RoomIx, Conn),
    Gathered(RoomIx),
}

pub struct HubCx<'a> {
    pub now: Time,
    pub chance: &'a mut Chance,
    pub flaw: Flaw,
    pub out: &'a mut Vec<HubOut>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Live,
    Fetching,
    Hungry,
    Paused,
    Retrying,
}

struct Reader {
    session: Conn,
    cursor: Cursor,
    state: ReadState,
}

#[derive(Default)]
struct HubRoom {
    readers: Vec<Reader>,
    seen: Seq,
    fetches: BTreeMap<Seq, Vec<Conn>>,
    gathered: Vec<Rc<Entry>>,
    not_before: Time,
    orphans: BTreeMap<(Conn, u32), UserId>,
}

struct Session {
    caller: Caller,
    pending: BTreeMap<u32, (RoomIx, Asked)>,
    next_corr: u32,
    /// Frames with entries that the client has not taken yet.
    waiting: usize,
    over: bool,
}

enum Asked {
    Plain { req: u64 },
    Subscribe { req: u64, wish: Wish, verified: bool, unsubscribes: Vec<u64> },
}

#[derive(Default)]
pub struct Hub {
    sessions: BTreeMap<Conn, Session>,
    rooms: BTreeMap<RoomIx, HubRoom>,
    fetching: usize,
    hungry: VecDeque<(RoomIx, Conn)>,
}

impl Hub {
    pub fn readers(&self, room: RoomIx) -> u32 {
        self.rooms.get(&room).map_or(0, |room| room.readers.len() as u32)
    }

    /// The most frames that wait for one client.
    pub fn longest_outbox(&self) -> usize {
        self.sessions.values().map(|session| session.waiting).max().unwrap_or(0)
    }

    // ------------------------------------------------------------------------------------------------- sessions

    pub fn up(&mut self, conn: Conn, up: Up, cx: &mut HubCx) {
        if let Up::Open { caller } = up {
            let session = Session { caller, pending: BTreeMap::new(), next_corr: 0, waiting: 0, over: false };
            self.sessions.insert(conn, session);
            return;
        }
        if !self.sessions.contains_key(&conn) {
            return;
        }
        match up {
            Up::Open { .. } => {}
            Up::Ask { req, room, command } => self.request(conn, room, command, Asked::Plain { req }, cx),
            Up::Subscribe { req, room, wish } => {
                let kind = Asked::Subscribe { req, wish, verified: false, unsubscribes: Vec::new() };
                self.request(conn, room, Command::Admit { subscribe: true }, kind, cx);
            }
            Up::Unsubscribe { req, room } => self.unsubscribe(conn, req, room, cx),
            Up::Close => self.ended(conn, cx),
        }
    }

    fn request(&mut self, conn: Conn, room: RoomIx, command: Command, kind: Asked, cx: &mut HubCx) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let corr = session.next_corr;
        session.next_corr += 1;
        session.pending.insert(corr, (room, kind));
        let caller = session.caller.clone();
        cx.out.push(HubOut::Room(room, ToRoom::Ask { session: conn, corr, caller, command }));
    }

    /// As `Hub::unsubscribe`: behind the subscribes that are still unanswered.
    fn unsubscribe(&mut self, conn: Conn, req: u64, room: RoomIx, cx: &mut HubCx) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let last = session.pending.values_mut().rev().find_map(|(of, kind)| match kind {
            Asked::Subscribe { unsubscribes, .. } if *of == room => Some(unsubscribes),
            _ => None,
        });
        if let Some(unsubscribes) = last {
            unsubscribes.push(req);
            return;
        }
        self.leave_room(conn, room, cx);
        cx.out.push(HubOut::Push(conn, Down::Unsubscribed { req }));
    }

    fn ended(&mut self, conn: Conn, cx: &mut HubCx) {
        let rooms: Vec<RoomIx> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.leave_room(conn, room, cx);
        }
        let Some(session) = self.sessions.remove(&conn) else { return };
        for (corr, (room, kind)) in session.pending {
            if matches!(kind, Asked::Subscribe { .. }) {
                let orphans = &mut self.rooms.entry(room).or_default().orphans;
                orphans.insert((conn, corr), session.caller.user.clone());
            }
        }
    }

    /// The client took a frame of entries.
    pub fn drained(&mut self, conn: Conn, cx: &mut HubCx) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.waiting = session.waiting.saturating_sub(1);
        if session.over && session.waiting <= OUTBOX / 2 {
            session.over = false;
            let rooms: Vec<RoomIx> = self.rooms.keys().copied().collect();
            for room in rooms {
                self.go_on_if(room, conn, ReadState::Paused, cx);
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- answers

    pub fn on_room(&mut self, room: RoomIx, message: ToHub, cx: &mut HubCx) {
        match message {
            ToHub::Answers(answers) => {
                for (conn, corr, result) in answers {
                    self.answer(room, conn, corr, result, cx);
                }
            }
            ToHub::Deliver(run) => self.deliver(room, run, cx),
            ToHub::Advance(head) => self.advance(room, head, cx),
            ToHub::Fetched { after, entries, head } => self.fetched(room, after, entries, head, cx),
            ToHub::Evict(user) => self.evict(room, user.as_ref(), cx),
        }
    }

    fn answer(&mut self, room: RoomIx, conn: Conn, corr: u32, result: Answered, cx: &mut HubCx) {
        let pending = self.sessions.get_mut(&conn).and_then(|session| session.pending.remove(&corr));
        let Some((_, kind)) = pending else {
            let orphan = self.rooms.get_mut(&room).and_then(|room| room.orphans.remove(&(conn, corr)));
            if let (Some(user), Ok(_)) = (orphan, result) {
                cx.out.push(HubOut::Room(room, ToRoom::Unsubscribed { user }));
            }
            return;
        };
        match (kind, result) {
            (
                Asked::Subscribe { req, wish: wish @ Wish::After(after), verified: false, unsubscribes },
                Ok(Reply::Admitted { head, .. }),
            ) if after > head && cx.flaw != Flaw::ResetUnverified => {
                let Some(session) = self.sessions.get_mut(&conn) else { return };
                let corr = session.next_corr;
                session.next_corr += 1;
                session.pending.insert(corr, (room, Asked::Subscribe { req, wish, verified: true, unsubscribes }));
                cx.out.push(HubOut::Verify { room, conn, corr, seq: after, head });
            }
            (Asked::Subscribe { req, wish, unsubscribes, .. }, Ok(Reply::Admitted { head, oldest, .. })) => {
                let (cursor, verdict) = Cursor::start(wish, head, oldest, REPLAY);
                self.leave_room(conn, room, cx);
                cx.out.push(HubOut::Push(conn, Down::Subscribed { req, room, head, verdict }));
                self.join_room(conn, room, cursor, head, cx);
                if !unsubscribes.is_empty() {
                    self.leave_room(conn, room, cx);
                }
                confirm(conn, unsubscribes, cx);
            }
            (Asked::Subscribe { req, unsubscribes, .. }, result) => {
                cx.out.push(HubOut::Push(conn, Down::Answer { req, result }));
                if !unsubscribes.is_empty() {
                    self.leave_room(conn, room, cx);
                }
                confirm(conn, unsubscribes, cx);
            }
            (Asked::Plain { req }, result) => cx.out.push(HubOut::Push(conn, Down::Answer { req, result })),
        }
    }

    /// As what `Hub::verify` does with the store's answer. `there`: whether the log has the entry; `None`: nobody knows.
    pub fn verified(
        &mut self,
        room: RoomIx,
        (conn, corr, user): (Conn, u32, UserId),
        (seq, head): (Seq, Seq),
        there: Option<bool>,
        cx: &mut HubCx,
    ) {
        let result = if there == Some(false) {
            Ok(Reply::Admitted { role: None, head, oldest: 1, online: 0 })
        } else {
            cx.out.push(HubOut::Room(room, ToRoom::Unsubscribed { user }));
            if there.is_some() {
                cx.out.push(HubOut::Room(room, ToRoom::Behind { head: seq }));
            }
            Err(Refusal::unavailable("the room is being taken over"))
        };
        self.answer(room, conn, corr, result, cx);
    }

    fn evict(&mut self, room: RoomIx, user: Option<&UserId>, cx: &mut HubCx) {
        self.dispatch_gathered(room, cx);
        let Some(readers) = self.rooms.get(&room).map(|room| &room.readers) else { return };
        let of = |conn: Conn| self.sessions.get(&conn).map(|session| &session.caller.user);
        let evicted: Vec<Conn> =
            readers.iter().map(|reader| reader.session).filter(|&conn| user.is_none() || of(conn) == user).collect();
        for conn in evicted {
            self.leave_room(conn, room, cx);
            cx.out.push(HubOut::Push(conn, Down::Evicted { room }));
        }
    }

    // ------------------------------------------------------------------------------------------------- delivery

    fn join_room(&mut self, conn: Conn, ix: RoomIx, cursor: Cursor, head: Seq, cx: &mut HubCx) {
        self.dispatch_gathered(ix, cx);
        let room = self.rooms.entry(ix).or_default();
        room.seen = room.seen.max(head);
        room.readers.push(Reader { session: conn, cursor, state: ReadState::Live });
        self.go_on(ix, conn, cx);
    }

    fn leave_room(&mut self, conn: Conn, ix: RoomIx, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let Some(at) = room.readers.iter().position(|reader| reader.session == conn) else { return };
        room.readers.swap_remove(at);
        if room.readers.is_empty() {
            room.gathered = Vec::new();
        }
        if let Some(session) = self.sessions.get(&conn) {
            let user = session.caller.user.clone();
            cx.out.push(HubOut::Room(ix, ToRoom::Unsubscribed { user }));
        }
    }

    fn deliver(&mut self, ix: RoomIx, run: Run, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let Some((first, last)) = run.first().zip(run.last()).map(|(first, last)| (first.seq, last.seq)) else {
            return;
        };
        room.seen = room.seen.max(last);
        if room.readers.is_empty() {
            return;
        }
        if room.gathered.is_empty() && room.not_before <= cx.now {
            return self.dispatch(ix, run, cx);
        }
        let first_to_gather = room.gathered.is_empty();
        if room.gathered.last().is_some_and(|known| known.seq + 1 != first) {
            self.dispatch_gathered(ix, cx);
            return self.dispatch(ix, run, cx);
        }
        room.gathered.extend(run.iter().cloned());
        if first_to_gather {
            cx.out.push(HubOut::Timer(room.not_before - cx.now, HubTimer::Gathered(ix)));
        }
    }

    fn dispatch_gathered(&mut self, ix: RoomIx, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let gathered = std::mem::take(&mut room.gathered);
        if !gathered.is_empty() {
            self.dispatch(ix, gathered.into(), cx);
        }
    }

    fn dispatch(&mut self, ix: RoomIx, run: Run, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let mut behind = Vec::new();
        for reader in &mut room.readers {
            if reader.state == ReadState::Live && !feed(&mut self.sessions, ix, reader, &run, cx) {
                behind.push(reader.session);
            }
        }
        // How long a fan-out takes is up to chance.
        room.not_before = if cx.chance.luck(300) { cx.now + cx.chance.between(1, 25) } else { 0 };
        for conn in behind {
            self.go_on(ix, conn, cx);
        }
    }

    fn advance(&mut self, ix: RoomIx, head: Seq, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        if head <= room.seen {
            return;
        }
        room.seen = head;
        self.dispatch_gathered(ix, cx);
        let live: Vec<Conn> = self.rooms[&ix]
            .readers
            .iter()
            .filter(|reader| reader.state == ReadState::Live)
            .map(|reader| reader.session)
            .collect();
        for conn in live {
            self.go_on(ix, conn, cx);
        }
    }

    fn go_on(&mut self, ix: RoomIx, conn: Conn, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let head = room.gathered.first().map_or(room.seen, |entry| entry.seq - 1);
        let Some(reader) = room.readers.iter_mut().find(|reader| reader.session == conn) else { return };
        if !reader.cursor.is_behind(head) || cx.flaw == Flaw::CursorSkipsGaps {
            reader.state = ReadState::Live;
            return;
        }
        if self.sessions.get(&conn).is_some_and(|session| session.over) {
            reader.state = ReadState::Paused;
            return;
        }
        let after = reader.cursor.after();
        if let Some(waiting) = room.fetches.get_mut(&after) {
            waiting.push(conn);
            reader.state = ReadState::Fetching;
        } else if self.fetching >= FETCHES {
            reader.state = ReadState::Hungry;
            self.hungry.push_back((ix, conn));
        } else {
            reader.state = ReadState::Fetching;
            room.fetches.insert(after, vec![conn]);
            self.fetching += 1;
            cx.out.push(HubOut::Room(ix, ToRoom::Fetch { after }));
        }
    }

    fn fetched(&mut self, ix: RoomIx, after: Seq, entries: Option<Vec<Rc<Entry>>>, head: Seq, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let empty_behind_head = entries.as_ref().is_some_and(Vec::is_empty) && after < room.seen.max(head);
        let Some(entries) = entries.filter(|_| !empty_behind_head) else {
            self.fetch_failed(ix, after, cx);
            return self.feed_hungry(cx);
        };
        let Some(waiting) = room.fetches.remove(&after) else { return };
        self.fetching -= 1;
        self.advance(ix, head, cx);
        let run: Run = entries.into();
        for conn in waiting {
            let Some(room) = self.rooms.get_mut(&ix) else { return };
            let Some(reader) = room.readers.iter_mut().find(|reader| reader.session == conn) else { continue };
            if reader.state != ReadState::Fetching || reader.cursor.after() != after {
                continue;
            }
            feed(&mut self.sessions, ix, reader, &run, cx);
            if reader.state == ReadState::Fetching {
                self.go_on(ix, conn, cx);
            }
        }
        self.feed_hungry(cx);
    }

    fn fetch_failed(&mut self, ix: RoomIx, after: Seq, cx: &mut HubCx) {
        let Some(room) = self.rooms.get_mut(&ix) else { return };
        let Some(waiting) = room.fetches.remove(&after) else { return };
        self.fetching -= 1;
        for conn in waiting {
            if let Some(reader) = room.readers.iter_mut().find(|reader| reader.session == conn)
                && reader.state == ReadState::Fetching
                && reader.cursor.after() == after
            {
                reader.state = ReadState::Retrying;
                cx.out.push(HubOut::Timer(RETRY, HubTimer::Retry(ix, conn)));
            }
        }
    }

    fn feed_hungry(&mut self, cx: &mut HubCx) {
        while self.fetching < FETCHES {
            let Some((ix, conn)) = self.hungry.pop_front() else { break };
            self.go_on_if(ix, conn, ReadState::Hungry, cx);
        }
    }

    fn go_on_if(&mut self, ix: RoomIx, conn: Conn, expected: ReadState, cx: &mut HubCx) {
        let Some(room) = self.rooms.get(&ix) else { return };
        if room.readers.iter().any(|reader| reader.session == conn && reader.state == expected) {
            self.go_on(ix, conn, cx);
        }
    }

    pub fn timer(&mut self, timer: HubTimer, cx: &mut HubCx) {
        match timer {
            HubTimer::Retry(ix, conn) => self.go_on_if(ix, conn, ReadState::Retrying, cx),
            HubTimer::Gathered(ix) => self.dispatch_gathered(ix, cx),
        }
    }
}

fn confirm(conn: Conn, unsubscribes: Vec<u64>, cx: &mut HubCx) {
    for req in unsubscribes {
        cx.out.push(HubOut::Push(conn, Down::Unsubscribed { req }));
    }
}

/// As `Hub::feed`: pushes what of a run is next; false where that left the reader behind it.
fn feed(sessions: &mut BTreeMap<Conn, Session>, room: RoomIx, reader: &mut Reader, run: &Run, cx: &mut HubCx) -> bool {
    let Some(session) = sessions.get_mut(&reader.session) else { return true };
    let Some(last) = run.last().map(|entry| entry.seq) else { return true };
    let mut rest = &run[..];
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(FRAME)];
        let (first, piece_last) = (piece[0].seq, piece[piece.len() - 1].seq);
        let meeting = match reader.cursor.meet(first, piece_last) {
            Meeting::Gap if cx.flaw == Flaw::CursorSkipsGaps => Meeting::Next,
            Meeting::Past if cx.flaw == Flaw::CursorTakesAgain => Meeting::Next,
            meeting => meeting,
        };
        match meeting {
            Meeting::Past => {}
            Meeting::Gap => return false,
            Meeting::Next | Meeting::Within if session.over => {
                reader.state = ReadState::Paused;
                return true;
            }
            Meeting::Next => {
                session.waiting += 1;
                session.over |= session.waiting > OUTBOX && cx.flaw != Flaw::OutboxUnbounded;
                cx.out.push(HubOut::Push(reader.session, Down::Events { room, entries: piece.into() }));
                reader.cursor.take(piece_last);
            }
            Meeting::Within => {
                let next = reader.cursor.next();
                rest = &rest[rest.partition_point(|entry| entry.seq < next)..];
                continue;
            }
        }
        rest = &rest[piece.len()..];
    }
    !reader.cursor.is_behind(last)
}
