//! What readers on this node get of a room, whoever owns it: the ring of recent entries, the hubs with readers, hints.
//!
//! Invariant: a hub that was told an `Admitted` with head `h` is told of everything behind `h`, either as entries
//! (`Deliver`) or as a place to fetch up to (`Advance`), in rising order.

use std::sync::{Arc, RwLock};

use actix::Recipient;
use bytes::Bytes;

use crate::actors::messages::{HubIndex, LogEntry, ToHub, ToRoom};
use crate::domain::command::{Eviction, Hint};
use crate::domain::ring::Ring;
use crate::entry::{Body, Entry};
use crate::ids::{RoomId, Seq, UserId};
use crate::limits::{RING_BYTES, RING_ENTRIES, ring_entry_bytes};
use crate::protocol::{self, Encoding};

/// The hubs of this node by index; filled as the worker threads start.
pub type Hubs = Arc<RwLock<Vec<Option<Recipient<ToHub>>>>>;

pub struct Feed {
    room: RoomId,
    hubs: Hubs,
    ring: Ring<Arc<LogEntry>>,
    /// Subscriptions a hub has here, by hub index, with its recipient once it has any.
    readers: Vec<(u32, Option<Recipient<ToHub>>)>,
}

impl Feed {
    pub fn new(room: RoomId, hubs: Hubs) -> Self {
        Self { room, hubs, ring: Ring::new(RING_ENTRIES, RING_BYTES, ring_entry_bytes), readers: Vec::new() }
    }

    pub fn head(&self) -> Seq {
        self.ring.head()
    }

    pub fn has_readers(&self) -> bool {
        self.readers.iter().any(|(readers, _)| *readers > 0)
    }

    /// The hub's recipient; `None` only where its thread never came up.
    pub fn hub(&mut self, hub: HubIndex) -> Option<&Recipient<ToHub>> {
        let index = usize::from(hub.0);
        if self.readers.len() <= index {
            self.readers.resize_with(index + 1, Default::default);
        }
        let slot = &mut self.readers[index].1;
        if slot.as_ref().is_none_or(|recipient| !recipient.connected()) {
            *slot = self.hubs.read().ok().and_then(|hubs| hubs.get(index).cloned().flatten());
        }
        slot.as_ref()
    }

    pub fn send(&mut self, hub: HubIndex, message: ToHub) {
        if let Some(hub) = self.hub(hub) {
            hub.do_send(message);
        }
    }

    pub fn add_reader(&mut self, hub: HubIndex) {
        self.hub(hub);
        self.readers[usize::from(hub.0)].0 += 1;
    }

    pub fn remove_reader(&mut self, hub: HubIndex) {
        if let Some((readers, _)) = self.readers.get_mut(usize::from(hub.0)) {
            *readers = readers.saturating_sub(1);
        }
    }

    fn readers(&self) -> impl Iterator<Item = &Recipient<ToHub>> {
        self.readers.iter().filter(|(readers, _)| *readers > 0).filter_map(|(_, hub)| hub.as_ref())
    }

    /// Takes consecutive entries that are next; gives them in the shared form. The hubs are told by [`Self::deliver`].
    pub fn append(&mut self, entries: Vec<(Entry, Bytes)>) -> Arc<[Arc<LogEntry>]> {
        let entries: Vec<Arc<LogEntry>> =
            entries.into_iter().map(|(entry, json)| Arc::new(LogEntry::new(entry, json))).collect();
        for entry in &entries {
            self.ring.push(entry.clone(), entry.json.len());
            self.follow(&entry.entry);
        }
        entries.into()
    }

    pub fn deliver(&self, entries: &Arc<[Arc<LogEntry>]>) {
        for hub in self.readers() {
            hub.do_send(ToHub::Deliver { room: self.room.clone(), entries: entries.clone() });
        }
    }

    /// Stands at `head` without the entries before it: every cursor is behind and fetches.
    pub fn advance(&mut self, head: Seq) {
        if head <= self.ring.head() {
            return;
        }
        self.ring.clear_to(head);
        for hub in self.readers() {
            hub.do_send(ToHub::Advance { room: self.room.clone(), head });
        }
    }

    /// After a (re)open: the newest entries as the store has them.
    pub fn reload(&mut self, head: Seq, recent: Vec<Entry>) {
        let behind = self.ring.head() < head;
        self.ring.clear_to(head - recent.len() as Seq);
        for entry in recent {
            let json = protocol::encode_entry(Encoding::Json, &entry);
            let bytes = json.len();
            self.ring.push(Arc::new(LogEntry::new(entry, json)), bytes);
        }
        if behind {
            for hub in self.readers() {
                hub.do_send(ToHub::Advance { room: self.room.clone(), head });
            }
        }
    }

    /// What a person wrote is not replayed from memory any more.
    pub fn forget(&mut self, user: &UserId) {
        let theirs: Vec<Seq> =
            self.ring.iter().filter(|kept| kept.entry.user == *user).map(|kept| kept.entry.seq).collect();
        for seq in theirs {
            self.ring.replace(seq, |kept| changed(kept, erase));
        }
    }

    pub fn after(&self, after: Seq, max_bytes: usize) -> Option<Vec<Arc<LogEntry>>> {
        if after > self.head() {
            return Some(Vec::new());
        }
        self.ring.after(after, max_bytes)
    }

    pub fn hint(&self, hint: &Hint) {
        for hub in self.readers() {
            hub.do_send(ToHub::Hint { room: self.room.clone(), hint: hint.clone() });
        }
    }

    /// Tells the hubs, which answer with one `Unsubscribed` for each subscription they end.
    pub fn evict(&self, user: Option<&UserId>, why: Eviction) {
        for hub in self.readers() {
            hub.do_send(ToHub::Evict { room: self.room.clone(), user: user.cloned(), why });
        }
    }

    /// Asks every hub of the node to let go of the handle; gives how many were asked.
    pub fn release(&mut self, token: u64, reply: &Recipient<ToRoom>) -> usize {
        let count = self.hubs.read().map_or(0, |hubs| hubs.len());
        let mut asked = 0;
        for index in 0..count {
            let room = self.room.clone();
            if let Some(hub) = self.hub(HubIndex(index as u16)) {
                hub.do_send(ToHub::Release { room, token, reply: reply.clone() });
                asked += 1;
            }
        }
        asked
    }

    /// An edit or delete changes what a replay from the ring shows, just as it changes the store.
    fn follow(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Edit { target, text: Some(text) } => self.ring.replace(*target, |kept| {
                changed(kept, |body| match body {
                    Body::Message(message) if message.text.is_some() => {
                        message.text = Some(text.clone());
                        message.edited_at = Some(entry.at);
                        true
                    }
                    _ => false,
                })
            }),
            Body::Delete { target } => {
                let edits: Vec<Seq> =
                    self.ring.iter().filter(|kept| edits(kept, *target)).map(|e| e.entry.seq).collect();
                self.ring.replace(*target, |kept| changed(kept, erase));
                for edit in edits {
                    self.ring.replace(edit, |kept| changed(kept, erase));
                }
            }
            _ => {}
        }
    }
}

fn edits(kept: &LogEntry, message: Seq) -> bool {
    matches!(kept.entry.body, Body::Edit { target, .. } if target == message)
}

fn erase(body: &mut Body) -> bool {
    match body {
        Body::Message(message) => {
            (message.text, message.data) = (None, None);
            true
        }
        Body::Edit { text, .. } => text.take().is_some(),
        Body::Reaction { emoji, active, .. } => {
            *active = false;
            !std::mem::take(emoji).is_empty()
        }
        _ => false,
    }
}

fn changed(kept: &LogEntry, change: impl FnOnce(&mut Body) -> bool) -> Option<(Arc<LogEntry>, usize)> {
    let mut entry = kept.entry.clone();
    change(&mut entry.body).then(|| {
        let json = protocol::encode_entry(Encoding::Json, &entry);
        let bytes = json.len();
        (Arc::new(LogEntry::new(entry, json)), bytes)
    })
}
