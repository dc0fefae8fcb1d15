//! The newest backup.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::SqliteStore;
use super::threads::store_error;
use crate::ports::{BackupStore, StoreError};

#[async_trait]
impl BackupStore for SqliteStore {
    async fn last_backup(&self) -> Result<Option<i64>, StoreError> {
        let last = |connection: &mut rusqlite::Connection| {
            let sql = "SELECT taken_at FROM backups WHERE one = 1";
            connection.query_row(sql, [], |row| row.get(0)).optional().map_err(store_error)
        };
        self.readers.run(last).await
    }
}
