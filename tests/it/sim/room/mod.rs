//! Mirrors `actors/room/mod.rs`: a room on a node, in one of its roles. Where a function has the same name as one there,
//! it follows the same rules; a change there belongs here too. Left out: hints, HTTP calls, and how an idle room stops.

// Named as there.
#![allow(clippy::wrong_self_convention)]

mod feed;
mod mirroring;
mod owning;

use std::collections::VecDeque;

use roundtable::actors::envelope::PeerMessage;
use roundtable::domain::command::{Caller, Command, Reply};
use roundtable::domain::owner::Request;
use roundtable::domain::presence::LocalUsers;
use roundtable::ids::{NodeId, UserId};
use roundtable::limits::REQUEST_DEADLINE_MS;
use roundtable::refusal::Refusal;

use self::feed::Feed;
use self::mirroring::Mirroring;
use self::owning::Owning;
use super::Flaw;
use super::chance::Chance;
use super::wire::{Answered, Conn, Control, FromStore, Out, Run, Time, Timer, ToHub, ToRoom};

const SWEEP_EVERY: Time = 250;
/// `limits::ROOM_REQUESTS`, small enough to be met.
pub const ROOM_REQUESTS: usize = 24;
/// Entries of one fetch, from the ring or the store.
pub const FETCH_ENTRIES: usize = 5;

/// What a room works with during one turn.
pub struct Cx<'a> {
    pub now: Time,
    pub me: &'a NodeId,
    /// `StoreGate`.
    pub gate_open: bool,
    pub chance: &'a mut Chance,
    pub flaw: Flaw,
    pub out: &'a mut Vec<Out>,
}

#[derive(Clone, Debug)]
enum Origin {
    Session { session: Conn, corr: u32 },
    Peer { node: NodeId, stream: u64, n: u64 },
}

#[derive(Debug)]
struct Token {
    origin: Origin,
    since: Time,
    subscriber: Option<UserId>,
}

type Asked = Request<Token>;

enum Role {
    Unowned,
    Opening { tried: bool },
    Owner(Box<Owning>),
    Mirror(Box<Mirroring>),
}

pub struct Room {
    feed: Feed,
    role: Role,
    owner: Option<NodeId>,
    held: VecDeque<Asked>,
    requests: usize,
    sweeping: bool,
    local: LocalUsers,
    waiting_peers: Vec<NodeId>,
    answers: Vec<(Conn, u32, Answered)>,
    fresh: Vec<Run>,
}

impl Room {
    /// A room that is asked for, as the router starts it.
    pub fn new(owner: Option<NodeId>, cx: &mut Cx) -> Self {
        let mut room = Self {
            feed: Feed::new(),
            role: Role::Unowned,
            owner,
            held: VecDeque::new(),
            requests: 0,
            sweeping: false,
            local: LocalUsers::default(),
            waiting_peers: Vec::new(),
            answers: Vec::new(),
            fresh: Vec::new(),
        };
        room.take_role(cx);
        room
    }

    /// For the invariants: requests that are not answered, and those of them that are held.
    pub fn load(&self) -> (usize, usize) {
        (self.requests, self.held.len())
    }

    pub fn readers(&self) -> u32 {
        self.feed.readers()
    }

    fn is_mine(&self, cx: &Cx) -> bool {
        self.owner.as_ref() == Some(cx.me)
    }

    // ------------------------------------------------------------------------------------------------ requests

    fn ask(&mut self, origin: Origin, caller: Caller, command: Command, cx: &mut Cx) {
        let subscriber = matches!(command, Command::Admit { subscribe: true }).then(|| caller.user.clone());
        let token = Token { origin, since: cx.now, subscriber };
        self.requests += 1;
        if self.requests > ROOM_REQUESTS {
            return self.answer(token, Err(Refusal::overloaded("too much waits for this room")), cx);
        }
        let request = Request { caller, command, token };
        match &mut self.role {
            Role::Owner(owning) if !owning.releasing() => {
                owning.owner.offer(request);
                self.step(cx);
            }
            Role::Mirror(_) => self.pass_on(request, cx),
            Role::Opening { tried: true } if !cx.gate_open => self.answer(request.token, Err(store_away()), cx),
            _ => self.hold(request, cx),
        }
    }

    fn hold(&mut self, request: Asked, cx: &mut Cx) {
        self.held.push_back(request);
        self.sweep_later(cx);
    }

    fn answer(&mut self, token: Token, mut result: Answered, cx: &mut Cx) {
        self.requests -= 1;
        match token.origin {
            Origin::Session { session, corr } => {
                if let (Some(user), Ok(Reply::Admitted { head, .. })) = (token.subscriber, &mut result) {
                    *head = self.feed.head().max(*head);
                    self.feed.add_reader();
                    self.local.join(&user);
                }
                self.answers.push((session, corr, result));
            }
            Origin::Peer { node, stream, n } => self.answer_peer(&node, stream, n, result, cx),
        }
    }

    fn flush(&mut self, cx: &mut Cx) {
        if !self.answers.is_empty() {
            cx.out.push(Out::Hub(ToHub::Answers(std::mem::take(&mut self.answers))));
        }
        for run in std::mem::take(&mut self.fresh) {
            self.feed.deliver(run, cx.out);
        }
    }

    fn unsubscribed(&mut self, user: &UserId) {
        self.feed.remove_reader();
        self.local.leave(user);
    }

    /// Sorted, since the order of a hash map differs from run to run.
    fn users(&self) -> Vec<UserId> {
        let mut users: Vec<UserId> = self.local.users().cloned().collect();
        users.sort();
        users
    }

    fn fetch(&mut self, after: u64, cx: &mut Cx) {
        match self.feed.after(after, FETCH_ENTRIES) {
            Some(entries) => self.fetched(after, Some(entries), cx),
            None => cx.out.push(Out::Page { after }),
        }
    }

    fn fetched(&mut self, after: u64, entries: Option<Vec<std::rc::Rc<roundtable::entry::Entry>>>, cx: &mut Cx) {
        cx.out.push(Out::Hub(ToHub::Fetched { after, entries, head: self.feed.head() }));
    }

    fn behind(&mut self, head: u64, cx: &mut Cx) {
        match &self.role {
            Role::Owner(owning) if owning.is_behind(head) => self.superseded(cx),
            Role::Mirror(_) if head > self.feed.head() => {
                self.feed.advance(head, cx.out);
                self.watch(cx);
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------------------------------------- change of role

    fn take_role(&mut self, cx: &mut Cx) {
        if !self.is_mine(cx) {
            for peer in std::mem::take(&mut self.waiting_peers) {
                if cx.flaw != Flaw::MirrorsForgotten {
                    owning::tell(&peer, PeerMessage::NotOwner, cx);
                }
            }
        }
        match self.owner.clone() {
            None => self.role = Role::Unowned,
            Some(owner) if owner == *cx.me => self.open(cx),
            Some(owner) => self.mirror(owner, cx),
        }
    }

    fn owner_changed(&mut self, owner: Option<NodeId>, cx: &mut Cx) {
        if owner == self.owner && !matches!(&self.role, Role::Owner(owning) if owning.releasing()) {
            return;
        }
        self.owner = owner;
        let mine = self.is_mine(cx);
        match &mut self.role {
            Role::Owner(owning) if owning.owner.is_appending() => owning.leave(),
            Role::Owner(_) => {
                self.give_up_ownership(cx);
                self.take_role(cx);
            }
            Role::Mirror(_) => {
                self.take_back(cx);
                self.take_role(cx);
            }
            Role::Opening { .. } if !mine => self.take_role(cx),
            Role::Opening { .. } => {}
            Role::Unowned => self.take_role(cx),
        }
    }

    fn refuse_held(&mut self, refusal: &Refusal, cx: &mut Cx) {
        for request in std::mem::take(&mut self.held) {
            self.answer(request.token, Err(refusal.clone()), cx);
        }
    }

    fn sweep_later(&mut self, cx: &mut Cx) {
        if !std::mem::replace(&mut self.sweeping, true) {
            cx.out.push(Out::Timer(SWEEP_EVERY, Timer::Sweep));
        }
    }

    fn sweep(&mut self, cx: &mut Cx) {
        self.sweeping = false;
        let deadline = REQUEST_DEADLINE_MS as Time;
        while self.held.front().is_some_and(|request| cx.now - request.token.since > deadline)
            && let Some(request) = self.held.pop_front()
        {
            self.answer(request.token, Err(Refusal::unavailable("the room's owner can't be reached now")), cx);
        }
        self.sweep_mirror(deadline, cx);
        if !self.held.is_empty() || self.mirror_waits() {
            self.sweep_later(cx);
        }
    }

    // ------------------------------------------------------------------------------------------------- turns

    pub fn on_hub(&mut self, message: ToRoom, cx: &mut Cx) {
        match message {
            ToRoom::Ask { session, corr, caller, command } => {
                self.ask(Origin::Session { session, corr }, caller, command, cx);
            }
            ToRoom::Fetch { after } => self.fetch(after, cx),
            ToRoom::Unsubscribed { user } => self.unsubscribed(&user),
            ToRoom::Behind { head } => self.behind(head, cx),
        }
        self.flush(cx);
    }

    pub fn on_control(&mut self, control: Control, cx: &mut Cx) {
        match control {
            Control::Owner(owner) => self.owner_changed(owner, cx),
            Control::Release => self.release(cx),
            Control::NodeLost(node) => self.node_lost(&node),
            Control::LinkBroken(node) => self.link_broken(node.as_ref(), cx),
            Control::Peer { from, message } => self.peer(from, message, cx),
        }
        self.flush(cx);
    }

    pub fn on_timer(&mut self, timer: Timer, cx: &mut Cx) {
        match timer {
            Timer::Sweep => self.sweep(cx),
            Timer::WatchAgain => self.watch_again(cx),
            Timer::Reopen => self.reopen(cx),
        }
        self.flush(cx);
    }

    pub fn on_store(&mut self, message: FromStore, cx: &mut Cx) {
        match message {
            FromStore::Opened(result) => self.on_opened(result, cx),
            FromStore::Appended(result) => self.on_appended(result, cx),
            FromStore::Page { after, entries } => self.fetched(after, entries.ok(), cx),
        }
        self.flush(cx);
    }
}

fn store_away() -> Refusal {
    Refusal::unavailable("the store can't be reached now")
}
