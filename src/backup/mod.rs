//! `roundtable backup`: copies of the whole store that are known to be whole, and the way back.
//!
//! Invariants: what a manifest says was read in the same snapshot that the copy was made of, so a restored store has to be
//! equal to it, not just alike; nothing is restored over anything; a folder with a manifest is a finished backup, one
//! without is none. Encryption, shipping and retention are for whoever runs this (docker/backup).

mod census;
mod postgres;
mod sqlite;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use census::Census;

use crate::config::StoreUrl;

/// The manifest of a backup, in its folder.
const MANIFEST: &str = "manifest.json";
/// The form of manifest that this release writes and reads.
const FORMAT: u32 = 1;

/// What a backup is, beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The release that made it.
    pub release: String,
    /// `postgres` or `sqlite`.
    pub store: String,
    /// RFC 3339: of the snapshot.
    pub taken_at: String,
    /// The file with the copy, in the same folder.
    pub file: String,
    pub bytes: u64,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
    pub census: Census,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("the store failed: {0}")]
    Store(String),
    #[error("{program} failed: {why}")]
    Program { program: &'static str, why: String },
    /// It is not what it says.
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Refused(String),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let shown = path.display().to_string();
    move |error| BackupError::File(shown, error)
}

/// Copies the store of `url` into a new folder in `folder`, while nodes use it or not. Answers with the new folder.
///
/// # Errors
/// Where the store can't be read, is damaged, or the folder can't be written. What was begun is removed.
pub async fn make(url: &StoreUrl, folder: &Path) -> Result<(PathBuf, Manifest), BackupError> {
    let now = OffsetDateTime::now_utc();
    let taken_at = now.format(&Rfc3339).map_err(|error| BackupError::Refused(error.to_string()))?;
    let (date, clock) = (now.date(), now.time());
    let name = format!("{date}T{:02}{:02}{:02}Z", clock.hour(), clock.minute(), clock.second());
    let target = folder.join(name);
    fs::create_dir_all(folder).map_err(file(folder))?;
    fs::create_dir(&target).map_err(file(&target))?;
    let made = fill(url, &target, taken_at).await;
    if made.is_err() {
        let _ = fs::remove_dir_all(&target);
    }
    Ok((target, made?))
}

async fn fill(url: &StoreUrl, target: &Path, taken_at: String) -> Result<Manifest, BackupError> {
    let (store, name) = match url {
        StoreUrl::Postgres(_) => ("postgres", "roundtable.dump"),
        StoreUrl::Sqlite(_) => ("sqlite", "roundtable.db"),
    };
    let copy = target.join(name);
    let census = match url {
        StoreUrl::Postgres(url) => postgres::make(url.expose(), &copy).await?,
        StoreUrl::Sqlite(path) => sqlite::make(path, &copy)?,
    };
    census.is_sound()?;
    let (bytes, sha256) = digest(&copy)?;
    let manifest = Manifest {
        format: FORMAT,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        store: store.to_owned(),
        taken_at,
        file: name.to_owned(),
        bytes,
        sha256,
        census,
    };
    // The manifest comes last and at once: with it the backup is one.
    let (path, draft) = (target.join(MANIFEST), target.join("manifest.json.part"));
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| BackupError::Refused(error.to_string()))?;
    fs::write(&draft, text + "\n").and_then(|()| File::open(&draft)?.sync_all()).map_err(file(&draft))?;
    fs::rename(&draft, &path).and_then(|()| File::open(target)?.sync_all()).map_err(file(&path))?;
    Ok(manifest)
}

/// Reads the backup in `folder` and looks whether its bytes are those that were written.
///
/// # Errors
/// Where there is none, it is of a form that this release does not know, or it was damaged.
pub fn read(folder: &Path) -> Result<Manifest, BackupError> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(file(&path))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| BackupError::Damaged(format!("{}: no manifest of a backup: {error}", path.display())))?;
    if manifest.format != FORMAT {
        let what = format!("{}: of format {}; this release knows {FORMAT}", path.display(), manifest.format);
        return Err(BackupError::Refused(what));
    }
    if Path::new(&manifest.file).file_name().is_none_or(|name| name != &*manifest.file) {
        return Err(BackupError::Damaged(format!("{}: file must be a name in the same folder", path.display())));
    }
    let copy = folder.join(&manifest.file);
    let (bytes, sha256) = digest(&copy)?;
    if (bytes, &sha256) != (manifest.bytes, &manifest.sha256) {
        return Err(BackupError::Damaged(format!(
            "{} is damaged: {bytes} bytes with SHA-256 {sha256}, and {} bytes with {} were written",
            copy.display(),
            manifest.bytes,
            manifest.sha256
        )));
    }
    Ok(manifest)
}

/// Puts the backup in `folder` into the empty store of `url`, and compares what is there then with what was copied.
///
/// # Errors
/// Where the backup is damaged, the store is not empty or of another kind, or what came out is not what went in.
pub async fn restore(folder: &Path, url: &StoreUrl) -> Result<Manifest, BackupError> {
    let manifest = read(folder)?;
    let copy = folder.join(&manifest.file);
    let restored = match (url, &*manifest.store) {
        (StoreUrl::Postgres(url), "postgres") => postgres::restore(&copy, url.expose()).await?,
        (StoreUrl::Sqlite(path), "sqlite") => sqlite::restore(&copy, path)?,
        (_, other) => {
            return Err(BackupError::Refused(format!("the backup is of a store on {other}, store.url names another")));
        }
    };
    restored.is_sound()?;
    manifest.census.is_equal(&restored)?;
    Ok(manifest)
}

/// Counts the store of `url` and looks whether every room's log is whole.
///
/// # Errors
/// Where it can't be read, or a log is not whole.
pub async fn check(url: &StoreUrl) -> Result<Census, BackupError> {
    let census = match url {
        StoreUrl::Postgres(url) => postgres::check(url.expose()).await?,
        StoreUrl::Sqlite(path) => sqlite::check(path)?,
    };
    census.is_sound()?;
    Ok(census)
}

/// Notes in the store of `url` that the backup in `folder` was verified, for the nodes' metric of its age.
///
/// # Errors
/// Where the backup is damaged or the store can't be written.
pub async fn note(folder: &Path, url: &StoreUrl) -> Result<Manifest, BackupError> {
    let manifest = read(folder)?;
    let taken = OffsetDateTime::parse(&manifest.taken_at, &Rfc3339)
        .map_err(|error| BackupError::Damaged(format!("taken_at of the manifest: {error}")))?;
    let (taken_s, bytes) = (taken.unix_timestamp(), i64::try_from(manifest.bytes).unwrap_or(i64::MAX));
    match url {
        StoreUrl::Postgres(url) => postgres::note(url.expose(), taken_s, bytes).await?,
        StoreUrl::Sqlite(path) => sqlite::note(path, taken_s, bytes)?,
    }
    Ok(manifest)
}

/// Bytes of a file and their SHA-256 in hexadecimal digits.
fn digest(path: &Path) -> Result<(u64, String), BackupError> {
    let mut opened = File::open(path).map_err(file(path))?;
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = opened.read(&mut chunk).map_err(file(path))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(&chunk[..read]);
    }
    Ok((bytes, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
