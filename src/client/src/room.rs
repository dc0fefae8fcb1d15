//! A room: a cursor over its log that survives everything, and what one can do there.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::client::Handle;
use crate::core::{Act, Answer, Draft, RoomState, Subscribe, Told};
use crate::driver::Waits;
use crate::error::{Code, Error};
use crate::frames::{History, Sent, Subscribed};

/// What of a room is outside of the core: the entries that the application has not taken.
#[derive(Debug)]
pub(crate) struct Shelf {
    queue: Mutex<Queue>,
    news: Notify,
    pub state: watch::Sender<RoomState>,
}

#[derive(Debug, Default)]
struct Queue {
    told: VecDeque<Told>,
    /// Raised by each subscribe: what was taken of an older one does not count.
    generation: u64,
    ended: bool,
}

impl Shelf {
    pub fn new() -> Self {
        Self { queue: Mutex::default(), news: Notify::new(), state: watch::Sender::new(RoomState::default()) }
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_waiters();
    }

    pub fn told(&self, told: Vec<Told>) {
        self.change(|queue| queue.told.extend(told));
    }

    pub fn void(&self) {
        self.change(|queue| *queue = Queue { generation: queue.generation + 1, ..Queue::default() });
    }

    pub fn ended(&self) {
        self.change(|queue| queue.ended = true);
    }
}

/// A room, as a client sees it. Cheap to clone, and the same for all of its clones.
#[derive(Clone)]
pub struct Room {
    pub(crate) id: Arc<str>,
    pub(crate) client: Arc<Handle>,
    pub(crate) shelf: Arc<Shelf>,
}

/// What goes with a message besides its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub text: String,
    /// Unique per room and sender, for ever; a random one where none is given.
    pub id: Option<String>,
    pub reply_to: Option<u64>,
    pub data: Option<Value>,
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// A message on its way: resolves when it is committed, or refused for good. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Sending {
    id: String,
    waits: Waits,
}

impl Sending {
    pub(crate) fn new(id: &str, waits: Waits) -> Self {
        Self { id: id.to_owned(), waits }
    }

    /// The message's id, known at once.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Future for Sending {
    type Output = Result<Sent, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.waits).poll(context).map(|result| match result? {
            Answer::Sent(sent) => Ok(sent),
            other => Err(unexpected(&other)),
        })
    }
}

pub(crate) fn unexpected(answer: &Answer) -> Error {
    Error::new(Code::Internal, format!("an answer to something else: {answer:?}"))
}

impl Room {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it is now.
    pub fn state(&self) -> RoomState {
        self.shelf.state.borrow().clone()
    }

    /// How it is, and each change (of several at once the last).
    pub fn watch(&self) -> watch::Receiver<RoomState> {
        self.shelf.state.subscribe()
    }

    /// Follows it over every reconnect, until [`Room::unsubscribe`] or the server ends it. The answer says how it began.
    /// Whoever subscribes reads [`Room::entries`]: unread, they pause the cursor at `Bounds::queued_entries`.
    ///
    /// # Errors
    /// A refusal for good (`not_found`, `forbidden`), `cancelled` by another subscribe, `closed`.
    pub async fn subscribe(&self, wanted: Subscribe) -> Result<Subscribed, Error> {
        let waits = self.client.ask(|core, ticket| core.subscribe(&self.id, wanted, ticket));
        match waits.await? {
            Answer::Subscribed(subscribed) => Ok(subscribed),
            other => Err(unexpected(&other)),
        }
    }

    pub fn unsubscribe(&self) {
        self.client.with(|core| core.unsubscribe(&self.id));
    }

    /// What is told of it, each entry once, in order, without a gap. Several streams of a room share its entries.
    pub fn entries(&self) -> Entries {
        Entries { room: self.clone(), handling: None }
    }

    /// Says something. It waits for a connection as long as it takes, and is repeated under its id until the server
    /// decides, whether the answer is waited for or not.
    pub fn send(&self, message: impl Into<Message>) -> Sending {
        let Message { text, id, reply_to, data } = message.into();
        let id = id.unwrap_or_else(crate::driver::random_id);
        let (room, at_ms) = (self.id.to_string(), crate::driver::wall_ms());
        let draft = Draft { room, id: id.clone(), text, reply_to, data, at_ms };
        Sending { id, waits: self.client.ask(|core, ticket| core.send(draft, ticket)) }
    }

    async fn act(&self, act: Act) -> Result<(Option<u64>, Option<String>), Error> {
        // Whoever lets go of the future takes the request back.
        let waits = self.client.ask(|core, ticket| core.act(&self.id, act, ticket)).or_cancel();
        match waits.await? {
            Answer::Ok { seq, role } => Ok((seq, role)),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes the text of one's own message; the entry's seq, none where nothing changed. Like `delete`, `react`, `join`
    /// and `leave` it waits for a connection and is repeated until it is decided, but does not outlive the process.
    ///
    /// # Errors
    /// A refusal for good, `queue_full`, `closed`.
    pub async fn edit(&self, target: u64, text: &str) -> Result<Option<u64>, Error> {
        self.act(Act::Edit { target, text: text.to_owned() }).await.map(|(seq, _)| seq)
    }

    /// # Errors
    /// As [`Room::edit`].
    pub async fn delete(&self, target: u64) -> Result<Option<u64>, Error> {
        self.act(Act::Delete { target }).await.map(|(seq, _)| seq)
    }

    /// # Errors
    /// As [`Room::edit`].
    pub async fn react(&self, target: u64, emoji: &str, active: bool) -> Result<Option<u64>, Error> {
        self.act(Act::React { target, emoji: emoji.to_owned(), active }).await.map(|(seq, _)| seq)
    }

    /// Becomes a member; one's role.
    ///
    /// # Errors
    /// As [`Room::edit`].
    pub async fn join(&self) -> Result<String, Error> {
        self.act(Act::Join).await.map(|(_, role)| role.unwrap_or_else(|| "member".to_owned()))
    }

    /// # Errors
    /// As [`Room::edit`].
    pub async fn leave(&self) -> Result<(), Error> {
        self.act(Act::Leave).await.map(drop)
    }

    async fn page(&self, bounds: (Option<u64>, Option<u64>, Option<u64>)) -> Result<History, Error> {
        match self.client.ask(|core, ticket| core.history(&self.id, bounds, ticket)).or_cancel().await? {
            Answer::History(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// The newest entries, in rising seq.
    ///
    /// # Errors
    /// A refusal for good, `timeout` after `Patience::read`, `queue_full`, `closed`.
    pub async fn history(&self, limit: Option<u64>) -> Result<History, Error> {
        self.page((None, None, limit)).await
    }

    /// # Errors
    /// As [`Room::history`].
    pub async fn history_before(&self, seq: u64, limit: Option<u64>) -> Result<History, Error> {
        self.page((Some(seq), None, limit)).await
    }

    /// # Errors
    /// As [`Room::history`].
    pub async fn history_after(&self, seq: u64, limit: Option<u64>) -> Result<History, Error> {
        self.page((None, Some(seq), limit)).await
    }

    /// Call it with each key; the others are told no more often than is useful. Not said at all without a connection.
    pub fn typing(&self, active: bool) {
        self.client.with(|core| core.typing(&self.id, active));
    }

    /// Raises one's read mark. Said again after a reconnect.
    pub fn read(&self, seq: u64) {
        self.client.with(|core| core.read(&self.id, seq));
    }
}

/// The entries of a room, with back pressure: one counts as taken when the next is asked for.
pub struct Entries {
    room: Room,
    /// The entry that the application is busy with.
    handling: Option<(u64, u64)>,
}

impl Entries {
    /// The next entry; none once the subscription has ended (a later subscribe makes it go on).
    pub async fn next(&mut self) -> Option<Told> {
        self.done();
        let shelf = Arc::clone(&self.room.shelf);
        let mut news = std::pin::pin!(shelf.news.notified());
        loop {
            // Told of what comes from here on, before looking.
            news.as_mut().enable();
            if let Some(found) = self.take() {
                return found;
            }
            news.as_mut().await;
            news.set(shelf.news.notified());
        }
    }

    /// What has come so far, without waiting.
    pub fn try_next(&mut self) -> Option<Told> {
        self.done();
        self.take().flatten()
    }

    fn take(&mut self) -> Option<Option<Told>> {
        let mut queue = self.room.shelf.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.told.pop_front() {
            Some(told) => {
                if let Told::Entry(entry) = &told {
                    self.handling = Some((queue.generation, entry.seq));
                }
                Some(Some(told))
            }
            None => queue.ended.then_some(None),
        }
    }

    fn done(&mut self) {
        let Some((generation, seq)) = self.handling.take() else { return };
        let present = self.room.shelf.queue.lock().unwrap_or_else(PoisonError::into_inner).generation;
        if generation == present {
            self.room.client.with(|core| core.taken(&self.room.id, 1, seq));
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.done();
    }
}
