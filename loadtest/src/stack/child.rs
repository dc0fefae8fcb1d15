//! Processes and directories that a run makes, each ended or removed when its value is dropped: on return, error,
//! Ctrl-C and panic alike. Should the run itself be killed, the kernel ends the processes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fail::{Fail, Result};
use crate::sys;

/// A directory of its own below the system's temporary one.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> io::Result<Self> {
        let pid = std::process::id();
        for attempt in 0.. {
            let path = std::env::temp_dir().join(format!("roundtable-{name}-{pid}-{attempt}"));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self(path)),
            }
        }
        unreachable!("the loop ends by returning")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that this run started.
pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
    end_with: i32,
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
        Ok(Self { name: name.to_owned(), process, log, end_with })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `ready`; fails with the end of its log if it exits or takes longer than `patience`.
    pub fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + patience;
        while !ready() {
            if sys::stopped() {
                return Err(Fail::Interrupted);
            }
            let state = match self.process.try_wait()? {
                Some(status) => format!("ended with {status}"),
                None if Instant::now() > until => format!("was not ready after {patience:?}"),
                None => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            return Err(Fail::Setup(format!("{} {state}\n{}", self.name, self.last_lines())));
        }
        Ok(())
    }

    /// The end of what it printed.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        sys::signal(self.pid(), self.end_with);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
