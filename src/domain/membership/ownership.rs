//! The shard table as one node knows it, what its router was told of it, and the shards on their way to another owner.
//!
//! Invariants: a shard is in at most one of "told to be ours", `releasing` and `released`; while it is in one of the
//! latter two, the router is not told that it is ours.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::placement;
use crate::ids::{NodeId, SHARDS, ShardId};

/// Shards with their new owners.
pub(super) type Changes = Vec<(ShardId, Option<NodeId>)>;

#[derive(Clone, Debug)]
pub(super) struct Ownership {
    me: NodeId,
    /// The table's version as last heard of, and as last read (`None`: read it again).
    newest: u64,
    read: Option<u64>,
    /// The table as last read.
    table: Vec<Option<NodeId>>,
    told: Vec<Option<NodeId>>,
    /// Asked of the router to let go of; and those it let go of.
    releasing: BTreeSet<ShardId>,
    released: BTreeSet<ShardId>,
    /// Who should own what, of whom: made once for each set of candidates, since it costs as many hashes as there are
    /// shards and candidates.
    wishes: Vec<Option<NodeId>>,
    candidates: Vec<NodeId>,
    reserved: Option<Reserved>,
}

/// An older table that is left to its owners until a moment.
#[derive(Clone, Debug)]
struct Reserved {
    until: Duration,
    table: Vec<Option<NodeId>>,
}

impl Ownership {
    pub(super) fn new(me: NodeId) -> Self {
        let nobody = vec![None; usize::from(SHARDS)];
        Self {
            me,
            newest: 0,
            read: None,
            table: nobody.clone(),
            told: nobody.clone(),
            releasing: BTreeSet::new(),
            released: BTreeSet::new(),
            wishes: nobody,
            candidates: Vec::new(),
            reserved: None,
        }
    }

    pub(super) fn told(&self) -> &[Option<NodeId>] {
        &self.told
    }

    /// Whether the table was read since it last changed, as far as is known.
    pub(super) fn is_fresh(&self) -> bool {
        self.read == Some(self.newest)
    }

    pub(super) fn heard(&mut self, version: u64) {
        self.newest = version;
    }

    /// What was read may not be true any more, whatever the version says.
    pub(super) fn doubt(&mut self) {
        self.read = None;
    }

    pub(super) fn was_read(&mut self, version: u64, table: Vec<Option<NodeId>>) {
        self.read = Some(version);
        self.newest = version;
        self.table = table;
    }

    /// Who should own what changes only with the candidates.
    pub(super) fn rethink<'a>(&mut self, candidates: impl IntoIterator<Item = &'a NodeId>) {
        let candidates: Vec<&NodeId> = candidates.into_iter().collect();
        if !candidates.iter().copied().eq(&self.candidates) {
            self.wishes = placement::wishes(candidates.iter().copied()).into_iter().map(|wish| wish.cloned()).collect();
            self.candidates = candidates.into_iter().cloned().collect();
        }
    }

    /// Leaves the table as last read to its owners, unless an older one is already.
    pub(super) fn reserve(&mut self, until: Duration) {
        if self.reserved.is_none() {
            self.reserved = Some(Reserved { until, table: self.table.clone() });
        }
    }

    pub(super) fn reserved_until(&self) -> Option<Duration> {
        Some(self.reserved.as_ref()?.until)
    }

    pub(super) fn end_reservation(&mut self) {
        self.reserved = None;
    }

    fn is_mine(&self, owner: &Option<NodeId>) -> bool {
        owner.as_ref() == Some(&self.me)
    }

    fn moves(&self, shard: ShardId) -> bool {
        self.releasing.contains(&shard) || self.released.contains(&shard)
    }

    pub(super) fn owned(&self) -> usize {
        self.told.iter().filter(|owner| self.is_mine(owner)).count()
    }

    /// Whether neither the router has a shard nor one is on its way.
    pub(super) fn nothing_here(&self) -> bool {
        self.releasing.is_empty() && self.released.is_empty() && self.owned() == 0
    }

    /// Nothing is ours any more; gives what the router doesn't know of that.
    pub(super) fn lose_all(&mut self) -> Changes {
        self.releasing.clear();
        self.released.clear();
        self.doubt();
        let mut changes = Vec::new();
        for (shard, told) in ShardId::all().zip(&mut self.told) {
            if told.as_ref() == Some(&self.me) {
                *told = None;
                changes.push((shard, None));
            }
        }
        changes
    }

    /// What of the table the router doesn't know yet; `holds`: whether the own lease does.
    pub(super) fn untold(&mut self, holds: bool) -> Changes {
        let mut changes = Vec::new();
        for shard in ShardId::all() {
            let at = usize::from(shard.0);
            let owner = match &self.table[at] {
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
                None if holds && self.is_mine(&self.told[at]) => continue,
                None => None,
            };
            if self.told[at] != owner {
                self.told[at].clone_from(&owner);
                changes.push((shard, owner));
            }
        }
        changes
    }

    /// Free shards to take: what the router believes to be ours, always; with `more`, what is to be ours as well.
    pub(super) fn claims(&self, more: bool) -> Vec<ShardId> {
        let free = |shard: &ShardId| self.table[usize::from(shard.0)].is_none() && !self.moves(*shard);
        let kept = |shard: &ShardId| self.is_mine(&self.told[usize::from(shard.0)]);
        let mut claims: BTreeSet<ShardId> = ShardId::all().filter(|shard| free(shard) && kept(shard)).collect();
        if more {
            let wished = placement::plan(&self.wishes, &self.table, &self.me, 0).claim.into_iter().filter(free);
            match &self.reserved {
                None => claims.extend(wished),
                Some(Reserved { table, .. }) => {
                    let before = |shard: &ShardId| &table[usize::from(shard.0)];
                    claims.extend(wished.filter(|shard| before(shard).is_none()));
                    claims.extend(ShardId::all().filter(|shard| free(shard) && self.is_mine(before(shard))));
                }
            }
        }
        claims.into_iter().collect()
    }

    pub(super) fn claimed(&mut self, own: Vec<ShardId>) {
        for shard in own {
            self.table[usize::from(shard.0)] = Some(self.me.clone());
        }
    }

    /// Starts the next step of a hand-over, if the last one is through: what the router is to let go of, at most so many,
    /// each for a node that is `there`.
    pub(super) fn release(&mut self, at_most: usize, there: impl Fn(&NodeId) -> bool) -> Vec<ShardId> {
        if at_most == 0 || !self.is_fresh() || !self.releasing.is_empty() || !self.released.is_empty() {
            return Vec::new();
        }
        let plan = placement::plan(&self.wishes, &self.table, &self.me, at_most);
        let gives: Vec<ShardId> =
            plan.give.into_iter().filter(|(_, next)| there(next)).map(|(shard, _)| shard).collect();
        for shard in &gives {
            self.told[usize::from(shard.0)] = None;
        }
        self.releasing.extend(&gives);
        gives
    }

    /// The router let go of these.
    pub(super) fn let_go(&mut self, shards: &[ShardId]) {
        for shard in shards {
            if self.releasing.remove(shard) {
                self.released.insert(*shard);
            }
        }
    }

    /// What the router let go of, each with who is to have it now.
    pub(super) fn gifts(&self) -> Vec<(ShardId, NodeId)> {
        let to = |shard: &ShardId| self.wishes[usize::from(shard.0)].clone().filter(|wish| *wish != self.me);
        self.released.iter().filter_map(|shard| Some((*shard, to(shard)?))).collect()
    }

    /// What nobody else is to have any more is not on its way any longer; gives whether there was any.
    pub(super) fn take_back(&mut self) -> bool {
        let before = self.released.len();
        let (wishes, me) = (&self.wishes, &self.me);
        self.released.retain(|shard| wishes[usize::from(shard.0)].as_ref().is_some_and(|wish| wish != me));
        self.released.len() < before
    }

    /// The bus took the gifts. What was for a node that is gone is ours still: the table says which.
    pub(super) fn given(&mut self, gifts: &[(ShardId, NodeId)]) {
        for (shard, _) in gifts {
            self.released.remove(shard);
        }
        self.doubt();
    }
}
