//! The store as the rooms know it from `ports.rs`: numbers entries, raises epochs, refuses older ones, knows every id for
//! ever, does all of an append or nothing. Besides, it remembers who did what under which epoch, for the invariants.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use roundtable::domain::append::{AppendItem, Change, Outcome};
use roundtable::domain::rules::People;
use roundtable::entry::{Body, Entry, Mentions, Message, Role, Room, RoomKind};
use roundtable::ids::{Epoch, MessageId, Millis, RoomId, Seq, UserId};

use super::Flaw;

/// An append that was done.
#[derive(Clone, Debug)]
pub struct Commit {
    pub epoch: Epoch,
    /// Of the room when it was done.
    pub newest: Epoch,
    /// Rises with every append that any owner sent off.
    pub issued: u64,
    pub first: Seq,
    pub entries: u64,
}

/// One room in the store.
#[derive(Clone, Debug)]
pub struct Log {
    pub room: Room,
    epoch: Epoch,
    people: People,
    /// As committed: texts here never change.
    pub entries: Vec<Rc<Entry>>,
    known: HashMap<(UserId, MessageId), (Seq, Millis)>,
    /// The present text of each message; `None`: deleted.
    present: HashMap<Seq, Option<String>>,
    reactions: BTreeSet<(Seq, UserId, String)>,
    pub commits: Vec<Commit>,
}

/// What `open_room` reads.
#[derive(Clone, Debug)]
pub struct Opened {
    pub room: Room,
    pub epoch: Epoch,
    pub people: People,
    pub recent: Vec<Rc<Entry>>,
}

impl Log {
    pub fn new(id: RoomId, members: &[UserId]) -> Self {
        let room = Room::new(id, RoomKind::Public);
        let members = members.iter().map(|user| (user.clone(), Role::Member)).collect();
        Self {
            room,
            epoch: Epoch(0),
            people: People { members, bans: Default::default() },
            entries: Vec::new(),
            known: HashMap::new(),
            present: HashMap::new(),
            reactions: BTreeSet::new(),
            commits: Vec::new(),
        }
    }

    pub fn head(&self) -> Seq {
        self.entries.len() as Seq
    }

    pub fn open(&mut self, recent: usize) -> Opened {
        self.epoch.0 += 1;
        let from = self.entries.len().saturating_sub(recent);
        let recent = (from..self.entries.len()).map(|index| self.presented(index)).collect();
        Opened { room: self.room.clone(), epoch: self.epoch, people: self.people.clone(), recent }
    }

    /// `None`: fenced.
    pub fn append(&mut self, epoch: Epoch, issued: u64, items: Vec<AppendItem>, flaw: Flaw) -> Option<Vec<Outcome>> {
        if epoch != self.epoch && flaw != Flaw::StoreIgnoresEpoch {
            return None;
        }
        let before = self.head();
        let outcomes = items.into_iter().map(|item| self.item(item, flaw)).collect();
        self.room.head = self.head();
        if self.head() > before {
            let entries = self.head() - before;
            self.commits.push(Commit { epoch, newest: self.epoch, issued, first: before + 1, entries });
        }
        Some(outcomes)
    }

    /// Entries behind `after` in their present form, at most `limit`.
    pub fn page(&self, after: Seq, limit: usize) -> Vec<Rc<Entry>> {
        (after as usize..self.entries.len()).take(limit).map(|index| self.presented(index)).collect()
    }

    fn presented(&self, index: usize) -> Rc<Entry> {
        let entry = &self.entries[index];
        match &entry.body {
            Body::Message(message) => {
                let text = self.present.get(&entry.seq).cloned().flatten();
                if message.text == text {
                    return entry.clone();
                }
                let body = Body::Message(Message { text, ..message.clone() });
                Rc::new(Entry { body, ..(**entry).clone() })
            }
            Body::Edit { target, .. } if self.present.get(target) == Some(&None) => {
                let body = Body::Edit { target: *target, text: None, mentions: Mentions::default() };
                Rc::new(Entry { body, ..(**entry).clone() })
            }
            _ => entry.clone(),
        }
    }

    fn item(&mut self, item: AppendItem, flaw: Flaw) -> Outcome {
        let AppendItem { user, at, change, .. } = item;
        match change {
            Change::Message { id, text, reply_to, data, mentions, only_if_known } => {
                let key = (user.clone(), id.clone());
                if let Some(&(seq, at)) = self.known.get(&key)
                    && flaw != Flaw::StoreForgetsIds
                {
                    return Outcome::Duplicate { seq, at };
                }
                if only_if_known {
                    return Outcome::Absent;
                }
                if reply_to.is_some_and(|seq| !self.present.contains_key(&seq)) {
                    return Outcome::NoSuchTarget;
                }
                let present = Some(text.clone());
                let message = Message { id, text: Some(text), reply_to, data, edited_at: None, mentions };
                let seq = self.log(user, at, Body::Message(message), flaw);
                self.known.insert(key, (seq, at));
                self.present.insert(seq, present);
                Outcome::Appended { seq, at }
            }
            Change::Edit { target, text, mentions } => match self.author_and_text(target) {
                None => Outcome::NoSuchTarget,
                Some((author, _)) if author != user => Outcome::NotYours,
                Some((_, None)) => Outcome::TargetDeleted,
                Some((_, Some(present))) if present == text => Outcome::Unchanged,
                Some(_) => {
                    self.present.insert(target, Some(text.clone()));
                    let seq = self.log(user, at, Body::Edit { target, text: Some(text), mentions }, flaw);
                    Outcome::Appended { seq, at }
                }
            },
            Change::Delete { target, moderator } => match self.author_and_text(target) {
                None => Outcome::NoSuchTarget,
                Some((author, _)) if author != user && !moderator => Outcome::NotYours,
                Some((_, None)) => Outcome::Unchanged,
                Some(_) => {
                    self.present.insert(target, None);
                    let seq = self.log(user, at, Body::Delete { target }, flaw);
                    Outcome::Appended { seq, at }
                }
            },
            Change::React { target, emoji, active } => {
                let Some((_, text)) = self.author_and_text(target) else { return Outcome::NoSuchTarget };
                let reaction = (target, user.clone(), emoji.clone());
                if self.reactions.contains(&reaction) == active {
                    return Outcome::Unchanged;
                }
                if active && text.is_none() {
                    return Outcome::TargetDeleted;
                }
                if active {
                    self.reactions.insert(reaction);
                } else {
                    self.reactions.remove(&reaction);
                }
                let seq = self.log(user, at, Body::Reaction { target, emoji, active }, flaw);
                Outcome::Appended { seq, at }
            }
            Change::SetMember { user, role } => {
                self.people.members.insert(user, role);
                Outcome::Done { role: Some(role) }
            }
            Change::RemoveMember { user } => {
                self.people.members.remove(&user);
                Outcome::Done { role: None }
            }
            other => unreachable!("no simulated client asks for {other:?}"),
        }
    }

    fn author_and_text(&self, target: Seq) -> Option<(UserId, Option<String>)> {
        let text = self.present.get(&target)?.clone();
        Some((self.entries.get(target as usize - 1)?.user.clone(), text))
    }

    fn log(&mut self, user: UserId, at: Millis, body: Body, flaw: Flaw) -> Seq {
        let seq = match flaw {
            Flaw::StoreLoses if self.head() % 16 == 15 => return self.head() + 1,
            Flaw::StoreSkipsNumbers => self.head() + 1 + self.head() / 16,
            _ => self.head() + 1,
        };
        self.entries.push(Rc::new(Entry { seq, user, at, body }));
        seq
    }

    /// Every text that the message `seq` ever had.
    pub fn texts(&self) -> BTreeMap<Seq, BTreeSet<&str>> {
        let mut texts: BTreeMap<Seq, BTreeSet<&str>> = BTreeMap::new();
        for entry in &self.entries {
            match &entry.body {
                Body::Message(Message { text: Some(text), .. }) => texts.entry(entry.seq).or_default().insert(text),
                Body::Edit { target, text: Some(text), .. } => texts.entry(*target).or_default().insert(text),
                _ => false,
            };
        }
        texts
    }
}
