//! What goes wrong in a world, and how it is put right again. Each seed switches on some of the faults, at its own rates.

use super::chance::Chance;
use super::client::AtClient;
use super::wire::{Control, NodeIx, RoomIx, Time};
use super::world::{AtNode, Event, Lane, World, node_id};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node loses its memory; a new one starts later.
    Crash,
    /// A node stands still, and goes on as if nothing had been.
    Freeze,
    /// A node neither gets nor sends anything by the bus.
    Cut,
    HandOver,
    /// A room gets another owner without the first one being asked, or told soon.
    TakeOver,
    /// A node believes anything about who owns a room.
    Lie,
    StoreAway,
}

const FAULTS: [Fault; 7] =
    [Fault::Crash, Fault::Freeze, Fault::Cut, Fault::HandOver, Fault::TakeOver, Fault::Lie, Fault::StoreAway];

/// The size of a world and what may happen in it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: usize,
    pub rooms: usize,
    pub clients: usize,
    /// How long things go wrong.
    pub chaos: Time,
    /// How long before the end of it nobody begins anything new, so that nothing later mends what is lost.
    pub quiet: Time,
    /// How long everything may take to come to an end afterwards.
    pub patience: Time,
    /// Of 1,000 frames on the bus, lost.
    pub loss: u64,
    /// The longest way of a frame.
    pub jitter: Time,
    /// Of 1,000 calls of the store, those with an unknown outcome.
    pub doubt: u64,
    /// The longest call of the store.
    pub store_ms: Time,
    pub faults: Vec<Fault>,
    pub fault_every: Time,
    /// The longest pause of a client between two things it does.
    pub pause: Time,
    /// Of 1,000 clients, slow readers.
    pub slow: u64,
}

impl Plan {
    pub fn new(chance: &mut Chance) -> Self {
        let any = |chance: &mut Chance, of: &[u64]| of[chance.below(of.len() as u64) as usize];
        Self {
            nodes: chance.between(2, 4) as usize,
            rooms: chance.between(1, 2) as usize,
            clients: chance.between(2, 5) as usize,
            chaos: chance.between(1_000, 6_000),
            quiet: any(chance, &[0, 300, 1_500]),
            patience: 20_000,
            loss: any(chance, &[0, 0, 10, 100, 300]),
            jitter: any(chance, &[2, 10, 100, 600]),
            doubt: any(chance, &[0, 0, 10, 100, 300]),
            store_ms: any(chance, &[3, 10, 50, 300]),
            faults: FAULTS.into_iter().filter(|_| chance.luck(400)).collect(),
            fault_every: any(chance, &[100, 300, 1_000]),
            pause: any(chance, &[60, 200, 600]),
            slow: any(chance, &[0, 0, 300]),
        }
    }
}

impl World {
    pub fn at_fault(&mut self, event: Event) {
        match event {
            Event::Fault if !self.healed => {
                let wait = self.chance.between(1, 2 * self.plan.fault_every);
                self.later(wait, Event::Fault);
                if let Some(fault) = self.chance.pick(&self.plan.faults).copied() {
                    self.fault(fault);
                }
            }
            Event::Restart if !self.healed => {
                self.start_node();
            }
            Event::Thaw(node) if self.nodes[node].frozen => self.thaw(node),
            Event::Uncut(node) if self.nodes[node].cut => self.uncut(node),
            Event::StoreBack => self.store_away = false,
            Event::TakeOver(room) => {
                let gone = self.table[room].is_none_or(|owner| !self.nodes[owner].alive || self.nodes[owner].frozen);
                if gone {
                    self.take_over(room);
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self, fault: Fault) {
        let Some(node) = self.any_node() else { return };
        let room = self.chance.below(self.rooms as u64) as RoomIx;
        match fault {
            Fault::Crash => self.crash(node),
            Fault::Freeze => {
                self.nodes[node].frozen = true;
                let (wait, noticed) = (self.chance.between(10, 4_000), self.chance.between(100, 2_000));
                self.later(wait, Event::Thaw(node));
                (0..self.rooms).for_each(|room| self.later(noticed, Event::TakeOver(room)));
            }
            Fault::Cut => {
                self.nodes[node].cut = true;
                let wait = self.chance.between(10, 3_000);
                self.later(wait, Event::Uncut(node));
            }
            Fault::HandOver => {
                if let Some(owner) = self.table[room]
                    && self.nodes[owner].alive
                {
                    self.nodes[owner].heirs.insert(room, node);
                    self.in_lane(Lane::Cluster(owner), 1, Event::At(owner, AtNode::Control(room, Control::Release)));
                    // Where the owner never lets go, its lease ends.
                    self.later(2_000, Event::TakeOver(room));
                }
            }
            Fault::TakeOver => self.take_over(room),
            Fault::Lie => {
                let owner = if self.chance.luck(200) { None } else { self.any_node() };
                self.tell_owner(node, room, owner, 50);
                let truth = self.chance.between(50, 1_500);
                // As with every beat: the node asks the cluster again.
                let owner = self.table[room];
                self.in_lane(
                    Lane::Cluster(node),
                    truth,
                    Event::At(node, AtNode::Control(room, Control::Owner(owner.map(node_id)))),
                );
            }
            Fault::StoreAway => {
                self.store_away = true;
                let wait = self.chance.between(10, 2_000);
                self.later(wait, Event::StoreBack);
            }
        }
    }

    /// A running node.
    pub fn any_node(&mut self) -> Option<NodeIx> {
        let alive: Vec<NodeIx> = (0..self.nodes.len()).filter(|&ix| self.nodes[ix].alive).collect();
        self.chance.pick(&alive).copied()
    }

    fn crash(&mut self, node: NodeIx) {
        if self.nodes.iter().filter(|node| node.alive).count() < 2 {
            return;
        }
        self.nodes[node].alive = false;
        self.nodes[node].frozen = false;
        self.nodes[node].rooms.clear();
        let wait = self.chance.between(100, 1_500);
        self.later(wait, Event::Restart);
        let noticed = self.chance.between(100, 2_000);
        (0..self.rooms).for_each(|room| self.later(noticed, Event::TakeOver(room)));
        for other in 0..self.nodes.len() {
            self.in_lane(Lane::Cluster(other), noticed, Event::At(other, AtNode::NodeLost(node)));
        }
        for client in 0..self.clients.len() {
            if let Some((conn, home)) = self.clients[client].conn
                && home == node
            {
                let wait = self.chance.between(1, 200);
                self.later(wait, Event::Client(client, AtClient::Broken(conn)));
            }
        }
    }

    /// The room gets an owner, and the nodes are told, each in its own time.
    pub fn take_over(&mut self, room: RoomIx) {
        let Some(owner) = self.any_node() else { return };
        self.give(room, owner);
    }

    fn give(&mut self, room: RoomIx, owner: NodeIx) {
        self.table[room] = Some(owner);
        for node in 0..self.nodes.len() {
            let within = if self.healed { 50 } else { self.plan.fault_every };
            self.tell_owner(node, room, Some(owner), within);
        }
    }

    fn tell_owner(&mut self, node: NodeIx, room: RoomIx, owner: Option<NodeIx>, within: Time) {
        let wait = self.chance.between(0, within);
        let owner = owner.map(node_id);
        self.in_lane(Lane::Cluster(node), wait, Event::At(node, AtNode::Control(room, Control::Owner(owner))));
    }

    /// A room under release writes no more: its heir gets it.
    pub fn fenced(&mut self, node: NodeIx, room: RoomIx) {
        if let Some(heir) = self.nodes[node].heirs.remove(&room)
            && self.table[room] == Some(node)
        {
            self.give(room, heir);
        }
    }

    /// From here on nothing goes wrong, and everyone learns how things stand.
    pub fn heal(&mut self) {
        self.healed = true;
        self.store_away = false;
        for node in 0..self.nodes.len() {
            if self.nodes[node].frozen {
                self.thaw(node);
            }
            if self.nodes[node].cut {
                self.uncut(node);
            }
        }
        if self.nodes.iter().filter(|node| node.alive).count() < 2 {
            self.start_node();
        }
        for room in 0..self.rooms {
            match self.table[room].filter(|&owner| self.nodes[owner].alive) {
                Some(owner) => self.give(room, owner),
                None => self.take_over(room),
            }
        }
    }
}
