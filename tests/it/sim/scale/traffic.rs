//! What goes over the bus when nodes are many: envelopes, frames with content and the empty ones behind them, by node and
//! by link, for rooms whose sizes follow a power law and for one room that is everywhere.
//!
//! Counted by the rules of `actors/room` (a request and its answer between the sender's node and the owner; a commit to
//! each other node with a reader) and of `actors/bus` (one publish at a time, a frame a peer in it; the last number
//! repeated on a quiet link). `counting_is_what_the_links_do` holds the counting against `sim/links`. A node has
//! one connection for publishing and one inbox, whatever the number of links, so a link costs nothing but its frames.
//!
//! Load a node is the same at every size: sessions, memberships, sends. It is scaled down (25 sessions a node, one send a
//! second): growth is the question here, not size.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use roundtable::actors::envelope::{Envelope, Frame, PeerMessage};
use roundtable::domain::lease::Lease;
use roundtable::domain::placement::wishes;
use roundtable::entry::{Body, Entry, Mentions, Message};
use roundtable::ids::{MessageId, NodeId, RoomId, ShardId, UserId};
use roundtable::ports::{NodeRecord, NodeState};
use roundtable::protocol::{Encoding, encode_entry, events_overhead};

use super::super::links::{Links, REPEATS};
use super::super::wire::Wire;
use super::{Chance, nodes};

const SESSIONS_A_NODE: usize = 25;
const ROOMS_A_SESSION: usize = 4;
const SENDS_A_NODE: usize = 1;
/// Nodes that have a set of rooms.
const BLOCK: usize = 125;
/// Worlds of each size, of whose figures the mean is taken: the busiest node is an extreme, and differs much.
const WORLDS: usize = 2;
/// Virtual time, in milliseconds; a publish takes `TICK` of it.
const SECONDS: u64 = 10;
const TICK: u64 = 2;

/// To whom a commit goes: as it is, and as it must not be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routing {
    /// Once to each node with a reader.
    Interested,
    /// To every node.
    Everyone,
}

/// A room: its owner and, once each, the nodes where it has readers.
struct Room {
    owner: usize,
    readers: Vec<usize>,
}

struct World {
    nodes: usize,
    rooms: Vec<Room>,
    /// A session's node and one of its rooms, for each membership; senders are drawn from these, so larger rooms get more.
    memberships: Vec<(usize, usize)>,
}

impl World {
    /// Rooms of these [`sizes`], with readers anywhere; the same ones for
    /// every 125 nodes, so that nothing but the number of nodes differs between sizes of clusters.
    fn power_law(count: usize, sizes: &[usize], chance: &mut Chance) -> Self {
        let ids = nodes(count, chance);
        let owners = owners(&ids);
        let mut world = Self { nodes: count, rooms: Vec::new(), memberships: Vec::new() };
        for _ in 0..count / BLOCK {
            for &size in sizes {
                world.add((0..size).map(|_| chance.below(count as u64) as usize).collect(), &owners);
            }
        }
        world
    }

    /// One room with readers on every node, and senders on every node.
    fn one_room(count: usize, chance: &mut Chance) -> Self {
        let ids = nodes(count, chance);
        let owners = owners(&ids);
        let mut world = Self { nodes: count, rooms: Vec::new(), memberships: Vec::new() };
        world.add((0..count).collect(), &owners);
        world
    }

    fn add(&mut self, places: Vec<usize>, owners: &[usize]) {
        let room = self.rooms.len();
        let id = RoomId::parse(&format!("room-{room}")).expect("a valid id");
        let owner = owners[usize::from(ShardId::of(&id).0)];
        self.memberships.extend(places.iter().map(|&node| (node, room)));
        let readers: BTreeSet<usize> = places.into_iter().collect();
        self.rooms.push(Room { owner, readers: readers.into_iter().collect() });
    }

    /// (from, to) of every envelope that `sends` in one tick cause in it and, as answers and commits, in the next one.
    fn said(&self, sends: &[(usize, usize)], routing: Routing, mut tell: impl FnMut(bool, usize, usize)) {
        // What waits while an append is under way goes as one commit.
        let mut committed: HashMap<usize, u32> = HashMap::new();
        for &(node, room) in sends {
            let owner = self.rooms[room].owner;
            if node != owner {
                tell(false, node, owner);
                tell(true, owner, node);
            }
            *committed.entry(room).or_default() += 1;
        }
        for &room in committed.keys() {
            let Room { owner, readers } = &self.rooms[room];
            match routing {
                Routing::Interested => {
                    readers.iter().filter(|node| *node != owner).for_each(|&to| tell(true, *owner, to))
                }
                Routing::Everyone => (0..self.nodes).filter(|node| node != owner).for_each(|to| tell(true, *owner, to)),
            }
        }
    }
}

/// The rooms of a block of nodes, P(size > s) = (2 / s)^`power` up to `most`: quantiles, as many as have its memberships.
fn sizes(power: f64, most: f64) -> Vec<usize> {
    let of = |count: usize| -> Vec<usize> {
        let quantile = |i| (i as f64 + 0.5) / count as f64;
        (0..count).map(|i| (2.0 * f64::powf(quantile(i), -1.0 / power)).min(most) as usize).collect()
    };
    let wanted = BLOCK * SESSIONS_A_NODE * ROOMS_A_SESSION;
    (1..).map(of).find(|sizes| sizes.iter().sum::<usize>() >= wanted).expect("sums grow without end")
}

fn owners(ids: &[NodeId]) -> Vec<usize> {
    let place: HashMap<&NodeId, usize> = ids.iter().enumerate().map(|(at, id)| (id, at)).collect();
    wishes(ids).into_iter().map(|wish| place[wish.expect("there are nodes")]).collect()
}

/// Frames of all links, counted.
struct Counter {
    nodes: usize,
    /// By from × nodes + to: envelopes of the tick, frames so far, when the last one with content went.
    waiting: Vec<u32>,
    frames: Vec<u32>,
    last: Vec<u64>,
    touched: Vec<usize>,
    envelopes: u64,
    repeats: Vec<u32>,
}

const NEVER: u64 = u64::MAX;

impl Counter {
    fn new(nodes: usize) -> Self {
        let links = nodes * nodes;
        Self {
            nodes,
            waiting: vec![0; links],
            frames: vec![0; links],
            last: vec![NEVER; links],
            touched: Vec::new(),
            envelopes: 0,
            repeats: vec![0; links],
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        let link = from * self.nodes + to;
        if self.waiting[link] == 0 {
            self.touched.push(link);
        }
        self.waiting[link] += 1;
        self.envelopes += 1;
    }

    /// One publish of every node that has something to say.
    fn publish(&mut self, now: u64) {
        for link in std::mem::take(&mut self.touched) {
            self.waiting[link] = 0;
            self.quiet_until(link, now);
            self.last[link] = now;
            self.frames[link] += 1;
        }
    }

    fn quiet_until(&mut self, link: usize, now: u64) {
        if self.last[link] != NEVER {
            let quiet = now - self.last[link];
            self.repeats[link] += REPEATS.iter().filter(|wait| **wait <= quiet).count() as u32;
        }
    }

    fn end(&mut self, now: u64) {
        (0..self.frames.len()).for_each(|link| self.quiet_until(link, now));
    }

    /// Frames a second, with and without content, that each node publishes, that reach its inbox; and the busiest link's.
    fn rates(&self) -> (Vec<f64>, Vec<f64>, f64) {
        let (mut out, mut inbox, mut link) = (vec![0.0; self.nodes], vec![0.0; self.nodes], 0.0_f64);
        for (at, (&frames, &repeats)) in self.frames.iter().zip(&self.repeats).enumerate() {
            let rate = f64::from(frames + repeats) / SECONDS as f64;
            out[at / self.nodes] += rate;
            inbox[at % self.nodes] += rate;
            link = link.max(rate);
        }
        (out, inbox, link)
    }
}

/// What came of one size of cluster, a second.
#[derive(Debug, Clone, Copy)]
struct Row {
    nodes: usize,
    sends: f64,
    envelopes_a_node: f64,
    /// Frames published by, and received at, the mean and the busiest node.
    mean: f64,
    most_out: f64,
    most_in: f64,
    link: f64,
    /// Of all frames, those without content.
    empty: f64,
    /// Keepalives of links that have nothing to say; there are none, so 0, but for the test of the check.
    keepalives: f64,
}

fn count(world: &World, sends_per_s: usize, routing: Routing, chance: &mut Chance) -> Row {
    let mut counter = Counter::new(world.nodes);
    let total = sends_per_s * SECONDS as usize;
    let ticks = SECONDS * 1_000 / TICK;
    let mut by_tick: Vec<Vec<(usize, usize)>> = vec![Vec::new(); ticks as usize];
    for _ in 0..total {
        let sender = *chance.pick(&world.memberships).expect("there are members");
        by_tick[chance.below(ticks) as usize].push(sender);
    }
    let mut later = Vec::new();
    for (tick, sends) in by_tick.iter().enumerate() {
        for (from, to) in std::mem::take(&mut later) {
            counter.tell(from, to);
        }
        world.said(sends, routing, |next, from, to| if next { later.push((from, to)) } else { counter.tell(from, to) });
        counter.publish(tick as u64 * TICK);
    }
    counter.end(SECONDS * 1_000);
    let (out, inbox, link) = counter.rates();
    let most = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let all: u32 = counter.frames.iter().sum();
    let empty: u32 = counter.repeats.iter().sum();
    Row {
        nodes: world.nodes,
        sends: sends_per_s as f64,
        envelopes_a_node: counter.envelopes as f64 / SECONDS as f64 / world.nodes as f64,
        mean: out.iter().sum::<f64>() / world.nodes as f64,
        most_out: most(&out),
        most_in: most(&inbox),
        link,
        empty: f64::from(empty) / f64::from((all + empty).max(1)),
        keepalives: 0.0,
    }
}

fn mean(rows: &[Row]) -> Row {
    let of = |field: fn(&Row) -> f64| rows.iter().map(field).sum::<f64>() / rows.len() as f64;
    Row {
        nodes: rows[0].nodes,
        sends: of(|row| row.sends),
        envelopes_a_node: of(|row| row.envelopes_a_node),
        mean: of(|row| row.mean),
        most_out: of(|row| row.most_out),
        most_in: of(|row| row.most_in),
        link: of(|row| row.link),
        empty: of(|row| row.empty),
        keepalives: of(|row| row.keepalives),
    }
}

/// What is wrong with the growth from a row to the next, which has twice the nodes.
fn too_steep(rows: &[Row], node_may: f64) -> Vec<String> {
    let mut faults = Vec::new();
    for two in rows.windows(2) {
        let (before, after) = (two[0], two[1]);
        assert_eq!(after.nodes, 2 * before.nodes);
        let total = |row: Row| (row.mean + row.keepalives) * row.nodes as f64;
        let mut look = |what: &str, before: f64, after: f64, may: f64| {
            if after > before * may {
                faults
                    .push(format!("{what} of {} nodes: {after:.1} after {before:.1}, over {may} times", two[1].nodes));
            }
        };
        look("frames of the mean node", before.mean + before.keepalives, after.mean + after.keepalives, node_may);
        look("all frames", total(before), total(after), 2.0 * node_may);
        look("frames of the busiest node", before.most_out, after.most_out, 2.1);
        look("frames into the busiest inbox", before.most_in, after.most_in, 2.1);
        look("frames of the busiest link", before.link, after.link, 1.5);
    }
    faults
}

/// Times that a node's frames may become with twice the nodes: well below 2, since a room's readers are on more nodes then,
/// but not on twice as many.
const POWER_LAW_MAY: f64 = 1.6;

const SIZES: [usize; 4] = [125, 250, 500, 1_000];

fn print_head() {
    println!(
        "\n| rooms | nodes | sends/s | envelopes a node | frames out of the mean node | of the busiest | into the busiest | on the busiest link | empty |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
}

fn print(name: &str, row: &Row) {
    println!(
        "| {name} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} % |",
        row.nodes,
        row.sends,
        row.envelopes_a_node,
        row.mean,
        row.most_out,
        row.most_in,
        row.link,
        row.empty * 100.0
    );
}

#[test]
fn bus_traffic_grows_no_faster_than_the_nodes() {
    print_head();
    let mut chance = Chance::new(23);
    for (name, power, most) in [("power 2, ≤ 1,000", 2.0, 1_000.0), ("power 1.2, ≤ 1,000", 1.2, 1_000.0)] {
        let sizes = sizes(power, most);
        let mut rows = Vec::new();
        for size in SIZES {
            let mut world = || {
                let world = World::power_law(size, &sizes, &mut chance);
                count(&world, size * SENDS_A_NODE, Routing::Interested, &mut chance)
            };
            let row = mean(&(0..WORLDS).map(|_| world()).collect::<Vec<_>>());
            print(name, &row);
            rows.push(row);
        }
        assert_eq!(too_steep(&rows, POWER_LAW_MAY), Vec::<String>::new(), "{name}");
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        assert!(
            last.link < 2.0 * first.link,
            "{name}: a link carries what its two nodes have to say: {first:?} {last:?}"
        );
    }
    // Everybody is in one room: its owner tells every node of each commit, and every other node hears of it once.
    for (name, sends) in [("one, 25 sends/s", [25; 4]), ("one, sends as nodes", SIZES)] {
        let mut rows = Vec::new();
        for (size, sends) in SIZES.into_iter().zip(sends) {
            let world = World::one_room(size, &mut chance);
            let row = count(&world, sends, Routing::Interested, &mut chance);
            print(name, &row);
            // However much is sent: a frame a peer and publish at most.
            let publishes = 1_000.0 / TICK as f64;
            assert!(row.link <= publishes && row.most_out <= publishes * size as f64, "{name}: {row:?}");
            rows.push(row);
        }
        if sends[0] == sends[1] {
            assert_eq!(too_steep(&rows, 1.1), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn telling_everyone_or_keeping_links_alive_would_be_caught() {
    let mut chance = Chance::new(29);
    let sizes = sizes(2.0, 1_000.0);
    let worlds = [125, 250].map(|size| World::power_law(size, &sizes, &mut chance));
    let rows = worlds.each_ref().map(|world| count(world, world.nodes, Routing::Everyone, &mut chance));
    assert!(too_steep(&rows, POWER_LAW_MAY).iter().any(|fault| fault.starts_with("all frames")), "{rows:?}");
    let rows = worlds.each_ref().map(|world| {
        let row = count(world, world.nodes, Routing::Interested, &mut chance);
        // A ping to every node, once a second.
        Row { keepalives: world.nodes as f64 - 1.0, ..row }
    });
    assert!(too_steep(&rows, POWER_LAW_MAY).iter().any(|fault| fault.starts_with("all frames")), "{rows:?}");
}

/// The same sends through the links of the simulation, which do what `actors/bus` does.
#[test]
fn counting_is_what_the_links_do() {
    let mut chance = Chance::new(31);
    let world = World::power_law(BLOCK, &sizes(1.5, 40.0), &mut chance);
    let mut counter = Counter::new(world.nodes);
    let mut links: Vec<Links> = (0..world.nodes).map(|_| Links::default()).collect();
    let (mut frames, mut envelopes) = (vec![0_u32; world.nodes * world.nodes], 0);
    let mut later = Vec::new();
    for tick in 0..400 {
        let sends: Vec<_> = (0..chance.below(6)).filter_map(|_| chance.pick(&world.memberships).copied()).collect();
        let mut now = std::mem::take(&mut later);
        world.said(
            &sends,
            Routing::Interested,
            |next, from, to| {
                if next { later.push((from, to)) } else { now.push((from, to)) }
            },
        );
        for (from, to) in now {
            counter.tell(from, to);
            links[from].queue(to, 0, Wire::Peer(PeerMessage::NotOwner));
        }
        counter.publish(tick);
        for (from, link) in links.iter_mut().enumerate() {
            link.publishing = false;
            for (to, frame, _) in link.pump(from) {
                frames[from * world.nodes + to] += 1;
                envelopes += frame.envelopes.len() as u64;
            }
        }
    }
    assert_eq!((counter.envelopes, counter.frames), (envelopes, frames));
    assert!(counter.touched.is_empty() && envelopes > 1_000, "{envelopes}");
}

/// What a node says and is told whether or not there is anything to tell: to and from Redis, never to every node.
#[test]
fn what_an_idle_cluster_says() {
    let lease = Lease::new(Duration::from_millis(2_000));
    let beats = 1.0 / lease.beat_every().as_secs_f64();
    let id = nodes(1, &mut Chance::new(1)).remove(0);
    let record = NodeRecord { id, state: NodeState::Ready, sessions: 10_000, rooms: 20_000 };
    let record = serde_json::to_string(&record).expect("a record").len() as f64;
    println!(
        "\n| idle, lease 2 s | beats/s | publishes to a neighbour/s | looks at the own inbox/s | a beat's answer | into each node | out of Redis |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for size in SIZES {
        let nodes = size as f64;
        let answer = nodes * record;
        let (node, all) = (answer * beats, answer * beats * nodes);
        println!(
            "| {size} nodes | {:.0} | {:.0} | {:.0} | {:.1} kB | {:.1} kB/s | {:.2} MB/s |",
            beats * nodes,
            beats * nodes,
            2.0 * nodes,
            answer / 1e3,
            node / 1e3,
            all / 1e6
        );
        // A node's connection carries as much more as there are nodes. Redis' total is the product: this is the one
        // quadratic sum of the design, it is all on one shard, and `roundtable-loadtest plan` counts it.
        assert!(node < 125e3 && all < 125e6, "a gigabit for beats, at {size} nodes: {node} {all}");
    }
}

/// Sizes that the costs of `roundtable-loadtest plan` are taken from.
#[test]
fn what_an_entry_weighs() {
    let text = "x".repeat(100);
    let id = MessageId::parse("0193c5f2-7a4e-7000-8000-00000000002a").expect("valid");
    let body = Body::Message(Message {
        id,
        text: Some(text),
        reply_to: None,
        data: None,
        edited_at: None,
        mentions: Mentions::default(),
    });
    let entry =
        Entry { seq: 123_456, user: UserId::parse("user-1234567").expect("valid"), at: 1_760_000_000_000, body };
    let json = encode_entry(Encoding::Json, &entry);
    let room = RoomId::parse("room-1234567").expect("valid");
    let events = events_overhead(Encoding::Json, &room, 1);
    let commit = Envelope::Room(room, PeerMessage::Commit { first: 123_456, entries: vec![json.clone()] }).encode();
    let from = nodes(1, &mut Chance::new(1)).remove(0);
    let frame =
        |envelopes: Vec<Bytes>| Frame { from: from.clone(), link: u64::MAX / 3, number: 70_000, envelopes }.encode();
    let (full, empty) = (frame(vec![commit]).len(), frame(Vec::new()).len());
    println!(
        "\nan entry of 100 B of text: {} B of JSON; {events} B around it in a frame to a client; a frame to another node with \
         it alone {full} B; an empty frame {empty} B",
        json.len()
    );
    assert!(full > json.len() + empty && full < json.len() + empty + 60);
}
