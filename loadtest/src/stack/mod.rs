//! A private cluster: PostgreSQL, Redis and Roundtable nodes as processes of this machine, on loopback ports of their
//! own, with their files in a temporary directory.
//!
//! Invariants: everything ends with its value, on return, error and panic alike, and should this process be killed the
//! kernel ends what it started; ports stay the same over every stop and start. It is to be started from a thread that
//! lives as long as it does (see [`child::Child`]).

pub mod child;
pub mod command;
pub mod node;
pub mod options;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod redis;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::crowd::job::Target;
use crate::fail::{Fail, Result};
use crate::stack::child::{Server, TempDir};
use crate::stack::node::Node;
use crate::stack::options::Programs;
use crate::stack::ports::loopback;
use crate::stack::postgres::Postgres;
use crate::stack::proxy::Proxy;
use crate::stack::redis::Redis;

/// For each part to become ready at the start.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that a node may hold to PostgreSQL, its appends' own included.
const CONNECTIONS_OF_A_NODE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// Process ids by part, for their CPU and memory.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub nodes: Vec<u32>,
    pub store: Vec<u32>,
    pub bus: Vec<u32>,
    /// Admin listeners of the nodes, where known, for their `/metrics`.
    pub admin: Vec<SocketAddr>,
}

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub programs: Programs,
    /// Nodes that are started at once.
    pub nodes: usize,
    pub store: Store,
    /// `ROUNDTABLE__…`; they win over those of the stack itself.
    pub settings: Vec<(String, String)>,
    /// What else the nodes have in their environment.
    pub env: Vec<(String, String)>,
    /// Whether each node has proxies of its own in front of Redis and PostgreSQL.
    pub proxied: bool,
    /// Nodes that are not started but have their ports already.
    pub spare: usize,
}

pub struct Stack {
    /// Those that were started at once, then the spare ones. Fields are dropped in this order.
    pub nodes: Vec<Node>,
    /// Where there may be more than one node.
    pub redis: Option<Redis>,
    pub postgres: Option<Postgres>,
    name: String,
    secret: String,
    files: TempDir,
}

impl Stack {
    /// Starts everything and waits until all of it is ready; `say` hears what is being waited for.
    ///
    /// # Errors
    /// Where something can't be started, ends or isn't ready within [`PATIENCE`] (with the last lines of its log), or
    /// the run is to stop.
    pub fn start(setup: &Setup, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let all = setup.nodes + setup.spare;
        if all > 1 && setup.store == Store::Sqlite {
            return Err(Fail::Setup("several nodes need --store postgres".into()));
        }
        let files = TempDir::new("stack")?;
        // PostgreSQL may run under another account.
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
        let mut stack = Self {
            nodes: Vec::new(),
            redis: None,
            postgres: None,
            name: format!("{}, {}", nodes_in_words(setup.nodes), store_name(setup.store)),
            secret: random_hex()?,
            files,
        };
        stack.start_servers(setup, all, say)?;
        for number in 1..=all {
            let node = stack.make_node(number, setup)?;
            stack.nodes.push(node);
        }
        say(&format!("starting {}", nodes_in_words(setup.nodes)));
        for node in &mut stack.nodes[..setup.nodes] {
            node.start()?;
        }
        for node in &mut stack.nodes[..setup.nodes] {
            node.until_ready(PATIENCE)?;
        }
        Ok(stack)
    }

    fn start_servers(&mut self, setup: &Setup, all: usize, say: &mut dyn FnMut(&str)) -> Result<()> {
        let programs = &setup.programs;
        if setup.store == Store::Postgres {
            say("starting PostgreSQL");
            let most = (CONNECTIONS_OF_A_NODE * all).max(200);
            let postgres = Postgres::start(programs.postgres_bin.as_deref(), self.files.path(), most)?;
            self.postgres.insert(postgres).until_ready(PATIENCE)?;
        }
        if all > 1 {
            say("starting Redis");
            let redis = Redis::start(&programs.redis, self.files.path())?;
            self.redis.insert(redis).until_ready(PATIENCE)?;
        }
        Ok(())
    }

    fn make_node(&self, number: usize, setup: &Setup) -> Result<Node> {
        let mut environment: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| environment.push((format!("ROUNDTABLE__{name}"), value));
        let proxy = |port: u16| setup.proxied.then(|| Proxy::start(loopback(port))).transpose();
        set("AUTH__JWT__SECRET", self.secret.clone());
        set("LIMITS__MESSAGES_PER_MINUTE", "0".into());
        set("LIMITS__HTTP_PER_MINUTE", "0".into());
        set("LIMITS__HTTP_PER_USER_MINUTE", "0".into());
        set("LOG__LEVEL", "warn".into());
        let mut postgres_proxy = None;
        match &self.postgres {
            None => set("STORE__URL", format!("sqlite://{}/roundtable.db", self.files.path().display())),
            Some(postgres) => {
                postgres_proxy = proxy(postgres.port())?;
                set("STORE__URL", postgres.url_at(postgres_proxy.as_ref().map_or(postgres.port(), Proxy::port)));
            }
        }
        let mut redis_proxy = None;
        if let Some(redis) = &self.redis {
            redis_proxy = proxy(redis.port())?;
            set("CLUSTER__REDIS_URL", redis.url_at(redis_proxy.as_ref().map_or(redis.port(), Proxy::port)));
        }
        environment.extend(setup.settings.iter().chain(&setup.env).cloned());
        let mut node = Node::new(number, &setup.programs.roundtable, self.files.path(), environment)?;
        node.redis = redis_proxy;
        node.postgres = postgres_proxy;
        Ok(node)
    }

    /// Where clients connect, the spare nodes included.
    pub fn target(&self) -> Target {
        Target {
            name: self.name.clone(),
            servers: self.nodes.iter().map(|node| node.public).collect(),
            secret: self.secret.clone(),
        }
    }

    /// What runs now.
    pub fn parts(&self) -> Parts {
        let pids = |pid: Option<u32>| pid.into_iter().collect();
        Parts {
            nodes: self.nodes.iter().filter_map(Node::pid).collect(),
            store: pids(self.postgres.as_ref().and_then(Postgres::pid)),
            bus: pids(self.redis.as_ref().and_then(Redis::pid)),
            admin: self.nodes.iter().filter(|node| node.pid().is_some()).map(|node| node.admin).collect(),
        }
    }

    /// # Errors
    /// Where the stack has none.
    pub fn redis_mut(&mut self) -> Result<&mut Redis> {
        self.redis.as_mut().ok_or_else(|| Fail::Setup("a single node has no Redis".into()))
    }

    /// # Errors
    /// Where the stack has none.
    pub fn postgres_mut(&mut self) -> Result<&mut Postgres> {
        self.postgres.as_mut().ok_or_else(|| Fail::Setup("this cluster has no PostgreSQL".into()))
    }

    /// Where its data and logs are.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// Leaves data and logs where they are at the end.
    pub fn keep_files(&mut self) {
        self.files.keep();
    }

    /// Copies every log into the directory `into`, which is there already.
    pub fn copy_logs(&self, into: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(self.files.path())?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::copy(&path, into.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// What its nodes printed last, for the one who has to find out why a run failed.
    pub fn last_words(&self) -> String {
        let words = self.nodes.iter().map(|node| (&node.name, node.last_lines()));
        words.filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("--- {name}\n{text}\n")).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // All at once, so that they need not wait for each other; each value waits for its own end afterwards.
        for node in &mut self.nodes {
            node.terminate();
        }
    }
}

fn nodes_in_words(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}

fn store_name(store: Store) -> &'static str {
    match store {
        Store::Sqlite => "SQLite",
        Store::Postgres => "PostgreSQL",
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
