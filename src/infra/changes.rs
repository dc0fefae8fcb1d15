//! How the items of one room's append take effect, one after the other: the rules both stores share. Pure.
//!
//! A store locks the room, reads what the items could touch ([`Needs`] → [`Before`]), lets [`plan`] decide, and writes
//! the [`Plan`] down, all in one transaction. Invariants: `seq` goes on from the head without a gap, since only an
//! entry that will be written takes one; each item sees the effects of those before it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::domain::audit::{self, Deed, What, Whence};
use crate::entry::{Body, Entry, Mentions, Message, Role, Room, RoomKind, RoomPatch};
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
    /// The author's own id for it.
    pub id: MessageId,
    /// `None`: deleted.
    pub text: Option<String>,
    /// What its thread began with; `None`: no reply.
    pub root: Option<Seq>,
    pub at: Millis,
    pub edited_at: Option<Millis>,
}

/// What is left of an invitation of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invited {
    pub expires_at: Millis,
    /// `None`: any number.
    pub uses_left: Option<i32>,
}

/// A text that an edit replaces, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub target: Seq,
    pub replaced_by: Seq,
    /// When the text was set.
    pub at: Millis,
    pub text: String,
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
    /// By the SHA-256 of their tokens.
    pub invitations: HashSet<[u8; 32]>,
}

/// What was found of [`Needs`], and the room's record as the head stands.
#[derive(Debug)]
pub struct Before {
    pub no: RoomNo,
    pub room: Room,
    /// Messages in the room.
    pub count: u64,
    pub known: HashMap<MessageKey, (Seq, Millis)>,
    pub messages: HashMap<Seq, Target>,
    /// Those that are set.
    pub reactions: HashSet<(Seq, UserId, String)>,
    /// Those that the room remembers.
    pub people: HashMap<UserId, Person>,
    /// Those that exist as users.
    pub users: HashSet<UserId>,
    /// Those that are this room's.
    pub invitations: HashMap<[u8; 32], Invited>,
}

impl Before {
    /// Nothing found yet.
    pub fn of(no: RoomNo, room: Room, count: u64) -> Self {
        Self {
            no,
            room,
            count,
            known: HashMap::new(),
            messages: HashMap::new(),
            reactions: HashSet::new(),
            people: HashMap::new(),
            users: HashSet::new(),
            invitations: HashMap::new(),
        }
    }
}

/// An entry to be written, with what the store keeps beside it.
#[derive(Debug)]
pub struct NewEntry {
    pub entry: Entry,
    /// Of a message.
    pub key: Option<MessageKey>,
    /// Of a reply: what its thread began with.
    pub root: Option<Seq>,
    /// Messages of the room up to this entry and with it.
    pub count: u64,
}

/// A message's new present text.
#[derive(Debug)]
pub struct NewText {
    /// Of the message.
    pub author: UserId,
    pub id: MessageId,
    pub text: String,
    pub mentions: Mentions,
    pub at: Millis,
}

/// What to write. The parts touch different rows, so their order does not matter, except that `erased_edits` reaches
/// `entries` too.
#[derive(Debug)]
pub struct Plan {
    pub outcomes: Vec<Outcome>,
    /// New entries in rising `seq`, each message and edit in the form it has after the last item.
    pub entries: Vec<NewEntry>,
    /// Messages in the room after the last item.
    pub count: u64,
    /// Stored messages that have a new present text.
    pub edited: BTreeMap<Seq, NewText>,
    /// Stored messages whose text and data go.
    pub erased: Vec<Seq>,
    /// Messages whose edits lose their texts, stored ones and new ones.
    /// The texts kept of them go too, and their pins.
    pub erased_edits: Vec<Seq>,
    /// Texts that edits replace, where the room keeps them.
    pub revisions: Vec<Replaced>,
    /// Uses taken of invitations.
    pub invitations_used: HashMap<[u8; 32], i32>,
    /// `ttl_s` is another one: the room is to be looked at by the job that erases.
    pub expiry_changed: bool,
    pub reactions_set: HashSet<(Seq, UserId, String)>,
    pub reactions_cleared: HashSet<(Seq, UserId, String)>,
    pub people: HashMap<UserId, Person>,
    /// Those who may not manage the room's webhooks any more: theirs are switched off.
    pub stepped_down: HashSet<UserId>,
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
            Change::Accept { invitation } => {
                needs.people.insert(item.user.clone());
                needs.invitations.insert(*invitation);
            }
            Change::Patch(_) | Change::DeleteRoom => {}
        }
    }
    needs
}

/// Decides the items in order. What has expired counts as deleted, whether it is erased yet or not.
pub fn plan(mut before: Before, items: Vec<AppendItem>) -> Plan {
    if let Some(cutoff) = items.last().and_then(|last| before.room.expiry().cutoff(last.at)) {
        before.messages.values_mut().filter(|message| message.at <= cutoff).for_each(|message| message.text = None);
    }
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
    invitations: HashMap<[u8; 32], Invited>,
    /// `seq` of the first new entry.
    first_new: Seq,
    plan: Plan,
}

impl Planner {
    fn new(before: Before) -> Self {
        let Before { no, room, count, known, messages, reactions, people, users, invitations } = before;
        let first_new = room.head + 1;
        let plan = Plan {
            outcomes: Vec::new(),
            entries: Vec::new(),
            count,
            edited: BTreeMap::new(),
            erased: Vec::new(),
            erased_edits: Vec::new(),
            revisions: Vec::new(),
            invitations_used: HashMap::new(),
            expiry_changed: false,
            reactions_set: HashSet::new(),
            reactions_cleared: HashSet::new(),
            people: HashMap::new(),
            stepped_down: HashSet::new(),
            deeds: Vec::new(),
            room,
            room_changed: false,
            room_deleted: false,
        };
        Self { no, known, messages, reactions, people, users, invitations, first_new, plan }
    }

    fn item(&mut self, item: AppendItem) -> Outcome {
        let AppendItem { user, at, change, from } = item;
        let by = By { user: user.clone(), at, from };
        match change {
            Change::Message { id, text, reply_to, data, mentions, only_if_known } => {
                let key = MessageKey::of(self.no, &user, &id);
                if let Some(&(seq, at)) = self.known.get(&key) {
                    return Outcome::Duplicate { seq, at };
                }
                if only_if_known {
                    return Outcome::Absent;
                }
                let root = match reply_to.map(|seq| (seq, self.messages.get(&seq))) {
                    None => None,
                    Some((_, None)) => return Outcome::NoSuchTarget,
                    Some((seq, Some(target))) => Some(target.root.unwrap_or(seq)),
                };
                let target = Target {
                    author: user.clone(),
                    id: id.clone(),
                    text: Some(text.clone()),
                    root,
                    at,
                    edited_at: None,
                };
                let body = Body::Message(Message { id, text: Some(text), reply_to, data, edited_at: None, mentions });
                self.plan.count += 1;
                let seq = self.log(user, at, body);
                if let Some(new) = self.plan.entries.last_mut() {
                    (new.key, new.root) = (Some(key), root);
                }
                self.known.insert(key, (seq, at));
                self.messages.insert(seq, target);
                Outcome::Appended { seq, at }
            }
            Change::Edit { target, text, mentions } => self.edit(user, at, target, (text, mentions)),
            Change::Delete { target, moderator } => self.delete(by, target, moderator),
            Change::React { target, emoji, active } => self.react(user, at, target, emoji, active),
            Change::Patch(patch) => self.patch(by, &patch),
            Change::SetMember { user: whom, role } => self.set_member(by, whom, role),
            Change::Accept { invitation } => self.accept(by, invitation),
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

    fn log(&mut self, user: UserId, at: Millis, body: Body) -> Seq {
        let seq = self.plan.room.head + 1;
        self.plan.room.head = seq;
        let entry = Entry { seq, user, at, body };
        self.plan.entries.push(NewEntry { entry, key: None, root: None, count: self.plan.count });
        seq
    }

    /// The new entry with this `seq`, where it is one of this append.
    fn new_entry(&mut self, seq: Seq) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.first_new)?).ok()?;
        self.plan.entries.get_mut(index).map(|new| &mut new.entry)
    }

    fn edit(&mut self, user: UserId, at: Millis, target: Seq, (text, mentions): (String, Mentions)) -> Outcome {
        let (old, set_at, id) = match self.messages.get_mut(&target) {
            None => return Outcome::NoSuchTarget,
            Some(message) if message.author != user => return Outcome::NotYours,
            Some(Target { text: None, .. }) => return Outcome::TargetDeleted,
            Some(Target { text: Some(present), .. }) if *present == text => return Outcome::Unchanged,
            Some(message) => {
                let set_at = message.edited_at.replace(at).unwrap_or(message.at);
                (message.text.replace(text.clone()), set_at, message.id.clone())
            }
        };
        match self.new_entry(target) {
            Some(Entry { body: Body::Message(message), .. }) => {
                message.text = Some(text.clone());
                message.edited_at = Some(at);
                message.mentions = mentions.clone();
            }
            _ => {
                let (author, text) = (user.clone(), text.clone());
                let new = NewText { author, id, text, mentions: mentions.clone(), at };
                self.plan.edited.insert(target, new);
            }
        }
        let seq = self.log(user, at, Body::Edit { target, text: Some(text), mentions });
        if let (true, Some(text)) = (self.plan.room.edit_history, old) {
            self.plan.revisions.push(Replaced { target, replaced_by: seq, at: set_at, text });
        }
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
                message.mentions = Mentions::default();
            }
            _ => {
                self.plan.edited.remove(&target);
                self.plan.erased.push(target);
            }
        }
        for new in &mut self.plan.entries {
            if let Body::Edit { target: edited, text, mentions } = &mut new.entry.body
                && *edited == target
            {
                *text = None;
                *mentions = Mentions::default();
            }
        }
        self.plan.revisions.retain(|revision| revision.target != target);
        self.plan.erased_edits.push(target);
        let seq = self.log(user, at, Body::Delete { target });
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
        let seq = self.log(user, at, Body::Reaction { target, emoji, active });
        Outcome::Appended { seq, at }
    }

    fn patch(&mut self, by: By, patch: &RoomPatch) -> Outcome {
        let (user, at) = (by.user.clone(), by.at);
        let effective = self.plan.room.effective(patch);
        if effective.is_empty() {
            return Outcome::Unchanged;
        }
        self.deed(by, What::RoomChanged, None, None, Some(audit::changes(&effective)));
        self.plan.room.apply(&effective, at);
        self.plan.room_changed = true;
        self.plan.expiry_changed |= effective.ttl_s.is_some();
        let seq = self.log(user, at, Body::Room(effective));
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

    /// Somebody who is a member already takes no use.
    fn accept(&mut self, by: By, token: [u8; 32]) -> Outcome {
        if let Some(role) = self.people.get(&by.user).and_then(|person| person.role) {
            return Outcome::Done { role: Some(role) };
        }
        match self.invitations.get(&token) {
            Some(invited) if invited.expires_at > by.at && invited.uses_left.is_none_or(|left| left > 0) => {
                let whom = by.user.clone();
                let outcome = self.set_member(by, whom, Role::Member);
                if matches!(outcome, Outcome::Done { .. })
                    && let Some(invited) = self.invitations.get_mut(&token)
                    && let Some(left) = &mut invited.uses_left
                {
                    *left -= 1;
                    *self.plan.invitations_used.entry(token).or_default() += 1;
                }
                outcome
            }
            _ => Outcome::NoSuchTarget,
        }
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
        // As `domain::acts` has it.
        let equals = self.plan.room.kind == RoomKind::Direct;
        let manages = |person: Person| person.role == Some(Role::Owner) || equals && person.role.is_some();
        if manages(now) {
            self.plan.stepped_down.remove(&whom);
        } else if manages(was) {
            self.plan.stepped_down.insert(whom.clone());
        }
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
