//! Who is there and who types: coalesced state behind the hints of a room. Pure; the owner of the room keeps it.
//!
//! Invariant: a user counts once however many sessions and nodes they are on; what is told is a difference to what was
//! told before, so a lost hint is mended by the next one's `online`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::command::Hint;
use crate::ids::{Millis, NodeId, Seq, UserId};
use crate::limits::PRESENCE_NAMED;

/// How long "is typing" holds without being said again, in milliseconds.
const TYPING_MS: i64 = 6_000;
/// Readers whose marks wait to be told at most; of more, the ones with the smallest ids are forgotten.
const READS_WAITING: usize = 1_000;
/// Users shown as typing at most.
const TYPING_SHOWN: usize = 50;

/// Counts the subscriptions of each user on one node; says when the first comes and the last goes.
#[derive(Debug, Default)]
pub struct LocalUsers {
    counts: HashMap<UserId, u32>,
}

impl LocalUsers {
    /// True when the user was not there before.
    pub fn join(&mut self, user: &UserId) -> bool {
        let count = self.counts.entry(user.clone()).or_default();
        *count += 1;
        *count == 1
    }

    /// True when that was the user's last subscription.
    pub fn leave(&mut self, user: &UserId) -> bool {
        match self.counts.get_mut(user) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => self.counts.remove(user).is_some(),
            None => false,
        }
    }

    /// Ends all subscriptions of a user; how many there were.
    pub fn evict(&mut self, user: &UserId) -> u32 {
        self.counts.remove(user).unwrap_or(0)
    }

    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.counts.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// The room's presence over all nodes.
#[derive(Debug, Default)]
pub struct Presence {
    nodes: HashMap<NodeId, BTreeSet<UserId>>,
    /// On how many nodes a user is.
    users: HashMap<UserId, u32>,
    /// Changes not told yet: true for joined, false for left.
    changes: BTreeMap<UserId, bool>,
}

impl Presence {
    /// Distinct users.
    pub fn online(&self) -> u32 {
        self.users.len() as u32
    }

    pub fn join(&mut self, node: &NodeId, user: &UserId) {
        if !self.nodes.entry(node.clone()).or_default().insert(user.clone()) {
            return;
        }
        let nodes = self.users.entry(user.clone()).or_default();
        *nodes += 1;
        if *nodes == 1 && self.changes.remove(user).is_none() {
            self.changes.insert(user.clone(), true);
        }
    }

    pub fn leave(&mut self, node: &NodeId, user: &UserId) {
        if !self.nodes.get_mut(node).is_some_and(|users| users.remove(user)) {
            return;
        }
        let Some(nodes) = self.users.get_mut(user) else { return };
        *nodes -= 1;
        if *nodes == 0 {
            self.users.remove(user);
            if self.changes.remove(user).is_none() {
                self.changes.insert(user.clone(), false);
            }
        }
    }

    /// A node says who is there in full.
    pub fn reset_node(&mut self, node: &NodeId, users: &[UserId]) {
        let now: BTreeSet<&UserId> = users.iter().collect();
        let gone: Vec<UserId> = self
            .nodes
            .get(node)
            .map(|before| before.iter().filter(|user| !now.contains(user)).cloned().collect())
            .unwrap_or_default();
        gone.iter().for_each(|user| self.leave(node, user));
        users.iter().for_each(|user| self.join(node, user));
    }

    /// A node is gone with everybody on it.
    pub fn drop_node(&mut self, node: &NodeId) {
        self.reset_node(node, &[]);
        self.nodes.remove(node);
    }

    pub fn changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What to tell, if anything changed since the last time.
    pub fn tell(&mut self) -> Option<Hint> {
        if self.changes.is_empty() {
            return None;
        }
        let online = self.online();
        let changes = std::mem::take(&mut self.changes);
        if self.users.len() > PRESENCE_NAMED || changes.len() > PRESENCE_NAMED {
            return Some(Hint::Presence { online, joined: Vec::new(), left: Vec::new() });
        }
        let (joined, left): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, joined)| *joined);
        let ids = |changes: Vec<(UserId, bool)>| changes.into_iter().map(|(user, _)| user).collect();
        Some(Hint::Presence { online, joined: ids(joined), left: ids(left) })
    }
}

/// Who types and who has read how far, told in batches.
#[derive(Debug, Default)]
pub struct Activity {
    typing: BTreeMap<UserId, Millis>,
    typing_changed: bool,
    reads: BTreeMap<UserId, Seq>,
}

impl Activity {
    pub fn typing(&mut self, user: &UserId, active: bool, now: Millis) {
        if active {
            self.typing_changed |= self.typing.insert(user.clone(), now + TYPING_MS).is_none();
        } else {
            self.typing_changed |= self.typing.remove(user).is_some();
        }
    }

    pub fn read(&mut self, user: &UserId, seq: Seq) {
        let mark = self.reads.entry(user.clone()).or_default();
        *mark = seq.max(*mark);
        if self.reads.len() > READS_WAITING {
            self.reads.pop_first();
        }
    }

    /// Whether anything is to be told, or will be when somebody's typing runs out.
    pub fn pending(&self) -> bool {
        self.typing_changed || !self.typing.is_empty() || !self.reads.is_empty()
    }

    /// What to tell now.
    pub fn tell(&mut self, now: Millis) -> Vec<Hint> {
        let before = self.typing.len();
        self.typing.retain(|_, until| *until > now);
        self.typing_changed |= self.typing.len() != before;
        let mut hints = Vec::new();
        if std::mem::take(&mut self.typing_changed) {
            hints.push(Hint::Typing { users: self.typing.keys().take(TYPING_SHOWN).cloned().collect() });
        }
        hints.extend(std::mem::take(&mut self.reads).into_iter().map(|(user, seq)| Hint::Read { user, seq }));
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("a valid id")
    }

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).expect("a valid id")
    }

    fn hint(online: u32, joined: &[&str], left: &[&str]) -> Option<Hint> {
        let ids = |names: &[&str]| names.iter().map(|name| user(name)).collect();
        Some(Hint::Presence { online, joined: ids(joined), left: ids(left) })
    }

    #[test]
    fn users_count_once_over_sessions_and_nodes() {
        let mut local = LocalUsers::default();
        assert!(local.join(&user("a")) && !local.join(&user("a")));
        assert!(!local.leave(&user("a")) && local.leave(&user("a")) && !local.leave(&user("a")));

        let mut presence = Presence::default();
        presence.join(&node("n1"), &user("a"));
        presence.join(&node("n2"), &user("a"));
        presence.join(&node("n2"), &user("b"));
        assert_eq!(presence.tell(), hint(2, &["a", "b"], &[]));
        presence.leave(&node("n1"), &user("a"));
        assert_eq!(presence.tell(), None);
        presence.drop_node(&node("n2"));
        assert_eq!(presence.tell(), hint(0, &[], &["a", "b"]));
    }

    #[test]
    fn who_comes_and_goes_between_two_hints_is_not_told() {
        let mut presence = Presence::default();
        presence.join(&node("n"), &user("a"));
        presence.leave(&node("n"), &user("a"));
        assert_eq!(presence.tell(), None);
        presence.reset_node(&node("n"), &[user("b"), user("c")]);
        presence.reset_node(&node("n"), &[user("c"), user("d")]);
        assert_eq!(presence.tell(), hint(2, &["c", "d"], &[]));
    }

    #[test]
    fn crowds_are_told_as_a_number() {
        let mut presence = Presence::default();
        for i in 0..=PRESENCE_NAMED {
            presence.join(&node("n"), &user(&format!("u{i}")));
        }
        assert_eq!(presence.tell(), hint(PRESENCE_NAMED as u32 + 1, &[], &[]));
    }

    #[test]
    fn typing_runs_out_and_reads_coalesce() {
        let mut activity = Activity::default();
        activity.typing(&user("a"), true, 0);
        activity.read(&user("b"), 5);
        activity.read(&user("b"), 3);
        let read = Hint::Read { user: user("b"), seq: 5 };
        assert_eq!(activity.tell(1), vec![Hint::Typing { users: vec![user("a")] }, read]);
        assert_eq!(activity.tell(2), vec![]);
        assert_eq!(activity.tell(TYPING_MS + 1), vec![Hint::Typing { users: vec![] }]);
        assert!(!activity.pending());
    }
}
