//! Messages on their way. Each has an id of its own from the start and is repeated under it until the server says what
//! became of it, over lost connections and, with a storage that lasts, over the end of the process.

use std::collections::{BTreeMap, HashMap};

use super::Core;
use super::requests::{Lane, Purpose};
use super::types::{Answer, Change, Draft, Event, OutboxItem, OutboxState, Output, StoredMessage, Ticket};
use crate::error::{Code, Error};
use crate::frames::{ClientFrame, Sent, ServerFrame};

#[derive(Clone, Debug)]
struct Waiting {
    item: OutboxItem,
    bytes: usize,
    ticket: Option<Ticket>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<u64, Waiting>,
    places: HashMap<(String, String), u64>,
    bytes: usize,
    next: u64,
    /// Whose messages these are, once it is known.
    user: Option<String>,
    /// What was left by an earlier process is here: from now on messages go.
    pub opened: bool,
    loading: bool,
    pub volatile: bool,
}

fn bytes_of(draft: &Draft) -> usize {
    let data = draft.data.as_ref().map_or(0, |data| data.to_string().len());
    draft.text.len() + data + draft.room.len() + draft.id.len() + 200
}

impl Core {
    /// What is not sent yet, in the order in which it was given.
    pub fn outbox(&self) -> impl Iterator<Item = &OutboxItem> {
        self.outbox.waiting.values().map(|waiting| &waiting.item)
    }

    /// Says something. The answer to `ticket` is the commit.
    pub fn send(&mut self, draft: Draft, ticket: Ticket) {
        let bytes = bytes_of(&draft);
        let key = (draft.room.clone(), draft.id.clone());
        let waiting = self.outbox.waiting.len();
        let bounds = self.setup.bounds;
        let refused = if let Some(error) = self.over() {
            Some(error)
        } else if self.outbox.places.contains_key(&key) {
            Some(Error::new(Code::Conflict, format!("{} waits in {} already", draft.id, draft.room)))
        } else if waiting >= bounds.outbox_messages || self.outbox.bytes + bytes > bounds.outbox_bytes {
            Some(Error::new(Code::OutboxFull, format!("{waiting} messages wait already")))
        } else {
            None
        };
        if let Some(error) = refused {
            return self.put(Output::Done { ticket, result: Err(error) });
        }
        let item = OutboxItem { draft, state: OutboxState::Waiting, error: None };
        let n = self.keep_message(item, Some(ticket));
        self.store(n);
        self.outbox_event(n, Change::Added);
        self.go(n);
    }

    fn keep_message(&mut self, item: OutboxItem, ticket: Option<Ticket>) -> u64 {
        self.outbox.next += 1;
        let n = self.outbox.next;
        let bytes = bytes_of(&item.draft);
        self.outbox.bytes += bytes;
        self.outbox.places.insert((item.draft.room.clone(), item.draft.id.clone()), n);
        self.outbox.waiting.insert(n, Waiting { item, bytes, ticket });
        n
    }

    fn outbox_event(&mut self, n: u64, change: Change) {
        if let Some(waiting) = self.outbox.waiting.get(&n) {
            let item = Box::new(waiting.item.clone());
            self.put(Output::Event(Event::Outbox { item, change }));
        }
    }

    /// Puts it at the end of its room's lane.
    fn go(&mut self, n: u64) {
        let Some(waiting) = self.outbox.waiting.get(&n) else { return };
        if !self.outbox.opened || waiting.item.state == OutboxState::Failed {
            return;
        }
        let Draft { room, id, text, reply_to, data, .. } = waiting.item.draft.clone();
        let lane = Lane::Messages(room.clone());
        let frame = ClientFrame::Send { r#ref: None, room, id, text, reply_to, data };
        self.add_job(frame, Purpose::Message(n), Some(lane), None);
    }

    /// It is asked now, or why it has to wait.
    pub(super) fn message_waits(&mut self, n: u64, error: Option<Error>) {
        let Some(waiting) = self.outbox.waiting.get_mut(&n) else { return };
        waiting.item.state = if error.is_some() { OutboxState::Waiting } else { OutboxState::Sending };
        waiting.item.error = error;
        self.outbox_event(n, Change::Updated);
    }

    pub(super) fn message_decided(&mut self, n: u64, result: Result<ServerFrame, Error>) {
        match result {
            Ok(ServerFrame::Sent(sent)) => self.message_sent(n, sent),
            Ok(_) => self.message_failed(n, Error::new(Code::Internal, "an answer that is none")),
            Err(error) => self.message_failed(n, error),
        }
    }

    fn message_sent(&mut self, n: u64, sent: Sent) {
        if let Some(waiting) = self.drop_message(n) {
            self.put(Output::Event(Event::Outbox { item: Box::new(waiting.item), change: Change::Sent(sent.clone()) }));
            if let Some(ticket) = waiting.ticket {
                self.put(Output::Done { ticket, result: Ok(Answer::Sent(sent)) });
            }
        }
    }

    fn message_failed(&mut self, n: u64, error: Error) {
        let Some(waiting) = self.outbox.waiting.get_mut(&n) else { return };
        waiting.item.state = OutboxState::Failed;
        waiting.item.error = Some(error.clone());
        let ticket = waiting.ticket.take();
        self.outbox_event(n, Change::Failed);
        if self.setup.keep_failed {
            self.store(n);
        } else {
            self.drop_message(n);
        }
        if let Some(ticket) = ticket {
            self.put(Output::Done { ticket, result: Err(error) });
        }
    }

    fn drop_message(&mut self, n: u64) -> Option<Waiting> {
        let waiting = self.outbox.waiting.remove(&n)?;
        self.outbox.bytes -= waiting.bytes;
        let Draft { room, id, .. } = &waiting.item.draft;
        self.outbox.places.remove(&(room.clone(), id.clone()));
        if let Some(user) = &self.outbox.user
            && !self.outbox.volatile
        {
            let (user, room, id) = (user.clone(), room.clone(), id.clone());
            self.put(Output::Remove { user, room, id });
        }
        Some(waiting)
    }

    /// One's own message was seen in the log: it is sent, whatever became of the answer.
    pub(super) fn message_seen(&mut self, room: &str, id: &str, seq: u64, at: &str) {
        let Some(&n) = self.outbox.places.get(&(room.to_owned(), id.to_owned())) else { return };
        if let Some(job) = self.job_of_message(n) {
            self.end_job(job);
        }
        let (room, id, at) = (room.to_owned(), id.to_owned(), at.to_owned());
        self.message_sent(n, Sent { r#ref: None, room, id, seq, at, duplicate: true });
    }

    /// Sends a failed message again, with its id.
    pub fn retry(&mut self, room: &str, id: &str, ticket: Ticket) {
        let place = self.outbox.places.get(&(room.to_owned(), id.to_owned())).copied();
        let failed = |n: &u64| self.outbox.waiting.get(n).is_some_and(|one| one.item.state == OutboxState::Failed);
        let Some(n) = place.filter(failed) else {
            let error = Error::new(Code::NotFound, format!("{id} is no failed message of {room}"));
            return self.put(Output::Done { ticket, result: Err(error) });
        };
        if let Some(waiting) = self.outbox.waiting.get_mut(&n) {
            waiting.ticket = Some(ticket);
            waiting.item.state = OutboxState::Waiting;
            waiting.item.error = None;
        }
        self.outbox_event(n, Change::Updated);
        self.store(n);
        self.go(n);
    }

    /// Takes a message out. One that is `sending` may be in the log all the same. `false`: it is not here (any more).
    pub fn discard(&mut self, room: &str, id: &str) -> bool {
        let Some(&n) = self.outbox.places.get(&(room.to_owned(), id.to_owned())) else { return false };
        if let Some(job) = self.job_of_message(n) {
            self.end_job(job);
        }
        let Some(waiting) = self.drop_message(n) else { return false };
        if let Some(ticket) = waiting.ticket {
            let error = Error::new(Code::Cancelled, "taken out of the outbox");
            self.put(Output::Done { ticket, result: Err(error) });
        }
        self.put(Output::Event(Event::Outbox { item: Box::new(waiting.item), change: Change::Discarded }));
        true
    }

    /// From now on it is known whose messages these are.
    pub(super) fn open_outbox(&mut self, user: &str) {
        if self.outbox.opened || self.outbox.loading {
            return;
        }
        self.outbox.loading = true;
        self.outbox.user = Some(user.to_owned());
        self.put(Output::Load { user: user.to_owned() });
    }

    /// What an earlier process left; it goes first.
    pub fn loaded(&mut self, mut found: Vec<StoredMessage>) {
        if self.outbox.opened || !self.outbox.loading {
            return;
        }
        self.outbox.loading = false;
        found.sort_by_key(|stored| stored.n);
        let own = std::mem::take(&mut self.outbox.waiting);
        let top = found.last().map_or(0, |stored| stored.n);
        // Numbers go on behind those of the storage, so that the order outlives this process too.
        self.outbox.next = self.outbox.next.max(top);
        for stored in found {
            let StoredMessage { room, id, text, reply_to, data, at_ms, failed, .. } = stored;
            if self.outbox.places.contains_key(&(room.clone(), id.clone())) {
                continue;
            }
            let draft = Draft { room, id, text, reply_to, data, at_ms };
            let bounds = self.setup.bounds;
            let full = self.outbox.waiting.len() + own.len() >= bounds.outbox_messages
                || self.outbox.bytes + bytes_of(&draft) > bounds.outbox_bytes;
            if full {
                // Beyond the bounds they stay where they are, for a later process.
                break;
            }
            let error = failed.map(|(code, message)| Error::new(Code::from(&*code), message));
            let state = if error.is_some() { OutboxState::Failed } else { OutboxState::Waiting };
            let n = self.keep_message(OutboxItem { draft, state, error }, None);
            self.outbox_event(n, Change::Added);
        }
        for (_, waiting) in own {
            self.outbox.bytes -= waiting.bytes;
            self.keep_message(waiting.item, waiting.ticket);
        }
        self.outbox.opened = true;
        for n in self.outbox.waiting.keys().copied().collect::<Vec<_>>() {
            self.store(n);
            self.go(n);
        }
        self.release();
    }

    /// The storage failed: it is not asked again.
    pub fn storage_failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.outbox.volatile, true) {
            self.put(Output::Event(Event::Volatile { why: why.to_owned() }));
        }
        self.loaded(Vec::new());
    }

    fn store(&mut self, n: u64) {
        if self.outbox.volatile {
            return;
        }
        let (Some(user), Some(waiting)) = (&self.outbox.user, self.outbox.waiting.get(&n)) else { return };
        let OutboxItem { draft, state, error } = &waiting.item;
        let Draft { room, id, text, reply_to, data, at_ms } = draft.clone();
        let failed = error
            .as_ref()
            .filter(|_| *state == OutboxState::Failed)
            .map(|error| (error.code.as_str().to_owned(), error.message.clone()));
        let stored = StoredMessage { user: user.clone(), room, id, n, text, reply_to, data, at_ms, failed };
        self.put(Output::Put(stored));
    }

    /// Whoever waits is told that it is over. The messages stay where they are.
    pub(super) fn tell_senders(&mut self, error: &Error) {
        let tickets: Vec<_> = self.outbox.waiting.values_mut().filter_map(|waiting| waiting.ticket.take()).collect();
        for ticket in tickets {
            self.put(Output::Done { ticket, result: Err(error.clone()) });
        }
    }
}
