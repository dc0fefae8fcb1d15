//! Entries as they stand in `events` and `history` frames, found by scanning.
//!
//! Invariant: [`Entry::fingerprint`] depends on what an entry says and where it stands, not on how its JSON is laid out,
//! so that a live entry, a replayed one and the one in the history have the same.

use std::sync::LazyLock;

use foldhash::fast::FixedState;
use memchr::memmem::Finder;
use std::hash::{BuildHasher, Hasher};

use crate::net::wire;

static EVENTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"events\":["));
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"kind\":\""));
static USER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"user\":\""));
static AT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"at\":\""));

/// One entry; the slices lie in the frame, as they stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub seq: u32,
    pub kind: &'a [u8],
    pub user: &'a [u8],
    pub at: &'a [u8],
    pub id: &'a [u8],
    pub text: &'a [u8],
}

/// Visits the entries of a frame in their order; `false`: there is no list of them, or one could not be read.
pub fn visit<'a>(json: &'a [u8], mut each: impl FnMut(Entry<'a>)) -> bool {
    let Some(at) = EVENTS.find(json) else { return false };
    let mut rest = &json[at + EVENTS.needle().len()..];
    while let [b'{', ..] = rest {
        let Some(end) = object(rest) else { return false };
        let Some(entry) = read(&rest[..end]) else { return false };
        each(entry);
        rest = &rest[end..];
        if let [b',', more @ ..] = rest {
            rest = more;
        }
    }
    rest.first() == Some(&b']')
}

/// Bytes of the object that `bytes` begin with.
fn object(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    loop {
        at += memchr::memchr3(b'"', b'{', b'}', bytes.get(at..)?)?;
        match bytes[at] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => loop {
                at += 1 + memchr::memchr2(b'"', b'\\', bytes.get(at + 1..)?)?;
                if bytes[at] == b'"' {
                    break;
                }
                // What is escaped is none of our business.
                at += 1;
            },
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn read(bytes: &[u8]) -> Option<Entry<'_>> {
    let text = |key: &Finder| wire::string(bytes, key);
    Some(Entry {
        seq: u32::try_from(wire::number(bytes, &wire::SEQ)?).ok()?,
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
