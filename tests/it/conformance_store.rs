//! What every [`MessageStore`] must do: one suite, run on PostgreSQL and on SQLite.

mod accounts;
mod attachments;
mod audit;
mod changes;
mod crash;
mod credentials;
mod encryption;
mod expiry;
mod fencing;
mod history;
mod invitations;
mod jobs;
mod logs;
mod moderation;
mod oidc;
mod outage;
mod paging;
mod past;
mod pins;
mod privacy;
mod rooms;
mod search;
mod webhooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use roundtable::entry::{Data, Entry, Mentions, Role, Room, RoomKind};
use roundtable::ids::{Epoch, MessageId, Millis, RoomId, Seq, UserId};
use roundtable::infra::postgres::{PostgresOptions, PostgresStore};
use roundtable::infra::sqlite::SqliteStore;
use roundtable::ports::{
    AppendItem, Appended, Change, Created, MessageStore, OpenedRoom, Outcome, Page, Pinned, Range, RoomAppend, RoomNo,
    User,
};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::postgres::Postgres;

/// Runs each named test on both stores.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::conformance_store::Backend::postgres().await).await;
            })+
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::conformance_store::Backend::sqlite().await).await;
            })+
        }
    };
}
use on_both_stores;

/// A store with its schema, and a way to look behind it.
struct Backend {
    store: Arc<dyn MessageStore>,
    raw: Raw,
}

/// The database itself.
enum Raw {
    Postgres(String),
    Sqlite { path: PathBuf, _dir: TempDir },
}

/// How long a call on a store under test may wait: short, since some tests make it wait.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

fn options() -> PostgresOptions {
    PostgresOptions { answer_within: ANSWER_WITHIN, ..PostgresOptions::default() }
}

impl Backend {
    async fn postgres() -> Self {
        Self::on(Postgres::shared().await.database().await).await
    }

    /// On the PostgreSQL database of `url`.
    async fn on(url: String) -> Self {
        let store = PostgresStore::connect(&url, options()).expect("a PostgreSQL URL");
        store.migrate().await.expect("a fresh database");
        Self { store: Arc::new(store), raw: Raw::Postgres(url) }
    }

    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("roundtable.db");
        let store = SqliteStore::open(&path).expect("a new file");
        store.migrate().await.expect("a fresh database");
        Self { store: Arc::new(store), raw: Raw::Sqlite { path, _dir: dir } }
    }

    /// A public room that `alice` owns, opened.
    async fn room(&self, id: &str) -> Owned {
        self.account("alice").await;
        let created = self.store.create_room(&public(id), &user("alice"), None).await;
        assert_eq!(created, Ok(Created::New));
        self.open(id).await
    }

    /// Opens a room that exists.
    async fn open(&self, id: &str) -> Owned {
        let opened =
            self.store.open_room(&room_id(id), 10).await.expect("the store is there").expect("the room is there");
        Owned { store: Arc::clone(&self.store), no: opened.no, epoch: opened.epoch, opened }
    }

    /// An account, unless it is there.
    async fn account(&self, id: &str) {
        self.store.create_account(&User { id: user(id), name: None }, "phc").await.expect("the store is there");
    }

    async fn page(&self, room: &str, range: Range, limit: u32) -> Page {
        self.store.page(&room_id(room), range, limit, usize::MAX).await.expect("the store is there")
    }

    /// Waits until a query finds nothing, as what is left of deleted rooms is removed in the background.
    async fn until_nothing_is_left(&self, sql: &str) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !self.raw.texts(sql).await.is_empty() {
            assert!(std::time::Instant::now() < deadline, "something is left: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The whole log; it must be contiguous.
    async fn log(&self, room: &str) -> Vec<Entry> {
        whole_log(&*self.store, room).await
    }
}

impl Raw {
    /// Everything in a table's text columns that is not NULL, as `SELECT` gives it.
    async fn texts(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Postgres(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
                let connection = tokio::spawn(connection);
                let rows = client.query(sql, &[]).await.expect("valid SQL");
                let found = rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect();
                drop(client);
                let _ = connection.await;
                found
            }
            Self::Sqlite { path, .. } => {
                let connection = rusqlite::Connection::open(path).expect("the file is there");
                let mut statement = connection.prepare(sql).expect("valid SQL");
                let found = statement.query_map([], |row| row.get::<_, Option<String>>(0)).expect("a query");
                found.filter_map(|row| row.expect("a row")).collect()
            }
        }
    }

    /// Changes something behind the store's back.
    async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.expect("it may");
    }

    /// The same where it may be refused; gives why.
    async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match self {
            Self::Postgres(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
                let connection = tokio::spawn(connection);
                let done = client.batch_execute(sql).await;
                drop(client);
                let _ = connection.await;
                done.map_err(|error| error.as_db_error().map_or(error.to_string(), |db| db.message().to_owned()))
            }
            Self::Sqlite { path, .. } => {
                let connection = rusqlite::Connection::open(path).expect("the file is there");
                connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
                connection.execute_batch(sql).map_err(|error| error.to_string())
            }
        }
    }

    /// All there are.
    async fn tables(&self) -> Vec<String> {
        let tables = match self {
            Self::Postgres(_) => "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'",
            Self::Sqlite { .. } => "SELECT name FROM sqlite_master WHERE type = 'table'",
        };
        self.texts(tables).await
    }

    /// Every row of every table, whatever its columns, in which `word` stands, as text or as bytes; on SQLite also what
    /// the file itself holds of it, in a place that nothing points to.
    async fn with(&self, word: &str) -> Vec<String> {
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut found = Vec::new();
        for table in self.tables().await {
            let rows = match self {
                Self::Postgres(_) => format!("SELECT t::text FROM {table} t WHERE t::text ~ '{word}|{hex}'"),
                Self::Sqlite { .. } => {
                    let columns = self.texts(&format!("SELECT name FROM pragma_table_info('{table}')")).await;
                    let row: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                    let row = row.join(" || ' ' || ");
                    format!("SELECT {row} FROM \"{table}\" WHERE {row} LIKE '%{word}%' OR {row} LIKE '%{hex}%'")
                }
            };
            found.extend(self.texts(&rows).await.into_iter().map(|row| format!("{table}: {row}")));
        }
        if let Self::Sqlite { path, .. } = self {
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
            let bytes = std::fs::read(path).expect("the file is there");
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push("the file".to_owned());
            }
        }
        found
    }

    /// Removes what changes have left behind within the database.
    async fn tidy(&self) {
        if let Self::Sqlite { .. } = self {
            self.execute("VACUUM").await;
        }
    }

    /// Keeps everyone else from writing to any room until the returned sender is dropped.
    async fn block_writes(&self) -> tokio::sync::oneshot::Sender<()> {
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        match self {
            Self::Postgres(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
                tokio::spawn(connection);
                client.batch_execute("BEGIN; LOCK TABLE room_heads").await.expect("a lock");
                tokio::spawn(async move {
                    let _ = released.await;
                    client.batch_execute("ROLLBACK").await.expect("a connection");
                });
            }
            Self::Sqlite { path, .. } => {
                let connection = rusqlite::Connection::open(path).expect("the file is there");
                connection.execute_batch("BEGIN IMMEDIATE").expect("a lock");
                std::thread::spawn(move || {
                    let _ = released.blocking_recv();
                    connection.execute_batch("ROLLBACK").expect("a connection");
                });
            }
        }
        release
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Postgres(_) => None,
            Self::Sqlite { path, .. } => Some(path),
        }
    }
}

/// A room as one owner holds it.
#[derive(Clone)]
struct Owned {
    store: Arc<dyn MessageStore>,
    no: RoomNo,
    epoch: Epoch,
    opened: OpenedRoom,
}

impl Owned {
    fn part(&self, items: Vec<AppendItem>) -> RoomAppend {
        RoomAppend { no: self.no, epoch: self.epoch, items }
    }

    /// Appends to this room alone; it must not be fenced.
    async fn append(&self, items: Vec<AppendItem>) -> Vec<Outcome> {
        match self.try_append(items).await {
            Appended::Done(outcomes) => outcomes,
            Appended::Fenced => panic!("fenced"),
        }
    }

    async fn try_append(&self, items: Vec<AppendItem>) -> Appended {
        let mut results = self.store.append(vec![self.part(items)]).await.expect("the store is there");
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// One item; its outcome.
    async fn does(&self, by: &str, change: Change) -> Outcome {
        self.append(vec![item(by, AT, change)]).await.remove(0)
    }
}

/// Reads a log from its start, and checks that it has no gap.
async fn whole_log(store: &dyn MessageStore, room: &str) -> Vec<Entry> {
    let mut log: Vec<Entry> = Vec::new();
    loop {
        let after = Range::After(log.len() as Seq);
        let page = store.page(&room_id(room), after, 1_000, usize::MAX).await.expect("the store is there");
        log.extend(page.entries);
        if !page.more {
            break;
        }
    }
    for (index, entry) in log.iter().enumerate() {
        assert_eq!(entry.seq, index as Seq + 1, "the log has no gap");
    }
    log
}

/// When everything happens, unless it matters.
const AT: Millis = 1_700_000_000_000;

/// This machine's clock, by which messages disappear.
fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Millis::try_from(since.as_millis()).expect("before the end of time")
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a valid user id")
}

fn room_id(id: &str) -> RoomId {
    RoomId::parse(id).expect("a valid room id")
}

fn public(id: &str) -> Room {
    let id = room_id(id);
    Room::new(id, RoomKind::Public)
}

fn item(by: &str, at: Millis, change: Change) -> AppendItem {
    AppendItem { user: user(by), at, change, from: None }
}

fn says(by: &str, id: &str, text: &str) -> AppendItem {
    item(by, AT, message(id, text))
}

fn message(id: &str, text: &str) -> Change {
    let id = MessageId::parse(id).expect("a valid message id");
    Change::Message {
        id,
        text: text.into(),
        reply_to: None,
        data: None,
        mentions: Mentions::default(),
        only_if_known: false,
    }
}

fn reply(id: &str, text: &str, to: Seq) -> Change {
    let id = MessageId::parse(id).expect("a valid message id");
    Change::Message {
        id,
        text: text.into(),
        reply_to: Some(to),
        data: None,
        mentions: Mentions::default(),
        only_if_known: false,
    }
}

fn with_data(id: &str, text: &str, data: &str) -> Change {
    let id = MessageId::parse(id).expect("a valid message id");
    let data = Data::from_compact(data.into()).expect("valid JSON");
    Change::Message {
        id,
        text: text.into(),
        reply_to: None,
        data: Some(data),
        mentions: Mentions::default(),
        only_if_known: false,
    }
}

fn if_known(id: &str) -> Change {
    let id = MessageId::parse(id).expect("a valid message id");
    Change::Message {
        id,
        text: "not to be stored".into(),
        reply_to: None,
        data: None,
        mentions: Mentions::default(),
        only_if_known: true,
    }
}

fn appended(seq: Seq) -> Outcome {
    Outcome::Appended { seq, at: AT }
}

fn duplicate(seq: Seq) -> Outcome {
    Outcome::Duplicate { seq, at: AT }
}

fn is_now(role: Role) -> Outcome {
    Outcome::Done { role: Some(role) }
}
