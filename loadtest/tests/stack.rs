//! The commands that start a private cluster, from outside: it serves while they run and leaves nothing behind; bad
//! input ends them with one line.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtable-loadtest");
const PATIENCE: Duration = Duration::from_secs(60);

/// A run of `cluster` with what it has printed.
struct Cluster {
    process: Child,
    printed: Vec<String>,
}

impl Cluster {
    /// Two nodes, once they serve.
    fn start() -> Self {
        let beside = Path::new(PROGRAM).with_file_name("roundtable");
        assert!(beside.is_file(), "{} is not there: cargo test --workspace builds it", beside.display());
        let mut command = Command::new(PROGRAM);
        command.args(["cluster", "--nodes", "2"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the harness runs");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut printed = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            let last = line.starts_with("Ctrl-C");
            printed.push(line);
            if last {
                break;
            }
        }
        Self { process, printed }
    }

    /// The word behind `key` in what it printed.
    fn word(&self, key: &str) -> &str {
        let line = self.printed.iter().find(|line| line.starts_with(key)).expect(key);
        line[key.len()..].split_whitespace().next().expect("a word")
    }

    /// The processes that it started, those that they started included.
    fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        loop {
            let more: Vec<u32> = processes()
                .into_iter()
                .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
                .map(|(pid, _)| pid)
                .collect();
            if more.is_empty() {
                return found.split_off(1);
            }
            found.extend(more);
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its own children end with it; a test that failed must not leave it behind.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Process ids with their parents' of everything that runs.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").expect("a /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        (state != "Z").then_some((pid, fields.next()?.parse().ok()?))
    })
    .collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn all_gone(pids: &[u32]) {
    until("every process is gone", || processes().iter().all(|(pid, _)| !pids.contains(pid)));
}

#[test]
fn a_cluster_serves_whoever_has_the_token_and_leaves_nothing_behind() {
    let mut cluster = Cluster::start();
    let token = cluster.printed.iter().skip_while(|line| !line.starts_with("alice")).nth(1).expect("a token");
    let nodes = cluster.printed.iter().filter(|line| line.starts_with("node "));
    let servers: Vec<&str> = nodes.filter_map(|line| Some(line.split_once(" http://")?.1)).collect();
    assert_eq!(servers.len(), 2, "{:?}", cluster.printed);
    for server in servers {
        let server = server.split(' ').next().expect("an address");
        let mut socket = TcpStream::connect(server).expect("it listens");
        write!(
            socket,
            "GET /api/v1/me HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""id":"alice""#), "{answer}");
    }
    let files = PathBuf::from(cluster.word("files"));
    let started = cluster.descendants();
    assert!(files.is_dir() && started.len() >= 4);
    cluster.signal("-INT");
    let status = cluster.process.wait().expect("its status");
    assert_eq!(status.code(), Some(0));
    all_gone(&started);
    assert!(!files.exists());
}

#[test]
fn nothing_outlives_a_harness_that_is_killed() {
    let mut cluster = Cluster::start();
    let started = cluster.descendants();
    assert!(started.len() >= 4);
    let files = PathBuf::from(cluster.word("files"));
    cluster.signal("-KILL");
    cluster.process.wait().expect("its end");
    all_gone(&started);
    fs::remove_dir_all(files).expect("its files are left to us");
}

/// Exit status and everything that it printed.
fn ended(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("the harness runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn bad_input_ends_with_a_line_that_says_what_is_wrong() {
    let cases: &[(&[&str], &str)] = &[
        (&["cluster", "--roundtable", "/nowhere/roundtable"], "can't run: /nowhere/roundtable is not there\n"),
        (&["cluster", "--roundtable", "/etc/passwd"], "can't run: /etc/passwd is not a program that may be run\n"),
        (
            &["cluster", "--roundtable", "/bin/true", "--redis", "no-such-redis"],
            "can't run: no-such-redis is not on the PATH: install Redis, or --redis PATH\n",
        ),
        (
            &["cluster", "--roundtable", "/bin/true", "--store", "sqlite"],
            "can't run: several nodes need --store postgres\n",
        ),
        (&["chaos", "--nodes", "1", "--faults", "kill"], "can't run: the fault kill needs --nodes 2 or more\n"),
        (&["chaos", "--minutes", "0"], "can't run: --minutes 0: must be more than 0 and at most 10000\n"),
        (&["chaos", "--rate", "nan"], "can't run: --rate must be more than 0 and at most 1000000\n"),
        (&["chaos", "--people", "1"], "can't run: --people must be 2 to 1000000\n"),
        (&["chaos", "--rooms", "0"], "can't run: --rooms must be 1 to 100000\n"),
        (&["chaos", "--minutes", "0.01"], "can't run: no fault is over within --minutes 0.01: give it more\n"),
        (&["chaos", "--roundtable", "/nowhere/roundtable"], "can't run: /nowhere/roundtable is not there\n"),
    ];
    for (arguments, line) in cases {
        assert_eq!(ended(arguments), (Some(2), (*line).to_owned()), "{arguments:?}");
    }
    let (status, text) = ended(&["chaos", "--faults", "kill,earthquake"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("'earthquake'") && text.contains("cut-postgres") && text.contains("remove-node"), "{text}");
}
