//! A PostgreSQL server with its defaults (`fsync` and `synchronous_commit` on) in a directory of the run, stopped and
//! started again on the same port and data.
//!
//! Invariant: it is not started again before every process of the last start is gone; else an orphaned backend could
//! still write, and the new server would refuse the shared memory that it holds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fail::{Fail, Result};
use crate::stack::child::{Child, Server};
use crate::stack::ports::free;
use crate::sys;

/// After this a shutdown that was asked for is made an immediate one, and then a kill.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// How it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Connections are ended, transactions rolled back, everything is written.
    Fast,
    /// Every process stops where it is; recovery follows at the next start.
    Immediate,
    /// `kill -9` of all its processes, as if the machine had lost them.
    Kill,
}

pub struct Postgres {
    bin: PathBuf,
    files: PathBuf,
    ids: Option<(u32, u32)>,
    port: u16,
    most_connections: usize,
    starts: u32,
    child: Option<Child>,
    /// The backends of the server that is being stopped, with the ticks of their start: a process id may come again.
    backends: Vec<(u32, u64)>,
    asked_to_stop: Option<Instant>,
}

impl Postgres {
    /// Makes a new server below `files` and starts it; it may not be ready yet. It refuses to run as root, so it gets
    /// another user there.
    pub fn start(bin: Option<&Path>, files: &Path, most_connections: usize) -> Result<Self> {
        let bin = match bin {
            Some(bin) => bin.to_owned(),
            None => find("initdb").ok_or_else(|| Fail::Setup("no PostgreSQL found: --postgres-bin DIR".into()))?,
        };
        let ids = if sys::is_root() { Some(unprivileged()?) } else { None };
        let mut postgres = Self {
            bin,
            files: files.to_owned(),
            ids,
            port: free()?,
            most_connections,
            starts: 0,
            child: None,
            backends: Vec::new(),
            asked_to_stop: None,
        };
        postgres.init()?;
        postgres.start_again()?;
        Ok(postgres)
    }

    fn init(&self) -> Result<()> {
        fs::create_dir(self.data())?;
        if let Some((user, group)) = self.ids {
            chown(self.data(), Some(user), Some(group))?;
        }
        // Synced, though nobody needs the empty database after a crash: the first commits would wait for all of it.
        let made = self
            .command("initdb")
            .args(["--username=roundtable", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(self.data())
            .output()
            .map_err(|error| Fail::Setup(format!("{}: {error}", self.bin.join("initdb").display())))?;
        if !made.status.success() {
            return Err(Fail::Setup(format!("initdb: {}", String::from_utf8_lossy(&made.stderr))));
        }
        Ok(())
    }

    /// After [`Self::stop`] and once it [has stopped](Self::stopped); it may not be ready yet.
    pub fn start_again(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", &format!("max_connections={}", self.most_connections)]);
        let log = self.files.join(format!("postgres.{}.log", self.starts));
        // SIGQUIT is PostgreSQL's immediate shutdown: at the end the data is thrown away, nothing has to be written.
        self.child = Some(Child::start("postgres", &mut command, log, libc::SIGQUIT)?);
        self.asked_to_stop = None;
        Ok(())
    }

    /// Begins to stop it; it takes until [`Self::stopped`].
    pub fn stop(&mut self, how: Shutdown) {
        let Some(child) = &mut self.child else { return };
        self.asked_to_stop = Some(Instant::now());
        // Stopped first where it is killed, so that it starts no further process while they are counted.
        if how == Shutdown::Kill {
            child.freeze();
        }
        self.backends = backends(child.pid());
        match how {
            Shutdown::Fast => child.signal(libc::SIGINT),
            Shutdown::Immediate => child.signal(libc::SIGQUIT),
            Shutdown::Kill => {
                kill(&self.backends);
                child.kill();
            }
        }
    }

    /// Whether nothing of it runs any more; never waits. What takes too long is hurried.
    pub fn stopped(&mut self) -> bool {
        let late = self.asked_to_stop.map_or(Duration::ZERO, |asked| asked.elapsed());
        if let Some(child) = &mut self.child {
            if child.ended().is_none() {
                if late > STOPS_WITHIN * 2 {
                    kill(&self.backends);
                    child.kill();
                } else if late > STOPS_WITHIN {
                    child.signal(libc::SIGQUIT);
                }
                return false;
            }
            self.child = None;
        }
        if late > STOPS_WITHIN {
            kill(&self.backends);
        }
        self.backends.retain(|&backend| lives(backend));
        self.backends.is_empty()
    }

    /// Whether it ended although nobody stopped it.
    pub fn died(&mut self) -> bool {
        self.asked_to_stop.is_none() && self.child.as_mut().is_some_and(|child| child.ended().is_some())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As it is reached by this port: its own, or that of a proxy before it.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://roundtable:none@127.0.0.1:{port}/postgres")
    }

    /// Has it run a script, by the `psql` beside it or on the path; for filling tables faster than any client could.
    ///
    /// # Errors
    /// With what `psql` said, where any of it fails.
    pub fn run(&self, script: &str) -> Result<()> {
        let beside = self.bin.join("psql");
        let program = if beside.is_file() { Some(beside) } else { find("psql").map(|bin| bin.join("psql")) };
        let program = program.ok_or_else(|| Fail::Setup("no psql found: install PostgreSQL's client".into()))?;
        let mut psql = Command::new(&program);
        psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null", "--file", "-"]);
        psql.arg(self.url_at(self.port)).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |what: &str| Fail::Setup(format!("{}: {what}", program.display()));
        let mut child = psql.spawn().map_err(|error| failed(&error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // Where it breaks off, what psql said about it follows.
            let _ = input.write_all(script.as_bytes());
        }
        let ended = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if ended.status.success() { Ok(()) } else { Err(failed(said.trim_end())) }
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    fn data(&self) -> PathBuf {
        self.files.join("postgres")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.data());
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Server for Postgres {
    fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// The state of the server is the last line of this file; a server that was killed leaves its own behind.
    fn ready(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(child.pid().to_string().as_str()) && lines.next_back() == Some("ready")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its files are removed next: nothing may write into them any more.
        self.stop(Shutdown::Immediate);
        self.child = None;
        let until = Instant::now() + STOPS_WITHIN;
        while !self.stopped() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(&self.backends);
    }
}

/// Parent and start time of a process, in ticks since the machine's; `None` for one that is gone or waits to be reaped.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the fields are counted from its end.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    if matches!(fields.first(), None | Some(&"Z" | &"X")) {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn lives((pid, started): (u32, u64)) -> bool {
    stat(pid).is_some_and(|(_, found)| found == started)
}

fn kill(backends: &[(u32, u64)]) {
    for &backend in backends {
        if lives(backend) {
            sys::signal(backend.0, libc::SIGKILL);
        }
    }
}

fn backends(postmaster: u32) -> Vec<(u32, u64)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| stat(pid).filter(|&(parent, _)| parent == postmaster).map(|(_, started)| (pid, started)))
        .collect()
}

/// The directory of one of its programs: on the path, or the newest of Debian's places.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|dir| dir.join(program).is_file());
    on_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let bins = versions.filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        });
        bins.filter(|(_, bin)| bin.join(program).is_file()).max().map(|(_, bin)| bin)
    })
}

/// User and group id of the account that PostgreSQL runs under where we are root.
fn unprivileged() -> Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let fields: Vec<&str> = accounts
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.collect()))?;
        Some((fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| Fail::Setup("no account postgres or nobody".into()))
}
