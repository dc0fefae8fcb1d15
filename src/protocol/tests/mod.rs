//! The wire as a client meets it: every rule in both encodings.

mod asyncapi;
mod golden;
mod properties;
mod requests;
mod wire;

use super::*;

/// Decodes a JSON frame, and the same value as MessagePack: both must come to the same.
fn decoded(json: &str) -> Result<ClientFrame, DecodeError> {
    let from_json = decode(Encoding::Json, json.as_bytes());
    let from_msgpack = decode(Encoding::MsgPack, &transcode::to_msgpack(json.as_bytes()));
    assert_eq!(from_json, from_msgpack, "the encodings differ for {json}");
    from_json
}

/// What a good frame asks.
fn request(json: &str) -> Request {
    decoded(json).unwrap_or_else(|error| panic!("{json}: {error}")).request
}

/// `ref` and message of what a bad frame is answered with.
fn refused(json: &str) -> (Option<u64>, String) {
    let error = decoded(json).expect_err(json);
    assert_eq!(error.refusal.code, crate::refusal::Code::BadRequest);
    (error.reference, error.refusal.message)
}

#[test]
fn the_first_known_subprotocol_wins() {
    assert_eq!(choose_subprotocol([]), Ok(None));
    assert_eq!(choose_subprotocol([""]), Ok(None));
    assert_eq!(choose_subprotocol(["roundtable.v1.json"]), Ok(Some(Encoding::Json)));
    assert_eq!(choose_subprotocol(["chat, roundtable.v1.msgpack", "roundtable.v1.json"]), Ok(Some(Encoding::MsgPack)));
    assert_eq!(choose_subprotocol(["roundtable.v1.JSON,chat"]), Err(UnknownSubprotocol));
    for encoding in Encoding::ALL {
        assert!(UnknownSubprotocol.to_string().contains(encoding.subprotocol()));
    }
}
