//! Reading a MessagePack frame.
//!
//! Invariants: nothing is allocated by what a header claims; nesting costs no stack. A value that the contract does not
//! allow (binary, extension, NaN, infinity, a key that is no text) is noted as the frame's fault while reading goes on, so
//! that `ref` can still be answered.

use std::fmt::Write;

use super::data::Compact;
use super::request::{Field, Fields, Raw};
use crate::entry::Data;
use crate::refusal::Refusal;

/// Splits a frame; the message is for the client.
pub(super) fn fields(frame: &[u8]) -> Result<Fields<'_>, String> {
    let mut reader = Reader { rest: frame, fault: None };
    let mut fields = Fields::default();
    let Some(first) = reader.token() else { return Err(NOT_VALID.to_owned()) };
    let Token::Map(pairs) = first else { return Err("a frame must be one object".to_owned()) };
    for _ in 0..pairs {
        let key = reader.value().ok_or(NOT_VALID)?;
        let field = match (Reader { rest: key, fault: None }).token() {
            Some(Token::Str(key)) => Field::of(key),
            _ => {
                reader.fault = Some(KEYS);
                None
            }
        };
        let value = reader.value().ok_or(NOT_VALID)?;
        if let Some(field) = field {
            fields.set(field, Raw::MsgPack(value));
        }
    }
    if !reader.rest.is_empty() {
        return Err("a frame must be one MessagePack map with nothing behind it".to_owned());
    }
    fields.fault = reader.fault;
    Ok(fields)
}

const NOT_VALID: &str = "not valid MessagePack: cut short, or an unknown marker";
const KEYS: &str = "MessagePack: keys must be text";
const BINARY: &str = "MessagePack: bin and ext are not allowed";
const NUMBERS: &str = "MessagePack: NaN and infinity are not allowed";
const UNICODE: &str = "MessagePack: a string is not valid UTF-8";

/// The string that a raw value is.
pub(super) fn string(raw: &[u8]) -> Option<&str> {
    match (Reader { rest: raw, fault: None }).token()? {
        Token::Str(value) => Some(value),
        _ => None,
    }
}

/// The integer that a raw value is. Whole floats count: some encoders write integers beyond 32 bits so.
pub(super) fn integer(raw: &[u8]) -> Option<u64> {
    match (Reader { rest: raw, fault: None }).token()? {
        Token::Unsigned(value) => Some(value),
        Token::Float(value) if value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value) => {
            Some(value as u64)
        }
        _ => None,
    }
}

/// The `data` of a message as compact JSON.
pub(super) fn data(raw: &[u8]) -> Result<Data, Refusal> {
    let mut reader = Reader { rest: raw, fault: None };
    let mut out = Compact::default();
    json(&mut reader, &mut out)?;
    out.finish()
}

/// Recursion is bounded by [`Compact::open`].
fn json(reader: &mut Reader<'_>, out: &mut Compact) -> Result<(), Refusal> {
    match reader.token().ok_or_else(|| Refusal::bad_request(NOT_VALID))? {
        Token::Nil => out.text.push_str("null"),
        Token::Bool(value) => out.text.push_str(if value { "true" } else { "false" }),
        Token::Unsigned(value) => {
            let _ = write!(out.text, "{value}");
        }
        Token::Negative(value) => {
            let _ = write!(out.text, "{value}");
        }
        Token::Float(value) => {
            let number = serde_json::Number::from_f64(value).ok_or_else(|| Refusal::bad_request(NUMBERS))?;
            let _ = write!(out.text, "{number}");
        }
        Token::Str(value) => out.string(value)?,
        Token::Array(items) => {
            out.open('[')?;
            for i in 0..items {
                if i > 0 {
                    out.text.push(',');
                }
                json(reader, out)?;
            }
            out.close(']');
        }
        Token::Map(pairs) => {
            out.open('{')?;
            for i in 0..pairs {
                if i > 0 {
                    out.text.push(',');
                }
                let Some(Token::Str(key)) = reader.token() else { return Err(Refusal::bad_request(KEYS)) };
                out.string(key)?;
                out.text.push(':');
                json(reader, out)?;
            }
            out.close('}');
        }
        Token::Other => return Err(Refusal::bad_request(BINARY)),
    }
    out.check_size()
}

enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    Float(f64),
    Str(&'a str),
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
    /// Not allowed; noted in `fault`.
    Other,
}

struct Reader<'a> {
    rest: &'a [u8],
    /// What is not allowed here though it is MessagePack.
    fault: Option<&'static str>,
}

impl<'a> Reader<'a> {
    /// Passes over one value and gives its bytes; `None`: not MessagePack.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        // What is still open: values to come, keys counted too, and whether it is a map.
        let mut open: Vec<(u64, bool)> = Vec::new();
        loop {
            let token = self.token()?;
            if let Some((left, map)) = open.last_mut() {
                // In a map an even number of values to come means that this one is a key.
                if *map && *left % 2 == 0 && !matches!(token, Token::Str(_)) {
                    self.fault = Some(KEYS);
                }
                *left -= 1;
            }
            match token {
                Token::Array(items) if items > 0 => open.push((u64::from(items), false)),
                Token::Map(pairs) if pairs > 0 => open.push((2 * u64::from(pairs), true)),
                _ => {}
            }
            while let Some((0, _)) = open.last() {
                open.pop();
            }
            if open.is_empty() {
                return Some(&start[..start.len() - self.rest.len()]);
            }
        }
    }

    /// The next marker with its scalar; `None`: cut short or the one marker that MessagePack leaves unused.
    fn token(&mut self) -> Option<Token<'a>> {
        let marker = self.number::<1>()? as u8;
        Some(match marker {
            0x00..=0x7f => Token::Unsigned(u64::from(marker)),
            0x80..=0x8f => Token::Map(u32::from(marker & 0x0f)),
            0x90..=0x9f => Token::Array(u32::from(marker & 0x0f)),
            0xa0..=0xbf => self.text(u64::from(marker & 0x1f))?,
            0xc0 => Token::Nil,
            0xc1 => return None,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => self.binary::<1>(0)?,
            0xc5 => self.binary::<2>(0)?,
            0xc6 => self.binary::<4>(0)?,
            0xc7 => self.binary::<1>(1)?,
            0xc8 => self.binary::<2>(1)?,
            0xc9 => self.binary::<4>(1)?,
            0xca => {
                let value = f32::from_bits(self.number::<4>()? as u32);
                self.float(f64::from(value))
            }
            0xcb => {
                let value = f64::from_bits(self.number::<8>()?);
                self.float(value)
            }
            0xcc => Token::Unsigned(self.number::<1>()?),
            0xcd => Token::Unsigned(self.number::<2>()?),
            0xce => Token::Unsigned(self.number::<4>()?),
            0xcf => Token::Unsigned(self.number::<8>()?),
            0xd0 => signed(i64::from(self.number::<1>()? as u8 as i8)),
            0xd1 => signed(i64::from(self.number::<2>()? as u16 as i16)),
            0xd2 => signed(i64::from(self.number::<4>()? as u32 as i32)),
            0xd3 => signed(self.number::<8>()? as i64),
            0xd4..=0xd8 => {
                self.take(1 + (1 << (marker - 0xd4)))?;
                self.fault = Some(BINARY);
                Token::Other
            }
            0xd9 => {
                let length = self.number::<1>()?;
                self.text(length)?
            }
            0xda => {
                let length = self.number::<2>()?;
                self.text(length)?
            }
            0xdb => {
                let length = self.number::<4>()?;
                self.text(length)?
            }
            0xdc => Token::Array(self.number::<2>()? as u32),
            0xdd => Token::Array(self.number::<4>()? as u32),
            0xde => Token::Map(self.number::<2>()? as u32),
            0xdf => Token::Map(self.number::<4>()? as u32),
            0xe0..=0xff => Token::Negative(i64::from(marker as i8)),
        })
    }

    fn text(&mut self, length: u64) -> Option<Token<'a>> {
        let bytes = self.take(usize::try_from(length).ok()?)?;
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => Token::Str(text),
            Err(_) => {
                self.fault = Some(UNICODE);
                Token::Other
            }
        })
    }

    /// A length of `N` bytes, then as many bytes and `more`.
    fn binary<const N: usize>(&mut self, more: usize) -> Option<Token<'a>> {
        let length = usize::try_from(self.number::<N>()?).ok()?;
        self.take(length.checked_add(more)?)?;
        self.fault = Some(BINARY);
        Some(Token::Other)
    }

    fn float(&mut self, value: f64) -> Token<'a> {
        if !value.is_finite() {
            self.fault = Some(NUMBERS);
        }
        Token::Float(value)
    }

    /// A big-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Option<u64> {
        Some(self.take(N)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }
}

fn signed<'a>(value: i64) -> Token<'a> {
    u64::try_from(value).map_or(Token::Negative(value), Token::Unsigned)
}
