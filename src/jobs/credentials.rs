//! What credentials need in the background: those that ended are swept out, last uses are written behind, and every node
//! of a cluster reads what was revoked, so that nothing rests on a message that may be lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use super::{Jobs, Left};
use crate::auth::Authenticator;
use crate::domain::revoked::Revoked;
use crate::ports::{MessageStore, RevokedAt, StoreError};

const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Rows that one step removes of either kind, at most.
const SWEEP_ROWS: u32 = 2_000;
/// How long what was revoked can be read.
const KEEP_REVOKED_MS: i64 = 60 * 60 * 1_000;
/// How often last uses are written, and how many at once.
const SEEN_EVERY: Duration = Duration::from_secs(10);
const SEEN_ROWS: usize = 1_000;
/// How often what was revoked is read. Twice that, and a round trip, must be within what a login is trusted for.
const WATCH_EVERY: Duration = Duration::from_millis(750);
/// How far back a reading begins: a line has the time before its commit, and commits come in any order.
const LOOK_BACK_MS: i64 = 10_000;
/// Lines read at once.
const WATCH_ROWS: u32 = 1_000;

/// Sweeps out what ended.
pub fn sweep(jobs: &Jobs) {
    jobs.start("credentials", SWEEP_EVERY, |store| async move {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let gone = store.sweep_credentials(now, KEEP_REVOKED_MS, SWEEP_ROWS).await?;
        Ok(if gone >= u64::from(SWEEP_ROWS) { Left::More } else { Left::Nothing })
    });
}

/// Writes last uses behind, for as long as this thread runs. What can't be written is forgotten.
pub async fn write_seen(auth: Arc<Authenticator>, store: Arc<dyn MessageStore>) {
    loop {
        sleep(SEEN_EVERY).await;
        loop {
            let seen = auth.take_seen(SEEN_ROWS);
            if seen.is_empty() {
                break;
            }
            if let Err(error) = store.seen(&seen).await {
                tracing::warn!(error = %error, "credentials.seen.unwritten");
                break;
            }
        }
    }
}

/// Reads what was revoked, for as long as this thread runs; `tell` is given each once, with when it was or a
/// little before.
pub async fn watch_revoked(auth: Arc<Authenticator>, store: Arc<dyn MessageStore>, tell: impl Fn(Revoked, Instant)) {
    let mut watch = Watch::default();
    let mut failing = false;
    let tell = |revoked: Revoked, at| {
        // At once: from here on it counts as heard.
        auth.forget(&revoked);
        tell(revoked, at);
    };
    loop {
        let began = Instant::now();
        let first = watch.read_at.is_none();
        match watch.read(&*store, &tell).await {
            Ok(()) => {
                if first {
                    auth.forget_logins();
                }
                auth.heard(began);
                failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = %error, "credentials.revoked.unread");
                }
            }
        }
        sleep(WATCH_EVERY).await;
    }
}

/// How far a node has read. What was revoked before it began to concerns nobody: what it knew until then is forgotten.
#[derive(Default)]
struct Watch {
    /// The store's clock at the last reading.
    read_at: Option<i64>,
    /// Told already, of the time that the next reading begins with.
    told: BTreeSet<RevokedAt>,
}

impl Watch {
    async fn read(&mut self, store: &dyn MessageStore, tell: &impl Fn(Revoked, Instant)) -> Result<(), StoreError> {
        let Some(read_at) = self.read_at else {
            let end = RevokedAt { at: i64::MAX, no: i64::MAX };
            self.read_at = Some(store.revocations(end, 1).await?.now);
            return Ok(());
        };
        let mut from = RevokedAt { at: read_at - LOOK_BACK_MS, no: 0 };
        self.told.retain(|place| *place >= from);
        let mut first_now = None;
        loop {
            // Before the store looks at its clock, so that what it says was is never put too late.
            let began = Instant::now();
            let page = store.revocations(from, WATCH_ROWS).await?;
            let now = *first_now.get_or_insert(page.now);
            let full = page.items.len() >= WATCH_ROWS as usize;
            for (place, revoked) in page.items {
                from = place;
                if let Some(revoked) = revoked
                    && self.told.insert(place)
                {
                    let ago = Duration::from_millis(u64::try_from(page.now - place.at).unwrap_or(0));
                    tell(revoked, began.checked_sub(ago).unwrap_or(began));
                }
            }
            if !full {
                self.read_at = Some(now);
                return Ok(());
            }
        }
    }
}
