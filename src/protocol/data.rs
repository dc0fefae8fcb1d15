//! The free JSON of a message: compacted, otherwise kept as given.
//!
//! Invariant: what comes out means the same as what went in: whitespace outside strings is gone, strings use the
//! shortest form (an escape only where JSON needs one), numbers, the order of keys and repeated keys are as they were.

use std::fmt::Write;

use serde_json::value::RawValue;

use crate::entry::Data;
use crate::limits::{DATA_BYTES, DATA_DEPTH};
use crate::refusal::Refusal;

/// Compacts the `data` of a message, from a WebSocket frame or an HTTP body.
///
/// # Errors
/// `bad_request` where it is over 4,096 bytes when compact, nested deeper than 32, or has a string that is no Unicode text.
pub fn compact(json: &RawValue) -> Result<Data, Refusal> {
    let mut out = Compact::default();
    let mut rest = json.get();
    while let Some(byte) = rest.bytes().next() {
        match byte {
            b'"' => {
                let (string, behind) = split_string(rest)?;
                out.escaped(string)?;
                rest = behind;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => out.open(byte as char)?,
            b'}' | b']' => out.close(byte as char),
            // Outside strings JSON is ASCII.
            _ => out.text.push(byte as char),
        }
        out.check_size()?;
        rest = &rest[1..];
    }
    out.finish()
}

/// Splits a text that starts with a string literal: what stands between the quotes, and what follows.
fn split_string(text: &str) -> Result<(&str, &str), Refusal> {
    let bytes = text.as_bytes();
    let mut end = 1;
    loop {
        match bytes.get(end) {
            Some(b'"') => return Ok((&text[1..end], &text[end + 1..])),
            Some(b'\\') => end += 2,
            Some(_) => end += 1,
            None => return Err(Refusal::bad_request("data: not valid JSON")),
        }
    }
}

/// Compact JSON in the making, within the bounds.
#[derive(Default)]
pub(super) struct Compact {
    pub(super) text: String,
    depth: usize,
}

impl Compact {
    pub(super) fn open(&mut self, bracket: char) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > DATA_DEPTH {
            return Err(Refusal::bad_request(format!("data: must not be nested deeper than {DATA_DEPTH}")));
        }
        self.text.push(bracket);
        Ok(())
    }

    pub(super) fn close(&mut self, bracket: char) {
        self.depth = self.depth.saturating_sub(1);
        self.text.push(bracket);
    }

    pub(super) fn check_size(&self) -> Result<(), Refusal> {
        if self.text.len() > DATA_BYTES {
            return Err(Refusal::bad_request(format!("data: must have at most {DATA_BYTES} bytes as compact JSON")));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Data, Refusal> {
        self.check_size()?;
        Data::from_compact(self.text).map_err(|_| Refusal::bad_request("data: not valid JSON"))
    }

    /// A string, given as it stands between its quotes in JSON.
    fn escaped(&mut self, mut literal: &str) -> Result<(), Refusal> {
        self.text.push('"');
        while let Some(at) = literal.find('\\') {
            self.text.push_str(&literal[..at]);
            let (c, used) = unescape(&literal[at..])
                .ok_or_else(|| Refusal::bad_request("data: a string holds half of a surrogate pair"))?;
            self.put(c);
            self.check_size()?;
            literal = &literal[at + used..];
        }
        self.text.push_str(literal);
        self.text.push('"');
        self.check_size()
    }

    /// A string, given as what it means.
    pub(super) fn string(&mut self, value: &str) -> Result<(), Refusal> {
        self.text.push('"');
        for c in value.chars() {
            self.put(c);
        }
        self.text.push('"');
        self.check_size()
    }

    /// One character of a string in its shortest form.
    fn put(&mut self, c: char) {
        match c {
            '"' => self.text.push_str("\\\""),
            '\\' => self.text.push_str("\\\\"),
            '\u{8}' => self.text.push_str("\\b"),
            '\t' => self.text.push_str("\\t"),
            '\n' => self.text.push_str("\\n"),
            '\u{c}' => self.text.push_str("\\f"),
            '\r' => self.text.push_str("\\r"),
            c if c < ' ' => {
                let _ = write!(self.text, "\\u{:04x}", u32::from(c));
            }
            c => self.text.push(c),
        }
    }
}

/// What an escape at the start of `text` means and how many bytes it takes; `None` for half of a surrogate pair.
pub(super) fn unescape(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    let c = match *bytes.get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = unit(text.get(2..6)?)?;
            if !(0xd800..0xdc00).contains(&high) {
                return Some((char::from_u32(high)?, 6));
            }
            let low = unit(text.get(6..12)?.strip_prefix("\\u")?)?;
            if !(0xdc00..0xe000).contains(&low) {
                return None;
            }
            return Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12));
        }
        other => char::from(other),
    };
    Some((c, 2))
}

fn unit(hex: &str) -> Option<u32> {
    u32::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compacted(json: &str) -> Result<String, String> {
        let raw: &RawValue = serde_json::from_str(json).expect("valid JSON");
        compact(raw).map(|data| data.as_str().to_owned()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn whitespace_goes_and_everything_else_stays() {
        for (given, kept) in [
            (
                " { \"b\" : [ 1 , 2.50 , -0 , 1E400 , 123456789012345678901234567890 ] ,\n\"a\":null, \"a\":true } ",
                r#"{"b":[1,2.50,-0,1E400,123456789012345678901234567890],"a":null,"a":true}"#,
            ),
            (r#""a b  c""#, r#""a b  c""#),
            (r#""\u0041\/\u00e9\ud83d\ude00\u2028""#, "\"A/é😀\u{2028}\""),
            (r#""\u0000\u001F\b\f\n\r\t\"\\\u0022\u007f""#, "\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\\\\"\u{7f}\""),
            ("null", "null"),
            ("7", "7"),
        ] {
            assert_eq!(compacted(given).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#"{"\ud83dxxxxxx":1}"#,
            r#""\ud83d\n""#,
            r#""\ud83dé1234""#,
        ] {
            assert!(compacted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn size_is_counted_compact() {
        let fits = format!("\"{}\"", "\\u0061".repeat(4_094));
        assert_eq!(compacted(&fits).map(|text| text.len()), Ok(4_096));
        assert!(compacted(&format!("\"{}\"", "a".repeat(4_095))).is_err());
        assert!(compacted(&format!("[{}1]", " ".repeat(50_000))).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        assert!(compacted(&format!("{}{}", "[".repeat(32), "]".repeat(32))).is_ok());
        assert!(compacted(&format!("{}{}", "[".repeat(33), "]".repeat(33))).is_err());
        assert!(compacted(&format!("{}1{}", r#"{"a":"#.repeat(32), "}".repeat(32))).is_ok());
        assert!(compacted(&format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33))).is_err());
        // Brackets in strings are no nesting.
        assert!(compacted(&format!("\"{}\"", "[".repeat(100))).is_ok());
    }

    proptest! {
        #[test]
        fn strings_mean_the_same(value in any::<String>()) {
            let json = serde_json::to_string(&value).expect("a string");
            let out = compacted(&json);
            if json.len() <= DATA_BYTES {
                prop_assert_eq!(serde_json::from_str::<String>(&out.expect("fits")).expect("valid"), value);
            }
        }
    }
}
