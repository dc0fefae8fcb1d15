//! The Rust client against real nodes: what one does in a room, trouble on the way, and a long run under faults.

mod balance;
mod chaos;
mod rooms;
mod tls;
mod trouble;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundtable_client::frames::{Encoding, Entry};
use roundtable_client::{Client, Event, Options, Patience, Room, State, Told};
use tokio::sync::broadcast;

use crate::support::node::Node;
use crate::support::{person, tokens, until, within};

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

fn options(address: impl Into<String>, user: &str) -> Options {
    crate::support::provider();
    Options::new(address).token(tokens::of(user))
}

/// One that does not wait for long.
fn impatient(address: impl Into<String>, user: &str) -> Options {
    let s = Duration::from_secs;
    let patience = Patience { connect: s(3), pong: Duration::from_millis(1500), answer: s(3), ..Patience::default() };
    Options { patience, ..options(address, user) }
}

async fn online(options: Options) -> Client {
    let client = Client::new(options).expect("options");
    within("it is online", client.connect()).await.expect("a welcome");
    client
}

/// A client and a room that it owns.
async fn owner(node: &Node, user: &str, encoding: Encoding) -> (Client, Room) {
    let client = online(Options { encoding, ..options(node.http(), user) }).await;
    let id = format!("room-of-{user}");
    person::makes(node, user, &id).await;
    let room = client.room(&id);
    (client, room)
}

/// Waits until the client is as it should be.
async fn reaches(client: &Client, what: &str, fits: impl Fn(&State) -> bool) -> State {
    let mut state = client.state();
    within(what, state.wait_for(fits)).await.expect("the client is there").clone()
}

/// Waits for an event.
async fn happens(events: &mut broadcast::Receiver<Event>, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
    within(what, async {
        loop {
            let event = events.recv().await.expect("no event is missed");
            if fits(&event) {
                return event;
            }
        }
    })
    .await
}

/// Reads a room, and holds against the promise what it is told: each entry once, in order, no gap.
struct Reader {
    room: String,
    entries: Arc<Mutex<Vec<Entry>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Reader {
    fn of(room: &Room, after: u64) -> Self {
        let reader = Self { room: room.id().to_owned(), entries: Arc::default(), wrong: Arc::default() };
        let (all, wrong) = (Arc::clone(&reader.entries), Arc::clone(&reader.wrong));
        let mut told = room.entries();
        tokio::spawn(async move {
            let mut last = after;
            while let Some(told) = told.next().await {
                match told {
                    Told::Entry(entry) => {
                        if entry.seq != last + 1 {
                            wrong.lock().expect("whole").push(format!("{} after {last}", entry.seq));
                        }
                        last = entry.seq;
                        all.lock().expect("whole").push(*entry);
                    }
                    Told::Reset { from, head } => {
                        wrong.lock().expect("whole").push(format!("a reset from {from} to {head}"));
                        last = head;
                    }
                }
            }
        });
        reader
    }

    async fn sees(&self, seq: u64) {
        until(&format!("{seq} is seen in {}", self.room), || async {
            let all = self.entries.lock().expect("whole");
            all.last().is_some_and(|entry| entry.seq >= seq).then_some(())
        })
        .await;
    }

    #[track_caller]
    fn is_right(&self) {
        assert_eq!(*self.wrong.lock().expect("whole"), [""; 0], "{}", self.room);
    }

    fn all(&self) -> Vec<Entry> {
        self.entries.lock().expect("whole").clone()
    }

    /// The texts of one person, in their order.
    fn texts(&self, user: &str) -> Vec<String> {
        let mine = self.all().into_iter().filter(|entry| entry.user == user);
        mine.filter_map(|entry| entry.text().map(str::to_owned)).collect()
    }
}
