//! When logins were last used: gathered here and written behind, so that using one costs no write.
//!
//! Bound: [`MOST`] logins wait to be written; one more goes unnoticed until it is used again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::ids::Millis;
use crate::ports::SecretHash;

const MOST: usize = 65_536;

#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<SecretHash, Millis>>);

impl Seen {
    pub(super) fn note(&self, hash: SecretHash, at: Millis) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MOST || notes.contains_key(&hash) {
            notes.insert(hash, at);
        }
    }

    /// At most `most` of them, which are no longer noted.
    pub(super) fn take(&self, most: usize) -> Vec<(SecretHash, Millis)> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() <= most {
            return std::mem::take(&mut *notes).into_iter().collect();
        }
        let hashes: Vec<SecretHash> = notes.keys().take(most).copied().collect();
        hashes.into_iter().filter_map(|hash| notes.remove_entry(&hash)).collect()
    }
}
