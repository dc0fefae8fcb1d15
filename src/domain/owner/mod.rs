//! The owner of a room: takes requests in order, judges them against the room's present state, gathers what may go into
//! the log into one append at a time, and turns the store's outcomes into answers and entries.
//!
//! Invariants: one append in flight; nothing is answered or shown before it is committed; requests take effect in the
//! order they came, answers leave in that order; a batch never holds a request whose judgement depends on another one
//! of the same batch (the batch ends before it).

use std::collections::{HashMap, HashSet, VecDeque};

use crate::domain::append::{AppendItem, Change, Outcome};
use crate::domain::command::{Caller, Command, Eviction, Proof, Reply};
use crate::domain::mentions;
use crate::domain::rules::{self, People};
use crate::entry::{Body, Entry, Mentions, Message, Role, Room, RoomKind};
use crate::ids::{MessageId, Millis, Seq, UserId};
use crate::limits::APPEND_ITEMS;
use crate::refusal::Refusal;

/// What the shell has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Hand to the store; call `committed`, `refused` or `in_doubt` with what comes back.
    Append(Vec<AppendItem>),
    /// Answer the request that `token` stands for.
    Answer(T, Result<Reply, Refusal>),
    /// These entries, consecutive and next, are committed: show them.
    Show(Vec<Entry>),
    /// End the user's (everybody's) subscriptions on all nodes.
    Evict(Option<UserId>, Eviction),
    /// The room is deleted.
    Gone,
}

/// A request with what it takes to answer it.
#[derive(Debug)]
pub struct Request<T> {
    pub caller: Caller,
    pub command: Command,
    pub token: T,
}

/// A request whose place in the order is within the append under way.
#[derive(Debug)]
enum Slot<T> {
    /// Waits for the next outcome. `or`: the refusal of a message that turns out not to be a repeat.
    Item { request: Request<T>, item: AppendItem, or: Option<Refusal> },
    /// Judged already; waits only for its turn.
    Ready(T, Result<Reply, Refusal>),
    /// A read: answered with the head after this append.
    Admit(Request<T>),
}

/// What comes of judging one request.
enum Judgement {
    Answer(Result<Reply, Refusal>),
    Item(Change, Option<Refusal>),
    /// Can't be judged before the append that is being gathered is committed.
    Later,
}

/// The state of an owned room.
#[derive(Debug)]
pub struct Owner<T> {
    room: Room,
    oldest: Seq,
    people: People,
    /// Recent messages' ids: the fast path of idempotency.
    known: HashMap<(UserId, MessageId), (Seq, Millis)>,
    known_order: VecDeque<(UserId, MessageId)>,
    /// When a member last sent, where slow mode is on.
    last_sent: HashMap<UserId, Millis>,
    online: u32,
    queue: VecDeque<Request<T>>,
    in_flight: Vec<Slot<T>>,
    appending: bool,
}

/// Ids of messages that are remembered at most.
const KNOWN: usize = 4_096;

impl<T> Owner<T> {
    /// `recent`: the newest entries, to know repeats and slow mode from.
    pub fn new(room: Room, oldest: Seq, people: People, recent: &[Entry]) -> Self {
        let mut owner = Self {
            room,
            oldest,
            people,
            known: HashMap::new(),
            known_order: VecDeque::new(),
            last_sent: HashMap::new(),
            online: 0,
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            appending: false,
        };
        for entry in recent {
            if let Body::Message(message) = &entry.body {
                owner.remember(&entry.user, &message.id, entry.seq, entry.at);
                owner.last_sent.insert(entry.user.clone(), entry.at);
            }
        }
        owner
    }

    pub fn room(&self) -> &Room {
        &self.room
    }

    pub fn people(&self) -> &People {
        &self.people
    }

    /// Distinct users with a subscription, for answers to `Admit`.
    pub fn set_online(&mut self, online: u32) {
        self.online = online;
    }

    /// Whether nothing is queued and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.appending
    }

    pub fn is_appending(&self) -> bool {
        self.appending
    }

    /// What the append under way is for, in the order of its items.
    pub fn under_way(&self) -> impl Iterator<Item = (&T, &AppendItem)> {
        self.in_flight.iter().filter_map(|slot| match slot {
            Slot::Item { request, item, .. } => Some((&request.token, item)),
            _ => None,
        })
    }

    /// Puts a request at the end of the queue; the shell bounds how many there are.
    pub fn offer(&mut self, request: Request<T>) {
        self.queue.push_back(request);
    }

    /// Starts the next append, if none is in flight, and answers what needs none.
    pub fn step(&mut self, now: Millis) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        if self.appending {
            return effects;
        }
        let mut batch = Batch::default();
        while batch.items.len() < APPEND_ITEMS
            && !batch.closed
            && let Some(request) = self.queue.pop_front()
        {
            match self.judge(&request, now, &batch) {
                Judgement::Later => {
                    self.queue.push_front(request);
                    break;
                }
                Judgement::Answer(result) if self.in_flight.is_empty() => {
                    effects.push(Effect::Answer(request.token, result));
                }
                Judgement::Answer(Ok(Reply::Admitted { .. })) => self.in_flight.push(Slot::Admit(request)),
                Judgement::Answer(result) => self.in_flight.push(Slot::Ready(request.token, result)),
                Judgement::Item(change, or) => {
                    batch.note(&request.caller, &change);
                    if let (Change::Message { only_if_known: false, .. }, true) = (&change, self.room.slow_mode_s > 0) {
                        self.last_sent.insert(request.caller.user.clone(), now);
                    }
                    let (user, from) = (request.caller.user.clone(), request.caller.from.clone());
                    let item = AppendItem { user, at: now, change, from };
                    batch.items.push(item.clone());
                    self.in_flight.push(Slot::Item { request, item, or });
                }
            }
        }
        if !batch.items.is_empty() {
            self.appending = true;
            effects.push(Effect::Append(batch.items));
        }
        effects
    }

    /// The append is committed: one outcome an item.
    pub fn committed(&mut self, outcomes: Vec<Outcome>) -> Vec<Effect<T>> {
        self.appending = false;
        let mut outcomes = outcomes.into_iter();
        let (mut answers, mut entries, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.in_flight) {
            match slot {
                Slot::Ready(token, result) => answers.push(Effect::Answer(token, result)),
                Slot::Admit(request) => {
                    let reply = self.admit(&request.caller);
                    answers.push(Effect::Answer(request.token, reply));
                }
                Slot::Item { request, item, or } => {
                    let outcome = outcomes.next().unwrap_or(Outcome::Absent);
                    let result = self.settle(&request.caller, item, outcome, or, &mut entries, &mut after);
                    answers.push(Effect::Answer(request.token, result));
                }
            }
        }
        let mut effects = Vec::with_capacity(answers.len() + after.len() + 1);
        if !entries.is_empty() {
            effects.push(Effect::Show(entries));
        }
        effects.extend(answers);
        effects.extend(after);
        effects
    }

    /// Whether the append was done is unknown: its requests are answered so. The shell reopens the room.
    pub fn in_doubt(&mut self, refusal: &Refusal) -> Vec<Effect<T>> {
        self.appending = false;
        let unknown = |slot| match slot {
            Slot::Ready(token, result) => Effect::Answer(token, result),
            Slot::Item { request, .. } | Slot::Admit(request) => Effect::Answer(request.token, Err(refusal.clone())),
        };
        std::mem::take(&mut self.in_flight).into_iter().map(unknown).collect()
    }

    /// Takes every request out, in order, to be asked again elsewhere. Only while no append is in flight, or after one
    /// was fenced (and so did nothing).
    pub fn into_requests(mut self) -> (Vec<Request<T>>, Vec<Effect<T>>) {
        let (mut requests, mut ready) = (Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.in_flight) {
            match slot {
                Slot::Ready(token, result) => ready.push(Effect::Answer(token, result)),
                Slot::Item { request, .. } | Slot::Admit(request) => requests.push(request),
            }
        }
        requests.extend(self.queue);
        (requests, ready)
    }

    fn judge(&self, request: &Request<T>, now: Millis, batch: &Batch) -> Judgement {
        if batch.concerns(&request.caller, &request.command) {
            return Judgement::Later;
        }
        let (room, people, caller) = (&self.room, &self.people, &request.caller);
        let judged = match &request.command {
            Command::Send { id, text, reply_to, data, over_rate_ms, refused, .. } => {
                let edge = (*over_rate_ms, refused.as_ref());
                return self.judge_send(caller, (id, text, *reply_to, data), edge, now);
            }
            Command::Edit { target, text } => self.writable(caller).map(|role| Change::Edit {
                target: *target,
                text: text.clone(),
                mentions: self.mentions(text, role),
            }),
            Command::Delete { target } => self.writable(caller).map(|role| Change::Delete {
                target: *target,
                moderator: matches!(role, Role::Owner | Role::Moderator),
            }),
            Command::React { target, emoji, active } => {
                self.writable(caller).map(|_| Change::React { target: *target, emoji: emoji.clone(), active: *active })
            }
            Command::Patch(patch) => match rules::patch(room, people, caller) {
                Err(refusal) => Err(refusal),
                Ok(()) if room.effective(patch).is_empty() => {
                    return Judgement::Answer(Ok(Reply::Changed { seq: None }));
                }
                Ok(()) => Ok(Change::Patch(room.effective(patch))),
            },
            Command::DeleteRoom => rules::delete_room(room, people, caller).map(|()| Change::DeleteRoom),
            Command::Join => match rules::join(room, people, caller) {
                Err(refusal) => Err(refusal),
                Ok(Some(role)) => return Judgement::Answer(Ok(Reply::Member { role: Some(role) })),
                Ok(None) => Ok(Change::SetMember { user: caller.user.clone(), role: Role::Member }),
            },
            Command::Enter(proof) => match (rules::enter(room, people, caller, proof), proof) {
                (Err(refusal), _) => Err(refusal),
                (Ok(Some(role)), _) => return Judgement::Answer(Ok(Reply::Member { role: Some(role) })),
                (Ok(None), Proof::Invitation(token)) => Ok(Change::Accept { invitation: *token }),
                (Ok(None), Proof::Pair(_)) => Ok(Change::SetMember { user: caller.user.clone(), role: Role::Member }),
            },
            Command::Leave => match rules::leave(room, people, caller) {
                Err(refusal) => Err(refusal),
                Ok(false) => return Judgement::Answer(Ok(Reply::Member { role: None })),
                Ok(true) => Ok(Change::RemoveMember { user: caller.user.clone() }),
            },
            Command::SetRole { user, role } => match rules::set_role(room, people, caller, user, *role) {
                Err(refusal) => Err(refusal),
                Ok(()) if people.role(user) == Some(*role) => {
                    return Judgement::Answer(Ok(Reply::Member { role: Some(*role) }));
                }
                Ok(()) => Ok(Change::SetMember { user: user.clone(), role: *role }),
            },
            Command::RemoveMember { user } => match rules::remove(room, people, caller, user) {
                Err(refusal) => Err(refusal),
                Ok(false) => Err(Refusal::not_found("they are not a member of this room")),
                Ok(true) => Ok(Change::RemoveMember { user: user.clone() }),
            },
            Command::Ban { user } => match rules::remove(room, people, caller, user) {
                Err(refusal) => Err(refusal),
                Ok(false) if people.bans.contains(user) => return Judgement::Answer(Ok(Reply::Member { role: None })),
                Ok(_) => Ok(Change::Ban { user: user.clone() }),
            },
            Command::Unban { user } => match rules::unban(room, people, caller) {
                Err(refusal) => Err(refusal),
                Ok(()) if !people.bans.contains(user) => return Judgement::Answer(Ok(Reply::Member { role: None })),
                Ok(()) => Ok(Change::Unban { user: user.clone() }),
            },
            Command::Admit { .. } => return Judgement::Answer(self.admit(caller)),
        };
        match judged {
            Ok(change) => Judgement::Item(change, None),
            Err(refusal) => Judgement::Answer(Err(refusal)),
        }
    }

    /// Membership and bans first; then a repeat is answered whatever else holds; then archived, slow mode and rate.
    fn judge_send(
        &self,
        caller: &Caller,
        (id, text, reply_to, data): (&MessageId, &String, Option<Seq>, &Option<crate::entry::Data>),
        (over_rate_ms, refused): (Option<u64>, Option<&Refusal>),
        now: Millis,
    ) -> Judgement {
        let role = match rules::write(&self.room, &self.people, caller) {
            Ok(role) => role,
            Err(refusal) => return Judgement::Answer(Err(refusal)),
        };
        if let Some(&(seq, at)) = self.known.get(&(caller.user.clone(), id.clone())) {
            return Judgement::Answer(Ok(Reply::Sent { seq, at, duplicate: true }));
        }
        let or = if self.room.archived {
            Some(rules::archived())
        } else if let Some(wait) = self.slow_mode_wait(&caller.user, now) {
            Some(Refusal::rate_limited("the room is in slow mode", wait))
        } else if let Some(refusal) = refused {
            Some(refusal.clone())
        } else {
            over_rate_ms.map(|wait| Refusal::rate_limited("too many messages; slow down", wait))
        };
        let change = Change::Message {
            id: id.clone(),
            text: text.clone(),
            reply_to,
            data: data.clone(),
            mentions: if or.is_none() { self.mentions(text, role) } else { Mentions::default() },
            only_if_known: or.is_some(),
        };
        Judgement::Item(change, or)
    }

    /// Whom a text by somebody with that role calls.
    fn mentions(&self, text: &str, role: Role) -> Mentions {
        let known = |id: &str| self.people.members.get_key_value(id).map(|(user, _)| user);
        mentions::of(text, matches!(role, Role::Owner | Role::Moderator), known)
    }

    /// May the caller write here now? (Not for messages, whose repeats are answered in archived rooms too.)
    fn writable(&self, caller: &Caller) -> Result<Role, Refusal> {
        let role = rules::write(&self.room, &self.people, caller)?;
        if self.room.archived { Err(rules::archived()) } else { Ok(role) }
    }

    /// Milliseconds until the user may send again; `None`: now.
    fn slow_mode_wait(&self, user: &UserId, now: Millis) -> Option<u64> {
        let pause = i64::from(self.room.slow_mode_s) * 1_000;
        let wait = self.last_sent.get(user)? + pause - now;
        (pause > 0 && wait > 0).then_some(wait as u64)
    }

    fn admit(&self, caller: &Caller) -> Result<Reply, Refusal> {
        let role = rules::read(&self.room, &self.people, caller)?;
        Ok(Reply::Admitted { role, head: self.room.head, oldest: self.oldest, online: self.online })
    }

    /// Turns one outcome into its answer, the entry it made and what follows from it.
    fn settle(
        &mut self,
        caller: &Caller,
        item: AppendItem,
        outcome: Outcome,
        or: Option<Refusal>,
        entries: &mut Vec<Entry>,
        after: &mut Vec<Effect<T>>,
    ) -> Result<Reply, Refusal> {
        let is_message = matches!(item.change, Change::Message { .. });
        match outcome {
            Outcome::Appended { seq, at } => {
                self.room.head = seq;
                if let Some(entry) = self.entry(item, seq, at) {
                    entries.push(entry);
                }
                if is_message {
                    Ok(Reply::Sent { seq, at, duplicate: false })
                } else {
                    Ok(Reply::Changed { seq: Some(seq) })
                }
            }
            Outcome::Duplicate { seq, at } => {
                if let Change::Message { id, .. } = &item.change {
                    self.remember(&item.user, id, seq, at);
                }
                Ok(Reply::Sent { seq, at, duplicate: true })
            }
            Outcome::Absent => Err(or.unwrap_or_else(|| Refusal::unavailable("the store gave no outcome"))),
            Outcome::Unchanged => Ok(Reply::Changed { seq: None }),
            Outcome::Done { role } => {
                self.people_changed(caller, item.change, role, after);
                Ok(Reply::Member { role })
            }
            Outcome::NoSuchTarget => Err(match item.change {
                Change::SetMember { .. } | Change::Ban { .. } => Refusal::not_found("no such user"),
                Change::Accept { .. } => Refusal::no_such_invitation(),
                Change::Message { .. } => Refusal::not_found("reply_to names no message of this room"),
                _ => Refusal::not_found("target names no message of this room"),
            }),
            Outcome::NotYours => Err(Refusal::forbidden("only its author may do that to a message")),
            Outcome::TargetDeleted => Err(Refusal::conflict("the message is deleted")),
        }
    }

    fn entry(&mut self, item: AppendItem, seq: Seq, at: Millis) -> Option<Entry> {
        let body = match item.change {
            Change::Message { id, text, reply_to, data, mentions, .. } => {
                self.remember(&item.user, &id, seq, at);
                Body::Message(Message { id, text: Some(text), reply_to, data, edited_at: None, mentions })
            }
            Change::Edit { target, text, mentions } => Body::Edit { target, text: Some(text), mentions },
            Change::Delete { target, .. } => Body::Delete { target },
            Change::React { target, emoji, active } => Body::Reaction { target, emoji, active },
            Change::Patch(patch) => {
                self.room.apply(&patch, at);
                Body::Room(patch)
            }
            _ => return None,
        };
        Some(Entry { seq, user: item.user, at, body })
    }

    fn people_changed(&mut self, caller: &Caller, change: Change, role: Option<Role>, after: &mut Vec<Effect<T>>) {
        match change {
            Change::SetMember { user, role: asked } => {
                self.people.members.insert(user, role.unwrap_or(asked));
            }
            Change::Accept { .. } => {
                self.people.members.insert(caller.user.clone(), role.unwrap_or(Role::Member));
            }
            Change::RemoveMember { user } => {
                self.people.members.remove(&user);
                if user != caller.user {
                    after.push(Effect::Evict(Some(user), Eviction::Kicked));
                } else if self.room.kind != RoomKind::Public {
                    after.push(Effect::Evict(Some(user), Eviction::Left));
                }
            }
            Change::Ban { user } => {
                self.people.members.remove(&user);
                self.people.bans.insert(user.clone());
                after.push(Effect::Evict(Some(user), Eviction::Banned));
            }
            Change::Unban { user } => {
                self.people.bans.remove(&user);
            }
            Change::DeleteRoom => {
                after.push(Effect::Evict(None, Eviction::Deleted));
                after.push(Effect::Gone);
            }
            _ => {}
        }
    }

    fn remember(&mut self, user: &UserId, id: &MessageId, seq: Seq, at: Millis) {
        let key = (user.clone(), id.clone());
        if self.known.insert(key.clone(), (seq, at)).is_none() {
            self.known_order.push_back(key);
            if self.known_order.len() > KNOWN
                && let Some(oldest) = self.known_order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

/// The append being gathered, and whom it changes.
#[derive(Default)]
struct Batch {
    items: Vec<AppendItem>,
    /// Users whose membership this batch changes: nothing by or about them is judged before it is committed.
    people: HashSet<UserId>,
    /// Something changed for everybody: nothing more is judged before it is committed.
    closed: bool,
}

impl Batch {
    fn note(&mut self, caller: &Caller, change: &Change) {
        match change {
            // Joins come in storms; they concern nobody else.
            Change::SetMember { user, role: Role::Member } if *user == caller.user => {
                self.people.insert(user.clone());
            }
            Change::Accept { .. } => {
                self.people.insert(caller.user.clone());
            }
            Change::Message { .. } | Change::Edit { .. } | Change::Delete { .. } | Change::React { .. } => {}
            _ => self.closed = true,
        }
    }

    fn concerns(&self, caller: &Caller, command: &Command) -> bool {
        if self.people.is_empty() {
            return false;
        }
        let about = match command {
            Command::SetRole { user, .. }
            | Command::RemoveMember { user }
            | Command::Ban { user }
            | Command::Unban { user } => Some(user),
            // Who is just joining is called as a member.
            Command::Send { text, .. } | Command::Edit { text, .. } => {
                return self.people.contains(&caller.user)
                    || !mentions::of(text, false, |id| self.people.get(id)).is_empty();
            }
            _ => None,
        };
        self.people.contains(&caller.user) || about.is_some_and(|user| self.people.contains(user))
    }
}

#[cfg(test)]
mod tests;
