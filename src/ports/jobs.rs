//! Who does a background job: one node at a time, by a lease in the store.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::ids::NodeId;

/// Leases of background jobs (`jobs/`), by the store's own clock.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Takes or renews the lease of `job` for `lease`. True: it is `holder`'s until then. False: another node has it.
    ///
    /// A lease only keeps two nodes from doing the same work; a job must be right even if two do it at once.
    async fn lead(&self, job: &str, holder: &NodeId, lease: Duration) -> Result<bool, StoreError>;

    /// Gives a lease back, so that another node need not wait for its end. Harmless where `holder` does not have it.
    async fn resign(&self, job: &str, holder: &NodeId) -> Result<(), StoreError>;
}
