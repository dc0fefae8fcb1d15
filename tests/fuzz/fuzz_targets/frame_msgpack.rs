//! Any bytes as a frame of a client: a request or a refusal, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use roundtable::protocol::{Encoding, decode};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(Encoding::MsgPack, bytes);
});
