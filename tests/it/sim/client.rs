//! The clients of a world: people who send, edit, delete, react, read along, lose their connections, come back elsewhere
//! with the last entry they saw, and repeat with the same id what they got no answer to. As the contract tells them to.

use std::collections::BTreeMap;

use roundtable::domain::command::{Caller, Command, Reply};
use roundtable::domain::cursor::{Verdict, Wish};
use roundtable::ids::{MessageId, Seq, UserId};

use super::chance::Chance;
use super::faults::Plan;
use super::history::{Fact, Request};
use super::hub::REPLAY;
use super::wire::{ClientIx, Conn, Down, NodeIx, RoomIx, Time, Up};
use super::world::{AtNode, Event, Lane, World};

/// How long a client waits for an answer.
const PATIENCE: Time = 6_500;
/// Requests of one client that may be unanswered.
const INFLIGHT: usize = 8;

#[derive(Debug)]
pub enum AtClient {
    Tick,
    Broken(Conn),
    Down(Conn, Down),
}

pub struct Client {
    pub user: UserId,
    pub conn: Option<(Conn, NodeIx)>,
    /// What it wants to read.
    pub subs: BTreeMap<RoomIx, Sub>,
    /// What it wants done, in the order it began to.
    pub asks: BTreeMap<u64, Ask>,
    /// Requests on this connection without an answer.
    pub unanswered: BTreeMap<u64, Waiting>,
    /// Its own messages, and all it saw.
    own: Vec<(RoomIx, Seq)>,
    seen: Vec<(RoomIx, Seq)>,
    next_id: u64,
    /// Milliseconds to take one frame.
    slow: Time,
}

#[derive(Debug)]
pub struct Sub {
    /// The first entry not seen; `None` before it ever started.
    pub next: Option<Seq>,
    wish: Wish,
    pub live: bool,
    asked: Option<u64>,
    not_before: Time,
}

#[derive(Debug)]
pub struct Ask {
    room: RoomIx,
    command: Command,
    req: Option<u64>,
    not_before: Time,
}

#[derive(Debug)]
pub struct Waiting {
    pub since: Time,
    what: Awaited,
}

#[derive(Debug)]
enum Awaited {
    Ask(u64),
    Subscribe(RoomIx, Wish),
    Unsubscribe(RoomIx),
}

impl Client {
    pub fn new(user: UserId, plan: &Plan, chance: &mut Chance) -> Self {
        let subs = (0..plan.rooms).filter(|_| chance.luck(800)).map(|room| (room, Sub::new(Wish::Last(3)))).collect();
        Self {
            user,
            conn: None,
            subs,
            asks: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            own: Vec::new(),
            seen: Vec::new(),
            next_id: 0,
            slow: if chance.luck(plan.slow) { chance.between(5, 60) } else { 0 },
        }
    }
}

impl Sub {
    fn new(wish: Wish) -> Self {
        Self { next: None, wish, live: false, asked: None, not_before: 0 }
    }
}

impl World {
    pub fn at_client(&mut self, ix: ClientIx, event: AtClient) {
        match event {
            AtClient::Tick => {
                let wait = self.chance.between(1, self.plan.pause);
                self.later(wait, Event::Client(ix, AtClient::Tick));
                self.tick(ix);
            }
            AtClient::Broken(conn) => {
                if self.clients[ix].conn.is_some_and(|(present, _)| present == conn) {
                    self.hang_up(ix);
                }
            }
            AtClient::Down(conn, down) => {
                let Some((present, node)) = self.clients[ix].conn else { return };
                if present != conn {
                    return;
                }
                if matches!(down, Down::Events { .. }) {
                    self.later(0, Event::At(node, AtNode::Drained(conn)));
                }
                self.hear(ix, conn, down);
            }
        }
    }

    fn tick(&mut self, ix: ClientIx) {
        if self.clients[ix].conn.is_none() {
            return self.connect(ix);
        }
        let overdue = |waiting: &Waiting| self.now > waiting.since + PATIENCE;
        if self.clients[ix].unanswered.values().any(overdue) && !self.healed {
            // No answer at all: elsewhere it may be better.
            return self.hang_up(ix);
        }
        if self.now + self.plan.quiet < self.plan.chaos {
            self.act(ix);
        }
        self.go_on(ix);
    }

    /// Sends what waits to be sent: subscribes first, then requests in their order.
    fn go_on(&mut self, ix: ClientIx) {
        if self.clients[ix].conn.is_none() {
            return;
        }
        let now = self.now;
        let rooms: Vec<RoomIx> = self.clients[ix]
            .subs
            .iter()
            .filter(|(_, sub)| !sub.live && sub.asked.is_none() && sub.not_before <= now)
            .map(|(&room, _)| room)
            .collect();
        for room in rooms {
            let sub = &self.clients[ix].subs[&room];
            let wish = sub.next.map_or(sub.wish, |next| Wish::After(next - 1));
            self.subscribe(ix, room, wish);
        }
        // A request that is to be repeated holds back later ones to its room, so that they keep their order.
        let mut held: Vec<RoomIx> = Vec::new();
        let asks: Vec<u64> = self.clients[ix].asks.keys().copied().collect();
        for ask in asks {
            let Ask { room, req, not_before, .. } = self.clients[ix].asks[&ask];
            if req.is_some() || held.contains(&room) {
                continue;
            }
            if not_before > now {
                held.push(room);
            } else {
                self.send(ix, ask);
            }
        }
    }

    fn connect(&mut self, ix: ClientIx) {
        let Some(node) = self.any_node() else { return };
        self.conns += 1;
        let conn = self.conns;
        self.clients[ix].conn = Some((conn, node));
        let caller = Caller { user: self.clients[ix].user.clone(), admin: false, from: None };
        self.conn_clients.insert(conn, ix);
        self.up(ix, Up::Open { caller });
        self.go_on(ix);
    }

    /// The connection is over for the client; its node notices sooner or later.
    fn hang_up(&mut self, ix: ClientIx) {
        let client = &mut self.clients[ix];
        let Some((conn, node)) = client.conn.take() else { return };
        client.unanswered.clear();
        for sub in client.subs.values_mut() {
            (sub.live, sub.asked) = (false, None);
        }
        for ask in client.asks.values_mut() {
            ask.req = None;
        }
        let wait = if self.chance.luck(700) { self.chance.between(1, 10) } else { self.chance.between(10, 1_500) };
        self.in_lane(Lane::Up(conn), wait, Event::At(node, AtNode::Up(conn, Up::Close)));
    }

    fn up(&mut self, ix: ClientIx, up: Up) {
        let Some((conn, node)) = self.clients[ix].conn else { return };
        let wait = self.chance.between(1, 5);
        self.in_lane(Lane::Up(conn), wait, Event::At(node, AtNode::Up(conn, up)));
    }

    /// A frame for a client.
    pub fn push(&mut self, conn: Conn, down: Down) {
        let Some(&ix) = self.conn_clients.get(&conn) else { return };
        let slow = if matches!(down, Down::Events { .. }) && !self.healed { self.clients[ix].slow } else { 0 };
        let wait = self.chance.between(1, 3);
        let last = self.lane_end(Lane::Down(conn));
        let wait = wait.max((last + slow).saturating_sub(self.now));
        self.in_lane(Lane::Down(conn), wait, Event::Client(ix, AtClient::Down(conn, down)));
    }

    // ------------------------------------------------------------------------------------------------- requests

    fn request(&mut self, ix: ClientIx, what: Awaited) -> u64 {
        self.requests += 1;
        let waiting = Waiting { since: self.now, what };
        self.clients[ix].unanswered.insert(self.requests, waiting);
        self.requests
    }

    fn send(&mut self, ix: ClientIx, ask: u64) {
        if self.clients[ix].unanswered.len() >= INFLIGHT {
            return;
        }
        let req = self.request(ix, Awaited::Ask(ask));
        let client = &mut self.clients[ix];
        let (Some((conn, _)), Some(asked)) = (client.conn, client.asks.get_mut(&ask)) else { return };
        asked.req = Some(req);
        let (room, command) = (asked.room, asked.command.clone());
        let request = Request { at: self.now, client: ix, conn, room, ask, command: command.clone() };
        self.history.requests.insert(req, request);
        self.up(ix, Up::Ask { req, room, command });
    }

    fn subscribe(&mut self, ix: ClientIx, room: RoomIx, wish: Wish) {
        let req = self.request(ix, Awaited::Subscribe(room, wish));
        if let Some(sub) = self.clients[ix].subs.get_mut(&room) {
            sub.asked = Some(req);
        }
        self.up(ix, Up::Subscribe { req, room, wish });
    }

    fn ask(&mut self, ix: ClientIx, room: RoomIx, command: Command) {
        self.asks += 1;
        let ask = Ask { room, command, req: None, not_before: 0 };
        self.clients[ix].asks.insert(self.asks, ask);
    }

    /// Does something.
    fn act(&mut self, ix: ClientIx) {
        if self.clients[ix].asks.len() >= INFLIGHT {
            return;
        }
        let room = self.chance.below(self.rooms as u64) as RoomIx;
        let own = self.chance.pick(&self.clients[ix].own).copied();
        let seen = self.chance.pick(&self.clients[ix].seen).copied();
        match self.chance.below(100) {
            0..55 => {
                for _ in 0..self.chance.between(1, 3) {
                    let client = &mut self.clients[ix];
                    client.next_id += 1;
                    let id = MessageId::parse(&format!("m{}", client.next_id)).expect("a valid id");
                    let text = format!("{} {id}", client.user);
                    let reply_to = match self.chance.below(10) {
                        0 => seen.filter(|(of, _)| *of == room).map(|(_, seq)| seq),
                        1 => Some(1_000_000),
                        _ => None,
                    };
                    self.ask(
                        ix,
                        room,
                        Command::Send {
                            id,
                            text,
                            reply_to,
                            data: None,
                            over_rate_ms: None,
                            refused: None,
                            trace: None,
                        },
                    );
                }
            }
            55..65 => {
                if let Some((room, target)) = own {
                    self.clients[ix].next_id += 1;
                    let text = format!("edit {}", self.clients[ix].next_id);
                    self.ask(ix, room, Command::Edit { target, text });
                }
            }
            65..70 => {
                if let Some((room, target)) = own {
                    self.ask(ix, room, Command::Delete { target });
                }
            }
            70..80 => {
                if let Some((room, target)) = seen {
                    let active = self.chance.luck(600);
                    self.ask(ix, room, Command::React { target, emoji: "+".into(), active });
                }
            }
            80..83 => self.ask(ix, room, Command::Admit { subscribe: false }),
            83..88 => {
                let head = self.history.logs[room].head();
                let wish = match self.chance.below(3) {
                    0 => Wish::Head,
                    1 => Wish::Last(self.chance.below(20)),
                    _ => Wish::After(self.chance.below(head + 1)),
                };
                let sub = self.clients[ix].subs.entry(room).or_insert_with(|| Sub::new(wish));
                if sub.asked.is_none() {
                    self.subscribe(ix, room, wish);
                }
            }
            88..91 if self.clients[ix].subs.remove(&room).is_some() => {
                let req = self.request(ix, Awaited::Unsubscribe(room));
                self.up(ix, Up::Unsubscribe { req, room });
            }
            91..96 => self.hang_up(ix),
            _ => {}
        }
    }

    // ------------------------------------------------------------------------------------------------- answers

    fn fact(&mut self, fact: Fact) {
        self.history.facts.push((self.now, fact));
    }

    fn hear(&mut self, ix: ClientIx, conn: Conn, down: Down) {
        match down {
            Down::Answer { req, result } => {
                let Some(waiting) = self.clients[ix].unanswered.remove(&req) else {
                    return self.history.unfinished.push(format!("request {req} was answered twice"));
                };
                match waiting.what {
                    Awaited::Ask(ask) => {
                        let log_head = self.history.logs[self.clients[ix].asks[&ask].room].head();
                        self.fact(Fact::Answered { req, result: result.clone(), log_head });
                        self.answered(ix, ask, result);
                    }
                    Awaited::Subscribe(room, _) => {
                        let wait = self.chance.between(50, 500);
                        if let Some(sub) = self.clients[ix].subs.get_mut(&room)
                            && sub.asked == Some(req)
                        {
                            (sub.asked, sub.not_before) = (None, self.now + wait);
                        }
                    }
                    Awaited::Unsubscribe(_) => {}
                }
            }
            Down::Subscribed { req, room, head, verdict } => {
                let Some(Waiting { what: Awaited::Subscribe(_, wish), .. }) = self.clients[ix].unanswered.remove(&req)
                else {
                    return self.history.unfinished.push(format!("subscribe {req} was answered twice"));
                };
                let log_head = self.history.logs[room].head();
                self.fact(Fact::Subscribed { client: ix, conn, room, wish, head, verdict, log_head });
                if let Some(sub) = self.clients[ix].subs.get_mut(&room)
                    && sub.asked == Some(req)
                {
                    (sub.live, sub.asked) = (true, None);
                    sub.next = Some(match (wish, verdict) {
                        (Wish::After(after), Verdict::Live | Verdict::Replay) => after + 1,
                        (Wish::Last(count), Verdict::Replay) => head + 1 - count.min(REPLAY).min(head),
                        _ => head + 1,
                    });
                }
            }
            Down::Events { room, entries } => {
                let log_head = self.history.logs[room].head();
                for entry in entries.iter() {
                    let client = &mut self.clients[ix];
                    client.seen.push((room, entry.seq));
                    if let Some(sub) = client.subs.get_mut(&room)
                        && sub.live
                    {
                        sub.next = Some(entry.seq + 1);
                    }
                    self.fact(Fact::Saw { client: ix, conn, room, entry: entry.clone(), log_head });
                }
            }
            Down::Unsubscribed { req } => {
                if let Some(Waiting { what: Awaited::Unsubscribe(room), .. }) = self.clients[ix].unanswered.remove(&req)
                {
                    self.fact(Fact::Unsubscribed { conn, room });
                }
            }
            Down::Evicted { room } => self.history.unfinished.push(format!("client {ix} was evicted from room {room}")),
        }
    }

    fn answered(&mut self, ix: ClientIx, ask: u64, result: super::wire::Answered) {
        let wait = self.chance.between(20, 400);
        let now = self.now;
        let client = &mut self.clients[ix];
        match result {
            Err(refusal) if refusal.code.retryable() => {
                if let Some(ask) = client.asks.get_mut(&ask) {
                    (ask.req, ask.not_before) = (None, now + wait);
                }
                return;
            }
            Ok(Reply::Sent { seq, .. }) => client.own.push((client.asks[&ask].room, seq)),
            _ => {}
        }
        client.asks.remove(&ask);
    }

    // -------------------------------------------------------------------------------------------------- the end

    /// Whether nobody waits for anything and everyone has read everything.
    pub fn at_rest(&self) -> bool {
        self.clients.iter().all(|client| {
            client.conn.is_some()
                && client.asks.is_empty()
                && client.unanswered.is_empty()
                && client
                    .subs
                    .iter()
                    .all(|(&room, sub)| sub.live && sub.next == Some(self.history.logs[room].head() + 1))
        })
    }

    /// Notes what did not come to an end.
    pub fn conclude(&mut self) {
        let mut unfinished = Vec::new();
        for (ix, client) in self.clients.iter().enumerate() {
            for ask in client.asks.values() {
                unfinished.push(format!("client {ix} still wants {:?} in room {}", ask.command, ask.room));
            }
            for (req, waiting) in &client.unanswered {
                unfinished.push(format!("client {ix}: no answer to {req}, {:?} since {}", waiting.what, waiting.since));
            }
            for (&room, sub) in &client.subs {
                let head = self.history.logs[room].head();
                if !sub.live || sub.next != Some(head + 1) {
                    unfinished.push(format!("client {ix} in room {room} of {head} entries: {sub:?}"));
                }
            }
        }
        for (ix, node) in self.nodes.iter().enumerate() {
            for (&room, actor) in &node.rooms {
                if actor.load() != (0, 0) {
                    unfinished.push(format!("node {ix}, room {room}: {:?} requests and held ones", actor.load()));
                }
                if actor.readers() != node.hub.readers(room) {
                    let (counted, there) = (actor.readers(), node.hub.readers(room));
                    unfinished.push(format!("node {ix}, room {room}: counts {counted} readers of {there}"));
                }
            }
        }
        self.history.unfinished.append(&mut unfinished);
    }
}
