//! One connection after its welcome or on the way there: numbers requests, matches answers, keeps to the server's window,
//! measures the lag.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::types::{Patience, Ticket, Transport};
use crate::error::Error;
use crate::frames::{ClientFrame, Welcome};

/// Frames that the network has not taken; beyond that hints are dropped. (Requests are bounded by the server's window.)
const UNWRITTEN: usize = 128;
const PING: Duration = Duration::from_secs(15);
pub(super) const HELLO: u64 = 0;

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// One that outlives the connection.
    Job(u64),
    /// A cursor that is placed; an answer to an older placing decides nothing.
    Place {
        room: String,
        placing: u64,
    },
    Refresh(Option<Ticket>),
    Nobody,
}

#[derive(Clone, Debug)]
struct Asked {
    asker: Asker,
    since: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub number: u64,
    pub transport: Transport,
    pub welcome: Option<Welcome>,
    /// Why the server refused the `hello`.
    pub refused: Option<Error>,
    /// What a drain's notice said.
    pub move_after: Option<Duration>,
    began: Duration,
    heard: Duration,
    asks: BTreeMap<u64, Asked>,
    queue: VecDeque<(Asker, ClientFrame)>,
    next_ref: u64,
    pinged: Option<(u64, Duration)>,
    last_ping: Duration,
    unwritten: usize,
    out: VecDeque<ClientFrame>,
}

impl Link {
    pub fn new(number: u64, transport: Transport, now: Duration) -> Self {
        Self {
            number,
            transport,
            welcome: None,
            refused: None,
            move_after: None,
            began: now,
            heard: now,
            asks: BTreeMap::new(),
            queue: VecDeque::new(),
            next_ref: HELLO,
            pinged: None,
            last_ping: now,
            unwritten: 0,
            out: VecDeque::new(),
        }
    }

    /// The next frame to be written.
    pub fn next_out(&mut self) -> Option<ClientFrame> {
        self.out.pop_front()
    }

    fn write(&mut self, frame: ClientFrame) {
        self.unwritten += 1;
        self.out.push_back(frame);
    }

    pub fn written(&mut self, frames: usize) {
        self.unwritten = self.unwritten.saturating_sub(frames);
    }

    pub fn greet(&mut self, hello: ClientFrame) {
        self.write(hello.with_ref(HELLO));
    }

    pub fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    pub fn ask(&mut self, asker: Asker, frame: ClientFrame, now: Duration) {
        self.queue.push_back((asker, frame));
        self.pump(now);
    }

    /// Writes what the server's window has room for.
    pub fn pump(&mut self, now: Duration) {
        let window = self.welcome.as_ref().map_or(0, |welcome| welcome.limits.inflight);
        while (self.asks.len() as u64) < window
            && let Some((asker, frame)) = self.queue.pop_front()
        {
            self.next_ref += 1;
            self.asks.insert(self.next_ref, Asked { asker, since: now });
            self.write(frame.with_ref(self.next_ref));
        }
    }

    /// Whose request `number` was; each is answered once.
    pub fn answered(&mut self, number: u64, now: Duration) -> Option<Asker> {
        let asked = self.asks.remove(&number)?;
        self.pump(now);
        Some(asked.asker)
    }

    /// Takes back what was not written yet.
    pub fn forget(&mut self, job: u64) {
        self.queue.retain(|(asker, _)| *asker != Asker::Job(job));
    }

    /// Everybody who waits for an answer, in the order in which they asked.
    pub fn waiting(self) -> impl Iterator<Item = Asker> {
        self.asks.into_values().map(|asked| asked.asker).chain(self.queue.into_iter().map(|(asker, _)| asker))
    }

    /// Says something that nobody answers; dropped where the network takes nothing. Whether it was said.
    pub fn say(&mut self, frame: ClientFrame) -> bool {
        let takes = self.welcome.is_some() && self.unwritten < UNWRITTEN;
        if takes {
            self.write(frame);
        }
        takes
    }

    pub fn ping(&mut self, now: Duration) {
        if self.pinged.is_none() && self.welcome.is_some() {
            self.next_ref += 1;
            self.pinged = Some((self.next_ref, now));
            self.last_ping = now;
            self.write(ClientFrame::Ping { r#ref: None }.with_ref(self.next_ref));
        }
    }

    /// The round trip, where it answers the present ping.
    pub fn pong(&mut self, number: Option<u64>, now: Duration) -> Option<Duration> {
        let (asked, at) = self.pinged?;
        if number != Some(asked) {
            return None;
        }
        self.pinged = None;
        Some(now.saturating_sub(at))
    }

    /// How long a ping has been without an answer.
    pub fn pending(&self, now: Duration) -> Duration {
        self.pinged.map_or(Duration::ZERO, |(_, at)| now.saturating_sub(at))
    }

    /// Is the server still there? Why not, where it is to be given up.
    pub fn check(&mut self, now: Duration, patience: &Patience) -> Option<&'static str> {
        let Some(welcome) = &self.welcome else {
            return (now.saturating_sub(self.began) > patience.connect).then_some("no welcome in time");
        };
        let every = PING.min(Duration::from_secs(welcome.heartbeat_s));
        if let Some((_, at)) = self.pinged
            && now.saturating_sub(at.max(self.heard)) > patience.pong
        {
            return Some("the server does not answer");
        }
        if self.asks.values().any(|asked| now.saturating_sub(asked.since) > patience.answer) {
            return Some("a request was not answered");
        }
        if self.pinged.is_none() && now.saturating_sub(self.last_ping) >= every {
            self.ping(now);
        }
        None
    }

    /// Time jumped: nothing that was late is held against the server, but it is asked at once whether it is still there.
    pub fn woke(&mut self, now: Duration) {
        for asked in self.asks.values_mut() {
            asked.since = now;
        }
        (self.began, self.heard) = (now, now);
        match &mut self.pinged {
            Some((_, at)) => *at = now,
            None => self.ping(now),
        }
    }
}
