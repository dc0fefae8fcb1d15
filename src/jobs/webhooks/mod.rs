//! Deliveries to webhooks. Every node delivers; what is due is claimed in the store, so that at most one request a hook
//! and room is under way in the whole cluster, and each room's entries arrive in order.
//!
//! Invariants: a cursor moves only after its batch was taken (2xx), put aside as dead, or holds nothing that is wanted:
//! at least once, in order a room. Bounds: `webhooks.inflight` requests a node, [`EACH`] a hook; a batch is one page of a
//! log. An entry whose news was lost with its node is found by the sweep.

mod request;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::request::Post;
use super::{Jobs, Left};
use crate::config;
use crate::metrics::Metrics;
use crate::ports::{MessageStore, News, RoomNo, StoreError, SweepPlace};

/// How often news is passed on, and what is due is looked for.
const TICK: Duration = Duration::from_millis(200);
/// The same while there are no hooks.
const IDLE: Duration = Duration::from_secs(1);
/// After the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Rooms whose news is passed on in one call.
const NOTED: usize = 1_000;
/// Requests of one hook under way on a node.
const EACH: usize = 8;
/// Hooks looked at in one claim.
const HOOKS: u32 = 16;
/// A claim lasts for as long as a receiver may take, and this.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);
/// How long a node that drains waits for requests under way.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// How often all cursors are looked through for news that was lost.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The name of the deliveries among the jobs, in metrics and in the log.
const DELIVERY: &str = "webhook-delivery";
/// Cursors, and rooms, of one step of the sweep.
const SWEEP_STEP: u32 = 2_000;

/// Starts the deliveries of this node, and the sweep of one node.
pub fn start(jobs: &Jobs, settings: &config::Webhooks, news: News) {
    let (store, metrics, stop) = (Arc::clone(&jobs.store), Arc::clone(&jobs.metrics), jobs.stop.clone());
    let settings = settings.clone();
    metrics.job_started(DELIVERY);
    // On a thread of its own: signing and TLS must not hold up commits. It ends with the process.
    Arbiter::new().spawn_fn(move || {
        let deliveries = Deliveries {
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            inflight: settings.inflight,
            claim_for: Duration::from_millis(settings.timeout_ms) + CLAIM_MARGIN,
            post: Rc::new(Post::new(store, settings, metrics)),
            news,
            under_way: FuturesUnordered::new(),
            by_hook: HashMap::new(),
        };
        actix_rt::spawn(deliveries.run(stop));
    });
    let place = Rc::new(std::cell::Cell::new((0, 0)));
    jobs.start("webhook-sweep", SWEEP_EVERY, move |store| sweep(store, Rc::clone(&place)));
}

struct Deliveries {
    store: Arc<dyn MessageStore>,
    metrics: Arc<Metrics>,
    post: Rc<Post>,
    news: News,
    inflight: usize,
    claim_for: Duration,
    /// Each ends with the number of its hook.
    under_way: FuturesUnordered<LocalBoxFuture<'static, i64>>,
    by_hook: HashMap<i64, usize>,
}

impl Deliveries {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = IDLE;
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(look_at) => {}
                Some(hook) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.ended(hook);
                    while let Some(Some(hook)) = self.under_way.next().now_or_never() {
                        self.ended(hook);
                    }
                }
            }
            // Between two ticks only a delivery that ended is a reason to look: its room may have more.
            let passes_on = Instant::now() >= look_at;
            pause = match self.turn(passes_on, pause).await {
                Ok(next) => {
                    self.metrics.job_stepped(DELIVERY);
                    next
                }
                Err(error) => {
                    self.metrics.job_failed(DELIVERY);
                    tracing::warn!(job = DELIVERY, error = %error, "job.failed");
                    AFTER_FAILURE
                }
            };
            if passes_on {
                look_at = Instant::now() + pause;
            }
        }
        // What is left is claimed by somebody else when this node's claim ends.
        let _ = timeout(STOP_WITHIN, async { while self.under_way.next().await.is_some() {} }).await;
    }

    fn ended(&mut self, hook: i64) {
        if let Some(count) = self.by_hook.get_mut(&hook) {
            *count -= 1;
            if *count == 0 {
                self.by_hook.remove(&hook);
            }
        }
    }

    /// Passes news on, where it is time, and begins what is due. Gives the pause until the next look.
    async fn turn(&mut self, passes_on: bool, pause: Duration) -> Result<Duration, StoreError> {
        let pause = match passes_on {
            true if self.pass_on().await? => TICK,
            true => IDLE,
            false => pause,
        };
        // Also without an active hook: one may be woken elsewhere, and it costs next to nothing.
        self.begin().await?;
        Ok(pause)
    }

    /// Whether any hook is active.
    async fn pass_on(&self) -> Result<bool, StoreError> {
        // Where too many had news, the sweep finds those that did not fit.
        let rooms: Vec<RoomNo> = self.news.take().rooms.into_iter().collect();
        if rooms.is_empty() {
            return self.store.note_webhook_news(&[]).await;
        }
        let mut active = false;
        for (n, chunk) in rooms.chunks(NOTED).enumerate() {
            match self.store.note_webhook_news(chunk).await {
                Ok(true) => active = true,
                Ok(false) => return Ok(false),
                Err(error) => {
                    self.news.note(rooms[n * NOTED..].iter().copied());
                    return Err(error);
                }
            }
        }
        Ok(active)
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let free = self.inflight.saturating_sub(self.under_way.len());
        if free == 0 {
            return Ok(());
        }
        let busy: Vec<i64> = self.by_hook.iter().filter(|&(_, &count)| count >= EACH).map(|(&hook, _)| hook).collect();
        // A hook's rooms of two claims may be under way at a time, so one claim takes half of what it may have.
        let each = (EACH / 2).min(free) as u32;
        let hooks = HOOKS.min((free as u32 / each.max(1)).max(1));
        for delivery in self.store.claim_deliveries(&busy, hooks, each, self.claim_for).await? {
            *self.by_hook.entry(delivery.hook_no).or_default() += 1;
            let (post, until) = (Rc::clone(&self.post), Instant::now() + self.claim_for);
            let hook = delivery.hook_no;
            let task = actix_rt::spawn(async move { post.deliver(delivery, until).await });
            // A panic costs its claim, which runs out.
            self.under_way.push(task.map(move |_| hook).boxed_local());
        }
        Ok(())
    }
}

/// Finds what was not noted, a little at a time; `place` is where it stands.
async fn sweep(store: Arc<dyn MessageStore>, place: Rc<std::cell::Cell<SweepPlace>>) -> Result<Left, StoreError> {
    if store.fill_webhooks(SWEEP_STEP).await? {
        return Ok(Left::More);
    }
    let (behind, next) = store.sweep_webhooks(place.get(), SWEEP_STEP).await?;
    for chunk in behind.chunks(NOTED) {
        store.note_webhook_news(chunk).await?;
    }
    place.set(next.unwrap_or((0, 0)));
    if next.is_some() {
        // So that a sweep over very many leaves the store to others.
        sleep(Duration::from_millis(20)).await;
        return Ok(Left::More);
    }
    Ok(Left::Nothing)
}
