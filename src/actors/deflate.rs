//! permessage-deflate (RFC 7692) without context takeover: one compressor and one decompressor a thread, none a
//! connection, since no message refers to an earlier one.
//!
//! Invariant: [`inflate`] never holds more than its bound, whatever the input claims.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The end of a message's deflate stream, which the wire leaves out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Chat frames gain little from more effort than this.
const LEVEL: u32 = 1;

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Why a compressed message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// Longer than the bound once inflated.
    TooLarge,
    /// No deflate stream.
    Corrupt,
}

/// Compresses one message; the result goes into a frame with RSV1 set.
pub fn compress(payload: &[u8]) -> Vec<u8> {
    COMPRESS.with_borrow_mut(|deflater| {
        deflater.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let taken = deflater.total_in() as usize;
            // A compressor that is given room and input can only fail by misuse; what it made is checked by its length below.
            let status = deflater.compress_vec(&payload[taken..], &mut out, FlushCompress::Sync);
            let done = deflater.total_in() as usize == payload.len() && out.len() < out.capacity();
            match status {
                Ok(_) if done => break,
                Ok(_) => out.reserve(out.capacity().max(64)),
                Err(_) => return payload.to_vec(),
            }
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        out
    })
}

/// Inflates one message of at most `bound` bytes.
///
/// # Errors
/// [`InflateError`]; nothing is kept of the message.
pub fn inflate(packed: &[u8], bound: usize) -> Result<Vec<u8>, InflateError> {
    DECOMPRESS.with_borrow_mut(|inflater| {
        inflater.reset(false);
        let mut out = Vec::with_capacity((packed.len() * 4).clamp(64, bound + 1));
        for part in [packed, &TAIL] {
            let start = inflater.total_in();
            loop {
                let taken = (inflater.total_in() - start) as usize;
                let status = inflater
                    .decompress_vec(&part[taken..], &mut out, FlushDecompress::Sync)
                    .map_err(|_| InflateError::Corrupt)?;
                if out.len() > bound {
                    return Err(InflateError::TooLarge);
                }
                let all_in = (inflater.total_in() - start) as usize == part.len();
                // A final block ends the stream early; what the tail adds is not needed then.
                if status == Status::StreamEnd || (all_in && out.len() < out.capacity()) {
                    break;
                }
                if status == Status::BufError && out.len() < out.capacity() {
                    return Err(InflateError::Corrupt);
                }
                out.reserve(out.len().clamp(64, bound + 1 - out.len()));
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(payload in prop::collection::vec(0u8..8, 0..5_000)) {
            let packed = compress(&payload);
            prop_assert_eq!(inflate(&packed, 5_000), Ok(payload));
        }

        #[test]
        fn noise_is_refused_or_bounded(noise in prop::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(out) = inflate(&noise, 1_000) {
                prop_assert!(out.len() <= 1_000);
            }
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_bound() {
        let bomb = compress(&vec![0; 10 * 1024 * 1024]);
        assert!(bomb.len() < 128 * 1024);
        assert_eq!(inflate(&bomb, 65_536), Err(InflateError::TooLarge));
        let exact = compress(&vec![0; 65_536]);
        assert_eq!(inflate(&exact, 65_536).map(|out| out.len()), Ok(65_536));
    }

    #[test]
    fn messages_share_no_context() {
        let payload = b"the same words, the same words, the same words, the same words".repeat(20);
        assert_eq!(compress(&payload), compress(&payload));
    }
}
