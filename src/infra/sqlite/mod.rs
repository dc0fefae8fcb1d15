//! The store on an SQLite file, for a single node.
//!
//! Invariants: WAL with `synchronous=FULL`, so what is committed survives a crash of process or machine; one process a
//! file (a lock file beside it, held for as long as the store lives); every change is one transaction of the one
//! writer, so changes have one order.

mod accounts;
mod append;
mod attachments;
mod audit;
mod backups;
mod credentials;
mod encryption;
mod expiry;
mod history;
mod index;
mod invitations;
mod jobs;
mod logs;
mod moderation;
mod oidc;
mod past;
mod pins;
mod privacy;
mod purge;
mod rooms;
pub mod schema;
mod search;
mod threads;
mod webhook_queue;
mod webhooks;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use self::threads::{Workers, store_error};
use crate::entry::{Role, Room};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::index::{News, Turns, rooms_of};
use crate::infra::sealed::{KeyRing, Sealing};
use crate::ports::{Appended, Created, MessageStore, MyRoom, OpenedRoom, Page, Range, RoomAppend, StoreError, User};

/// Threads that read.
const READERS: usize = 4;
/// Searches under way at a time: the other readers are for everything else.
const SEARCHES: usize = 2;

/// The durable side in one file.
pub struct SqliteStore {
    // In this order: the connections are closed before the lock is let go.
    writer: Arc<Workers>,
    readers: Workers,
    /// For the index of texts.
    news: News,
    searches: Turns,
    sealing: Arc<Sealing>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the database at `path`; makes it, and the folders above it, where they are missing.
    ///
    /// # Errors
    /// A fault where another process has it open; [`StoreError::Unavailable`] where the file can't be opened or made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let unavailable = |error: std::io::Error| StoreError::Unavailable(format!("{shown}: {error}"));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(unavailable)?;
        }
        // For the owner's eyes only; the files that SQLite makes beside it take after it.
        let private =
            |path: &Path| OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        let lock = private(&lock_path(path)).map_err(unavailable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Fault(format!("{shown} is in use by another roundtable process")));
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
        drop(private(path).map_err(unavailable)?);
        let writer = Arc::new(Workers::writer(path)?);
        let readers = Workers::readers(path, READERS)?;
        let (news, searches, sealing) = (News::default(), Turns::new(SEARCHES), Arc::default());
        Ok(Self { writer, readers, news, searches, sealing, _lock: lock })
    }

    /// With the keys of encrypted rooms' keys.
    #[must_use]
    pub fn encrypting(mut self, ring: Option<KeyRing>) -> Self {
        self.sealing = Arc::new(Sealing::new(ring));
        self
    }

    fn sealing(&self) -> Arc<Sealing> {
        Arc::clone(&self.sealing)
    }
}

/// `roundtable.db` → `roundtable.db.lock`.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[async_trait]
impl MessageStore for SqliteStore {
    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let (ran, newer) = self.writer.run(schema::bring_up).await?;
        if !newer.is_empty() {
            tracing::info!(migrations = ?newer, "store.newer");
        }
        // Of rooms that were deleted before the last stop.
        purge::start(&self.writer);
        Ok(ran)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ping = |connection: &mut rusqlite::Connection| {
            connection.query_row("SELECT 1 FROM sqlite_master LIMIT 1", [], |_| Ok(())).or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                error => Err(store_error(error)),
            })
        };
        self.readers.run(ping).await
    }

    async fn open_room(&self, room: &RoomId, recent: u32) -> Result<Option<OpenedRoom>, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        self.writer.run(move |connection| logs::open_room(connection, &sealing, &room, recent)).await
    }

    async fn append(&self, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
        let deletes = batch.iter().any(RoomAppend::deletes);
        let (rooms, sealing) = (rooms_of(&batch), self.sealing());
        let done = self.writer.run(move |connection| append::append(connection, &sealing, batch)).await?;
        self.news.note(&rooms, &done);
        if deletes {
            purge::start(&self.writer);
        }
        Ok(done)
    }

    async fn page(&self, room: &RoomId, range: Range, limit: u32, max_bytes: usize) -> Result<Page, StoreError> {
        let (room, sealing) = (room.clone(), self.sealing());
        self.readers.run(move |connection| logs::page(connection, &sealing, &room, range, limit, max_bytes)).await
    }

    async fn create_room(&self, room: &Room, owner: &UserId, other: Option<&UserId>) -> Result<Created, StoreError> {
        let (room, owner, other) = (room.clone(), owner.clone(), other.cloned());
        self.writer.run(move |connection| rooms::create_room(connection, &room, &owner, other.as_ref())).await
    }

    async fn room(&self, room: &RoomId) -> Result<Option<Room>, StoreError> {
        let room = room.clone();
        self.readers.run(move |connection| rooms::room(connection, &room)).await
    }

    async fn role(&self, room: &RoomId, user: &UserId) -> Result<Option<Role>, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.readers.run(move |connection| rooms::role(connection, &room, &user)).await
    }

    async fn rooms(
        &self,
        user: &UserId,
        cursor: Option<&RoomId>,
        limit: u32,
    ) -> Result<Vec<(Room, Option<Role>)>, StoreError> {
        let (user, cursor) = (user.clone(), cursor.cloned());
        self.readers.run(move |connection| rooms::rooms(connection, &user, cursor.as_ref(), limit)).await
    }

    async fn my_rooms(&self, user: &UserId, cursor: Option<&RoomId>, limit: u32) -> Result<Vec<MyRoom>, StoreError> {
        let (user, cursor) = (user.clone(), cursor.cloned());
        self.readers.run(move |connection| rooms::my_rooms(connection, &user, cursor.as_ref(), limit)).await
    }

    async fn members(
        &self,
        room: &RoomId,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Role)>, StoreError> {
        let (room, cursor) = (room.clone(), cursor.cloned());
        self.readers.run(move |connection| rooms::members(connection, &room, cursor.as_ref(), limit)).await
    }

    async fn bans(&self, room: &RoomId, cursor: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let (room, cursor) = (room.clone(), cursor.cloned());
        self.readers.run(move |connection| rooms::bans(connection, &room, cursor.as_ref(), limit)).await
    }

    async fn raise_read_marks(&self, marks: &[(RoomId, UserId, Seq)]) -> Result<(), StoreError> {
        let marks = marks.to_vec();
        self.writer.run(move |connection| rooms::raise_read_marks(connection, &marks)).await
    }

    async fn create_account(&self, user: &User, password_hash: &str) -> Result<Created, StoreError> {
        let (user, password_hash) = (user.clone(), password_hash.to_owned());
        self.writer.run(move |connection| accounts::create(connection, &user, &password_hash)).await
    }

    async fn password_hash(&self, user: &UserId) -> Result<Option<(User, String)>, StoreError> {
        let user = user.clone();
        self.readers.run(move |connection| accounts::password_hash(connection, &user)).await
    }

    async fn ensure_jwt_user(&self, user: &UserId, name: Option<&str>) -> Result<Created, StoreError> {
        let (known, named) = (user.clone(), name.map(str::to_owned));
        // Looked at by a reader first: nearly always there is nothing to write.
        let settled =
            self.readers.run(move |connection| accounts::known_jwt_user(connection, &known, named.as_deref()));
        if let Some(settled) = settled.await? {
            return Ok(settled);
        }
        let (user, name) = (user.clone(), name.map(str::to_owned));
        self.writer.run(move |connection| accounts::ensure_jwt_user(connection, &user, name.as_deref())).await
    }

    async fn user(&self, user: &UserId) -> Result<Option<User>, StoreError> {
        let user = user.clone();
        self.readers.run(move |connection| accounts::user(connection, &user)).await
    }

    async fn rename_user(&self, user: &UserId, name: &str) -> Result<bool, StoreError> {
        let (user, name) = (user.clone(), name.to_owned());
        self.writer.run(move |connection| accounts::rename(connection, &user, &name)).await
    }
}
