//! Entries as they stand in `events` and `history` frames, found by scanning.
//!
//! Invariant: [`Entry::fingerprint`] depends on what an entry says and where it stands, not on how its JSON is laid out,
//! so that a live entry, a replayed one and the one in the history have the same.

use std::sync::LazyLock;

use foldhash::fast::FixedState;
use memchr::memmem::Finder;
use std::hash::{BuildHasher, Hasher};

use crate::net::wire;

static ENTRY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"{\"seq\":"));
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"kind\":\""));
static USER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"user\":\""));
static AT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"at\":\""));

/// One entry; the slices lie in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub seq: u32,
    pub kind: &'a [u8],
    pub user: &'a [u8],
    pub at: &'a [u8],
    pub id: &'a [u8],
    pub text: &'a [u8],
}

/// Visits the entries of a frame in their order; `false`: one of them could not be read.
pub fn visit<'a>(json: &'a [u8], mut each: impl FnMut(Entry<'a>)) -> bool {
    let mut rest = json;
    while let Some(at) = ENTRY.find(rest) {
        rest = &rest[at + ENTRY.needle().len()..];
        let until = ENTRY.find(rest).unwrap_or(rest.len());
        let Some(entry) = read(&rest[..until]) else { return false };
        each(entry);
        rest = &rest[until..];
    }
    true
}

/// `bytes` start with the digits of the seq and end somewhere after the entry.
fn read(bytes: &[u8]) -> Option<Entry<'_>> {
    let text = |key: &Finder| wire::string(bytes, key);
    Some(Entry {
        seq: u32::try_from(wire::digits(bytes)?).ok()?,
        kind: text(&KIND)?,
        user: text(&USER)?,
        at: text(&AT)?,
        id: text(&wire::ID).unwrap_or_default(),
        text: text(&wire::TEXT_KEY).unwrap_or_default(),
    })
}

impl Entry<'_> {
    /// Never 0, which stands for an entry that nobody has seen.
    pub fn fingerprint(&self) -> u32 {
        let mut hash = FixedState::with_seed(7).build_hasher();
        hash.write_u32(self.seq);
        for part in [self.kind, self.user, self.at, self.id, self.text] {
            hash.write(part);
            hash.write_usize(part.len());
        }
        (hash.finish() as u32).max(1)
    }

    /// The moment its text says it was due, in nanoseconds, see [`wire::stamped`].
    pub fn stamp(&self) -> Option<u64> {
        wire::digits(self.text.strip_prefix(b"t=")?)
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

    #[test]
    fn the_fingerprint_sees_every_part_and_no_layout() {
        let one = read(br#"7,"kind":"message","user":"u","at":"a","id":"i","text":"t"}"#).expect("whole");
        let same = read(br#"7,"text":"t","id":"i","at":"a","user":"u","kind":"message"}]}"#).expect("whole");
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
    fn what_is_no_entry_is_said() {
        assert!(!visit(br#"{"type":"events","events":[{"seq":x}]}"#, |_| panic!("there is none")));
        assert!(visit(br#"{"type":"events","events":[]}"#, |_| panic!("there is none")));
    }
}
