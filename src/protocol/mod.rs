//! The wire: frames in and out, as types, in JSON and MessagePack.
//!
//! Pure functions over bytes. Invariants: decoding never panics and allocates no more than a small multiple of what it
//! was given; what comes out of [`decode`] is validated and normalised, so nothing behind it checks again; the
//! MessagePack form of whatever we send is made from its JSON form, so that the two can't differ.

pub mod asyncapi;
mod data;
mod events;
mod frame;
mod json;
mod messages;
mod msgpack;
mod request;
pub mod schemas;
pub mod text;
mod transcode;

pub use data::compact as data;
pub use events::{encode_entry, events, events_overhead, history, transcode_entry};
pub use frame::{Accepted, ServerFrame, Verdict, WelcomeLimits, encode};
pub use request::{Bound, ClientFrame, DecodeError, From, Request, decode};

/// The one path that upgrades.
pub const PATH: &str = "/ws";
/// The cookie of a session that came by `POST login`.
pub const COOKIE: &str = "roundtable_session";

/// How frames of a connection are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text frames.
    Json,
    /// Binary frames.
    MsgPack,
}

impl Encoding {
    pub const ALL: [Self; 2] = [Self::Json, Self::MsgPack];

    /// Name of the WebSocket subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "roundtable.v1.json",
            Self::MsgPack => "roundtable.v1.msgpack",
        }
    }
}

/// The client asked for subprotocols, and none of them is ours: HTTP 400 with this text, which lists the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the offered subprotocols is known; known are roundtable.v1.json and roundtable.v1.msgpack")]
pub struct UnknownSubprotocol;

/// Chooses by the values of the request's `Sec-WebSocket-Protocol` headers, in order: the client's first known one.
/// `None`: none was asked for, which means JSON and no such header in the answer.
///
/// # Errors
/// [`UnknownSubprotocol`] where only unknown ones were asked for.
pub fn choose_subprotocol<'a>(
    headers: impl IntoIterator<Item = &'a str>,
) -> Result<Option<Encoding>, UnknownSubprotocol> {
    let mut asked = false;
    for name in headers.into_iter().flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        asked = true;
        if let Some(encoding) = Encoding::ALL.into_iter().find(|encoding| encoding.subprotocol() == name) {
            return Ok(Some(encoding));
        }
    }
    if asked { Err(UnknownSubprotocol) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
