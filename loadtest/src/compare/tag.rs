//! The text of every message of a comparison: who sent it, its number among the sender's, and when it was due. It is
//! plain ASCII without quotes, angle brackets or backslashes, so it looks the same in JSON, in XML and bare, and can be
//! found without a parser.

use std::io::Write;

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Nanoseconds from the run's epoch to the moment the message was due.
    pub stamp: u64,
    /// Number of the person who sent it.
    pub sender: usize,
    /// 0, 1, 2, … per sender.
    pub number: u64,
}

/// Appends a text of `bytes` (more where the tag itself is longer) that bears `tag`.
pub fn write(out: &mut Vec<u8>, tag: Tag, bytes: usize) {
    let start = out.len();
    write!(out, "t={:016};s={};n={};", tag.stamp, tag.sender, tag.number).expect("a Vec takes everything");
    out.resize(out.len().max(start + bytes), b'x');
}

/// The tag that `text` begins with; `None`: it is none of ours.
pub fn read(text: &[u8]) -> Option<Tag> {
    let (stamp, rest) = field(text, b"t=")?;
    let (sender, rest) = field(rest, b"s=")?;
    let (number, _) = field(rest, b"n=")?;
    Some(Tag { stamp, sender: usize::try_from(sender).ok()?, number })
}

fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<(u64, &'a [u8])> {
    let rest = text.strip_prefix(name)?;
    let end = memchr::memchr(b';', rest)?;
    let value = rest[..end].iter().all(u8::is_ascii_digit).then(|| roundtable_client::scan::digits(rest))??;
    Some((value, &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_back_and_padded() {
        let tag = Tag { stamp: 12_345, sender: 7, number: 99 };
        let mut text = Vec::new();
        write(&mut text, tag, 100);
        assert_eq!(text.len(), 100);
        assert_eq!(read(&text), Some(tag));
    }

    #[test]
    fn other_texts_bear_no_tag() {
        for text in ["", "t=", "t=1", "t=1;", "t=1;s=2;n=", "t=1;s=2;n=x;", "t=1;s=-2;n=3;", "t=;s=1;n=1;", "hello"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        // 20 digits are more than a number of ours has.
        assert_eq!(read(b"t=99999999999999999999;s=1;n=1;"), None);
    }
}
