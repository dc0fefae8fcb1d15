//! What one worker's clients sent, what was acked, and what they saw, in a few bytes each.
//!
//! Invariants: a message's number is its place in the ledger and part of its id, so that an entry leads to its record
//! without a search; the numbers of one sender's messages rise in the order of sending. Of what watchers see the first
//! view of each (room, seq) is kept, and every later one is compared with it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::checker::entry::{Checked as _, Entry};
use crate::checker::faults::{Faults, Kind};

/// The message was sent at least once.
pub const INVOKED: u32 = 1;
/// It was sent more than once, so its place among its sender's messages is open.
pub const RESENT: u32 = 2;
/// The answer was a refusal that says that nothing was stored.
pub const REFUSED: u32 = 4;
/// Used by the judge: it was found in the history.
pub const FOUND: u32 = 8;

/// Seqs that may be missing before an entry that is seen: a reader is reset long before.
const FARTHEST: usize = 1 << 20;
/// Records kept together; a ledger grows by this many at a time, never by copying.
const CHUNK: usize = 1 << 16;

/// One message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub room: u32,
    pub sender: u32,
    /// Its acked seq; 0: none.
    pub seq: u32,
    /// The highest seq of its room known to this worker when it was first sent: its own must be higher.
    pub floor: u32,
    pub text_hash: u32,
    pub flags: u32,
}

impl Record {
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    chunks: Vec<Vec<Record>>,
    len: u32,
    /// By room and seq - 1: the fingerprint of the entry first seen there; 0: none yet.
    seen: Vec<Vec<u32>>,
    /// The highest seq of each room that was acked, seen, or told to be its head.
    tops: Vec<u32>,
    /// The highest head of each room that was told.
    told: Vec<u32>,
}

impl Ledger {
    pub fn new(rooms: usize) -> Self {
        Self { chunks: Vec::new(), len: 0, seen: vec![Vec::new(); rooms], tops: vec![0; rooms], told: vec![0; rooms] }
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    /// Gives the next message its number.
    pub fn add(&mut self, room: u32, sender: u32) -> u32 {
        if (self.len as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Record { room, sender, ..Record::default() });
        }
        self.len += 1;
        self.len - 1
    }

    pub fn get(&self, message: u32) -> Option<&Record> {
        self.chunks.get(message as usize / CHUNK)?.get(message as usize % CHUNK)
    }

    pub fn get_mut(&mut self, message: u32) -> Option<&mut Record> {
        self.chunks.get_mut(message as usize / CHUNK)?.get_mut(message as usize % CHUNK)
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.chunks.iter().flatten()
    }

    pub fn top(&self, room: u32) -> u32 {
        self.tops[room as usize]
    }

    fn raise(&mut self, room: u32, seq: u32) {
        let top = &mut self.tops[room as usize];
        *top = (*top).max(seq);
    }

    /// The message leaves, for the first time or again.
    pub fn invoked(&mut self, message: u32, text_hash: u32) {
        let Some(room) = self.get(message).map(|record| record.room) else { return };
        let floor = self.top(room);
        let Some(record) = self.get_mut(message) else { return };
        if record.is(INVOKED) {
            record.flags |= RESENT;
        } else {
            *record = Record { floor, text_hash, flags: record.flags | INVOKED, ..*record };
        }
    }

    /// The server acked `message` at `seq`.
    pub fn acked(&mut self, message: u32, seq: u32, faults: &mut Faults) {
        let Some(record) = self.get_mut(message) else { return };
        if record.seq != 0 && record.seq != seq {
            let before = record.seq;
            faults.add(Kind::Repeated, || format!("message {message} was acked at {before} and again at {seq}"));
        }
        let (room, floor) = (record.room, record.floor);
        record.seq = seq;
        if seq <= floor {
            faults.add(Kind::Reordered, || {
                format!("room {room}: message {message} was sent when {floor} was known already, but acked at {seq}")
            });
        }
        self.raise(room, seq);
    }

    /// A watcher saw `entry`. Compares it with what others saw there.
    pub fn saw(&mut self, room: u32, entry: &Entry, faults: &mut Faults) {
        let fingerprint = entry.fingerprint();
        let seen = &mut self.seen[room as usize];
        // A seq far past everything known is a lie of its own; memory must not follow it.
        if entry.seq == 0 || entry.seq as usize > seen.len() + FARTHEST {
            let seq = entry.seq;
            return faults.add(Kind::Invented, || format!("room {room}: an entry with seq {seq}"));
        }
        let place = entry.seq as usize - 1;
        if seen.len() <= place {
            seen.resize(place + 1, 0);
        }
        if seen[place] == 0 {
            seen[place] = fingerprint;
            self.raise(room, entry.seq);
        } else if seen[place] != fingerprint {
            faults.add(Kind::Disagreement, || {
                let (id, user) = (String::from_utf8_lossy(entry.id), String::from_utf8_lossy(entry.user));
                format!("room {room}: somebody saw {id} of {user} at {}, others something else", entry.seq)
            });
        }
    }

    /// The server told somebody that this is the head of `room`: so much is committed.
    pub fn told(&mut self, room: u32, head: u32) {
        let told = &mut self.told[room as usize];
        *told = (*told).max(head);
        self.raise(room, head);
    }

    /// The highest head of `room` that was told.
    pub fn highest_told(&self, room: u32) -> u32 {
        self.told.get(room as usize).copied().unwrap_or(0)
    }

    /// The fingerprint seen at `seq`, where somebody saw it.
    pub fn seen(&self, room: u32, seq: u32) -> Option<u32> {
        let found = *self.seen.get(room as usize)?.get((seq as usize).checked_sub(1)?)?;
        (found != 0).then_some(found)
    }

    /// The highest seq of `room` that somebody saw.
    pub fn highest_seen(&self, room: u32) -> u32 {
        self.seen.get(room as usize).map_or(0, |seen| seen.len() as u32)
    }

    /// Writes everything to a file for [`Ledger::load`].
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(&self.len.to_le_bytes())?;
        for record in self.records() {
            for field in [record.room, record.sender, record.seq, record.floor, record.text_hash, record.flags] {
                out.write_all(&field.to_le_bytes())?;
            }
        }
        out.write_all(&(self.seen.len() as u32).to_le_bytes())?;
        for ((seen, top), told) in self.seen.iter().zip(&self.tops).zip(&self.told) {
            out.write_all(&top.to_le_bytes())?;
            out.write_all(&told.to_le_bytes())?;
            out.write_all(&(seen.len() as u32).to_le_bytes())?;
            for fingerprint in seen {
                out.write_all(&fingerprint.to_le_bytes())?;
            }
        }
        out.flush()
    }

    pub fn load(path: &Path) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut next = move || {
            let mut bytes = [0; 4];
            from.read_exact(&mut bytes)?;
            io::Result::Ok(u32::from_le_bytes(bytes))
        };
        let mut ledger = Self::default();
        for _ in 0..next()? {
            let message = ledger.add(0, 0);
            let record = Record {
                room: next()?,
                sender: next()?,
                seq: next()?,
                floor: next()?,
                text_hash: next()?,
                flags: next()?,
            };
            if let Some(place) = ledger.get_mut(message) {
                *place = record;
            }
        }
        for _ in 0..next()? {
            ledger.tops.push(next()?);
            ledger.told.push(next()?);
            let seen = (0..next()?).map(|_| next()).collect::<io::Result<Vec<u32>>>()?;
            ledger.seen.push(seen);
        }
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u32, id: &'static str) -> Entry<'static> {
        Entry { seq, kind: b"message", user: b"u", at: b"a", id: id.as_bytes(), text: b"t" }
    }

    #[test]
    fn an_ack_below_what_was_known_is_a_reordering() {
        let (mut ledger, mut faults) = (Ledger::new(1), Faults::default());
        ledger.saw(0, &entry(1, "x"), &mut faults);
        let message = ledger.add(0, 9);
        ledger.invoked(message, 0);
        ledger.acked(message, 2, &mut faults);
        assert!(faults.counts.is_empty());
        let late = ledger.add(0, 9);
        ledger.invoked(late, 0);
        ledger.acked(late, 2, &mut faults);
        assert_eq!(faults.counts[&Kind::Reordered], 1);
        ledger.acked(late, 3, &mut faults);
        assert_eq!(faults.counts[&Kind::Repeated], 1);
    }

    #[test]
    fn two_views_of_one_seq_must_agree() {
        let (mut ledger, mut faults) = (Ledger::new(2), Faults::default());
        ledger.saw(1, &entry(1, "x"), &mut faults);
        ledger.saw(1, &entry(1, "x"), &mut faults);
        ledger.saw(0, &entry(1, "y"), &mut faults);
        assert!(faults.counts.is_empty());
        ledger.saw(1, &entry(1, "y"), &mut faults);
        assert_eq!(faults.counts[&Kind::Disagreement], 1);
        ledger.saw(1, &entry(u32::MAX, "z"), &mut faults);
        assert_eq!(faults.counts[&Kind::Invented], 1, "and memory does not follow it");
    }

    #[test]
    fn it_comes_back_from_its_file() {
        let (mut ledger, mut faults) = (Ledger::new(2), Faults::default());
        for _ in 0..CHUNK + 3 {
            let message = ledger.add(1, 5);
            ledger.invoked(message, 77);
        }
        ledger.acked(CHUNK as u32 + 1, 4, &mut faults);
        ledger.saw(1, &entry(3, "x"), &mut faults);
        ledger.told(0, 6);
        let path = std::env::temp_dir().join(format!("roundtable-ledger-test-{}", std::process::id()));
        ledger.save(&path).expect("a writable temporary directory");
        let read = Ledger::load(&path).expect("what was written");
        std::fs::remove_file(&path).expect("it is there");
        assert!(ledger.records().eq(read.records()));
        assert_eq!((read.len(), read.top(1), read.top(0)), (CHUNK as u32 + 3, 4, 6));
        assert_eq!((read.highest_told(0), read.highest_told(1)), (6, 0));
        assert_eq!((read.seen(1, 3), read.seen(1, 2)), (Some(entry(3, "x").fingerprint()), None));
    }
}
