//! One Roundtable node: the built program as a process, on ports that stay its own over every restart, with its own
//! proxies in front of Redis and PostgreSQL where it is to be cut off from them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::fail::Result;
use crate::net::http;
use crate::stack::child::{self, Child, Server};
use crate::stack::ports::{free, loopback};
use crate::stack::proxy::Proxy;

/// For the answer of a node that is asked whether it is ready; one that takes longer isn't.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

pub struct Node {
    /// `node 1`
    pub name: String,
    /// HTTP and WebSocket.
    pub public: SocketAddr,
    pub admin: SocketAddr,
    /// What stands between the node and Redis, PostgreSQL; only in a proxied stack.
    pub redis: Option<Proxy>,
    pub postgres: Option<Proxy>,
    program: PathBuf,
    files: PathBuf,
    environment: Vec<(String, String)>,
    starts: u32,
    child: Option<Child>,
}

impl Node {
    /// The `number`th node, counted from 1, that keeps its logs in `files`; not started. Later pairs of `environment`
    /// win over earlier ones.
    pub fn new(number: usize, program: &Path, files: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        Ok(Self {
            name: format!("node {number}"),
            public: loopback(free()?),
            admin: loopback(free()?),
            redis: None,
            postgres: None,
            program: program.to_owned(),
            files: files.to_owned(),
            environment,
            starts: 0,
            child: None,
        })
    }

    /// What it is started as from its next start on.
    pub fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// A command of `program` with this node's settings.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.files);
        // Settings of the caller's own environment must not leak into the measurement.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ROUNDTABLE__")) {
            command.env_remove(key);
        }
        command.env("ROUNDTABLE__SERVER__BIND", self.public.to_string());
        command.env("ROUNDTABLE__ADMIN__BIND", self.admin.to_string());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts it, for the first time or after its end; it may not be ready yet.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = self.command(&self.program, &[]);
        let log = self.log();
        self.child = Some(Child::start(&self.name, &mut command, log, libc::SIGTERM)?);
        Ok(())
    }

    /// How the last start ended, where it has; `None` too before the first one.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.ended()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill();
        }
    }

    /// SIGTERM: drain and go.
    pub fn terminate(&mut self) {
        if let Some(child) = &mut self.child {
            child.ask_to_end();
        }
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        if let Some(child) = &mut self.child {
            child.freeze();
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        if let Some(child) = &mut self.child {
            child.thaw();
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// The end of what it printed since its last start.
    pub fn last_lines(&self) -> String {
        child::last_lines(&self.log())
    }

    /// Where the last start logs.
    fn log(&self) -> PathBuf {
        self.files.join(format!("{}.{}.log", self.name.replace(' ', "-"), self.starts))
    }
}

impl Server for Node {
    fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Whether it says so itself.
    fn ready(&self) -> bool {
        self.child.is_some()
            && matches!(http::call_within(ANSWER_WITHIN, self.admin, "GET", "/readyz", None, ""), Ok((200, _)))
    }
}
