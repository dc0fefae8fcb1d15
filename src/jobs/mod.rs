//! Work in the background that belongs to no request: expiry, erasure, deliveries to others, sweeps. One loop a job; in a
//! cluster one node at a time does a job, by a lease in the store.
//!
//! Invariants: a step is bounded (a few thousand rows, a few requests) and may be repeated or cut off anywhere; a job
//! that fails waits longer each time, up to [`AGAIN_MAX`], and never ends; all stop when the node drains.

pub mod attachments;
pub mod backups;
pub mod credentials;
pub mod cut_off;
pub mod encryption;
pub mod erasure;
mod expiry;
pub mod indexer;
pub mod pod_deletion_cost;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::ids::NodeId;
use crate::metrics::Metrics;
use crate::ports::{MessageStore, StoreError};

/// How long a job's lease lasts; renewed before every step.
const LEASE: Duration = Duration::from_secs(30);
/// How long one step may take.
const STEP_WITHIN: Duration = Duration::from_secs(25);
/// Longest pause after failures.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What jobs work with.
#[derive(Clone)]
pub struct Jobs {
    node: NodeId,
    store: Arc<dyn MessageStore>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
}

/// Keeps the jobs alive; they stop when it is told to, or dropped.
pub struct Running {
    stop: watch::Sender<bool>,
}

impl Running {
    /// No job begins another step.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// What is left to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Go on at once.
    More,
    /// Nothing for now.
    Nothing,
}

impl Jobs {
    /// Becomes true when the jobs are to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    pub fn new(node: NodeId, store: Arc<dyn MessageStore>, metrics: Arc<Metrics>) -> (Self, Running) {
        let (stop, stopped) = watch::channel(false);
        (Self { node, store, metrics, stop: stopped }, Running { stop })
    }

    /// Does `step` every `every` on this thread, again at once while there is more, for as long as the node runs and
    /// has the lease of `name` (a metric's label: one of a few fixed names).
    pub fn start<F, S>(&self, name: &'static str, every: Duration, step: F)
    where
        F: Fn(Arc<dyn MessageStore>) -> S + 'static,
        S: Future<Output = Result<Left, StoreError>>,
    {
        self.spawn(name, every, true, step);
    }

    /// The same without a lease: for work that each node has of its own.
    pub fn start_on_every_node<F, S>(&self, name: &'static str, every: Duration, step: F)
    where
        F: Fn(Arc<dyn MessageStore>) -> S + 'static,
        S: Future<Output = Result<Left, StoreError>>,
    {
        self.spawn(name, every, false, step);
    }

    fn spawn<F, S>(&self, name: &'static str, every: Duration, leased: bool, step: F)
    where
        F: Fn(Arc<dyn MessageStore>) -> S + 'static,
        S: Future<Output = Result<Left, StoreError>>,
    {
        self.metrics.job_started(name);
        let mut jobs = self.clone();
        actix_rt::spawn(async move {
            let mut pause = every;
            while jobs.waits(pause).await {
                pause = match jobs.turn(name, leased, &step).await {
                    Ok(()) => every,
                    Err(error) => {
                        jobs.metrics.job_failed(name);
                        tracing::warn!(job = name, error = %error, "job.failed");
                        (pause * 2).clamp(every, AGAIN_MAX.max(every))
                    }
                };
            }
            if leased {
                // The next node need not wait for the lease to end; where this fails, it does.
                let _ = timeout(Duration::from_secs(1), jobs.store.resign(name, &jobs.node)).await;
            }
        });
    }

    /// False: it is time to end.
    async fn waits(&mut self, pause: Duration) -> bool {
        let stopped = self.stop.wait_for(|stop| *stop);
        timeout(pause, stopped).await.is_err()
    }

    /// Steps until nothing is left.
    async fn turn<S>(
        &self,
        name: &'static str,
        leased: bool,
        step: &impl Fn(Arc<dyn MessageStore>) -> S,
    ) -> Result<(), StoreError>
    where
        S: Future<Output = Result<Left, StoreError>>,
    {
        while !*self.stop.borrow() && (!leased || self.store.lead(name, &self.node, LEASE).await?) {
            let done = timeout(STEP_WITHIN, step(Arc::clone(&self.store))).await;
            let left = done.unwrap_or_else(|_| Err(StoreError::Unavailable("a step took too long".to_owned())))?;
            self.metrics.job_stepped(name);
            if left == Left::Nothing {
                break;
            }
        }
        Ok(())
    }
}
