//! A subscription is a cursor over a room's log: where it starts, and what it does with what it meets.
//!
//! Invariant: [`Cursor::next`] only rises, and only past entries that were taken; so every entry from the start on is
//! taken exactly once and in order, whatever is lost, repeated or late on the way to it.

use crate::ids::Seq;

/// Where a reader would like to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// With the next entry.
    Head,
    /// Behind this entry.
    After(Seq),
    /// So that at most this many of the newest entries are read.
    Last(u64),
}

/// What a reader is told about its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was missed.
    Live,
    /// Entries up to the head follow, then live ones.
    Replay,
    /// The place asked for can't be had: the cursor starts at the head.
    Reset,
}

/// What to do with a run of consecutive entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The run starts where the cursor stands: take it.
    Next,
    /// All of it was taken before.
    Past,
    /// Take it from the cursor's own `next` on; what is before was taken.
    Within,
    /// Something before the run was not seen yet: fetch.
    Gap,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: Seq,
}

impl Cursor {
    /// Starts in a log whose newest entry is `head` and whose oldest kept entry is `oldest` (`head + 1`: none is kept),
    /// reading at most `replay` old entries.
    pub fn start(wish: Wish, head: Seq, oldest: Seq, replay: u64) -> (Self, Verdict) {
        let at_head = Self { next: head + 1 };
        match wish {
            Wish::Head => (at_head, Verdict::Live),
            Wish::After(after) if after == head => (at_head, Verdict::Live),
            Wish::After(after) if after > head || after + 1 < oldest || head - after > replay => {
                (at_head, Verdict::Reset)
            }
            Wish::After(after) => (Self { next: after + 1 }, Verdict::Replay),
            Wish::Last(count) => {
                let kept = (head + 1).saturating_sub(oldest.max(1));
                match count.min(replay).min(kept) {
                    0 => (at_head, Verdict::Live),
                    count => (Self { next: head + 1 - count }, Verdict::Replay),
                }
            }
        }
    }

    /// The first entry not taken yet.
    pub fn next(self) -> Seq {
        self.next
    }

    /// The newest entry taken (or skipped by the start).
    pub fn after(self) -> Seq {
        self.next - 1
    }

    /// Whether a log that goes up to `head` has entries this cursor did not take.
    pub fn is_behind(self, head: Seq) -> bool {
        self.next <= head
    }

    /// How the cursor stands to the entries `first..=last`.
    pub fn meet(self, first: Seq, last: Seq) -> Meeting {
        if self.next == first {
            Meeting::Next
        } else if self.next > last {
            Meeting::Past
        } else if self.next > first {
            Meeting::Within
        } else {
            Meeting::Gap
        }
    }

    /// Everything up to `last` was taken.
    pub fn take(&mut self, last: Seq) {
        self.next = self.next.max(last + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start(wish: Wish, head: Seq, oldest: Seq) -> (Seq, Verdict) {
        let (cursor, verdict) = Cursor::start(wish, head, oldest, 100);
        (cursor.next(), verdict)
    }

    #[test]
    fn a_start_follows_the_contract() {
        assert_eq!(start(Wish::Head, 0, 1), (1, Verdict::Live));
        assert_eq!(start(Wish::Head, 50, 1), (51, Verdict::Live));
        assert_eq!(start(Wish::After(50), 50, 1), (51, Verdict::Live));
        assert_eq!(start(Wish::After(0), 0, 1), (1, Verdict::Live));
        assert_eq!(start(Wish::After(0), 50, 1), (1, Verdict::Replay));
        assert_eq!(start(Wish::After(49), 50, 1), (50, Verdict::Replay));
        assert_eq!(start(Wish::After(51), 50, 1), (51, Verdict::Reset));
        assert_eq!(start(Wish::After(u64::MAX), 50, 1), (51, Verdict::Reset));
        assert_eq!(start(Wish::After(899), 1_000, 1), (1_001, Verdict::Reset));
        assert_eq!(start(Wish::After(900), 1_000, 1), (901, Verdict::Replay));
        assert_eq!(start(Wish::After(949), 1_000, 951), (1_001, Verdict::Reset));
        assert_eq!(start(Wish::After(950), 1_000, 951), (951, Verdict::Replay));
        assert_eq!(start(Wish::Last(0), 50, 1), (51, Verdict::Live));
        assert_eq!(start(Wish::Last(10), 50, 1), (41, Verdict::Replay));
        assert_eq!(start(Wish::Last(500), 50, 1), (1, Verdict::Replay));
        assert_eq!(start(Wish::Last(500), 1_000, 1), (901, Verdict::Replay));
        assert_eq!(start(Wish::Last(500), 1_000, 991), (991, Verdict::Replay));
        assert_eq!(start(Wish::Last(5), 50, 51), (51, Verdict::Live));
        assert_eq!(start(Wish::Last(5), 0, 1), (1, Verdict::Live));
    }

    /// A reader driven by [`Meeting`]s alone, as the hub drives it.
    fn read(log: &[Seq], runs: &[(Seq, Seq)], cursor: &mut Cursor, taken: &mut Vec<Seq>) {
        for &(first, last) in runs {
            match cursor.meet(first, last) {
                Meeting::Past => {}
                Meeting::Next | Meeting::Within => taken.extend(cursor.next()..=last),
                // A fetch gives what lies between, and this run too.
                Meeting::Gap => taken.extend(log.iter().copied().filter(|&seq| seq >= cursor.next() && seq <= last)),
            }
            cursor.take(last);
        }
    }

    proptest! {
        #[test]
        fn every_entry_is_taken_once_and_in_order(
            after in 0u64..40,
            runs in prop::collection::vec((1u64..60, 0u64..8), 0..60),
        ) {
            let log: Vec<Seq> = (1..=80).collect();
            let runs: Vec<(Seq, Seq)> = runs.into_iter().map(|(first, more)| (first, first + more)).collect();
            let (mut cursor, _) = Cursor::start(Wish::After(after), 40, 1, 100);
            let begin = cursor.next();
            let mut taken = Vec::new();
            read(&log, &runs, &mut cursor, &mut taken);
            prop_assert_eq!(taken, (begin..cursor.next()).collect::<Vec<_>>());
        }

        #[test]
        fn a_start_is_within_the_log(head in 0u64..1_000, kept in 0u64..1_000, at in 0u64..2_000, last: bool, replay in 0u64..500) {
            let oldest = (head + 1).saturating_sub(kept).max(1);
            let wish = if last { Wish::Last(at) } else { Wish::After(at) };
            let (cursor, verdict) = Cursor::start(wish, head, oldest, replay);
            prop_assert!(cursor.next() >= oldest && cursor.next() <= head + 1);
            prop_assert!(head + 1 - cursor.next() <= replay);
            prop_assert_eq!(verdict == Verdict::Replay, cursor.is_behind(head));
        }
    }
}
