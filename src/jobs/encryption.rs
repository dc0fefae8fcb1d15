//! Encrypts texts that were there before their rooms were to be encrypted, and brings rooms' keys under the active one.

use std::sync::Arc;
use std::time::Duration;

use super::Left;
use crate::ports::{MessageStore, StoreError};

/// How often it is looked whether there is anything.
pub const EVERY: Duration = Duration::from_secs(10);
/// Entries of one step. Appends of the room wait meanwhile, so that is a few milliseconds.
pub const ENTRIES: u32 = 200;

/// # Errors
/// [`StoreError`]; nothing of the step was done then.
pub async fn step(store: Arc<dyn MessageStore>) -> Result<Left, StoreError> {
    Ok(if store.encrypt_some(ENTRIES).await? { Left::More } else { Left::Nothing })
}
