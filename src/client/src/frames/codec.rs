//! Frames as bytes, in the two encodings that a connection may have.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the frames of a connection are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    MessagePack,
}

impl Encoding {
    /// What is asked for at the upgrade.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "roundtable.v1.json",
            Self::MessagePack => "roundtable.v1.msgpack",
        }
    }
}

/// One frame as bytes: JSON for a text frame, MessagePack for a binary one.
///
/// # Errors
/// A value that the encoding has no form for, in words; frames always have one.
pub fn encode<T: Serialize>(frame: &T, encoding: Encoding) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Json => serde_json::to_vec(frame).map_err(|error| error.to_string()),
        Encoding::MessagePack => rmp_serde::to_vec_named(frame).map_err(|error| error.to_string()),
    }
}

/// The frame that `bytes` are.
///
/// # Errors
/// Why they are none, in words.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], encoding: Encoding) -> Result<T, String> {
    match encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Encoding::MessagePack => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
    }
}
