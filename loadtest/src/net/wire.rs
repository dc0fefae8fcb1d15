//! RFC 6455 framing in the least that client and bare broadcaster need. The frames themselves are found and written by
//! [`roundtable_client::scan`]; their texts this program wrote itself, so a key can't appear inside one.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use sha1::{Digest, Sha1};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Any key is valid; a constant one has a constant answer to check.
const KEY: &str = "cm91bmR0YWJsZS1iZW5jaA==";
static ACCEPT: LazyLock<String> = LazyLock::new(|| accept(KEY));

/// The `Sec-WebSocket-Accept` that answers `key`.
pub fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// A client's upgrade request for `path`; `headers` are further whole lines, each with its line end. No compression is
/// offered: its cost is not what is measured.
pub fn upgrade_request(host: &str, path: &str, protocol: Option<&str>, headers: &str) -> String {
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{protocol}{headers}\r\n"
    )
}

/// Bytes of a complete head of an HTTP message in `bytes`, its empty line included.
pub fn http_head(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of header `name` (lower case) in an HTTP head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// Whether `head` accepts our [`upgrade_request`].
pub fn is_upgraded(head: &str) -> bool {
    head.starts_with("HTTP/1.1 101 ") && header(head, "sec-websocket-accept") == Some(ACCEPT.as_str())
}

/// Appends one whole frame; a client gives a `mask`, a server none.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload.len() {
        n @ 0..=125 => out.push(masked | n as u8),
        n @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(masked | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let Some(mask) = mask else { return out.extend_from_slice(payload) };
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask);
}

/// Masking is its own reverse.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

/// Where a frame lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub opcode: u8,
    pub last: bool,
    pub mask: Option<[u8; 4]>,
    pub start: usize,
    pub end: usize,
}

/// The frame at the start of `bytes`; `None`: not all of it is there.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, mut start) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        n => (u64::from(n), 2),
    };
    let mask = if second & 0x80 == 0 {
        None
    } else {
        start += 4;
        Some(*bytes.get(start - 4..start)?.first_chunk()?)
    };
    let end = start + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some(Head { opcode: first & 0x0f, last: first & 0x80 != 0, mask, start, end })
}

/// Appends a text of `bytes` that bears `stamp`, some number of nanoseconds.
pub fn stamped(out: &mut Vec<u8>, stamp: u64, bytes: usize) {
    use std::io::Write;
    let start = out.len();
    write!(out, "t={stamp:016};").expect("a Vec takes everything");
    out.resize(out.len().max(start + bytes), b'x');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_of_every_length_class_are_read_back_masked_or_not() {
        for mask in [None, Some([1, 2, 3, 4])] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let payload = vec![b'a'; length];
                let mut bytes = Vec::new();
                frame(&mut bytes, TEXT, &payload, mask);
                assert_eq!(head(&bytes[..bytes.len() - 1]), None);
                let found = head(&bytes).expect("whole");
                assert_eq!((found.opcode, found.last, found.mask, found.end), (TEXT, true, mask, bytes.len()));
                if let Some(mask) = mask {
                    unmask(&mut bytes[found.start..], mask);
                }
                assert_eq!(&bytes[found.start..found.end], &payload[..]);
            }
        }
    }

    #[test]
    fn a_stamped_text_has_its_length() {
        let mut text = Vec::new();
        stamped(&mut text, 17, 100);
        assert_eq!(text.len(), 100);
    }
}
