//! A whole node: the built binary as a process of its own, on free ports, in a temporary directory.
//!
//! Invariants: the process does not outlive the test (a guardian shell ends it when the test's own process dies); its
//! log goes to a file and is shown only where the test fails; ports stay the same over [`Node::restart`].

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::api::Api;
use super::{PATIENCE, ports, tokens, until};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtable");

/// Settings as `("section.key", value)`; later ones win.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A node, running or just now stopped.
pub struct Node {
    settings: Vec<(String, String)>,
    http_port: u16,
    admin_port: u16,
    dir: TempDir,
    running: Mutex<Option<Running>>,
}

struct Running {
    process: Child,
    guardian: Child,
}

impl Node {
    /// A single node with SQLite, ready.
    pub async fn alone() -> Self {
        Self::with(&[]).await
    }

    /// A single node with SQLite (unless told otherwise) and these settings, ready.
    pub async fn with(settings: Settings<'_>) -> Self {
        // Another process may take a port between the look and the start.
        for _ in 0..5 {
            let node = Self::launch(settings);
            if node.until_ready().await {
                return node;
            }
        }
        panic!("the node ended at its start five times in turn");
    }

    /// A single node whose public port is `port`, ready.
    pub async fn on_port(port: u16, settings: Settings<'_>) -> Self {
        let node = Self::launch_on(port, settings);
        assert!(node.until_ready().await, "the node ended at its start");
        node
    }

    /// The same, without waiting until it is ready.
    pub fn launch(settings: Settings<'_>) -> Self {
        super::provider();
        Self::launch_on(ports::free(), settings)
    }

    fn launch_on(http_port: u16, settings: Settings<'_>) -> Self {
        super::provider();
        let node = Self {
            settings: settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            http_port,
            admin_port: ports::free(),
            dir: tempfile::tempdir().expect("a temporary directory"),
            running: Mutex::new(None),
        };
        node.spawn();
        node
    }

    fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = command(&[
            ("server.bind", &format!("127.0.0.1:{}", self.http_port)),
            ("admin.bind", &format!("127.0.0.1:{}", self.admin_port)),
        ]);
        for (key, value) in &self.settings {
            command.env(variable(key), value);
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stderr(log.try_clone().expect("a second handle"));
        let process = command.stdout(log).spawn().expect("the node's program runs");
        let guardian = guard(process.id());
        *self.running.lock().expect("no panic while held") = Some(Running { process, guardian });
    }

    /// Waits until `GET /readyz` says 200; false where the process ended instead.
    pub async fn until_ready(&self) -> bool {
        let admin = self.admin();
        until("the node is ready", || async {
            if self.ended().is_some() {
                eprintln!("the node ended at its start:\n{}", self.log());
                return Some(false);
            }
            (status(&format!("{admin}/readyz")).await == Some(200)).then_some(true)
        })
        .await
    }

    /// Starts it again after its end: same ports, same directory.
    pub async fn restart(&self) {
        assert!(self.ended().is_some(), "it still runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.reap();
            self.spawn();
            if self.until_ready().await {
                return;
            }
            assert!(Instant::now() < deadline, "the node does not start again");
        }
    }

    /// `ws://…/ws`
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.http_port)
    }

    /// `http://…` of the public listener, without a slash at the end.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// `http://…` of the admin listener.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Its HTTP API, called by `user` with a JWT.
    pub fn api(&self, user: &str) -> Api {
        Api::of(&self.http(), user)
    }

    /// Its admin listener.
    pub fn admin_api(&self) -> Api {
        Api::with(&self.admin(), None)
    }

    /// This node's id, as `GET /cluster` gives it.
    pub async fn id(&self) -> String {
        self.cluster().await["node"].as_str().expect("a node id").to_owned()
    }

    /// `GET /cluster`.
    pub async fn cluster(&self) -> Value {
        self.admin_api().get("/cluster").await.expect(200)
    }

    /// The node that owns `room`, as this node sees it; `None` while nobody does.
    pub async fn owner_of(&self, room: &str) -> Option<String> {
        let found = self.admin_api().get(&format!("/cluster?room={room}")).await.expect(200);
        found["owner"].as_str().map(str::to_owned)
    }

    /// The value of a metric, summed over its labels; 0 where it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin_api().get("/metrics").await.expect(200);
        let text = text.as_str().expect("metrics are text");
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of kB");
        kib * 1024
    }

    /// SIGTERM: drain and go.
    pub fn terminate(&self) {
        signal("TERM", self.pid());
    }

    /// SIGSTOP: it stands still, its sockets stay open.
    pub fn freeze(&self) {
        signal("STOP", self.pid());
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&self) {
        if let Some(running) = self.running.lock().expect("no panic while held").as_mut() {
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }

    /// Its exit status, once it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut running = self.running.lock().expect("no panic while held");
        running.as_mut().expect("it was started").process.try_wait().expect("its status")
    }

    /// Waits for the end of the process.
    pub async fn exit(&self) -> ExitStatus {
        until("the node ends", || async { self.ended() }).await
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.log_path()) {
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A file or folder in the node's working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    fn pid(&self) -> u32 {
        self.running.lock().expect("no panic while held").as_ref().expect("it was started").process.id()
    }

    fn reap(&self) {
        if let Some(mut running) = self.running.lock().expect("no panic while held").take() {
            // The guardian first: once the process is reaped its id may be another's.
            let _ = running.guardian.kill();
            let _ = running.guardian.wait();
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.reap();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("---- log of the node on port {}:\n{}", self.http_port, &log[start..]);
        }
    }
}

/// The program with nothing of this process's environment but `PATH` and `HOME`, and the settings of every test node.
pub fn command(settings: Settings<'_>) -> Command {
    // The HTTP client of the tests asks for a provider of cryptography, though it speaks plain HTTP: the server's dependencies
    // turn its TLS on.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut command = Command::new(PROGRAM);
    command.env_clear();
    for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let defaults = [
        ("auth.jwt.secret", tokens::SECRET),
        ("limits.messages_per_minute", "0"),
        ("limits.http_per_minute", "0"),
        ("limits.http_per_user_minute", "0"),
        ("limits.logins_per_minute", "0"),
        ("log.format", "json"),
    ];
    for (key, value) in defaults.iter().chain(settings) {
        command.env(variable(key), value);
    }
    command
}

/// The name of the environment variable for a key; a key without a section is such a name itself.
fn variable(key: &str) -> String {
    if !key.contains('.') {
        return key.to_owned();
    }
    format!("ROUNDTABLE__{}", key.to_uppercase().replace('.', "__"))
}

/// The status of a GET, `None` where nobody answers.
pub async fn status(url: &str) -> Option<u16> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("an HTTP client");
    Some(client.get(url).send().await.ok()?.status().as_u16())
}

/// A shell that ends `pid` when this process is gone (its standard input is our pipe).
fn guard(pid: u32) -> Child {
    const SCRIPT: &str = r#"trap '' INT TERM HUP; read -r _; kill -KILL "$1" 2>/dev/null"#;
    Command::new("sh")
        .args(["-c", SCRIPT, "guardian", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("run kill");
    assert!(status.success(), "kill -{name} failed");
}
