//! JSON that we made ourselves, into the same value in MessagePack.
//!
//! Keys keep their order. Integers within 64 bits stay integers; other numbers become the nearest double, which is what a
//! JSON reader in most languages would make of them. Input is trusted to be well-formed: what is not becomes nil.

use bytes::{BufMut, Bytes, BytesMut};

use super::data::unescape;

/// Deeper than anything we send: `data` has 32, around it are an entry, a list and a frame.
const DEPTH: u32 = 64;

/// The MessagePack form of one JSON value.
pub(super) fn to_msgpack(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len());
    let mut scanner = Scanner { text: std::str::from_utf8(json).unwrap_or("null"), at: 0 };
    scanner.value(&mut out, DEPTH);
    Bytes::from(out)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self, out: &mut Vec<u8>, depth: u32) {
        match self.peek() {
            Some(b'{') if depth > 0 => self.container(out, depth, b'}'),
            Some(b'[') if depth > 0 => self.container(out, depth, b']'),
            Some(b'"') => self.string(out),
            Some(b't') => self.word("true", 0xc3, out),
            Some(b'f') => self.word("false", 0xc2, out),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => self.word("null", 0xc0, out),
        }
    }

    fn container(&mut self, out: &mut Vec<u8>, depth: u32, close: u8) {
        let header = out.len();
        out.push(0);
        let mut n = 0;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b',' | b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    break;
                }
                None => break,
                Some(_) => {
                    if close == b'}' {
                        self.string(out);
                        while let Some(b':' | b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
                            self.at += 1;
                        }
                    }
                    let before = self.at;
                    self.value(out, depth - 1);
                    n += 1;
                    if self.at == before {
                        // Not JSON: end here rather than never.
                        self.at = self.text.len();
                    }
                }
            }
        }
        let mut size = [0; 5];
        let size = container_size(&mut size, n, close == b'}');
        out.splice(header..=header, size.iter().copied());
    }

    fn string(&mut self, out: &mut Vec<u8>) {
        self.at += 1;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
        if rest.as_bytes().get(end) != Some(&b'\\') {
            put_str(out, &rest[..end]);
            self.at += end + 1;
            return;
        }
        let mut value = String::with_capacity(rest.len().min(256));
        let mut rest = rest;
        while let Some(at) = rest.find(['"', '\\']) {
            value.push_str(&rest[..at]);
            self.at += at;
            rest = &rest[at..];
            if rest.starts_with('"') {
                break;
            }
            let (c, used) = unescape(rest).unwrap_or((char::REPLACEMENT_CHARACTER, rest.len().min(6)));
            value.push(c);
            self.at += used;
            rest = rest.get(used..).unwrap_or_default();
        }
        self.at += 1;
        put_str(out, &value);
    }

    fn number(&mut self, out: &mut Vec<u8>) {
        let rest = &self.text[self.at..];
        let end = rest
            .bytes()
            .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .unwrap_or(rest.len());
        let literal = &rest[..end];
        self.at += end;
        if let Ok(value) = literal.parse::<u64>() {
            put_unsigned(out, value);
        } else if let (Ok(value), true) = (literal.parse::<i64>(), literal != "-0") {
            put_negative(out, value);
        } else {
            out.push(0xcb);
            out.extend_from_slice(&literal.parse::<f64>().unwrap_or_default().to_be_bytes());
        }
    }

    fn word(&mut self, word: &str, marker: u8, out: &mut Vec<u8>) {
        out.push(marker);
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// The shortest header of a container of `n`, in `buffer`.
fn container_size(buffer: &mut [u8; 5], n: usize, map: bool) -> &[u8] {
    let (fix, short, long) = if map { (0x80, 0xde, 0xdf) } else { (0x90, 0xdc, 0xdd) };
    let length = array_header(n);
    match length {
        1 => buffer[0] = fix | n as u8,
        3 => {
            buffer[0] = short;
            buffer[1..3].copy_from_slice(&(n as u16).to_be_bytes());
        }
        _ => {
            buffer[0] = long;
            buffer[1..].copy_from_slice(&(n as u32).to_be_bytes());
        }
    }
    &buffer[..length]
}

fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn put_negative(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = i8::try_from(value) {
        if value < -32 {
            out.push(0xd0);
        }
        out.push(value as u8);
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes a string.
pub(super) fn put_str(out: &mut impl BufMut, value: &str) {
    let n = value.len();
    match str_header(n) {
        1 => out.put_u8(0xa0 | n as u8),
        2 => out.put_slice(&[0xd9, n as u8]),
        3 => {
            out.put_u8(0xda);
            out.put_u16(n as u16);
        }
        _ => {
            out.put_u8(0xdb);
            out.put_u32(n as u32);
        }
    }
    out.put_slice(value.as_bytes());
}

/// Bytes of the header of a string of `n` bytes.
pub(super) fn str_header(n: usize) -> usize {
    match n {
        0..=31 => 1,
        32..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}

/// Writes the header of an array of `n`.
pub(super) fn put_array(out: &mut BytesMut, n: usize) {
    out.put_slice(container_size(&mut [0; 5], n, false));
}

/// Bytes of the header of an array or map of `n`.
pub(super) fn array_header(n: usize) -> usize {
    match n {
        0..=15 => 1,
        16..=0xffff => 3,
        _ => 5,
    }
}
