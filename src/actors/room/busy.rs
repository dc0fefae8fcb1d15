//! Which rooms of this node are written to most: for operators, and at the cost of one addition a commit.
//!
//! A room adds to a number of its own; nobody looks at it but [`Busy::mark`], now and then, and [`Busy::busiest`], when it is
//! asked. Invariants: a room's turn never waits for either; rooms that nobody runs or wrote to are forgotten at the next mark.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ids::{RoomId, fnv1a};

/// How often [`Busy::mark`] wants to be called: what is told is of the last one to two of these.
pub const MARK_EVERY: Duration = Duration::from_secs(30);
/// The rooms stand behind so many locks, so that a room that opens waits for a look at few others.
const STRIPES: usize = 64;

/// What one room wrote since it was first opened here.
#[derive(Debug, Default)]
pub struct Written(AtomicU64);

impl Written {
    pub fn add(&self, entries: usize) {
        self.0.fetch_add(entries as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Room {
    written: Arc<Written>,
    /// What it had written at the last mark but one, and at the last.
    older: u64,
    newer: u64,
}

/// The rooms that this node has opened as their owner. One a node, shared.
pub struct Busy {
    stripes: Vec<Mutex<HashMap<RoomId, Room>>>,
    /// When the last mark but one was set, and the last. Who looks at all rooms holds it.
    marks: Mutex<(Instant, Instant)>,
}

/// The rooms with the most entries, busiest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Busiest {
    /// How long they took for that.
    pub over: Duration,
    pub rooms: Vec<(RoomId, u64)>,
}

impl Default for Busy {
    fn default() -> Self {
        let now = Instant::now();
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), marks: Mutex::new((now, now)) }
    }
}

impl Busy {
    /// A room was opened; it adds to what this gives.
    pub fn opened(&self, room: &RoomId) -> Arc<Written> {
        let stripe = fnv1a(room.as_str().as_bytes()) as usize % STRIPES;
        let mut rooms = lock(&self.stripes[stripe]);
        rooms.entry(room.clone()).or_default().written.clone()
    }

    /// Forgets what is long ago.
    pub fn mark(&self, now: Instant) {
        let mut marks = lock(&self.marks);
        *marks = (marks.1, now);
        for stripe in &self.stripes {
            lock(stripe).retain(|_, room| {
                room.older = std::mem::replace(&mut room.newer, room.written.get());
                // A room that closed is told of until its entries are forgotten.
                Arc::strong_count(&room.written) > 1 || room.newer > room.older
            });
        }
    }

    /// At most `most` rooms, of those that were written to lately. Looks at every room: not for a thread that has better to do.
    pub fn busiest(&self, most: usize, now: Instant) -> Busiest {
        let marks = lock(&self.marks);
        // The least busy of those kept is on top.
        let mut kept = BinaryHeap::with_capacity(most + 1);
        for stripe in &self.stripes {
            for (id, room) in lock(stripe).iter() {
                let entries = room.written.get().saturating_sub(room.older);
                if entries == 0 {
                    continue;
                }
                kept.push((Reverse(entries), id.clone()));
                if kept.len() > most {
                    kept.pop();
                }
            }
        }
        let rooms = kept.into_sorted_vec().into_iter().map(|(Reverse(entries), room)| (room, entries)).collect();
        Busiest { over: now.saturating_duration_since(marks.0), rooms }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).expect("a valid id")
    }

    fn names(busiest: &Busiest) -> Vec<(&str, u64)> {
        busiest.rooms.iter().map(|(room, entries)| (room.as_str(), *entries)).collect()
    }

    #[test]
    fn the_busiest_come_first_and_are_no_more_than_asked_for() {
        let busy = Busy::default();
        let rooms: Vec<_> = (0..500).map(|n| (n, busy.opened(&room(&format!("r{n:03}"))))).collect();
        for (n, written) in &rooms {
            written.add(n % 100);
        }
        let now = Instant::now();
        let busiest = busy.busiest(7, now);
        // Equals stand in the order of their names.
        let wanted = [("r099", 99), ("r199", 99), ("r299", 99), ("r399", 99), ("r499", 99), ("r098", 98), ("r198", 98)];
        assert_eq!(names(&busiest), wanted);
        assert_eq!(busy.busiest(1_000, now).rooms.len(), 495, "who wrote nothing is not there");
        assert_eq!(busy.busiest(0, now).rooms, []);
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_rooms_with_it() {
        let busy = Busy::default();
        let (kept, closed) = (busy.opened(&room("kept")), busy.opened(&room("closed")));
        kept.add(5);
        closed.add(3);
        drop(closed);
        let began = Instant::now();
        let at = |marks: u32| began + MARK_EVERY * marks;
        busy.mark(at(1));
        kept.add(1);
        assert_eq!(names(&busy.busiest(9, at(2))), [("kept", 6), ("closed", 3)]);
        busy.mark(at(2));
        let busiest = busy.busiest(9, at(3));
        assert_eq!((names(&busiest), busiest.over), (vec![("kept", 1)], MARK_EVERY * 2));
        busy.mark(at(3));
        assert_eq!(busy.busiest(9, at(3)).rooms, []);
        assert_eq!(busy.stripes.iter().map(|stripe| lock(stripe).len()).sum::<usize>(), 1, "only the open one");
        // One that opens again counts on.
        drop(kept);
        let again = busy.opened(&room("kept"));
        again.add(2);
        assert_eq!(names(&busy.busiest(9, at(4))), [("kept", 2)]);
    }
}
