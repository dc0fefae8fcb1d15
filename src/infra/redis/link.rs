//! A connection that is made when it is needed, shared by everyone who needs it, and given up at the first sign of trouble.
//!
//! Invariant: a call ends within [`CALL_DEADLINE`], whatever Redis does. There is no waiting after a failure, so the
//! first call after Redis is back succeeds; the one connection attempt at a time is shared by all callers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{PushKind, RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::target::{Connection, OnPush, Target};
use crate::ports::BusError;

/// Longest a call may take, connecting included.
pub(super) const CALL_DEADLINE: Duration = Duration::from_millis(900);

/// The runtime that drives the connections: of whoever started the inbox, else of the first call. Without it a connection
/// would live and die with the worker thread that happened to need it first.
#[derive(Clone, Default)]
pub(super) struct Home(Arc<OnceLock<Handle>>);

impl Home {
    pub(super) fn handle(&self) -> &Handle {
        self.0.get_or_init(Handle::current)
    }
}

pub(super) struct Link {
    target: Arc<Target>,
    home: Home,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    /// Counts connections, so that one call's trouble doesn't end the connection that replaced it.
    generation: u64,
    connection: Option<Connection>,
    /// Set by the connection itself when it ends, so that an end in quiet times costs no call.
    ended: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(target: Arc<Target>, home: Home) -> Self {
        Self { target, home, live: Mutex::default() }
    }

    /// Runs one exchange. With `again`, one that met a connection found dead is tried once more on a new one.
    pub(super) async fn run<T, F>(&self, again: bool, exchange: impl Fn(Connection) -> F) -> Result<T, BusError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = tokio::time::Instant::now() + CALL_DEADLINE;
        let mut retry = again;
        loop {
            let (generation, connection) = match tokio::time::timeout_at(deadline, self.connected()).await {
                Ok(connected) => connected.map_err(BusError)?,
                Err(_elapsed) => return Err(BusError("no connection in time".to_owned())),
            };
            let error = match tokio::time::timeout_at(deadline, exchange(connection)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_elapsed) => {
                    self.forget(generation).await;
                    return Err(BusError("no answer in time".to_owned()));
                }
            };
            if is_trouble(&error) {
                self.forget(generation).await;
            }
            if !(retry && error.is_connection_dropped()) {
                return Err(BusError(error.to_string()));
            }
            retry = false;
        }
    }

    async fn connected(&self) -> Result<(u64, Connection), String> {
        let mut live = self.live.lock().await;
        if let Some(connection) = &live.connection
            && !live.ended.load(Ordering::Acquire)
        {
            return Ok((live.generation, connection.clone()));
        }
        let target = Arc::clone(&self.target);
        let ended = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&ended);
        let on_push: OnPush = Arc::new(move |push| {
            if push.kind == PushKind::Disconnection {
                tell.store(true, Ordering::Release);
            }
        });
        let attempt = self.home.handle().spawn(async move { target.connect(on_push).await });
        let connection = attempt.await.map_err(|_stopped| "the runtime is stopping".to_owned())??;
        *live = Live { generation: live.generation + 1, connection: Some(connection.clone()), ended };
        Ok((live.generation, connection))
    }

    async fn forget(&self, generation: u64) {
        let mut live = self.live.lock().await;
        if live.generation == generation {
            live.connection = None;
        }
    }
}

/// Whether a new connection may mend it: the old one is dead or silent, or leads to a server that isn't master (any more).
pub(super) fn is_trouble(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.is_timeout()
        || error.is_cluster_error()
        || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED" | "NOREPLICAS"))
}
