//! Erases what has disappeared: messages of rooms with a `ttl_s`, and invitations that have ended. Readers are shown neither
//! before that; this is what makes it true of the store as well.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Jobs, Left};
use crate::ids::Millis;

/// How long something may stay in the store after it has disappeared, as long as the job keeps up.
const MESSAGES_EVERY: Duration = Duration::from_secs(5);
const INVITATIONS_EVERY: Duration = Duration::from_secs(60);
/// Entries looked at in one step. Appends of the room wait meanwhile, so that is a few milliseconds.
const ENTRIES: u32 = 200;
/// Invitations removed in one step.
const INVITATIONS: u32 = 1_000;

impl Jobs {
    pub fn start_expiry(&self) {
        self.start("expiry", MESSAGES_EVERY, |store| async move {
            Ok(if store.expire(now(), ENTRIES).await? { Left::More } else { Left::Nothing })
        });
        self.start("invitations", INVITATIONS_EVERY, |store| async move {
            let removed = store.sweep_invitations(now(), INVITATIONS).await?;
            Ok(if removed >= u64::from(INVITATIONS) { Left::More } else { Left::Nothing })
        });
    }
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
