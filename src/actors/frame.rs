//! Frames as they leave, over a WebSocket or as events of a stream: header and payload in one shared buffer, made once
//! per way of sending it.
//!
//! Invariant: a buffer made here is one whole unmasked frame, or one whole chunk of an HTTP/1.1 body with one event in it
//! (`text/event-stream`); the outbox never splits or joins them otherwise.

use bytes::{BufMut, Bytes, BytesMut};

use super::deflate;
use crate::metrics::Transport;
use crate::protocol::Encoding;

/// Payloads shorter than this are never compressed: it costs several times the send and gains nothing.
pub const DEFLATE_FROM: usize = 512;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// How a connection wants its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub encoding: Encoding,
    pub framing: Framing,
}

/// What is around a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// WebSocket frames.
    Plain,
    /// The same, compressed: permessage-deflate was negotiated.
    Deflate,
    /// Server-sent events in chunks, for payloads of one line (JSON).
    Events,
}

impl Framing {
    pub fn transport(self) -> Transport {
        match self {
            Self::Plain | Self::Deflate => Transport::WebSocket,
            Self::Events => Transport::Stream,
        }
    }
}

/// Why the server ends a connection: close code and a reason of at most 123 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    pub code: u16,
    pub reason: &'static str,
}

/// The ways to end, and all of them, so that a test can hold the documents against them.
macro_rules! closings {
    ($($name:ident = $code:literal, $reason:literal;)*) => {
        impl Closing {
            $(pub const $name: Self = Self { code: $code, reason: $reason };)*
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

closings! {
    GOODBYE = 1000, "";
    BREACH = 1002, "a breach of RFC 6455";
    NOT_UTF8 = 1007, "text that is not UTF-8";
    TOO_LARGE = 1009, "a frame above limits.frame_bytes";
    FAULT = 1011, "a fault on our side";
    TRY_AGAIN = 1013, "credentials can't be checked now";
    SECOND_HELLO = 4000, "a second hello";
    WRONG_KIND = 4000, "frames of the wrong kind for the subprotocol";
    REVOKED = 4003, "the session was revoked";
    BANNED = 4003, "banned from the server";
    DRAINING = 4200, "draining";
    STALLED = 4201, "no bytes taken for too long";
    NO_HEARTBEAT = 4202, "heartbeat missed";
    UNAUTHENTICATED = 4300, "unauthenticated";
    DISCONNECTED = 4300, "an administrator ended the session; sign in again";
    EXPIRED = 4301, "credentials expired";
}

/// A payload with its frames, plain and compressed, each made when first needed.
#[derive(Debug)]
pub struct Payload {
    encoding: Encoding,
    plain: Bytes,
    deflated: Option<Bytes>,
    event: Option<Bytes>,
}

impl Payload {
    pub fn new(encoding: Encoding, payload: &[u8]) -> Self {
        Self { encoding, plain: data(encoding, payload), deflated: None, event: None }
    }

    /// The frame for one kind of connection.
    pub fn frame(&mut self, framing: Framing) -> Bytes {
        let (encoding, plain) = (self.encoding, &self.plain);
        let payload = || &plain[payload_start(plain)..];
        match framing {
            Framing::Deflate if plain.len() >= DEFLATE_FROM => {
                self.deflated.get_or_insert_with(|| compressed(encoding, payload())).clone()
            }
            Framing::Plain | Framing::Deflate => plain.clone(),
            Framing::Events => self.event.get_or_insert_with(|| event("", payload())).clone(),
        }
    }
}

/// One data frame for one connection.
pub fn message(wire: Wire, payload: &[u8]) -> Bytes {
    match wire.framing {
        Framing::Deflate if payload.len() >= DEFLATE_FROM => compressed(wire.encoding, payload),
        Framing::Plain | Framing::Deflate => data(wire.encoding, payload),
        Framing::Events => event("", payload),
    }
}

/// Asks for a sign of life. A stream's client gives one in any case; what matters there is that proxies see bytes.
pub fn ping(framing: Framing) -> Bytes {
    match framing {
        Framing::Plain | Framing::Deflate => Bytes::from_static(&[FIN | PING, 0]),
        Framing::Events => Bytes::from_static(b"8\r\n: ping\n\n\r\n"),
    }
}

/// The first event of a stream: what it is called.
pub fn opened(stream: &str) -> Bytes {
    event("open", serde_json::json!({"stream": stream}).to_string().as_bytes())
}

/// One chunk with one event; `payload` must be one line.
fn event(name: &str, payload: &[u8]) -> Bytes {
    let line = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    let length = line.len() + "data: ".len() + payload.len() + "\n\n".len();
    let head = format!("{length:x}\r\n{line}data: ");
    let mut chunk = BytesMut::with_capacity(head.len() + payload.len() + 4);
    chunk.put_slice(head.as_bytes());
    chunk.put_slice(payload);
    chunk.put_slice(b"\n\n\r\n");
    chunk.freeze()
}

/// Answers a ping; `payload` as it came (at most 125 bytes).
pub fn pong(payload: &[u8]) -> Bytes {
    framed(FIN | PONG, payload)
}

/// The last words: a close frame, or an event and the end of the body.
pub fn close(framing: Framing, closing: Closing) -> Bytes {
    if framing == Framing::Events {
        let said = serde_json::json!({"code": closing.code, "reason": closing.reason}).to_string();
        return [&event("close", said.as_bytes())[..], b"0\r\n\r\n"].concat().into();
    }
    let mut payload = Vec::with_capacity(2 + closing.reason.len());
    payload.extend_from_slice(&closing.code.to_be_bytes());
    payload.extend_from_slice(closing.reason.as_bytes());
    framed(FIN | CLOSE, &payload)
}

/// The answer to a client's close: its own code, or none where it gave none.
pub fn close_echo(code: Option<u16>) -> Bytes {
    code.map_or_else(|| framed(FIN | CLOSE, &[]), |code| framed(FIN | CLOSE, &code.to_be_bytes()))
}

fn kind(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Json => TEXT,
        Encoding::MsgPack => BINARY,
    }
}

fn data(encoding: Encoding, payload: &[u8]) -> Bytes {
    framed(FIN | kind(encoding), payload)
}

fn compressed(encoding: Encoding, payload: &[u8]) -> Bytes {
    let packed = deflate::compress(payload);
    if packed.len() < payload.len() { framed(FIN | RSV1 | kind(encoding), &packed) } else { data(encoding, payload) }
}

fn framed(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(10 + payload.len());
    frame.put_u8(first);
    match payload.len() {
        length @ 0..126 => frame.put_u8(length as u8),
        length @ 126..=0xffff => {
            frame.put_u8(126);
            frame.put_u16(length as u16);
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

/// Where the payload of an unmasked frame starts.
fn payload_start(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::asyncapi::CLOSE_CODES;

    #[test]
    fn every_way_to_end_is_documented() {
        for closing in Closing::ALL {
            assert!(CLOSE_CODES.iter().any(|(code, ..)| *code == closing.code), "{closing:?}");
            assert!(closing.reason.len() <= 123, "{closing:?}");
        }
    }

    #[test]
    fn headers_have_the_three_lengths() {
        let json = Wire { encoding: Encoding::Json, framing: Framing::Plain };
        assert_eq!(&message(json, b"{}")[..], b"\x81\x02{}");
        let frame = message(json, &[b'a'; 126]);
        assert_eq!((&frame[..4], frame.len()), (&[0x81, 126, 0, 126][..], 130));
        let frame = message(Wire { encoding: Encoding::MsgPack, framing: Framing::Plain }, &[0; 70_000]);
        assert_eq!((&frame[..2], frame.len()), (&[0x82, 127][..], 70_010));
    }

    #[test]
    fn a_payload_is_compressed_once_and_only_when_it_is_long() {
        let mut short = Payload::new(Encoding::Json, b"{}");
        assert_eq!(short.frame(Framing::Deflate), short.frame(Framing::Plain));
        let mut long = Payload::new(Encoding::Json, &[b'a'; 4_000]);
        let packed = long.frame(Framing::Deflate);
        assert!(packed.len() < 100 && packed[0] == 0xc1);
        assert_eq!(packed.as_ptr(), long.frame(Framing::Deflate).as_ptr());
        assert_eq!(long.frame(Framing::Plain).len(), 4_004);
    }

    #[test]
    fn what_does_not_shrink_is_sent_plain() {
        let mut state = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(2_000)
        .collect();
        let frame = message(Wire { encoding: Encoding::MsgPack, framing: Framing::Deflate }, &noise);
        assert_eq!(frame[0], 0x82);
    }

    #[test]
    fn close_frames_say_why() {
        assert_eq!(&close(Framing::Plain, Closing::GOODBYE)[..], &[0x88, 2, 0x03, 0xe8]);
        assert_eq!(&close_echo(None)[..], &[0x88, 0]);
    }

    /// The events in a chunked body.
    fn unchunked(mut bytes: &[u8]) -> String {
        let mut body = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.windows(2).position(|two| two == b"\r\n").expect("a size");
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).expect("text"), 16).expect("a size");
            body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
            assert_eq!(&bytes[end + 2 + size..end + 4 + size], b"\r\n");
            bytes = &bytes[end + 4 + size..];
        }
        String::from_utf8(body).expect("text")
    }

    #[test]
    fn a_stream_is_made_of_whole_chunks_of_whole_events() {
        let wire = Wire { encoding: Encoding::Json, framing: Framing::Events };
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
        let mut shared = Payload::new(Encoding::Json, long.as_bytes());
        let first = shared.frame(Framing::Events);
        assert_eq!(first, message(wire, long.as_bytes()));
        assert_eq!(first.as_ptr(), shared.frame(Framing::Events).as_ptr(), "made once");
        assert_eq!(unchunked(&first), format!("data: {long}\n\n"));
        assert_eq!(unchunked(&ping(Framing::Events)), ": ping\n\n");
        assert_eq!(unchunked(&opened("n.0.1")), "event: open\ndata: {\"stream\":\"n.0.1\"}\n\n");
        let last = close(Framing::Events, Closing::DRAINING);
        assert_eq!(unchunked(&last), "event: close\ndata: {\"code\":4200,\"reason\":\"draining\"}\n\n");
        assert!(last.ends_with(b"\r\n0\r\n\r\n"), "and the body's end");
    }
}
