//! Takes files in: what a node's API shares for them, and the way of an upload's bytes into the store.
//!
//! Invariants: an upload is never whole in memory, and its client is read no faster than its bytes are stored; one that
//! does not end in a record is doomed in the store, whatever ended it. Bounds: uploads of a node and of a person at a
//! time, downloads of a node at a time; more are refused, and told when to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::links::Links;
use super::problem::{Problem, fault};
use super::sniff;
use crate::blobs::{BlobError, Blobs};
use crate::config::{self, Config};
use crate::ids::{ObjectId, UserId};
use crate::ports::{Bounds, MessageStore, StoreError};
use crate::refusal::Refusal;

/// Files of one message.
pub const PER_MESSAGE: u32 = 10;
/// Uploads of one person on a node at a time.
const PER_USER: usize = 4;
/// Downloads of a node at a time.
const DOWNLOADS: usize = 512;
/// Longest pause of an upload.
const PAUSE: Duration = Duration::from_secs(30);
/// For how long an upload may be slower than [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(60);
/// Bytes that an upload has to bring a second, on average.
const SLOWEST: u64 = 16 * 1024;

/// What all worker threads share for files.
pub struct Attachments {
    pub blobs: Blobs,
    pub links: Links,
    pub settings: config::Attachments,
    uploads: Arc<Semaphore>,
    of_users: Mutex<HashMap<UserId, usize>>,
    downloads: Arc<Semaphore>,
}

impl Attachments {
    /// `None`: turned off.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn new(config: &Config) -> Result<Option<Arc<Self>>, String> {
        let settings = config.attachments.clone();
        let Some(blobs) = Blobs::open(&settings.url)? else { return Ok(None) };
        Ok(Some(Arc::new(Self {
            links: Links::new(settings.secret.expose().as_bytes(), Duration::from_secs(settings.link_s)),
            uploads: Arc::new(Semaphore::new(blobs.uploads())),
            of_users: Mutex::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            blobs,
            settings,
        })))
    }

    pub fn bounds(&self) -> Bounds {
        Bounds {
            per_user_bytes: self.settings.per_user_bytes,
            per_message: PER_MESSAGE,
            unreferenced: Duration::from_secs(self.settings.unreferenced_s),
        }
    }

    /// The longest that an upload can take without being refused for its slowness.
    fn upload_within(&self) -> Duration {
        GRACE + PAUSE + Duration::from_secs(self.settings.max_bytes / SLOWEST + 1)
    }

    /// A place among the uploads under way.
    ///
    /// # Errors
    /// `rate_limited` for a person with too many, `overloaded` where the node has too many.
    pub fn upload_slot(self: &Arc<Self>, user: &UserId) -> Result<UploadSlot, Refusal> {
        let Ok(permit) = self.uploads.clone().try_acquire_owned() else {
            return Err(Refusal::overloaded("too many uploads are under way; try again"));
        };
        let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_users.entry(user.clone()).or_default();
        if *count >= PER_USER {
            let text = format!("at most {PER_USER} of your uploads may be under way; try again when one has ended");
            return Err(Refusal::rate_limited(text, 1_000));
        }
        *count += 1;
        Ok(UploadSlot { all: self.clone(), user: user.clone(), _permit: permit })
    }

    /// A place among the downloads under way.
    ///
    /// # Errors
    /// `overloaded` where there are too many.
    pub fn download_slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let slot = self.downloads.clone().try_acquire_owned();
        slot.map_err(|_| Refusal::overloaded("too many downloads are under way; try again"))
    }
}

/// Held while an upload is under way.
pub struct UploadSlot {
    all: Arc<Attachments>,
    user: UserId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for UploadSlot {
    fn drop(&mut self) {
        let mut of_users = self.all.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                of_users.remove(&self.user);
            }
        }
    }
}

/// What an upload says of itself.
pub struct Declared<'a> {
    pub bytes: Option<u64>,
    pub mime: Option<&'a str>,
}

/// An object that is wholly stored. Unless it is kept, it is doomed when this is dropped.
pub struct Upload {
    store: Arc<dyn MessageStore>,
    pub object: ObjectId,
    pub mime: &'static str,
    pub bytes: u64,
    pub sha256: [u8; 32],
    kept: bool,
}

impl Upload {
    /// The store has decided about the object.
    pub fn settled(mut self) {
        self.kept = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (store, object) = (self.store.clone(), self.object.clone());
        // Where this fails, its time runs out a little later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { store.drop_upload(&object).await });
        }
    }
}

impl Attachments {
    /// Stores an upload's bytes as a new object.
    ///
    /// # Errors
    /// Whatever is wrong with the upload, or with where it should go; nothing of it stays.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        store: Arc<dyn MessageStore>,
        user: &UserId,
        declared: Declared<'_>,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Upload, Problem> {
        let most = self.settings.max_bytes;
        if declared.bytes.is_some_and(|bytes| bytes > most) {
            return Err(Problem::too_large(usize::try_from(most).unwrap_or(usize::MAX)));
        }
        let object = random_object()?;
        let used = store.begin_upload(&object, user, self.upload_within()).await?;
        let mut upload = Upload { store, object, mime: "", bytes: 0, sha256: [0; 32], kept: false };
        let free = match self.settings.per_user_bytes {
            0 => u64::MAX,
            quota => quota.saturating_sub(used),
        };
        if declared.bytes.unwrap_or(1) > free {
            return Err(self.over_quota(used));
        }
        let mut body = Body { body, began: Instant::now(), bytes: 0 };
        let over = |bytes: u64| {
            if bytes > most {
                Err(Problem::too_large(usize::try_from(most).unwrap_or(usize::MAX)))
            } else if bytes > free {
                Err(self.over_quota(used))
            } else {
                Ok(())
            }
        };

        let mut head = Vec::new();
        while head.len() < sniff::HEAD_BYTES
            && let Some(chunk) = body.next().await?
        {
            over(body.bytes)?;
            head.extend_from_slice(&chunk);
        }
        if head.is_empty() {
            return Err(Refusal::bad_request("the body is empty: it must be the file's bytes").into());
        }
        upload.mime = sniff::sniff(&head[..head.len().min(sniff::HEAD_BYTES)]);
        sniff::agree(declared.mime, upload.mime).map_err(Refusal::bad_request)?;
        sniff::check_allowed(&self.settings.types, upload.mime).map_err(Refusal::bad_request)?;

        let mut sha256 = Sha256::new();
        let mut writer = self.blobs.writer(&upload.object).await.map_err(away)?;
        let mut chunk = Bytes::from(head);
        loop {
            sha256.update(&chunk);
            writer.write(chunk).await.map_err(away)?;
            match body.next().await? {
                Some(next) => chunk = next,
                None => break,
            }
            over(body.bytes)?;
        }
        writer.finish().await.map_err(away)?;
        upload.bytes = body.bytes;
        upload.sha256 = sha256.finalize().into();
        Ok(upload)
    }

    pub fn over_quota(&self, used: u64) -> Problem {
        Problem::over_quota(used, self.settings.per_user_bytes)
    }
}

/// Where the bytes are can't be reached: the cause is for the log.
pub fn away(error: BlobError) -> Problem {
    tracing::warn!(error = %error, "attachments.store.away");
    Refusal::unavailable("the store of attachments can't be reached now; try again").into()
}

fn random_object() -> Result<ObjectId, Problem> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| StoreError::Fault(format!("no randomness: {error}")))?;
    Ok(ObjectId::parse(&hex(&bytes)).map_err(|rule| fault(&rule))?)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A body that comes at a decent pace.
struct Body<S> {
    body: S,
    began: Instant,
    bytes: u64,
}

impl<S: Stream<Item = Result<Bytes, E>> + Unpin, E: std::fmt::Display> Body<S> {
    /// The next bytes; `None`: that was all.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let next = timeout(PAUSE, self.body.next()).await;
        let next = next.map_err(|_| Refusal::bad_request("the body did not arrive in time"))?;
        let Some(chunk) = next else { return Ok(None) };
        let chunk = chunk.map_err(|error| Refusal::bad_request(format!("the body broke off: {error}")))?;
        self.bytes += chunk.len() as u64;
        let late = self.began.elapsed().saturating_sub(GRACE).as_secs();
        if self.bytes < late.saturating_mul(SLOWEST) {
            return Err(Refusal::bad_request(format!("the body must bring at least {SLOWEST} bytes a second")));
        }
        Ok(Some(chunk))
    }
}
