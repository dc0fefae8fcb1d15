//! Entries as they stand in `events` and `history` frames, found by scanning.
//!
//! Invariant: [`Checked::fingerprint`] depends on what an entry says and where it stands, not on how its JSON is laid out,
//! so that a live entry, a replayed one and the one in the history have the same.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use roundtable_client::scan;
pub use roundtable_client::scan::{Entry, entries as visit};

/// What the checker wants to know of an entry.
pub trait Checked {
    /// Never 0, which stands for an entry that nobody has seen.
    fn fingerprint(&self) -> u32;
    /// The moment its text says it was due, in nanoseconds, see [`crate::net::wire::stamped`].
    fn stamp(&self) -> Option<u64>;
}

impl Checked for Entry<'_> {
    fn fingerprint(&self) -> u32 {
        let mut hash = FixedState::with_seed(7).build_hasher();
        hash.write_u32(self.seq);
        for part in [self.kind, self.user, self.at, self.id, self.text] {
            hash.write(part);
            hash.write_usize(part.len());
        }
        (hash.finish() as u32).max(1)
    }

    fn stamp(&self) -> Option<u64> {
        scan::digits(self.text.strip_prefix(b"t=")?)
    }
}

/// Of a message's text.
pub fn text_hash(text: &[u8]) -> u32 {
    let mut hash = FixedState::with_seed(11).build_hasher();
    hash.write(text);
    hash.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &str = r#"{"type":"events","room":"r","events":[{"seq":7,"kind":"message","user":"u","at":"a","id":"i","text":"t=0000000000000017;x"},{"seq":8,"kind":"message","user":"u","at":"a","id":"j","text":"y"}]}"#;

    #[test]
    fn entries_are_found_with_their_parts() {
        let mut seen = Vec::new();
        assert!(visit(FRAME.as_bytes(), |entry| seen.push(entry)));
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].seq, seen[0].id, seen[0].stamp()), (7, &b"i"[..], Some(17)));
        assert_eq!((seen[1].seq, seen[1].text, seen[1].stamp()), (8, &b"y"[..], None));
    }

    /// The one entry of a frame with this entry.
    fn read(entry: &[u8]) -> Option<Entry<'static>> {
        let frame = [&br#"{"events":["#[..], entry, b"]}"].concat().leak();
        let mut found = None;
        visit(frame, |entry| found = Some(entry));
        found
    }

    #[test]
    fn the_fingerprint_sees_every_part_and_no_layout() {
        let one = read(br#"{"seq":7,"kind":"message","user":"u","at":"a","id":"i","text":"t"}"#).expect("whole");
        let same = read(br#"{"text":"t","id":"i","at":"a","user":"u","kind":"message","seq":7}"#).expect("whole");
        assert_eq!(one.fingerprint(), same.fingerprint());
        for other in [
            Entry { seq: 8, ..one },
            Entry { user: b"v", ..one },
            Entry { at: b"b", ..one },
            Entry { id: b"it", text: b"", ..one },
            Entry { text: b"T", ..one },
        ] {
            assert_ne!(one.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }

    #[test]
    fn brackets_in_strings_and_objects_in_objects_end_no_entry() {
        let json =
            br#"{"events":[{"data":{"a":{"b":"}]"}},"text":"{\"}","seq":1,"kind":"k","user":"u","at":"a"}],"x":1}"#;
        let mut seen = Vec::new();
        assert!(visit(json, |entry| seen.push(entry.seq)));
        assert_eq!(seen, [1]);
    }

    #[test]
    fn what_is_no_entry_is_said() {
        for json in [
            &br#"{"type":"events","events":[{"seq":x}]}"#[..],
            br#"{"type":"events"}"#,
            br#"{"events":[{"seq":1"#,
            br#"{"events":[{"seq":1,"text":"\"#,
            br#"{"events":[7]}"#,
        ] {
            assert!(!visit(json, |_| panic!("there is none")), "{}", String::from_utf8_lossy(json));
        }
        assert!(visit(br#"{"type":"events","events":[]}"#, |_| panic!("there is none")));
    }
}
