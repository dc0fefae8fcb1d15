//! The frames and objects of the protocol, as they are on the wire (docs/protocol.md), in JSON and in MessagePack.
//!
//! What a server adds later is read over: unknown fields are ignored, unknown types and kinds become `Unknown`.

mod client;
mod codec;
mod server;

pub use client::ClientFrame;
pub use codec::{Encoding, decode, encode};
pub use server::{
    Entry, History, Kind, Limits, Message, Notice, Ok, Presence, Reaction, Read, Reconnect, Refusal, RoomChange, Sent,
    ServerFrame, Subscribed, Typing, User, Verdict, Welcome,
};

/// What keeps "absent" and "null" apart: a field that is there is `Some`, whatever it says.
fn present<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}
