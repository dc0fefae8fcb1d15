//! Looking logins up in the store: what waits while one look-up is under way goes together with the next.
//!
//! So a storm of thousands that come back costs the store a few dozen questions, and a single login costs the one round
//! trip that it always did. Bounds: [`WAITING`] wait at most, the next is told that it is too many; [`BATCH`] go at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{AuthError, now_ms};
use crate::ports::{Login, MessageStore, SecretHash, StoreError};

/// Look-ups that wait, at most.
const WAITING: usize = 65_536;
/// Logins asked for at once.
const BATCH: usize = 512;

type Found = Result<Option<Login>, StoreError>;

pub(super) struct Lookups {
    store: Arc<dyn MessageStore>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(SecretHash, oneshot::Sender<Found>)>,
    /// Somebody asks the store and comes back for the others.
    running: bool,
}

impl Lookups {
    pub(super) fn new(store: Arc<dyn MessageStore>) -> Self {
        Self { store, queue: Arc::default() }
    }

    /// The login, as the store has it at some time between the call and the answer.
    pub(super) async fn find(&self, hash: SecretHash) -> Result<Option<Login>, AuthError> {
        let (tell, told) = oneshot::channel();
        let first = {
            let mut queue = lock(&self.queue);
            if queue.waiting.len() >= WAITING {
                return Err(AuthError::Overloaded);
            }
            queue.waiting.push((hash, tell));
            !std::mem::replace(&mut queue.running, true)
        };
        if first {
            // A task of its own: whoever was first may go away.
            tokio::spawn(run(Arc::clone(&self.store), Running(Some(Arc::clone(&self.queue)))));
        }
        let found = told.await.map_err(|_| AuthError::Unavailable("the look-up ended".to_owned()))?;
        Ok(found?)
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by the task that asks; where it ends before its time, those who wait are told and the next one starts anew.
struct Running(Option<Arc<Mutex<Queue>>>);

impl Running {
    /// What goes next; `None`: nothing waits, and nobody runs any more.
    fn next(&mut self) -> Option<Vec<(SecretHash, oneshot::Sender<Found>)>> {
        let shared = self.0.as_ref()?;
        let mut queue = lock(shared);
        if queue.waiting.is_empty() {
            queue.waiting = Vec::new();
            queue.running = false;
            drop(queue);
            self.0 = None;
            return None;
        }
        let most = queue.waiting.len().min(BATCH);
        Some(queue.waiting.drain(..most).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let mut queue = lock(shared);
            queue.running = false;
            queue.waiting.clear();
        }
    }
}

async fn run(store: Arc<dyn MessageStore>, mut running: Running) {
    while let Some(batch) = running.next() {
        let hashes: Vec<SecretHash> = batch.iter().map(|(hash, _)| *hash).collect();
        match store.logins(&hashes, now_ms()).await {
            Ok(found) => {
                let found: std::collections::HashMap<SecretHash, Login> = found.into_iter().collect();
                for (hash, tell) in batch {
                    // Whoever went away does not mind.
                    let _ = tell.send(Ok(found.get(&hash).cloned()));
                }
            }
            Err(error) => batch.into_iter().for_each(|(_, tell)| drop(tell.send(Err(error.clone())))),
        }
    }
}
