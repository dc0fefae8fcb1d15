//! What a client may ask, and how a frame becomes a request.
//!
//! Both encodings are first split into the raw values of the fields we know ([`Fields`]), in one pass and without a tree;
//! then one piece of code turns those into a [`Request`]. So the two encodings obey the same rules, and `ref` is known
//! whatever else is wrong.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Encoding, json, msgpack, text};
use crate::entry::Data;
use crate::ids::{MessageId, RoomId, Seq};
use crate::limits::{PAGE_DEFAULT, PAGE_MAX, WIRE_INTEGER_MAX};
use crate::refusal::Refusal;

/// One decoded frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFrame {
    /// `ref`, to be repeated in the answer.
    pub reference: Option<u64>,
    pub request: Request,
}

/// What is asked. Ids are valid, texts normalised and within their lengths.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Hello { token: Option<String>, client: Option<String> },
    Refresh { token: String },
    Subscribe { room: RoomId, from: From },
    Unsubscribe { room: RoomId },
    Join { room: RoomId },
    Leave { room: RoomId },
    Send { room: RoomId, id: MessageId, text: String, reply_to: Option<Seq>, data: Option<Data> },
    Edit { room: RoomId, target: Seq, text: String },
    Delete { room: RoomId, target: Seq },
    React { room: RoomId, target: Seq, emoji: String, active: bool },
    Typing { room: RoomId, active: bool },
    Read { room: RoomId, seq: Seq },
    History { room: RoomId, bound: Bound, limit: u32 },
    Ping,
}

/// Where a subscription's cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Head,
    /// Behind this entry.
    After(Seq),
    /// So that this many entries are sent; 0 is the head.
    Last(u64),
}

/// Which page of a room's log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Rising from the first entry behind this one.
    After(Seq),
    /// The newest ones before this one.
    Before(Seq),
    /// The newest ones.
    Newest,
}

/// Why a frame is no request; to be answered with an `error` frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct DecodeError {
    /// `ref`, where it could be read.
    pub reference: Option<u64>,
    /// Always `bad_request`.
    pub refusal: Refusal,
}

/// Decodes and validates one frame.
///
/// # Errors
/// `bad_request` that names the field and the rule, with `ref` where that could be read.
pub fn decode(encoding: Encoding, frame: &[u8]) -> Result<ClientFrame, DecodeError> {
    let fields = match encoding {
        Encoding::Json => json::fields(frame),
        Encoding::MsgPack => msgpack::fields(frame),
    }
    .map_err(|message| DecodeError { reference: None, refusal: Refusal::bad_request(message) })?;
    let reference = fields.integer(Field::Ref).map_err(|refusal| DecodeError { reference: None, refusal })?;
    let request = fields.request().map_err(|refusal| DecodeError { reference, refusal })?;
    Ok(ClientFrame { reference, request })
}

/// The fields that any request may have; all others are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    Ref,
    Token,
    Client,
    Room,
    After,
    Before,
    Last,
    Id,
    Text,
    ReplyTo,
    Data,
    Target,
    Emoji,
    Active,
    Seq,
    Limit,
}

impl Field {
    const COUNT: usize = 17;
    const ALL: [Self; Self::COUNT] = [
        Self::Type,
        Self::Ref,
        Self::Token,
        Self::Client,
        Self::Room,
        Self::After,
        Self::Before,
        Self::Last,
        Self::Id,
        Self::Text,
        Self::ReplyTo,
        Self::Data,
        Self::Target,
        Self::Emoji,
        Self::Active,
        Self::Seq,
        Self::Limit,
    ];

    pub(super) fn of(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == key)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Ref => "ref",
            Self::Token => "token",
            Self::Client => "client",
            Self::Room => "room",
            Self::After => "after",
            Self::Before => "before",
            Self::Last => "last",
            Self::Id => "id",
            Self::Text => "text",
            Self::ReplyTo => "reply_to",
            Self::Data => "data",
            Self::Target => "target",
            Self::Emoji => "emoji",
            Self::Active => "active",
            Self::Seq => "seq",
            Self::Limit => "limit",
        }
    }
}

/// A field's value as it stands in the frame: one well-formed JSON text or MessagePack object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    Json(&'a RawValue),
    MsgPack(&'a [u8]),
}

impl<'a> Raw<'a> {
    fn is_null(self) -> bool {
        match self {
            Self::Json(raw) => raw.get() == "null",
            Self::MsgPack(bytes) => bytes == [0xc0],
        }
    }

    fn string(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(raw) => json::string(raw.get()),
            Self::MsgPack(bytes) => msgpack::string(bytes).map(Cow::Borrowed),
        }
    }

    fn integer(self) -> Option<u64> {
        match self {
            Self::Json(raw) => json::integer(raw.get()),
            Self::MsgPack(bytes) => msgpack::integer(bytes),
        }
        .filter(|&value| value <= WIRE_INTEGER_MAX)
    }

    fn boolean(self) -> Option<bool> {
        match self {
            Self::Json(raw) => raw.get().parse().ok(),
            Self::MsgPack([0xc3]) => Some(true),
            Self::MsgPack([0xc2]) => Some(false),
            Self::MsgPack(_) => None,
        }
    }

    fn data(self) -> Result<Data, Refusal> {
        match self {
            Self::Json(raw) => super::data(raw),
            Self::MsgPack(bytes) => msgpack::data(bytes),
        }
    }
}

/// The raw values of a frame's known fields; of a field that occurs twice, the last.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: [Option<Raw<'a>>; Field::COUNT],
    /// Something in the frame that the contract does not allow anywhere.
    pub(super) fault: Option<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn set(&mut self, field: Field, value: Raw<'a>) {
        self.values[field as usize] = Some(value);
    }

    /// The value of a field; null counts as left out.
    fn get(&self, field: Field) -> Option<Raw<'a>> {
        self.values[field as usize].filter(|raw| !raw.is_null())
    }

    fn string(&self, field: Field) -> Result<Option<Cow<'a, str>>, Refusal> {
        let read = |raw: Raw<'a>| raw.string().ok_or_else(|| wrong(field, "must be a string of valid Unicode"));
        self.get(field).map(read).transpose()
    }

    fn needed_string(&self, field: Field) -> Result<Cow<'a, str>, Refusal> {
        self.string(field)?.ok_or_else(|| missing(field))
    }

    fn integer(&self, field: Field) -> Result<Option<u64>, Refusal> {
        let read = |raw: Raw<'a>| raw.integer().ok_or_else(|| wrong(field, "must be an integer from 0 to 2^53"));
        self.get(field).map(read).transpose()
    }

    fn needed_integer(&self, field: Field) -> Result<u64, Refusal> {
        self.integer(field)?.ok_or_else(|| missing(field))
    }

    fn active(&self) -> Result<bool, Refusal> {
        let raw = self.get(Field::Active).ok_or_else(|| missing(Field::Active))?;
        raw.boolean().ok_or_else(|| wrong(Field::Active, "must be true or false"))
    }

    fn room(&self) -> Result<RoomId, Refusal> {
        RoomId::parse(&self.needed_string(Field::Room)?).map_err(|rule| wrong(Field::Room, rule))
    }

    fn request(&self) -> Result<Request, Refusal> {
        if let Some(fault) = self.fault {
            return Err(Refusal::bad_request(fault));
        }
        let kind = self.needed_string(Field::Type)?;
        Ok(match &*kind {
            "send" => Request::Send {
                room: self.room()?,
                id: MessageId::parse(&self.needed_string(Field::Id)?).map_err(|rule| wrong(Field::Id, rule))?,
                text: text::message_text(&self.needed_string(Field::Text)?)?,
                reply_to: self.integer(Field::ReplyTo)?,
                // Here null is a value like any other: data is kept as given.
                data: self.values[Field::Data as usize].map(Raw::data).transpose()?,
            },
            "typing" => Request::Typing { room: self.room()?, active: self.active()? },
            "read" => Request::Read { room: self.room()?, seq: self.needed_integer(Field::Seq)? },
            "ping" => Request::Ping,
            "history" => self.history()?,
            "subscribe" => self.subscribe()?,
            "unsubscribe" => Request::Unsubscribe { room: self.room()? },
            "join" => Request::Join { room: self.room()? },
            "leave" => Request::Leave { room: self.room()? },
            "edit" => Request::Edit {
                room: self.room()?,
                target: self.needed_integer(Field::Target)?,
                text: text::message_text(&self.needed_string(Field::Text)?)?,
            },
            "delete" => Request::Delete { room: self.room()?, target: self.needed_integer(Field::Target)? },
            "react" => Request::React {
                room: self.room()?,
                target: self.needed_integer(Field::Target)?,
                emoji: text::emoji(&self.needed_string(Field::Emoji)?)?,
                active: self.active()?,
            },
            "hello" => Request::Hello {
                token: self.string(Field::Token)?.map(Cow::into_owned),
                client: self.string(Field::Client)?.map(|client| text::client(&client)).transpose()?,
            },
            "refresh" => Request::Refresh { token: self.needed_string(Field::Token)?.into_owned() },
            _ => {
                return Err(wrong(
                    Field::Type,
                    "unknown; the types of requests are hello, refresh, subscribe, unsubscribe, join, leave, send, edit, delete, react, typing, read, history and ping",
                ));
            }
        })
    }

    fn subscribe(&self) -> Result<Request, Refusal> {
        let from = match (self.integer(Field::After)?, self.integer(Field::Last)?) {
            (Some(_), Some(_)) => return Err(Refusal::bad_request("after, last: only one of them may be given")),
            (Some(after), None) => From::After(after),
            (None, Some(last)) => From::Last(last),
            (None, None) => From::Head,
        };
        Ok(Request::Subscribe { room: self.room()?, from })
    }

    fn history(&self) -> Result<Request, Refusal> {
        let bound = match (self.integer(Field::Before)?, self.integer(Field::After)?) {
            (Some(_), Some(_)) => return Err(Refusal::bad_request("before, after: only one of them may be given")),
            (Some(before), None) => Bound::Before(before),
            (None, Some(after)) => Bound::After(after),
            (None, None) => Bound::Newest,
        };
        let limit = match self.integer(Field::Limit)? {
            None => PAGE_DEFAULT,
            Some(limit @ 1..) if limit <= u64::from(PAGE_MAX) => limit as u32,
            Some(_) => return Err(Refusal::bad_request(format!("limit: must be an integer from 1 to {PAGE_MAX}"))),
        };
        Ok(Request::History { room: self.room()?, bound, limit })
    }
}

fn missing(field: Field) -> Refusal {
    wrong(field, "missing")
}

fn wrong(field: Field, rule: &str) -> Refusal {
    Refusal::bad_request(format!("{}: {rule}", field.name()))
}
