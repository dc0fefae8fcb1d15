//! Any bytes as a frame of the bus and as one envelope: decoded or refused, never a panic or a large allocation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use roundtable::actors::envelope::{Envelope, Frame};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = Frame::decode(bytes) {
        for envelope in &frame.envelopes {
            let _ = Envelope::decode(envelope);
        }
    }
    if let Ok(envelope) = Envelope::decode(bytes) {
        // What was understood can be said again.
        let again = envelope.encode();
        assert!(Envelope::decode(&again).is_ok());
    }
});
