//! `roundtable migrate` on both stores: what is told before, what is copied and looked at around it, the way back, and a
//! schema that a newer release left.

use serde_json::Value;

use crate::support::node::{self, Node};
use crate::support::person::Person;
use crate::support::postgres::Postgres;

/// A store that nodes and commands are pointed at.
struct Place {
    url: String,
    /// Where the store is a file, and for copies.
    dir: tempfile::TempDir,
}

impl Place {
    async fn both() -> [Self; 2] {
        let dir = || tempfile::tempdir().expect("a temporary directory");
        let sqlite = dir();
        let url = format!("sqlite://{}", sqlite.path().join("rooms.db").display());
        [Self { url, dir: sqlite }, Self { url: Postgres::shared().await.database().await, dir: dir() }]
    }

    fn file(&self) -> Option<std::path::PathBuf> {
        self.url.strip_prefix("sqlite://").map(Into::into)
    }

    async fn execute(&self, sql: &str) {
        if let Some(path) = self.file() {
            rusqlite::Connection::open(path).expect("a database").execute_batch(sql).expect("a statement");
        } else {
            let (client, connection) =
                tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.expect("a connection");
            tokio::spawn(connection);
            client.batch_execute(sql).await.expect("a statement");
        }
    }

    /// `roundtable migrate …`: its status, and what it printed to either.
    async fn migrate(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = node::command(&[("store.url", &self.url), ("auth.jwt.secret", ""), ("log.level", "error")]);
        command.arg("migrate").args(arguments);
        let output =
            tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().expect("it ended by itself"), text)
    }

    async fn node(&self) -> Node {
        Node::with(&[("store.url", &self.url)]).await
    }

    /// Fifty messages in the lobby.
    async fn fill(&self) {
        let node = self.node().await;
        let mut alice = Person::at(&node, "alice").await;
        alice.opens(&node, "lobby").await;
        for n in 0..50 {
            alice.sends("lobby", &format!("a{n}"), "hi").await;
        }
    }

    fn copies(&self) -> Vec<std::path::PathBuf> {
        let folder = std::fs::read_dir(self.dir.path().join("copies"));
        folder.map(|files| files.map(|file| file.expect("one").path()).collect()).unwrap_or_default()
    }
}

/// The newest version that this release has.
fn ours() -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/postgres");
    let files = std::fs::read_dir(folder).expect("a folder");
    files.filter(|file| file.as_ref().is_ok_and(|file| file.path().to_string_lossy().ends_with(".down.sql"))).count()
}

#[tokio::test]
async fn a_plan_tells_what_would_be_done_and_changes_nothing() {
    for place in Place::both().await {
        let ours = ours();
        let (status, told) = place.migrate(&["--plan"]).await;
        assert_eq!(status, 3, "{told}");
        assert!(
            told.starts_with(&format!("the schema is at 0, this release's is {ours}\nV1__log, forward:\n")),
            "{told}"
        );
        let steps: Vec<&str> = told.lines().filter(|line| line.ends_with(", forward:")).collect();
        assert_eq!(steps.len(), ours);
        assert!(told.contains("\n  CREATE TABLE rooms: quick\n") && !told.contains("PRIMARY KEY"), "{told}");
        assert!(place.file().is_none_or(|path| !path.exists()), "nothing was made");
        // Twice the same: nothing was done.
        assert_eq!(place.migrate(&["--plan"]).await, (3, told));

        let (status, done) = place.migrate(&[]).await;
        assert!(status == 0 && done.starts_with("V1__log\n"), "{done}");
        assert!(done.ends_with("every log is whole: 0 rooms, 0 entries\n"), "{done}");
        let (status, told) = place.migrate(&["--plan"]).await;
        assert_eq!(
            (status, &*told),
            (0, &*format!("the schema is at {ours}, this release's is {ours}\nnothing to do\n"))
        );
        let (status, told) = place.migrate(&[]).await;
        assert!(status == 0 && told.contains("nothing to do"), "{told}");
    }
}

#[tokio::test]
async fn it_leads_back_and_there_again_with_a_copy_before() {
    for place in Place::both().await {
        place.fill().await;
        let (status, told) = place.migrate(&["--plan", "--sql", "--back-to", "11"]).await;
        assert_eq!(status, 3, "{told}");
        assert!(told.contains("V12__backups, back:\n  DROP TABLE backups: quick"), "{told}");
        assert!(
            told.contains("\nDROP TABLE backups;\nDELETE FROM refinery_schema_history WHERE version = 12;"),
            "{told}"
        );
        assert_eq!(place.migrate(&["--plan"]).await.0, 0, "a plan changes nothing");
        let (status, told) = place.migrate(&["--back-to", "11"]).await;
        assert!(status == 0 && told.ends_with("every log is whole: 1 rooms, 50 entries\n"), "{told}");
        let last = told.lines().rev().nth(1);
        assert_eq!(last, Some("V12__backups"), "{told}");
        let (status, told) = place.migrate(&["--plan"]).await;
        assert!(status == 3 && told.contains("is at 11,") && told.contains("V12__backups, forward:"), "{told}");

        let copies = place.dir.path().join("copies").display().to_string();
        let (status, told) = place.migrate(&["--backup", &copies]).await;
        assert!(status == 0 && told.starts_with("copied 1 rooms, 50 entries to "), "{told}");
        let made = place.copies();
        assert_eq!(made.len(), 1);
        let manifest = std::fs::read(made[0].join("manifest.json")).expect("a finished copy");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["census"]["schema"], 11, "it was made before");
        // Nothing to do needs no copy.
        assert!(place.migrate(&["--backup", &copies]).await.1.contains("nothing to do"));
        assert_eq!(place.copies().len(), 1);

        for (wrong, part) in [("99", "there is no V99"), ("-1", "there is no V-1")] {
            let (status, told) = place.migrate(&[&format!("--back-to={wrong}")]).await;
            assert!(status == 1 && told.contains(part), "{told}");
        }
        let (status, told) = place.migrate(&["--back-to", "0"]).await;
        assert!(status == 0 && told.ends_with("V1__log\n"), "{told}");
        assert!(place.migrate(&["--plan"]).await.1.starts_with("the schema is at 0,"));
    }
}

#[tokio::test]
async fn a_store_that_is_not_whole_is_said_loudly() {
    for place in Place::both().await {
        place.fill().await;
        assert_eq!(place.migrate(&["--back-to", "11"]).await.0, 0);
        place.execute("DELETE FROM entries WHERE seq = 7").await;
        // With a copy before, it is noticed in time.
        let copies = place.dir.path().join("copies").display().to_string();
        let (status, told) = place.migrate(&["--backup", &copies]).await;
        assert!(status == 1 && told.contains("nothing was migrated") && told.contains("lobby: 49 entries"), "{told}");
        assert!(place.copies().is_empty());
        assert_eq!(place.migrate(&["--plan"]).await.0, 3);
        let (status, told) = place.migrate(&[]).await;
        assert!(status == 4 && told.contains("NOT AS IT HAS TO BE") && told.contains("lobby: 49 entries"), "{told}");
        assert!(told.contains("restore the newest backup"), "{told}");
        assert_eq!(place.migrate(&["--back-to", "11", "--no-check"]).await.0, 0);
        assert_eq!(place.migrate(&["--no-check"]).await.0, 0);
    }
}

#[tokio::test]
async fn a_node_works_on_the_schema_of_a_newer_release_that_lets_it() {
    for place in Place::both().await {
        place.fill().await;
        let newer = |name: &str| {
            format!(
                "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (99, '{name}', '2026-01-02T03:04:05Z', '1')"
            )
        };
        place.execute(&newer("adds_something")).await;
        place.execute("ALTER TABLE people ADD COLUMN something integer").await;
        let (status, told) = place.migrate(&["--plan"]).await;
        assert!(status == 0 && told.contains("V99__adds_something is of a newer release"), "{told}");
        let (status, told) = place.migrate(&["--back-to", "11"]).await;
        assert!(status == 1 && told.contains("only a program that knows it"), "{told}");
        {
            let node = place.node().await;
            let mut alice = Person::at(&node, "alice").await;
            assert_eq!(alice.sends("lobby", "more", "and on").await, 51);
            let mut bob = Person::at(&node, "bob").await;
            bob.joins("lobby").await;
        }
        place.execute("DELETE FROM refinery_schema_history WHERE version = 99").await;
        place.execute(&newer("drops_something_needs_99")).await;
        for arguments in [&["--plan"][..], &[]] {
            let (status, told) = place.migrate(arguments).await;
            assert!(status == 1 && told.contains("needs a release that knows V99"), "{told}");
        }
    }
}
