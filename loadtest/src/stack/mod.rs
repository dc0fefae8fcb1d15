//! What is measured: Roundtable nodes with the store and bus they need, the bare broadcaster, or servers that run
//! already. Everything that is started here listens on a free loopback port, keeps its files in a temporary directory
//! and ends with its value.

pub mod child;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fail::{Fail, Result};
use crate::net::http;
use crate::net::token::Mint;
use crate::proc::{self, Cpu, Memory};
use crate::stack::child::{Child, TempDir};
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// Where programs are, and what is to be started with them.
#[derive(Clone, Debug)]
pub struct Programs {
    pub roundtable: PathBuf,
    pub postgres_bin: Option<PathBuf>,
    pub redis: PathBuf,
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

/// Something that serves the protocol, with the processes behind it.
pub struct Subject {
    pub name: String,
    /// Where clients connect, one a node.
    pub servers: Vec<SocketAddr>,
    pub mint: Mint,
    /// `auth.jwt.secret`, what `mint` signs with.
    pub secret: String,
    /// Whether rooms exist by being named (the bare broadcaster) or have to be made.
    pub makes_rooms: bool,
    pub nodes: Vec<u32>,
    pub store: Vec<u32>,
    pub bus: Vec<u32>,
    /// In the order of their start; they are ended in reverse.
    children: Vec<Child>,
    _files: Option<TempDir>,
}

/// CPU used so far by each part of a subject.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Usage {
    pub nodes: Cpu,
    pub store: Cpu,
    pub bus: Cpu,
    pub client: Cpu,
}

impl std::ops::Sub for Usage {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            nodes: self.nodes - earlier.nodes,
            store: self.store - earlier.store,
            bus: self.bus - earlier.bus,
            client: self.client - earlier.client,
        }
    }
}

impl Subject {
    /// The bare broadcaster, from this same program.
    pub fn raw() -> Result<Self> {
        let files = TempDir::new("raw")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("raw-server");
        let mut child = Child::start("raw", &mut command, files.path().join("raw.log"), libc::SIGTERM)?;
        let log = child.log().to_owned();
        let mut port = None;
        child.wait_until(PATIENCE, || {
            port = fs::read_to_string(&log).ok().and_then(|text| text.lines().next()?.parse::<u16>().ok());
            port.is_some()
        })?;
        Ok(Self {
            name: "raw".into(),
            servers: vec![loopback(port.unwrap_or_default())],
            mint: Mint::new(""),
            secret: String::new(),
            makes_rooms: false,
            nodes: vec![child.pid()],
            store: Vec::new(),
            bus: Vec::new(),
            children: vec![child],
            _files: Some(files),
        })
    }

    /// `count` nodes with `store`, and Redis where there are several.
    pub fn roundtable(programs: &Programs, count: usize, store: Store, settings: &[(String, String)]) -> Result<Self> {
        if count > 1 && store == Store::Sqlite {
            return Err(Fail::Setup("several nodes need --store postgres".into()));
        }
        let files = TempDir::new("bench")?;
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
        let secret = random_hex()?;
        let mut subject = Self {
            name: format!("{count} node{}, {}", if count == 1 { "" } else { "s" }, store_name(store)),
            servers: Vec::new(),
            mint: Mint::new(&secret),
            secret: secret.clone(),
            makes_rooms: true,
            nodes: Vec::new(),
            store: Vec::new(),
            bus: Vec::new(),
            children: Vec::new(),
            _files: None,
        };
        let store_url = match store {
            Store::Sqlite => format!("sqlite://{}/roundtable.db", files.path().display()),
            Store::Postgres => {
                let (child, url) = postgres(programs, files.path())?;
                subject.store.push(child.pid());
                subject.children.push(child);
                url
            }
        };
        let redis_url = if count > 1 {
            let (child, url) = redis(programs, files.path())?;
            subject.bus.push(child.pid());
            subject.children.push(child);
            url
        } else {
            String::new()
        };
        for i in 0..count {
            let (bind, admin) = (loopback(free_port()?), loopback(free_port()?));
            let mut command = Command::new(&programs.roundtable);
            command.current_dir(files.path());
            // Settings of the caller's own environment must not leak into the measurement.
            for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ROUNDTABLE__")) {
                command.env_remove(key);
            }
            command
                .env("ROUNDTABLE__SERVER__BIND", bind.to_string())
                .env("ROUNDTABLE__ADMIN__BIND", admin.to_string())
                .env("ROUNDTABLE__STORE__URL", &store_url)
                .env("ROUNDTABLE__AUTH__JWT__SECRET", &secret)
                .env("ROUNDTABLE__LIMITS__MESSAGES_PER_MINUTE", "0")
                .env("ROUNDTABLE__LIMITS__HTTP_PER_MINUTE", "0")
                .env("ROUNDTABLE__LOG__LEVEL", "warn");
            if !redis_url.is_empty() {
                command.env("ROUNDTABLE__CLUSTER__REDIS_URL", &redis_url);
            }
            command.envs(settings.iter().map(|(key, value)| (key, value)));
            let log = files.path().join(format!("node{i}.log"));
            let mut child = Child::start("roundtable", &mut command, log, libc::SIGTERM)?;
            child.wait_until(PATIENCE, || matches!(http::call(admin, "GET", "/readyz", None, ""), Ok((200, _))))?;
            subject.servers.push(bind);
            subject.nodes.push(child.pid());
            subject.children.push(child);
        }
        subject._files = Some(files);
        Ok(subject)
    }

    /// Nodes that run already; `nodes` are their process ids where they run here, so that their CPU can be told.
    pub fn existing(servers: Vec<SocketAddr>, nodes: Vec<u32>, secret: &str) -> Self {
        Self {
            name: "target".into(),
            servers,
            mint: Mint::new(secret),
            secret: secret.to_owned(),
            makes_rooms: true,
            nodes,
            store: Vec::new(),
            bus: Vec::new(),
            children: Vec::new(),
            _files: None,
        }
    }

    /// Makes public rooms.
    pub fn make_rooms(&self, rooms: &[String]) -> Result<()> {
        if !self.makes_rooms {
            return Ok(());
        }
        let token = self.mint.token("bench-owner");
        for (room, server) in rooms.iter().zip(self.servers.iter().cycle()) {
            if sys::stopped() {
                return Err(Fail::Interrupted);
            }
            let body = format!(r#"{{"id":"{room}","kind":"public"}}"#);
            match http::call(*server, "POST", "/api/v1/rooms", Some(&token), &body) {
                Ok((201, _)) => {}
                Ok((status, body)) => return Err(Fail::Broken(format!("making room {room}: {status} {body}"))),
                Err(error) => return Err(Fail::Broken(format!("making room {room}: {error}"))),
            }
        }
        Ok(())
    }

    pub fn usage(&self) -> Usage {
        Usage {
            nodes: proc::cpu(&self.nodes),
            store: proc::cpu(&self.store),
            bus: proc::cpu(&self.bus),
            client: Cpu::own(),
        }
    }

    /// Of the nodes together.
    pub fn memory(&self) -> Memory {
        proc::memory(&self.nodes)
    }

    /// What its processes printed last, for the one who has to find out why a run failed.
    pub fn last_words(&self) -> String {
        let logs = self.children.iter().map(|child| (child.log().display(), child.last_lines()));
        logs.filter(|(_, text)| !text.is_empty()).map(|(log, text)| format!("--- {log}\n{text}\n")).collect()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        while self.children.pop().is_some() {}
    }
}

fn store_name(store: Store) -> &'static str {
    match store {
        Store::Sqlite => "SQLite",
        Store::Postgres => "PostgreSQL",
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn random_hex() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// PostgreSQL with its defaults (fsync and synchronous_commit on) in `files`. It refuses to run as root, so it gets
/// another user there.
pub(crate) fn postgres(programs: &Programs, files: &Path) -> Result<(Child, String)> {
    let bin = match &programs.postgres_bin {
        Some(bin) => bin.clone(),
        None => find_postgres().ok_or_else(|| Fail::Setup("no PostgreSQL found: --postgres-bin DIR".into()))?,
    };
    let data = files.join("postgres");
    fs::create_dir(&data)?;
    let ids = if sys::is_root() { Some(unprivileged()?) } else { None };
    if let Some((user, group)) = ids {
        chown(&data, Some(user), Some(group))?;
    }
    let run = |name: &str| {
        let mut command = Command::new(bin.join(name));
        command.current_dir(&data);
        if let Some((user, group)) = ids {
            command.uid(user).gid(group);
        }
        command
    };
    let made = run("initdb")
        .args(["--username=roundtable", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
        .arg(&data)
        .output()
        .map_err(|error| Fail::Setup(format!("{}: {error}", bin.join("initdb").display())))?;
    if !made.status.success() {
        return Err(Fail::Setup(format!("initdb: {}", String::from_utf8_lossy(&made.stderr))));
    }
    let port = free_port()?.to_string();
    let mut command = run("postgres");
    command.arg("-D").arg(&data).args(["-p", &port, "-c", "listen_addresses=127.0.0.1"]);
    command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
    // SIGQUIT is PostgreSQL's immediate shutdown: the data is thrown away, so nothing has to be written back.
    let mut child = Child::start("postgres", &mut command, files.join("postgres.log"), libc::SIGQUIT)?;
    // PostgreSQL keeps its state in the last line of this file.
    let state = data.join("postmaster.pid");
    child.wait_until(PATIENCE, || {
        fs::read_to_string(&state).is_ok_and(|text| text.lines().last().is_some_and(|line| line.trim() == "ready"))
    })?;
    Ok((child, format!("postgres://roundtable:none@127.0.0.1:{port}/postgres")))
}

/// On the path, or the newest of Debian's places.
pub(crate) fn find_postgres() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|dir| dir.join("initdb").is_file());
    on_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let bins = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        bins.filter(|bin| bin.join("initdb").is_file()).max()
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

/// Redis without persistence.
pub(crate) fn redis(programs: &Programs, files: &Path) -> Result<(Child, String)> {
    let port = free_port()?;
    let mut command = Command::new(&programs.redis);
    command.current_dir(files).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port.to_string()]);
    let mut child = Child::start("redis-server", &mut command, files.join("redis.log"), libc::SIGTERM)?;
    child.wait_until(PATIENCE, || std::net::TcpStream::connect(loopback(port)).is_ok())?;
    Ok((child, format!("redis://127.0.0.1:{port}")))
}
