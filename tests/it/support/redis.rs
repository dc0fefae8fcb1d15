//! A private `redis-server`: on a free port, in a directory of its own, without persistence, ended on drop.
//!
//! Invariant: the port stays the same over [`Redis::stop_hard`] and [`Redis::start_again`]. What a test tells Redis itself
//! (flush, pause, slots) goes over a connection of its own, so that it can't disturb the connections under test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may take to answer after its start before the test gives up.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running (or just now stopped) server.
pub struct Redis {
    mode: Mode,
    port: u16,
    dir: TempDir,
    process: Option<Child>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    /// A node of a Redis Cluster; the bus port is free too.
    Cluster {
        bus_port: u16,
    },
    Replica {
        master_port: u16,
    },
    /// Watches a master that it calls `main`.
    Sentinel {
        master_port: u16,
    },
}

impl Redis {
    /// A plain server.
    pub async fn start() -> Self {
        Self::start_as(|| Mode::Plain).await
    }

    /// A Redis Cluster of one node, which holds all slots.
    pub async fn start_cluster() -> Self {
        Self::start_cluster_of(1).await.remove(0)
    }

    /// A Redis Cluster of that many nodes, each with its share of the slots.
    pub async fn start_cluster_of(size: u16) -> Vec<Self> {
        let mut nodes = Vec::new();
        for n in 0..size {
            let node = Self::start_as(|| Mode::Cluster { bus_port: free_port() }).await;
            let (first, last) =
                (16_384 * u32::from(n) / u32::from(size), 16_384 * (u32::from(n) + 1) / u32::from(size));
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(last - 1).to_string()];
            assert_eq!(node.command(&slots).await, "+OK");
            nodes.push(node);
        }
        for node in &nodes[1..] {
            let Mode::Cluster { bus_port } = &node.mode else { unreachable!("started as one above") };
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus_port.to_string()];
            assert_eq!(nodes[0].command(&meet).await, "+OK");
        }
        for node in &nodes {
            node.until_slots_are_served().await;
        }
        nodes
    }

    /// A replica of `master`, in step with it.
    pub async fn start_replica(master: &Redis) -> Self {
        let master_port = master.port;
        let replica = Self::start_as(|| Mode::Replica { master_port }).await;
        let deadline = Instant::now() + START_DEADLINE;
        while !replica.command(&["INFO", "replication"]).await.contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "the replica never got in step");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        replica
    }

    /// A sentinel that watches `master` under the name `main`.
    pub async fn start_sentinel(master: &Redis) -> Self {
        let master_port = master.port;
        Self::start_as(|| Mode::Sentinel { master_port }).await
    }

    async fn start_as(mode: impl Fn() -> Mode) -> Self {
        // Between looking for a free port and taking it another test may be faster.
        for _ in 0..5 {
            let mut redis = Self {
                mode: mode(),
                port: free_port(),
                dir: tempfile::tempdir().expect("a temporary directory"),
                process: None,
            };
            if redis.spawn().await {
                return redis;
            }
        }
        panic!("redis-server did not start on five free ports in turn; is it installed?");
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the process (SIGKILL): every connection is cut, everything it held is gone.
    pub fn stop_hard(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kill redis-server");
            process.wait().expect("wait for redis-server");
        }
    }

    /// Starts it again on the same port, empty (a cluster node keeps its slots).
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is still running");
        let deadline = Instant::now() + START_DEADLINE;
        while !self.spawn().await {
            assert!(Instant::now() < deadline, "redis-server did not get port {} back", self.port);
        }
        if matches!(self.mode, Mode::Cluster { .. }) {
            self.until_slots_are_served().await;
        }
    }

    /// Empties it.
    pub async fn flush_all(&self) {
        assert_eq!(self.command(&["FLUSHALL"]).await, "+OK");
    }

    /// SIGSTOP: connections stay, nothing is answered until [`Redis::thaw`].
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Ends the connections of every other client.
    pub async fn cut_clients(&self) {
        let _count = self.command(&["CLIENT", "KILL", "SKIPME", "yes"]).await;
    }

    /// Sends one command; gives the first line of the answer, and for a bulk string its text.
    pub async fn command(&self, words: &[&str]) -> String {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer);
            if let Some((first, rest)) = text.split_once("\r\n") {
                let Some(length) = first.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
                    return Ok(first.to_owned());
                };
                if rest.len() >= length + 2 {
                    return Ok(rest[..length].to_owned());
                }
            }
            match socket.read(&mut part).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&part[..n]),
            }
        }
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &process.id().to_string()]).status().expect("run kill");
        assert!(status.success(), "kill {signal} failed");
    }

    /// Whether it started and answers.
    async fn spawn(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        if let Mode::Sentinel { master_port } = &self.mode {
            let file = self.dir.path().join("sentinel.conf");
            let text = format!(
                "sentinel monitor main 127.0.0.1 {master_port} 1\nsentinel down-after-milliseconds main 500\n\
                 sentinel failover-timeout main 2000\n"
            );
            std::fs::write(&file, text).expect("write sentinel.conf");
            command.arg(file).arg("--sentinel");
        } else {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        if let Mode::Replica { master_port } = &self.mode {
            command.args(["--replicaof", "127.0.0.1", &master_port.to_string()]);
            command.args(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        }
        if let Mode::Cluster { bus_port } = &self.mode {
            command.args(["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]);
            command.args(["--cluster-port", &bus_port.to_string()]);
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().expect("run redis-server"));
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_)))) {
                break;
            }
            if self.try_command(&["PING"]).await.is_ok_and(|answer| answer == "+PONG") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.stop_hard();
        false
    }

    async fn until_slots_are_served(&self) {
        let deadline = Instant::now() + START_DEADLINE;
        while !self.command(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "the cluster never came up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop_hard();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a free port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test]
async fn it_starts_stops_and_comes_back_empty_on_the_same_port() {
    let mut redis = Redis::start().await;
    assert_eq!(redis.command(&["SET", "a", "b"]).await, "+OK");
    assert_eq!(redis.command(&["GET", "a"]).await, "b");
    redis.stop_hard();
    assert!(redis.try_command(&["PING"]).await.is_err());
    redis.start_again().await;
    assert_eq!(redis.command(&["GET", "a"]).await, "$-1");
    redis.freeze();
    let silent = tokio::time::timeout(Duration::from_millis(100), redis.command(&["PING"])).await;
    assert!(silent.is_err(), "a frozen server must not answer");
    redis.thaw();
    assert_eq!(redis.command(&["PING"]).await, "+PONG");
}

#[tokio::test]
async fn a_cluster_of_one_serves_every_slot() {
    let redis = Redis::start_cluster().await;
    assert_eq!(redis.command(&["SET", "any", "thing"]).await, "+OK");
}
