//! A session as a stream of server-sent events, by hand: an HTTP/1.1 answer read chunk by chunk (and only when the test
//! reads), and posts for what its client says, each of which may go to another node.

use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::api::{Answer, Api};
use super::node::Node;

/// Times that a post is tried which the server asks to repeat.
const TRIES: usize = 40;

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `message` where it had no name.
    pub name: String,
    pub data: Value,
}

/// An open stream.
pub struct EventStream {
    /// What the event `open` said.
    pub id: String,
    /// Its answer's head, in lower case.
    pub head: String,
    /// Comments that came in so far.
    pub comments: usize,
    tcp: TcpStream,
    raw: Vec<u8>,
    body: String,
    /// The last chunk has come.
    complete: bool,
    /// `http://…` of the nodes that posts go to, the next one first.
    posts_to: VecDeque<String>,
    posted: u64,
}

/// An answer that is no stream.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl EventStream {
    /// Opens a stream at `base` (`http://host:port`), with these header lines, each ending in CRLF.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn open(base: &str, headers: &str) -> Result<Self, Refused> {
        let address = base.strip_prefix("http://").expect("plain HTTP");
        let mut tcp = TcpStream::connect(address).await.expect("it listens");
        let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { &format!("Host: {address}\r\n") };
        let request = format!("GET /api/v1/stream HTTP/1.1\r\n{host}Accept: text/event-stream\r\n{headers}\r\n");
        tcp.write_all(request.as_bytes()).await.expect("written");
        let mut stream = Self {
            id: String::new(),
            head: String::new(),
            comments: 0,
            tcp,
            raw: Vec::new(),
            body: String::new(),
            complete: false,
            posts_to: [base.to_owned()].into(),
            posted: 0,
        };
        let end = loop {
            if let Some(at) = stream.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(stream.more().await, "no answer: {}", String::from_utf8_lossy(&stream.raw));
        };
        let rest = stream.raw.split_off(end);
        stream.head = String::from_utf8(std::mem::replace(&mut stream.raw, rest)).expect("text").to_ascii_lowercase();
        let status: u16 = stream.head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        if status != 200 {
            let length = stream.head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            while stream.raw.len() < length && stream.more().await {}
            let body = serde_json::from_slice(&stream.raw).unwrap_or(Value::Null);
            return Err(Refused { status, head: stream.head, body });
        }
        assert!(stream.head.contains("\r\ntransfer-encoding: chunked\r\n"), "{}", stream.head);
        Ok(stream)
    }

    /// As `user` with a JWT, greeted by the event `open`.
    pub async fn of(base: &str, user: &str) -> Self {
        let headers = format!("Authorization: Bearer {}\r\n", super::tokens::of(user));
        let mut stream = Self::open(base, &headers).await.unwrap_or_else(|refused| panic!("{refused:?}"));
        stream.greeted().await;
        stream
    }

    /// Takes the event `open`.
    pub async fn greeted(&mut self) {
        let open = super::within("the event open", self.next()).await.expect("an event");
        assert_eq!(open.name, "open", "{open:?}");
        self.id = open.data["stream"].as_str().expect("a name").to_owned();
    }

    /// From now on posts go to these nodes in turn.
    pub fn posts_to(&mut self, nodes: &[&Node]) {
        self.posts_to = nodes.iter().map(|node| node.http()).collect();
    }

    /// The next event; `None` where the connection ended. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.body.find("\n\n") {
                let rest = self.body.split_off(end + 2);
                let text = std::mem::replace(&mut self.body, rest);
                match event(text.trim_end_matches('\n')) {
                    Some(event) => return Some(event),
                    None => self.comments += 1,
                }
            } else if !self.unchunk() && (self.complete || !self.more().await) {
                return None;
            }
        }
    }

    /// Whether the body ended as it should, by its last chunk.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Brings one chunk into the body.
    fn unchunk(&mut self) -> bool {
        let Some(at) = self.raw.windows(2).position(|two| two == b"\r\n") else { return false };
        let size = std::str::from_utf8(&self.raw[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.unwrap_or_else(|| panic!("a chunk's size: {:?}", &self.raw[..at]));
        let Some(chunk) = self.raw.get(at + 2..at + 4 + size) else { return false };
        let (chunk, end) = chunk.split_at(size);
        assert_eq!(end, b"\r\n");
        // A chunk is whole events, so its text is whole too.
        self.body += std::str::from_utf8(chunk).expect("UTF-8");
        self.raw.drain(..at + 4 + size);
        self.complete = size == 0;
        true
    }

    async fn more(&mut self) -> bool {
        matches!(self.tcp.read_buf(&mut self.raw).await, Ok(n) if n > 0)
    }

    // ----------------------------------------------------------------------------------------------------- posts

    /// Posts frames under the next number, again and again while the server asks for that; the last status.
    pub async fn post(&mut self, frames: &[Value]) -> u16 {
        self.posted += 1;
        let mut status = 0;
        for _ in 0..TRIES {
            let base = self.posts_to.front().cloned().expect("a node");
            self.posts_to.rotate_left(1);
            let answer = Self::posting(&base, &self.id, &json!({"n": self.posted, "frames": frames})).await;
            status = answer.status;
            if !matches!(status, 429 | 503) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        status
    }

    /// The number of the last post.
    pub fn posted(&self) -> u64 {
        self.posted
    }

    /// One post to `base` as it is.
    pub async fn posting(base: &str, id: &str, body: &Value) -> Answer {
        let headers = [("X-Roundtable-Stream", id)];
        Api::with(base, None).call(reqwest::Method::POST, "stream", Some(body.clone()), &headers).await
    }
}

fn event(text: &str) -> Option<Event> {
    let (mut name, mut data) = ("message", None);
    for line in text.split('\n') {
        match line.split_once(": ") {
            Some(("event", value)) => name = value,
            Some(("data", value)) => data = Some(value),
            Some(("", _)) => {}
            _ => panic!("a line that is none of ours: {line:.200}"),
        }
    }
    let data = serde_json::from_str(data?).unwrap_or_else(|_| panic!("an event without JSON: {text:.200}"));
    Some(Event { name: name.to_owned(), data })
}
