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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::lease::Lease;
use super::placement::{self, Plan};
use crate::ids::{NodeId, SHARDS, ShardId};

/// Between two looks at an inbox that nobody seemed to listen on.
const SECOND_LOOK: Duration = Duration::from_millis(100);
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
}

/// What to ask the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Beat,
    Table,
    Claim(Vec<ShardId>),
    Give(Vec<(ShardId, NodeId)>),
    Depose(NodeId),
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

/// What is left to others until a moment.
#[derive(Clone, Debug)]
struct Reserved {
    until: Duration,
    owners: Vec<Option<NodeId>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Membership {
    me: NodeId,
    phase: Phase,
    lease: Lease,
    peers: BTreeMap<NodeId, Peer>,
    birth: Option<u64>,
    /// The table's version as of the last beat, and as last read (`None`: read it again).
    newest: u64,
    read: Option<u64>,
    /// The table as last read.
    owners: Vec<Option<NodeId>>,
    /// What the router was told.
    told: Vec<Option<NodeId>>,
    /// Asked of the router to let go of; and those it let go of.
    releasing: BTreeSet<ShardId>,
    released: BTreeSet<ShardId>,
    reserved: Option<Reserved>,
    wishes: Vec<Option<NodeId>>,
    suspects: BTreeMap<NodeId, Duration>,
    probing: BTreeSet<NodeId>,
    deposing: BTreeSet<NodeId>,
    asking: Option<Request>,
    beat_at: Duration,
    beat_again: bool,
    /// Nothing is asked before this, after a failure.
    pause_until: Duration,
    beaten_at: Duration,
}

impl Membership {
    pub fn new(me: NodeId, lease: Duration) -> Self {
        let nobody = vec![None; usize::from(SHARDS)];
        Self {
            me,
            phase: Phase::Starting,
            lease: Lease::new(lease),
            peers: BTreeMap::new(),
            birth: None,
            newest: 0,
            read: None,
            owners: nobody.clone(),
            told: nobody.clone(),
            releasing: BTreeSet::new(),
            released: BTreeSet::new(),
            reserved: None,
            wishes: nobody,
            suspects: BTreeMap::new(),
            probing: BTreeSet::new(),
            deposing: BTreeSet::new(),
            asking: None,
            beat_at: Duration::ZERO,
            beat_again: false,
            pause_until: Duration::ZERO,
            beaten_at: Duration::ZERO,
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
        &self.told
    }

    pub fn owned(&self) -> usize {
        self.told.iter().flatten().filter(|owner| **owner == self.me).count()
    }

    /// When to call [`Membership::tick`] even if nothing happens before.
    pub fn wake_at(&self, now: Duration) -> Duration {
        let beat = if self.asking.is_some() { None } else { Some(self.beat_at.max(self.pause_until)) };
        let looks =
            self.suspects.iter().filter(|(node, _)| !self.probing.contains(*node) && !self.deposing.contains(*node));
        let looks = looks.map(|(_, since)| *since + SECOND_LOOK);
        let reserved = self.reserved.as_ref().map(|reserved| reserved.until);
        let ends = self.lease.ends();
        looks.chain(beat).chain(ends).chain(reserved).min().unwrap_or(now + SECOND_LOOK)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.lease.ends().is_some_and(|ends| now >= ends) {
            self.lose_all(&mut effects);
            self.lease.lose();
            self.beat_at = now;
        }
        if self.reserved.as_ref().is_some_and(|reserved| now >= reserved.until) {
            self.reserved = None;
            self.drop_absent(&mut effects);
        }
        let due: Vec<NodeId> = self
            .suspects
            .iter()
            .filter(|(node, since)| {
                now >= **since + SECOND_LOOK && !self.probing.contains(*node) && !self.deposing.contains(*node)
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
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
        if now >= self.beat_at {
            return Some(Request::Beat);
        }
        if !self.lease.holds(now) {
            return None;
        }
        if self.read != Some(self.newest) {
            return Some(Request::Table);
        }
        if let Some(node) = self.deposing.first() {
            return Some(Request::Depose(node.clone()));
        }
        let claims = self.claims();
        if !claims.is_empty() {
            return Some(Request::Claim(claims));
        }
        let gifts = self.gifts();
        (!gifts.is_empty()).then_some(Request::Give(gifts))
    }

    /// Takes the answer to the request that is under way.
    pub fn done(&mut self, answer: Answer, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let asked = self.asking.take();
        match answer {
            Answer::Beaten { began, nodes, version, birth, lapsed } => {
                self.beaten(began, nodes, (version, birth), lapsed, now, &mut effects);
            }
            Answer::Table { version, owners } => {
                self.read = Some(version);
                self.newest = version;
                self.owners = owners;
                if self.phase == Phase::Starting {
                    self.phase = Phase::Ready;
                    self.rethink();
                    self.beat_at = now;
                }
                self.tell(now, &mut effects);
            }
            Answer::Claimed { asked, own } => {
                // Less than asked for: others were faster, or the lease is gone without our knowing.
                if own.len() < asked {
                    self.read = None;
                    self.beat_at = now;
                }
                for shard in own {
                    self.owners[usize::from(shard.0)] = Some(self.me.clone());
                }
                self.tell(now, &mut effects);
            }
            Answer::Given => {
                if let Some(Request::Give(gifts)) = &asked {
                    for (shard, _) in gifts {
                        self.released.remove(shard);
                    }
                }
                // What was given to a node that is gone is ours still: the table says which.
                self.read = None;
            }
            Answer::Deposed(ended) => {
                if let Some(Request::Depose(node)) = &asked {
                    self.deposing.remove(node);
                    self.suspects.remove(node);
                }
                if ended {
                    self.beat_at = now;
                }
            }
            Answer::Failed => {
                self.pause_until = now + self.lease.retry_every();
                self.beat_at = now;
                // It may have been done all the same.
                self.read = None;
            }
        }
        effects.extend(self.tick(now));
        effects
    }

    fn beaten(
        &mut self,
        began: Duration,
        nodes: Vec<(NodeId, bool)>,
        (version, birth): (u64, u64),
        lapsed: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let emptied = self.birth.replace(birth).is_some_and(|before| before != birth);
        if (lapsed || emptied) && self.reserved.is_none() {
            self.reserved = Some(Reserved { until: now + self.lease.length(), owners: self.owners.clone() });
        }
        if lapsed {
            self.lose_all(effects);
        }
        if lapsed || emptied {
            self.read = None;
        }
        self.lease.renew(began);
        self.newest = version;
        self.beaten_at = now;
        let again = std::mem::take(&mut self.beat_again);
        self.beat_at = if again { now + HINT_PAUSE } else { began + self.lease.beat_every() };

        for peer in self.peers.values_mut() {
            peer.present = false;
        }
        for (node, candidate) in nodes {
            if node != self.me {
                self.peers.insert(node, Peer { candidate, present: true });
            }
        }
        if self.reserved.is_none() {
            self.drop_absent(effects);
        }
        self.rethink();
        if let Some(neighbour) = self.neighbour() {
            self.probe(neighbour, effects);
        }
    }

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
            self.suspects.entry(node).or_insert(now);
        }
    }

    /// The answer to [`Effect::Probe`]: whether anybody listens; `None`: the bus could not say.
    pub fn probed(&mut self, node: &NodeId, listens: Option<bool>, now: Duration) -> Vec<Effect> {
        self.probing.remove(node);
        match listens {
            Some(true) => {
                self.suspects.remove(node);
            }
            Some(false) if self.peers.contains_key(node) => match self.suspects.get(node) {
                Some(since) if now >= *since + SECOND_LOOK => {
                    self.deposing.insert(node.clone());
                }
                Some(_) => {}
                None => {
                    self.suspects.insert(node.clone(), now);
                }
            },
            // Starts over.
            Some(false) | None => {
                self.suspects.remove(node);
            }
        }
        self.tick(now)
    }

    /// The router let go of these shards.
    pub fn released(&mut self, shards: &[ShardId], now: Duration) -> Vec<Effect> {
        for shard in shards {
            if self.releasing.remove(shard) {
                self.released.insert(*shard);
            }
        }
        self.tick(now)
    }

    /// From now on hand everything over and take nothing.
    pub fn drain(&mut self, now: Duration) {
        self.phase = Phase::Draining;
        self.rethink();
        self.beat_by(now);
    }

    /// Whether a drain has nothing left to do: no shard is here, or nobody can take them.
    pub fn drained(&self, now: Duration) -> bool {
        let nothing_here = self.owned() == 0 && self.releasing.is_empty() && self.released.is_empty();
        let settled = self.read == Some(self.newest) || !self.lease.holds(now);
        let nobody_else = !self.peers.values().any(|peer| peer.candidate);
        self.phase == Phase::Draining && (nobody_else || nothing_here && settled)
    }

    /// A beat that is under way may have been answered before what it is wanted for.
    fn beat_by(&mut self, at: Duration) {
        self.beat_at = self.beat_at.min(at);
        self.beat_again |= self.asking == Some(Request::Beat);
    }

    /// Nothing is ours any more, for the router at once.
    fn lose_all(&mut self, effects: &mut Vec<Effect>) {
        self.releasing.clear();
        self.released.clear();
        self.read = None;
        let mut changes = Vec::new();
        for (shard, told) in ShardId::all().zip(&mut self.told) {
            if told.as_ref() == Some(&self.me) {
                *told = None;
                changes.push((shard, None));
            }
        }
        if !changes.is_empty() {
            effects.push(Effect::Owners(changes));
        }
        if self.lease.ends().is_some() {
            effects.push(Effect::LeaseLost);
        }
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
            self.suspects.remove(node);
            self.deposing.remove(node);
        }
        effects.push(Effect::Lost(gone));
        self.rethink();
    }

    /// Who should own what changes only with the candidates.
    fn rethink(&mut self) {
        let me = (self.phase == Phase::Ready).then_some(&self.me);
        let others = self.peers.iter().filter(|(_, peer)| peer.candidate).map(|(node, _)| node);
        self.wishes = placement::wishes(others.chain(me)).into_iter().map(|wish| wish.cloned()).collect();
    }

    fn plan(&self, gifts: usize) -> Plan {
        let wishes: Vec<Option<&NodeId>> = self.wishes.iter().map(Option::as_ref).collect();
        placement::plan(&wishes, &self.owners, &self.me, gifts)
    }

    /// Free shards to take: what the router believes to be ours first and always, then what is to be ours.
    fn claims(&self) -> Vec<ShardId> {
        let mine = |owner: &Option<NodeId>| owner.as_ref() == Some(&self.me);
        let free = |shard: &ShardId| self.owners[usize::from(shard.0)].is_none() && !self.moves(*shard);
        let mut claims: BTreeSet<ShardId> =
            ShardId::all().filter(|shard| free(shard) && mine(&self.told[usize::from(shard.0)])).collect();
        if self.phase != Phase::Ready {
            return claims.into_iter().collect();
        }
        match &self.reserved {
            None => claims.extend(self.plan(0).claim.into_iter().filter(free)),
            Some(reserved) => {
                let left_to_me = |shard: &ShardId| mine(&reserved.owners[usize::from(shard.0)]);
                let left_to_nobody = |shard: &ShardId| reserved.owners[usize::from(shard.0)].is_none();
                claims.extend(ShardId::all().filter(|shard| free(shard) && left_to_me(shard)));
                claims.extend(self.plan(0).claim.into_iter().filter(|shard| free(shard) && left_to_nobody(shard)));
            }
        }
        claims.into_iter().collect()
    }

    fn moves(&self, shard: ShardId) -> bool {
        self.releasing.contains(&shard) || self.released.contains(&shard)
    }

    /// What was released, each with who is to have it now.
    fn gifts(&self) -> Vec<(ShardId, NodeId)> {
        self.released
            .iter()
            .filter_map(|shard| Some((*shard, self.wishes[usize::from(shard.0)].clone()?)))
            .filter(|(_, wish)| *wish != self.me)
            .collect()
    }

    /// Starts the next step of a hand-over when the last one is through.
    fn hand_over(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        // Released, and nobody else is to have it any more: taken back.
        let back: Vec<ShardId> = self
            .released
            .iter()
            .copied()
            .filter(|shard| self.wishes[usize::from(shard.0)].as_ref().is_none_or(|wish| *wish == self.me))
            .collect();
        if !back.is_empty() {
            for shard in &back {
                self.released.remove(shard);
            }
            self.tell(now, effects);
        }

        let settled = self.read == Some(self.newest) && self.releasing.is_empty() && self.released.is_empty();
        let gifts = match self.phase {
            Phase::Starting => 0,
            Phase::Ready if self.reserved.is_some() => 0,
            Phase::Ready => GIFTS,
            Phase::Draining => DRAIN_GIFTS,
        };
        if !settled || gifts == 0 || !self.lease.holds(now) {
            return;
        }
        let present = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.present);
        let gives: Vec<ShardId> =
            self.plan(gifts).give.into_iter().filter(|(_, next)| present(next)).map(|(shard, _)| shard).collect();
        if gives.is_empty() {
            return;
        }
        for shard in &gives {
            self.releasing.insert(*shard);
            self.told[usize::from(shard.0)] = None;
        }
        effects.push(Effect::Release(gives));
    }

    /// Tells the router what it doesn't know yet of the table.
    fn tell(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let holds = self.lease.holds(now);
        let mut changes = Vec::new();
        for shard in ShardId::all() {
            let at = usize::from(shard.0);
            let owner = match &self.owners[at] {
                Some(owner) if *owner == self.me => {
                    if self.moves(shard) {
                        continue;
                    }
                    holds.then(|| self.me.clone())
                }
                Some(owner) => {
                    let owner = owner.clone();
                    self.releasing.remove(&shard);
                    self.released.remove(&shard);
                    Some(owner)
                }
                // Ours, only the table forgot: it is claimed again, and stays where it is.
                None if holds && self.told[at].as_ref() == Some(&self.me) => continue,
                None => None,
            };
            if self.told[at] != owner {
                self.told[at].clone_from(&owner);
                changes.push((shard, owner));
            }
        }
        if !changes.is_empty() {
            effects.push(Effect::Owners(changes));
        }
    }

    fn probe(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        if self.probing.insert(node.clone()) {
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
