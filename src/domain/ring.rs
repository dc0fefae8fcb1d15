//! The recent past of a room: consecutive entries up to the head, bounded in number and bytes, so that replays of the
//! recent past need no store.
//!
//! Invariant: the entries kept are exactly `first()..=head()`, without a gap; `clear_to` is the only way to jump.

use std::collections::VecDeque;

use crate::ids::Seq;

/// A bounded window over the end of a log. `E` is cheap to clone (an `Arc`).
#[derive(Debug)]
pub struct Ring<E> {
    entries: VecDeque<(E, usize)>,
    head: Seq,
    /// What the entries kept take in memory.
    footprint: usize,
    max_entries: usize,
    max_footprint: usize,
    footprint_of: fn(usize) -> usize,
}

impl<E: Clone> Ring<E> {
    /// Keeps at most `max_entries` and `max_footprint` bytes of memory, but always the newest entry. `footprint_of` tells
    /// what an entry of so many bytes takes in memory.
    pub fn new(max_entries: usize, max_footprint: usize, footprint_of: fn(usize) -> usize) -> Self {
        Self { entries: VecDeque::new(), head: 0, footprint: 0, max_entries, max_footprint, footprint_of }
    }

    /// `seq` of the newest entry of the log, kept or not.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// `seq` of the oldest entry kept; `head + 1` where none is.
    pub fn first(&self) -> Seq {
        self.head + 1 - self.entries.len() as Seq
    }

    /// Appends the entry with `seq == head + 1`, of `bytes` in size; drops the oldest ones over the bounds.
    pub fn push(&mut self, entry: E, bytes: usize) {
        self.head += 1;
        self.footprint += (self.footprint_of)(bytes);
        self.entries.push_back((entry, bytes));
        while self.entries.len() > self.max_entries || (self.footprint > self.max_footprint && self.entries.len() > 1) {
            if let Some((_, dropped)) = self.entries.pop_front() {
                self.footprint -= (self.footprint_of)(dropped);
            }
        }
    }

    /// Forgets everything and stands at `head`.
    pub fn clear_to(&mut self, head: Seq) {
        self.entries.clear();
        self.footprint = 0;
        self.head = head;
    }

    /// Replaces the entry `seq` where it is still kept.
    pub fn replace(&mut self, seq: Seq, change: impl FnOnce(&E) -> Option<(E, usize)>) {
        let Some(index) = seq.checked_sub(self.first()) else { return };
        if let Some(slot) = self.entries.get_mut(index as usize)
            && let Some((entry, bytes)) = change(&slot.0)
        {
            self.footprint = self.footprint - (self.footprint_of)(slot.1) + (self.footprint_of)(bytes);
            *slot = (entry, bytes);
        }
    }

    /// The entries behind `after`, up to about `max_bytes` and at least one; `None` where the oldest of them is gone.
    pub fn after(&self, after: Seq, max_bytes: usize) -> Option<Vec<E>> {
        let skip = (after + 1).checked_sub(self.first())? as usize;
        let mut bytes = 0;
        let taken = self.entries.iter().skip(skip).take_while(|(_, size)| {
            let fits = bytes == 0 || bytes + size <= max_bytes;
            bytes += size;
            fits
        });
        Some(taken.map(|(entry, _)| entry.clone()).collect())
    }

    /// The entry `seq`, where it is still kept.
    pub fn get(&self, seq: Seq) -> Option<&E> {
        let index = usize::try_from(seq.checked_sub(self.first())?).ok()?;
        self.entries.get(index).map(|(entry, _)| entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.entries.iter().map(|(entry, _)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(n: u64) -> Ring<u64> {
        let mut ring = Ring::new(4, 100, |bytes| bytes);
        (1..=n).for_each(|seq| ring.push(seq, 10));
        ring
    }

    #[test]
    fn keeps_the_newest_and_says_when_the_past_is_gone() {
        let ring = ring(6);
        assert_eq!((ring.first(), ring.head()), (3, 6));
        assert_eq!(ring.after(2, 1000), Some(vec![3, 4, 5, 6]));
        assert_eq!(ring.after(4, 1000), Some(vec![5, 6]));
        assert_eq!(ring.after(6, 1000), Some(vec![]));
        assert_eq!(ring.after(1, 1000), None);
    }

    #[test]
    fn pages_by_bytes_but_never_nothing() {
        let ring = ring(4);
        assert_eq!(ring.after(0, 25), Some(vec![1, 2]));
        assert_eq!(ring.after(0, 1), Some(vec![1]));
    }

    #[test]
    fn is_bounded_in_bytes() {
        let mut ring = Ring::new(100, 100, |bytes| bytes);
        (1..=5).for_each(|seq: u64| ring.push(seq, 40));
        assert_eq!((ring.first(), ring.head()), (4, 5));
        ring.push(6, 400);
        assert_eq!((ring.first(), ring.after(5, 10)), (6, Some(vec![6])));
    }

    #[test]
    fn the_bound_is_that_of_the_memory_and_pages_are_those_of_the_bytes() {
        let mut ring = Ring::new(100, 100, |bytes| 2 * bytes + 10);
        (1..=9).for_each(|seq: u64| ring.push(seq, 10));
        assert_eq!((ring.first(), ring.head()), (7, 9), "three of 30 fit into 100");
        assert_eq!(ring.after(6, 20), Some(vec![7, 8]));
        ring.replace(8, |_| Some((80, 25)));
        ring.push(10, 10);
        assert_eq!(ring.first(), 9, "30 + 60 + 30 + 30 does not fit, nor does 60 + 30 + 30");
    }

    #[test]
    fn jumps_and_replaces() {
        let mut ring = ring(4);
        ring.replace(2, |_| Some((20, 10)));
        ring.replace(9, |_| Some((90, 10)));
        assert_eq!(ring.after(0, 1000), Some(vec![1, 20, 3, 4]));
        assert_eq!((ring.get(0), ring.get(2), ring.get(5)), (None, Some(&20), None));
        ring.clear_to(9);
        assert_eq!((ring.first(), ring.head(), ring.after(9, 10), ring.after(8, 10)), (10, 9, Some(vec![]), None));
    }
}
