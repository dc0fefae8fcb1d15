//! Where the bytes of attachments are: a folder, or a bucket of S3 or of what speaks like it.
//!
//! Each object is a random name, spread over folders by its first two digits, and written once. Invariants: an object
//! appears whole or not at all; a writer holds at most one part in memory, and takes no more bytes while that is stored;
//! every wait for the service ends within [`ANSWER_WITHIN`], except while a reader is slow.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, RetryConfig,
};
use tokio::time::timeout;
use url::Url;

use crate::config::BlobsUrl;
use crate::ids::ObjectId;

/// Longest wait for the service to take or give one part.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes written to a file at a time.
const FOLDER_PART: usize = 256 * 1024;
/// The smallest part that S3 takes, the last one of an object excepted.
const S3_PART: usize = 5 * 1024 * 1024;
/// Uploads of a node at a time; each holds one part in memory: 16 MiB with a folder, 80 MiB with S3.
const FOLDER_UPLOADS: usize = 64;
const S3_UPLOADS: usize = 16;

/// Why the bytes could not be stored or read; all pass when whatever holds them is well again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of attachments: {0}")]
pub struct BlobError(String);

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        Self(error.to_string())
    }
}

/// The bytes of an object, as they come.
pub type Chunks = BoxStream<'static, Result<Bytes, BlobError>>;

/// The place of all objects. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is a folder.
    folder: Option<PathBuf>,
}

impl Blobs {
    /// The place that `url` names; `None`: nowhere. Connects, and makes the folder, when first needed.
    ///
    /// # Errors
    /// Where the place makes no sense.
    pub fn open(url: &BlobsUrl) -> Result<Option<Self>, String> {
        match url {
            BlobsUrl::Off => Ok(None),
            BlobsUrl::Folder(path) => Self::folder(path).map(Some),
            BlobsUrl::S3(url) => Self::s3(url.expose()).map(Some),
        }
    }

    fn folder(path: &FilePath) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("attachments.url: {}: {error}", path.display());
        let folder = std::path::absolute(path).map_err(|error| said(&error))?;
        let prefix = Path::from_absolute_path(&folder).map_err(|error| said(&error))?;
        let store = Arc::new(LocalFileSystem::new().with_fsync(true));
        Ok(Self { store, prefix, folder: Some(folder) })
    }

    /// What the URL does not say comes from the usual variables, `AWS_…`, or from the machine's role.
    fn s3(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("attachments.url: {error}"))?;
        // The only provider of the build, but the client asks for the process's. A second call finds the first's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            // A slow reader makes an answer last; each read has a bound of its own.
            .with_timeout_disabled()
            .with_read_timeout(ANSWER_WITHIN);
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: Duration::from_secs(15),
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(url.host_str().unwrap_or_default())
            .with_client_options(options)
            .with_retry(retry);
        if !url.username().is_empty() {
            let decode = |part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
            builder = builder
                .with_access_key_id(decode(url.username()))
                .with_secret_access_key(decode(url.password().unwrap_or_default()));
        }
        for (name, value) in url.query_pairs() {
            builder = match &*name {
                "region" => builder.with_region(value),
                _ => builder.with_allow_http(value.starts_with("http://")).with_endpoint(value),
            };
        }
        let store = builder.build().map_err(|error| format!("attachments.url: {error}"))?;
        let prefix = Path::from_url_path(url.path()).map_err(|error| format!("attachments.url: {error}"))?;
        Ok(Self { store: Arc::new(store), prefix, folder: None })
    }

    /// Whether it is a folder of this machine, which other nodes need not see.
    pub fn is_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// How many uploads this node may take at a time.
    pub fn uploads(&self) -> usize {
        if self.folder.is_some() { FOLDER_UPLOADS } else { S3_UPLOADS }
    }

    fn path(&self, object: &ObjectId) -> Path {
        self.prefix.clone().join(&object.as_str()[..2]).join(object.as_str())
    }

    /// Begins to write an object.
    ///
    /// # Errors
    /// Where the folder can't be made.
    pub async fn writer(&self, object: &ObjectId) -> Result<Writer, BlobError> {
        if let Some(folder) = self.folder.clone() {
            // For the owner's eyes only, what is in it too.
            let make = move || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            let made = tokio::task::spawn_blocking(make).await.map_err(|error| BlobError(error.to_string()))?;
            made.map_err(|error| BlobError(error.to_string()))?;
        }
        let part = if self.folder.is_some() { FOLDER_PART } else { S3_PART };
        Ok(Writer { store: self.store.clone(), path: self.path(object), part, waiting: BytesMut::new(), parts: None })
    }

    /// The bytes of `range` (its end not included, and within the object).
    ///
    /// # Errors
    /// Where they can't be had.
    pub async fn read(&self, object: &ObjectId, range: std::ops::Range<u64>) -> Result<Chunks, BlobError> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = bounded(self.store.get_opts(&self.path(object), options)).await?;
        Ok(found.into_stream().map(|chunk| chunk.map_err(BlobError::from)).boxed())
    }

    /// Removes an object and what an upload that was cut off left of it. Harmless where there is nothing.
    ///
    /// # Errors
    /// Where it can't be removed now.
    pub async fn remove(&self, object: &ObjectId) -> Result<(), BlobError> {
        let path = self.path(object);
        match bounded(self.store.delete(&path)).await {
            Ok(()) | Err(Removal::Absent) => {}
            Err(Removal::Failed(error)) => return Err(error),
        }
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let object = object.clone();
        let left = tokio::task::spawn_blocking(move || remove_parts(&folder, &object)).await;
        left.map_err(|error| BlobError(error.to_string()))?.map_err(|error| BlobError(error.to_string()))
    }
}

/// Files that the library writes an object's parts to before it is whole: `<object>#<number>`.
fn remove_parts(folder: &FilePath, object: &ObjectId) -> std::io::Result<()> {
    let (folder, start) = (folder.join(&object.as_str()[..2]), format!("{object}#"));
    let found = match std::fs::read_dir(&folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for file in found {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&start) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// What came of a call within its time.
enum Removal {
    Absent,
    Failed(BlobError),
}

impl From<Removal> for BlobError {
    fn from(removal: Removal) -> Self {
        match removal {
            Removal::Absent => Self("the object is not there".to_owned()),
            Removal::Failed(error) => error,
        }
    }
}

async fn bounded<T>(call: impl Future<Output = object_store::Result<T>>) -> Result<T, Removal> {
    match timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(object_store::Error::NotFound { .. })) => Err(Removal::Absent),
        Ok(Err(error)) => Err(Removal::Failed(error.into())),
        Err(_) => Err(Removal::Failed(BlobError("no answer in time".to_owned()))),
    }
}

/// An object that is being written. Dropped before its end, it leaves nothing.
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part: usize,
    /// Less than a part.
    waiting: BytesMut,
    /// Once there is more than one part.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Writer {
    /// Takes some bytes; waits while a part is stored.
    ///
    /// # Errors
    /// Where they can't be stored; the object is given up.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        while self.waiting.len() + bytes.len() > self.part {
            let rest = bytes.split_off(self.part - self.waiting.len());
            self.waiting.extend_from_slice(&bytes);
            bytes = rest;
            let parts = match &mut self.parts {
                Some(parts) => parts,
                none => none.insert(bounded(self.store.put_multipart(&self.path)).await?),
            };
            let part = parts.put_part(self.waiting.split().freeze().into());
            bounded(part).await?;
        }
        self.waiting.extend_from_slice(&bytes);
        Ok(())
    }

    /// Stores what is left; then the object is there.
    ///
    /// # Errors
    /// Where it can't be stored: whether the object is there is unknown.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        let rest = self.waiting.split().freeze();
        let Some(parts) = &mut self.parts else {
            bounded(self.store.put(&self.path, rest.into())).await?;
            return Ok(());
        };
        bounded(parts.put_part(rest.into())).await?;
        bounded(parts.complete()).await?;
        self.parts = None;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (Some(mut parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            // Where this fails, the bucket's own rule for unfinished uploads has to clear up.
            let _ = timeout(ANSWER_WITHIN, parts.abort()).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(digit: char) -> ObjectId {
        ObjectId::parse(&digit.to_string().repeat(32)).expect("a valid id")
    }

    async fn all(chunks: Chunks) -> Vec<u8> {
        let chunks: Vec<Bytes> = chunks.map(|chunk| chunk.expect("bytes")).collect().await;
        chunks.concat()
    }

    /// Every file below `folder`.
    fn files(folder: &FilePath) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
        }
        found
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_whole_and_in_part_and_removed() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let folder = data.path().join("with space/日本");
        let blobs = Blobs::open(&BlobsUrl::Folder(folder.clone())).expect("a place").expect("a folder");
        for (digit, length) in [('1', 1), ('2', FOLDER_PART), ('3', FOLDER_PART + 1), ('4', 3 * FOLDER_PART - 7)] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut writer = blobs.writer(&object(digit)).await.expect("a writer");
            for chunk in bytes.chunks(70_001) {
                writer.write(Bytes::copy_from_slice(chunk)).await.expect("taken");
                assert!(writer.waiting.len() <= FOLDER_PART);
            }
            assert!(blobs.read(&object(digit), 0..1).await.is_err(), "whole or not at all");
            writer.finish().await.expect("stored");
            let whole = blobs.read(&object(digit), 0..length as u64).await.expect("there");
            assert_eq!(all(whole).await, bytes);
            let part = blobs.read(&object(digit), length as u64 / 2..length as u64).await.expect("there");
            assert_eq!(all(part).await, &bytes[length / 2..]);
        }
        assert_eq!(files(&folder).len(), 4);
        for digit in ['1', '2', '3', '4', '4'] {
            blobs.remove(&object(digit)).await.expect("gone, or was not there");
        }
        assert_eq!(files(&folder), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn what_a_cut_off_upload_leaves_goes_with_the_object() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let blobs = Blobs::open(&BlobsUrl::Folder(data.path().to_owned())).expect("a place").expect("a folder");
        let mut writer = blobs.writer(&object('5')).await.expect("a writer");
        writer.write(Bytes::from(vec![0; 2 * FOLDER_PART])).await.expect("taken");
        assert_eq!(files(data.path()).len(), 1, "a part waits beside");
        // As a killed process leaves it.
        std::mem::forget(writer.parts.take());
        blobs.remove(&object('5')).await.expect("removed");
        assert_eq!(files(data.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_bucket_is_taken_from_its_address() {
        let open = |url: &str| Blobs::open(&url.parse().expect("a URL by the rule"));
        let blobs = open("s3://KEY:SE%2FCRET@bucket/some/prefix?region=eu-west-1&endpoint=http://127.0.0.1:9");
        let blobs = blobs.expect("a place").expect("a bucket");
        assert_eq!(blobs.path(&object('a')).as_ref(), format!("some/prefix/aa/{}", object('a')));
        assert!(!blobs.is_folder() && blobs.uploads() < FOLDER_UPLOADS);
        assert!(open("").expect("nothing wrong").is_none());
    }
}
