//! Leases of background jobs.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::params;

use super::SqliteStore;
use super::threads::store_error;
use crate::ids::NodeId;
use crate::ports::{JobStore, StoreError};

/// Milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

#[async_trait]
impl JobStore for SqliteStore {
    async fn lead(&self, job: &str, holder: &NodeId, lease: Duration) -> Result<bool, StoreError> {
        let (job, holder) = (job.to_owned(), holder.clone());
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2);
        let take = move |connection: &mut rusqlite::Connection| {
            let sql = format!(
                "INSERT INTO jobs (name, holder, until) VALUES (?1, ?2, {NOW} + ?3)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE holder = excluded.holder OR until <= {NOW}"
            );
            let mut take = connection.prepare_cached(&sql).map_err(store_error)?;
            Ok(take.execute(params![job, holder.as_str(), lease_ms]).map_err(store_error)? > 0)
        };
        self.writer.run(take).await
    }

    async fn resign(&self, job: &str, holder: &NodeId) -> Result<(), StoreError> {
        let (job, holder) = (job.to_owned(), holder.clone());
        let resign = move |connection: &mut rusqlite::Connection| {
            let sql = "DELETE FROM jobs WHERE name = ?1 AND holder = ?2";
            connection.execute(sql, [job.as_str(), holder.as_str()]).map_err(store_error)?;
            Ok(())
        };
        self.writer.run(resign).await
    }
}
