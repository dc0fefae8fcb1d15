//! People with an open connection to this node, each counted once however many connections they have.
//!
//! Invariant: one small entry a person, a hash in place of the name; it goes with the person's last connection. Two people
//! whose hashes are equal count as one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use prometheus::IntGauge;

use super::make::Maker;
use crate::ids::UserId;

pub struct People {
    connections: Mutex<HashMap<u64, u32>>,
    hashes: RandomState,
    gauge: IntGauge,
}

impl People {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            connections: Mutex::default(),
            hashes: RandomState::new(),
            gauge: make.gauge("people", "People with open connections to this node, each counted once."),
        }
    }

    /// One more connection of theirs is open.
    pub fn came(&self, user: &UserId) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        *connections.entry(self.hashes.hash_one(user)).or_default() += 1;
        self.gauge.set(connections.len() as i64);
    }

    /// One connection that was told to [`People::came`] ended.
    pub fn went(&self, user: &UserId) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = connections.entry(self.hashes.hash_one(user)) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
        self.gauge.set(connections.len() as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::UserId;
    use crate::metrics::Metrics;

    #[test]
    fn a_person_counts_once_until_the_last_connection_ended() {
        let metrics = Metrics::new();
        let people =
            || metrics.render().lines().find_map(|line| line.strip_prefix("roundtable_people ").map(str::to_owned));
        let [alice, bob] = ["alice", "bob"].map(|name| UserId::parse(name).expect("a name"));
        metrics.people.came(&alice);
        metrics.people.came(&alice);
        metrics.people.came(&bob);
        assert_eq!(people().as_deref(), Some("2"));
        metrics.people.went(&alice);
        assert_eq!(people().as_deref(), Some("2"));
        metrics.people.went(&alice);
        metrics.people.went(&bob);
        metrics.people.went(&bob);
        assert_eq!(people().as_deref(), Some("0"));
    }
}
