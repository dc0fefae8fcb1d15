//! After a row against Roundtable: the rooms' histories are read back over the wire and held against what was sent, what
//! was acknowledged and what the readers saw. This is the comparison's own short check, so that a row of ours is never
//! fast by being wrong; peers have no such promise to check.

use std::time::Duration;

use crate::checker::readback::{Found, Source, histories};
use crate::compare::ledger::Tally;
use crate::compare::server::Server;
use crate::compare::tag;
use crate::fail::Result;
use crate::net::token::Mint;
use crate::report::outcome::Verdict;

/// Longest time without a page.
const PATIENCE: Duration = Duration::from_secs(30);
/// Kept in words of each kind of fault.
const EXAMPLES: u64 = 20;

/// What is known of a row from outside.
pub struct Row<'a> {
    pub rooms: &'a [String],
    /// Room of each person, by its number.
    pub room_of: &'a dyn Fn(usize) -> usize,
    /// Per person and number the seq of the ack, 0: none came.
    pub acked: &'a [Vec<u64>],
    /// What readers saw, added up.
    pub tally: Tally,
    pub observed: u64,
    /// Whether nothing was told to come again later: then a sender's numbers are in the order of its sends.
    pub ordered: bool,
}

/// Holds what the histories say against the row, entry by entry.
struct Judge<'a> {
    row: &'a Row<'a>,
    /// Per person and number: whether the history has it.
    found: Vec<Vec<bool>>,
    last_number: Vec<Option<u64>>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn new(row: &'a Row<'a>) -> Self {
        let acked = row.acked.iter().flatten().filter(|&&seq| seq != 0).count() as u64;
        let sent: u64 = row.acked.iter().map(|numbers| numbers.len() as u64).sum();
        Self {
            row,
            found: row.acked.iter().map(|numbers| vec![false; numbers.len()]).collect(),
            last_number: vec![None; row.acked.len()],
            verdict: Verdict {
                acked,
                unanswered: sent - acked,
                observed: row.observed,
                observers: row.acked.len() as u64,
                rooms: row.rooms.len() as u64,
                ..Verdict::default()
            },
        }
    }

    fn fault(&mut self, kind: &str, what: impl FnOnce() -> String) {
        let count = self.verdict.faults.entry(kind.to_owned()).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            let what = format!("{kind}: {}", what());
            self.verdict.examples.push(what);
        }
    }

    /// The entry at `seq` of a room, where `expected` comes next.
    fn entry(&mut self, room: usize, expected: u64, seq: u64, text: &[u8]) {
        let row = self.row;
        let name = &row.rooms[room];
        self.verdict.entries += 1;
        if seq != expected {
            self.fault("gap", || format!("{name}: seq {seq} where {expected} comes"));
        }
        let known = tag::read(text).filter(|tag| {
            let sent = row.acked.get(tag.sender).map_or(0, Vec::len);
            tag.number < sent as u64 && (row.room_of)(tag.sender) == room
        });
        let Some(tag) = known else {
            return self.fault("invented", || format!("{name}: seq {seq} was never sent there"));
        };
        let number = tag.number as usize;
        if std::mem::replace(&mut self.found[tag.sender][number], true) {
            self.fault("repeated", || format!("{name}: message {number} of {} is there again at {seq}", tag.sender));
        }
        let acked = row.acked[tag.sender][number];
        if acked != 0 && acked != seq {
            self.fault("disagreement", || format!("{name}: acked at {acked}, but at {seq} in the history"));
        }
        if row.ordered && self.last_number[tag.sender].is_some_and(|last| last > tag.number) {
            self.fault("reordered", || format!("{name}: message {number} of {} comes late at {seq}", tag.sender));
        }
        self.last_number[tag.sender] = Some(tag.number);
    }

    /// All rooms were read to their ends.
    fn close(mut self) -> Verdict {
        for (sender, numbers) in self.row.acked.iter().enumerate() {
            for (number, &seq) in numbers.iter().enumerate() {
                if seq != 0 && !self.found[sender][number] {
                    self.fault("forgotten", || format!("message {number} of {sender}, acked at {seq}"));
                }
            }
        }
        let Tally { lost, repeated, reordered, strays, .. } = self.row.tally;
        for (kind, count) in [("lost", lost), ("repeated", repeated), ("reordered", reordered), ("invented", strays)] {
            if count > 0 {
                self.fault(kind, || format!("{count} deliveries to readers"));
            }
        }
        self.verdict
    }
}

/// Reads every room of the row back and judges.
pub fn run(server: &Server, mint: &Mint, row: &Row) -> Result<Verdict> {
    let token = mint.token("lt-auditor");
    let source = Source { servers: &server.doors, token: &token, rooms: row.rooms, patience: PATIENCE };
    let mut judge = Judge::new(row);
    let mut heads = vec![0; row.rooms.len()];
    histories(&source, &mut |found| {
        if let Found::Entry(room, entry) = found {
            let (room, seq) = (room as usize, u64::from(entry.seq));
            judge.entry(room, heads[room] + 1, seq, entry.text);
            heads[room] = seq.max(heads[room]);
        }
    })?;
    Ok(judge.close())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tag::Tag;

    /// A history of one room, `(seq, sender, number)` each, of two senders whose messages were acked at these seqs.
    fn judged(acked: [&[u64]; 2], history: &[(u64, usize, u64)]) -> Vec<String> {
        let rooms = ["r".to_owned()];
        let acked = acked.map(<[u64]>::to_vec);
        let tally = Tally::default();
        let row = Row { rooms: &rooms, room_of: &|_| 0, acked: &acked, tally, observed: 0, ordered: true };
        let mut judge = Judge::new(&row);
        let mut last = 0;
        for &(seq, sender, number) in history {
            let mut text = Vec::new();
            tag::write(&mut text, Tag { stamp: 0, sender, number }, 64);
            judge.entry(0, last + 1, seq, &text);
            last = seq;
        }
        let verdict = judge.close();
        assert_eq!(verdict.holds(), verdict.faults.is_empty());
        verdict.faults.into_keys().collect()
    }

    #[test]
    fn a_true_history_holds_and_an_unanswered_send_may_be_there_or_not() {
        let nothing = Vec::<String>::new();
        assert_eq!(judged([&[1, 3], &[2]], &[(1, 0, 0), (2, 1, 0), (3, 0, 1)]), nothing);
        assert_eq!(judged([&[1, 0], &[2]], &[(1, 0, 0), (2, 1, 0), (3, 0, 1)]), nothing);
        assert_eq!(judged([&[1, 0], &[2]], &[(1, 0, 0), (2, 1, 0)]), nothing);
    }

    #[test]
    fn every_kind_of_lie_is_caught() {
        assert_eq!(judged([&[1], &[2]], &[(1, 0, 0)]), ["forgotten"]);
        assert_eq!(judged([&[1], &[3]], &[(1, 0, 0), (3, 1, 0)]), ["gap"]);
        assert_eq!(judged([&[1], &[2]], &[(1, 0, 0), (2, 1, 0), (3, 1, 7)]), ["invented"]);
        assert_eq!(judged([&[1], &[2]], &[(1, 0, 0), (2, 1, 0), (3, 5, 0)]), ["invented"]);
        assert_eq!(judged([&[1], &[0]], &[(1, 0, 0), (2, 1, 0), (3, 1, 0)]), ["repeated"]);
        assert_eq!(judged([&[2], &[1]], &[(1, 0, 0), (2, 1, 0)]), ["disagreement"]);
        assert_eq!(judged([&[2, 1], &[]], &[(1, 0, 1), (2, 0, 0)]), ["reordered"]);
    }

    #[test]
    fn what_readers_saw_is_part_of_the_verdict() {
        let tally = Tally { lost: 2, ..Tally::default() };
        let row = Row { rooms: &[], room_of: &|_| 0, acked: &[], tally, observed: 5, ordered: true };
        assert!(!Judge::new(&row).close().holds());
    }
}
