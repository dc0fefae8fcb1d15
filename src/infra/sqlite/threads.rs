//! The threads that work on the file: one writes, a few read. Callers hand over a job and wait without blocking.
//!
//! Invariants: only the writer's connection writes; the queues are bounded, and a full one refuses at once; a job that
//! panics costs its caller an error and the thread nothing; when the store is dropped, what was queued is done first
//! and the files are closed.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use crate::ports::StoreError;

/// Jobs that wait for the writer, or for a reader, at most. Each belongs to a request in flight.
const QUEUE: usize = 4_096;
/// How long one connection waits for another's lock; only a checkpoint or a stranger with the file open makes it wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Prepared statements kept a connection: more than there are in the code.
const STATEMENTS: usize = 64;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Threads that share one queue of jobs, each with a connection of its own.
pub struct Workers {
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// The one writer. Makes the file where it is missing.
    ///
    /// # Errors
    /// Where the file can't be opened or is no database.
    pub fn writer(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::default()).map_err(store_error)?;
        let set = |sql: &str| connection.execute_batch(sql).map_err(store_error);
        // Durable: each commit waits for the disk. What is erased is overwritten.
        set(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON",
        )?;
        Self::start("store-writer", vec![connection])
    }

    /// `count` readers of a file that exists.
    ///
    /// # Errors
    /// As [`Self::writer`].
    pub fn readers(path: &Path, count: usize) -> Result<Self, StoreError> {
        let open = |_| {
            let connection = Connection::open_with_flags(path, OpenFlags::default()).map_err(store_error)?;
            connection.execute_batch("PRAGMA query_only = ON").map_err(store_error)?;
            Ok(connection)
        };
        let connections = (0..count).map(open).collect::<Result<Vec<_>, StoreError>>()?;
        Self::start("store-reader", connections)
    }

    fn start(name: &str, connections: Vec<Connection>) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel::<Job>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Vec::with_capacity(connections.len());
        for mut connection in connections {
            connection.busy_timeout(BUSY_TIMEOUT).map_err(store_error)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&jobs, &mut connection));
            threads.push(thread.map_err(|error| StoreError::Fault(format!("no thread for the store: {error}")))?);
        }
        Ok(Self { queue: Some(queue), threads })
    }

    /// Has `job` done by one of the threads.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the queue is full, a fault where the job panicked; otherwise the job's own.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = answer.send(job(connection));
        });
        let Some(queue) = &self.queue else { return Err(StoreError::Unavailable("the store is closed".into())) };
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(StoreError::Unavailable("too much waits for the disk".into())),
            Err(TrySendError::Disconnected(_)) => return Err(StoreError::Unavailable("the store is closed".into())),
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Fault("a panic in the store".into())))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, connection: &mut Connection) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // An open transaction is rolled back while the panic passes through it; the connection is as before.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| job(connection)));
    }
}

/// What an error of SQLite means for the caller.
pub fn store_error(error: rusqlite::Error) -> StoreError {
    let passing = match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
        ),
        None => false,
    };
    let text = error.to_string();
    if passing { StoreError::Unavailable(text) } else { StoreError::Fault(text) }
}
