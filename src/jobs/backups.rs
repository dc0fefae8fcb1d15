//! Keeps the metric of the newest backup's age; each node for itself, since each is asked for its metrics.

use std::sync::Arc;
use std::time::Duration;

use super::{Jobs, Left};
use crate::metrics::Metrics;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(15);

pub fn start(jobs: &Jobs, metrics: &Arc<Metrics>) {
    let taken = metrics.backup_taken.clone();
    jobs.start_on_every_node("backup-age", EVERY, move |store| {
        let taken = taken.clone();
        async move {
            taken.set(store.last_backup().await?.unwrap_or(0));
            Ok(Left::Nothing)
        }
    });
}
