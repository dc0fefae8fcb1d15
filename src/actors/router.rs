//! Finds rooms: room → shard → owner, and room → the actor on this node, started when it is first asked for.
//!
//! Invariants: a node has at most one actor a room; whoever is given a handle is counted, so that a room only stops when
//! nobody can hold one; a shard is reported as released only when none of its rooms writes any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use actix_rt::ArbiterHandle;

use crate::actors::envelope::{Envelope, PeerMessage};
use crate::actors::messages::{
    FromNode, HubIndex, LinkBroken, Lookup, NodesLost, OwnersChanged, ReleaseShards, RevokedHere, RoomControl,
    RoomNews, ShardsReleased, ToHub, ToRoom,
};
use crate::actors::posts::Posts;
use crate::actors::room::feed::Hubs;
use crate::actors::room::{RoomActor, RoomContext};
use crate::domain::revoked::Revoked;
use crate::ids::{NodeId, RoomId, SHARDS, ShardId, fnv1a};

/// A worker thread is up: its hub, and its arbiter for rooms to run on.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct RegisterHub {
    pub index: HubIndex,
    pub hub: Recipient<ToHub>,
    pub arbiter: ArbiterHandle,
}

/// What the router can only be told once the others are started.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Connect {
    pub rooms: Arc<RoomContext>,
    pub released: Recipient<ShardsReleased>,
    /// The bus, which forgets its links to them.
    pub lost: Recipient<NodesLost>,
    pub posts: Arc<Posts>,
}

struct Entry {
    requests: Recipient<ToRoom>,
    control: Recipient<RoomControl>,
    handed_out: u64,
}

struct Connected {
    rooms: Arc<RoomContext>,
    released: Recipient<ShardsReleased>,
    lost: Recipient<NodesLost>,
    posts: Arc<Posts>,
}

pub struct RouterActor {
    connected: Option<Connected>,
    hubs: Hubs,
    arbiters: Vec<ArbiterHandle>,
    owners: Vec<Option<NodeId>>,
    rooms: HashMap<RoomId, Entry>,
    by_shard: Vec<HashSet<RoomId>>,
    /// Shards under release, with the rooms that still write.
    releasing: HashMap<ShardId, HashSet<RoomId>>,
}

impl RouterActor {
    pub fn new(hubs: Hubs) -> Self {
        Self {
            connected: None,
            hubs,
            arbiters: Vec::new(),
            owners: vec![None; usize::from(SHARDS)],
            rooms: HashMap::new(),
            by_shard: vec![HashSet::new(); usize::from(SHARDS)],
            releasing: HashMap::new(),
        }
    }

    fn owner(&self, shard: ShardId) -> Option<NodeId> {
        self.owners.get(usize::from(shard.0)).cloned().flatten()
    }

    /// The room's actor, started if need be; `None` only before the node is connected.
    fn room(&mut self, id: &RoomId) -> Option<&mut Entry> {
        let alive = self.rooms.get(id).is_some_and(|entry| entry.requests.connected());
        if !alive {
            let shard = ShardId::of(id);
            let owner = self.owner(shard);
            let cx = self.connected.as_ref()?.rooms.clone();
            if self.rooms.remove(id).is_some() {
                tracing::error!(room.id = %id, "room.died");
                cx.metrics.rooms.dec();
            }
            let room = RoomActor::new(id.clone(), owner, cx);
            let entry = self.start_room(id, room);
            self.rooms.insert(id.clone(), entry);
            self.by_shard[usize::from(shard.0)].insert(id.clone());
        }
        let entry = self.rooms.get_mut(id)?;
        entry.handed_out += 1;
        Some(entry)
    }

    /// Rooms are spread over the worker threads, so that a room and about its share of readers meet without a hop.
    fn start_room(&self, id: &RoomId, room: RoomActor) -> Entry {
        let room = if self.arbiters.is_empty() {
            room.start()
        } else {
            let index = fnv1a(id.as_str().as_bytes()) as usize / usize::from(SHARDS) % self.arbiters.len();
            RoomActor::start_in_arbiter(&self.arbiters[index], |_| room)
        };
        Entry { requests: room.clone().recipient(), control: room.recipient(), handed_out: 0 }
    }

    fn tell_shard(&self, shard: ShardId, message: impl Fn() -> RoomControl) {
        for id in &self.by_shard[usize::from(shard.0)] {
            if let Some(entry) = self.rooms.get(id) {
                entry.control.do_send(message());
            }
        }
    }

    fn tell_all(&self, message: impl Fn() -> RoomControl) {
        for entry in self.rooms.values() {
            entry.control.do_send(message());
        }
    }

    fn released(&self, shards: Vec<ShardId>) {
        if let Some(connected) = &self.connected
            && !shards.is_empty()
        {
            connected.released.do_send(ShardsReleased { shards });
        }
    }

    /// Sessions end on this node, and its rooms forget who was erased.
    fn revoked(&self, revoked: &Revoked, at: Instant) {
        for hub in self.hubs.read().iter().flat_map(|hubs| hubs.iter()).flatten() {
            hub.do_send(ToHub::Revoked { revoked: revoked.clone(), at });
        }
        if let Revoked::Person(user) = revoked {
            self.tell_all(|| RoomControl::Forget(user.clone()));
        }
    }

    fn remove(&mut self, id: &RoomId) {
        self.rooms.remove(id);
        self.by_shard[usize::from(ShardId::of(id).0)].remove(id);
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;
}

impl Handler<Connect> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: Connect, _: &mut Self::Context) {
        let Connect { rooms, released, lost, posts } = message;
        self.connected = Some(Connected { rooms, released, lost, posts });
    }
}

impl Handler<RegisterHub> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: RegisterHub, _: &mut Self::Context) {
        let index = usize::from(message.index.0);
        if let Ok(mut hubs) = self.hubs.write() {
            if hubs.len() <= index {
                hubs.resize(index + 1, None);
            }
            hubs[index] = Some(message.hub);
        }
        if index < self.arbiters.len() {
            self.arbiters[index] = message.arbiter;
        } else {
            self.arbiters.push(message.arbiter);
        }
    }
}

impl Handler<Lookup> for RouterActor {
    type Result = ();

    fn handle(&mut self, lookup: Lookup, ctx: &mut Self::Context) {
        let Some(handle) = self.room(&lookup.room).map(|entry| entry.requests.clone()) else {
            // Not connected yet: requests arrive only once the node is, so this is a matter of milliseconds.
            ctx.notify_later(lookup, std::time::Duration::from_millis(20));
            return;
        };
        let hub = self.hubs.read().ok().and_then(|hubs| hubs.get(usize::from(lookup.hub.0)).cloned().flatten());
        if let Some(hub) = hub {
            hub.do_send(ToHub::Handle { room: lookup.room, handle });
        }
    }
}

impl Handler<FromNode> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: FromNode, _: &mut Self::Context) {
        for envelope in message.envelopes {
            match envelope {
                Envelope::Room(id, message_to_room) => {
                    // Only a mirror's word starts a room here; what else comes for none is out of date.
                    let starts = matches!(message_to_room, PeerMessage::Watch { .. } | PeerMessage::Ask { .. });
                    let entry = if starts { self.room(&id) } else { self.rooms.get_mut(&id) };
                    if let Some(entry) = entry {
                        entry.handed_out += 1;
                        let from = message.node.clone();
                        entry.control.do_send(RoomControl::Peer { from, message: message_to_room });
                    }
                }
                Envelope::Revoked(revoked) => self.revoked(&revoked, Instant::now()),
                Envelope::Post { call, key, post } => {
                    if let Some(connected) = &self.connected {
                        connected.posts.arrived(message.node.clone(), call, key, post);
                    }
                }
                Envelope::Posted { call, result } => {
                    if let Some(connected) = &self.connected {
                        connected.posts.answered(call, result);
                    }
                }
            }
        }
    }
}

impl Handler<RevokedHere> for RouterActor {
    type Result = ();

    fn handle(&mut self, RevokedHere { revoked, at }: RevokedHere, _: &mut Self::Context) {
        self.revoked(&revoked, at);
    }
}

impl Handler<OwnersChanged> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: OwnersChanged, _: &mut Self::Context) {
        for (shard, owner) in message.changes {
            let Some(slot) = self.owners.get_mut(usize::from(shard.0)) else { continue };
            slot.clone_from(&owner);
            self.releasing.remove(&shard);
            self.tell_shard(shard, || RoomControl::Owner(owner.clone()));
        }
    }
}

impl Handler<ReleaseShards> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: ReleaseShards, _: &mut Self::Context) {
        let mut free = Vec::new();
        for shard in message.shards {
            // A room that starts meanwhile waits for an owner.
            if let Some(slot) = self.owners.get_mut(usize::from(shard.0)) {
                *slot = None;
            }
            let rooms: HashSet<RoomId> = self.by_shard[usize::from(shard.0)]
                .iter()
                .filter(|id| self.rooms.get(*id).is_some_and(|entry| entry.control.connected()))
                .cloned()
                .collect();
            if rooms.is_empty() {
                free.push(shard);
                continue;
            }
            self.tell_shard(shard, || RoomControl::Release);
            self.releasing.insert(shard, rooms);
        }
        self.released(free);
    }
}

impl Handler<NodesLost> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: NodesLost, _: &mut Self::Context) {
        if let Some(connected) = &self.connected {
            connected.lost.do_send(message.clone());
        }
        for node in message.nodes {
            self.tell_all(|| RoomControl::NodeLost(node.clone()));
        }
    }
}

impl Handler<LinkBroken> for RouterActor {
    type Result = ();

    fn handle(&mut self, message: LinkBroken, _: &mut Self::Context) {
        self.tell_all(|| RoomControl::LinkBroken(message.node.clone()));
    }
}

impl Handler<RoomNews> for RouterActor {
    type Result = ();

    fn handle(&mut self, news: RoomNews, _: &mut Self::Context) {
        match news {
            RoomNews::Fenced(room) => {
                let shard = ShardId::of(&room);
                if let Some(rooms) = self.releasing.get_mut(&shard) {
                    rooms.remove(&room);
                    if rooms.is_empty() {
                        self.releasing.remove(&shard);
                        self.released(vec![shard]);
                    }
                }
            }
            RoomNews::Idle(room) => {
                if let Some(entry) = self.rooms.get(&room) {
                    entry.control.do_send(RoomControl::HandedOut(entry.handed_out));
                }
            }
            RoomNews::Stopping { room, handed_out } => {
                let releasing = self.releasing.contains_key(&ShardId::of(&room));
                let Some(entry) = self.rooms.get(&room) else { return };
                let stop = entry.handed_out == handed_out && !releasing;
                entry.control.do_send(RoomControl::Stop(stop));
                if stop {
                    self.remove(&room);
                }
            }
        }
    }
}
