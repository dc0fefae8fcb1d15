//! Removes files that no message refers to, and the bytes of those that were erased or never became one.

use std::sync::Arc;
use std::time::Duration;

use super::{Jobs, Left};
use crate::blobs::Blobs;
use crate::ports::{MessageStore, StoreError};

/// Records looked at, and objects removed, in one step.
const STEP: u32 = 200;
/// Objects that are removed at a time.
const AT_ONCE: usize = 8;

/// Starts the job. `unreferenced`: how long a file waits for its message.
pub fn start(jobs: &Jobs, blobs: Blobs, unreferenced: Duration) {
    let every = (unreferenced / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
    jobs.start("attachments", every, move |store| step(store, blobs.clone()));
}

/// An object goes before its row: cut off between the two, the next step removes it once more.
async fn step(store: Arc<dyn MessageStore>, blobs: Blobs) -> Result<Left, StoreError> {
    let looked_at = store.sweep_attachments(STEP).await?;
    let doomed = store.doomed_objects(STEP).await?;
    let mut failure = None;
    for some in doomed.chunks(AT_ONCE) {
        let removed = futures_util::future::join_all(some.iter().map(|object| blobs.remove(object))).await;
        let mut gone = Vec::with_capacity(some.len());
        for (object, removed) in some.iter().zip(removed) {
            match removed {
                Ok(()) => gone.push(object.clone()),
                Err(error) => failure = Some(error),
            }
        }
        store.forget_objects(&gone).await?;
        if let Some(error) = failure {
            return Err(StoreError::Unavailable(error.to_string()));
        }
    }
    let full = STEP as usize;
    Ok(if looked_at as usize == full || doomed.len() == full { Left::More } else { Left::Nothing })
}
