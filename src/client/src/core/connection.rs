//! Keeps one connection, comes back as the close codes say, and brings everything with it.

use std::time::Duration;

use super::link::{Asker, Link};
use super::types::{Answer, Event, Output, Phase, Ticket, TokenReason, Transport, Transports};
use super::{Core, Timer};
use crate::closing::{BROKEN, Ending, Pace, Remedy};
use crate::error::{Code, Error};
use crate::frames::{ClientFrame, ServerFrame, Welcome};

pub(super) const START_PACE: Pace = Pace { jitter: Duration::from_secs(1), most: Duration::from_secs(30) };
const SLOW: Duration = Duration::from_millis(1500);
/// A connection that lived so long lets the next wait begin anew.
const STEADY: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// So much later than it was to be: time jumped.
const JUMP: Duration = Duration::from_secs(4);
/// Failed attempts by WebSocket before the other way is tried; twice that where one has worked before.
const STREAM_AFTER: u32 = 2;

impl Core {
    /// Connects, and from then on stays connected. `ticket` is answered with the first welcome, and refused only where there
    /// can be none without the application's help.
    pub fn connect(&mut self, ticket: Ticket) {
        // What was refused is not tried again, where there is somebody to ask.
        if self.state.phase == Phase::Unauthorized && self.setup.token_source {
            self.token = None;
        }
        self.begin(Some(ticket));
    }

    fn begin(&mut self, ticket: Option<Ticket>) {
        if let (Some(ticket), Some(error)) = (ticket, &self.closed) {
            let error = error.clone();
            return self.put(Output::Done { ticket, result: Err(error) });
        }
        self.waiters.extend(ticket);
        if self.serving {
            return self.release();
        }
        match self.state.phase {
            Phase::Idle | Phase::Unauthorized | Phase::Closed => {
                (self.rejections, self.attempt) = (0, 0);
                self.start(TokenReason::Connect);
            }
            _ => self.hurry(),
        }
    }

    /// Ends it for good. What is unsent stays in the storage.
    pub fn close(&mut self) {
        let error = Error::new(Code::Closed, "the client was closed");
        self.closed = Some(error.clone());
        self.finish(error.clone());
        self.rooms_closed(&error);
    }

    /// A new token, for the present connection and those to come; after `unauthorized` it connects again.
    pub fn set_token(&mut self, token: String, ticket: Ticket) {
        self.token = Some(token.clone());
        match (self.state.phase, &mut self.link) {
            (Phase::Online, Some(link)) => {
                let frame = ClientFrame::Refresh { r#ref: None, token };
                link.ask(Asker::Refresh(Some(ticket)), frame, self.now);
            }
            (Phase::Unauthorized, _) => self.begin(Some(ticket)),
            _ => self.put(Output::Done { ticket, result: Ok(Answer::Done) }),
        }
    }

    /// The round trip to the server, now.
    pub fn ping(&mut self, ticket: Ticket) {
        match &mut self.link {
            Some(link) if link.welcome.is_some() => {
                link.ping(self.now);
                self.pings.push(ticket);
            }
            _ => {
                let result = Err(Error::new(Code::Network, "not connected"));
                self.put(Output::Done { ticket, result });
            }
        }
    }

    pub(super) fn start(&mut self, why: TokenReason) {
        self.generation += 1;
        self.link = None;
        let attempt = self.attempt;
        self.tell(|state| (state.phase, state.attempt, state.retry_in) = (Phase::Connecting, attempt, None));
        if self.setup.token_source && (self.token.is_none() || why != TokenReason::Connect) {
            let attempt = self.generation;
            return self.put(Output::WantToken { attempt, why });
        }
        self.open();
    }

    /// What was asked for by [`Output::WantToken`]; none: go without one.
    pub fn token_came(&mut self, attempt: u64, why: TokenReason, token: Result<Option<String>, String>) {
        if why == TokenReason::Expiring {
            if let (Ok(Some(token)), Some(link)) = (token, &mut self.link)
                && link.number == attempt
                && self.token.as_ref() != Some(&token)
            {
                self.token = Some(token.clone());
                link.ask(Asker::Refresh(None), ClientFrame::Refresh { r#ref: None, token }, self.now);
            }
            // Without one the connection will end with 4301, and the token is asked for again.
            return;
        }
        if attempt != self.generation || self.state.phase != Phase::Connecting {
            return;
        }
        match token {
            Ok(token) => {
                self.token = token;
                self.open();
            }
            Err(error) => self.again(Error::new(Code::Network, format!("no token: {error}")), why, None),
        }
    }

    fn open(&mut self) {
        let patient = if self.socket_works { 2 } else { 1 } * STREAM_AFTER;
        let stream = match self.setup.transport {
            Transports::Stream => true,
            Transports::WebSocket => false,
            Transports::Auto => self.blocked >= patient && self.blocked.is_multiple_of(2),
        };
        let transport = if stream { Transport::Stream } else { Transport::WebSocket };
        self.link = Some(Link::new(self.generation, transport, self.now));
        self.tick_at = Some(self.now + TICK);
        let address = self.address % self.setup.addresses.max(1);
        let (connection, token) = (self.generation, self.token.clone());
        self.put(Output::Open { connection, address, transport, token });
    }

    fn is_present(&self, connection: u64) -> bool {
        self.link.as_ref().is_some_and(|link| link.number == connection)
    }

    /// The connection is there.
    pub fn opened(&mut self, connection: u64) {
        if self.is_present(connection)
            && let Some(link) = &mut self.link
        {
            let (token, client) = (self.token.clone(), Some(self.setup.client.clone()));
            link.greet(ClientFrame::Hello { r#ref: None, token, client });
        }
    }

    /// The network has taken so many frames.
    pub fn written(&mut self, connection: u64, frames: usize) {
        if let Some(link) = self.link.as_mut().filter(|link| link.number == connection) {
            link.written(frames);
        }
    }

    pub fn frame(&mut self, connection: u64, frame: ServerFrame) {
        let now = self.now;
        let Some(link) = self.link.as_mut().filter(|link| link.number == connection) else { return };
        link.heard(now);
        if link.welcome.is_none() {
            match frame {
                ServerFrame::Welcome(welcome) => self.welcomed(welcome),
                ServerFrame::Error(refusal) => link.refused = Some(Error::from(refusal)),
                _ => {}
            }
            return;
        }
        if let ServerFrame::Pong { r#ref, .. } = frame {
            if let Some(lag) = link.pong(r#ref, now) {
                self.tell(|state| (state.lag, state.slow) = (Some(lag), lag > SLOW));
                for ticket in std::mem::take(&mut self.pings) {
                    self.put(Output::Done { ticket, result: Ok(Answer::Pong(lag)) });
                }
            }
            return;
        }
        let Some(number) = frame.answers() else { return self.unasked(frame) };
        match link.answered(number, now) {
            Some(Asker::Job(job)) => self.job_answered(job, frame),
            Some(Asker::Place { room, placing }) => self.place_answered(&room, placing, frame),
            Some(Asker::Refresh(Some(ticket))) => {
                let result = match frame {
                    ServerFrame::Error(refusal) => Err(Error::from(refusal)),
                    _ => Ok(Answer::Done),
                };
                self.put(Output::Done { ticket, result });
            }
            Some(Asker::Refresh(None) | Asker::Nobody) | None => {}
        }
    }

    fn unasked(&mut self, frame: ServerFrame) {
        let ServerFrame::Notice(notice) = frame else { return self.room_frame(frame) };
        match &*notice.code {
            "draining" => {
                if let Some(link) = &mut self.link {
                    link.move_after = notice.reconnect_after_ms.map(Duration::from_millis);
                }
                self.tell(|state| state.draining = true);
            }
            "credentials_expiring" if self.setup.token_source => {
                let attempt = self.generation;
                self.put(Output::WantToken { attempt, why: TokenReason::Expiring });
            }
            _ => {}
        }
        self.put(Output::Event(Event::Notice(notice)));
    }

    fn welcomed(&mut self, welcome: Welcome) {
        let user = welcome.user.clone();
        let expected = self.setup.user.clone().or_else(|| self.user.as_ref().map(|user| user.id.clone()));
        if let Some(expected) = expected.filter(|expected| *expected != user.id) {
            let why = format!("the credentials are of {}, not of {expected}", user.id);
            return self.finish(Error::new(Code::DifferentUser, why));
        }
        let Some(link) = &mut self.link else { return };
        let (transport, node) = (link.transport, welcome.node.clone());
        let ms = Duration::from_millis;
        self.pace = Pace { jitter: ms(welcome.reconnect.jitter_ms), most: ms(welcome.reconnect.backoff_max_ms) };
        self.limits = Some(welcome.limits.clone());
        link.welcome = Some(welcome);
        link.ping(self.now);
        self.user = Some(user.clone());
        self.rejections = 0;
        // A server that lets one in and breaks soon after is not stormed, but it is no reason to stay away for long either.
        self.attempt = self.attempt.min(1);
        self.online_since = Some(self.now);
        if transport == Transport::WebSocket {
            (self.socket_works, self.blocked) = (true, 0);
        }
        self.tell(|state| {
            state.phase = Phase::Online;
            (state.transport, state.node) = (Some(transport), Some(node));
            (state.draining, state.slow, state.lag, state.error, state.retry_in) = (false, false, None, None, None);
        });
        self.rooms_connected();
        let resumed = std::mem::replace(&mut self.resumed, true);
        let node = self.state.node.clone().unwrap_or_default();
        self.put(Output::Event(Event::Online { user: user.clone(), node, resumed }));
        self.open_outbox(&user.id);
        self.release();
    }

    /// Requests go, once a connection is there and what is older has been read from the storage.
    pub(super) fn release(&mut self) {
        if self.state.phase != Phase::Online || !self.outbox.opened {
            return;
        }
        if !std::mem::replace(&mut self.serving, true) {
            self.start_jobs();
        }
        if let Some(user) = self.user.clone() {
            for ticket in std::mem::take(&mut self.waiters) {
                self.put(Output::Done { ticket, result: Ok(Answer::Online(user.clone())) });
            }
        }
    }

    fn refuse_waiters(&mut self, error: &Error) {
        for ticket in std::mem::take(&mut self.waiters) {
            self.put(Output::Done { ticket, result: Err(error.clone()) });
        }
    }

    /// The connection ended, or never came about.
    pub fn ended(&mut self, connection: u64, ending: &Ending) {
        if self.is_present(connection) {
            self.lost(ending);
        }
    }

    fn lost(&mut self, ending: &Ending) {
        let Some(link) = self.drop_link(&Error::from(ending)) else { return };
        let (code, status) = (ending.code, ending.status);
        let welcomed = link.welcome.is_some();
        let stream = link.transport == Transport::Stream;
        let refused = link.refused.clone();
        let error = |known: Code| {
            let mut error = Error::from(ending);
            let retryable = Error::new(known.clone(), "").retryable;
            (error.code, error.retryable) = (known, retryable);
            if let Some(refused) = &refused {
                error.message.clone_from(&refused.message);
            }
            error
        };
        // What let a stream pass may let a WebSocket pass by now.
        if welcomed && stream {
            self.blocked = self.blocked.min(1);
        }
        if !welcomed && (stream || (code == BROKEN && !matches!(status, Some(401 | 429 | 503)))) {
            self.blocked += 1;
        }
        let remedy = Remedy::of(code);
        if remedy == Remedy::End {
            let other = if code == 4003 { Code::Revoked } else { Code::Protocol };
            let known = refused.as_ref().map_or(other, |refused| refused.code.clone());
            return self.finish(error(known));
        }
        // Of a WebSocket a proxy may say that as well, who would let a stream pass.
        if status == Some(403) && (stream || self.setup.transport == Transports::WebSocket) {
            return self.finish(error(Code::Forbidden));
        }
        if remedy == Remedy::Credentials || status == Some(401) {
            let why = if code == 4301 { TokenReason::Expired } else { TokenReason::Rejected };
            return self.reject(error(Code::Unauthenticated), why);
        }
        self.address = self.address.wrapping_add(1);
        let known = if remedy == Remedy::Wait { Code::TooManyConnections } else { Code::Network };
        let at_once = (remedy == Remedy::Move).then(|| link.move_after.unwrap_or_default());
        self.again(error(known), TokenReason::Connect, at_once);
    }

    /// The token is no good (any more).
    fn reject(&mut self, error: Error, why: TokenReason) {
        let steady = self.steady();
        if self.setup.token_source {
            self.rejections += u32::from(!steady);
            // Twice in a row a fresh one was refused: whoever gives them has to do something first.
            if steady || self.rejections <= 2 {
                return self.start(why);
            }
        }
        self.online_since = None;
        self.generation += 1;
        let shown = error.clone();
        self.tell(|state| {
            (state.phase, state.error) = (Phase::Unauthorized, Some(shown));
            (state.transport, state.node) = (None, None);
        });
        self.refuse_waiters(&error);
    }

    fn steady(&self) -> bool {
        self.online_since.is_some_and(|since| self.now.saturating_sub(since) > STEADY)
    }

    /// Comes back later. `at_once`: the server asked for it, after so long.
    fn again(&mut self, error: Error, why: TokenReason, at_once: Option<Duration>) {
        self.generation += 1;
        if self.steady() {
            self.attempt = 0;
        }
        self.online_since = None;
        // A server that always says "come back at once" is not followed faster than one that says nothing.
        let told = at_once.filter(|_| self.attempt == 0);
        let wait = told.unwrap_or_else(|| self.pace.wait(self.attempt, self.chance));
        let wait = wait.max(error.retry_after.unwrap_or_default());
        self.attempt += 1;
        let attempt = self.attempt;
        self.tell(|state| {
            (state.phase, state.error, state.retry_in) = (Phase::Waiting, Some(error), Some(wait));
            (state.attempt, state.transport, state.node) = (attempt, None, None);
        });
        self.timers.insert((self.now + wait, Timer::Connect(self.generation, why)));
    }

    /// Tries at once instead of waiting on: there is a reason to think that it works now.
    fn hurry(&mut self) {
        let told = self.state.error.as_ref().is_some_and(|error| error.retry_after.is_some());
        if self.state.phase == Phase::Waiting && !told {
            self.start(TokenReason::Connect);
        }
    }

    /// There is no connection any more; whoever waits for its answers asks again on the next one.
    fn drop_link(&mut self, error: &Error) -> Option<Link> {
        self.flush_link();
        let link = self.link.take()?;
        let online = self.state.phase == Phase::Online;
        self.serving = false;
        self.tick_at = None;
        for asker in link.clone().waiting() {
            match asker {
                Asker::Job(job) => self.job_lost(job, error),
                Asker::Refresh(Some(ticket)) => self.put(Output::Done { ticket, result: Err(error.clone()) }),
                _ => {}
            }
        }
        for ticket in std::mem::take(&mut self.pings) {
            self.put(Output::Done { ticket, result: Err(error.clone()) });
        }
        if online {
            self.rooms_disconnected();
            self.put(Output::Event(Event::Offline { error: error.clone() }));
        }
        Some(link)
    }

    /// Gives the connection up.
    fn fail(&mut self, reason: &str) {
        if let Some(connection) = self.link.as_ref().map(|link| link.number) {
            self.put(Output::Close { connection });
            self.lost(&Ending::broken(reason));
        }
    }

    fn finish(&mut self, error: Error) {
        self.generation += 1;
        if let Some(link) = self.drop_link(&error) {
            self.put(Output::Close { connection: link.number });
        }
        self.online_since = None;
        let shown = error.clone();
        self.tell(|state| {
            (state.phase, state.error) = (Phase::Closed, Some(shown));
            (state.transport, state.node, state.retry_in) = (None, None, None);
        });
        self.refuse_waiters(&error);
        self.fail_jobs(&error);
        self.tell_senders(&error);
    }

    /// Why nothing can be asked, where that is so.
    pub(super) fn over(&self) -> Option<Error> {
        let ended = self.state.error.as_ref().filter(|_| self.state.phase == Phase::Closed);
        self.closed.as_ref().or(ended).cloned()
    }

    /// The owner noticed that time jumped in a way that this clock does not show: the machine slept.
    pub fn woke(&mut self) {
        self.put(Output::Event(Event::Woke));
        self.hurry();
        if let Some(link) = &mut self.link {
            link.woke(self.now);
        }
    }

    /// Once a second while there is a connection: is the server still there?
    pub(super) fn tick(&mut self) {
        let Some(at) = self.tick_at.filter(|at| *at <= self.now) else { return };
        self.tick_at = Some(self.now + TICK);
        if self.now - at > JUMP {
            return self.woke();
        }
        let Some(link) = &mut self.link else { return };
        if let Some(reason) = link.check(self.now, &self.setup.patience) {
            return self.fail(reason);
        }
        let pending = link.pending(self.now);
        if pending > SLOW {
            self.tell(|state| (state.slow, state.lag) = (true, Some(pending)));
        }
        // Steady again: the next trouble begins with the shortest wait.
        if self.attempt > 0 && self.steady() {
            self.attempt = 0;
            self.tell(|state| state.attempt = 0);
        }
    }
}
