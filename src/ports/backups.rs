//! What the store knows of copies of itself.

use async_trait::async_trait;

use super::StoreError;

/// The newest backup that was verified, as `roundtable backup note` says.
#[async_trait]
pub trait BackupStore: Send + Sync + 'static {
    /// When its snapshot was taken, in seconds since 1970. `None`: there is none.
    async fn last_backup(&self) -> Result<Option<i64>, StoreError>;
}
