//! One delivery: reads the entries, posts them, and settles the claim by what the receiver says.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::config;
use crate::domain::backoff::wait_ms;
use crate::entry::Entry;
use crate::ids::{RoomId, Seq};
use crate::limits::PAGE_MAX;
use crate::metrics::{Metrics, WebhookOutcome};
use crate::outgoing::addresses::Reach;
use crate::outgoing::{Answered, Client, Failure};
use crate::ports::{Delivery, MessageStore, Range, Settled, StoreError};

/// Entries of one request.
const EVENTS: u32 = 100;
/// Bytes of text and data of one request, about; one entry may have more.
const BYTES: usize = 256 * 1024;
/// When to look again at what could not be read.
const UNREADABLE: Duration = Duration::from_secs(5);
/// Longest that a receiver that does not answer holds back the other rooms of its hook.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often settling a claim is tried.
const SETTLE_TRIES: u32 = 3;
const DELIVERY: HeaderName = HeaderName::from_static("x-roundtable-delivery");

/// What a receiver is sent.
#[derive(Serialize)]
struct Body<'a> {
    hook: &'a str,
    room: &'a RoomId,
    delivery: &'a str,
    /// It was given up before: what came behind it may have arrived already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redelivery: bool,
    events: &'a [Entry],
}

/// Does deliveries.
pub struct Post {
    store: Arc<dyn MessageStore>,
    settings: config::Webhooks,
    metrics: Arc<Metrics>,
    /// Made at the first delivery: most nodes have none.
    client: OnceLock<Option<Client>>,
}

impl Post {
    pub fn new(store: Arc<dyn MessageStore>, settings: config::Webhooks, metrics: Arc<Metrics>) -> Self {
        Self { store, settings, metrics, client: OnceLock::new() }
    }

    /// `until`: when the claim ends.
    pub async fn deliver(&self, delivery: Delivery, until: Instant) {
        let settled = self.outcome(&delivery, until).await;
        for n in 1..=SETTLE_TRIES {
            match self.store.settle_delivery(&delivery, &settled).await {
                Ok(()) => return,
                Err(error) if n == SETTLE_TRIES => {
                    // The claim runs out by itself, and the batch is delivered once more.
                    tracing::warn!(hook.id = %delivery.hook, error = %error, "webhook.settle.failed");
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    async fn outcome(&self, delivery: &Delivery, until: Instant) -> Settled {
        let Some(room) = &delivery.room else { return Settled::NoRoom };
        let (entries, skipped) = match self.read(room, delivery).await {
            Ok(found) => found,
            Err(error) => {
                self.metrics.store_errors.inc();
                tracing::warn!(hook.id = %delivery.hook, error = %error, "webhook.read.failed");
                return Settled::Left { wait: UNREADABLE };
            }
        };
        let to = entries.last().map_or(delivery.after, |entry| entry.seq).max(skipped).max(delivery.to.unwrap_or(0));
        let wanted: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| delivery.kinds.is_empty() || delivery.kinds.iter().any(|kind| kind == entry.kind()))
            .collect();
        if wanted.is_empty() {
            return Settled::Done { to };
        }
        let within = Duration::from_millis(self.settings.timeout_ms);
        if Instant::now() + within > until {
            // This node was held up for so long that another may be at it by the time the receiver answers.
            return Settled::Left { wait: Duration::ZERO };
        }
        let begin = Instant::now();
        let answered = self.post(delivery, room, to, &wanted, within).await;
        let settled = self.judge(delivery, to, &answered);
        let outcome = match &settled {
            Settled::Done { .. } => WebhookOutcome::Delivered,
            Settled::Gone => WebhookOutcome::Gone,
            Settled::Dead { .. } => WebhookOutcome::Dead,
            _ => WebhookOutcome::Failed,
        };
        self.metrics.webhook_answered(outcome, begin.elapsed());
        match outcome {
            WebhookOutcome::Delivered => self.metrics.webhook_events.inc_by(wanted.len() as u64),
            WebhookOutcome::Gone => tracing::info!(hook.id = %delivery.hook, "webhook.gone"),
            WebhookOutcome::Dead => {
                tracing::warn!(hook.id = %delivery.hook, room.id = %room, to, "webhook.batch.given_up");
            }
            WebhookOutcome::Failed => tracing::debug!(hook.id = %delivery.hook, room.id = %room, "webhook.failed"),
        }
        settled
    }

    /// A batch that was tried before comes as it was, up to the same entry. With it: where to go on at least, since there is
    /// nothing before (any more).
    async fn read(&self, room: &RoomId, delivery: &Delivery) -> Result<(Vec<Entry>, Seq), StoreError> {
        let (limit, bytes) = match delivery.to {
            Some(to) => {
                (u32::try_from(to.saturating_sub(delivery.after)).unwrap_or(PAGE_MAX).min(PAGE_MAX), usize::MAX)
            }
            None => (EVENTS, BYTES),
        };
        let mut entries = self.store.page(room, Range::After(delivery.after), limit, bytes).await?.entries;
        if let Some(to) = delivery.to {
            entries.retain(|entry| entry.seq <= to);
        }
        if !entries.is_empty() {
            return Ok((entries, 0));
        }
        // Nothing new, or the log was pruned up to its head, which is read before it is looked at once more.
        let head = self.store.room(room).await?.map_or(0, |room| room.head);
        let entries = self.store.page(room, Range::After(delivery.after), limit, bytes).await?.entries;
        Ok(if entries.is_empty() { (entries, head) } else { (Vec::new(), 0) })
    }

    async fn post(
        &self,
        delivery: &Delivery,
        room: &RoomId,
        to: Seq,
        events: &[Entry],
        within: Duration,
    ) -> Result<Answered, Failure> {
        let client = self.client.get_or_init(|| {
            let networks = self.settings.allow_networks.iter().map(|network| network.0).collect();
            let made = Client::new(Reach { all: self.settings.allow_private, networks });
            made.inspect_err(|error| tracing::error!(error, "webhooks can't be delivered")).ok()
        });
        let url = Url::parse(&delivery.url).ok().filter(|url| url.scheme() == "https" || self.settings.allow_http);
        let (Some(client), Some(url)) = (client, url) else { return Err(Failure::NoConnection) };
        let name = name(delivery, room, to);
        let redelivery = delivery.dead.is_some();
        let body = Body { hook: &delivery.hook, room, delivery: &name, redelivery, events };
        let body = serde_json::to_vec(&body).map_err(|_| Failure::BrokeOff)?;
        let header = HeaderValue::from_str(&name).map_err(|_| Failure::BrokeOff)?;
        let secrets = delivery.secrets.iter().map(String::as_str);
        client.post(&url, body, secrets, &[(DELIVERY, header)], within).await
    }

    fn judge(&self, delivery: &Delivery, to: Seq, answered: &Result<Answered, Failure>) -> Settled {
        let reason = match answered {
            Ok(answered) if (200..300).contains(&answered.status) => return Settled::Done { to },
            Ok(answered) if answered.status == 410 => return Settled::Gone,
            Ok(answered) => format!("status {}", answered.status),
            Err(failure) => failure.to_string(),
        };
        let failures = delivery.attempts.saturating_add(1);
        if delivery.dead.is_some() || failures >= self.settings.attempts {
            return Settled::Dead { to, reason };
        }
        let wait = wait_ms(failures, self.settings.backoff_ms, self.settings.backoff_max_ms, rand::random());
        let wait = Duration::from_millis(wait);
        // A receiver that is not there need not be asked for each of its rooms; one that refuses a batch may take others.
        let away = !matches!(answered, Ok(Answered { status: 0..=428 | 430..=499, .. }));
        let pause = if away { wait.min(PAUSE_MAX) } else { Duration::ZERO };
        Settled::Again { to, wait, pause }
    }
}

/// The name of a delivery: the same whenever the same stretch of the log is sent.
fn name(delivery: &Delivery, room: &RoomId, to: Seq) -> String {
    let stretch = format!("{}/{room}/{}-{to}", delivery.hook, delivery.after);
    let hash = Sha256::digest(stretch.as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("wd_{hex}")
}
