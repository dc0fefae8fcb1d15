//! A person at a WebSocket, or a stream where WebSockets are blocked: verbs for what people do, and a check of every `events` frame that comes in.
//!
//! Invariant: for each subscription the entries that arrive are consecutive from the place where its cursor started;
//! a gap, a repeat or a wrong order fails the test where it is seen, whatever the test is about.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::SinkExt;
use roundtable_client::Connection;
use roundtable_client::closing::{BROKEN, Ending};
use roundtable_client::connection::Socket;
pub use roundtable_client::frames::Encoding;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::event_stream::EventStream;
use super::node::Node;
use super::{tokens, within};

/// How a connection's frames come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Stream,
}

/// The connection itself.
enum Line {
    WebSocket(Box<Connection>),
    Stream(Box<EventStream>),
}

impl Line {
    /// The next frame, or how it ended; events of a stream as what they are at a WebSocket.
    async fn next(&mut self) -> Result<Value, Ending> {
        let stream = match self {
            Self::WebSocket(connection) => return connection.receive().await,
            Self::Stream(stream) => stream,
        };
        let event = stream.next().await.ok_or_else(|| Ending::broken("the stream ended"))?;
        match &*event.name {
            "message" => Ok(event.data),
            "close" => {
                let code = event.data["code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a code");
                let reason = event.data["reason"].as_str().expect("a reason");
                Err(Ending { code, ..Ending::broken(reason) })
            }
            name => panic!("an event {name}"),
        }
    }

    /// One that is closed takes it silently.
    async fn send(&mut self, frame: &Value) {
        match self {
            Self::WebSocket(connection) => drop(connection.send(frame).await),
            Self::Stream(stream) => {
                let status = stream.post(std::slice::from_ref(frame)).await;
                assert!(matches!(status, 204 | 404), "a post was answered {status}");
            }
        }
    }
}

/// What one frame was.
enum Step {
    /// Entries, checked and kept.
    Events,
    Frame(Value),
}

/// One connection and what came in over it.
pub struct Person {
    pub user: String,
    line: Line,
    next_ref: u64,
    /// Frames that nobody asked for yet; no `events`.
    inbox: VecDeque<Value>,
    /// Everything that arrived as `events`, by room, since the connection began.
    seen: HashMap<String, Vec<Value>>,
    /// The `seq` that must come next, by room.
    next_seq: HashMap<String, u64>,
    /// `subscribe` requests that are not answered yet, by `ref`.
    subscribing: HashMap<u64, Value>,
    closed: Option<u16>,
}

/// Whether a frame is a presence that names `user` among those who `joined` or `left`.
pub fn names(frame: &Value, key: &str, user: &str) -> bool {
    frame["type"] == "presence" && frame[key].as_array().is_some_and(|users| users.iter().any(|u| u == user))
}

/// Makes a public room.
pub async fn makes(node: &Node, maker: &str, room: &str) {
    node.api(maker).post("rooms", json!({"id": room, "kind": "public"})).await.expect(201);
}

impl Person {
    /// Connected to `node` and greeted, with a JWT in `hello`.
    pub async fn at(node: &Node, user: &str) -> Self {
        Self::at_url(&node.ws_url(), user, Encoding::Json).await
    }

    /// The same at any URL and in any encoding.
    pub async fn at_url(url: &str, user: &str, encoding: Encoding) -> Self {
        let mut person = Self::upgraded(url, user, encoding, &[]).await.expect("the upgrade");
        person.says_hello().await;
        person
    }

    /// Connected and greeted over either transport; a stream by the credentials of its request.
    pub async fn over(transport: Transport, node: &Node, user: &str) -> Self {
        Self::over_posting(transport, node, user, &[node]).await
    }

    /// The same; a stream's posts go to `nodes` in turn.
    pub async fn over_posting(transport: Transport, node: &Node, user: &str, nodes: &[&Node]) -> Self {
        if transport == Transport::WebSocket {
            return Self::at(node, user).await;
        }
        let mut stream = EventStream::of(&node.http(), user).await;
        stream.posts_to(nodes);
        let mut person = Self::on_stream(stream, user);
        person.says_hello().await;
        person
    }

    /// The stream beneath, where it is one.
    pub fn stream(&self) -> &EventStream {
        match &self.line {
            Line::Stream(stream) => stream,
            Line::WebSocket(_) => panic!("{} is at a WebSocket", self.user),
        }
    }

    /// Connected, without a `hello` yet. `headers` go with the upgrade; `user` is just what the test calls them.
    ///
    /// # Errors
    /// What the server answered instead of the upgrade.
    pub async fn upgraded(
        url: &str,
        user: &str,
        encoding: Encoding,
        headers: &[(&'static str, String)],
    ) -> Result<Self, tungstenite::Error> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.clone())).collect();
        let opening = Connection::open(url, encoding, &headers);
        let connection = within("an answer to the upgrade", opening).await?;
        Ok(Self::on_line(Line::WebSocket(Box::new(connection)), user))
    }

    /// Around a connection that is there already.
    pub fn on(socket: Socket, user: &str, encoding: Encoding) -> Self {
        Self::on_line(Line::WebSocket(Box::new(Connection::on(socket, encoding))), user)
    }

    /// Around a stream that was greeted.
    pub fn on_stream(stream: EventStream, user: &str) -> Self {
        Self::on_line(Line::Stream(Box::new(stream)), user)
    }

    fn on_line(line: Line, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            line,
            next_ref: 0,
            inbox: VecDeque::new(),
            seen: HashMap::new(),
            next_seq: HashMap::new(),
            subscribing: HashMap::new(),
            closed: None,
        }
    }

    // ------------------------------------------------------------------------------------------------------ verbs

    /// `hello` with a JWT of theirs; gives the `welcome`.
    pub async fn says_hello(&mut self) -> Value {
        let token = tokens::of(&self.user);
        let welcome = self.does(json!({"type": "hello", "token": token, "client": "test/1"})).await;
        assert_eq!(welcome["type"], "welcome");
        assert_eq!(welcome["user"]["id"], *self.user);
        welcome
    }

    /// Becomes a member and subscribes at the head.
    pub async fn joins(&mut self, room: &str) -> Value {
        self.does(json!({"type": "join", "room": room})).await;
        self.does(json!({"type": "subscribe", "room": room})).await
    }

    /// Makes a public room (so owns it) and subscribes at its head.
    pub async fn opens(&mut self, node: &Node, room: &str) {
        makes(node, &self.user, room).await;
        self.does(json!({"type": "subscribe", "room": room})).await;
    }

    /// Subscribes behind `after`.
    pub async fn resumes(&mut self, room: &str, after: u64) -> Value {
        self.does(json!({"type": "subscribe", "room": room, "after": after})).await
    }

    /// Sends a message that is new; gives its `seq`.
    pub async fn sends(&mut self, room: &str, id: &str, text: &str) -> u64 {
        let sent = self.does(json!({"type": "send", "room": room, "id": id, "text": text})).await;
        assert_eq!(sent["type"], "sent");
        assert_eq!((&sent["room"], &sent["id"]), (&json!(room), &json!(id)));
        assert_eq!(sent["duplicate"], false, "{sent}");
        sent["seq"].as_u64().expect("a seq")
    }

    /// Sends a message that must be there already; gives its `seq`.
    pub async fn repeats(&mut self, room: &str, id: &str, text: &str) -> u64 {
        let sent = self.does(json!({"type": "send", "room": room, "id": id, "text": text})).await;
        assert_eq!(sent["duplicate"], true, "{sent}");
        sent["seq"].as_u64().expect("a seq")
    }

    /// Waits until the message `seq` of `room` has arrived, and it says `text`.
    pub async fn sees(&mut self, room: &str, seq: u64, text: &str) -> Value {
        let entry = self.sees_entry(room, seq).await;
        assert_eq!(entry["text"], text, "{entry}");
        entry
    }

    /// Waits until the entry `seq` of `room` has arrived.
    pub async fn sees_entry(&mut self, room: &str, seq: u64) -> Value {
        loop {
            let found = self.seen.get(room).and_then(|log| log.iter().rev().find(|entry| entry["seq"] == seq));
            if let Some(entry) = found {
                return entry.clone();
            }
            let what = format!("{} sees entry {seq} of {room}", self.user);
            match within(&what, self.step()).await {
                Some(Step::Events) => {}
                Some(Step::Frame(frame)) => self.inbox.push_back(frame),
                None => panic!("waiting for: {what}, but the connection closed with {:?}", self.closed),
            }
        }
    }

    /// The entries of `room` that have arrived so far, over all subscriptions of this connection.
    pub fn seen(&self, room: &str) -> &[Value] {
        self.seen.get(room).map_or(&[], Vec::as_slice)
    }

    /// Lets go of the entries of `room` that have arrived so far, where a test is about very many.
    pub fn forgets(&mut self, room: &str) {
        self.seen.remove(room);
    }

    /// One page of history.
    pub async fn history(&mut self, room: &str, bounds: Value) -> Value {
        let mut request = json!({"type": "history", "room": room});
        for (key, value) in bounds.as_object().expect("an object") {
            request[key] = value.clone();
        }
        let page = self.does(request).await;
        assert_eq!(page["type"], "history");
        page
    }

    // ----------------------------------------------------------------------------------- requests and their answers

    /// Sends a request and waits for its answer, whatever it is.
    pub async fn asks(&mut self, request: Value) -> Value {
        let n = self.starts(request).await;
        self.answer(n).await
    }

    /// Sends a request that must succeed; gives the answer.
    pub async fn does(&mut self, request: Value) -> Value {
        let shown = request.to_string();
        let answer = self.asks(request).await;
        assert_ne!(answer["type"], "error", "{} asked {shown:.200} and got {answer}", self.user);
        answer
    }

    /// Sends a request that must be refused with `code`; gives the error.
    pub async fn refused(&mut self, request: Value, code: &str) -> Value {
        let shown = request.to_string();
        let answer = self.asks(request).await;
        let refused = answer["type"] == "error" && answer["code"] == code;
        assert!(refused, "{} asked {shown:.200}, expected {code} and got {answer}", self.user);
        let retryable = matches!(code, "rate_limited" | "overloaded" | "unavailable" | "internal");
        assert_eq!(answer["retryable"], retryable, "{answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
        if matches!(code, "rate_limited" | "overloaded" | "unavailable") {
            assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
        }
        answer
    }

    /// Sends a request without waiting; gives its `ref`.
    pub async fn starts(&mut self, mut request: Value) -> u64 {
        self.next_ref += 1;
        request["ref"] = json!(self.next_ref);
        if request["type"] == "subscribe" {
            self.subscribing.insert(self.next_ref, request.clone());
        }
        self.writes(&request).await;
        self.next_ref
    }

    /// Waits for the answer to the request `n`.
    pub async fn answer(&mut self, n: u64) -> Value {
        self.next_where(&format!("the answer to request {n}"), |frame| frame["ref"] == n).await
    }

    /// Waits for the next frame of a type (not `events`).
    pub async fn next(&mut self, kind: &str) -> Value {
        self.next_where(&format!("a frame {kind}"), |frame| frame["type"] == kind).await
    }

    /// Waits for the next frame (not `events`) that `wanted` accepts; the others stay.
    pub async fn next_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(at).expect("just found");
        }
        loop {
            let frame = self.receive(&format!("{}: {what}", self.user)).await;
            if wanted(&frame) {
                return frame;
            }
            self.inbox.push_back(frame);
        }
    }

    /// Whether a frame that `wanted` accepts has arrived and is still unread.
    pub fn has(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.inbox.iter().any(wanted)
    }

    /// A round trip: whatever the server had written before is here afterwards.
    pub async fn catches_up(&mut self) {
        self.does(json!({"type": "ping"})).await;
    }

    // -------------------------------------------------------------------------------------------------- the socket

    /// Writes one frame as an object. A connection that is closed takes it silently.
    pub async fn writes(&mut self, frame: &Value) {
        if self.closed.is_none() {
            within("the connection takes a frame", self.line.send(frame)).await;
        }
    }

    /// Writes one WebSocket message as it is.
    pub async fn writes_raw(&mut self, message: Message) {
        let Line::WebSocket(connection) = &mut self.line else { panic!("{} is at a stream", self.user) };
        if self.closed.is_none() {
            // One that is closed takes it silently.
            let _ = within("the connection takes a frame", connection.socket().send(message)).await;
        }
    }

    /// The next frame that is no `events`; `events` are checked and kept in passing.
    async fn receive(&mut self, what: &str) -> Value {
        match within(what, self.read()).await {
            Some(frame) => frame,
            None => panic!("waiting for: {what}, but the connection closed with {:?}", self.closed),
        }
    }

    /// Waits for the end of the connection; its close code (1006: none was sent).
    pub async fn closed(&mut self) -> u16 {
        within(&format!("{}'s connection closes", self.user), async {
            while let Some(frame) = self.read().await {
                self.inbox.push_back(frame);
            }
        })
        .await;
        self.closed.expect("it is closed")
    }

    /// How the connection ended, where it has (1006: without a close frame).
    pub fn close_code(&self) -> Option<u16> {
        self.closed
    }

    /// Reads for as long as nothing else is to be done, at most `time`; true when the connection is still open then.
    pub async fn reads_for(&mut self, time: Duration) -> bool {
        let read = tokio::time::timeout(time, async {
            while let Some(frame) = self.read().await {
                self.inbox.push_back(frame);
            }
        });
        read.await.is_err()
    }

    /// The next frame that is no `events`; `None` once it is closed.
    pub async fn read(&mut self) -> Option<Value> {
        loop {
            if let Step::Frame(frame) = self.step().await? {
                return Some(frame);
            }
        }
    }

    /// Reads one frame; `None` once it is closed.
    async fn step(&mut self) -> Option<Step> {
        loop {
            if self.closed.is_some() {
                return None;
            }
            let frame = match self.line.next().await {
                Ok(frame) => frame,
                Err(ending) => {
                    assert!(!ending.is_unreadable(), "{}: {}", self.user, ending.reason);
                    self.closed = Some(ending.code);
                    if ending.code != BROKEN {
                        // The answering close frame is on its way; the end of the stream is not of interest.
                        let _ = tokio::time::timeout(Duration::from_secs(2), self.line.next()).await;
                    }
                    continue;
                }
            };
            super::asyncapi::hold(&frame);
            if frame["type"] == "events" {
                self.takes_in(&frame);
                return Some(Step::Events);
            }
            self.notes(&frame);
            return Some(Step::Frame(frame));
        }
    }

    /// Where a cursor starts, from the answer to its `subscribe`.
    fn notes(&mut self, frame: &Value) {
        if frame["type"] == "unsubscribed" {
            self.next_seq.remove(frame["room"].as_str().expect("a room"));
            return;
        }
        let Some(request) = frame["ref"].as_u64().and_then(|n| self.subscribing.remove(&n)) else { return };
        if frame["type"] != "subscribed" {
            return;
        }
        let head = frame["head"].as_u64().expect("subscribed has a head");
        let start = match (frame["verdict"].as_str(), request["after"].as_u64(), request["last"].as_u64()) {
            (Some("replay"), Some(after), _) => after,
            (Some("replay"), None, Some(last)) => head.saturating_sub(last),
            (Some("live" | "reset"), ..) => head,
            _ => panic!("{request} was answered with {frame}"),
        };
        self.next_seq.insert(frame["room"].as_str().expect("subscribed has a room").to_owned(), start + 1);
    }

    /// Checks and keeps an `events` frame.
    fn takes_in(&mut self, frame: &Value) {
        let room = frame["room"].as_str().expect("events have a room");
        let entries = frame["events"].as_array().expect("events have entries");
        assert!(!entries.is_empty(), "an empty events frame");
        let next = self.next_seq.get_mut(room).unwrap_or_else(|| panic!("{frame} without a subscription"));
        for entry in entries {
            assert_eq!(entry["seq"], *next, "{} expected seq {next} of {room}, got {entry}", self.user);
            *next += 1;
        }
        self.seen.entry(room.to_owned()).or_default().extend(entries.iter().cloned());
    }
}
