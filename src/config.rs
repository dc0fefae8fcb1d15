//! Settings: built-in defaults, then a file, then the environment; one typed struct.
//!
//! Invariants: a [`Config`] has passed every check, relations between settings included; a wrong setting is one
//! [`Invalid`] that names the key, the value (secrets masked) and what is allowed. `config/default.toml` documents every
//! key and holds exactly the defaults (a test compares them).

mod layers;
mod rules;
mod types;

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use layers::Invalid;
pub use types::{List, LogFormat, Network, Origin, RedisKind, RedisUrls, Secret, StoreUrl};

/// Everything that can be set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub store: Store,
    pub cluster: Cluster,
    pub auth: Auth,
    pub limits: Limits,
    pub log: Log,
}

/// The public listener: HTTP, WebSocket and the web client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub bind: SocketAddr,
    /// Origins of browsers, besides the server's own host.
    pub allowed_origins: List<Origin>,
    /// Addresses whose `X-Forwarded-For` and `Forwarded` count.
    pub trusted_proxies: List<Network>,
    /// permessage-deflate where the client offers it.
    pub compression: bool,
    /// Send HSTS although the listener itself speaks plain HTTP.
    pub hsts: bool,
    /// Longest drain, seconds.
    pub shutdown_s: u64,
    /// Threads that serve connections; 0: one a core.
    pub workers: usize,
}

/// The listener for operators: health, metrics, cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub bind: SocketAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    pub url: StoreUrl,
    /// Most connections to PostgreSQL.
    pub connections: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Empty: a single node.
    pub redis_url: RedisUrls,
    /// Prefix of every key and channel.
    pub name: String,
    /// A node's lease, milliseconds.
    pub lease_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// How long a login lasts, days.
    pub session_days: u32,
    pub jwt: Jwt,
}

/// Where tokens of others are checked; all empty: none are taken. Several keys may be set: each is bound to its algorithm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// For HS256.
    pub secret: Secret,
    /// PEM public key, for RS256, ES256 or EdDSA by its kind.
    pub public_key_file: String,
    /// JSON Web Key Set; read again when it changes.
    pub jwks_file: String,
    /// `iss` must be this, unless empty.
    pub issuer: String,
    /// `aud` must hold this, unless empty.
    pub audience: String,
}

impl Jwt {
    pub fn enabled(&self) -> bool {
        !(self.secret.is_empty() && self.public_key_file.is_empty() && self.jwks_file.is_empty())
    }
}

/// What clients may use; 0 means "no limit" where said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages a user and node, over WebSocket and HTTP together; 0: no limit.
    pub messages_per_minute: u32,
    pub messages_burst: u32,
    /// HTTP requests a client address; 0: no limit.
    pub http_per_minute: u32,
    /// Logins and registrations a client address; 0: no limit.
    pub logins_per_minute: u32,
    /// Connections a client address; 0: no limit.
    pub connections_per_ip: u32,
    /// Largest frame read, bytes.
    pub frame_bytes: usize,
    /// Bytes a session may have waiting before its cursors pause and no more requests are read.
    pub outbound_bytes: usize,
    /// How long a session may take none of what waits, seconds.
    pub stall_s: u64,
    /// Unanswered requests of one connection.
    pub inflight: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Entries replayed to one subscription.
    pub replay: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// Directives of `tracing`'s filter: a level, or `target=level` pairs.
    pub level: String,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allowed_origins: List::default(),
            trusted_proxies: List::default(),
            compression: true,
            hsts: false,
            shutdown_s: 25,
            workers: 0,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { url: StoreUrl::Sqlite { path: "data/roundtable.db".into() }, connections: 8 }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self { redis_url: RedisUrls::default(), name: "roundtable".to_owned(), lease_ms: 2_000 }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { session_days: 30, jwt: Jwt::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_minute: 120,
            messages_burst: 20,
            http_per_minute: 600,
            logins_per_minute: 10,
            connections_per_ip: 0,
            frame_bytes: 65_536,
            outbound_bytes: 262_144,
            stall_s: 60,
            inflight: 64,
            subscriptions: 1_000,
            replay: 10_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl Config {
    /// The settings of this process: defaults, `file` if given, and the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(file: Option<&Path>) -> Result<Self, Invalid> {
        let environment = std::env::vars_os().filter_map(|(key, value)| {
            // A value that is no Unicode can't be right for any key; it is refused by its type as shown.
            Some((key.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::from_layers(file, environment)
    }

    /// As [`Config::load`], with an environment given.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_layers(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Invalid> {
        let config = layers::read(file, environment)?;
        rules::check(&config)?;
        Ok(config)
    }
}
