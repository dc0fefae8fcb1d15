//! The store on PostgreSQL.
//!
//! Invariants: everything is done under PostgreSQL's own guarantees, with `synchronous_commit` on; the row of a room in
//! `room_heads` is locked by whatever writes to the room, so epochs and `seq`s have one order; constructing never waits
//! for the server, and no call waits for longer than [`PostgresOptions`] says.

mod accounts;
pub mod address;
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
mod pool;
mod privacy;
mod purge;
mod rooms;
mod schema;
mod search;
mod slow;
mod webhook_queue;
mod webhooks;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;

use self::address::Address;
use self::pool::{Lease, StoreThread};
use self::purge::Purge;
use crate::entry::{Role, Room};
use crate::ids::{RoomId, Seq, UserId};
use crate::infra::index::{News, Turns, rooms_of};
use crate::infra::sealed::{KeyRing, Sealing};
use crate::ports::{Appended, Created, MessageStore, MyRoom, OpenedRoom, Page, Range, RoomAppend, StoreError, User};

/// Searches under way at a time: the other connections are for everything else.
const SEARCHES: usize = 4;

/// How many connections, and how long to wait for what.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Connections for appends; more than the persistence has lanes are never used.
    pub append_connections: u32,
    /// Connections for everything else.
    pub connections: u32,
    /// Longest wait for a free connection.
    pub wait_within: Duration,
    /// Longest wait for a new connection to stand.
    pub connect_within: Duration,
    /// Longest wait for everything that one call asks of the server. The server itself gives a statement up a little
    /// earlier.
    pub answer_within: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            append_connections: 4,
            connections: 12,
            wait_within: Duration::from_millis(1_500),
            connect_within: Duration::from_millis(1_500),
            answer_within: Duration::from_millis(4_000),
        }
    }
}

/// The durable side on a PostgreSQL server.
pub struct PostgresStore {
    appends: Pool,
    others: Pool,
    purge: Purge,
    /// For the index of texts.
    news: News,
    searches: Turns,
    address: Address,
    options: PostgresOptions,
    thread: StoreThread,
    sealing: Sealing,
}

impl PostgresStore {
    /// Makes the store for the database of `url` ([`Address::parse`]). Connects when needed.
    ///
    /// # Errors
    /// A fault where `url` is none of PostgreSQL's.
    pub fn connect(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let mut address = Address::parse(url).map_err(|error| StoreError::Fault(error.to_string()))?;
        let config = &mut address.config;
        let statement_timeout_ms = options.answer_within.as_millis().saturating_sub(250).max(250);
        // Every statement finds a few rows by their keys, so indexes and nested loops are right at every size. A planner
        // left alone picks scans while the tables are small, and keeps the plan while they grow.
        let session = format!(
            "-c statement_timeout={statement_timeout_ms} -c idle_in_transaction_session_timeout=10000 \
             -c synchronous_commit=on -c jit=off -c plan_cache_mode=force_generic_plan \
             -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
        );
        let session = match config.get_options() {
            Some(given) => format!("{session} {given}"),
            None => session,
        };
        config
            .application_name("roundtable")
            .options(&session)
            .connect_timeout(options.connect_within)
            .tcp_user_timeout(options.answer_within)
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        let thread = StoreThread::start()?;
        let appends = pool::pool(thread.handle(), &address, options.append_connections, &options)?;
        let others = pool::pool(thread.handle(), &address, options.connections, &options)?;
        let purge = Purge::new(others.clone(), options.answer_within);
        Ok(Self {
            appends,
            others,
            purge,
            news: News::default(),
            searches: Turns::new(SEARCHES),
            address,
            options,
            thread,
            sealing: Sealing::default(),
        })
    }

    /// With the keys of encrypted rooms' keys.
    #[must_use]
    pub fn encrypting(mut self, ring: Option<KeyRing>) -> Self {
        self.sealing = Sealing::new(ring);
        self
    }

    async fn append_lease(&self) -> Result<Lease, StoreError> {
        Lease::take(&self.appends, self.options.answer_within).await
    }

    async fn lease(&self) -> Result<Lease, StoreError> {
        Lease::take(&self.others, self.options.answer_within).await
    }
}

#[async_trait]
impl MessageStore for PostgresStore {
    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let (ran, newer) = self.bring_up().await?;
        if !newer.is_empty() {
            tracing::info!(migrations = ?newer, "store.newer");
        }
        // Of rooms that were deleted before the last stop.
        self.purge.start(self.thread.handle());
        Ok(ran)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.lease().await?.query("SELECT 1", &[]).await?;
        Ok(())
    }

    async fn open_room(&self, room: &RoomId, recent: u32) -> Result<Option<OpenedRoom>, StoreError> {
        logs::open_room(&mut self.lease().await?, &self.sealing, room, recent).await
    }

    async fn append(&self, batch: Vec<RoomAppend>) -> Result<Vec<Appended>, StoreError> {
        let deletes = batch.iter().any(RoomAppend::deletes);
        let rooms = rooms_of(&batch);
        let done = append::append(&mut self.append_lease().await?, &self.sealing, batch).await?;
        self.news.note(&rooms, &done);
        if deletes {
            self.purge.start(self.thread.handle());
        }
        Ok(done)
    }

    async fn page(&self, room: &RoomId, range: Range, limit: u32, max_bytes: usize) -> Result<Page, StoreError> {
        logs::page(&mut self.lease().await?, &self.sealing, room, range, limit, max_bytes).await
    }

    async fn create_room(&self, room: &Room, owner: &UserId, other: Option<&UserId>) -> Result<Created, StoreError> {
        rooms::create_room(&mut self.lease().await?, room, owner, other).await
    }

    async fn room(&self, room: &RoomId) -> Result<Option<Room>, StoreError> {
        rooms::room(&mut self.lease().await?, room).await
    }

    async fn role(&self, room: &RoomId, user: &UserId) -> Result<Option<Role>, StoreError> {
        rooms::role(&mut self.lease().await?, room, user).await
    }

    async fn rooms(
        &self,
        user: &UserId,
        cursor: Option<&RoomId>,
        limit: u32,
    ) -> Result<Vec<(Room, Option<Role>)>, StoreError> {
        rooms::rooms(&mut self.lease().await?, user, cursor, limit).await
    }

    async fn my_rooms(&self, user: &UserId, cursor: Option<&RoomId>, limit: u32) -> Result<Vec<MyRoom>, StoreError> {
        rooms::my_rooms(&mut self.lease().await?, user, cursor, limit).await
    }

    async fn members(
        &self,
        room: &RoomId,
        cursor: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Role)>, StoreError> {
        rooms::members(&mut self.lease().await?, room, cursor, limit).await
    }

    async fn bans(&self, room: &RoomId, cursor: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
        rooms::bans(&mut self.lease().await?, room, cursor, limit).await
    }

    async fn raise_read_marks(&self, marks: &[(RoomId, UserId, Seq)]) -> Result<(), StoreError> {
        rooms::raise_read_marks(&mut self.lease().await?, marks).await
    }

    async fn create_account(&self, user: &User, password_hash: &str) -> Result<Created, StoreError> {
        accounts::create(&mut self.lease().await?, user, password_hash).await
    }

    async fn password_hash(&self, user: &UserId) -> Result<Option<(User, String)>, StoreError> {
        accounts::password_hash(&mut self.lease().await?, user).await
    }

    async fn ensure_jwt_user(&self, user: &UserId, name: Option<&str>) -> Result<Created, StoreError> {
        accounts::ensure_jwt_user(&mut self.lease().await?, user, name).await
    }

    async fn user(&self, user: &UserId) -> Result<Option<User>, StoreError> {
        accounts::user(&mut self.lease().await?, user).await
    }

    async fn rename_user(&self, user: &UserId, name: &str) -> Result<bool, StoreError> {
        accounts::rename(&mut self.lease().await?, user, name).await
    }
}
