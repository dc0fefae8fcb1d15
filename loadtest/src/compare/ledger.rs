//! What every reader got, held against what was sent: per sender the numbers must be 0, 1, 2, … once each and in order.
//! Nothing here is a failure by itself; peers promise different things, so it is counted.
//!
//! Memory: one number per reader and sender of its room, and one range per gap that is open, at most [`MOST_GAPS`] of a
//! reader; what is missing beyond that is counted as lost at once.

const MOST_GAPS: usize = 10_000;

/// What became of the deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Never came.
    pub lost: u64,
    /// Had not come yet when the waiting ended, while others still came: the peer was behind, nothing says that they
    /// are lost.
    pub behind: u64,
    /// Came again.
    pub repeated: u64,
    /// Came after a later one of the same sender.
    pub reordered: u64,
    /// Bore no tag of a sender of the room, or a number that was never sent.
    pub strays: u64,
}

#[derive(Clone, Default)]
struct Reader {
    /// Per sender of the room the next number expected.
    next: Vec<u64>,
    /// Open gaps: sender, first, one past the last.
    gaps: Vec<(usize, u64, u64)>,
}

pub struct Ledger {
    readers: Vec<Reader>,
    tally: Tally,
}

impl Ledger {
    /// `readers` people whose rooms have `senders` senders each.
    pub fn new(readers: usize, senders: usize) -> Self {
        let reader = Reader { next: vec![0; senders], gaps: Vec::new() };
        Self { readers: vec![reader; readers], tally: Tally::default() }
    }

    pub fn stray(&mut self) {
        self.tally.strays += 1;
    }

    /// `reader` got number `number` of the room's sender `sender`, of whom `sent` messages were sent so far.
    pub fn note(&mut self, reader: usize, sender: usize, number: u64, sent: u64) {
        let Some(reader) = self.readers.get_mut(reader) else { return self.stray() };
        let Some(next) = reader.next.get_mut(sender).filter(|_| number < sent) else { return self.stray() };
        if number >= *next {
            if number > *next {
                if reader.gaps.len() < MOST_GAPS {
                    reader.gaps.push((sender, *next, number));
                } else {
                    self.tally.lost += number - *next;
                }
            }
            *next = number + 1;
            return;
        }
        let gap = reader.gaps.iter().position(|&(of, from, to)| of == sender && (from..to).contains(&number));
        let Some(gap) = gap else {
            self.tally.repeated += 1;
            return;
        };
        let (_, from, to) = reader.gaps.swap_remove(gap);
        self.tally.reordered += 1;
        for (from, to) in [(from, number), (number + 1, to)] {
            if from < to {
                reader.gaps.push((sender, from, to));
            }
        }
    }

    /// The end: `sent(reader, sender)` messages were sent to each reader by each sender of its room. Where deliveries
    /// were still `coming`, what is missing at a reader's end is behind and not lost.
    pub fn close(mut self, coming: bool, sent: impl Fn(usize, usize) -> u64) -> Tally {
        for (number, reader) in self.readers.iter().enumerate() {
            self.tally.lost += reader.gaps.iter().map(|(_, from, to)| to - from).sum::<u64>();
            for (sender, &next) in reader.next.iter().enumerate() {
                let missing = sent(number, sender).saturating_sub(next);
                *(if coming { &mut self.tally.behind } else { &mut self.tally.lost }) += missing;
            }
        }
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(got: &[(usize, u64)], sent: u64) -> Tally {
        let mut ledger = Ledger::new(1, 2);
        for &(sender, number) in got {
            ledger.note(0, sender, number, sent);
        }
        ledger.close(false, |_, _| sent)
    }

    #[test]
    fn all_of_two_senders_in_order_is_fault_free() {
        assert_eq!(tally(&[(0, 0), (1, 0), (0, 1), (1, 1)], 2), Tally::default());
    }

    #[test]
    fn each_kind_of_fault_is_told_from_the_others() {
        let lost = tally(&[(0, 0), (0, 2), (1, 0), (1, 1)], 3);
        assert_eq!(lost, Tally { lost: 2, ..Tally::default() }, "one in the middle, one at the end");
        let repeated = tally(&[(0, 0), (0, 0), (1, 0)], 1);
        assert_eq!(repeated, Tally { repeated: 1, ..Tally::default() });
        let reordered = tally(&[(0, 2), (0, 1), (0, 0), (1, 0), (1, 1), (1, 2)], 3);
        assert_eq!(reordered, Tally { reordered: 2, ..Tally::default() });
        let late_and_again = tally(&[(0, 1), (0, 0), (0, 0), (1, 0), (1, 1)], 2);
        assert_eq!(late_and_again, Tally { reordered: 1, repeated: 1, ..Tally::default() });
    }

    #[test]
    fn the_end_of_a_stream_that_still_flows_is_behind_and_a_gap_in_it_is_lost() {
        let mut ledger = Ledger::new(1, 1);
        ledger.note(0, 0, 0, 5);
        ledger.note(0, 0, 2, 5);
        assert_eq!(ledger.close(true, |_, _| 5), Tally { lost: 1, behind: 2, ..Tally::default() });
    }

    #[test]
    fn what_was_never_sent_is_a_stray() {
        assert_eq!(tally(&[(0, 0), (1, 0), (0, 7), (9, 0)], 1), Tally { strays: 2, ..Tally::default() });
    }
}
