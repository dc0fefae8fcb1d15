//! A private PostgreSQL server for tests: a fresh cluster in a temporary directory, on a port of its own on 127.0.0.1,
//! with `fsync` on, so that what a test proves about durability is true of a real server too.
//!
//! Invariants: nothing outlives the test process, not even when that is killed (a guardian shell waits for the end of
//! a pipe, then stops the server and removes its files); the port stays the same across `stop_hard` and `start_again`.
//! The programs are looked for in `ROUNDTABLE_TEST_POSTGRES_BIN`, then in `PATH`, then where Debian puts them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

use super::until;

/// How long the server may take to answer after its start, crash recovery included.
const START_WITHIN: Duration = Duration::from_secs(60);
/// The server's superuser, who needs no password.
const ROLE: &str = "roundtable";

static SHARED: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(1);

/// One running server. Dropping it kills the server and removes its files.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    run_as: Option<(u32, u32)>,
    port: u16,
    server: Mutex<Option<Child>>,
    guardian: Child,
}

impl Postgres {
    /// The server that all tests of this process share; never stop it, take one of your own for that.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// A server of one's own.
    pub async fn start() -> Self {
        let bin = programs();
        let dir = fs::canonicalize(std::env::temp_dir()).expect("a temporary directory").join(format!(
            "roundtable-pg-{}-{}",
            std::process::id(),
            DATABASES.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&dir).expect("a new directory");
        let guardian = guard(&dir);
        let run_as = unprivileged();
        if let Some((user, group)) = run_as {
            std::os::unix::fs::chown(&dir, Some(user), Some(group)).expect("root may give a directory away");
        }
        let server = Self { bin, dir, run_as, port: free_port(), server: Mutex::new(None), guardian };
        server.init();
        server.start_again().await;
        server
    }

    /// A new empty database; its `postgres://` URL.
    pub async fn database(&self) -> String {
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let (client, connection) =
            tokio_postgres::connect(&self.url("postgres"), NoTls).await.expect("the server takes connections");
        let connection = tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
        drop(client);
        let _ = connection.await;
        self.url(&name)
    }

    /// From now on nobody comes in but over TLS, for which the server has this certificate and key (PEM).
    pub async fn demands_tls(&self, certificate: &str, key: &str) {
        let data = self.dir.join("data");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its own");
            if let Some((user, group)) = self.run_as {
                std::os::unix::fs::chown(&path, Some(user), Some(group)).expect("root may give a file away");
            }
        }
        fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").expect("written");
        let (client, connection) =
            tokio_postgres::connect(&self.url("postgres"), NoTls).await.expect("the server takes connections");
        let connection = tokio::spawn(connection);
        client.batch_execute("ALTER SYSTEM SET ssl = on").await.expect("set");
        client.batch_execute("SELECT pg_reload_conf()").await.expect("read again");
        drop(client);
        let _ = connection.await;
        until("it refuses what is in the clear", || async {
            tokio_postgres::connect(&self.url("postgres"), NoTls).await.is_err().then_some(())
        })
        .await;
    }

    /// Where the server listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// `kill -9` of every process of the server, as if the machine had lost it. Nothing is flushed.
    pub async fn stop_hard(&self) {
        self.kill();
    }

    /// Stops every process of the server where it is, as if its machine hung: connections stand, nothing answers.
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        let server = self.server.lock().expect("no panic while held");
        let Some(postmaster) = server.as_ref().map(Child::id) else { return };
        let mut all = vec![postmaster];
        signal(name, &all);
        all = children(postmaster);
        signal(name, &all);
    }

    /// Starts it again on the same port, and waits until it answers.
    pub async fn start_again(&self) {
        let deadline = Instant::now() + START_WITHIN;
        self.spawn();
        loop {
            if let Ok((client, connection)) = tokio_postgres::connect(&self.url("postgres"), NoTls).await {
                let connection = tokio::spawn(connection);
                let answered = client.simple_query("SELECT 1").await.is_ok();
                drop(client);
                let _ = connection.await;
                if answered {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", self.log());
            let ended = {
                let mut server = self.server.lock().expect("no panic while held");
                server.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
            };
            if ended {
                // The port or the last run's shared memory may be taken for a moment still.
                self.spawn();
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn init(&self) {
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", ROLE, "--pgdata"]);
        let output = initdb.arg(self.dir.join("data")).output().expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn spawn(&self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("a log file");
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.dir.join("data")).arg("-p").arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
            "max_connections=300",
            "log_min_messages=warning",
        ] {
            postgres.arg("-c").arg(setting);
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = postgres.spawn().expect("postgres runs");
        *self.server.lock().expect("no panic while held") = Some(child);
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.dir).env("TZ", "UTC");
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        command
    }

    fn kill(&self) {
        let Some(mut child) = self.server.lock().expect("no panic while held").take() else { return };
        let postmaster = child.id();
        // Stopped first, so that it starts no further process while its children are counted.
        signal("STOP", &[postmaster]);
        let mut doomed = children(postmaster);
        doomed.push(postmaster);
        signal("KILL", &doomed);
        let _ = child.wait();
        let deadline = Instant::now() + Duration::from_secs(10);
        while doomed.iter().any(|&pid| runs(pid)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

/// Where the server's programs are.
fn programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("ROUNDTABLE_TEST_POSTGRES_BIN") {
        return PathBuf::from(dir);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file());
    if let Some(dir) = found {
        return dir;
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions
        .pop()
        .map(|(_, bin)| bin)
        .expect("PostgreSQL is installed, or ROUNDTABLE_TEST_POSTGRES_BIN names its programs")
}

/// The user and group to run as where we are root, as which PostgreSQL refuses to run.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").map(|meta| meta.uid()).unwrap_or(1) != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("the list of users");
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// A port that nobody uses, below the range from which the kernel picks ports for others: it will stay free while the
/// server is down.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    (0..10_000)
        .map(|_| 20_000 + ((start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % 12_000) as u16)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("a free port")
}

/// A shell that waits until this process ends (its standard input is our pipe), then stops the server and removes `dir`.
fn guard(dir: &Path) -> Child {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        read -r _
        if read -r pid 2>/dev/null < "$1/data/postmaster.pid"; then
            kill -QUIT "$pid" 2>/dev/null
            n=0
            while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
        fi
        rm -rf "$1"
    "#;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(SCRIPT).arg("guardian").arg(dir);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell.spawn().expect("a shell")
}

fn signal(name: &str, pids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(pids.iter().map(u32::to_string));
    let _ = kill.stderr(Stdio::null()).status();
}

/// State and parent of a process; `None` where it is gone.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state and the parent follow it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Whether it may still do something; a zombie that nobody has reaped yet does not.
fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| state != "Z")
}

/// The processes that `parent` started and that still run.
fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| state(pid).is_some_and(|(_, found)| found == parent))
        .collect()
}
