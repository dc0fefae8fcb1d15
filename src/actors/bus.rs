//! Links to the other nodes: numbers what goes out, notices what did not come in.
//!
//! One publish is under way at a time; everything queued meanwhile goes with the next one, as one frame a node. Each
//! link's frames are numbered; after the last one an empty frame repeats its number a few times, so that a loss at the
//! end is noticed too. A missing number, or a new subscription after a break, makes the router tell the rooms.
//!
//! Invariants: a link's queue holds at most `LINK_BYTES` (what does not fit is dropped and its number skipped);
//! nothing durable depends on any of this.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, StreamHandler, WrapFuture};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::actors::envelope::{Envelope, Frame};
use crate::actors::messages::{BusNews, FromNode, LinkBroken, NodesLost, ToNode};
use crate::ids::NodeId;
use crate::limits::{BUS_FRAME_BYTES, LINK_BYTES};
use crate::metrics::Metrics;
use crate::ports::{BusError, BusEvent, ClusterBus};

/// When the last number of a quiet link is repeated, counted from the last frame.
const REPEATS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_500),
    Duration::from_millis(5_000),
];
/// How often quiet links are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Who is told what comes in.
pub struct BusPorts {
    pub frames: Recipient<FromNode>,
    pub broken: Recipient<LinkBroken>,
    pub news: Recipient<BusNews>,
}

#[derive(Default)]
struct LinkOut {
    number: u64,
    queue: VecDeque<Bytes>,
    bytes: usize,
    last_sent: Option<Instant>,
    repeats: usize,
}

struct LinkIn {
    link: u64,
    number: u64,
}

pub struct BusActor {
    node: NodeId,
    /// Of this run: other nodes start to count anew when it changes.
    link: u64,
    bus: Arc<dyn ClusterBus>,
    ports: BusPorts,
    metrics: Arc<Metrics>,
    out: HashMap<NodeId, LinkOut>,
    incoming: HashMap<NodeId, LinkIn>,
    publishing: bool,
}

impl BusActor {
    pub fn new(node: NodeId, bus: Arc<dyn ClusterBus>, ports: BusPorts, metrics: Arc<Metrics>) -> Self {
        let link = rand::random();
        Self { node, link, bus, ports, metrics, out: HashMap::new(), incoming: HashMap::new(), publishing: false }
    }

    /// Starts the inbox and feeds it to the actor.
    pub fn start_with_inbox(self) -> actix::Addr<Self> {
        let inbox = self.bus.inbox(&self.node);
        Self::create(|ctx| {
            ctx.add_stream(Inbox(inbox));
            self
        })
    }

    fn frame(&self, number: u64, envelopes: Vec<Bytes>) -> Bytes {
        Frame { from: self.node.clone(), link: self.link, number, envelopes }.encode()
    }

    /// Publishes everything that waits, unless a publish is under way (its end comes here again).
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.publishing {
            return;
        }
        let now = Instant::now();
        let mut ready = Vec::new();
        for (node, link) in &mut self.out {
            if link.queue.is_empty() {
                continue;
            }
            let (mut envelopes, mut bytes) = (Vec::new(), 0);
            while let Some(next) = link.queue.front()
                && (bytes == 0 || bytes + next.len() <= BUS_FRAME_BYTES)
                && let Some(envelope) = link.queue.pop_front()
            {
                bytes += envelope.len();
                link.bytes -= envelope.len();
                envelopes.push(envelope);
            }
            link.number += 1;
            (link.last_sent, link.repeats) = (Some(now), 0);
            self.metrics.bus_bytes_sent.inc_by(bytes as u64);
            ready.push((node.clone(), link.number, envelopes));
        }
        if ready.is_empty() {
            return;
        }
        let frames = ready.into_iter().map(|(node, number, envelopes)| (node, self.frame(number, envelopes))).collect();
        self.publish(frames, ctx);
    }

    fn publish(&mut self, frames: Vec<(NodeId, Bytes)>, ctx: &mut Context<Self>) {
        self.publishing = true;
        self.metrics.bus_frames_sent.inc_by(frames.len() as u64);
        let bus = self.bus.clone();
        let publish = async move {
            let result = bus.publish(&frames).await;
            (frames, result)
        };
        ctx.spawn(publish.into_actor(self).map(|(frames, result), actor, ctx| {
            actor.publishing = false;
            actor.published(&frames, result);
            actor.pump(ctx);
        }));
    }

    fn published(&mut self, frames: &[(NodeId, Bytes)], result: Result<Vec<u64>, BusError>) {
        match result {
            Ok(inboxes) => {
                for ((node, _), _) in frames.iter().zip(inboxes).filter(|(_, inboxes)| *inboxes == 0) {
                    self.ports.news.do_send(BusNews::NobodyAt(node.clone()));
                }
            }
            Err(error) => {
                self.metrics.bus_errors.inc();
                tracing::debug!(error = %error, "bus.publish.failed");
            }
        }
    }

    fn repeat(&mut self, ctx: &mut Context<Self>) {
        if self.publishing {
            return;
        }
        let now = Instant::now();
        let mut due = Vec::new();
        for (node, link) in &mut self.out {
            if let (Some(last), Some(wait)) = (link.last_sent, REPEATS.get(link.repeats))
                && link.queue.is_empty()
                && now.duration_since(last) >= *wait
            {
                link.repeats += 1;
                due.push((node.clone(), link.number));
            }
        }
        if !due.is_empty() {
            let frames = due.into_iter().map(|(node, number)| (node, self.frame(number, Vec::new()))).collect();
            self.publish(frames, ctx);
        }
    }

    fn take(&mut self, bytes: &Bytes) {
        // An empty publish only asks whether anybody listens.
        if bytes.is_empty() {
            return;
        }
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.metrics.bus_errors.inc();
                tracing::warn!(error = %error, "bus.frame.unreadable");
                return;
            }
        };
        self.metrics.bus_frames_received.inc();
        self.metrics.bus_bytes_received.inc_by(bytes.len() as u64);
        if self.lost_any(&frame) {
            self.metrics.bus_gaps.inc();
            tracing::info!(node.id = %frame.from, "bus.link.gap");
            self.ports.broken.do_send(LinkBroken { node: Some(frame.from.clone()) });
        }
        if frame.envelopes.is_empty() {
            return;
        }
        let mut envelopes = Vec::with_capacity(frame.envelopes.len());
        for bytes in &frame.envelopes {
            match Envelope::decode(bytes) {
                Ok(envelope) => envelopes.push(envelope),
                Err(error) => {
                    self.metrics.bus_errors.inc();
                    tracing::warn!(node.id = %frame.from, error = %error, "bus.envelope.unreadable");
                }
            }
        }
        self.ports.frames.do_send(FromNode { node: frame.from, envelopes });
    }

    /// Whether a number is missing before this frame.
    fn lost_any(&mut self, frame: &Frame) -> bool {
        let expected_step = u64::from(!frame.envelopes.is_empty());
        let known = self.incoming.get(&frame.from).filter(|known| known.link == frame.link);
        let before = known.map_or(0, |known| known.number);
        self.incoming.insert(frame.from.clone(), LinkIn { link: frame.link, number: frame.number });
        frame.number != before + expected_step
    }
}

impl Actor for BusActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, ctx| actor.repeat(ctx));
    }
}

impl Handler<ToNode> for BusActor {
    type Result = ();

    fn handle(&mut self, message: ToNode, ctx: &mut Self::Context) {
        let first = self.out.values().all(|link| link.queue.is_empty());
        let link = self.out.entry(message.node).or_default();
        if link.bytes + message.envelope.len() > LINK_BYTES {
            link.number += 1;
            self.metrics.link_drops.inc();
            return;
        }
        link.bytes += message.envelope.len();
        link.queue.push_back(message.envelope);
        // Later in this turn of the loop: what else is in the mailbox goes with it.
        if first && !self.publishing {
            ctx.spawn(async {}.into_actor(self).map(|(), actor, ctx| actor.pump(ctx)));
        }
    }
}

impl Handler<NodesLost> for BusActor {
    type Result = ();

    fn handle(&mut self, lost: NodesLost, _: &mut Self::Context) {
        for node in &lost.nodes {
            self.out.remove(node);
            self.incoming.remove(node);
        }
    }
}

/// The inbox as a stream, for the actor's context.
struct Inbox(UnboundedReceiver<BusEvent>);

impl futures_util::Stream for Inbox {
    type Item = BusEvent;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<BusEvent>> {
        self.0.poll_recv(cx)
    }
}

impl StreamHandler<BusEvent> for BusActor {
    fn handle(&mut self, event: BusEvent, _: &mut Context<Self>) {
        match event {
            BusEvent::Frame(bytes) => self.take(&bytes),
            BusEvent::TableChanged => self.ports.news.do_send(BusNews::TableChanged),
            BusEvent::Reconnected => {
                self.ports.news.do_send(BusNews::Reconnected);
                self.ports.broken.do_send(LinkBroken { node: None });
            }
        }
    }

    /// The inbox ends when the bus does, at the end of the process.
    fn finished(&mut self, _: &mut Context<Self>) {}
}
