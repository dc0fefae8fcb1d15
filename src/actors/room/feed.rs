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
use crate::entry::{Body, Entry, Expiry, RoomPatch};
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::limits::{RING_BYTES, RING_ENTRIES, ring_entry_bytes};
use crate::protocol::{self, Encoding};

/// The hubs of this node by index; filled as the worker threads start.
pub type Hubs = Arc<RwLock<Vec<Option<Recipient<ToHub>>>>>;

pub struct Feed {
    room: RoomId,
    hubs: Hubs,
    ring: Ring<Arc<LogEntry>>,
    /// What of the log has disappeared; `None`: not known here, so entries are read from the store.
    expiry: Option<Expiry>,
    /// Subscriptions a hub has here, by hub index, with its recipient once it has any.
    readers: Vec<(u32, Option<Recipient<ToHub>>)>,
}

impl Feed {
    pub fn new(room: RoomId, hubs: Hubs) -> Self {
        let ring = Ring::new(RING_ENTRIES, RING_BYTES, ring_entry_bytes);
        Self { room, hubs, ring, expiry: None, readers: Vec::new() }
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
        // A change of it may be among what was passed over.
        self.expiry = None;
        for hub in self.readers() {
            hub.do_send(ToHub::Advance { room: self.room.clone(), head });
        }
    }

    /// After a (re)open: the newest entries as the store has them.
    pub fn reload(&mut self, head: Seq, recent: Vec<Entry>, expiry: Expiry) {
        self.expiry = Some(expiry);
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

    /// As the owner of the room says.
    pub fn set_expiry(&mut self, expiry: Option<Expiry>) {
        self.expiry = expiry;
    }

    /// What a person wrote is not replayed from memory any more.
    pub fn forget(&mut self, user: &UserId) {
        let theirs: Vec<Seq> =
            self.ring.iter().filter(|kept| kept.entry.user == *user).map(|kept| kept.entry.seq).collect();
        for seq in theirs {
            self.ring.replace(seq, |kept| changed(kept, Entry::forget));
        }
    }

    /// The entries behind `after`, without the texts of what has expired at `now`; `None`: the store must be asked.
    pub fn after(&mut self, after: Seq, max_bytes: usize, now: Millis) -> Option<Vec<Arc<LogEntry>>> {
        if after >= self.head() {
            return Some(Vec::new());
        }
        let found = self.ring.after(after, max_bytes)?;
        let Some(cutoff) = self.expiry?.cutoff(now) else { return Some(found) };
        let mut expired = Vec::new();
        for kept in &found {
            let said_at = match &kept.entry.body {
                Body::Message(message) if message.text.is_some() => kept.entry.at,
                // When the message was sent is not known here once it has left the ring.
                Body::Edit { target, text: Some(_), .. } => self.ring.get(*target)?.entry.at,
                _ => continue,
            };
            if said_at <= cutoff {
                expired.push(kept.entry.seq);
            }
        }
        if expired.is_empty() {
            return Some(found);
        }
        for seq in expired {
            self.ring.replace(seq, |kept| changed(kept, Entry::erase));
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
        let entry_at = entry.at;
        match &entry.body {
            Body::Edit { target, text: Some(text), mentions } => self.ring.replace(*target, |kept| {
                changed(kept, |entry| match &mut entry.body {
                    Body::Message(message) if message.text.is_some() => {
                        message.text = Some(text.clone());
                        message.mentions = mentions.clone();
                        message.edited_at = Some(entry_at);
                        true
                    }
                    _ => false,
                })
            }),
            Body::Delete { target } => {
                let edits: Vec<Seq> =
                    self.ring.iter().filter(|kept| edits(kept, *target)).map(|e| e.entry.seq).collect();
                for seq in edits.into_iter().chain([*target]) {
                    self.ring.replace(seq, |kept| changed(kept, Entry::erase));
                }
            }
            Body::Room(RoomPatch { ttl_s: Some(ttl_s), .. }) => {
                if let Some(expiry) = &mut self.expiry {
                    expiry.change(*ttl_s, entry.at);
                }
            }
            _ => {}
        }
    }
}

fn edits(kept: &LogEntry, message: Seq) -> bool {
    matches!(kept.entry.body, Body::Edit { target, .. } if target == message)
}

fn changed(kept: &LogEntry, change: impl FnOnce(&mut Entry) -> bool) -> Option<(Arc<LogEntry>, usize)> {
    let mut entry = kept.entry.clone();
    change(&mut entry).then(|| {
        let json = protocol::encode_entry(Encoding::Json, &entry);
        let bytes = json.len();
        (Arc::new(LogEntry::new(entry, json)), bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Mentions;
    use crate::entry::Message;
    use crate::ids::MessageId;

    const NOW: Millis = 1_700_000_000_000;

    fn message(seq: Seq, at: Millis) -> Entry {
        let id = MessageId::parse(&seq.to_string()).expect("a valid id");
        let message = Message {
            id,
            text: Some("secret".into()),
            reply_to: None,
            data: None,
            edited_at: None,
            mentions: Mentions::default(),
        };
        entry(seq, at, Body::Message(message))
    }

    fn edit(seq: Seq, at: Millis, target: Seq) -> Entry {
        entry(seq, at, Body::Edit { target, text: Some("secret".into()), mentions: Mentions::default() })
    }

    fn entry(seq: Seq, at: Millis, body: Body) -> Entry {
        Entry { seq, user: UserId::parse("alice").expect("a valid id"), at, body }
    }

    fn feed(head: Seq, recent: Vec<Entry>, expiry: Expiry) -> Feed {
        let mut feed = Feed::new(RoomId::parse("r").expect("a valid id"), Hubs::default());
        feed.reload(head, recent, expiry);
        feed
    }

    fn add(feed: &mut Feed, entry: Entry) {
        let json = protocol::encode_entry(Encoding::Json, &entry);
        feed.append(vec![(entry, json)]);
    }

    /// Which of the entries behind `after` hold a secret; `None`: the store must be asked.
    fn secrets(feed: &mut Feed, after: Seq, now: Millis) -> Option<Vec<Seq>> {
        let found = feed.after(after, usize::MAX, now)?;
        assert_eq!(found.len() as Seq, feed.head() - after, "every place stays");
        let tells = |entry: &&Arc<LogEntry>| String::from_utf8_lossy(&entry.json).contains("secret");
        Some(found.iter().filter(tells).map(|entry| entry.entry.seq).collect())
    }

    #[test]
    fn what_has_expired_is_not_shown_from_memory() {
        let minute = Expiry { ttl_s: 60, before: 0 };
        let mut feed = feed(0, vec![], minute);
        for entry in [message(1, NOW), message(2, NOW + 10_000), edit(3, NOW + 50_000, 1), edit(4, NOW + 50_000, 2)] {
            add(&mut feed, entry);
        }
        assert_eq!(secrets(&mut feed, 0, NOW + 59_999), Some(vec![1, 2, 3, 4]));
        assert_eq!(secrets(&mut feed, 0, NOW + 60_000), Some(vec![2, 4]), "an edit goes with its message");
        assert_eq!(secrets(&mut feed, 2, NOW + 60_000), Some(vec![4]));
        assert_eq!(secrets(&mut feed, 0, NOW + 70_000), Some(vec![]));
    }

    #[test]
    fn a_change_of_the_time_is_followed() {
        let mut feed = feed(0, vec![], Expiry::default());
        add(&mut feed, message(1, NOW));
        assert_eq!(secrets(&mut feed, 0, NOW + 900_000), Some(vec![1]));
        let patch = |ttl_s| Body::Room(RoomPatch { ttl_s: Some(ttl_s), ..RoomPatch::default() });
        add(&mut feed, entry(2, NOW + 30_000, patch(60)));
        add(&mut feed, message(3, NOW + 30_000));
        add(&mut feed, entry(4, NOW + 70_000, patch(0)));
        assert_eq!(secrets(&mut feed, 0, NOW + 900_000), Some(vec![3]), "what had expired by then stays so");
    }

    #[test]
    fn what_can_not_be_told_here_is_asked_of_the_store() {
        let minute = Expiry { ttl_s: 60, before: 0 };
        // The message that the edit is about is not among the recent entries.
        let mut edited = feed(2, vec![edit(2, NOW, 1)], minute);
        assert_eq!(secrets(&mut edited, 1, NOW), None);
        // A change may be among the entries that were passed over.
        let mut behind = feed(1, vec![message(1, NOW)], Expiry::default());
        behind.advance(5);
        add(&mut behind, message(6, NOW));
        assert_eq!(secrets(&mut behind, 5, NOW), None);
        assert_eq!(secrets(&mut behind, 6, NOW), Some(vec![]));
        behind.set_expiry(Some(minute));
        assert_eq!(secrets(&mut behind, 5, NOW), Some(vec![6]));
        assert_eq!(secrets(&mut behind, 5, NOW + 60_000), Some(vec![]));
    }
}
