//! This node's part in the cluster: carries out what `domain::membership` decides.
//!
//! Invariant: the router hears of every change of ownership from here and nowhere else, in order. Nothing here waits: a
//! request to the bus is a future beside the mailbox, and the own end of the lease is a timer that no request holds up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, SpawnHandle, WrapFuture,
};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::messages::{
    BusNews, ClusterStatus, Describe, DrainShards, KnownNode, LeaveCluster, NodesLost, OwnersChanged, ReleaseShards,
    ShardsReleased, ToHub,
};
use super::posts::Peers;
use super::room::feed::Hubs;
use crate::domain::balance::{Advice, Balance};
use crate::domain::membership::{Answer, Effect, Membership, Phase, Request};
use crate::ids::NodeId;
use crate::metrics::Metrics;
use crate::ports::{BusError, ClusterBus, NodeRecord, NodeState};

/// How long a node that is gone is shown as lost.
const SHOW_LOST: Duration = Duration::from_secs(60);

/// What this node is called and how long its lease lasts.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub node: NodeId,
    pub lease: Duration,
}

/// The router, as the cluster needs it.
#[derive(Clone, Debug)]
pub struct RouterPort {
    pub owners: Recipient<OwnersChanged>,
    pub lost: Recipient<NodesLost>,
    pub release: Recipient<ReleaseShards>,
}

/// See the module. Its inbox must be started on the bus before it runs.
pub struct ClusterActor {
    node: NodeId,
    lease: Duration,
    bus: Arc<dyn ClusterBus>,
    router: RouterPort,
    metrics: Arc<Metrics>,
    peers: Peers,
    membership: Membership,
    /// Zero of the membership's clock.
    epoch: Instant,
    /// The other nodes' and the own newest records, with when each was first seen.
    records: BTreeMap<NodeId, (NodeRecord, Instant)>,
    /// When they were last read.
    heard: Option<Instant>,
    lost: BTreeMap<NodeId, (NodeRecord, Instant)>,
    timer: Option<SpawnHandle>,
    /// Who waits for the end of a drain, and of leaving.
    drains: Vec<oneshot::Sender<()>>,
    /// Whether a beat failed since the last good one; so that an outage is one line in the log.
    trouble: bool,
    leaves: Vec<oneshot::Sender<()>>,
    balance: Balance,
    hubs: Hubs,
    /// Which hub is asked first next.
    next_hub: usize,
}

impl ClusterActor {
    pub fn new(config: ClusterConfig, bus: Arc<dyn ClusterBus>, router: RouterPort, metrics: Arc<Metrics>) -> Self {
        Self {
            membership: Membership::new(config.node.clone(), config.lease),
            node: config.node,
            lease: config.lease,
            bus,
            router,
            metrics,
            peers: Peers::default(),
            epoch: Instant::now(),
            records: BTreeMap::new(),
            heard: None,
            lost: BTreeMap::new(),
            timer: None,
            drains: Vec::new(),
            trouble: false,
            leaves: Vec::new(),
            balance: Balance::new(0, Duration::ZERO),
            hubs: Hubs::default(),
            next_hub: 0,
        }
    }

    /// Asks sessions of `hubs` to come again where this node has far more than its share; at most so many a minute.
    pub fn balancing(mut self, per_minute: u32, hubs: Hubs) -> Self {
        (self.balance, self.hubs) = (Balance::new(per_minute, self.lease / 3), hubs);
        self
    }

    /// Says who is in the cluster.
    pub fn telling(mut self, peers: Peers) -> Self {
        self.peers = peers;
        self
    }

    /// After a beat, with what the other nodes said of themselves.
    fn balance(&mut self) {
        if self.membership.phase() != Phase::Ready {
            return;
        }
        let others = self.records.values().map(|(record, _)| record);
        let others = others.filter(|record| record.id != self.node && record.state == NodeState::Ready);
        let (own, leaving) = (count(&self.metrics.sessions), count(&self.metrics.sessions_leaving));
        let go = match self.balance.beat(self.epoch.elapsed(), own, leaving, others.map(|record| record.sessions)) {
            Advice::Nothing => return,
            Advice::Ask(count) => count as usize,
            Advice::GiveUp => {
                tracing::warn!(node.id = %self.node, sessions = own, "cluster.balance.futile");
                return;
            }
        };
        let hubs: Vec<_> = self.hubs.read().iter().flat_map(|hubs| hubs.iter()).flatten().cloned().collect();
        if hubs.is_empty() {
            return;
        }
        self.metrics.sessions_leaving.add(go as i64);
        tracing::debug!(node.id = %self.node, sessions = go, "cluster.balance.asked");
        // A few at a time are asked of one hub after the other, not of the first each time.
        let (each, over) = (go / hubs.len(), go % hubs.len());
        for n in 0..hubs.len() {
            let count = each + usize::from(n < over);
            if count > 0 {
                hubs[(self.next_hub + n) % hubs.len()].do_send(ToHub::LetGo { count });
            }
        }
        self.next_hub = (self.next_hub + over) % hubs.len();
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.node.clone(),
            state: match self.membership.phase() {
                Phase::Starting => NodeState::Starting,
                Phase::Ready => NodeState::Ready,
                Phase::Draining | Phase::Leaving | Phase::Left => NodeState::Draining,
            },
            sessions: count(&self.metrics.sessions),
            rooms: count(&self.metrics.rooms),
        }
    }

    /// Carries out effects, asks the bus what is to be asked next, and sets the timer for what comes after.
    fn go_on(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            self.carry_out(effect, ctx);
        }
        self.metrics.nodes.set(self.membership.living() as i64);
        self.peers.set(self.records.keys());
        if let Some(request) = self.membership.next(self.now()) {
            self.ask(request, ctx);
        }
        if !self.drains.is_empty() && self.membership.drained(self.now()) {
            tracing::info!(node.id = %self.node, "cluster.drained");
            for waiting in self.drains.drain(..) {
                // Whoever waited may have stopped waiting.
                let _ = waiting.send(());
            }
        }
        if self.membership.phase() == Phase::Left {
            for waiting in self.leaves.drain(..) {
                let _ = waiting.send(());
            }
        }
        let now = self.now();
        let wait = self.membership.wake_at(now).saturating_sub(now).max(Duration::from_millis(1));
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            let effects = actor.membership.tick(actor.now());
            actor.go_on(effects, ctx);
        }));
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Owners(changes) => {
                let owned = self.membership.owned();
                self.metrics.shards_owned.set(owned as i64);
                let taken = changes.iter().filter(|(_, owner)| owner.as_ref() == Some(&self.node)).count();
                self.metrics.shard_moves.inc_by(taken as u64);
                tracing::info!(node.id = %self.node, changes = changes.len(), owned, "cluster.owners.changed");
                #[cfg(feature = "seeded-bugs")]
                let changes = self.without_what_is_told_late(changes, ctx);
                self.router.owners.do_send(OwnersChanged { changes });
            }
            Effect::Lost(nodes) => {
                for node in &nodes {
                    tracing::warn!(node.id = %node, "cluster.node.lost");
                    if let Some((record, _)) = self.records.remove(node) {
                        self.lost.insert(node.clone(), (record, Instant::now()));
                    }
                }
                self.router.lost.do_send(NodesLost { nodes });
            }
            Effect::Release(shards) => {
                self.metrics.shard_moves.inc_by(shards.len() as u64);
                tracing::info!(node.id = %self.node, shards = shards.len(), "cluster.shards.released");
                self.router.release.do_send(ReleaseShards { shards });
            }
            Effect::LeaseLost => {
                self.metrics.lease_losses.inc();
                tracing::warn!(node.id = %self.node, "cluster.lease.lost");
            }
            Effect::Probe(node) => self.probe(node, ctx),
        }
    }

    /// The seeded bug `no-epoch-check`: that a shard is not, or no more, this node's is told when the time is up, if it is
    /// still so. Gives the rest.
    #[cfg(feature = "seeded-bugs")]
    fn without_what_is_told_late(
        &self,
        changes: Vec<(crate::ids::ShardId, Option<NodeId>)>,
        ctx: &mut Context<Self>,
    ) -> Vec<(crate::ids::ShardId, Option<NodeId>)> {
        use crate::seeded_bug::{self, Bug};
        if !seeded_bug::is(Bug::NoEpochCheck) {
            return changes;
        }
        let (now, late): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, owner)| owner.as_ref() == Some(&self.node));
        ctx.run_later(seeded_bug::HEARD_LATE, |actor, _| {
            let owners = actor.membership.owners();
            let changes = late.into_iter().filter(|(shard, owner)| owners[usize::from(shard.0)] == *owner).collect();
            actor.router.owners.do_send(OwnersChanged { changes });
        });
        now
    }

    /// A frame without content, which every inbox ignores: only who takes it matters.
    fn probe(&self, node: NodeId, ctx: &mut Context<Self>) {
        let bus = Arc::clone(&self.bus);
        let probe = async move {
            let taken = bus.publish(&[(node.clone(), Bytes::new())]).await;
            (node, taken.ok().and_then(|counts| counts.first().map(|&count| count > 0)))
        };
        ctx.spawn(probe.into_actor(self).map(|(node, listens), actor, ctx| {
            let effects = actor.membership.probed(&node, listens, actor.now());
            actor.go_on(effects, ctx);
        }));
    }

    fn ask(&mut self, request: Request, ctx: &mut Context<Self>) {
        let (bus, record, lease, began) = (Arc::clone(&self.bus), self.record(), self.lease, self.now());
        let asking = async move {
            match request {
                Request::Beat => bus.beat(&record, lease).await.map(|view| {
                    let nodes = view.nodes.iter().map(|node| (node.id.clone(), node.state == NodeState::Ready));
                    let (version, birth, lapsed) = (view.version, view.birth, view.lapsed);
                    (Answer::Beaten { began, nodes: nodes.collect(), version, birth, lapsed }, view.nodes)
                }),
                Request::Table => bus.table().await.map(|(version, owners)| answer(Answer::Table { version, owners })),
                Request::Claim(shards) => {
                    let own = bus.claim(&record.id, &shards).await;
                    own.map(|own| answer(Answer::Claimed { asked: shards.len(), own }))
                }
                Request::Give(gifts) => bus.give(&record.id, &gifts).await.map(|()| answer(Answer::Given)),
                Request::Leave => bus.leave(&record.id).await.map(|()| answer(Answer::Left)),
                Request::Depose(node) => bus.depose(&node).await.map(|ended| {
                    if ended {
                        tracing::warn!(node.id = %node, "cluster.node.deposed");
                    }
                    answer(Answer::Deposed(ended))
                }),
            }
        };
        ctx.spawn(asking.into_actor(self).map(|result, actor, ctx| {
            let answer = actor.heard(result);
            if matches!(answer, Answer::Beaten { .. }) {
                actor.balance();
            }
            let effects = actor.membership.done(answer, actor.now());
            actor.go_on(effects, ctx);
        }));
    }

    /// Notes what nodes say of themselves, and tells trouble with the bus once.
    fn heard(&mut self, result: Result<(Answer, Vec<NodeRecord>), BusError>) -> Answer {
        match result {
            Ok((answer, records)) => {
                if std::mem::take(&mut self.trouble) {
                    tracing::info!(node.id = %self.node, "cluster.bus.back");
                }
                let now = Instant::now();
                if !records.is_empty() {
                    self.heard = Some(now);
                }
                for record in records {
                    self.lost.remove(&record.id);
                    let since = self.records.get(&record.id).map_or(now, |(_, since)| *since);
                    self.records.insert(record.id.clone(), (record, since));
                }
                answer
            }
            Err(error) => {
                self.metrics.bus_errors.inc();
                if !std::mem::replace(&mut self.trouble, true) {
                    tracing::warn!(node.id = %self.node, %error, "cluster.bus.away");
                }
                Answer::Failed
            }
        }
    }
}

fn count(gauge: &prometheus::IntGauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

fn answer(answer: Answer) -> (Answer, Vec<NodeRecord>) {
    (answer, Vec::new())
}

impl Actor for ClusterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.go_on(Vec::new(), ctx);
    }
}

impl Handler<BusNews> for ClusterActor {
    type Result = ();

    fn handle(&mut self, news: BusNews, ctx: &mut Context<Self>) {
        let now = self.now();
        match news {
            BusNews::NobodyAt(node) => self.membership.nobody_at(node, now),
            BusNews::TableChanged => self.membership.hint(now),
            BusNews::Reconnected => self.membership.reconnected(now),
        }
        self.go_on(Vec::new(), ctx);
    }
}

impl Handler<ShardsReleased> for ClusterActor {
    type Result = ();

    fn handle(&mut self, ShardsReleased { shards }: ShardsReleased, ctx: &mut Context<Self>) {
        let effects = self.membership.released(&shards, self.now());
        self.go_on(effects, ctx);
    }
}

impl Handler<DrainShards> for ClusterActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: DrainShards, ctx: &mut Context<Self>) -> ResponseFuture<()> {
        let (done, drained) = oneshot::channel();
        self.drains.push(done);
        let effects = self.membership.drain(self.now());
        self.go_on(effects, ctx);
        Box::pin(async move {
            // The actor's end is the end of the drain too.
            let _ = drained.await;
        })
    }
}

impl Handler<LeaveCluster> for ClusterActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: LeaveCluster, ctx: &mut Context<Self>) -> ResponseFuture<()> {
        let (done, left) = oneshot::channel();
        self.leaves.push(done);
        let effects = self.membership.leave(self.now());
        self.go_on(effects, ctx);
        Box::pin(async move {
            let _ = left.await;
        })
    }
}

impl Handler<Describe> for ClusterActor {
    type Result = ClusterStatus;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> ClusterStatus {
        self.lost.retain(|_, (_, since)| since.elapsed() < SHOW_LOST);
        let own = self.record();
        let state = own.state;
        let others = self.records.values().filter(|(record, _)| record.id != self.node).cloned();
        let living = std::iter::once((own, self.epoch)).chain(others);
        let living = living.map(|(record, since)| KnownNode { record, alive: true, since });
        let lost = self.lost.values().cloned().map(|(record, since)| KnownNode { record, alive: false, since });
        ClusterStatus {
            node: self.node.clone(),
            state,
            nodes: living.chain(lost).collect(),
            owners: self.membership.owners().to_vec(),
            leased: self.membership.leased(self.now()),
            heard: self.heard,
        }
    }
}
