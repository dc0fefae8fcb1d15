//! Connections to PostgreSQL: opened when needed, checked before they are used again, never waited for longer than
//! stated.
//!
//! Invariants: a connection that has an unfinished question or an open transaction when its borrower lets go of it (an
//! error, a timeout, a dropped future) is closed and never reused, so nobody reads another's answer; every wait ends
//! within its timeout. Connections live on a thread of the store's own, so that they work for callers on any runtime
//! and no busy worker thread holds their answers back.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolConfig, PoolError, QueueMode, RecyclingMethod};
use deadpool_postgres::{Runtime, Timeouts};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::PostgresOptions;
use super::address::{Address, describe};
use crate::ports::StoreError;

/// The store's thread: runs the connections until the last pool is gone.
pub struct StoreThread {
    handle: Handle,
    _until_dropped: tokio::sync::oneshot::Sender<()>,
}

impl StoreThread {
    /// # Errors
    /// A fault where the system gives no thread.
    pub fn start() -> Result<Self, StoreError> {
        let fault = |error: std::io::Error| StoreError::Fault(format!("no thread for the store: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
        let handle = runtime.handle().clone();
        let (until_dropped, dropped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("store".into());
        thread
            .spawn(move || {
                let _ = runtime.block_on(dropped);
            })
            .map_err(fault)?;
        Ok(Self { handle, _until_dropped: until_dropped })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Opens connections on the store's thread.
struct Connect {
    on: Handle,
    address: Address,
}

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl deadpool_postgres::Connect for Connect {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        Box::pin(async move {
            let mut connecting = Box::pin(self.address.connect_by(&config));
            // The socket belongs to the runtime it is made in.
            let (client, connection) = std::future::poll_fn(|context| {
                let _in_store = self.on.enter();
                connecting.as_mut().poll(context)
            })
            .await?;
            let task = self.on.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = %error, "a connection to PostgreSQL ended");
                }
            });
            Ok((client, task))
        })
    }
}

/// Opens one connection outside of any pool, for work that may take long; it ends with the client.
///
/// # Errors
/// As [`store_error`].
pub async fn connect_alone(on: &Handle, address: &Address, within: Duration) -> Result<Client, StoreError> {
    let connect = Connect { on: on.clone(), address: address.clone() };
    let connecting = deadpool_postgres::Connect::connect(&connect, &address.config);
    match tokio::time::timeout(within, connecting).await {
        Ok(connected) => Ok(connected.map_err(store_error)?.0),
        Err(_) => Err(StoreError::Unavailable("no connection in time".into())),
    }
}

/// A pool of at most `size` connections.
///
/// # Errors
/// A fault where the pool can't be built at all.
pub fn pool(on: &Handle, address: &Address, size: u32, options: &PostgresOptions) -> Result<Pool, StoreError> {
    let connect = Connect { on: on.clone(), address: address.clone() };
    let manager = Manager::from_connect(
        address.config.clone(),
        connect,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    let timeouts = Timeouts {
        wait: Some(options.wait_within),
        create: Some(options.connect_within),
        recycle: Some(options.connect_within),
    };
    Pool::builder(manager)
        .config(PoolConfig { max_size: size.max(1) as usize, timeouts, queue_mode: QueueMode::Lifo })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Fault(error.to_string()))
}

/// A part of [`Lease::transaction`].
pub enum Step<'a> {
    Begin,
    /// A statement and its parameters.
    Ask(&'a str, &'a [&'a (dyn ToSql + Sync)]),
    /// Always the last.
    Commit,
}

/// A borrowed connection, with a deadline for all that is asked of it.
pub struct Lease {
    object: Option<Object>,
    deadline: Instant,
    /// Whether a question is unanswered or a transaction open.
    unfinished: bool,
}

impl Lease {
    /// # Errors
    /// [`StoreError::Unavailable`] where there is none within the pool's timeouts.
    pub async fn take(pool: &Pool, within: Duration) -> Result<Self, StoreError> {
        let object = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => store_error(error),
            PoolError::Timeout(kind) => StoreError::Unavailable(format!("no connection in time ({kind:?})")),
            other => StoreError::Unavailable(other.to_string()),
        })?;
        Ok(Self { object: Some(object), deadline: Instant::now() + within, unfinished: false })
    }

    fn object(&self) -> Result<&Object, StoreError> {
        self.object.as_ref().ok_or_else(|| StoreError::Unavailable("the connection was given up".into()))
    }

    async fn ask<T>(
        deadline: Instant,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout_at(deadline, question).await {
            Ok(answer) => answer.map_err(store_error),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        }
    }

    /// Prepares `sql` once a connection.
    ///
    /// # Errors
    /// As [`store_error`]; the connection is not used again.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, StoreError> {
        let was = std::mem::replace(&mut self.unfinished, true);
        let statement = Self::ask(self.deadline, self.object()?.prepare_cached(sql)).await?;
        self.unfinished = was;
        Ok(statement)
    }

    /// # Errors
    /// As [`store_error`]; the connection is not used again.
    pub async fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(sql).await?;
        let was = std::mem::replace(&mut self.unfinished, true);
        let rows = Self::ask(self.deadline, self.object()?.query(&statement, params)).await?;
        self.unfinished = was;
        Ok(rows)
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn query_opt(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// The number of rows it changed.
    ///
    /// # Errors
    /// As [`store_error`]; the connection is not used again.
    pub async fn execute(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql).await?;
        let was = std::mem::replace(&mut self.unfinished, true);
        let count = Self::ask(self.deadline, self.object()?.execute(&statement, params)).await?;
        self.unfinished = was;
        Ok(count)
    }

    /// Asks several questions in one round trip: the server takes them one after the other, and none after one that
    /// failed. Without [`Step::Commit`] at the end, or with an error anywhere, nothing is done.
    ///
    /// # Errors
    /// As [`store_error`], of the first that failed; the connection is not used again. An error with a commit among the
    /// steps may come after the commit.
    pub async fn transaction(&mut self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, StoreError> {
        let commits = matches!(steps.last(), Some(Step::Commit));
        self.unfinished = true;
        let deadline = self.deadline;
        let object = self.object()?;
        let ask = async {
            let mut statements = Vec::with_capacity(steps.len());
            for step in steps {
                if let Step::Ask(sql, _) = step {
                    statements.push(object.prepare_cached(sql).await?);
                }
            }
            let mut statements = statements.iter();
            let answers = steps.iter().map(|step| {
                let statement = if matches!(step, Step::Ask(..)) { statements.next() } else { None };
                async move {
                    match (step, statement) {
                        (Step::Ask(_, params), Some(statement)) => object.query(statement, params).await,
                        (Step::Begin, _) => object.batch_execute("BEGIN").await.map(|()| Vec::new()),
                        _ => object.batch_execute("COMMIT").await.map(|()| Vec::new()),
                    }
                }
            });
            // Polled in order, and each is sent when it is polled first: they follow each other on the wire.
            futures_util::future::try_join_all(answers.collect::<Vec<_>>()).await
        };
        let answers = Self::ask(deadline, ask).await?;
        self.unfinished = !commits;
        Ok(answers)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.unfinished
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

/// What an error of PostgreSQL means for the caller.
pub fn store_error(error: tokio_postgres::Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        let text = describe(&error);
        let socket = std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
        return if socket || error.is_closed() { StoreError::Unavailable(text) } else { StoreError::Fault(text) };
    };
    let text = format!("{} ({})", db.message(), db.code().code());
    let passing = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    let class = &db.code().code()[..2];
    if passing.contains(db.code()) || matches!(class, "08" | "53" | "57" | "58") {
        StoreError::Unavailable(text)
    } else {
        StoreError::Fault(text)
    }
}
