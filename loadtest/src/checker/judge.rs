//! Holds the histories against what was sent, acked and seen. Fed with each room's history from seq 1 in order, it keeps
//! nothing of it but where each sender's messages stand.
//!
//! What is verified: acked messages are in the history exactly once, at the acked seq; seqs are contiguous; what anybody
//! saw is what the history has at that seq, and nothing beyond its end; every entry is a message that was sent, by its
//! sender, with its text; messages of one sender that went over one connection once stand in the order sent; nothing
//! stands before what was known when it was sent; unanswered messages are there at most once.

use std::collections::HashMap;
use std::rc::Rc;

use crate::checker::entry::{Checked as _, Entry, text_hash};
use crate::checker::faults::{Faults, Kind};
use crate::checker::ledger::{FOUND, INVOKED, Ledger, REFUSED, RESENT, Record};
use crate::crowd::names;
use crate::report::outcome::Verdict;

pub struct Judge {
    nonce: String,
    rooms: Vec<Rc<str>>,
    /// By worker.
    ledgers: Vec<Ledger>,
    faults: Faults,
    entries: u64,
    /// Of the rooms that are being read.
    under_way: HashMap<u32, UnderWay>,
}

/// How far a room's history was read: its last seq, and by sender the number of the last message that stands in order.
#[derive(Default)]
struct UnderWay {
    last_seq: u32,
    last_of: HashMap<u32, u32>,
}

impl Judge {
    /// `ledgers` of all workers, in their order; `faults` that were found while the load ran.
    pub fn new(nonce: &str, rooms: Vec<String>, ledgers: Vec<Ledger>, faults: Faults) -> Self {
        Self {
            nonce: nonce.to_owned(),
            rooms: rooms.into_iter().map(Rc::from).collect(),
            ledgers,
            faults,
            entries: 0,
            under_way: HashMap::new(),
        }
    }

    /// The next entry of `room`'s history.
    pub fn entry(&mut self, room: u32, entry: &Entry) {
        self.entries += 1;
        let name = Rc::clone(&self.rooms[room as usize]);
        let at = |what: &str| {
            let id = String::from_utf8_lossy(entry.id);
            format!("{name}, seq {}, id {id}: {what}", entry.seq)
        };
        let last_seq = &mut self.under_way.entry(room).or_default().last_seq;
        if entry.seq != *last_seq + 1 {
            let after = *last_seq;
            let kind = if entry.seq <= after { Kind::Repeated } else { Kind::Gap };
            self.faults.add(kind, || at(&format!("stands after seq {after} in the history")));
        }
        *last_seq = entry.seq;
        let fingerprint = entry.fingerprint();
        for ledger in &self.ledgers {
            if ledger.seen(room, entry.seq).is_some_and(|seen| seen != fingerprint) {
                self.faults.add(Kind::Disagreement, || at("a watcher saw another entry there"));
            }
        }
        if entry.kind != b"message" {
            return self.faults.add(Kind::Invented, || at("nobody made an entry of this kind"));
        }
        let Some((worker, message)) = names::message_of(&self.nonce, entry.id) else {
            return self.faults.add(Kind::Invented, || at("an id that nobody sent"));
        };
        let record = self.ledgers.get_mut(worker as usize).and_then(|ledger| ledger.get_mut(message));
        let Some(record) = record.filter(|record| record.is(INVOKED)) else {
            return self.faults.add(Kind::Invented, || at("nobody sent it"));
        };
        let twice = record.is(FOUND);
        record.flags |= FOUND;
        let record = *record;
        if twice {
            return self.faults.add(Kind::Repeated, || at("is in the history twice"));
        }
        self.hold(room, entry, message, record, at);
    }

    /// The entry is `record`'s message, there for the first time.
    fn hold(&mut self, room: u32, entry: &Entry, message: u32, record: Record, at: impl Fn(&str) -> String) {
        if record.room != room {
            self.faults.add(Kind::Invented, || at("was sent to another room"));
        }
        if entry.user != names::user(record.sender).as_bytes() {
            self.faults.add(Kind::Invented, || at("bears another user than the one who sent it"));
        }
        if text_hash(entry.text) != record.text_hash {
            self.faults.add(Kind::Invented, || at("has another text than was sent"));
        }
        if record.seq != 0 && record.seq != entry.seq {
            self.faults.add(Kind::Lost, || at(&format!("was acked at {}", record.seq)));
        }
        if record.is(REFUSED) && !record.is(RESENT) {
            self.faults.add(Kind::Invented, || at("was refused for good, yet is stored"));
        }
        if entry.seq <= record.floor {
            self.faults.add(Kind::Reordered, || at(&format!("was sent when {} was known already", record.floor)));
        }
        if !record.is(RESENT) && record.seq != 0 {
            // A sender belongs to one worker, so that its numbers are comparable.
            let last = self.under_way.entry(room).or_default().last_of.entry(record.sender).or_insert(message);
            if *last > message {
                let last = *last;
                self.faults
                    .add(Kind::Reordered, || at(&format!("stands after message {last} of its sender, sent later")));
            } else {
                *last = message;
            }
        }
    }

    /// The history of `room` ends here.
    pub fn end_of(&mut self, room: u32) {
        let name = &self.rooms[room as usize];
        let head = self.under_way.remove(&room).unwrap_or_default().last_seq;
        for ledger in &self.ledgers {
            let seen = ledger.highest_seen(room);
            if seen > head {
                self.faults
                    .add(Kind::Forgotten, || format!("{name}: seq {seen} was shown, but the history ends at {head}"));
            }
            let told = ledger.highest_told(room);
            if told > head.max(seen) {
                self.faults
                    .add(Kind::Forgotten, || format!("{name}: head {told} was told, but the history ends at {head}"));
            }
        }
    }

    /// All histories were read; or not, and why (then nothing that is missing is held against the server).
    pub fn verdict(mut self, observed: u64, observers: u64, incomplete: Option<String>) -> Verdict {
        let (mut acked, mut unanswered) = (0, 0);
        for ledger in &self.ledgers {
            for (message, record) in ledger.records().enumerate() {
                acked += u64::from(record.seq != 0);
                unanswered += u64::from(record.is(INVOKED) && record.seq == 0 && !record.is(REFUSED));
                if record.seq != 0 && !record.is(FOUND) && incomplete.is_none() {
                    let (name, seq) = (&self.rooms[record.room as usize], record.seq);
                    self.faults
                        .add(Kind::Lost, || format!("{name}: message {message} was acked at {seq}, but is not there"));
                }
            }
        }
        Verdict {
            entries: self.entries,
            acked,
            unanswered,
            observed,
            observers,
            rooms: self.rooms.len() as u64,
            faults: self.faults.counts.iter().map(|(kind, &count)| (kind.name().to_owned(), count)).collect(),
            examples: self.faults.varied(),
            incomplete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"hello";

    fn id(message: u32) -> String {
        names::message("n", 0, message)
    }

    /// Three messages of one sender, acked at 1, 2, 3, and the history they make.
    fn honest() -> (Ledger, Vec<(u32, String)>) {
        let (mut ledger, mut faults) = (Ledger::new(1), Faults::default());
        for seq in 1..=3 {
            let message = ledger.add(0, 5);
            ledger.invoked(message, text_hash(TEXT));
            ledger.acked(message, seq, &mut faults);
        }
        (ledger, (1..=3).map(|seq| (seq, id(seq - 1))).collect())
    }

    fn judge(ledger: Ledger, history: &[(u32, String)]) -> Verdict {
        let mut judge = Judge::new("n", vec!["r".into()], vec![ledger], Faults::default());
        for (seq, id) in history {
            let user = names::user(5);
            judge.entry(
                0,
                &Entry { seq: *seq, kind: b"message", user: user.as_bytes(), at: b"a", id: id.as_bytes(), text: TEXT },
            );
        }
        judge.end_of(0);
        judge.verdict(0, 0, None)
    }

    fn kinds(verdict: &Verdict) -> Vec<&str> {
        verdict.faults.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_truth_is_accepted() {
        let (ledger, history) = honest();
        let verdict = judge(ledger, &history);
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!((verdict.entries, verdict.acked, verdict.unanswered), (3, 3, 0));
    }

    #[test]
    fn each_lie_has_its_name() {
        let (ledger, mut history) = honest();
        history.pop();
        assert_eq!(kinds(&judge(ledger, &history)), ["lost"]);

        let (ledger, mut history) = honest();
        history.push((4, id(0)));
        assert_eq!(kinds(&judge(ledger, &history)), ["repeated"]);

        let (ledger, mut history) = honest();
        history.push((4, id(9)));
        assert_eq!(kinds(&judge(ledger, &history)), ["invented"]);

        let (ledger, mut history) = honest();
        history.remove(1);
        assert_eq!(kinds(&judge(ledger, &history)), ["gap", "lost"]);

        let (ledger, mut history) = honest();
        history[0].1 = id(1);
        history[1].1 = id(0);
        assert_eq!(kinds(&judge(ledger, &history)), ["lost", "reordered"]);
    }

    #[test]
    fn what_was_shown_must_stay() {
        let (mut ledger, history) = honest();
        let user = names::user(5);
        let shown = Entry { seq: 4, kind: b"message", user: user.as_bytes(), at: b"a", id: b"x", text: TEXT };
        ledger.saw(0, &shown, &mut Faults::default());
        assert_eq!(kinds(&judge(ledger, &history)), ["forgotten"]);

        for (told, held) in [(3, true), (4, false)] {
            let (mut ledger, history) = honest();
            ledger.told(0, told);
            assert_eq!(judge(ledger, &history).holds(), held, "a head of {told}");
        }

        let (mut ledger, history) = honest();
        ledger.saw(0, &Entry { seq: 2, ..shown }, &mut Faults::default());
        assert_eq!(kinds(&judge(ledger, &history)), ["disagreement"]);
    }

    #[test]
    fn an_unanswered_message_may_be_there_once_or_not_at_all() {
        for times in 0..3 {
            let (mut ledger, mut history) = honest();
            let message = ledger.add(0, 5);
            ledger.invoked(message, text_hash(TEXT));
            history.extend((0..times).map(|n| (4 + n, id(message))));
            let verdict = judge(ledger, &history);
            assert_eq!(verdict.holds(), times < 2, "{verdict:?}");
            assert_eq!(verdict.unanswered, 1);
        }
    }

    #[test]
    fn a_message_sent_again_may_have_changed_places_with_its_neighbours() {
        let (mut ledger, mut faults) = (Ledger::new(1), Faults::default());
        let (first, second) = (ledger.add(0, 5), ledger.add(0, 5));
        ledger.invoked(first, text_hash(TEXT));
        ledger.invoked(second, text_hash(TEXT));
        ledger.invoked(first, text_hash(TEXT));
        ledger.acked(second, 1, &mut faults);
        ledger.acked(first, 2, &mut faults);
        let verdict = judge(ledger, &[(1, id(second)), (2, id(first))]);
        assert!(verdict.holds(), "{verdict:?}");
    }
}
