//! A world of nodes, a store, a network and clients in virtual time. One event after the other; whatever could be one way
//! or another is up to the one [`Chance`]. Nothing here decides anything for the server: it carries out what the rooms and
//! hubs of `room/` and `hub.rs` want done, and lets it go wrong.

use std::collections::BTreeMap;

use roundtable::ids::{Epoch, NodeId, RoomId, UserId};

use super::Flaw;
use super::chance::Chance;
use super::client::{AtClient, Client};
use super::faults::Plan;
use super::history::History;
use super::hub::{Hub, HubCx, HubOut, HubTimer};
use super::links::{Frame, Links, REPEATS};
use super::room::{Cx, FETCH_ENTRIES, Room};
use super::store::Log;
use super::wire::{ClientIx, Conn, Control, FromStore, NodeIx, Out, RoomIx, Time, Timer, ToHub, ToRoom, Up};
use roundtable::domain::append::AppendItem;

/// Entries that an owner loads (`limits::RING_PRELOAD`).
const PRELOAD: usize = 6;
/// `PersistenceActor`'s probe.
const PROBE_EVERY: Time = 200;

/// Something that happens on a node; waits while the node is frozen.
#[derive(Debug)]
pub enum AtNode {
    /// From the cluster, by the router.
    Control(RoomIx, Control),
    NodeLost(NodeIx),
    Frame(Frame),
    Pump,
    Published,
    Repeat {
        to: NodeIx,
        sent: u64,
    },
    Reconnected,
    ToRoom(RoomIx, ToRoom),
    ToHub(RoomIx, ToHub),
    Timer(RoomIx, Timer),
    HubTimer(HubTimer),
    FromStore(RoomIx, FromStore),
    Up(Conn, Up),
    Drained(Conn),
    Verified {
        room: RoomIx,
        of: (Conn, u32, UserId),
        heads: (u64, u64),
        there: Option<bool>,
    },
    Probe,
}

#[derive(Debug)]
pub enum StoreCall {
    Open,
    Append { epoch: Epoch, issued: u64, items: Vec<AppendItem> },
    Page { after: u64 },
}

/// When a call's effect takes place and when its answer leaves the store.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// `None`: it never does.
    done: Option<Time>,
    /// The caller is told that the outcome is unknown, at this time.
    unknown: Option<Time>,
}

#[derive(Debug)]
pub enum Event {
    At(NodeIx, AtNode),
    /// A call takes effect; `answered`: its answer is sent on.
    Store {
        node: NodeIx,
        room: RoomIx,
        call: StoreCall,
        answered: bool,
    },
    Client(ClientIx, AtClient),
    Fault,
    Restart,
    Thaw(NodeIx),
    Uncut(NodeIx),
    StoreBack,
    /// The cluster gives the room to another node.
    TakeOver(RoomIx),
    Look,
}

/// Events of one lane keep their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    ToHub(NodeIx, RoomIx),
    ToRoom(NodeIx, RoomIx),
    Cluster(NodeIx),
    Link(NodeIx, NodeIx),
    Up(Conn),
    Down(Conn),
}

pub struct Node {
    pub id: NodeId,
    pub alive: bool,
    pub frozen: bool,
    /// Cut off from the bus.
    pub cut: bool,
    pub rooms: BTreeMap<RoomIx, Room>,
    pub hub: Hub,
    links: Links,
    view: Vec<Option<NodeId>>,
    backlog: Vec<AtNode>,
    gate_open: bool,
    /// Who gets a room that is being handed over.
    pub heirs: BTreeMap<RoomIx, NodeIx>,
}

pub struct World {
    pub now: Time,
    order: u64,
    queue: BTreeMap<(Time, u64), Event>,
    lanes: BTreeMap<Lane, Time>,
    pub chance: Chance,
    pub plan: Plan,
    pub flaw: Flaw,
    pub nodes: Vec<Node>,
    pub rooms: usize,
    /// Who owns each room, as the cluster has it.
    pub table: Vec<Option<NodeIx>>,
    pub clients: Vec<Client>,
    pub conns: Conn,
    pub conn_clients: BTreeMap<Conn, ClientIx>,
    pub requests: u64,
    pub asks: u64,
    pub history: History,
    pub healed: bool,
    pub store_away: bool,
    /// Frames that reached each node lately, to be repeated after a break.
    recent: BTreeMap<NodeIx, Vec<Frame>>,
    pub trace: Option<Vec<String>>,
    /// Over everything that happened: two runs of a seed must agree.
    pub digest: u64,
}

impl World {
    pub fn new(seed: u64, flaw: Flaw) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::new(&mut chance);
        let users: Vec<UserId> =
            (0..plan.clients).map(|n| UserId::parse(&format!("u{n}")).expect("a valid id")).collect();
        let logs =
            (0..plan.rooms).map(|n| Log::new(RoomId::parse(&format!("r{n}")).expect("a valid id"), &users)).collect();
        let clients = users.iter().map(|user| Client::new(user.clone(), &plan, &mut chance)).collect();
        let mut world = Self {
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            lanes: BTreeMap::new(),
            chance,
            flaw,
            nodes: Vec::new(),
            rooms: plan.rooms,
            table: vec![None; plan.rooms],
            clients,
            conns: 0,
            conn_clients: BTreeMap::new(),
            requests: 0,
            asks: 0,
            history: History { users, logs, ..History::default() },
            healed: false,
            store_away: false,
            recent: BTreeMap::new(),
            trace: None,
            digest: 0,
            plan,
        };
        for _ in 0..world.plan.nodes {
            world.start_node();
        }
        for room in 0..world.rooms {
            world.take_over(room);
        }
        for client in 0..world.clients.len() {
            let wait = world.chance.between(1, 100);
            world.later(wait, Event::Client(client, AtClient::Tick));
        }
        world.later(50, Event::Fault);
        world
    }

    /// Lets it run until everything has come to an end, or should have.
    pub fn run(mut self) -> History {
        let chaos = self.plan.chaos;
        while self.now < chaos && self.next() {}
        self.heal();
        self.later(500, Event::Look);
        while self.next() {}
        self.conclude();
        self.history.digest = self.digest;
        self.history.trace = self.trace.take().unwrap_or_default();
        self.history
    }

    pub fn later(&mut self, wait: Time, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + wait, self.order), event);
    }

    pub fn in_lane(&mut self, lane: Lane, wait: Time, event: Event) {
        let last = self.lanes.entry(lane).or_default();
        *last = (*last).max(self.now + wait);
        self.order += 1;
        self.queue.insert((*last, self.order), event);
    }

    /// When the last event of a lane is due.
    pub fn lane_end(&self, lane: Lane) -> Time {
        self.lanes.get(&lane).copied().unwrap_or(0)
    }

    fn next(&mut self) -> bool {
        let Some(((at, order), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.digest = (self.digest ^ at ^ order.rotate_left(17)).wrapping_mul(0x0100_0000_01b3);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:>6} {event:?}"));
        }
        match event {
            Event::At(node, event) => self.at_node(node, event),
            Event::Store { node, room, call, answered } => self.at_store(node, room, call, answered),
            Event::Client(client, event) => self.at_client(client, event),
            Event::Look => return self.look(),
            fault => self.at_fault(fault),
        }
        true
    }

    /// After the healing: false where everything has come to an end, or time is up.
    fn look(&mut self) -> bool {
        self.now < self.plan.chaos + self.plan.patience && (!self.at_rest() || self.now < self.plan.chaos + 2_000) && {
            self.later(500, Event::Look);
            true
        }
    }

    // --------------------------------------------------------------------------------------------------- nodes

    pub fn start_node(&mut self) -> NodeIx {
        let ix = self.nodes.len();
        let view = self.table.iter().map(|owner| owner.map(node_id)).collect();
        self.nodes.push(Node {
            id: node_id(ix),
            alive: true,
            frozen: false,
            cut: false,
            rooms: BTreeMap::new(),
            hub: Hub::default(),
            links: Links::default(),
            view,
            backlog: Vec::new(),
            gate_open: true,
            heirs: BTreeMap::new(),
        });
        ix
    }

    pub fn at_node(&mut self, ix: NodeIx, event: AtNode) {
        let node = &mut self.nodes[ix];
        if !node.alive {
            return;
        }
        if node.frozen {
            node.backlog.push(event);
            return;
        }
        match event {
            AtNode::Control(room, control) => self.control(ix, room, control),
            AtNode::NodeLost(lost) => {
                node.links.node_lost(lost);
                let rooms: Vec<RoomIx> = node.rooms.keys().copied().collect();
                for room in rooms {
                    self.in_room(ix, room, |room, cx| room.on_control(Control::NodeLost(node_id(lost)), cx));
                }
            }
            AtNode::Frame(frame) => self.take(ix, frame),
            AtNode::Pump => self.pump(ix),
            AtNode::Published => {
                node.links.publishing = false;
                self.pump(ix);
            }
            AtNode::Repeat { to, sent } => {
                if let Some(frame) = node.links.repeat(ix, to, sent) {
                    self.publish(ix, to, frame);
                }
            }
            AtNode::Reconnected => self.link_broken(ix, None),
            AtNode::ToRoom(room, message) => {
                self.start_room(ix, room);
                self.in_room(ix, room, |room, cx| room.on_hub(message, cx));
            }
            AtNode::ToHub(room, message) => self.in_hub(ix, |hub, cx| hub.on_room(room, message, cx)),
            AtNode::Timer(room, timer) => self.in_room(ix, room, |room, cx| room.on_timer(timer, cx)),
            AtNode::HubTimer(timer) => self.in_hub(ix, |hub, cx| hub.timer(timer, cx)),
            AtNode::FromStore(room, message) => {
                if matches!(message, FromStore::Appended(Err(()))) && std::mem::replace(&mut node.gate_open, false) {
                    self.later(PROBE_EVERY, Event::At(ix, AtNode::Probe));
                }
                self.in_room(ix, room, |room, cx| room.on_store(message, cx));
            }
            AtNode::Up(conn, up) => self.in_hub(ix, |hub, cx| hub.up(conn, up, cx)),
            AtNode::Verified { room, of, heads, there } => {
                self.in_hub(ix, |hub, cx| hub.verified(room, of, heads, there, cx));
            }
            AtNode::Drained(conn) => self.in_hub(ix, |hub, cx| hub.drained(conn, cx)),
            AtNode::Probe => {
                node.gate_open = !self.store_away;
                if self.store_away {
                    self.later(PROBE_EVERY, Event::At(ix, AtNode::Probe));
                }
            }
        }
    }

    /// As the router's `OwnersChanged` and `ReleaseShards`.
    fn control(&mut self, ix: NodeIx, room: RoomIx, control: Control) {
        let node = &mut self.nodes[ix];
        match &control {
            Control::Owner(owner) => node.view[room].clone_from(owner),
            Control::Release => {
                node.view[room] = None;
                if !node.rooms.contains_key(&room) {
                    return self.fenced(ix, room);
                }
            }
            _ => {}
        }
        self.in_room(ix, room, |room, cx| room.on_control(control, cx));
    }

    fn start_room(&mut self, ix: NodeIx, room: RoomIx) {
        if self.nodes[ix].rooms.contains_key(&room) {
            return;
        }
        let mut out = Vec::new();
        let node = &mut self.nodes[ix];
        let mut cx = Cx {
            now: self.now,
            me: &node.id,
            gate_open: node.gate_open,
            chance: &mut self.chance,
            flaw: self.flaw,
            out: &mut out,
        };
        node.rooms.insert(room, Room::new(node.view[room].clone(), &mut cx));
        self.carry_out(ix, room, out);
    }

    fn in_room(&mut self, ix: NodeIx, room: RoomIx, turn: impl FnOnce(&mut Room, &mut Cx)) {
        let mut out = Vec::new();
        let node = &mut self.nodes[ix];
        let Some(actor) = node.rooms.get_mut(&room) else { return };
        let mut cx = Cx {
            now: self.now,
            me: &node.id,
            gate_open: node.gate_open,
            chance: &mut self.chance,
            flaw: self.flaw,
            out: &mut out,
        };
        turn(actor, &mut cx);
        self.history.most_requests = self.history.most_requests.max(actor.load().0);
        self.carry_out(ix, room, out);
    }

    fn in_hub(&mut self, ix: NodeIx, turn: impl FnOnce(&mut Hub, &mut HubCx)) {
        let mut out = Vec::new();
        let hub = &mut self.nodes[ix].hub;
        turn(hub, &mut HubCx { now: self.now, chance: &mut self.chance, flaw: self.flaw, out: &mut out });
        self.history.longest_outbox = self.history.longest_outbox.max(hub.longest_outbox());
        for out in out {
            match out {
                HubOut::Room(room, message) => {
                    let wait = self.hop();
                    self.in_lane(Lane::ToRoom(ix, room), wait, Event::At(ix, AtNode::ToRoom(room, message)));
                }
                HubOut::Verify { room, conn, corr, seq, head } => {
                    let user = self.clients[self.conn_clients[&conn]].user.clone();
                    let fate = self.fate();
                    // What was never appended is there never, so when it is looked for makes no difference.
                    let there = fate.unknown.is_none().then(|| self.history.logs[room].head() >= seq);
                    let wait = fate.unknown.or(fate.done).unwrap_or(1);
                    let of = (conn, corr, user);
                    self.later(wait, Event::At(ix, AtNode::Verified { room, of, heads: (seq, head), there }));
                }
                HubOut::Push(conn, down) => self.push(conn, down),
                HubOut::Timer(wait, timer) => self.later(wait, Event::At(ix, AtNode::HubTimer(timer))),
            }
        }
    }

    /// From one mailbox of a node to another.
    fn hop(&mut self) -> Time {
        if self.chance.luck(100) { self.chance.between(1, 10) } else { 0 }
    }

    fn carry_out(&mut self, ix: NodeIx, room: RoomIx, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Hub(message) => {
                    let wait = self.hop();
                    self.in_lane(Lane::ToHub(ix, room), wait, Event::At(ix, AtNode::ToHub(room, message)));
                }
                Out::Tell(node, message) => {
                    let to = node_ix(&node);
                    if self.nodes[ix].links.queue(to, room, message) {
                        self.later(0, Event::At(ix, AtNode::Pump));
                    }
                }
                Out::Append { .. } if !self.nodes[ix].gate_open => {
                    self.later(0, Event::At(ix, AtNode::FromStore(room, FromStore::Appended(Err(())))));
                }
                Out::Append { epoch, items } => {
                    let issued = self.order;
                    self.call(ix, room, StoreCall::Append { epoch, issued, items });
                }
                Out::Open => self.call(ix, room, StoreCall::Open),
                Out::Page { after } => self.call(ix, room, StoreCall::Page { after }),
                Out::Fenced => self.fenced(ix, room),
                Out::Timer(wait, timer) => self.later(wait, Event::At(ix, AtNode::Timer(room, timer))),
            }
        }
    }

    pub fn thaw(&mut self, ix: NodeIx) {
        let node = &mut self.nodes[ix];
        node.frozen = false;
        // The cluster learns of changes by asking, so later than what waits in sockets and mailboxes.
        let (late, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut node.backlog)
            .into_iter()
            .partition(|event| matches!(event, AtNode::Control(..) | AtNode::NodeLost(_)));
        for event in waiting.into_iter().chain(late) {
            self.at_node(ix, event);
        }
    }

    // ----------------------------------------------------------------------------------------------------- bus

    fn pump(&mut self, ix: NodeIx) {
        let frames = self.nodes[ix].links.pump(ix);
        if frames.is_empty() {
            return;
        }
        let wait = self.chance.between(1, 3);
        self.later(wait, Event::At(ix, AtNode::Published));
        for (to, frame, sent) in frames {
            self.publish(ix, to, frame);
            for wait in REPEATS {
                self.later(wait, Event::At(ix, AtNode::Repeat { to, sent }));
            }
        }
    }

    fn publish(&mut self, from: NodeIx, to: NodeIx, frame: Frame) {
        if !self.healed && self.chance.luck(self.plan.loss) || self.nodes[from].cut || self.nodes[to].cut {
            return;
        }
        let recent = self.recent.entry(to).or_default();
        recent.push(frame.clone());
        if recent.len() > 8 {
            recent.remove(0);
        }
        let jitter = if self.healed { 3 } else { self.plan.jitter };
        let wait = self.chance.between(1, jitter);
        self.in_lane(Lane::Link(from, to), wait, Event::At(to, AtNode::Frame(frame)));
    }

    /// As `BusActor::take` and the router's `FromNode`.
    fn take(&mut self, ix: NodeIx, frame: Frame) {
        if self.nodes[ix].links.lost_any(&frame) && self.flaw != Flaw::LinkIgnoresGaps {
            self.link_broken(ix, Some(frame.from));
        }
        let from = node_id(frame.from);
        for (room, message) in frame.envelopes {
            use super::wire::Wire;
            use roundtable::actors::envelope::PeerMessage;
            if matches!(message, Wire::Peer(PeerMessage::Watch { .. } | PeerMessage::Ask { .. })) {
                self.start_room(ix, room);
            }
            let from = from.clone();
            self.in_room(ix, room, |room, cx| room.on_control(Control::Peer { from, message }, cx));
        }
    }

    fn link_broken(&mut self, ix: NodeIx, from: Option<NodeIx>) {
        let rooms: Vec<RoomIx> = self.nodes[ix].rooms.keys().copied().collect();
        for room in rooms {
            let from = from.map(node_id);
            self.in_room(ix, room, |room, cx| room.on_control(Control::LinkBroken(from), cx));
        }
    }

    /// The bus has the node again; what reached it last may come once more.
    pub fn uncut(&mut self, ix: NodeIx) {
        self.nodes[ix].cut = false;
        self.later(0, Event::At(ix, AtNode::Reconnected));
        if self.chance.luck(500) {
            for frame in self.recent.get(&ix).cloned().unwrap_or_default() {
                let wait = self.chance.between(0, 5);
                self.in_lane(Lane::Link(frame.from, ix), wait, Event::At(ix, AtNode::Frame(frame)));
            }
        }
    }

    // --------------------------------------------------------------------------------------------------- store

    fn call(&mut self, node: NodeIx, room: RoomIx, call: StoreCall) {
        let fate = self.fate();
        if let Some(wait) = fate.unknown {
            let answer = match &call {
                StoreCall::Open => FromStore::Opened(Err(())),
                StoreCall::Append { .. } => FromStore::Appended(Err(())),
                StoreCall::Page { after } => FromStore::Page { after: *after, entries: Err(()) },
            };
            self.later(wait, Event::At(node, AtNode::FromStore(room, answer)));
        }
        if let Some(wait) = fate.done {
            self.later(wait, Event::Store { node, room, call, answered: fate.unknown.is_none() });
        }
    }

    fn fate(&mut self) -> Fate {
        if self.healed {
            return Fate { done: Some(self.chance.between(1, 5)), unknown: None };
        }
        let time = self.chance.between(1, self.plan.store_ms);
        if !self.store_away && !self.chance.luck(self.plan.doubt) {
            return Fate { done: Some(time), unknown: None };
        }
        let unknown = Some(time);
        match self.chance.below(3) {
            0 => Fate { done: None, unknown },
            // Done before the caller is told that nobody knows, and afterwards.
            1 => Fate { done: Some(self.chance.below(time)), unknown },
            _ => Fate { done: Some(time + self.chance.between(1, 400)), unknown },
        }
    }

    fn at_store(&mut self, node: NodeIx, room: RoomIx, call: StoreCall, answered: bool) {
        let log = &mut self.history.logs[room];
        let answer = match call {
            StoreCall::Open => FromStore::Opened(Ok(log.open(PRELOAD))),
            StoreCall::Append { epoch, issued, items } => {
                FromStore::Appended(Ok(log.append(epoch, issued, items, self.flaw)))
            }
            StoreCall::Page { after } => FromStore::Page { after, entries: Ok(log.page(after, FETCH_ENTRIES)) },
        };
        if answered {
            let wait = self.chance.between(0, 2);
            self.later(wait, Event::At(node, AtNode::FromStore(room, answer)));
        }
    }
}

pub fn node_id(ix: NodeIx) -> NodeId {
    NodeId::parse(&format!("n{ix}")).expect("a valid id")
}

fn node_ix(id: &NodeId) -> NodeIx {
    id.as_str()[1..].parse().expect("made by node_id")
}
