//! Texts encrypted at rest. Nothing above the store knows which are: they are sealed where they are written and opened where
//! they are read.

use async_trait::async_trait;

use super::StoreError;

/// What is left to do in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncryptionLeft {
    /// Rooms that are to be encrypted and have no key yet.
    pub rooms: u64,
    /// Entries that were there before their room had a key, and are not encrypted yet.
    pub entries: u64,
    /// Keys of rooms that are under another key than the active one.
    pub keys: u64,
}

impl EncryptionLeft {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

#[async_trait]
pub trait EncryptionStore: Send + Sync + 'static {
    /// Whether the settings have every key that rooms' keys are under. To be asked before anything else of a schema that is
    /// there.
    ///
    /// # Errors
    /// A fault that names a key that is missing, or is another one than it was.
    async fn check_keys(&self) -> Result<(), StoreError>;

    /// One bounded step: gives a room a key that is to have one (its epoch rises, so its owner opens it again), encrypts
    /// about `limit` older entries of a room and takes them out of the index of texts, or brings rooms' keys under the
    /// active one. False: nothing is left.
    async fn encrypt_some(&self, limit: u32) -> Result<bool, StoreError>;

    async fn encryption_left(&self) -> Result<EncryptionLeft, StoreError>;
}
