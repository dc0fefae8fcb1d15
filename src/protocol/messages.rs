//! Every frame as somebody who writes a client wants it told: fields, bounds, answers and an example. The AsyncAPI document
//! is made of this.
//!
//! Invariant: a frame or field that is not told of here does not compile ([`table`] matches over the types, without `..`);
//! tests hold what is told against what `decode` takes and `encode` gives.

use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{ArrayBuilder, RefOr};

use super::schemas::{
    any_text, at, boolean, emoji, integer, list_of, message_text, name, nullable, reference, seq, text, word,
};
use super::{Accepted, Request, ServerFrame, WelcomeLimits};
use crate::entry::{Data, Entry, Role, Shown};
use crate::ids::{MessageId, RoomId, UserId};
use crate::limits::{PAGE_DEFAULT, PAGE_MAX, WIRE_INTEGER_MAX};
use crate::refusal::Code;

/// One kind of frame in one direction. `tests/golden` has it under the same key.
pub(super) struct Message {
    pub key: &'static str,
    /// Its `type`.
    pub kind: &'static str,
    pub summary: &'static str,
    pub fields: Vec<Field>,
    /// Of these two only one may be given.
    pub rivals: Option<[&'static str; 2]>,
    /// Of a request: the keys of what it is answered with, errors apart. Of a frame from the server: unused.
    pub answers: &'static [&'static str],
    pub reference: Reference,
    pub example: Value,
}

/// Whether a frame has `ref`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// A request, which may have one.
    Asks,
    /// An answer, which has that of its request.
    Answers,
    /// Never: it answers nothing.
    Never,
}

pub(super) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub schema: RefOr<Schema>,
}

impl Message {
    fn with(mut self, name: &'static str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.fields.push(Field { name, required: true, schema: schema.into() });
        self
    }

    /// May be left out; in a request null is as good.
    fn may_have(mut self, name: &'static str, schema: impl Into<RefOr<Schema>>) -> Self {
        let schema = if self.reference == Reference::Asks { nullable(schema).into() } else { schema.into() };
        self.fields.push(Field { name, required: false, schema });
        self
    }

    /// May have free JSON, null included.
    fn may_have_data(mut self) -> Self {
        self.fields.push(Field { name: "data", required: false, schema: reference::<Data>() });
        self
    }

    fn never_both(mut self, rivals: [&'static str; 2]) -> Self {
        self.rivals = Some(rivals);
        self
    }
}

fn message(
    key: &'static str,
    reference: Reference,
    summary: &'static str,
    answers: &'static [&'static str],
    example: Value,
) -> Message {
    let kind = key.split('-').nth(1).unwrap_or_default();
    Message { key, kind, summary, fields: Vec::new(), rivals: None, answers, reference, example }
}

/// The messages, each behind a pattern of the frames that it tells of. Together the patterns must cover every frame.
macro_rules! table {
    ($frame:ty { $($pattern:pat => $message:expr,)* }) => {{
        let _covers_every_frame: fn(&$frame) = |frame| match frame { $($pattern => (),)* };
        vec![$($message),*]
    }};
}

fn request(key: &'static str, summary: &'static str, answers: &'static [&'static str], example: Value) -> Message {
    message(key, Reference::Asks, summary, answers, example)
}

/// A request about a room.
fn in_room(key: &'static str, summary: &'static str, answers: &'static [&'static str], example: Value) -> Message {
    request(key, summary, answers, example).with("room", reference::<RoomId>())
}

/// What clients send.
pub(super) fn requests() -> Vec<Message> {
    table!(Request {
        Request::Hello { token: _, client: _ } => request(
            "client-hello",
            "The first frame, within 10 s. The token beats the credentials of the upgrade; it may be left out where those are good",
            &["server-welcome"],
            json!({"type": "hello", "ref": 1, "token": "…", "client": "example/1.0"}),
        )
        .may_have("token", any_text())
        .may_have("client", name()),
        Request::Refresh { token: _ } => request(
            "client-refresh",
            "New credentials of the same user",
            &["server-ok-expires"],
            json!({"type": "refresh", "ref": 2, "token": "…"}),
        )
        .with("token", any_text()),
        Request::Subscribe { room: _, from: _ } => in_room(
            "client-subscribe",
            "Starts a cursor over the room's log: behind `after`, or so that the `last` entries are sent, or at the head",
            &["server-subscribed"],
            json!({"type": "subscribe", "ref": 3, "room": "lobby", "after": 41}),
        )
        .may_have("after", seq())
        .may_have("last", seq())
        .never_both(["after", "last"]),
        Request::Unsubscribe { room: _ } => in_room(
            "client-unsubscribe",
            "Ends the cursor",
            &["server-ok"],
            json!({"type": "unsubscribe", "ref": 4, "room": "lobby"}),
        ),
        Request::Join { room: _ } => in_room(
            "client-join",
            "Durable membership",
            &["server-ok-role"],
            json!({"type": "join", "ref": 5, "room": "lobby"}),
        ),
        Request::Leave { room: _ } => in_room(
            "client-leave",
            "Ends one's membership; the last owner can't leave",
            &["server-ok"],
            json!({"type": "leave", "ref": 6, "room": "lobby"}),
        ),
        Request::Send { room: _, id: _, text: _, reply_to: _, data: _ } => in_room(
            "client-send",
            "A message. The same `id` again, at any later time, is answered with the first `seq`",
            &["server-sent"],
            json!({"type": "send", "ref": 7, "room": "lobby", "id": "m-1", "text": "hi", "reply_to": 3, "data": {"mood": [1, 2.5, null]}}),
        )
        .with("id", reference::<MessageId>())
        .with("text", message_text())
        .may_have("reply_to", seq())
        .may_have_data(),
        Request::Edit { room: _, target: _, text: _ } => in_room(
            "client-edit",
            "Another text for a message of one's own",
            &["server-ok-seq"],
            json!({"type": "edit", "ref": 8, "room": "lobby", "target": 3, "text": "hello"}),
        )
        .with("target", seq())
        .with("text", message_text()),
        Request::Delete { room: _, target: _ } => in_room(
            "client-delete",
            "Erases a message: its author or a moderator",
            &["server-ok-seq"],
            json!({"type": "delete", "ref": 9, "room": "lobby", "target": 3}),
        )
        .with("target", seq()),
        Request::React { room: _, target: _, emoji: _, active: _ } => in_room(
            "client-react",
            "A reaction, or the end of one",
            &["server-ok-seq"],
            json!({"type": "react", "ref": 10, "room": "lobby", "target": 3, "emoji": "👍", "active": true}),
        )
        .with("target", seq())
        .with("emoji", emoji())
        .with("active", boolean()),
        Request::Typing { room: _, active: _ } => in_room(
            "client-typing",
            "A hint to others; not answered where it goes well",
            &[],
            json!({"type": "typing", "room": "lobby", "active": true}),
        )
        .with("active", boolean()),
        Request::Read { room: _, seq: _ } => in_room(
            "client-read",
            "One's read mark, which only rises; not answered where it goes well",
            &[],
            json!({"type": "read", "room": "lobby", "seq": 42}),
        )
        .with("seq", seq()),
        Request::History { room: _, bound: _, limit: _ } => in_room(
            "client-history",
            "A page of the log; without a bound the newest",
            &["server-history"],
            json!({"type": "history", "ref": 11, "room": "lobby", "before": 42, "limit": PAGE_DEFAULT}),
        )
        .may_have("before", seq())
        .may_have("after", seq())
        .may_have("limit", integer(1..=u64::from(PAGE_MAX)))
        .never_both(["before", "after"]),
        Request::Ping => request(
            "client-ping",
            "Is the server there, and what time is it there",
            &["server-pong"],
            json!({"type": "ping", "ref": 12}),
        ),
    })
}

fn answer(key: &'static str, summary: &'static str, example: Value) -> Message {
    message(key, Reference::Answers, summary, &[], example)
}

fn tells(key: &'static str, summary: &'static str, example: Value) -> Message {
    message(key, Reference::Never, summary, &[], example).with("room", reference::<RoomId>())
}

fn object(fields: impl IntoIterator<Item = (&'static str, RefOr<Schema>)>) -> Schema {
    let all = fields.into_iter();
    all.fold(ObjectBuilder::new(), |object, (name, schema)| object.property(name, schema).required(name)).into()
}

/// A count or a time in milliseconds.
fn count() -> Schema {
    integer(0..=WIRE_INTEGER_MAX)
}

fn role() -> Schema {
    word([Role::Owner, Role::Moderator, Role::Member, Role::Muted].map(Role::as_str))
}

fn entries(entry: RefOr<Schema>, at_least: usize) -> Schema {
    ArrayBuilder::new().items(entry).min_items(Some(at_least)).into()
}

fn limits() -> Schema {
    let names = [
        "frame_bytes",
        "text_chars",
        "data_bytes",
        "inflight",
        "subscriptions",
        "replay",
        "messages_per_minute",
        "messages_burst",
    ];
    object(names.map(|name| (name, count().into())))
}

/// What the server sends.
pub(super) fn server_frames() -> Vec<Message> {
    let mut all = table!(ServerFrame {
        ServerFrame::Welcome {
            user: _, name: _, session: _, node: _, server: _, heartbeat_s: _, jitter_ms: _, backoff_max_ms: _,
            limits: WelcomeLimits {
                frame_bytes: _, text_chars: _, data_bytes: _, inflight: _, subscriptions: _, replay: _,
                messages_per_minute: _, messages_burst: _,
            },
        } => answer(
            "server-welcome",
            "To `hello`: who one is, and what to keep to",
            json!({
                "type": "welcome", "ref": 1, "user": {"id": "alice", "name": "Alice"}, "session": "s-1", "node": "node-1",
                "server": "roundtable/0.1.0", "heartbeat_s": 25, "reconnect": {"jitter_ms": 2000, "backoff_max_ms": 30000},
                "limits": {
                    "frame_bytes": 65536, "text_chars": 4000, "data_bytes": 4096, "inflight": 64, "subscriptions": 1000,
                    "replay": 10000, "messages_per_minute": 120, "messages_burst": 20,
                },
            }),
        )
        .with("user", object([("id", reference::<UserId>()), ("name", nullable(name()).into())]))
        .with("session", text(1..=200))
        .with("node", text(1..=64))
        .with("server", text(1..=200))
        .with("heartbeat_s", count())
        .with("reconnect", object([("jitter_ms", count().into()), ("backoff_max_ms", count().into())]))
        .with("limits", limits()),
        ServerFrame::Ok(Accepted::Done) => answer("server-ok", "Done", json!({"type": "ok", "ref": 4})),
        ServerFrame::Ok(Accepted::Role(_)) => answer(
            "server-ok-role",
            "To `join`: one's role now",
            json!({"type": "ok", "ref": 5, "role": "member"}),
        )
        .with("role", nullable(role())),
        ServerFrame::Ok(Accepted::Seq(_)) => answer(
            "server-ok-seq",
            "To `edit`, `delete` and `react`: the entry that was logged; null where nothing changed",
            json!({"type": "ok", "ref": 8, "seq": 7}),
        )
        .with("seq", nullable(seq())),
        ServerFrame::Ok(Accepted::ExpiresAt(_)) => answer(
            "server-ok-expires",
            "To `refresh`: when the new credentials end, where they do",
            json!({"type": "ok", "ref": 2, "expires_at": "2026-01-01T00:00:00.123Z"}),
        )
        .may_have("expires_at", at()),
        ServerFrame::Subscribed { room: _, head: _, verdict: _, role: _, online: _ } => answer(
            "server-subscribed",
            "To `subscribe`: where the log stands, and whether anything was missed; `role` is null for a visitor",
            json!({"type": "subscribed", "ref": 3, "room": "lobby", "head": 42, "verdict": "replay", "role": "member", "online": 2}),
        )
        .with("room", reference::<RoomId>())
        .with("head", seq())
        .with("verdict", word(["live", "replay", "reset"]))
        .with("role", nullable(role()))
        .with("online", count()),
        ServerFrame::Sent { room: _, id: _, seq: _, at: _, duplicate: _ } => answer(
            "server-sent",
            "To `send`: its place in the log",
            json!({"type": "sent", "ref": 7, "room": "lobby", "id": "m-1", "seq": 10, "at": "2026-01-01T00:00:00.123Z", "duplicate": false}),
        )
        .with("room", reference::<RoomId>())
        .with("id", reference::<MessageId>())
        .with("seq", integer(1..=WIRE_INTEGER_MAX))
        .with("at", at())
        .with("duplicate", boolean()),
        ServerFrame::Pong { at: _ } => answer(
            "server-pong",
            "To `ping`",
            json!({"type": "pong", "ref": 12, "at": "2026-01-01T00:00:00.123Z"}),
        )
        .with("at", at()),
        ServerFrame::Presence { room: _, online: _, changed: _ } => tells(
            "server-presence",
            "Who came and went, at most once a second; among many people `online` alone",
            json!({"type": "presence", "room": "lobby", "online": 2, "joined": ["bob"], "left": ["carol"]}),
        )
        .with("online", count())
        .may_have("joined", list_of(reference::<UserId>()))
        .may_have("left", list_of(reference::<UserId>())),
        ServerFrame::Typing { room: _, users: _ } => tells(
            "server-typing",
            "Everybody who is typing now",
            json!({"type": "typing", "room": "lobby", "users": ["bob"]}),
        )
        .with("users", list_of(reference::<UserId>())),
        ServerFrame::Read { room: _, user: _, seq: _ } => tells(
            "server-read",
            "How far somebody has read",
            json!({"type": "read", "room": "lobby", "user": "bob", "seq": 10}),
        )
        .with("user", reference::<UserId>())
        .with("seq", seq()),
        ServerFrame::Unsubscribed { room: _, code: _ } => tells(
            "server-unsubscribed",
            "The cursor is gone, and why; the connection stays",
            json!({"type": "unsubscribed", "room": "lobby", "code": "kicked"}),
        )
        .with("code", word(["kicked", "banned", "left", "deleted"])),
        ServerFrame::Notice { code: _, message: _, reconnect_after_ms: _ } => message(
            "server-notice",
            Reference::Never,
            "What is about to come, such as `draining` and `credentials_expiring`",
            &[],
            json!({"type": "notice", "code": "draining", "message": "this node is about to stop", "reconnect_after_ms": 1500}),
        )
        .with("code", text(1..=64))
        .with("message", any_text())
        .may_have("reconnect_after_ms", count()),
        ServerFrame::Error(_) => answer(
            "server-error",
            "A request is refused; without `ref` where it had none that could be read",
            json!({"type": "error", "ref": 11, "code": "overloaded", "message": "too much waits", "retryable": true, "retry_after_ms": 1000}),
        )
        .with("code", word(Code::ALL.map(Code::as_str)))
        .with("message", any_text())
        .with("retryable", boolean())
        .may_have("retry_after_ms", integer(1..=WIRE_INTEGER_MAX)),
    });
    all.push(
        tells(
            "server-events",
            "Entries of the log, one or more, consecutive",
            json!({"type": "events", "room": "lobby", "events": [
                {"seq": 1, "kind": "message", "user": "alice", "at": "2026-01-01T00:00:00.123Z", "id": "m-1", "text": "hi"},
            ]}),
        )
        .with("events", entries(reference::<Entry>(), 1)),
    );
    all.push(
        answer(
            "server-history",
            "To `history`: entries in rising `seq`, as they are now; `more` in the direction that was asked for",
            json!({"type": "history", "ref": 11, "room": "lobby", "more": true, "events": [
                {"seq": 1, "kind": "message", "user": "alice", "at": "2026-01-01T00:00:00.123Z", "id": "m-1", "text": "hi"},
            ]}),
        )
        .with("room", reference::<RoomId>())
        .with("events", entries(reference::<Shown>(), 0))
        .with("more", boolean()),
    );
    all
}
