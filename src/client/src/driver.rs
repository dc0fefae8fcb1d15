//! What the core wants done, done with tokio: sockets, time, the storage, and telling whoever waits.
//!
//! Invariant: the core is called under one lock, and everything it puts out in that call is passed on before the lock is
//! let go, so that nobody sees its outputs in another order than it made them.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::client::{Options, Token};
use crate::core::{Answer, Core, Event, Output, State, Ticket, Transport};
use crate::error::{Code, Error};
use crate::frames::ClientFrame;
use crate::room::Shelf;
use crate::storage::OutboxStorage;
use crate::{core::StoredMessage, websocket};

/// Events that wait for somebody who reads them; the oldest go first.
const EVENTS: usize = 1024;
/// How long a storage may take for what waits.
const STORAGE_PATIENCE: Duration = Duration::from_secs(5);
/// The wall's clock went another way than ours by so much: the machine slept, or it was set.
const JUMP: Duration = Duration::from_secs(4);

/// What all parts of a client hold.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    pub options: Options,
    pub state: watch::Sender<State>,
    pub events: broadcast::Sender<Event>,
    pub shelves: Arc<Mutex<HashMap<String, Arc<Shelf>>>>,
    wake: Notify,
    ended: watch::Sender<bool>,
    began: Instant,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<rustls::ClientConfig>>,
    #[cfg(feature = "http")]
    pub http: reqwest::Client,
}

struct Inner {
    core: Core,
    io: VecDeque<Io>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Answer, Error>>>,
    next_ticket: Ticket,
    chance: u64,
}

/// What the driver does.
enum Io {
    Open { connection: u64, address: usize, transport: Transport, token: Option<String> },
    Write { connection: u64, frame: ClientFrame },
    Close { connection: u64 },
    Token { attempt: u64, why: crate::core::TokenReason },
    Store(Op),
}

enum Op {
    Load(String),
    Put(Box<StoredMessage>),
    Remove { user: String, room: String, id: String },
}

/// An answer that is to come.
#[derive(Debug)]
pub(crate) struct Waits {
    answer: oneshot::Receiver<Result<Answer, Error>>,
    cancel: Option<(Weak<Shared>, Ticket)>,
    ticket: Ticket,
    shared: Weak<Shared>,
}

impl Waits {
    /// Whoever lets go of it takes the request back.
    pub fn or_cancel(mut self) -> Self {
        self.cancel = Some((self.shared.clone(), self.ticket));
        self
    }
}

impl Future for Waits {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|result| {
            self.cancel = None;
            result.unwrap_or_else(|_| Err(Error::new(Code::Closed, "the client was closed")))
        })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some((shared, ticket)) = self.cancel.take()
            && let Some(shared) = shared.upgrade()
        {
            shared.with(|core| core.cancel(ticket));
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Asks something of the core whose answer comes later.
pub(crate) fn ask(shared: &Arc<Shared>, act: impl FnOnce(&mut Core, Ticket)) -> Waits {
    let (tell, answer) = oneshot::channel();
    let ticket = shared.call(|inner| {
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        inner.waiting.insert(ticket, tell);
        act(&mut inner.core, ticket);
        ticket
    });
    Waits { answer, cancel: None, ticket, shared: Arc::downgrade(shared) }
}

impl Shared {
    /// # Errors
    /// `bad_request` where nobody can be trusted that an address needs.
    pub fn new(core: Core, options: Options) -> Result<Arc<Self>, Error> {
        #[cfg(feature = "tls")]
        let tls = match options.addresses.iter().any(|address| address.starts_with("https://")) {
            true => Some(crate::tls::config(&options.root_certificates)?),
            false => None,
        };
        let state = watch::Sender::new(core.state().clone());
        let chance = u64::from_le_bytes(random());
        Ok(Arc::new(Self {
            inner: Mutex::new(Inner {
                core,
                io: VecDeque::new(),
                waiting: HashMap::new(),
                next_ticket: 0,
                chance: chance | 1,
            }),
            options,
            state,
            events: broadcast::Sender::new(EVENTS),
            shelves: Arc::default(),
            wake: Notify::new(),
            ended: watch::Sender::new(false),
            began: Instant::now(),
            #[cfg(feature = "http")]
            http: crate::stream::http(
                #[cfg(feature = "tls")]
                tls.as_ref(),
            )?,
            #[cfg(feature = "tls")]
            tls,
        }))
    }

    /// Calls the core, and passes on what it puts out.
    pub fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        self.call(|inner| act(&mut inner.core))
    }

    fn call<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let before = inner.core.wake_at();
        let chance = inner.chance();
        inner.core.at(self.began.elapsed(), chance);
        let result = act(&mut inner);
        while let Some(output) = inner.core.next_output() {
            self.pass_on(&mut inner, output);
        }
        // Somebody else may have to be woken earlier.
        if !inner.io.is_empty() || inner.core.wake_at() != before {
            self.wake.notify_one();
        }
        result
    }

    fn pass_on(&self, inner: &mut Inner, output: Output) {
        match output {
            Output::Open { connection, address, transport, token } => {
                inner.io.push_back(Io::Open { connection, address, transport, token });
            }
            Output::Write { connection, frame } => inner.io.push_back(Io::Write { connection, frame }),
            Output::Close { connection } => inner.io.push_back(Io::Close { connection }),
            Output::WantToken { attempt, why } => inner.io.push_back(Io::Token { attempt, why }),
            Output::Load { user } => inner.io.push_back(Io::Store(Op::Load(user))),
            Output::Put(message) => inner.io.push_back(Io::Store(Op::Put(Box::new(message)))),
            Output::Remove { user, room, id } => inner.io.push_back(Io::Store(Op::Remove { user, room, id })),
            Output::Done { ticket, result } => {
                if let Some(tell) = inner.waiting.remove(&ticket) {
                    // Nobody may be waiting any more.
                    let _ = tell.send(result);
                }
            }
            Output::State(state) => drop(self.state.send_replace(state)),
            Output::Room { room, state } => drop(self.shelf(&room).state.send_replace(state)),
            Output::Told { room, told } => self.shelf(&room).told(told),
            Output::Void { room } => self.shelf(&room).void(),
            Output::End { room } => self.shelf(&room).ended(),
            // Nobody may be listening.
            Output::Event(event) => drop(self.events.send(event)),
        }
    }

    fn shelf(&self, room: &str) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shelves.entry(room.to_owned()).or_insert_with(|| Arc::new(Shelf::new())))
    }

    /// The driver is done.
    pub async fn ended(&self) {
        // The sender is in `self`: it can't be gone.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// A random number from 0 up to 1.
    #[cfg(feature = "http")]
    pub fn chance(&self) -> f64 {
        self.call(Inner::chance)
    }

    pub fn address(&self, at: usize) -> &str {
        let addresses = &self.options.addresses;
        addresses[at % addresses.len()].trim_end_matches('/')
    }
}

impl Inner {
    fn chance(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("every system that tokio runs on gives random bytes");
    bytes
}

/// A random name of 128 bits.
pub(crate) fn random_id() -> String {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The wall's clock, in milliseconds.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn start(shared: &Arc<Shared>, medium: Option<Arc<dyn OutboxStorage>>) {
    let (ops, waiting) = mpsc::unbounded_channel();
    let storage = tokio::spawn(store(Arc::clone(shared), medium, waiting));
    tokio::spawn(run(Arc::clone(shared), ops, storage));
}

async fn run(shared: Arc<Shared>, ops: mpsc::UnboundedSender<Op>, storage: tokio::task::JoinHandle<()>) {
    // The present connection: what is to be written to it. Without this it ends.
    let mut line: Option<(u64, mpsc::UnboundedSender<ClientFrame>)> = None;
    let mut clocks = (Instant::now(), SystemTime::now());
    loop {
        let (io, at, over) = shared.call(|inner| {
            let over = inner.core.is_closed();
            (std::mem::take(&mut inner.io), inner.core.wake_at(), over)
        });
        for io in io {
            match io {
                Io::Open { connection, address, transport, token } => {
                    let (write, frames) = mpsc::unbounded_channel();
                    line = Some((connection, write));
                    let shared = Arc::clone(&shared);
                    match transport {
                        Transport::WebSocket => {
                            tokio::spawn(websocket::carry(shared, connection, address, token, frames));
                        }
                        #[cfg(feature = "http")]
                        Transport::Stream => {
                            tokio::spawn(crate::stream::carry(shared, connection, address, token, frames));
                        }
                        #[cfg(not(feature = "http"))]
                        Transport::Stream => unreachable!("only chosen where there is the feature `http`"),
                    }
                }
                Io::Write { connection, frame } => {
                    if let Some((present, write)) = &line
                        && *present == connection
                    {
                        // One that just ended is told of by its own task.
                        let _ = write.send(frame);
                    }
                }
                Io::Close { connection } => line = line.filter(|(present, _)| *present != connection),
                Io::Token { attempt, why } => {
                    if let Token::Source(source) = &shared.options.token {
                        let (token, shared) = (source(why), Arc::clone(&shared));
                        tokio::spawn(async move {
                            let token = token.await;
                            shared.with(|core| core.token_came(attempt, why, token));
                        });
                    }
                }
                // It ends only after this does.
                Io::Store(op) => drop(ops.send(op)),
            }
        }
        if over {
            break;
        }
        let sleep = async {
            match at {
                Some(at) => tokio::time::sleep_until((shared.began + at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep => {}
        }
        let now = (Instant::now(), SystemTime::now());
        let passed = now.0 - clocks.0;
        let on_wall = now.1.duration_since(clocks.1).unwrap_or_default();
        clocks = now;
        if passed.abs_diff(on_wall) > JUMP {
            shared.with(Core::woke);
        }
    }
    drop((line, ops));
    let _ = storage.await;
    shared.ended.send_replace(true);
}

/// Does what the storage is asked for, one thing after the other.
async fn store(
    shared: Arc<Shared>,
    mut storage: Option<Arc<dyn OutboxStorage>>,
    mut waiting: mpsc::UnboundedReceiver<Op>,
) {
    let mut ops = Vec::new();
    loop {
        ops.clear();
        if waiting.recv_many(&mut ops, 256).await == 0 {
            return;
        }
        let Some(medium) = storage.clone() else {
            if ops.iter().any(|op| matches!(op, Op::Load(_))) {
                shared.with(|core| core.loaded(Vec::new()));
            }
            continue;
        };
        let batch = std::mem::take(&mut ops);
        let work = tokio::task::spawn_blocking(move || -> std::io::Result<Option<Vec<StoredMessage>>> {
            let mut found = None;
            for op in batch {
                match op {
                    Op::Load(user) => found = Some(medium.load(&user)?),
                    Op::Put(message) => medium.put(&message)?,
                    Op::Remove { user, room, id } => medium.remove(&user, &room, &id)?,
                }
            }
            Ok(found)
        });
        // A store that never answers is one that failed.
        let why = match tokio::time::timeout(STORAGE_PATIENCE, work).await {
            Ok(Ok(Ok(found))) => {
                if let Some(found) = found {
                    shared.with(|core| core.loaded(found));
                }
                continue;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        storage = None;
        shared.with(|core| core.storage_failed(&why));
    }
}
