//! The AsyncAPI 3.0 document of the WebSocket: made of [`super::messages`], the schemas of ids and entries, and the close
//! codes below.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::messages::{self, Message, Reference};
use super::{COOKIE, Encoding, PATH, schemas};
use crate::entry::{Entry, Shown};
use crate::ids::RoomId;
use crate::limits::WIRE_INTEGER_MAX;

/// What a client does after a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Don't come back: the client is to be mended, or is not wanted.
    Stop,
    /// Wait a random time up to `jitter_ms`, then doubling up to `backoff_max_ms`, and resume.
    Backoff,
    /// Come back now, after `reconnect_after_ms` if that was given, and resume.
    AtOnce,
    /// Get new credentials first.
    Credentials,
}

impl Then {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Backoff => "backoff",
            Self::AtOnce => "at_once",
            Self::Credentials => "credentials",
        }
    }
}

/// The codes with which the server may end a connection. Others, and the end of the connection without one, are as
/// [`Then::Backoff`].
pub const CLOSE_CODES: [(u16, &str, Then); 15] = [
    (1000, "the client closed", Then::Backoff),
    (1002, "a breach of RFC 6455", Then::Stop),
    (1007, "text that is not UTF-8", Then::Stop),
    (1009, "a frame above limits.frame_bytes", Then::Stop),
    (1011, "a fault of the server", Then::Backoff),
    (1013, "the credentials can't be checked now", Then::Backoff),
    (4000, "protocol error: a second hello, frames of the wrong kind", Then::Stop),
    (4003, "banned from the server, or the login or token was revoked", Then::Stop),
    (4100, "too many connections", Then::Backoff),
    (4200, "the node drains", Then::AtOnce),
    (4201, "no bytes taken for limits.stall_s while some waited", Then::AtOnce),
    (4202, "heartbeat missed", Then::AtOnce),
    (4203, "the node lost its place in the cluster", Then::AtOnce),
    (4300, "unauthenticated, or an administrator ended the session", Then::Credentials),
    (4301, "the credentials expired", Then::Credentials),
];

/// The document, made once.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| format!("{:#}\n", value()))
}

const ABOUT: &str = "The WebSocket. What a room promises, and how to lose nothing: docs/protocol.md. One frame holds one \
                     object; unknown fields are to be ignored, by both sides. Under `roundtable.v1.msgpack` the same \
                     objects travel as MessagePack maps in binary frames.";

fn value() -> Value {
    let (requests, server) = (messages::requests(), messages::server_frames());
    let channel_messages: Map<String, Value> = requests
        .iter()
        .chain(&server)
        .map(|Message { key, .. }| ((*key).to_owned(), at(&format!("#/components/messages/{key}"))))
        .collect();
    let messages: Map<String, Value> =
        requests.iter().chain(&server).map(|message| (message.key.to_owned(), told(message))).collect();
    let operations: Map<String, Value> = requests
        .iter()
        .map(|message| (format!("receive-{}", message.kind), receives(message)))
        .chain(
            server
                .iter()
                .filter(|message| unasked(message))
                .map(|message| (format!("send-{}", message.kind), operation("send", message.key, message.summary))),
        )
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Roundtable",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": content_type(Encoding::Json),
        "servers": {"plain": node("ws", "localhost:8080"), "tls": node("wss", "localhost")},
        "channels": {"socket": channel(channel_messages)},
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": components(),
            "correlationIds": {"ref": {
                "description": "An answer bears the `ref` of its request",
                "location": "$message.payload#/ref",
            }},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A login's token, an access token or a JWT, on the upgrade",
                },
                "cookie": {
                    "type": "httpApiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "A login's, on the upgrade, from an allowed origin",
                },
            },
        },
    })
}

fn at(place: &str) -> Value {
    json!({"$ref": place})
}

fn node(protocol: &str, host: &str) -> Value {
    json!({
        "host": "{host}",
        "protocol": protocol,
        "protocolVersion": "13",
        "description": "Any node serves any client. Instead of credentials on the upgrade, `hello` may have a `token`",
        "variables": {"host": {"default": host}},
        "security": [at("#/components/securitySchemes/bearer"), at("#/components/securitySchemes/cookie")],
    })
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::MsgPack => "application/msgpack",
    }
}

fn channel(messages: Map<String, Value>) -> Value {
    let subprotocols = Encoding::ALL.map(Encoding::subprotocol);
    let contents: Map<String, Value> = Encoding::ALL
        .map(|encoding| (encoding.subprotocol().to_owned(), content_type(encoding).into()))
        .into_iter()
        .collect();
    let codes = CLOSE_CODES.map(|(code, why, then)| json!({"code": code, "why": why, "then": then.as_str()}));
    json!({
        "address": PATH,
        "title": "A connection",
        "messages": messages,
        "bindings": {"ws": {
            "method": "GET",
            "headers": {
                "type": "object",
                "properties": {"Sec-WebSocket-Protocol": {"type": "string", "enum": subprotocols}},
            },
            "bindingVersion": "0.1.0",
        }},
        "x-subprotocols": contents,
        "x-close-codes": codes,
    })
}

/// Whether it comes without having been asked for: errors do, to what could not be read.
fn unasked(message: &Message) -> bool {
    message.reference == Reference::Never || message.kind == "error"
}

fn operation(action: &str, key: &str, summary: &str) -> Value {
    json!({
        "action": action,
        "channel": at("#/channels/socket"),
        "summary": summary,
        "messages": [at(&format!("#/channels/socket/messages/{key}"))],
    })
}

fn receives(message: &Message) -> Value {
    let mut operation = operation("receive", message.key, message.summary);
    let answers = message.answers.iter().chain(&["server-error"]);
    let answers: Vec<Value> = answers.map(|key| at(&format!("#/channels/socket/messages/{key}"))).collect();
    operation["reply"] = json!({"channel": at("#/channels/socket"), "messages": answers});
    operation
}

fn told(message: &Message) -> Value {
    let mut told = json!({
        "name": message.kind,
        "title": message.kind,
        "summary": message.summary,
        "payload": payload(message),
        "examples": [{"payload": message.example}],
    });
    if message.reference != Reference::Never {
        told["correlationId"] = at("#/components/correlationIds/ref");
    }
    told
}

fn payload(message: &Message) -> Value {
    let mut properties = Map::from_iter([("type".to_owned(), json!({"type": "string", "const": message.kind}))]);
    let mut required = vec!["type"];
    let number = schemas::integer(0..=WIRE_INTEGER_MAX);
    match message.reference {
        Reference::Asks => _ = properties.insert("ref".to_owned(), plain(&schemas::nullable(number).into())),
        Reference::Answers => _ = properties.insert("ref".to_owned(), plain(&number.into())),
        Reference::Never => {}
    }
    for field in &message.fields {
        properties.insert(field.name.to_owned(), plain(&field.schema));
        if field.required {
            required.push(field.name);
        }
    }
    let mut payload = json!({"type": "object", "properties": properties, "required": required});
    if let Some(rivals) = message.rivals {
        // Null is as good as left out.
        let given = json!({"not": {"type": "null"}});
        payload["not"] = json!({"properties": {rivals[0]: given, rivals[1]: given}, "required": rivals});
    }
    payload
}

fn plain(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).expect("a schema is maps with text keys")
}

/// The schemas that messages refer to.
fn components() -> Map<String, Value> {
    let mut all = vec![(RoomId::name().into_owned(), RoomId::schema())];
    for (name, schema, more) in [
        (Entry::name(), Entry::schema(), Entry::schemas as fn(&mut Vec<(String, RefOr<Schema>)>)),
        (Shown::name(), Shown::schema(), Shown::schemas),
    ] {
        all.push((name.into_owned(), schema));
        more(&mut all);
    }
    all.into_iter().map(|(name, schema)| (name, plain(&schema))).collect()
}
