//! `roundtable backup` on both stores: a copy of a store that is written to, its loss, the way back, and damage that is
//! noticed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::node::{self, Node};
use crate::support::person::Person;
use crate::support::postgres::Postgres;
use crate::support::until;

/// `roundtable backup …` on the store of `url`: what it printed, or the one line that it refused with.
async fn backup(url: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = node::command(&[("store.url", url), ("auth.jwt.secret", "")]);
    command.arg("backup").args(arguments);
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    Err(text(&output.stderr))
}

/// Every entry of the lobby.
async fn log(node: &Node) -> Vec<Value> {
    let mut reader = Person::at(node, "carol").await;
    let head = reader.resumes("lobby", 0).await["head"].as_u64().expect("a head");
    reader.sees_entry("lobby", head).await;
    reader.seen("lobby").to_vec()
}

struct Copied {
    /// As long as somebody needs its folder.
    _dir: tempfile::TempDir,
    folder: PathBuf,
    /// The log when all was over: what was copied is its beginning.
    log: Vec<Value>,
}

impl Copied {
    fn folder(&self) -> &str {
        self.folder.to_str().expect("text")
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("manifest.json")).expect("there")).expect("JSON")
    }
}

/// A node that is written to while its store is copied; it has ended afterwards.
async fn copied(node: &Node, url: &str) -> Copied {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut alice = Person::at(node, "alice").await;
    alice.opens(node, "lobby").await;
    for n in 0..200 {
        alice.sends("lobby", &format!("a{n}"), &format!("before {n} – 前")).await;
    }
    alice.does(json!({"type": "edit", "room": "lobby", "target": 5, "text": "edited"})).await;
    alice.does(json!({"type": "react", "room": "lobby", "target": 6, "emoji": "👍", "active": true})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut bob = Person::at(node, "bob").await;
    bob.joins("lobby").await;
    let written = Arc::new(AtomicUsize::new(0));
    let writing = tokio::spawn({
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let n = written.fetch_add(1, Ordering::Relaxed);
                bob.sends("lobby", &format!("b{n}"), &format!("while it is copied {n}")).await;
            }
        }
    });
    until("bob has written", || async { (written.load(Ordering::Relaxed) > 1).then_some(()) }).await;
    let target = dir.path().join("copies");
    let made = backup(url, &["make", target.to_str().expect("text")]).await.expect("a copy");
    stop.store(true, Ordering::Relaxed);
    writing.await.expect("no panic");
    let folder = PathBuf::from(made);
    assert_eq!(folder.parent(), Some(&*target));
    let counted = backup(url, &["check"]).await.expect("whole");
    assert!(counted.contains("every log is whole: 1 rooms"), "{counted}");
    let log = log(node).await;
    Copied { _dir: dir, folder, log }
}

/// A node on what was restored has the beginning of the log, whole, and goes on behind it.
async fn is_back(copied: &Copied, node: &Node) {
    let found = log(node).await;
    let entries = copied.manifest()["census"]["entries"].as_u64().expect("a number") as usize;
    assert!(found.len() == entries && entries > 203, "{} of {entries}", found.len());
    assert_eq!(found[..], copied.log[..entries]);
    let mut alice = Person::at(node, "alice").await;
    assert_eq!(alice.sends("lobby", "after", "and on").await, entries as u64 + 1);
}

/// One bit of the copy turned over.
fn damage(copied: &Copied) {
    let path = copied.folder.join(copied.manifest()["file"].as_str().expect("a name"));
    let mut bytes = std::fs::read(&path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("written");
}

/// The metric of the age knows of the copy, once that is noted.
async fn is_noted(copied: &Copied, node: &Node, url: &str) {
    let metric = "roundtable_backup_taken_timestamp_seconds";
    assert_eq!(node.metric(metric).await, 0.0);
    let said = backup(url, &["note", copied.folder()]).await.expect("noted");
    assert!(said.contains(copied.manifest()["taken_at"].as_str().expect("a time")), "{said}");
    until("it is known", || async { (node.metric(metric).await > 1.7e9).then_some(()) }).await;
}

#[tokio::test]
async fn sqlite_comes_back() {
    let node = Node::alone().await;
    let path = node.path("data/roundtable.db");
    let url = format!("sqlite://{}", path.display());
    let copied = copied(&node, &url).await;
    is_noted(&copied, &node, &url).await;
    drop(node);
    // Over what is there nothing is restored.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = dir.path().join("new/roundtable.db");
    let new = format!("sqlite://{}", place.display());
    std::fs::create_dir(dir.path().join("new")).expect("made");
    std::fs::write(&place, "something").expect("written");
    let refused = backup(&new, &["restore", copied.folder()]).await.expect_err("it is there");
    assert!(refused.contains("is there already"), "{refused}");
    std::fs::remove_file(&place).expect("removed");
    let said = backup(&new, &["restore", copied.folder()]).await.expect("restored");
    assert!(said.starts_with("restored the state of 20"), "{said}");
    is_back(&copied, &Node::with(&[("store.url", &new)]).await).await;

    // A log with a gap is neither whole nor copied.
    let database = rusqlite::Connection::open(&place).expect("the file is there");
    database.execute("DELETE FROM entries WHERE seq = 7", []).expect("deleted");
    drop(database);
    let gap = backup(&new, &["check"]).await.expect_err("a gap");
    assert!(gap.contains("lobby: "), "{gap}");
    let copies = dir.path().join("copies");
    let refused = backup(&new, &["make", copies.to_str().expect("text")]).await.expect_err("a gap");
    assert!(refused.contains("lobby: "), "{refused}");
    assert_eq!(std::fs::read_dir(&copies).expect("there").count(), 0, "nothing is left of it");

    damage(&copied);
    let other = format!("sqlite://{}", dir.path().join("other.db").display());
    let refused = backup(&other, &["restore", copied.folder()]).await.expect_err("damaged");
    assert!(refused.contains("is damaged"), "{refused}");
    assert!(!dir.path().join("other.db").exists());
}

#[tokio::test]
async fn over_tls_alone_where_the_url_says_so() {
    let (server, authority, other) = (Postgres::start().await, Authority::new(), Authority::new());
    let url = server.database().await;
    let (certificate, key, _) = authority.pair(30);
    server.demands_tls(&certificate, &key).await;
    let by = |authority: &Authority| format!("{url}?sslmode=verify-full&sslrootcert={}", authority.root_file());
    let (good, bad) = (by(&authority), by(&other));
    let node = Node::with(&[("store.url", &good)]).await;
    copied(&node, &good).await;
    assert!(node.metric("roundtable_store_up").await > 0.0);
    let elsewhere = format!("{}&hostaddr=127.0.0.1", good.replace("@127.0.0.1", "@elsewhere.example"));
    for (url, why) in [(&url, "no encryption"), (&bad, "invalid peer certificate"), (&elsewhere, "not valid for name")]
    {
        let refused = backup(url, &["check"]).await.expect_err("no way in");
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn postgres_comes_back() {
    let server = Postgres::shared().await;
    let url = server.database().await;
    let node = Node::with(&[("store.url", &url)]).await;
    let copied = copied(&node, &url).await;
    is_noted(&copied, &node, &url).await;
    drop(node);
    let refused = backup(&url, &["restore", copied.folder()]).await.expect_err("it is not empty");
    assert!(refused.contains("not empty"), "{refused}");
    let new = server.database().await;
    backup(&new, &["restore", copied.folder()]).await.expect("restored");
    is_back(&copied, &Node::with(&[("store.url", &new)]).await).await;

    let (client, connection) = tokio_postgres::connect(&new, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.execute("DELETE FROM entries WHERE seq = 7", &[]).await.expect("deleted");
    let gap = backup(&new, &["check"]).await.expect_err("a gap");
    assert!(gap.contains("lobby: "), "{gap}");

    // Of what can't be restored nothing is left, so that it can be tried again.
    let empty = server.database().await;
    let manifest = copied.folder.join("manifest.json");
    let honest = std::fs::read_to_string(&manifest).expect("there");
    std::fs::write(&manifest, honest.replace("\"entries\": ", "\"entries\": 1")).expect("written");
    let refused = backup(&empty, &["restore", copied.folder()]).await.expect_err("other counts");
    assert!(refused.contains("is not what was copied"), "{refused}");
    std::fs::write(&manifest, honest).expect("written");
    damage(&copied);
    let another = server.database().await;
    let refused = backup(&another, &["restore", copied.folder()]).await.expect_err("damaged");
    assert!(refused.contains("is damaged"), "{refused}");
    let (client, connection) = tokio_postgres::connect(&another, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let tables = client.query("SELECT 1 FROM pg_tables WHERE schemaname = 'public'", &[]).await.expect("an answer");
    assert!(tables.is_empty());
}

#[tokio::test]
async fn what_is_no_backup_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite://{}", dir.path().join("a.db").display());
    let folder = dir.path().to_str().expect("text");
    let refused = async |arguments: &[&str]| backup(&url, arguments).await.expect_err("refused");
    assert!(refused(&["restore", folder]).await.contains("manifest.json: No such file"));
    assert!(refused(&["make", folder]).await.contains("there is no such database"));
    assert!(refused(&["check"]).await.contains("there is no such database"));
    let write = |text: &str| std::fs::write(dir.path().join("manifest.json"), text).expect("written");
    write("{}");
    assert!(refused(&["restore", folder]).await.contains("no manifest of a backup"));
    let census = json!({"schema": 1, "tables": {}, "rooms": 0, "entries": 0, "heads": "", "digest": ""});
    let manifest = |format: u32, file: &str| {
        json!({"format": format, "release": "0", "store": "sqlite", "taken_at": "", "file": file, "bytes": 0, "sha256": "",
               "census": census})
        .to_string()
    };
    write(&manifest(2, "x"));
    assert!(refused(&["restore", folder]).await.contains("of format 2"));
    for outside in ["../x", "/etc/passwd", "a/b", ".."] {
        write(&manifest(1, outside));
        assert!(refused(&["restore", folder]).await.contains("a name in the same folder"), "{outside}");
    }
    assert!(!Path::new(folder).join("a.db").exists());
}

/// `docker/backup/backups` with the program of the tests: what it printed, or what it said when it failed.
async fn script(url: &str, folder: &Path, arguments: &[&str], more: &[(&str, &str)]) -> Result<String, String> {
    let mut command = std::process::Command::new("docker/backup/backups");
    let programs = Path::new(node::PROGRAM).parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    command.args(arguments).env_clear().env("PATH", format!("{programs}:{path}")).env("HOME", folder);
    command.env("ROUNDTABLE__STORE__URL", url).env("BACKUP_FOLDER", folder.join("kept"));
    command.envs(more.iter().copied()).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Make, lose, restore; encrypted and by way of another place.
async fn comes_back_by_the_script(url: &str, new: &str, another: &str) {
    let node = Node::with(&[("store.url", url)]).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    for n in 0..50 {
        alice.sends("lobby", &format!("a{n}"), "plugh").await;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = dir.path();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (secret, wrong) = (write("secret", "correct horse"), write("wrong", "battery staple"));
    let remote = folder.join("remote").display().to_string();
    let settings = [("BACKUP_PASSPHRASE_FILE", &*secret), ("BACKUP_REMOTE", &*remote), ("BACKUP_KEEP_DAYS", "7")];
    // Two old ones, of which nothing is left afterwards; two of one day, of which the later stays; two of the last hours; and
    // one that is not ours.
    let days_ago = |days: i64| (time::OffsetDateTime::now_utc() - time::Duration::days(days)).date();
    let names = |days: i64| [1, 2].map(|hour| format!("{}T{hour:02}0000Z.tar", days_ago(days)));
    let [superfluous, stays] = names(4);
    let [one, other] = names(1);
    for place in ["kept", "remote"] {
        std::fs::create_dir_all(folder.join(place)).expect("made");
        let old = ["2020-01-01T000000Z.tar.gpg", "2020-01-02T000000Z.tar", "others.tar"];
        for name in old.into_iter().chain([&*superfluous, &stays, &one, &other]) {
            write(&format!("{place}/{name}"), "old");
        }
    }
    // What a run left that was killed.
    std::fs::create_dir(folder.join("kept/.work.left")).expect("made");
    write("kept/2020-01-03T000000Z.tar.gpg.part", "half");
    let made = script(url, folder, &["make"], &settings).await.expect("made");
    assert!(made.starts_with("20") && made.ends_with("Z.tar.gpg"), "{made}");
    for place in ["kept", "remote"] {
        let there = std::fs::read_dir(folder.join(place)).expect("there").map(|file| file.expect("one").file_name());
        let mut there: Vec<_> =
            there.map(|name| name.into_string().expect("text")).filter(|name| name != ".lock").collect();
        there.sort();
        assert_eq!(there, [&*stays, &one, &other, &made, "others.tar"], "{place}");
        let bytes = std::fs::read(folder.join(place).join(&made)).expect("there");
        assert!(!bytes.windows(5).any(|window| window == b"plugh" || window == b"PGDMP"), "{place} is encrypted");
    }
    let rehearsed: Value =
        serde_json::from_str(&script(url, folder, &["rehearse"], &settings).await.expect("done")).expect("JSON");
    assert!(rehearsed["bytes"].as_u64() > Some(1000), "{rehearsed}");
    for seconds in ["lost_s", "make_s", "restore_s"] {
        assert!(rehearsed[seconds].as_f64() > Some(0.0), "{seconds} in {rehearsed}");
    }
    drop(node);
    let refused =
        script(new, folder, &["restore"], &[("BACKUP_REMOTE", &remote), ("BACKUP_PASSPHRASE_FILE", &wrong)]).await;
    assert!(refused.as_ref().is_err_and(|said| said.contains("another passphrase")), "{refused:?}");
    let said = script(new, folder, &["restore"], &settings).await.expect("restored");
    assert!(said.contains("1 rooms, 50 entries"), "{said}");
    assert_eq!(log(&Node::with(&[("store.url", new)]).await).await.len(), 50);
    // A flipped bit is noticed before anything is restored.
    let path = folder.join("remote").join(&made);
    let mut bytes = std::fs::read(&path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let refused = script(another, folder, &["restore", &made], &settings).await.expect_err("damaged");
    assert!(refused.contains("damaged"), "{refused}");
}

#[tokio::test]
async fn the_script_brings_postgres_back() {
    let server = Postgres::shared().await;
    let (url, new, another) = (server.database().await, server.database().await, server.database().await);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    // As left by a run that was killed long ago.
    client.batch_execute("CREATE DATABASE roundtable_verify_1700000000_1").await.expect("a database");
    comes_back_by_the_script(&url, &new, &another).await;
    let scratch = "SELECT 1 FROM pg_database WHERE datname LIKE 'roundtable_verify_%'";
    assert!(client.query(scratch, &[]).await.expect("an answer").is_empty(), "scratch databases are dropped");
}

#[tokio::test]
async fn the_script_brings_sqlite_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = |name: &str| format!("sqlite://{}", dir.path().join(name).display());
    comes_back_by_the_script(&url("a.db"), &url("b.db"), &url("c.db")).await;
}
