//! Frames found and written without parsing and building them, for programs that play tens of thousands of clients at
//! once: at fifty thousand frames a second a real parser would be most of what is measured.
//!
//! It is no way for an application: what is scanned has to be compact JSON whose texts hold no key (`"seq":` …) and no
//! escape, as whoever wrote the texts itself can promise; ids and texts are written as they are. Everything else uses
//! [`crate::frames`]. The words of the protocol stand here and there, and in no other crate.

use std::fmt::Display;
use std::io::Write;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::frames::Encoding;

/// Where a WebSocket is upgraded.
pub const PATH: &str = "/ws";

/// What to ask for there, for what is scanned and written here.
pub fn subprotocol() -> &'static str {
    Encoding::Json.subprotocol()
}

/// The `type` of frames, as [`string`] finds it after [`TYPE`].
pub mod types {
    pub const WELCOME: &[u8] = b"welcome";
    pub const OK: &[u8] = b"ok";
    pub const SUBSCRIBED: &[u8] = b"subscribed";
    pub const UNSUBSCRIBED: &[u8] = b"unsubscribed";
    pub const SENT: &[u8] = b"sent";
    pub const EVENTS: &[u8] = b"events";
    pub const HISTORY: &[u8] = b"history";
    pub const PRESENCE: &[u8] = b"presence";
    pub const TYPING: &[u8] = b"typing";
    pub const READ: &[u8] = b"read";
    pub const PONG: &[u8] = b"pong";
    pub const NOTICE: &[u8] = b"notice";
    pub const ERROR: &[u8] = b"error";
    /// Of a client.
    pub const HELLO: &[u8] = b"hello";
    pub const SUBSCRIBE: &[u8] = b"subscribe";
    pub const SEND: &[u8] = b"send";
}

/// The `verdict` by which a cursor left entries out.
pub const RESET: &[u8] = b"reset";

/// Codes of errors that a load generator tells apart.
pub mod codes {
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// What nobody who is a member may be told.
    pub const NO_MEMBER: [&str; 3] = ["forbidden", "not_found", "conflict"];
}

macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {
        $(pub static $name: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new($key));)*
    };
}
keys! {
    TYPE = b"\"type\":\"";
    REF = b"\"ref\":";
    SEQ = b"\"seq\":";
    HEAD = b"\"head\":";
    ROOM = b"\"room\":\"";
    ID = b"\"id\":\"";
    CODE = b"\"code\":\"";
    TEXT_KEY = b"\"text\":\"";
    TOKEN = b"\"token\":\"";
    RETRY = b"\"retry_after_ms\":";
    RETRYABLE = b"\"retryable\":true";
    RECONNECT_AFTER = b"\"reconnect_after_ms\":";
    JITTER = b"\"jitter_ms\":";
    BACKOFF_MAX = b"\"backoff_max_ms\":";
    VERDICT = b"\"verdict\":\"";
    DUPLICATE = b"\"duplicate\":true";
    MORE = b"\"more\":true";
    ENTRIES = b"\"events\":[";
    KIND = b"\"kind\":\"";
    USER = b"\"user\":\"";
    AT = b"\"at\":\"";
}

/// The string after `key`, as it stands on the wire.
#[inline]
pub fn string<'a>(json: &'a [u8], key: &Finder) -> Option<&'a [u8]> {
    let rest = &json[key.find(json)? + key.needle().len()..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

/// The integer after `key`.
#[inline]
pub fn number(json: &[u8], key: &Finder) -> Option<u64> {
    digits(&json[key.find(json)? + key.needle().len()..])
}

/// The integer that `bytes` start with.
#[inline]
pub fn digits(bytes: &[u8]) -> Option<u64> {
    let n = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=19).contains(&n).then(|| bytes[..n].iter().fold(0, |value, byte| value * 10 + u64::from(byte - b'0')))
}

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

/// Visits the entries of an `events` or `history` frame in their order; `false`: there is no list of them, or one could
/// not be read.
#[inline]
pub fn entries<'a>(json: &'a [u8], mut each: impl FnMut(Entry<'a>)) -> bool {
    let Some(at) = ENTRIES.find(json) else { return false };
    let mut rest = &json[at + ENTRIES.needle().len()..];
    while let [b'{', ..] = rest {
        let Some(end) = object(rest) else { return false };
        let Some(entry) = entry(&rest[..end]) else { return false };
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

fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let text = |key: &Finder| string(bytes, key);
    Some(Entry {
        seq: u32::try_from(number(bytes, &SEQ)?).ok()?,
        kind: text(&KIND)?,
        user: text(&USER)?,
        at: text(&AT)?,
        id: text(&ID).unwrap_or_default(),
        text: text(&TEXT_KEY).unwrap_or_default(),
    })
}

const TAKES: &str = "a Vec takes everything";

/// Appends a `hello`.
pub fn hello(out: &mut Vec<u8>, number: u64, client: &str, token: &str) {
    write!(out, r#"{{"type":"hello","ref":{number},"token":"{token}","client":"{client}"}}"#).expect(TAKES);
}

/// Appends a `join`.
pub fn join(out: &mut Vec<u8>, number: u64, room: &str) {
    write!(out, r#"{{"type":"join","ref":{number},"room":"{room}"}}"#).expect(TAKES);
}

/// Appends a `subscribe`: from behind the last entry seen, or from now on where none was.
pub fn subscribe(out: &mut Vec<u8>, number: u64, room: &str, seen: Option<u32>) {
    write!(out, r#"{{"type":"subscribe","ref":{number},"room":"{room}""#).expect(TAKES);
    if let Some(seq) = seen {
        write!(out, r#","after":{seq}"#).expect(TAKES);
    }
    out.push(b'}');
}

/// Appends a `send` whose text `text` appends; gives where the text begins.
pub fn send(out: &mut Vec<u8>, number: u64, room: &str, id: impl Display, text: impl FnOnce(&mut Vec<u8>)) -> usize {
    write!(out, r#"{{"type":"send","ref":{number},"room":"{room}","id":"{id}","text":""#).expect(TAKES);
    let from = out.len();
    text(out);
    out.extend_from_slice(b"\"}");
    from
}

/// What of a room's history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Newest,
    Before(u32),
    After(u32),
}

/// Appends a `history`.
pub fn history(out: &mut Vec<u8>, number: u64, room: &str, page: Page, limit: u32) {
    write!(out, r#"{{"type":"history","ref":{number},"room":"{room}""#).expect(TAKES);
    match page {
        Page::Newest => Ok(()),
        Page::Before(seq) => write!(out, r#","before":{seq}"#),
        Page::After(seq) => write!(out, r#","after":{seq}"#),
    }
    .expect(TAKES);
    write!(out, r#","limit":{limit}}}"#).expect(TAKES);
}

/// Appends a `typing`.
pub fn typing(out: &mut Vec<u8>, room: &str) {
    write!(out, r#"{{"type":"typing","room":"{room}","active":true}}"#).expect(TAKES);
}

/// Appends a `read`.
pub fn read(out: &mut Vec<u8>, room: &str, seq: u32) {
    write!(out, r#"{{"type":"read","room":"{room}","seq":{seq}}}"#).expect(TAKES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{ClientFrame, Encoding, Kind, ServerFrame, decode};

    /// What is written by hand is what the types say.
    #[test]
    fn frames_written_here_are_the_protocol_s() {
        let room = || "r".to_owned();
        let text = |out: &mut Vec<u8>| out.extend_from_slice(b"hi");
        let pages = [Page::Newest, Page::Before(7), Page::After(7)];
        let bounds = [(None, None), (Some(7), None), (None, Some(7))];
        type Writer<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
        let hello_client = || Some("c/1".to_owned());
        let mut all: Vec<(Writer, ClientFrame)> = vec![
            (
                Box::new(|out| hello(out, 1, "c/1", "t")),
                ClientFrame::Hello { r#ref: None, token: Some("t".into()), client: hello_client() },
            ),
            (Box::new(|out| join(out, 1, "r")), ClientFrame::Join { r#ref: None, room: room() }),
            (Box::new(|out| subscribe(out, 1, "r", None)), ClientFrame::subscribe("r", None, None)),
            (Box::new(|out| subscribe(out, 1, "r", Some(3))), ClientFrame::subscribe("r", Some(3), None)),
            (
                Box::new(|out| {
                    let _from = send(out, 1, "r", "i-1", text);
                }),
                ClientFrame::Send {
                    r#ref: None,
                    room: room(),
                    id: "i-1".into(),
                    text: "hi".into(),
                    reply_to: None,
                    data: None,
                },
            ),
        ];
        for (page, (before, after)) in pages.into_iter().zip(bounds) {
            let frame = ClientFrame::history("r", before, after, Some(50));
            all.push((Box::new(move |out| history(out, 1, "r", page, 50)), frame));
        }
        for (write, frame) in all {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(decode::<ClientFrame>(&out, Encoding::Json).expect("a frame"), frame.with_ref(1));
        }
        let mut out = Vec::new();
        typing(&mut out, "r");
        let frame: ClientFrame = decode(&out, Encoding::Json).expect("a frame");
        assert_eq!(frame, ClientFrame::Typing { r#ref: None, room: room(), active: true });
        out.clear();
        read(&mut out, "r", 9);
        let frame: ClientFrame = decode(&out, Encoding::Json).expect("a frame");
        assert_eq!(frame, ClientFrame::Read { r#ref: None, room: room(), seq: 9 });
    }

    /// What is found by scanning is what parsing finds.
    #[test]
    fn fields_found_here_are_those_that_parsing_finds() {
        let json = br#"{"type":"events","room":"r","events":[{"seq":1,"kind":"message","user":"bob","at":"2026","id":"i","text":"a {\" }","data":{"x":{}}},{"seq":2,"kind":"delete","user":"al","at":"2027","target":1}]}"#;
        let ServerFrame::Events { room, events } = decode(json, Encoding::Json).expect("a frame") else {
            panic!("no events")
        };
        assert_eq!((string(json, &TYPE), string(json, &ROOM)), (Some(types::EVENTS), Some(room.as_bytes())));
        let mut found = Vec::new();
        assert!(entries(json, |entry| found.push(entry)));
        assert_eq!(found.len(), events.len());
        for (found, entry) in found.iter().zip(&events) {
            assert_eq!(
                (u64::from(found.seq), found.user, found.at),
                (entry.seq, entry.user.as_bytes(), entry.at.as_bytes())
            );
        }
        assert!(matches!(&events[0].kind, Kind::Message(message) if message.id.as_bytes() == found[0].id));
        assert_eq!((found[1].kind, found[1].id, found[1].text), (&b"delete"[..], &b""[..], &b""[..]));
        let sent = br#"{"type":"sent","ref":7,"room":"r","seq":12}"#;
        assert_eq!((number(sent, &REF), number(sent, &SEQ), number(sent, &HEAD)), (Some(7), Some(12), None));
        for cut in [&b"{}"[..], br#"{"events":[{"seq":1]}"#, br#"{"events":[{"seq":1}"#, br#"{"events":["#] {
            assert!(!entries(cut, |_| ()));
        }
    }
}
