//! Addresses of files: signed, so that they need no credentials (an `<img>` can't send any), and good for a while.
//!
//! Invariant: an address is good for one file until one moment; nobody without the key can make one, or make one last.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;
use tokio::sync::OnceCell;

use crate::ids::AttachmentId;
use crate::ports::{MessageStore, StoreError};

/// Why an address does not open its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLink {
    /// Not made here, or changed.
    Forged,
    Expired,
}

/// Makes and checks addresses.
pub struct Links {
    life: Duration,
    key: OnceCell<Vec<u8>>,
}

/// An address and when it ends, in seconds since 1970.
pub struct Link {
    pub url: String,
    pub expires: u64,
}

impl Links {
    /// `secret`: the key; empty: the one that the store keeps.
    pub fn new(secret: &[u8], life: Duration) -> Self {
        let key = if secret.is_empty() { OnceCell::new() } else { OnceCell::new_with(Some(secret.to_vec())) };
        Self { life, key }
    }

    async fn key(&self, store: &dyn MessageStore) -> Result<&[u8], StoreError> {
        let shared = async || {
            let mut fresh = [0; 32];
            OsRng.try_fill_bytes(&mut fresh).map_err(|error| StoreError::Fault(format!("no randomness: {error}")))?;
            Ok(store.link_key(&fresh).await?.to_vec())
        };
        Ok(self.key.get_or_try_init(shared).await?)
    }

    /// An address that is good for at least three quarters of the time that the settings give. It stays the same for the
    /// other quarter, so that a browser finds in its cache what it has.
    ///
    /// # Errors
    /// Where the store has to be asked for the key, and can't be.
    pub async fn sign(&self, store: &dyn MessageStore, id: &AttachmentId, now: u64) -> Result<Link, StoreError> {
        let key = self.key(store).await?;
        let life = self.life.as_secs();
        let step = (life / 4).max(1);
        let expires = now / step * step + life;
        let signature = URL_SAFE_NO_PAD.encode(mac(key, id, expires).finalize().into_bytes());
        Ok(Link { url: format!("/files/{id}?exp={expires}&sig={signature}"), expires })
    }

    /// Whether an address was made here and is good at `now`.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub async fn check(
        &self,
        store: &dyn MessageStore,
        id: &AttachmentId,
        expires: u64,
        signature: &str,
        now: u64,
    ) -> Result<Result<(), BadLink>, StoreError> {
        let given = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        // Compared in constant time.
        Ok(if mac(self.key(store).await?, id, expires).verify_slice(&given).is_err() {
            Err(BadLink::Forged)
        } else if now >= expires {
            Err(BadLink::Expired)
        } else {
            Ok(())
        })
    }
}

fn mac(key: &[u8], id: &AttachmentId, expires: u64) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("roundtable file v1\n{id}\n{expires}").as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::sqlite::SqliteStore;

    fn id(digit: &str) -> AttachmentId {
        AttachmentId::parse(&digit.repeat(32)).expect("a valid id")
    }

    #[tokio::test]
    async fn an_address_opens_its_file_until_it_ends() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let store = SqliteStore::open(&data.path().join("a.db")).expect("a store");
        store.migrate().await.expect("a fresh database");
        let hour = Duration::from_secs(3_600);
        let (links, other) = (Links::new(b"", hour), Links::new(b"", hour));
        let now = 1_700_000_000;
        let link = links.sign(&store, &id("a"), now).await.expect("signed");
        assert!((now + 2_700..=now + 3_600).contains(&link.expires), "{}", link.expires);
        assert_eq!(links.sign(&store, &id("a"), now + 1).await.expect("signed").url, link.url, "cacheable");
        let signature = link.url.rsplit('=').next().expect("a signature");
        let check = async |links: &Links, id, expires, signature: &str, now| {
            links.check(&store, &id, expires, signature, now).await.expect("the store is there")
        };
        assert_eq!(check(&links, id("a"), link.expires, signature, now).await, Ok(()));
        assert_eq!(check(&other, id("a"), link.expires, signature, now).await, Ok(()), "the key is the store's");
        assert_eq!(check(&links, id("a"), link.expires, signature, link.expires).await, Err(BadLink::Expired));
        assert_eq!(check(&links, id("b"), link.expires, signature, now).await, Err(BadLink::Forged));
        assert_eq!(check(&links, id("a"), link.expires + 1, signature, now).await, Err(BadLink::Forged));
        for bad in ["", "x", &signature[1..], &"A".repeat(43)] {
            assert_eq!(check(&links, id("a"), link.expires, bad, now).await, Err(BadLink::Forged), "{bad}");
        }
        let own = Links::new(b"another key, from the settings", hour);
        assert_eq!(check(&own, id("a"), link.expires, signature, now).await, Err(BadLink::Forged));
    }
}
