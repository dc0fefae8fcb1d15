//! Erasing what has disappeared: messages of rooms with a `ttl_s`.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::Millis;

/// The store's side of the job `jobs::expiry`. Whoever reads is shown nothing that has expired, erased yet or not.
#[async_trait]
pub trait ExpiryStore: Send + Sync + 'static {
    /// Goes on in the room whose turn it is: looks at up to `limit` entries behind those it has done, and erases text and
    /// data of the messages among them that have expired at `now`, the texts of their edits, the texts kept of them and
    /// their pins. Their places stay. False: no room has anything to do now.
    async fn expire(&self, now: Millis, limit: u32) -> Result<bool, StoreError>;
}
