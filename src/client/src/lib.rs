//! A client of Roundtable: keeps a connection, comes back by itself, resumes every room where it was, and repeats what was
//! not answered, so that an application sees each entry of a room once and in order, and each message it sends is in the
//! log once.
//!
//! [`core`] decides and does nothing else: time and chance come in, frames and events go out. [`frames`] is the protocol's
//! form, [`closing`] what its close codes ask for.

#![deny(unsafe_code)]
#![cfg_attr(feature = "connect", doc = "\n")]
#![cfg_attr(feature = "connect", doc = include_str!("../README.md"))]

#[cfg(feature = "connect")]
pub mod client;
pub mod closing;
#[cfg(feature = "connect")]
pub mod connection;
pub mod core;
#[cfg(feature = "connect")]
mod driver;
pub mod error;
pub mod frames;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "connect")]
mod room;
#[cfg(feature = "scan")]
pub mod scan;
pub mod storage;
#[cfg(feature = "http")]
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "connect")]
mod websocket;

pub use crate::core::{
    Bounds, Change, Event, OutboxItem, OutboxState, Patience, Phase, RoomState, State, Status, StoredMessage,
    Subscribe, TokenReason, Told, Transport, Transports,
};
#[cfg(feature = "connect")]
pub use client::{Client, Options, Token, TokenFuture};
#[cfg(feature = "connect")]
pub use connection::Connection;
pub use error::{Code, Error};
#[cfg(feature = "connect")]
pub use room::{Entries, Message, Room, Sending};
