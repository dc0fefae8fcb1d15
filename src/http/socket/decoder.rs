//! WebSocket frames as they come in (RFC 6455, RFC 7692): bytes of the socket to whole messages.
//!
//! Invariants: holds nothing between two whole messages; never holds more than the limit and one read; control frames
//! pass between the fragments of a message. What is not exactly as the RFC says ends the connection.

use actix_http::ws::{CloseCode, CloseReason, Message};
use bytes::Bytes;
use bytestring::ByteString;

use crate::actors::deflate::{self, InflateError};
use crate::actors::frame::Closing;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const RSV1: u8 = 0x40;

/// The state of one connection's incoming side; small while nothing is half read.
pub struct Decoder {
    /// Largest message, as sent and as inflated, in bytes.
    limit: usize,
    deflate: bool,
    /// Bytes of a frame that is not complete yet.
    rest: Vec<u8>,
    /// A message of which more fragments are to come.
    open: Option<Box<Fragments>>,
}

struct Fragments {
    opcode: u8,
    compressed: bool,
    payload: Vec<u8>,
}

/// A frame's header.
struct Header {
    fin: bool,
    rsv1: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the header.
    size: usize,
    /// Bytes of the payload.
    length: usize,
}

impl Decoder {
    /// `limit`: `limits.frame_bytes`; `deflate`: whether permessage-deflate was negotiated.
    pub fn new(limit: usize, deflate: bool) -> Self {
        Self { limit, deflate, rest: Vec::new(), open: None }
    }

    /// Takes what the socket gave (and unmasks it in place) and hands out the messages in it, in order.
    ///
    /// # Errors
    /// How to close the connection; nothing may be fed after that. Messages before the breach were handed out.
    pub fn feed(&mut self, input: &mut [u8], mut message: impl FnMut(Message)) -> Result<(), Closing> {
        if self.rest.is_empty() {
            let used = self.frames(input, &mut message)?;
            self.rest.extend_from_slice(&input[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(input);
            let used = self.frames(&mut rest, &mut message)?;
            if used < rest.len() {
                rest.drain(..used);
                self.rest = rest;
            }
        }
        Ok(())
    }

    /// Gives how many bytes were used.
    fn frames(&mut self, bytes: &mut [u8], message: &mut impl FnMut(Message)) -> Result<usize, Closing> {
        let mut used = 0;
        while let Some(header) = self.header(&bytes[used..])? {
            let start = used + header.size;
            let Some(payload) = bytes.get_mut(start..start + header.length) else { break };
            unmask(payload, header.mask);
            used = start + header.length;
            if let Some(whole) = self.frame(&header, payload)? {
                message(whole);
            }
        }
        Ok(used)
    }

    /// The header at the front, once all of it is there; refuses what can be refused by the header alone.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Closing> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let (fin, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let control = opcode >= CLOSE;
        let starts = matches!(opcode, TEXT | BINARY);
        let rsv1 = reserved == RSV1;
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG)
            || (reserved != 0 && !(rsv1 && self.deflate && starts))
            || second & 0x80 == 0
            || (control && (!fin || second & 0x7f > 125))
            || (opcode == CONTINUATION && self.open.is_none())
            || (starts && self.open.is_some())
        {
            return Err(Closing::BREACH);
        }
        let (length, at) = match second & 0x7f {
            126 => {
                let Some(&[a, b]) = bytes.get(2..4).and_then(|bytes| bytes.first_chunk()) else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes([a, b]));
                if length < 126 {
                    return Err(Closing::BREACH);
                }
                (length, 4)
            }
            127 => {
                let Some(&length) = bytes.get(2..10).and_then(|bytes| bytes.first_chunk()) else { return Ok(None) };
                let length = u64::from_be_bytes(length);
                if length <= 0xffff || length >> 63 != 0 {
                    return Err(Closing::BREACH);
                }
                (length, 10)
            }
            length => (u64::from(length), 2),
        };
        let held = if control { 0 } else { self.open.as_ref().map_or(0, |open| open.payload.len()) };
        if length > (self.limit - held.min(self.limit)) as u64 && !control {
            return Err(Closing::TOO_LARGE);
        }
        let Some(&mask) = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) else { return Ok(None) };
        Ok(Some(Header { fin, rsv1, opcode, mask, size: at + 4, length: length as usize }))
    }

    fn frame(&mut self, header: &Header, payload: &[u8]) -> Result<Option<Message>, Closing> {
        match header.opcode {
            PING => Ok(Some(Message::Ping(Bytes::copy_from_slice(payload)))),
            PONG => Ok(Some(Message::Pong(Bytes::copy_from_slice(payload)))),
            CLOSE => close(payload).map(Some),
            CONTINUATION => {
                let Some(mut open) = self.open.take() else { return Err(Closing::BREACH) };
                open.payload.extend_from_slice(payload);
                if header.fin {
                    self.whole(open.opcode, open.compressed, &open.payload).map(Some)
                } else {
                    self.open = Some(open);
                    Ok(None)
                }
            }
            opcode if header.fin => self.whole(opcode, header.rsv1, payload).map(Some),
            opcode => {
                self.open = Some(Box::new(Fragments { opcode, compressed: header.rsv1, payload: payload.to_vec() }));
                Ok(None)
            }
        }
    }

    fn whole(&self, opcode: u8, compressed: bool, payload: &[u8]) -> Result<Message, Closing> {
        let payload = if compressed {
            Bytes::from(deflate::inflate(payload, self.limit).map_err(|error| match error {
                InflateError::TooLarge => Closing::TOO_LARGE,
                InflateError::Corrupt => Closing::BREACH,
            })?)
        } else {
            Bytes::copy_from_slice(payload)
        };
        if opcode == TEXT {
            ByteString::try_from(payload).map(Message::Text).map_err(|_| Closing::NOT_UTF8)
        } else {
            Ok(Message::Binary(payload))
        }
    }
}

fn close(payload: &[u8]) -> Result<Message, Closing> {
    let reason = match *payload {
        [] => None,
        [_] => return Err(Closing::BREACH),
        [a, b, ref text @ ..] => {
            let code = u16::from_be_bytes([a, b]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Closing::BREACH);
            }
            let text = std::str::from_utf8(text).map_err(|_| Closing::NOT_UTF8)?;
            Some(CloseReason { code: CloseCode::from(code), description: Some(text.to_owned()) })
        }
    };
    Ok(Message::Close(reason))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0xfe);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0xff);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    fn read(decoder: &mut Decoder, mut bytes: Vec<u8>) -> (Vec<Message>, Result<(), Closing>) {
        let mut messages = Vec::new();
        let result = decoder.feed(&mut bytes, |message| messages.push(message));
        (messages, result)
    }

    fn refused(deflate: bool, bytes: Vec<u8>) -> u16 {
        read(&mut Decoder::new(1_000, deflate), bytes).1.expect_err("a breach").code
    }

    #[test]
    fn the_example_of_the_rfc_is_hello() {
        let (messages, result) = read(&mut Decoder::new(1_000, false), client(0x81, b"Hello"));
        assert_eq!((messages, result), (vec![Message::Text("Hello".into())], Ok(())));
    }

    #[test]
    fn control_frames_pass_between_fragments() {
        let mut decoder = Decoder::new(1_000, false);
        let bytes = [client(0x01, b"Hel"), client(0x89, b"?"), client(0x80, b"lo"), client(0x8a, b"!")].concat();
        let (messages, result) = read(&mut decoder, bytes);
        assert_eq!(result, Ok(()));
        assert_eq!(
            messages,
            vec![
                Message::Ping(Bytes::from_static(b"?")),
                Message::Text("Hello".into()),
                Message::Pong(Bytes::from_static(b"!")),
            ]
        );
        assert!(decoder.open.is_none() && decoder.rest.capacity() == 0);
    }

    #[test]
    fn breaches_are_refused() {
        let mut bare = client(0x81, b"a");
        bare[1] &= 0x7f;
        for frame in [
            bare,
            client(0x83, b"a"),
            client(0x8b, b""),
            client(0x91, b"a"),
            client(0xa1, b"a"),
            client(0xc1, b"a"),
            client(0x80, b"a"),
            client(0x09, b""),
            client(0x89, &[0; 126]),
            client(0x88, &[3]),
            client(0x88, &[0x03, 0xed]),
            client(0x88, &[0x27, 0x10]),
            [client(0x01, b"a"), client(0x81, b"b")].concat(),
            vec![0x81, 0xfe, 0, 125, 0, 0, 0, 0],
            vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
            vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(refused(false, frame.clone()), 1002, "{frame:02x?}");
        }
        assert_eq!(refused(true, client(0xc1, &[0xff, 0xff])), 1002);
        assert_eq!(refused(true, [client(0x01, b"a"), client(0xc0, b"b")].concat()), 1002);
    }

    #[test]
    fn text_must_be_utf8_as_a_whole() {
        assert_eq!(refused(false, client(0x81, &[0xc3])), 1007);
        assert_eq!(refused(false, client(0x88, &[0x03, 0xe8, 0xc3])), 1007);
        let split = [client(0x01, &[0xc3]), client(0x80, &[0xa9])].concat();
        assert_eq!(read(&mut Decoder::new(1_000, false), split).0, vec![Message::Text("é".into())]);
    }

    #[test]
    fn too_large_is_said_by_the_header_alone() {
        let mut decoder = Decoder::new(1_000, false);
        assert_eq!(read(&mut decoder, client(0x81, &[b'a'; 1_001])[..8].to_vec()).1, Err(Closing::TOO_LARGE));
        let mut decoder = Decoder::new(1_000, false);
        assert_eq!(read(&mut decoder, client(0x81, &[b'a'; 1_000])).1, Ok(()));
        assert_eq!(refused(false, [client(0x01, &[b'a'; 600]), client(0x80, &[b'a'; 401])].concat()), 1009);
        assert_eq!(refused(true, client(0xc1, &deflate::compress(&[b'a'; 1_001]))), 1009);
    }

    #[test]
    fn compressed_messages_are_inflated() {
        let text = "again and again ".repeat(40);
        let packed = deflate::compress(text.as_bytes());
        let (head, tail) = packed.split_at(packed.len() / 2);
        for frames in [client(0xc1, &packed), [client(0x41, head), client(0x80, tail)].concat()] {
            let (messages, _) = read(&mut Decoder::new(1_000, true), frames);
            assert_eq!(messages, vec![Message::Text(text.as_str().into())]);
        }
        let (messages, _) = read(&mut Decoder::new(1_000, true), client(0x81, b"plain"));
        assert_eq!(messages, vec![Message::Text("plain".into())]);
    }

    proptest! {
        #[test]
        fn the_cuts_between_reads_change_nothing(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..6),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (payload, split) in &payloads {
                if *split {
                    bytes.extend(client(0x02, &payload[..payload.len() / 2]));
                    bytes.extend(client(0x80, &payload[payload.len() / 2..]));
                } else {
                    bytes.extend(client(0x82, payload));
                }
            }
            let mut decoder = Decoder::new(1_000, false);
            let mut messages = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            while !bytes.is_empty() {
                let rest = bytes.split_off(cuts.next().unwrap_or(1).min(bytes.len()));
                prop_assert_eq!(decoder.feed(&mut bytes, |message| messages.push(message)), Ok(()));
                bytes = rest;
            }
            let sent: Vec<Message> = payloads.into_iter().map(|(payload, _)| Message::Binary(payload.into())).collect();
            prop_assert_eq!(messages, sent);
            prop_assert!(decoder.rest.is_empty() && decoder.open.is_none());
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..2_000), deflate: bool) {
            let _ = read(&mut Decoder::new(1_000, deflate), noise);
        }
    }
}
