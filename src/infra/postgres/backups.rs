//! The newest backup.

use async_trait::async_trait;

use super::PostgresStore;
use crate::ports::{BackupStore, StoreError};

#[async_trait]
impl BackupStore for PostgresStore {
    async fn last_backup(&self) -> Result<Option<i64>, StoreError> {
        let row = self.lease().await?.query_opt("SELECT taken_at FROM backups WHERE one", &[]).await?;
        Ok(row.map(|row| row.get(0)))
    }
}
