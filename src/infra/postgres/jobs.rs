//! Leases of background jobs.

use std::time::Duration;

use async_trait::async_trait;

use super::PostgresStore;
use crate::ids::NodeId;
use crate::ports::{JobStore, StoreError};

/// Milliseconds since 1970 by the server's clock.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

#[async_trait]
impl JobStore for PostgresStore {
    async fn lead(&self, job: &str, holder: &NodeId, lease: Duration) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO jobs AS j (name, holder, until) VALUES ($1, $2, {NOW} + $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE j.holder = excluded.holder OR j.until <= {NOW}"
        );
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2);
        Ok(self.lease().await?.execute(&sql, &[&job, &holder.as_str(), &lease_ms]).await? > 0)
    }

    async fn resign(&self, job: &str, holder: &NodeId) -> Result<(), StoreError> {
        let sql = "DELETE FROM jobs WHERE name = $1 AND holder = $2";
        self.lease().await?.execute(sql, &[&job, &holder.as_str()]).await?;
        Ok(())
    }
}
