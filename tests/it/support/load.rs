//! Load with a memory: writers that repeat until they are answered, readers that come back until they have everything,
//! and at its end the judgement of the whole history.
//!
//! Invariant: a writer has one message under way and repeats it, with the same id, on any node, until it is answered.
//! So the order of its messages is known, and a message without an answer can only be its last.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::checker::{self, Sent};
use super::node::Node;
use super::person::{Encoding, Person};
use super::{tokens, until, within};

/// How long one try may take before it counts as unanswered: longer than the server's own deadline for a request.
const TRY: Duration = Duration::from_secs(6);

/// Writers and readers of one room, at work until [`Load::finish`].
pub struct Load {
    room: String,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Vec<Sent>>>,
    readers: Vec<JoinHandle<(String, Vec<Value>)>>,
    /// The head that readers must reach before they end; 0: not known yet.
    target: watch::Sender<u64>,
    /// What others than the writers have sent.
    others: Vec<Sent>,
}

struct Shared {
    urls: Vec<String>,
    stop: AtomicBool,
    /// When each acknowledgement came.
    acks: Mutex<Vec<Instant>>,
    /// Close codes of connections that were working.
    closes: Mutex<Vec<u16>>,
    /// Refusals that were not to be repeated, in words.
    failures: Mutex<Vec<String>>,
    /// Codes of refusals that were repeated.
    retried: Mutex<Vec<String>>,
}

/// What the load saw.
pub struct Report {
    /// Entries in the log.
    pub entries: usize,
    /// Close codes of connections that ended before the load did.
    pub closes: Vec<u16>,
    /// Codes of refusals after which the same message was sent again.
    pub retried: Vec<String>,
}

impl Load {
    /// `writers` and `readers` people in a public room that is there already, spread over the nodes of `urls`.
    pub async fn start(urls: Vec<String>, room: &str, writers: usize, readers: usize) -> Self {
        let shared = Arc::new(Shared {
            urls,
            stop: AtomicBool::new(false),
            acks: Mutex::default(),
            closes: Mutex::default(),
            failures: Mutex::default(),
            retried: Mutex::default(),
        });
        let (target, _) = watch::channel(0);
        let load = Self {
            room: room.to_owned(),
            writers: (0..writers).map(|n| tokio::spawn(write(shared.clone(), room.to_owned(), n))).collect(),
            readers: (0..readers)
                .map(|n| tokio::spawn(read(shared.clone(), room.to_owned(), n, target.subscribe())))
                .collect(),
            shared,
            target,
            others: Vec::new(),
        };
        load.until_acks(10 * writers).await;
        load
    }

    /// How many acknowledgements came so far.
    pub fn acks(&self) -> usize {
        lock(&self.shared.acks).len()
    }

    /// Waits until `n` more acknowledgements have come.
    pub async fn until_acks(&self, n: usize) {
        let goal = self.acks() + n;
        until(&format!("{n} more acknowledgements"), || async { (self.acks() >= goal).then_some(()) }).await;
    }

    /// Adds to the judgement what somebody else has sent to the room, in the order of their sends.
    #[cfg(feature = "seeded-bugs")]
    pub fn also_sent(&mut self, sent: Sent) {
        self.others.push(sent);
    }

    /// Lets the load go on for as long as a fault is meant to last.
    pub async fn goes_on_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Time from `since` to the first acknowledgement after it; waits for that.
    pub async fn first_ack_after(&self, since: Instant) -> Duration {
        until("an acknowledgement", || async { lock(&self.shared.acks).iter().find(|at| **at > since).copied() })
            .await
            .duration_since(since)
    }

    /// Longest time without an acknowledgement from `since` until now.
    pub fn longest_pause_since(&self, since: Instant) -> Duration {
        let acks = lock(&self.shared.acks);
        let times = acks.iter().filter(|at| **at > since).copied().chain([Instant::now()]);
        longest(since, times)
    }

    /// Ends the writers, lets the readers reach the head, reads the log at `node` and judges all of it.
    pub async fn finish(self, node: &Node) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sent = self.others;
        for writer in self.writers {
            sent.extend(within("a writer ends", writer).await.expect("the writer did not panic"));
        }
        let log = whole_log(node, &self.room).await;
        self.target.send_replace(log.len() as u64);
        let mut seen = Vec::new();
        for reader in self.readers {
            seen.push(within("a reader reaches the head", reader).await.expect("the reader did not panic"));
        }
        for (reader, entries) in &seen {
            assert_eq!(entries.len(), log.len(), "{reader} has not seen everything");
        }
        let failures = lock(&self.shared.failures);
        assert!(failures.is_empty(), "sends failed for good: {failures:?}");
        let entries = checker::check(&log, &sent, &seen);
        Report { entries, closes: lock(&self.shared.closes).clone(), retried: lock(&self.shared.retried).clone() }
    }
}

/// The whole log of a room, read page by page.
pub async fn whole_log(node: &Node, room: &str) -> Vec<Value> {
    let mut auditor = Person::at(node, "auditor").await;
    let mut log = Vec::new();
    loop {
        let after = log.len();
        let page = auditor.history(room, json!({"after": after, "limit": 200})).await;
        let entries = page["events"].as_array().expect("entries");
        log.extend(entries.iter().cloned());
        if page["more"] != true {
            return log;
        }
        assert!(!entries.is_empty(), "more, but none came");
    }
}

async fn write(shared: Arc<Shared>, room: String, index: usize) -> Vec<Sent> {
    let user = format!("writer-{index}");
    let mut sent = Vec::new();
    let mut connection = None;
    let mut next_url = index;
    while !shared.stop.load(Ordering::Relaxed) {
        let id = format!("m{}", sent.len() + 1);
        let text = format!("{user} says {id}");
        let request = json!({"type": "send", "room": room, "id": id, "text": text});
        let give_up = Instant::now() + super::PATIENCE;
        let mut seq = None;
        while seq.is_none() && Instant::now() < give_up {
            if connection.is_none() {
                connection = connect(&shared, &user, &mut next_url, &json!({"type": "join", "room": room})).await;
            }
            let Some(person) = &mut connection else { continue };
            match ask(person, &request).await {
                Some(answer) if answer["type"] == "sent" => {
                    lock(&shared.acks).push(Instant::now());
                    seq = answer["seq"].as_u64();
                }
                Some(error) if error["retryable"] == true => {
                    lock(&shared.retried).push(error["code"].as_str().unwrap_or_default().to_owned());
                    let after = error["retry_after_ms"].as_u64().unwrap_or(100);
                    tokio::time::sleep(Duration::from_millis(after)).await;
                }
                Some(error) => {
                    lock(&shared.failures).push(format!("{request} → {error}"));
                    return sent;
                }
                None => {
                    note_close(&shared, person);
                    connection = None;
                }
            }
        }
        if seq.is_none() {
            lock(&shared.failures).push(format!("{request} was not answered within {:?}", super::PATIENCE));
        }
        sent.push(Sent { user: user.clone(), id, text, seq });
        // A pace that a busy machine can keep up with: the tests are about what is kept, not about how much.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    sent
}

async fn read(shared: Arc<Shared>, room: String, index: usize, target: watch::Receiver<u64>) -> (String, Vec<Value>) {
    let user = format!("reader-{index}");
    let mut seen: Vec<Value> = Vec::new();
    let mut next_url = index;
    loop {
        let subscribe = json!({"type": "subscribe", "room": room, "after": seen.len()});
        let Some(mut person) = connect(&shared, &user, &mut next_url, &subscribe).await else { continue };
        loop {
            let goal = *target.borrow();
            if goal > 0 && seen.len() + person.seen(&room).len() >= goal as usize {
                seen.extend_from_slice(person.seen(&room));
                return (user, seen);
            }
            // A short turn, so that the goal is looked at again.
            let turn = tokio::time::timeout(Duration::from_millis(50), person.read());
            if let Ok(None) = turn.await {
                break;
            }
        }
        seen.extend_from_slice(person.seen(&room));
        note_close(&shared, &person);
    }
}

/// Connects to the next node that takes us and makes one first request; `None` after a short wait where it did not work.
async fn connect(shared: &Shared, user: &str, next_url: &mut usize, first: &Value) -> Option<Person> {
    let url = &shared.urls[*next_url % shared.urls.len()];
    *next_url += 1;
    let attempt = async {
        let mut person = Person::upgraded(url, user, Encoding::Json, &[]).await.ok()?;
        let welcome = ask(&mut person, &json!({"type": "hello", "token": tokens::of(user)})).await?;
        if welcome["type"] != "welcome" {
            return None;
        }
        let answer = ask(&mut person, first).await?;
        (answer["type"] != "error").then_some(person)
    };
    let connected = tokio::time::timeout(TRY, attempt).await.ok().flatten();
    if connected.is_none() {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    connected
}

/// One request and its answer; `None` where the connection ended or nothing came in time.
async fn ask(person: &mut Person, request: &Value) -> Option<Value> {
    let n = person.starts(request.clone()).await;
    let answer = async {
        loop {
            let frame = person.read().await?;
            if frame["ref"] == n {
                return Some(frame);
            }
        }
    };
    tokio::time::timeout(TRY, answer).await.ok().flatten()
}

fn note_close(shared: &Shared, person: &Person) {
    if let Some(code) = person.close_code() {
        lock(&shared.closes).push(code);
    }
}

fn longest(start: Instant, times: impl Iterator<Item = Instant>) -> Duration {
    let mut last = start;
    let mut longest = Duration::ZERO;
    for at in times {
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    longest
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic while held")
}
