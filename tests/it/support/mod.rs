//! What the tests stand on: whole nodes as processes, real servers beside them, people with verbs, a checker of
//! histories. Everything waits with a deadline; nothing sleeps to synchronise; each test ends only what it started.

pub mod api;
pub mod asyncapi;
pub mod certificates;
pub mod checker;
pub mod cluster;
pub mod event_stream;
pub mod load;
pub mod node;
pub mod person;
pub mod ports;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod raw;
pub mod receiver;
pub mod redis;
pub mod tokens;

use std::future::Future;
use std::time::Duration;

/// Longest wait for anything that should happen at once. Generous, since the machine may be busy with other tests: it
/// decides when a test fails, never whether it passes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits `future`; fails the test with `what` where it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until `probe` gives something; fails the test with `what` after [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    within(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    })
    .await
}

/// The process's provider of cryptography, which the HTTP clients of the tests ask for. Again does nothing.
pub fn provider() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}
