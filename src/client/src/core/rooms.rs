//! Following rooms: places cursors on each connection, hands their entries out, pauses those that nobody reads.

use std::time::Duration;

use super::cursor::{Begin, Cursor, Filling};
use super::link::Asker;
use super::requests::Purpose;
use super::types::{Answer, Event, Output, Phase, Status, Subscribe, Ticket, Told};
use super::{Core, Timer};
use crate::error::{Code, Error};
use crate::frames::{ClientFrame, Entry, Kind, ServerFrame, Subscribed};

/// The server forgets "is typing" after 6 s.
const TYPING_AGAIN: Duration = Duration::from_secs(3);
const PLACE_AGAIN: Duration = Duration::from_millis(250);
/// Entries of a page, while filling.
const PAGE: u64 = 200;

impl Core {
    fn cursor(&mut self, room: &str) -> &mut Cursor {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.to_owned(), Cursor::default());
        }
        self.rooms.get_mut(room).expect("just inserted")
    }

    /// Follows the room, over every reconnect, until `unsubscribe` or the server ends it. The answer to `ticket` says how
    /// it began.
    pub fn subscribe(&mut self, room: &str, wanted: Subscribe, ticket: Ticket) {
        if let Some(error) = &self.closed {
            let error = error.clone();
            return self.put(Output::Done { ticket, result: Err(error) });
        }
        let before = self.cursor(room).begin(wanted, ticket);
        if let Some(ticket) = before {
            let error = Error::new(Code::Cancelled, "subscribed again");
            self.put(Output::Done { ticket, result: Err(error) });
        }
        self.put(Output::Void { room: room.to_owned() });
        self.place(room);
    }

    pub fn unsubscribe(&mut self, room: &str) {
        if self.rooms.get(room).is_some_and(|cursor| cursor.wanted.is_some()) {
            self.end_cursor(room, Error::new(Code::Cancelled, "unsubscribed"));
            self.ask_once(Asker::Nobody, ClientFrame::unsubscribe(room));
        }
    }

    fn ask_once(&mut self, asker: Asker, frame: ClientFrame) {
        if self.state.phase == Phase::Online
            && let Some(link) = &mut self.link
        {
            link.ask(asker, frame, self.now);
        }
    }

    fn end_cursor(&mut self, room: &str, error: Error) {
        if let Some(ticket) = self.cursor(room).end() {
            self.put(Output::Done { ticket, result: Err(error) });
        }
        self.put(Output::End { room: room.to_owned() });
        self.show_room(room);
    }

    /// The state of a room, where it is another than was shown last.
    fn show_room(&mut self, room: &str) {
        if let Some(cursor) = self.rooms.get_mut(room)
            && cursor.shown != cursor.state
        {
            cursor.shown = cursor.state.clone();
            let state = cursor.state.clone();
            self.put(Output::Room { room: room.to_owned(), state });
        }
        self.tell(|_| {});
    }

    /// Puts the cursor where it belongs, on the present connection.
    pub(super) fn place(&mut self, room: &str) {
        let online = self.state.phase == Phase::Online;
        let Some(cursor) = self.rooms.get_mut(room) else { return };
        if cursor.wanted.is_none() || cursor.state.status == Status::Paused {
            return;
        }
        if let Some(frame) = cursor.place(room) {
            let placing = cursor.placing;
            if online {
                self.ask_once(Asker::Place { room: room.to_owned(), placing }, frame);
            }
        }
        self.show_room(room);
    }

    pub(super) fn place_again(&mut self, room: &str, placing: u64) {
        if self.rooms.get(room).is_some_and(|cursor| cursor.placing == placing && cursor.wanted.is_some()) {
            self.place(room);
        }
    }

    pub(super) fn place_answered(&mut self, room: &str, placing: u64, frame: ServerFrame) {
        let Some(cursor) = self.rooms.get(room) else { return };
        if cursor.placing != placing || cursor.wanted.is_none() {
            return;
        }
        match frame {
            ServerFrame::Subscribed(answer) => self.subscribed(room, answer),
            ServerFrame::Error(refusal) => {
                let error = Error::from(refusal);
                if error.retryable {
                    let at = self.now + error.retry_after.unwrap_or_default().max(PLACE_AGAIN);
                    self.timers.insert((at, Timer::Place(room.to_owned(), placing)));
                } else {
                    self.lose_room(room, error.code.as_str().to_owned(), error);
                }
            }
            _ => {}
        }
    }

    fn lose_room(&mut self, room: &str, code: String, error: Error) {
        self.end_cursor(room, error);
        self.put(Output::Event(Event::Unsubscribed { room: room.to_owned(), code }));
    }

    fn subscribed(&mut self, room: &str, answer: Subscribed) {
        let cursor = self.cursor(room);
        let begin = cursor.subscribed(&answer);
        let placing = cursor.placing;
        if let Begin::Fill { from } = begin {
            self.ask_once(Asker::Nobody, ClientFrame::unsubscribe(room));
            self.show_room(room);
            return self.next_page(room, placing, from);
        }
        let placed = cursor.placed.take();
        if let Begin::Reset { from } = begin {
            let told = vec![Told::Reset { from, head: answer.head }];
            self.put(Output::Told { room: room.to_owned(), told });
        }
        if let Some(ticket) = placed {
            self.put(Output::Done { ticket, result: Ok(Answer::Subscribed(answer.clone())) });
        }
        self.put(Output::Event(Event::Subscribed(answer)));
        self.show_room(room);
    }

    /// Live entries meanwhile are not asked for; the cursor is placed behind what was read.
    fn next_page(&mut self, room: &str, placing: u64, after: u64) {
        let frame = ClientFrame::history(room, None, Some(after), Some(PAGE));
        let deadline = self.now + self.setup.patience.read;
        self.other(frame, Purpose::Fill { room: room.to_owned(), placing }, None, Some(deadline));
    }

    pub(super) fn page_came(&mut self, room: &str, placing: u64, result: Result<ServerFrame, Error>) {
        let Some(cursor) = self.rooms.get_mut(room) else { return };
        if cursor.placing != placing || cursor.wanted.is_none() {
            return;
        }
        let page = match result {
            Ok(ServerFrame::History(page)) => page,
            Ok(_) => return self.place(room),
            Err(error) if error.retryable || error.unknown() => {
                let at = self.now + PLACE_AGAIN;
                self.timers.insert((at, Timer::Place(room.to_owned(), placing)));
                return;
            }
            Err(error) => return self.lose_room(room, error.code.as_str().to_owned(), error),
        };
        let before = cursor.at.unwrap_or(0);
        let (next, whole) = cursor.fill(page.events);
        let came = !next.is_empty();
        let at = cursor.at.unwrap_or(0);
        if let Some(first) = next.first()
            && first.seq != before + 1
        {
            let told = vec![Told::Reset { from: before, head: first.seq - 1 }];
            self.put(Output::Told { room: room.to_owned(), told });
        }
        self.hand_out(room, next);
        if !page.more || !whole || !came {
            return self.place(room);
        }
        let half = self.setup.bounds.queued_entries / 2;
        let cursor = self.cursor(room);
        let hold = cursor.untaken > half;
        if let Some(filling) = &mut cursor.filling {
            filling.held = hold;
        }
        if hold {
            self.show_room(room);
        } else {
            self.next_page(room, placing, at);
        }
    }

    /// A frame of a room that nobody asked for.
    pub(super) fn room_frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Events { room, events } => self.events(&room, events),
            ServerFrame::Presence(presence) => {
                if let Some(cursor) = self.rooms.get_mut(&presence.room) {
                    cursor.state.online = presence.online;
                    self.show_room(&presence.room);
                }
                self.put(Output::Event(Event::Presence(presence)));
            }
            ServerFrame::Typing(typing) => self.put(Output::Event(Event::Typing(typing))),
            ServerFrame::Read(read) => self.put(Output::Event(Event::Read(read))),
            ServerFrame::Unsubscribed { room, code } => {
                let Some(cursor) = self.rooms.get_mut(&room).filter(|cursor| cursor.wanted.is_some()) else { return };
                cursor.state.role = None;
                let kind = if code == "deleted" { Code::NotFound } else { Code::Forbidden };
                let error = Error::new(kind, format!("unsubscribed: {code}"));
                self.lose_room(&room, code, error);
            }
            _ => {}
        }
    }

    fn events(&mut self, room: &str, events: Vec<Entry>) {
        let most = self.setup.bounds.queued_entries;
        let Some(cursor) = self.rooms.get_mut(room) else { return };
        let (next, whole) = cursor.take(events);
        let full = cursor.untaken > most;
        if full {
            cursor.placing += 1;
            cursor.state.status = Status::Paused;
        }
        self.hand_out(room, next);
        if full {
            self.ask_once(Asker::Nobody, ClientFrame::unsubscribe(room));
        } else if !whole {
            // Start again behind what is surely told.
            return self.place(room);
        }
        self.show_room(room);
    }

    fn hand_out(&mut self, room: &str, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let me = self.user.as_ref().map(|user| user.id.clone());
        for entry in &entries {
            if let Kind::Message(message) = &entry.kind
                && me.as_ref() == Some(&entry.user)
            {
                self.message_seen(room, &message.id, entry.seq, &entry.at);
            }
        }
        let told = entries.into_iter().map(|entry| Told::Entry(Box::new(entry))).collect();
        self.put(Output::Told { room: room.to_owned(), told });
    }

    /// The application is done with so many entries, the last of them `seq`.
    pub fn taken(&mut self, room: &str, entries: usize, seq: u64) {
        let half = self.setup.bounds.queued_entries / 2;
        let Some(cursor) = self.rooms.get_mut(room) else { return };
        cursor.untaken = cursor.untaken.saturating_sub(entries);
        cursor.state.seq = cursor.state.seq.max(seq);
        if cursor.untaken <= half {
            if cursor.state.status == Status::Paused {
                cursor.state.status = Status::Waiting;
                return self.place(room);
            }
            if let Some(filling @ Filling { held: true, .. }) = &mut cursor.filling {
                filling.held = false;
                let (placing, after) = (cursor.placing, cursor.at.unwrap_or(0));
                self.next_page(room, placing, after);
            }
        }
        self.show_room(room);
    }

    pub(super) fn rooms_connected(&mut self) {
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.place(&room);
            self.cursor(&room).told_mark = 0;
            self.mark(&room);
        }
    }

    pub(super) fn rooms_disconnected(&mut self) {
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.cursor(&room).unplace();
            self.show_room(&room);
        }
    }

    pub(super) fn rooms_closed(&mut self, error: &Error) {
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            if self.cursor(&room).wanted.is_some() {
                self.end_cursor(&room, error.clone());
            }
        }
    }

    pub(super) fn role_is(&mut self, room: &str, role: Option<String>) {
        self.cursor(room).state.role = role;
        self.show_room(room);
    }

    /// Call it with each key; the others are told no more often than is useful. Not said at all without a connection.
    pub fn typing(&mut self, room: &str, active: bool) {
        let now = self.now;
        let typed = self.cursor(room).typed;
        let idle = if active { typed.is_some_and(|at| now - at < TYPING_AGAIN) } else { typed.is_none() };
        if idle || self.state.phase != Phase::Online {
            return;
        }
        self.cursor(room).typed = active.then_some(now);
        self.say(ClientFrame::Typing { r#ref: None, room: room.to_owned(), active });
    }

    /// Raises one's read mark. Said again after a reconnect.
    pub fn read(&mut self, room: &str, seq: u64) {
        let cursor = self.cursor(room);
        if seq > cursor.marked {
            cursor.marked = seq;
            self.mark(room);
        }
    }

    fn mark(&mut self, room: &str) {
        let online = self.state.phase == Phase::Online;
        let cursor = self.cursor(room);
        let seq = cursor.marked;
        if online && seq > cursor.told_mark && self.say(ClientFrame::Read { r#ref: None, room: room.to_owned(), seq }) {
            self.cursor(room).told_mark = seq;
        }
    }

    fn say(&mut self, frame: ClientFrame) -> bool {
        self.link.as_mut().is_some_and(|link| link.say(frame))
    }
}
