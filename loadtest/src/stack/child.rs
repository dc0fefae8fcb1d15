//! Processes and directories that a run makes, each ended or removed when its value is dropped: on return, error,
//! Ctrl-C and panic alike. Should the run itself be killed, the kernel ends the processes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::fail::{Fail, Result};
use crate::sys;

/// A directory of its own below the system's temporary one.
pub struct TempDir {
    path: PathBuf,
    keep: bool,
}

impl TempDir {
    pub fn new(name: &str) -> io::Result<Self> {
        let pid = std::process::id();
        for attempt in 0.. {
            let path = std::env::temp_dir().join(format!("roundtable-{name}-{pid}-{attempt}"));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { path, keep: false }),
            }
        }
        unreachable!("the loop ends by returning")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is at the end.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A server that this run started. It is to be started from a thread that lives as long as the run: the kernel ends it
/// with the *thread* that started it.
pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
    end_with: i32,
    frozen: bool,
}

impl Child {
    /// Starts `command` with its output in `log`; `end_with` is the signal that ends it in order.
    pub fn start(name: &str, command: &mut Command, log: PathBuf, end_with: i32) -> Result<Self> {
        let file = File::create(&log)?;
        sys::tie_to_us(command, if end_with == libc::SIGQUIT { libc::SIGQUIT } else { libc::SIGKILL });
        let process = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| Fail::Setup(format!("starting {:?}: {error}", command.get_program())))?;
        Ok(Self { name: name.to_owned(), process, log, end_with, frozen: false })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, where it has; never waits.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Asks it to end in order; it may take its time.
    pub fn ask_to_end(&mut self) {
        self.signal(self.end_with);
        self.thaw();
    }

    /// `kill -9`, and waits for the end: the kernel's work alone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// SIGSTOP: it stands still, its sockets stay open.
    pub fn freeze(&mut self) {
        self.signal(libc::SIGSTOP);
        self.frozen = true;
    }

    /// SIGCONT after [`Self::freeze`].
    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.signal(libc::SIGCONT);
        }
    }

    /// Sends `signal` unless it has ended: its id is its own as long as nobody has waited for it.
    pub fn signal(&mut self, signal: i32) {
        if self.ended().is_none() {
            sys::signal(self.pid(), signal);
        }
    }

    /// Waits until `ready`; fails with the end of its log if it exits or takes longer than `patience`.
    pub fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + patience;
        while !ready() {
            self.wait_a_little(patience, until)?;
        }
        Ok(())
    }

    fn wait_a_little(&mut self, patience: Duration, until: Instant) -> Result<()> {
        if sys::stopped() {
            return Err(Fail::Interrupted);
        }
        let state = match self.process.try_wait()? {
            Some(status) => format!("ended with {status}"),
            None if Instant::now() > until => format!("was not ready after {patience:?}"),
            None => {
                std::thread::sleep(Duration::from_millis(20));
                return Ok(());
            }
        };
        Err(Fail::Setup(format!("{} {state}\n{}", self.name, self.last_lines())))
    }

    /// The end of what it printed.
    pub fn last_lines(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        self.ask_to_end();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

/// What is one process and knows whether it serves.
pub trait Server {
    /// `None` while it is stopped.
    fn child(&mut self) -> Option<&mut Child>;
    /// Never waits longer than a second.
    fn ready(&self) -> bool;

    /// As [`Child::wait_until`].
    fn until_ready(&mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        while !self.ready() {
            let child = self.child().ok_or_else(|| Fail::Setup("a server that is stopped is never ready".into()))?;
            child.wait_a_little(patience, until)?;
        }
        Ok(())
    }
}

/// The last fifteen lines of a log; of a long one only the last 64 KiB are looked at.
pub fn last_lines(log: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = file.metadata().map_or(0, |meta| meta.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)));
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
