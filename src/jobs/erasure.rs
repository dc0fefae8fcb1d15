//! Erases, a little at a time, what people wrote who asked to be forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::Left;
use crate::ports::{Erasing, MessageStore, StoreError};

/// How often it is looked whether there is anybody.
pub const EVERY: Duration = Duration::from_secs(2);
/// Items of one step: few enough for one that a busy store does in time.
const STEP: u32 = 500;

/// One step of one person's erasure.
///
/// # Errors
/// [`StoreError`]; nothing of the step was done then.
pub async fn step(store: Arc<dyn MessageStore>) -> Result<Left, StoreError> {
    Ok(match store.erase_some(STEP).await? {
        Erasing::Nothing => Left::Nothing,
        Erasing::Step(_) | Erasing::Round(_) => Left::More,
    })
}
