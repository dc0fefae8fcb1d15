//! Encryption at rest (docs/operations.md), against whole nodes and the program as an operator runs it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::node::{Node, PROGRAM};
use crate::support::person::Person;

const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "b:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// Whether some file in the folder holds this.
fn holds(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").path());
    files.filter(|path| path.is_file()).any(|path| {
        let bytes = std::fs::read(path).expect("readable");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn run(argument: &str, variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let variables = variables.iter().map(|(key, value)| (format!("ROUNDTABLE__{key}"), *value));
    let mut command = Command::new(PROGRAM);
    command.arg(argument).env_clear().envs(variables).current_dir(dir.path()).output().expect("the program runs")
}

#[tokio::test]
async fn an_encrypted_server_reads_rotates_and_refuses_to_start_without_its_keys() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, ring) = (dir.path().join("data"), dir.path().join("ring"));
    std::fs::create_dir(&data).expect("made");
    std::fs::write(&ring, format!("{A}\n")).expect("written");
    let url = format!("sqlite://{}", data.join("rooms.db").display());
    let ring_file = ring.display().to_string();
    let settings = [("store.url", &*url), ("encryption.rooms", "all"), ("encryption.keys_file", &*ring_file)];
    let node = Node::with(&settings).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.opens(&node, "lobby").await;
    alice.sends("lobby", "1", "swordfish one").await;
    alice.sees("lobby", 1, "swordfish one").await;
    alice.does(json!({"type": "edit", "room": "lobby", "target": 1, "text": "swordfish two"})).await;
    let api = node.api("alice");
    let refused = api.get("search?q=swordfish&room=lobby").await.expect(400);
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("encrypted")), "{refused}");
    assert_eq!(api.get("search?q=swordfish").await.expect(200)["items"], json!([]));
    let page = api.get("rooms/lobby/messages").await.expect(200);
    assert_eq!(page["items"][0]["text"], "swordfish two", "{page}");
    assert!(!holds(&data, "swordfish"), "a text is in a file");
    node.kill();

    // Another ring: one line that names the key, and nothing is served.
    let free = [("SERVER__BIND", "127.0.0.1:0"), ("ADMIN__BIND", "127.0.0.1:0"), ("STORE__URL", &*url)];
    for (keys, name) in [(B, "\"a\""), ("a:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "\"a\""), ("", "empty")] {
        let ended = run("serve", &[&free[..], &[("ENCRYPTION__KEYS", keys)]].concat());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        // What is no line of the log.
        let line = said.lines().find(|line| !line.starts_with('{')).unwrap_or_default();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(line.contains("encryption.keys") && line.contains(name) && !said.contains("AAAA"), "{said}");
    }

    // A new key: everything is brought under it, and the old one may go.
    let both = format!("{A},{B}");
    let rotated = run("rekey", &[&free[..], &[("ENCRYPTION__KEYS", &both), ("ENCRYPTION__ACTIVE", "b")]].concat());
    let said = String::from_utf8_lossy(&rotated.stdout).into_owned();
    assert_eq!(rotated.status.code(), Some(0), "{said}");
    assert!(said.contains("1 keys under another") && said.contains("nothing is left"), "{said}");
    std::fs::write(&ring, B).expect("written");
    let node = Node::with(&settings).await;
    let mut alice = Person::at(&node, "alice").await;
    alice.joins("lobby").await;
    assert_eq!(alice.sends("lobby", "2", "swordfish three").await, 3);
    let page = node.api("alice").get("rooms/lobby/messages").await.expect(200);
    assert_eq!(page["items"][0]["text"], "swordfish two", "{page}");
    assert!(!holds(&data, "swordfish") && !node.log().contains("swordfish"));
}
