//! One node's part in the cluster: when to beat, what to claim, give and take back, whom to suspect, and what the router
//! is told about owners.
//!
//! Pure: `next` says which one thing to ask the bus now, `done` takes its answer, `wake_at` says when to look again.
//! Times are on the node's own monotonic clock.
//!
//! Invariants
//! - The router believes this node to own a shard only while the lease holds by the own clock, and never while the shard
//!   is being handed over.
//! - One request to the bus at a time, so an answer is never older than what was done before it. A beat that is due goes first.
//! - A shard that was released is given, or taken back, or gone with the lease: never forgotten.
//! - What others had when the table was emptied, or when everyone's lease ran out, is left to them for one lease.

mod ownership;
mod suspicion;

use std::collections::BTreeMap;
use std::time::Duration;

use self::ownership::{Changes, Ownership};
use self::suspicion::{SECOND_LOOK, Suspicion};
use super::lease::Lease;
use crate::ids::{NodeId, ShardId};

/// Between two beats that hints of a changed table ask for.
const HINT_PAUSE: Duration = Duration::from_millis(5);
/// Shards that a node hands over at a time, to balance and when it drains.
const GIFTS: usize = 64;
const DRAIN_GIFTS: usize = 128;

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Has not read the table yet.
    Starting,
    Ready,
    /// Hands everything over and takes nothing.
    Draining,
    /// Owns nothing and asks for nothing but to be let go.
    Leaving,
    Left,
}

/// What to ask the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Beat,
    Table,
    Claim(Vec<ShardId>),
    Give(Vec<(ShardId, NodeId)>),
    Depose(NodeId),
    Leave,
}

/// What it answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `began`: when the request was sent. `nodes`: the living ones, and whether they may own shards.
    Beaten {
        began: Duration,
        nodes: Vec<(NodeId, bool)>,
        version: u64,
        birth: u64,
        lapsed: bool,
    },
    Table {
        version: u64,
        owners: Vec<Option<NodeId>>,
    },
    Claimed {
        asked: usize,
        own: Vec<ShardId>,
    },
    Given,
    Deposed(bool),
    Left,
    /// Whether it was done is unknown.
    Failed,
}

/// What to do besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the router who owns what.
    Owners(Vec<(ShardId, Option<NodeId>)>),
    /// Tell the router that these nodes are gone.
    Lost(Vec<NodeId>),
    /// Ask the router to let go of these shards; [`Membership::released`] takes its answer.
    Release(Vec<ShardId>),
    /// See whether anybody listens on this node's inbox; [`Membership::probed`] takes the answer.
    Probe(NodeId),
    /// The lease is over (already acted on); for log and metric.
    LeaseLost,
}

/// Another node as last seen.
#[derive(Clone, Copy, Debug)]
struct Peer {
    candidate: bool,
    /// In the newest view; false only while everyone is given time to come back.
    present: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Membership {
    me: NodeId,
    phase: Phase,
    lease: Lease,
    /// The table's birth as of the last beat.
    birth: Option<u64>,
    peers: BTreeMap<NodeId, Peer>,
    ownership: Ownership,
    suspicion: Suspicion,
    asking: Option<Request>,
    beat_at: Duration,
    beaten_at: Duration,
    /// What a beat is wanted for came up while one was under way.
    beat_again: bool,
    /// Nothing is asked before this, after a failure.
    pause_until: Duration,
}

impl Membership {
    pub fn new(me: NodeId, lease: Duration) -> Self {
        Self {
            phase: Phase::Starting,
            lease: Lease::new(lease),
            birth: None,
            peers: BTreeMap::new(),
            ownership: Ownership::new(me.clone()),
            suspicion: Suspicion::default(),
            asking: None,
            beat_at: Duration::ZERO,
            beaten_at: Duration::ZERO,
            beat_again: false,
            pause_until: Duration::ZERO,
            me,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn leased(&self, now: Duration) -> bool {
        self.lease.holds(now)
    }

    /// The owners as this node's router knows them, in shard order.
    pub fn owners(&self) -> &[Option<NodeId>] {
        self.ownership.told()
    }

    /// How many shards the router believes to be this node's.
    pub fn owned(&self) -> usize {
        self.ownership.owned()
    }

    /// How many nodes have a living lease, as far as this one knows, itself included.
    pub fn living(&self) -> usize {
        1 + self.peers.values().filter(|peer| peer.present).count()
    }

    // ------------------------------------------------------------------------------------------- time and requests

    /// When to call [`Membership::tick`] even if nothing happens before.
    pub fn wake_at(&self, now: Duration) -> Duration {
        if self.phase == Phase::Left {
            return now + self.lease.length();
        }
        let beat = self.asking.is_none().then(|| self.beat_at.max(self.pause_until));
        let wakes = [beat, self.lease.ends(), self.ownership.reserved_until(), self.suspicion.next_look()];
        wakes.into_iter().flatten().min().unwrap_or(now + SECOND_LOOK)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.lease.ends().is_some_and(|ends| now >= ends) {
            self.lose_all(&mut effects);
            self.lease.lose();
            self.beat_at = now;
        }
        if self.ownership.reserved_until().is_some_and(|until| now >= until) {
            self.ownership.end_reservation();
            self.drop_absent(&mut effects);
        }
        for node in self.suspicion.due(now) {
            self.probe(node, &mut effects);
        }
        self.hand_over(now, &mut effects);
        effects
    }

    /// The next request, if one is due and none is under way; its answer must come back through [`Membership::done`].
    pub fn next(&mut self, now: Duration) -> Option<Request> {
        if self.asking.is_some() || now < self.pause_until {
            return None;
        }
        let request = self.wanted(now)?;
        self.asking = Some(request.clone());
        Some(request)
    }

    fn wanted(&self, now: Duration) -> Option<Request> {
        match self.phase {
            Phase::Leaving => return Some(Request::Leave),
            Phase::Left => return None,
            Phase::Starting | Phase::Ready | Phase::Draining => {}
        }
        if now >= self.beat_at {
            return Some(Request::Beat);
        }
        if !self.lease.holds(now) {
            return None;
        }
        if !self.ownership.is_fresh() {
            return Some(Request::Table);
        }
        if let Some(node) = self.suspicion.condemned() {
            return Some(Request::Depose(node.clone()));
        }
        let claims = self.ownership.claims(self.phase == Phase::Ready);
        if !claims.is_empty() {
            return Some(Request::Claim(claims));
        }
        let gifts = self.ownership.gifts();
        (!gifts.is_empty()).then_some(Request::Give(gifts))
    }

    /// Takes the answer to the request that is under way.
    pub fn done(&mut self, answer: Answer, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let asked = self.asking.take();
        if matches!(self.phase, Phase::Leaving | Phase::Left) {
            // Of what was under way only this still matters. Where it failed, the lease runs out by itself.
            if asked == Some(Request::Leave) {
                self.phase = Phase::Left;
            }
            return effects;
        }
        match (answer, asked) {
            (Answer::Beaten { began, nodes, version, birth, lapsed }, _) => {
                self.lease_renewed(began, birth, lapsed, now, &mut effects);
                self.ownership.heard(version);
                self.peers_seen(nodes, &mut effects);
            }
            (Answer::Table { version, owners }, _) => {
                self.ownership.was_read(version, owners);
                if self.phase == Phase::Starting && self.lease.holds(now) {
                    self.phase = Phase::Ready;
                    self.rethink();
                    self.beat_at = now;
                }
                self.tell(now, &mut effects);
            }
            (Answer::Claimed { asked, own }, _) => {
                // Less than asked for: others were faster, or the lease is gone without our knowing.
                if own.len() < asked {
                    self.ownership.doubt();
                    self.beat_at = now;
                }
                self.ownership.claimed(own);
                self.tell(now, &mut effects);
            }
            (Answer::Given, Some(Request::Give(gifts))) => self.ownership.given(&gifts),
            (Answer::Deposed(ended), Some(Request::Depose(node))) => {
                self.suspicion.acquit(&node);
                if ended {
                    self.beat_at = now;
                }
            }
            (Answer::Failed, _) => {
                self.pause_until = now + self.lease.retry_every();
                self.beat_at = now;
                // It may have been done all the same.
                self.ownership.doubt();
            }
            // Answers to what was not asked.
            (Answer::Given | Answer::Deposed(_) | Answer::Left, _) => {}
        }
        effects.extend(self.tick(now));
        effects
    }

    fn lease_renewed(&mut self, began: Duration, birth: u64, lapsed: bool, now: Duration, effects: &mut Vec<Effect>) {
        let emptied = self.birth.replace(birth).is_some_and(|before| before != birth);
        if lapsed || emptied {
            self.ownership.reserve(now + self.lease.length());
            self.ownership.doubt();
        }
        if lapsed {
            self.lose_all(effects);
        }
        self.lease.renew(began);
        self.beaten_at = now;
        let again = std::mem::take(&mut self.beat_again);
        self.beat_at = if again { now + HINT_PAUSE } else { began + self.lease.beat_every() };
    }

    fn peers_seen(&mut self, nodes: Vec<(NodeId, bool)>, effects: &mut Vec<Effect>) {
        for peer in self.peers.values_mut() {
            peer.present = false;
        }
        for (node, candidate) in nodes {
            if node != self.me {
                self.peers.insert(node, Peer { candidate, present: true });
            }
        }
        if self.ownership.reserved_until().is_none() {
            self.drop_absent(effects);
        }
        self.rethink();
        if let Some(neighbour) = self.neighbour() {
            self.probe(neighbour, effects);
        }
    }

    // -------------------------------------------------------------------------------------------------------- news

    /// The table, or who takes part, may have changed.
    pub fn hint(&mut self, now: Duration) {
        self.beat_by(now.max(self.beaten_at + HINT_PAUSE));
    }

    /// The bus was away and is back: don't wait with the next try.
    pub fn reconnected(&mut self, now: Duration) {
        self.pause_until = now;
        self.beat_by(now);
    }

    /// A publish to this node met nobody.
    pub fn nobody_at(&mut self, node: NodeId, now: Duration) {
        if self.peers.get(&node).is_some_and(|peer| peer.present) {
            self.suspicion.suspect(node, now);
        }
    }

    /// The answer to [`Effect::Probe`]: whether anybody listens; `None`: the bus could not say.
    pub fn probed(&mut self, node: &NodeId, listens: Option<bool>, now: Duration) -> Vec<Effect> {
        // Of a node that left meanwhile nothing is known any more.
        let listens = listens.filter(|_| self.peers.contains_key(node));
        self.suspicion.saw(node, listens, now);
        self.tick(now)
    }

    /// The router let go of these shards.
    pub fn released(&mut self, shards: &[ShardId], now: Duration) -> Vec<Effect> {
        self.ownership.let_go(shards);
        self.tick(now)
    }

    /// From now on hand everything over and take nothing.
    pub fn drain(&mut self, now: Duration) -> Vec<Effect> {
        if matches!(self.phase, Phase::Starting | Phase::Ready) {
            self.phase = Phase::Draining;
            self.rethink();
            self.beat_by(now);
        }
        self.tick(now)
    }

    /// Whether a drain has nothing left to do: no shard is here, or nobody can take them.
    pub fn drained(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Starting | Phase::Ready => false,
            Phase::Draining => {
                let nobody_else = !self.peers.values().any(|peer| peer.candidate);
                let settled = self.ownership.is_fresh() || !self.lease.holds(now);
                nobody_else || settled && self.ownership.nothing_here()
            }
            Phase::Leaving | Phase::Left => true,
        }
    }

    /// From now on own nothing and take no part any more; over when the phase is `Left`.
    pub fn leave(&mut self, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Left {
            self.phase = Phase::Leaving;
        }
        self.pause_until = now;
        self.lease.lose();
        let mut effects = Vec::new();
        self.lose_all(&mut effects);
        effects
    }

    // --------------------------------------------------------------------------------------------------- decisions

    /// A beat that is under way may have been answered before what it is wanted for.
    fn beat_by(&mut self, at: Duration) {
        self.beat_at = self.beat_at.min(at);
        self.beat_again |= self.asking == Some(Request::Beat);
    }

    /// Nothing is ours any more, for the router at once.
    fn lose_all(&mut self, effects: &mut Vec<Effect>) {
        let changes = self.ownership.lose_all();
        push_owners(changes, effects);
        if self.lease.ends().is_some() {
            effects.push(Effect::LeaseLost);
        }
    }

    fn tell(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let changes = self.ownership.untold(self.lease.holds(now));
        push_owners(changes, effects);
    }

    /// Nodes that did not come (back) are gone.
    fn drop_absent(&mut self, effects: &mut Vec<Effect>) {
        let gone: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| !peer.present).map(|(node, _)| node.clone()).collect();
        if gone.is_empty() {
            return;
        }
        for node in &gone {
            self.peers.remove(node);
            self.suspicion.acquit(node);
        }
        effects.push(Effect::Lost(gone));
        self.rethink();
    }

    fn rethink(&mut self) {
        let me = (self.phase == Phase::Ready).then_some(&self.me);
        let others = self.peers.iter().filter(|(_, peer)| peer.candidate).map(|(node, _)| node);
        self.ownership.rethink(others.chain(me));
    }

    /// Takes back what nobody is to have, and starts the next step of a hand-over when the last one is through.
    fn hand_over(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.ownership.take_back() {
            self.tell(now, effects);
        }
        let at_most = match self.phase {
            _ if !self.lease.holds(now) => 0,
            // Not while everyone is just coming back.
            Phase::Ready if self.ownership.reserved_until().is_none() => GIFTS,
            Phase::Draining => DRAIN_GIFTS,
            _ => 0,
        };
        let peers = &self.peers;
        let there = |node: &NodeId| peers.get(node).is_some_and(|peer| peer.present);
        let gives = self.ownership.release(at_most, there);
        if !gives.is_empty() {
            effects.push(Effect::Release(gives));
        }
    }

    fn probe(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        if self.suspicion.look(&node) {
            effects.push(Effect::Probe(node));
        }
    }

    /// The next node by id, round the ring: so everyone is looked after by one.
    fn neighbour(&self) -> Option<NodeId> {
        let present = |(node, peer): (&NodeId, &Peer)| peer.present.then(|| node.clone());
        let behind = self.peers.range(self.me.clone()..).find_map(present);
        behind.or_else(|| self.peers.iter().find_map(present))
    }
}

fn push_owners(changes: Changes, effects: &mut Vec<Effect>) {
    if !changes.is_empty() {
        effects.push(Effect::Owners(changes));
    }
}

#[cfg(test)]
mod tests;
