//! A node's inbox: a subscription that is made again after every break, on a connection of its own.
//!
//! Invariants: every confirmation of the subscription but the first is told as `Reconnected`, before any frame that comes
//! after it; at most one connection feeds the inbox. A connection that Redis answers nothing on for about
//! a second, or on which Redis knows of no subscription, is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::link::Home;
use super::target::{Connection, OnPush, Target};
use crate::ports::BusEvent;

/// How often a quiet subscription is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to show that it lives.
const LOOK_DEADLINE: Duration = Duration::from_millis(700);
/// Pauses between attempts to connect: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Ends with its drop.
pub(super) struct Inbox {
    task: AbortHandle,
    /// Whether the subscription stands.
    pub(super) up: watch::Receiver<bool>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the subscription to both channels, on `home`'s runtime.
pub(super) fn start(
    target: Arc<Target>,
    home: &Home,
    frames: String,
    table: String,
) -> (Inbox, UnboundedReceiver<BusEvent>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let (up, is_up) = watch::channel(false);
    let listener = Listener { target, frames: frames.into(), table: table.into(), events, subscribed: Arc::default() };
    let task = home.handle().spawn(listener.run(up)).abort_handle();
    (Inbox { task, up: is_up }, receiver)
}

struct Listener {
    target: Arc<Target>,
    frames: Arc<str>,
    table: Arc<str>,
    events: UnboundedSender<BusEvent>,
    /// Whether the inbox was ever subscribed.
    subscribed: Arc<AtomicBool>,
}

/// One connection's life as the inbox; what it pushes after its end is dropped.
struct Subscription {
    connection: Connection,
    current: Arc<AtomicBool>,
    broken: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.current.store(false, Ordering::Release);
    }
}

impl Listener {
    async fn run(self, up: watch::Sender<bool>) {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        while !self.events.is_closed() {
            match self.subscribe().await {
                Ok(subscription) => {
                    tracing::info!("bus.inbox.subscribed");
                    (pause, told) = (FIRST_PAUSE, false);
                    up.send_replace(true);
                    let why = self.until_broken(subscription).await;
                    up.send_replace(false);
                    tracing::warn!(error = %why, "bus.inbox.lost");
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "bus.inbox.unavailable");
                }
                Err(_again) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn subscribe(&self) -> Result<Subscription, String> {
        let current = Arc::new(AtomicBool::new(true));
        let broken = Arc::new(Notify::new());
        let on_push = self.on_push(Arc::clone(&current), Arc::clone(&broken));
        let connection = self.target.connect(on_push).await?;
        let mut subscription = Subscription { connection, current, broken };
        let channels = [self.frames.as_ref(), self.table.as_ref()];
        let confirmed = async {
            match &mut subscription.connection {
                Connection::Node(connection) => connection.subscribe(&channels[..]).await,
                // One at a time: they may live on different nodes.
                Connection::Cluster(connection) => {
                    connection.ssubscribe(channels[0]).await?;
                    connection.ssubscribe(channels[1]).await
                }
            }
        };
        match tokio::time::timeout(LOOK_DEADLINE, confirmed).await {
            Ok(Ok(())) => Ok(subscription),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("the subscription was not confirmed in time".to_owned()),
        }
    }

    fn on_push(&self, current: Arc<AtomicBool>, broken: Arc<Notify>) -> OnPush {
        let (events, frames, table) = (self.events.clone(), Arc::clone(&self.frames), Arc::clone(&self.table));
        let subscribed = Arc::clone(&self.subscribed);
        Arc::new(move |push: PushInfo| {
            if !current.load(Ordering::Acquire) {
                return;
            }
            let mut data = push.data.into_iter();
            let channel = data.next().and_then(bytes_of).unwrap_or_default();
            // A closed receiver: the bus is being dropped.
            match push.kind {
                PushKind::Message | PushKind::SMessage if channel == frames.as_bytes() => {
                    if let Some(payload) = data.next().and_then(bytes_of) {
                        let _ = events.send(BusEvent::Frame(Bytes::from(payload)));
                    }
                }
                PushKind::Message | PushKind::SMessage if channel == table.as_bytes() => {
                    let _ = events.send(BusEvent::TableChanged);
                }
                PushKind::Subscribe | PushKind::SSubscribe
                    if channel == frames.as_bytes() && subscribed.swap(true, Ordering::AcqRel) =>
                {
                    let _ = events.send(BusEvent::Reconnected);
                }
                // Also when a slot moved to another node of a Redis Cluster.
                PushKind::Disconnection | PushKind::Unsubscribe | PushKind::SUnsubscribe => broken.notify_one(),
                _ => {}
            }
        })
    }

    async fn until_broken(&self, mut subscription: Subscription) -> String {
        loop {
            tokio::select! {
                () = subscription.broken.notified() => return "the connection ended".to_owned(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let look = match &subscription.connection {
                Connection::Node(_) => "NUMSUB",
                Connection::Cluster(_) => "SHARDNUMSUB",
            };
            let listeners = listeners(&mut subscription.connection, look, &self.frames);
            match tokio::time::timeout(LOOK_DEADLINE, listeners).await {
                Ok(Ok(0)) => return "Redis knows of no subscription".to_owned(),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_elapsed) => return "Redis is silent".to_owned(),
            }
        }
    }
}

/// How many connections are subscribed to `channel`.
pub(super) async fn listeners(connection: &mut Connection, look: &str, channel: &str) -> redis::RedisResult<u64> {
    let counts: Vec<(String, u64)> = redis::cmd("PUBSUB").arg(look).arg(channel).query_async(connection).await?;
    Ok(counts.into_iter().map(|(_, count)| count).sum())
}

fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}
