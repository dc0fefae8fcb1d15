//! A Redis without persistence: stopped and started again it is empty, on the same port.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fail::Result;
use crate::stack::child::{Child, Server};
use crate::stack::ports::{free, loopback};

const ANSWER_WITHIN: Duration = Duration::from_secs(1);

pub struct Redis {
    program: PathBuf,
    files: PathBuf,
    port: u16,
    starts: u32,
    child: Option<Child>,
}

impl Redis {
    /// Starts one that keeps its log in `files`; it may not be ready yet.
    pub fn start(program: &Path, files: &Path) -> Result<Self> {
        let mut redis =
            Self { program: program.to_owned(), files: files.to_owned(), port: free()?, starts: 0, child: None };
        redis.start_again()?;
        Ok(redis)
    }

    /// After [`Self::stop`]; it may not be ready yet.
    pub fn start_again(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = Command::new(&self.program);
        command.current_dir(&self.files).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &self.port.to_string()]);
        let log = self.files.join(format!("redis.{}.log", self.starts));
        self.child = Some(Child::start("redis-server", &mut command, log, libc::SIGTERM)?);
        Ok(())
    }

    /// `kill -9`: there is nothing that it could save.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// Whether it ended although nobody stopped it.
    pub fn died(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.ended().is_some())
    }

    /// Forgets everything, and then answers nobody for `pause`.
    ///
    /// # Errors
    /// Where it does not answer within a second, or not with OK.
    pub fn flush(&self, pause: Duration) -> io::Result<()> {
        let mut done = self.ask(&["FLUSHALL"])?;
        if !pause.is_zero() && done == "+OK" {
            done = self.ask(&["CLIENT", "PAUSE", &pause.as_millis().to_string(), "ALL"])?;
        }
        if done == "+OK" { Ok(()) } else { Err(io::Error::other(done)) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As it is reached by this port: its own, or that of a proxy before it.
    pub fn url_at(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// The first line of the answer to one command on a connection of its own.
    fn ask(&self, words: &[&str]) -> io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&loopback(self.port), ANSWER_WITHIN)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        socket.write_all(command.as_bytes())?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Server for Redis {
    fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    fn ready(&self) -> bool {
        self.child.is_some() && self.ask(&["PING"]).is_ok_and(|answer| answer == "+PONG")
    }
}
