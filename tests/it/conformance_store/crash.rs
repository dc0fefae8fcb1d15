//! The store is killed while appends are under way: what was acknowledged is there afterwards, once, without a gap.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use roundtable::entry::Body;
use roundtable::ids::Seq;
use roundtable::ports::{Outcome, StoreError};

use super::*;

/// Where [`appends_until_it_is_killed`] finds its file.
const CHILD_FILE: &str = "ROUNDTABLE_TEST_CRASH_FILE";

/// Every acknowledged message is at its place; the rest of the log is what was in flight.
fn check(log: &[Entry], acked: &BTreeMap<Seq, String>) {
    for (seq, id) in acked {
        let entry = log.get(*seq as usize - 1).unwrap_or_else(|| panic!("entry {seq} was acknowledged and is lost"));
        let Body::Message(message) = &entry.body else { panic!("not a message: {entry:?}") };
        assert_eq!(message.id.as_str(), id, "entry {seq} is another one");
    }
    let mut ids: Vec<&str> = log
        .iter()
        .filter_map(|entry| match &entry.body {
            Body::Message(message) => Some(message.id.as_str()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "a message is there twice");
}

#[tokio::test]
async fn postgres_killed_under_appends_keeps_what_it_acknowledged() {
    let server = Postgres::start().await;
    let b = Arc::new(Backend::on(server.database().await).await);
    for round in 0..3 {
        let mut lanes = tokio::task::JoinSet::new();
        let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
        for lane in 0..4 {
            let name = format!("r{round}-{lane}");
            let room = b.room(&name).await;
            let count = count.clone();
            lanes.spawn(async move {
                let mut acked = BTreeMap::new();
                for n in 0.. {
                    let ids: Vec<String> = (0..5).map(|part| format!("{n}-{part}")).collect();
                    let mut items: Vec<_> = ids.iter().map(|id| says("alice", id, &"x".repeat(200))).collect();
                    if lane == 3 {
                        items.push(item("alice", AT, Change::React { target: 1, emoji: n.to_string(), active: true }));
                    }
                    match room.store.append(vec![room.part(items)]).await {
                        Ok(results) => {
                            let Appended::Done(outcomes) = &results[0] else { panic!("nobody else opened it") };
                            for (id, outcome) in ids.into_iter().zip(outcomes) {
                                let Outcome::Appended { seq, .. } = *outcome else { panic!("{outcome:?}") };
                                acked.insert(seq, id);
                            }
                            let _ = count.send(());
                        }
                        Err(StoreError::Unavailable(_)) => break,
                        Err(fault) => panic!("{fault}"),
                    }
                }
                (name, acked)
            });
        }
        for _ in 0..100 {
            counted.recv().await.expect("the lanes work");
        }
        server.stop_hard().await;
        let lanes = lanes.join_all().await;
        server.start_again().await;
        for (name, acked) in lanes {
            check(&b.log(&name).await, &acked);
            // The append in doubt is either there or never will be; the same store goes on.
            let room = b.open(&name).await;
            let head = room.opened.room.head;
            assert_eq!(room.append(vec![says("alice", "after", "hi")]).await, [appended(head + 1)]);
        }
    }
}

/// Not a test by itself: what the next one starts as a process of its own and kills.
#[tokio::test]
async fn appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store: Arc<dyn MessageStore> = Arc::new(SqliteStore::open(Path::new(&path)).expect("nobody else has it open"));
    let opened = store.open_room(&room_id("one"), 0).await.expect("the store is there").expect("the room is there");
    let room = Owned { store, no: opened.no, epoch: opened.epoch, opened };
    for n in 0.. {
        let ids: Vec<String> = (0..5).map(|part| format!("{}-{n}-{part}", room.epoch.0)).collect();
        let items = ids.iter().map(|id| says("alice", id, &"x".repeat(200))).collect();
        let mut said = String::new();
        for (id, outcome) in ids.iter().zip(room.append(items).await) {
            let Outcome::Appended { seq, .. } = outcome else { panic!("{outcome:?}") };
            said.push_str(&format!("\nacked {seq} {id}\n"));
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(said.as_bytes()).and_then(|()| stdout.flush()).expect("somebody listens");
    }
}

#[tokio::test]
async fn sqlite_killed_under_appends_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("roundtable.db");
    let mut acked = BTreeMap::new();
    {
        let store = Arc::new(SqliteStore::open(&path).expect("a new file"));
        store.migrate().await.expect("a fresh database");
        store.create_room(&public("one"), &user("alice"), None).await.expect("the store is there");
    }
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "conformance_store::crash::appends_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD_FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs again");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        for line in lines.by_ref() {
            let line = line.expect("text");
            if let Some((seq, id)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' ')) {
                acked.insert(seq.parse().expect("a seq"), id.to_owned());
            }
            if acked.len() >= round * 300 {
                break;
            }
        }
        assert!(SqliteStore::open(&path).is_err(), "one process a file");
        child.kill().expect("it still runs");
        child.wait().expect("it was killed");
        // What it said before it died counts as well; the last line may be torn.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        for line in rest {
            if let Some((seq, id)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' ')) {
                acked.insert(seq.parse().expect("a seq"), id.to_owned());
            }
        }
        let store = SqliteStore::open(&path).expect("its lock died with it");
        check(&whole_log(&store, "one").await, &acked);
    }
}
