//! The store is away, comes back, and is brought up to date by many at once.

use std::time::Instant;

use roundtable::ports::StoreError;

use super::*;

fn away<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn postgres_away_is_said_at_once_and_is_used_again_when_it_is_back() {
    let server = Postgres::start().await;
    let url = server.database().await;
    server.stop_hard().await;

    // Made while the server is away.
    let store: Arc<dyn MessageStore> = Arc::new(PostgresStore::connect(&url, options()).expect("a PostgreSQL URL"));
    let asked = Instant::now();
    away(store.ping().await);
    away(store.migrate().await);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    let port = server.port();
    server.start_again().await;
    assert_eq!(server.port(), port, "the URL stays good");
    store.migrate().await.expect("it is back");
    let b = Backend { store, raw: Raw::Postgres(url) };
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1")]).await;

    server.stop_hard().await;
    let asked = Instant::now();
    away(b.store.ping().await);
    away(b.store.append(vec![room.part(vec![says("alice", "b", "2")])]).await);
    away(b.store.append(vec![room.part(vec![item("alice", AT, Change::Unban { user: user("bob") })])]).await);
    away(b.store.open_room(&room_id("one"), 1).await.map(|opened| opened.is_some()));
    away(b.store.page(&room_id("one"), Range::Newest, 1, 1).await.map(|page| page.more));
    away(b.store.raise_read_marks(&[(room_id("one"), user("alice"), 1)]).await);
    away(b.store.logins(&[[0; 32]], AT).await);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    server.start_again().await;
    let back = Instant::now();
    while b.store.ping().await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(1), "connections of before are not used");
    }
    assert_eq!(room.append(vec![says("alice", "c", "2")]).await, [appended(2)]);
    assert_eq!(b.log("one").await.len(), 2);
}

#[tokio::test]
async fn postgres_frozen_is_given_up_in_time_and_used_again_when_it_goes_on() {
    let server = Postgres::start().await;
    let b = Backend::on(server.database().await).await;
    let room = b.room("one").await;
    room.append(vec![says("alice", "a", "1")]).await;
    server.freeze();
    let asked = Instant::now();
    let one = room_id("one");
    let (fast, slow, read) = tokio::join!(
        b.store.append(vec![room.part(vec![says("alice", "b", "2")])]),
        b.store.append(vec![room.part(vec![item("alice", AT, Change::Unban { user: user("bob") })])]),
        b.store.page(&one, Range::Newest, 1, 1),
    );
    away(fast);
    away(slow);
    away(read.map(|page| page.more));
    assert!(asked.elapsed() < ANSWER_WITHIN + Duration::from_secs(2), "{:?}", asked.elapsed());
    server.thaw();
    // What was asked before may still be done now, or not at all; never twice, never after a newer owner came.
    let room = b.open("one").await;
    let head = room.opened.room.head;
    assert_eq!(room.append(vec![says("alice", "c", "3")]).await, [appended(head + 1)]);
    let log = b.log("one").await;
    assert_eq!(log.len() as Seq, head + 1);
    assert!(head <= 2, "{log:?}");
}

#[tokio::test]
async fn postgres_that_takes_no_connection_is_not_waited_for() {
    // A listener whose queue is never emptied: connections stand, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("postgres://x@{}/x", silent.local_addr().expect("it is bound"));
    let store = PostgresStore::connect(&url, options()).expect("a PostgreSQL URL");
    let asked = Instant::now();
    away(store.ping().await);
    away(store.migrate().await);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_wrong_url_is_said_without_its_password() {
    let wrong = PostgresStore::connect("postgres://alice:hunter2@host:notaport/db", options()).map(drop);
    let Err(StoreError::Fault(text)) = wrong else { panic!("{wrong:?}") };
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn postgres_is_migrated_once_by_however_many_nodes() {
    let url = Postgres::shared().await.database().await;
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = PostgresStore::connect(&url, options()).expect("a PostgreSQL URL");
        nodes.spawn(async move { store.migrate().await });
    }
    let mut ran: Vec<Vec<String>> =
        nodes.join_all().await.into_iter().map(|ran| ran.expect("a lock orders them")).collect();
    ran.sort_by_key(Vec::len);
    let (by_one, by_others) = ran.split_last().expect("six nodes");
    assert!(!by_one.is_empty());
    assert!(by_others.iter().all(Vec::is_empty), "{by_others:?}");
}

#[tokio::test]
async fn the_way_back_leads_back() {
    for b in [Backend::postgres().await, Backend::sqlite().await] {
        b.room("one").await.append(vec![says("alice", "a", "1")]).await;
        let back = ways_back(if b.raw.path().is_none() { "postgres" } else { "sqlite" }, 1);
        for way in &back {
            b.raw.execute(way).await;
        }
        assert_eq!(b.store.migrate().await.map(|ran| ran.len()), Ok(back.len()));
        b.room("one").await.append(vec![says("alice", "a", "1")]).await;
        assert_eq!(b.log("one").await.len(), 1, "everything was gone");
    }
}

/// The way back from each version of a store's schema down to `last`, the newest first.
pub(super) fn ways_back(store: &str, last: u32) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql").join(store);
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let version = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".down.sql")?;
        name.strip_prefix('V')?.split_once("__")?.0.parse::<u32>().ok()
    };
    let mut back: Vec<(u32, String)> = files
        .filter_map(|path| Some((version(&path)?, std::fs::read_to_string(&path).expect("a file of text"))))
        .collect();
    back.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    back.into_iter().take_while(|(version, _)| *version >= last).map(|(_, step)| step).collect()
}

#[tokio::test]
async fn sqlite_is_migrated_once_and_keeps_what_it_has() {
    let b = Backend::sqlite().await;
    b.room("one").await.append(vec![says("alice", "a", "1")]).await;
    assert_eq!(b.store.migrate().await, Ok(Vec::new()));
    let path = b.raw.path().expect("a file").to_owned();
    let taken = SqliteStore::open(&path).map(drop);
    assert!(matches!(&taken, Err(StoreError::Fault(text)) if text.contains("in use")), "{taken:?}");
    let Backend { store, raw } = b;
    drop(store);
    let store: Arc<dyn MessageStore> = Arc::new(SqliteStore::open(&path).expect("the lock was let go"));
    assert_eq!(store.migrate().await, Ok(Vec::new()));
    let b = Backend { store, raw };
    assert_eq!(b.log("one").await.len(), 1);
}

#[tokio::test]
async fn sqlite_makes_its_folders_and_refuses_what_is_no_database() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a/b/roundtable.db");
    let store = SqliteStore::open(&path).expect("folders are made");
    assert_eq!(store.ping().await, Ok(()));
    let text = dir.path().join("text.db");
    std::fs::write(&text, "this is no database, and long enough to be looked at as if it were one".repeat(20))
        .expect("a file");
    assert!(matches!(SqliteStore::open(&text).map(drop), Err(StoreError::Fault(_))));
}
