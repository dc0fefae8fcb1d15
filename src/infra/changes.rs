//! How the items of one room's append take effect, one after the other: the rules both stores share. Pure.
//!
//! A store locks the room, reads what the items could touch ([`Needs`] → [`Before`]), lets [`plan`] decide, and writes
//! the [`Plan`] down, all in one transaction. Invariants: `seq` goes on from the head without a gap, since only an
//! entry that will be written takes one; each item sees the effects of those before it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::domain::audit::{self, Deed, What, Whence};
use crate::entry::{Body, Entry, Message, Role, Room, RoomKind, RoomPatch};
use crate::ids::{MessageId, Millis, Seq, UserId};
use crate::ports::{AppendItem, Change, Outcome, RoomNo};

/// What names a message for ever: its room, its sender and the sender's own id for it, as one value, so that the unique
/// index over it is narrow and no other index serves to look it up. It starts with the room, so that the keys of a room
/// lie together in the index; the other 96 bits are of SHA-256, and only a sender's own messages could ever meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(pub [u8; 16]);

impl MessageKey {
    pub fn of(room: RoomNo, user: &UserId, id: &MessageId) -> Self {
        let room = room.0.to_be_bytes();
        let mut hash = Sha256::new();
        hash.update(room);
        hash.update(user.as_str());
        hash.update([0]);
        hash.update(id.as_str());
        let mut key = [0; 16];
        key[..4].copy_from_slice(&room[4..]);
        key[4..].copy_from_slice(&hash.finalize()[..12]);
        Self(key)
    }
}

/// What a room remembers of a person, members and others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// `None`: not a member.
    pub role: Option<Role>,
    /// Outlives the membership: leaving lifts no mute.
    pub muted: bool,
    pub banned: bool,
}

/// A message that items refer to, in its present form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub author: UserId,
    /// `None`: deleted.
    pub text: Option<String>,
}

/// What must be read before [`plan`] can decide.
#[derive(Debug, Default)]
pub struct Needs {
    pub keys: Vec<MessageKey>,
    /// Entries that may be messages: targets and `reply_to`s.
    pub messages: HashSet<Seq>,
    /// By target, user and emoji.
    pub reactions: HashSet<(Seq, UserId, String)>,
    pub people: HashSet<UserId>,
}

/// What was found of [`Needs`], and the room's record as the head stands.
#[derive(Debug)]
pub struct Before {
    pub no: RoomNo,
    pub room: Room,
    pub known: HashMap<MessageKey, (Seq, Millis)>,
    pub messages: HashMap<Seq, Target>,
    /// Those that are set.
    pub reactions: HashSet<(Seq, UserId, String)>,
    /// Those that the room remembers.
    pub people: HashMap<UserId, Person>,
    /// Those that exist as users.
    pub users: HashSet<UserId>,
}

impl Before {
    /// Nothing found yet.
    pub fn of(no: RoomNo, room: Room) -> Self {
        Self {
            no,
            room,
            known: HashMap::new(),
            messages: HashMap::new(),
            reactions: HashSet::new(),
            people: HashMap::new(),
            users: HashSet::new(),
        }
    }
}

/// What to write. The parts touch different rows, so their order does not matter, except that `erased_edits` reaches
/// `entries` too.
#[derive(Debug)]
pub struct Plan {
    pub outcomes: Vec<Outcome>,
    /// New entries in rising `seq`, each message and edit in the form it has after the last item.
    pub entries: Vec<(Entry, Option<MessageKey>)>,
    /// Stored messages that have a new present text.
    pub edited: BTreeMap<Seq, (String, Millis)>,
    /// Stored messages whose text and data go.
    pub erased: Vec<Seq>,
    /// Messages whose edits lose their texts, stored ones and new ones.
    pub erased_edits: Vec<Seq>,
    pub reactions_set: HashSet<(Seq, UserId, String)>,
    pub reactions_cleared: HashSet<(Seq, UserId, String)>,
    pub people: HashMap<UserId, Person>,
    /// What the audit log has to say: every act for which the member needed a right that others lack. Room commands
    /// are seen here and nowhere else, whether they came by WebSocket or HTTP.
    pub deeds: Vec<Deed>,
    /// The record as it is now; `head` counts the new entries.
    pub room: Room,
    pub room_changed: bool,
    pub room_deleted: bool,
}

/// What the items could touch.
pub fn needs(room: RoomNo, items: &[AppendItem]) -> Needs {
    let mut needs = Needs::default();
    for item in items {
        match &item.change {
            Change::Message { id, reply_to, .. } => {
                needs.keys.push(MessageKey::of(room, &item.user, id));
                needs.messages.extend(reply_to);
            }
            Change::Edit { target, .. } | Change::Delete { target, .. } => {
                needs.messages.insert(*target);
            }
            Change::React { target, emoji, .. } => {
                needs.messages.insert(*target);
                needs.reactions.insert((*target, item.user.clone(), emoji.clone()));
            }
            Change::SetMember { user, .. }
            | Change::RemoveMember { user }
            | Change::Ban { user }
            | Change::Unban { user } => {
                needs.people.insert(user.clone());
            }
            Change::Patch(_) | Change::DeleteRoom => {}
        }
    }
    needs
}

/// Decides the items in order.
pub fn plan(before: Before, items: Vec<AppendItem>) -> Plan {
    let mut planner = Planner::new(before);
    let outcomes = items.into_iter().map(|item| planner.item(item)).collect();
    planner.plan.outcomes = outcomes;
    planner.plan
}

/// Who does an item.
struct By {
    user: UserId,
    at: Millis,
    from: Option<Box<Whence>>,
}

/// The state as the items so far have left it, and what they have to have written.
struct Planner {
    no: RoomNo,
    known: HashMap<MessageKey, (Seq, Millis)>,
    messages: HashMap<Seq, Target>,
    reactions: HashSet<(Seq, UserId, String)>,
    people: HashMap<UserId, Person>,
    users: HashSet<UserId>,
    /// `seq` of the first new entry.
    first_new: Seq,
    plan: Plan,
}

impl Planner {
    fn new(before: Before) -> Self {
        let Before { no, room, known, messages, reactions, people, users } = before;
        let first_new = room.head + 1;
        let plan = Plan {
            outcomes: Vec::new(),
            entries: Vec::new(),
            edited: BTreeMap::new(),
            erased: Vec::new(),
            erased_edits: Vec::new(),
            reactions_set: HashSet::new(),
            reactions_cleared: HashSet::new(),
            people: HashMap::new(),
            deeds: Vec::new(),
            room,
            room_changed: false,
            room_deleted: false,
        };
        Self { no, known, messages, reactions, people, users, first_new, plan }
    }

    fn item(&mut self, item: AppendItem) -> Outcome {
        let AppendItem { user, at, change, from } = item;
        let by = By { user: user.clone(), at, from };
        match change {
            Change::Message { id, text, reply_to, data, only_if_known } => {
                let key = MessageKey::of(self.no, &user, &id);
                if let Some(&(seq, at)) = self.known.get(&key) {
                    return Outcome::Duplicate { seq, at };
                }
                if only_if_known {
                    return Outcome::Absent;
                }
                if reply_to.is_some_and(|seq| !self.messages.contains_key(&seq)) {
                    return Outcome::NoSuchTarget;
                }
                let target = Target { author: user.clone(), text: Some(text.clone()) };
                let body = Body::Message(Message { id, text: Some(text), reply_to, data, edited_at: None });
                let seq = self.log(user, at, body, Some(key));
                self.known.insert(key, (seq, at));
                self.messages.insert(seq, target);
                Outcome::Appended { seq, at }
            }
            Change::Edit { target, text } => self.edit(user, at, target, text),
            Change::Delete { target, moderator } => self.delete(by, target, moderator),
            Change::React { target, emoji, active } => self.react(user, at, target, emoji, active),
            Change::Patch(patch) => self.patch(by, &patch),
            Change::SetMember { user: whom, role } => self.set_member(by, whom, role),
            Change::RemoveMember { user: whom } => {
                if whom != user {
                    self.deed(by, What::MemberRemoved, Some(&whom), None, None);
                }
                self.person(whom, |person| person.role = None);
                Outcome::Done { role: None }
            }
            Change::Ban { user: whom } => {
                self.deed(by, What::MemberBanned, Some(&whom), None, None);
                self.person(whom, |person| {
                    person.role = None;
                    person.banned = true;
                });
                Outcome::Done { role: None }
            }
            Change::Unban { user: whom } => {
                self.deed(by, What::BanLifted, Some(&whom), None, None);
                let person = self.person(whom, |person| person.banned = false);
                Outcome::Done { role: person.role }
            }
            Change::DeleteRoom => {
                self.deed(by, What::RoomDeleted, None, None, None);
                self.plan.room_deleted = true;
                Outcome::Done { role: None }
            }
        }
    }

    fn log(&mut self, user: UserId, at: Millis, body: Body, key: Option<MessageKey>) -> Seq {
        let seq = self.plan.room.head + 1;
        self.plan.room.head = seq;
        self.plan.entries.push((Entry { seq, user, at, body }, key));
        seq
    }

    /// The new entry with this `seq`, where it is one of this append.
    fn new_entry(&mut self, seq: Seq) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.first_new)?).ok()?;
        self.plan.entries.get_mut(index).map(|(entry, _)| entry)
    }

    fn edit(&mut self, user: UserId, at: Millis, target: Seq, text: String) -> Outcome {
        match self.messages.get_mut(&target) {
            None => return Outcome::NoSuchTarget,
            Some(message) if message.author != user => return Outcome::NotYours,
            Some(Target { text: None, .. }) => return Outcome::TargetDeleted,
            Some(Target { text: Some(present), .. }) if *present == text => return Outcome::Unchanged,
            Some(message) => message.text = Some(text.clone()),
        }
        match self.new_entry(target) {
            Some(Entry { body: Body::Message(message), .. }) => {
                message.text = Some(text.clone());
                message.edited_at = Some(at);
            }
            _ => {
                self.plan.edited.insert(target, (text.clone(), at));
            }
        }
        let seq = self.log(user, at, Body::Edit { target, text: Some(text) }, None);
        Outcome::Appended { seq, at }
    }

    fn delete(&mut self, by: By, target: Seq, moderator: bool) -> Outcome {
        let (user, at) = (by.user.clone(), by.at);
        let author = match self.messages.get_mut(&target) {
            None => return Outcome::NoSuchTarget,
            Some(message) if message.author != user && !moderator => return Outcome::NotYours,
            Some(Target { text: None, .. }) => return Outcome::Unchanged,
            Some(message) => {
                message.text = None;
                message.author.clone()
            }
        };
        if author != user {
            self.deed(by, What::MessageDeleted, Some(&author), Some(target), None);
        }
        match self.new_entry(target) {
            Some(Entry { body: Body::Message(message), .. }) => {
                message.text = None;
                message.data = None;
            }
            _ => {
                self.plan.edited.remove(&target);
                self.plan.erased.push(target);
            }
        }
        for (entry, _) in &mut self.plan.entries {
            if let Body::Edit { target: edited, text } = &mut entry.body
                && *edited == target
            {
                *text = None;
            }
        }
        self.plan.erased_edits.push(target);
        let seq = self.log(user, at, Body::Delete { target }, None);
        Outcome::Appended { seq, at }
    }

    fn react(&mut self, user: UserId, at: Millis, target: Seq, emoji: String, active: bool) -> Outcome {
        let Some(message) = self.messages.get(&target) else { return Outcome::NoSuchTarget };
        let reaction = (target, user, emoji);
        if self.reactions.contains(&reaction) == active {
            return Outcome::Unchanged;
        }
        if active && message.text.is_none() {
            return Outcome::TargetDeleted;
        }
        let (now, not_now) = if active {
            self.reactions.insert(reaction.clone());
            (&mut self.plan.reactions_set, &mut self.plan.reactions_cleared)
        } else {
            self.reactions.remove(&reaction);
            (&mut self.plan.reactions_cleared, &mut self.plan.reactions_set)
        };
        not_now.remove(&reaction);
        now.insert(reaction.clone());
        let (target, user, emoji) = reaction;
        let seq = self.log(user, at, Body::Reaction { target, emoji, active }, None);
        Outcome::Appended { seq, at }
    }

    fn patch(&mut self, by: By, patch: &RoomPatch) -> Outcome {
        let (user, at) = (by.user.clone(), by.at);
        let effective = self.plan.room.effective(patch);
        if effective.is_empty() {
            return Outcome::Unchanged;
        }
        self.deed(by, What::RoomChanged, None, None, Some(audit::changes(&effective)));
        self.plan.room.apply(&effective);
        self.plan.room_changed = true;
        let seq = self.log(user, at, Body::Room(effective), None);
        Outcome::Appended { seq, at }
    }

    fn set_member(&mut self, by: By, whom: UserId, role: Role) -> Outcome {
        if !self.users.contains(&whom) {
            return Outcome::NoSuchTarget;
        }
        let present = self.people.get(&whom).copied().unwrap_or_default();
        if present.banned {
            return Outcome::NotYours;
        }
        let mute_stays = present.muted && by.user == whom && role == Role::Member;
        let role = if mute_stays { Role::Muted } else { role };
        // Joining a public room takes no right that others lack. Coming into another by oneself does (an administrator's,
        // or an invitation), and so does giving a role, to oneself too.
        let joins_freely = by.user == whom && present.role.is_none() && self.plan.room.kind == RoomKind::Public;
        if !joins_freely {
            self.deed(by, What::RoleGiven, Some(&whom), None, Some(role.as_str().to_owned()));
        }
        self.person(whom, |person| {
            person.role = Some(role);
            person.muted = role == Role::Muted;
        });
        Outcome::Done { role: Some(role) }
    }

    fn deed(&mut self, by: By, what: What, whom: Option<&UserId>, seq: Option<Seq>, detail: Option<String>) {
        let By { user, at, from } = by;
        let from = from.map(|from| *from);
        self.plan.deeds.push(Deed { at, by: user, from, what, whom: whom.cloned(), seq, detail });
    }

    fn person(&mut self, whom: UserId, change: impl FnOnce(&mut Person)) -> Person {
        let person = self.people.entry(whom.clone()).or_default();
        let was = *person;
        change(person);
        let now = *person;
        if now != was {
            self.plan.people.insert(whom, now);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys are stored: another value would forget every id that was ever used.
    #[test]
    fn the_key_of_a_message_never_changes() {
        let user = UserId::parse("alice").expect("a valid id");
        let id = MessageId::parse("é 1").expect("a valid id");
        let key = MessageKey::of(RoomNo(0x1_0000_0002), &user, &id);
        assert_eq!(key.0[..4], [0, 0, 0, 2], "keys of a room lie together");
        assert_eq!(key.0[4..], [49, 114, 6, 185, 2, 161, 171, 211, 1, 56, 15, 155]);
        assert_ne!(key, MessageKey::of(RoomNo(2), &user, &id), "though rooms may share the start");
    }
}
