//! What both stores' index of texts have in common: which rooms have news, what a message's row says, and what a search
//! asks of the index.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::domain::search::fold::fold;
use crate::domain::search::{mark, terms};
use crate::entry::RoomKind;
use crate::ids::UserId;
use crate::ports::{Appended, RoomAppend, RoomNo, Search, StoreError};

/// Rooms with news that are remembered at most; others are found by the sweep.
const NEWS: usize = 100_000;
/// Longest wait for another's search to end.
const TURN_WITHIN: Duration = Duration::from_secs(1);
/// Own private rooms that a search names one by one; of somebody with more of them it looks through the newest matches in
/// all private rooms.
pub const OWN_ROOMS: usize = 64;

/// Rooms that were committed to since they were last asked for. In memory alone: after a crash the sweep finds them.
#[derive(Debug, Default)]
pub struct News(Mutex<HashSet<i64>>);

impl News {
    fn rooms(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the rooms of a batch that were not fenced.
    pub fn note(&self, rooms: &[RoomNo], done: &[Appended]) {
        let mut news = self.rooms();
        for (no, _) in rooms.iter().zip(done).filter(|(_, done)| **done != Appended::Fenced) {
            if news.len() >= NEWS {
                return;
            }
            news.insert(no.0);
        }
    }

    /// Takes some rooms.
    pub fn take(&self, most: usize) -> Vec<i64> {
        let mut news = self.rooms();
        let some: Vec<i64> = news.iter().copied().take(most).collect();
        for no in &some {
            news.remove(no);
        }
        if news.is_empty() {
            news.shrink_to(1_024);
        }
        some
    }

    /// Gives rooms back that are not done.
    pub fn give_back(&self, some: impl IntoIterator<Item = i64>) {
        self.rooms().extend(some);
    }
}

/// The rooms of a batch, in order.
pub fn rooms_of(batch: &[RoomAppend]) -> Vec<RoomNo> {
    batch.iter().map(|room| room.no).collect()
}

/// Keeps searches from taking all of a store's connections or threads.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Turns {
    /// `most` at a time.
    pub fn new(most: usize) -> Self {
        Self(Semaphore::new(most))
    }

    /// # Errors
    /// [`StoreError::Unavailable`] where others take too long.
    pub async fn take(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        match tokio::time::timeout(TURN_WITHIN, self.0.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(StoreError::Unavailable("too many searches at once".into())),
        }
    }
}

/// A room whose log is brought into the index. Entries of rooms whose texts are encrypted at rest are passed over, so that no
/// text of theirs is in the index in the clear.
#[derive(Clone, Debug)]
pub struct Indexed {
    pub no: i64,
    pub kind: RoomKind,
    /// Of a direct room, the two.
    pub two: Vec<UserId>,
}

impl Indexed {
    /// A message as the index holds it: the folded text, and the terms under which it is found, with blanks between.
    pub fn row(&self, id: i64, user: &UserId, text: &str) -> (String, String) {
        let body = fold(text);
        let mut said = vec![mark::room(self.no), mark::sender(user)];
        said.extend(mark::bands(id));
        match self.kind {
            RoomKind::Public => said.push(mark::OPEN.to_owned()),
            RoomKind::Private => said.push(mark::CLOSED.to_owned()),
            RoomKind::Direct => said.extend(self.two.iter().map(mark::direct)),
        }
        said.extend(terms::terms(&body).into_iter().map(str::to_owned));
        (body, said.join(" "))
    }
}

/// What the marks let somebody find; what they may read is asked of the room's record and members besides.
pub enum Sight {
    /// Whatever there is.
    All,
    /// This room.
    Room(i64),
    /// Public rooms, their direct rooms, and their private ones: more than [`OWN_ROOMS`] stand for all.
    Own(UserId, Vec<i64>),
}

impl Sight {
    /// Whether what is found must be sifted for what the asker may read.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Own(_, rooms) if rooms.len() > OWN_ROOMS)
    }
}

/// Every line holds alternatives, of which a message must have one.
pub type Clauses = Vec<Vec<String>>;

/// What messages must have: these terms, and what was asked for besides.
pub fn clauses(search: &Search, sight: &Sight, terms: &[&str]) -> Clauses {
    let mut all: Clauses = terms.iter().map(|&term| vec![term.to_owned()]).collect();
    all.extend(search.from.as_ref().map(|from| vec![mark::sender(from)]));
    if let Sight::Room(no) = sight {
        all.push(vec![mark::room(*no)]);
    }
    all
}

/// What messages that the asker may read have one of; `None`: nothing in common.
pub fn readable(sight: &Sight) -> Option<Vec<String>> {
    let Sight::Own(asker, rooms) = sight else { return None };
    let mut any = vec![mark::OPEN.to_owned(), mark::direct(asker)];
    if sight.is_wide() {
        any.push(mark::CLOSED.to_owned());
    } else {
        any.extend(rooms.iter().map(|&no| mark::room(no)));
    }
    Some(any)
}

/// The clauses in a store's own language: terms within `quote`s, and what stands between them.
pub fn say(clauses: &Clauses, quote: char, and: &str, or: &str) -> String {
    let quoted = |term: &String| format!("{quote}{term}{quote}");
    let clause = |any: &Vec<String>| format!("({})", any.iter().map(quoted).collect::<Vec<_>>().join(or));
    clauses.iter().map(clause).collect::<Vec<_>>().join(and)
}
