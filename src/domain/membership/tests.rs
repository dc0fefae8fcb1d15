//! Whole clusters of `Membership`s on a simulated bus and clock: seeded, so that a failure repeats.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use super::*;
use crate::domain::placement;
use crate::ids::{SHARDS, fnv1a};

const LEASE: u64 = 2_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn name(n: usize) -> NodeId {
    NodeId::parse(&format!("n{n}")).expect("a valid id")
}

/// What will happen, to which node.
#[derive(Debug)]
enum Event {
    /// The bus carries a request out; the answer follows later. With the number of the node's connection.
    Execute(usize, Request, Duration),
    Answered(usize, Answer),
    Probe(usize, NodeId),
    Probed(usize, NodeId, Option<bool>),
    LetGo(usize, Vec<ShardId>),
    Hint(usize),
    Tick(usize),
}

struct Node {
    membership: Membership,
    alive: bool,
    /// Gets nothing and does nothing, but still listens.
    frozen: bool,
    /// Whether it reaches the bus.
    connected: bool,
    held_back: Vec<Event>,
    /// The table's birth as of its last beat that was executed (kept by the bus client).
    birth: Option<u64>,
    /// Deposed while it lived (it had lost its inbox) and not aware of it yet (until it reads a table
    /// newer than this): the store's epoch is what stops it.
    deposed: Option<u64>,
    lost: BTreeSet<NodeId>,
    lease_losses: usize,
    next_tick: u64,
}

#[derive(Default)]
struct Bus {
    leases: BTreeMap<NodeId, (u64, bool)>,
    owners: BTreeMap<ShardId, NodeId>,
    version: u64,
    birth: u64,
    /// Everything fails while it is away.
    away: bool,
}

struct Sim {
    now: u64,
    seed: u64,
    nodes: Vec<Node>,
    bus: Bus,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, Event>,
    count: u64,
    lenient_until: u64,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let bus = Bus { version: 1_000, birth: 1_000, ..Bus::default() };
        let what = BTreeMap::new();
        Self { now: 0, seed, nodes: Vec::new(), bus, events: BinaryHeap::new(), what, count: 0, lenient_until: 0 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = fnv1a(&self.seed.to_be_bytes());
        self.seed % below.max(1)
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + delay, self.count)));
        self.what.insert(self.count, event);
    }

    fn join(&mut self) -> usize {
        let n = self.nodes.len();
        self.nodes.push(Node {
            membership: Membership::new(name(n), ms(LEASE)),
            alive: true,
            frozen: false,
            connected: true,
            held_back: Vec::new(),
            birth: None,
            deposed: None,
            lost: BTreeSet::new(),
            lease_losses: 0,
            next_tick: 0,
        });
        self.go_on(n, Vec::new());
        n
    }

    /// What the actor does after everything that happens.
    fn go_on(&mut self, n: usize, effects: Vec<Effect>) {
        let now = ms(self.now);
        for effect in effects {
            match effect {
                Effect::Owners(changes) => self.check_single_owner(n, &changes),
                Effect::Lost(nodes) => self.nodes[n].lost.extend(nodes),
                Effect::Release(shards) => {
                    let delay = self.random(40);
                    self.at(delay, Event::LetGo(n, shards));
                }
                Effect::Probe(node) => {
                    let delay = self.random(5);
                    self.at(delay, Event::Probe(n, node));
                }
                Effect::LeaseLost => self.nodes[n].lease_losses += 1,
            }
        }
        if let Some(request) = self.nodes[n].membership.next(now) {
            let delay = self.random(5);
            self.at(delay, Event::Execute(n, request, now));
        }
        let wake = self.nodes[n].membership.wake_at(now).as_millis() as u64 + 1;
        let wake = wake.max(self.now + 1);
        self.nodes[n].next_tick = wake;
        self.at(wake - self.now, Event::Tick(n));
    }

    /// A node is told to own a shard: nobody else who can still act may believe the same.
    fn check_single_owner(&self, n: usize, changes: &[(ShardId, Option<NodeId>)]) {
        if self.now < self.lenient_until {
            return;
        }
        for (shard, owner) in changes {
            if *owner != Some(name(n)) {
                continue;
            }
            for (other, node) in self.nodes.iter().enumerate() {
                let believes = node.membership.owners()[usize::from(shard.0)] == Some(name(other));
                let acts = node.alive && !node.frozen && node.deposed.is_none() && node.membership.leased(ms(self.now));
                assert!(other == n || !(believes && acts), "at {}: {shard:?} is n{n}'s and n{other}'s", self.now);
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, duration: u64) {
        let end = self.now + duration;
        while let Some(&Reverse((at, number))) = self.events.peek() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            let event = self.what.remove(&number).expect("each is taken once");
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        let (Event::Execute(n, ..)
        | Event::Answered(n, _)
        | Event::Probe(n, _)
        | Event::Probed(n, ..)
        | Event::LetGo(n, _)
        | Event::Hint(n)
        | Event::Tick(n)) = &event;
        let n = *n;
        let on_the_way = matches!(event, Event::Execute(..) | Event::Probe(..));
        if !self.nodes[n].alive && !on_the_way {
            return;
        }
        if self.nodes[n].frozen && !on_the_way {
            self.nodes[n].held_back.push(event);
            return;
        }
        let now = ms(self.now);
        match event {
            Event::Execute(n, request, began) => {
                let answer = self.bus_does(n, request, began);
                let delay = if matches!(answer, Answer::Failed) { self.random(900) } else { self.random(5) };
                self.at(delay, Event::Answered(n, answer));
            }
            Event::Probe(n, node) => {
                let reaches = !self.bus.away && self.nodes[n].connected;
                let listens =
                    self.nodes.iter().any(|other| other.alive && other.connected && other.membership.me == node);
                self.at(1, Event::Probed(n, node, reaches.then_some(listens)));
            }
            Event::Answered(n, answer) => {
                if let Answer::Table { version, .. } = &answer {
                    self.nodes[n].deposed.take_if(|deposed| *version > *deposed);
                }
                let effects = self.nodes[n].membership.done(answer, now);
                self.go_on(n, effects);
            }
            Event::Probed(n, node, listens) => {
                let effects = self.nodes[n].membership.probed(&node, listens, now);
                self.go_on(n, effects);
            }
            Event::LetGo(n, shards) => {
                let effects = self.nodes[n].membership.released(&shards, now);
                self.go_on(n, effects);
            }
            Event::Hint(n) => {
                self.nodes[n].membership.hint(now);
                self.go_on(n, Vec::new());
            }
            Event::Tick(n) => {
                if self.now >= self.nodes[n].next_tick {
                    let effects = self.nodes[n].membership.tick(now);
                    self.go_on(n, effects);
                }
            }
        }
    }

    fn bus_does(&mut self, n: usize, request: Request, began: Duration) -> Answer {
        if self.bus.away || !self.nodes[n].connected {
            return Answer::Failed;
        }
        let me = name(n);
        let over: Vec<NodeId> =
            self.bus.leases.iter().filter(|(_, (ends, _))| *ends <= self.now).map(|(node, _)| node.clone()).collect();
        for node in over {
            self.drop_node(&node);
        }
        let answer = match request {
            Request::Beat => {
                let held = self.bus.leases.contains_key(&me);
                let ready = self.nodes[n].membership.phase() == Phase::Ready;
                self.bus.leases.insert(me, (self.now + LEASE, ready));
                let lapsed = self.nodes[n].birth == Some(self.bus.birth) && !held;
                self.nodes[n].birth = Some(self.bus.birth);
                let nodes = self.bus.leases.iter().map(|(node, (_, ready))| (node.clone(), *ready)).collect();
                Answer::Beaten { began, nodes, version: self.bus.version, birth: self.bus.birth, lapsed }
            }
            Request::Table => Answer::Table {
                version: self.bus.version,
                owners: ShardId::all().map(|shard| self.bus.owners.get(&shard).cloned()).collect(),
            },
            Request::Claim(shards) => {
                let mut own = Vec::new();
                if self.bus.leases.contains_key(&me) {
                    let asked = shards.len();
                    for shard in shards {
                        if *self.bus.owners.entry(shard).or_insert_with(|| me.clone()) == me {
                            own.push(shard);
                        }
                    }
                    self.changed();
                    Answer::Claimed { asked, own }
                } else {
                    Answer::Claimed { asked: shards.len(), own }
                }
            }
            Request::Give(gifts) => {
                for (shard, to) in gifts {
                    if self.bus.owners.get(&shard) == Some(&me) && self.bus.leases.contains_key(&to) {
                        self.bus.owners.insert(shard, to);
                    }
                }
                self.changed();
                Answer::Given
            }
            Request::Depose(node) => {
                let listens =
                    self.nodes.iter().any(|other| other.alive && other.connected && other.membership.me == node);
                let ended = !listens && self.bus.leases.contains_key(&node);
                if ended {
                    let version = self.bus.version;
                    self.drop_node(&node);
                    for other in self.nodes.iter_mut().filter(|other| other.alive && other.membership.me == node) {
                        other.deposed = Some(version);
                    }
                }
                Answer::Deposed(ended)
            }
            Request::Leave => {
                self.drop_node(&me);
                Answer::Left
            }
        };
        // Whether it was done is not always known.
        if self.random(200) == 0 { Answer::Failed } else { answer }
    }

    fn drop_node(&mut self, node: &NodeId) {
        if self.bus.leases.remove(node).is_some() {
            self.bus.owners.retain(|_, owner| owner != node);
            self.changed();
        }
    }

    fn changed(&mut self) {
        self.bus.version += 1;
        for n in 0..self.nodes.len() {
            // A hint may be lost.
            if self.nodes[n].connected && self.random(20) > 0 {
                let delay = self.random(5);
                self.at(delay, Event::Hint(n));
            }
        }
    }

    fn flush(&mut self) {
        let birth = self.bus.version + 1_000_000;
        self.bus = Bus { birth, version: birth, away: self.bus.away, ..Bus::default() };
    }

    fn thaw(&mut self, n: usize) {
        self.nodes[n].frozen = false;
        let mut held_back = std::mem::take(&mut self.nodes[n].held_back);
        // Sockets and timers are looked at in no particular order.
        while !held_back.is_empty() {
            let at = self.random(held_back.len() as u64) as usize;
            let event = held_back.swap_remove(at);
            self.at(0, event);
        }
        self.at(1, Event::Tick(n));
        self.nodes[n].next_tick = 0;
    }

    fn living(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&n| self.nodes[n].alive && self.nodes[n].membership.phase() != Phase::Left)
            .collect()
    }

    /// Whether every living node was told the same, complete table, which is what everyone wishes for.
    fn settled(&self) -> bool {
        let living = self.living();
        let names: Vec<NodeId> = living.iter().map(|&n| name(n)).collect();
        let ready = living.iter().filter(|&&n| self.nodes[n].membership.phase() == Phase::Ready).map(|&n| name(n));
        let ready: Vec<NodeId> = ready.collect();
        let wishes = placement::wishes(&ready);
        living.iter().all(|&n| {
            let membership = &self.nodes[n].membership;
            let told = membership.owners().iter().map(Option::as_ref);
            membership.leased(ms(self.now)) && membership.living() == names.len() && told.eq(wishes.iter().copied())
        })
    }

    /// How long it takes until everything is settled.
    fn until_settled(&mut self, within: u64) -> u64 {
        let began = self.now;
        while !self.settled() {
            assert!(self.now < began + within, "not settled after {within} ms: {:?}", self.describe());
            self.run(10);
        }
        self.now - began
    }

    fn describe(&self) -> Vec<String> {
        let node = |n: &usize| {
            let m = &self.nodes[*n].membership;
            let known = m.owners().iter().flatten().count();
            format!("n{n} leased {} owned {} known {known} of {:?}", m.leased(ms(self.now)), m.owned(), m.peers)
        };
        self.living().iter().map(node).collect()
    }

    fn kill(&mut self, n: usize) {
        self.nodes[n].alive = false;
    }
}

fn cluster(seed: u64, size: usize) -> Sim {
    let mut sim = Sim::new(seed);
    for _ in 0..size {
        sim.join();
    }
    sim.until_settled(10_000);
    sim
}

#[test]
fn a_single_node_owns_everything_at_once() {
    let mut sim = Sim::new(1);
    sim.join();
    assert!(sim.until_settled(1_000) <= 300);
    assert_eq!(sim.nodes[0].membership.owned(), usize::from(SHARDS));
}

#[test]
fn a_joining_node_gets_its_share_and_a_leaving_one_gives_it_back() {
    for seed in 0..6 {
        let mut sim = cluster(seed, 2);
        let newcomer = sim.join();
        sim.until_settled(15_000);
        assert!(sim.nodes[newcomer].membership.owned() > 200);
        let effects = sim.nodes[newcomer].membership.drain(ms(sim.now));
        sim.go_on(newcomer, effects);
        let began = sim.now;
        while !sim.nodes[newcomer].membership.drained(ms(sim.now)) {
            sim.run(5);
            assert!(sim.now < began + 3_000, "seed {seed}: drain takes too long: {:?}", sim.describe());
        }
        let effects = sim.nodes[newcomer].membership.leave(ms(sim.now));
        assert!(effects.is_empty(), "a drained node has nothing to lose");
        sim.go_on(newcomer, effects);
        sim.until_settled(3_000);
        assert!(sim.nodes[0].lost.contains(&name(newcomer)));
        assert_eq!(sim.nodes.iter().map(|node| node.lease_losses).sum::<usize>(), 0, "seed {seed}");
    }
}

#[test]
fn a_killed_node_is_replaced_long_before_its_lease_ends() {
    let mut times = Vec::new();
    for seed in 0..12 {
        let mut sim = cluster(seed, 3);
        let wait = sim.random(2_000);
        sim.run(wait);
        sim.kill(1);
        times.push(sim.until_settled(4_000));
        assert!(sim.nodes[0].lost.contains(&name(1)) && sim.nodes[2].lost.contains(&name(1)), "seed {seed}");
    }
    times.sort_unstable();
    assert!(times[times.len() / 2] < 800 && times[times.len() - 1] < 2_500, "{times:?}");
}

#[test]
fn a_frozen_node_is_replaced_when_its_lease_ends_and_comes_back_empty_handed() {
    for seed in 0..6 {
        let mut sim = cluster(seed, 3);
        sim.nodes[1].frozen = true;
        sim.run(4_000);
        let owned: usize = [0, 2].iter().map(|&n| sim.nodes[n].membership.owned()).sum();
        assert_eq!(owned, usize::from(SHARDS), "seed {seed}: {:?}", sim.describe());
        sim.run(11_000);
        sim.thaw(1);
        sim.until_settled(20_000);
        assert_eq!(sim.nodes[1].lease_losses, 1, "seed {seed}");
    }
}

#[test]
fn emptying_the_table_moves_nothing() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 4);
        let before: Vec<_> = (0..4).map(|n| sim.nodes[n].membership.owners().to_vec()).collect();
        sim.flush();
        // Nobody is told anything: what one owned it goes on owning.
        for _ in 0..200 {
            sim.run(10);
            for (n, before) in before.iter().enumerate() {
                assert!(sim.nodes[n].lost.is_empty(), "seed {seed}: nobody is gone");
                for (now, before) in sim.nodes[n].membership.owners().iter().zip(before) {
                    assert!(*before != Some(name(n)) || now == before, "seed {seed}: a shard moved");
                }
            }
        }
        sim.until_settled(5_000);
    }
}

#[test]
fn a_bus_that_was_away_gets_everything_back_where_it_was() {
    for (seed, outage) in [(1, 500), (2, 3_000), (3, 30_000), (4, 5_000)] {
        for emptied in [false, true] {
            let mut sim = cluster(seed, 3);
            let before = sim.nodes[0].membership.owners().to_vec();
            sim.bus.away = true;
            sim.run(outage);
            for n in 0..3 {
                let leased = sim.nodes[n].membership.leased(ms(sim.now));
                assert!(!leased || outage < LEASE, "seed {seed}: n{n} goes on without a lease");
                assert!(leased || sim.nodes[n].membership.owned() == 0, "seed {seed}: n{n} still owns");
            }
            sim.bus.away = false;
            if emptied {
                sim.flush();
            }
            let took = sim.until_settled(4_000);
            assert!(took <= 2_500, "seed {seed}: {took} ms");
            assert_eq!(sim.nodes[0].membership.owners(), before, "seed {seed}");
            assert!(sim.nodes.iter().all(|node| node.lost.is_empty()), "seed {seed}: nobody was gone");
        }
    }
}

#[test]
fn only_one_owns_a_shard_whatever_happens_and_peace_follows() {
    for seed in 0..12 {
        let mut sim = cluster(seed, 4);
        for _ in 0..12 {
            let n = sim.random(4) as usize;
            let fault = sim.random(6);
            eprintln!("seed {seed} at {}: fault {fault} of n{n}", sim.now);
            match fault {
                0 => sim.nodes[n].connected = false,
                1 => sim.nodes[n].frozen = true,
                2 => sim.bus.away = true,
                // Emptied amid other trouble, the table may go to who remembers an older one: then it is the store's
                // epoch that keeps owners apart, until everyone has beaten again.
                3 => {
                    if !sim.settled() {
                        sim.lenient_until = sim.now + LEASE;
                    }
                    sim.flush();
                }
                _ => {}
            }
            let pause = sim.random(3_000);
            sim.run(pause);
            sim.bus.away = false;
            sim.nodes[n].connected = true;
            if sim.nodes[n].frozen {
                sim.thaw(n);
            }
            let pause = sim.random(1_500);
            sim.run(pause);
        }
        sim.until_settled(20_000);
    }
}

#[test]
fn draining_alone_is_over_at_once() {
    let mut sim = cluster(1, 1);
    assert_eq!(sim.nodes[0].membership.drain(ms(sim.now)), []);
    assert!(sim.nodes[0].membership.drained(ms(sim.now)));
    assert_eq!(sim.nodes[0].membership.owned(), usize::from(SHARDS), "nothing is let go of");
}

#[test]
fn one_missed_probe_deposes_nobody() {
    let mut membership = Membership::new(name(0), ms(LEASE));
    assert_eq!(membership.next(ms(0)), Some(Request::Beat));
    let nodes = vec![(name(0), true), (name(1), true)];
    let effects = membership.done(Answer::Beaten { began: ms(0), nodes, version: 1, birth: 1, lapsed: false }, ms(1));
    assert_eq!(effects, [Effect::Probe(name(1))]);
    assert_eq!(membership.next(ms(1)), Some(Request::Table));
    membership.done(Answer::Table { version: 1, owners: vec![Some(name(1)); usize::from(SHARDS)] }, ms(2));
    assert_eq!(membership.probed(&name(1), Some(false), ms(3)), []);
    membership.nobody_at(name(1), ms(4));
    assert_eq!(membership.tick(ms(50)), []);
    assert_eq!(membership.tick(ms(104)), [Effect::Probe(name(1))]);
    membership.probed(&name(1), Some(true), ms(105));
    assert_eq!(membership.suspicion.condemned(), None);
}
