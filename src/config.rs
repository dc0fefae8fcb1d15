//! Settings: built-in defaults, then a file, then the environment; one typed struct.
//!
//! Invariants: a [`Config`] has passed every check, relations between settings included; a wrong setting is one
//! [`Invalid`] that names the key, the value (secrets masked) and what is allowed. `config/default.toml` documents every
//! key and holds exactly the defaults (a test compares them).

mod encryption;
mod layers;
mod oidc;
mod outgoing;
pub mod postgres_url;
mod rules;
mod secret_files;
mod traces;
mod types;

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use encryption::{EncryptedRooms, Encryption, NamedKey};
pub use layers::Invalid;
pub use oidc::{Oidc, UserClaim};
pub use outgoing::{BeforeSend, HookUrl, Hooks, Webhooks, WhenAway};
pub use traces::Traces;
pub use types::{
    BlobsUrl, HttpsUrl, List, LogFormat, MimePattern, Network, OptionalAddress, Origin, RedisKind, RedisUrls, Secret,
    StoreUrl,
};

/// Everything that can be set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub store: Store,
    pub cluster: Cluster,
    pub auth: Auth,
    pub attachments: Attachments,
    pub encryption: Encryption,
    pub limits: Limits,
    pub search: Search,
    pub log: Log,
    pub sentry: Sentry,
    pub kubernetes: Kubernetes,
    pub traces: Traces,
    pub hooks: Hooks,
    pub webhooks: Webhooks,
}

/// The public listener: HTTP, WebSocket and the web client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub bind: SocketAddr,
    pub tls: Tls,
    /// Plain HTTP that is sent to https.
    pub redirect_bind: OptionalAddress,
    /// Where browsers find this server, where that is not where they asked.
    pub public_url: HttpsUrl,
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

/// TLS of the public listener; both empty: plain HTTP. Read again when they change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM: the certificate and those up to the root.
    pub cert_file: String,
    /// PEM: its private key.
    pub key_file: String,
}

impl Tls {
    pub fn enabled(&self) -> bool {
        !self.cert_file.is_empty()
    }
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
    pub url_file: String,
    /// Most connections to PostgreSQL.
    pub connections: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Empty: a single node.
    pub redis_url: RedisUrls,
    pub redis_url_file: String,
    /// Prefix of every key and channel.
    pub name: String,
    /// A node's lease, milliseconds.
    pub lease_ms: u64,
    /// Sessions that a node with far more than its share asks to come again, a minute; 0: none.
    pub rebalance_per_minute: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// How long a login lasts, days.
    pub session_days: u32,
    pub jwt: Jwt,
    pub oidc: Oidc,
}

/// Where tokens of others are checked; all empty: none are taken. Several keys may be set: each is bound to its algorithm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// For HS256.
    pub secret: Secret,
    pub secret_file: String,
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

/// Finding messages by what they say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Whether there is an index of texts at all; on every node the same.
    pub enabled: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Files that belong to messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attachments {
    /// Where their bytes are; empty: there are none.
    pub url: BlobsUrl,
    /// Read instead of it.
    pub url_file: String,
    /// Of one file.
    pub max_bytes: u64,
    /// Of all files of one person; 0: no limit.
    pub per_user_bytes: u64,
    /// Taken, by their content.
    pub types: List<MimePattern>,
    /// How long a file may be there before its message, seconds.
    pub unreferenced_s: u64,
    /// How long an address is good for, seconds.
    pub link_s: u64,
    /// Key of addresses; empty: one that the store keeps.
    pub secret: Secret,
    /// A file with the same.
    pub secret_file: String,
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
    /// Posts to streams a client address; 0: no limit.
    pub stream_posts_per_minute: u32,
    /// HTTP requests a user and node; 0: no limit.
    pub http_per_user_minute: u32,
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

/// Where errors are reported to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sentry {
    /// Empty: nowhere.
    pub dsn: Secret,
    /// Read instead of it.
    pub dsn_file: String,
    /// What a report calls this installation.
    pub environment: String,
    /// Reports that leave a node a minute; those beyond are dropped.
    pub events_per_minute: u32,
}

/// What a node does inside Kubernetes, and nowhere else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Keeps the annotation of the own pod that says what it costs to let it go.
    pub pod_deletion_cost: bool,
    /// Empty: the host's name.
    pub pod_name: String,
    /// The folder with `token`, `ca.crt` and `namespace`.
    pub account_folder: String,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            pod_deletion_cost: false,
            pod_name: String::new(),
            account_folder: "/var/run/secrets/kubernetes.io/serviceaccount".to_owned(),
        }
    }
}

impl Default for Sentry {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            dsn_file: String::new(),
            environment: "production".to_owned(),
            events_per_minute: 60,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: Tls::default(),
            redirect_bind: OptionalAddress::default(),
            public_url: HttpsUrl::default(),
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
        Self { url: StoreUrl::Sqlite("data/roundtable.db".into()), url_file: String::new(), connections: 8 }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            redis_url: RedisUrls::default(),
            redis_url_file: String::new(),
            name: "roundtable".to_owned(),
            lease_ms: 2_000,
            rebalance_per_minute: 0,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { session_days: 30, jwt: Jwt::default(), oidc: Oidc::default() }
    }
}

impl Default for Attachments {
    fn default() -> Self {
        let types = [
            "image/*",
            "audio/*",
            "video/*",
            "text/plain",
            "application/pdf",
            "application/rtf",
            "application/zip",
            "application/x-ole-storage",
            "application/vnd.oasis.opendocument.*",
            "application/vnd.openxmlformats-officedocument.*",
        ];
        Self {
            url: BlobsUrl::Folder("data/attachments".into()),
            url_file: String::new(),
            max_bytes: 25 * 1024 * 1024,
            per_user_bytes: 1024 * 1024 * 1024,
            types: List(types.iter().filter_map(|pattern| pattern.parse().ok()).collect()),
            unreferenced_s: 86_400,
            link_s: 3_600,
            secret: Secret::default(),
            secret_file: String::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_minute: 120,
            messages_burst: 20,
            http_per_minute: 600,
            stream_posts_per_minute: 6_000,
            http_per_user_minute: 1_200,
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
        let mut config = layers::read(file, environment)?;
        rules::check(&config)?;
        if config.auth.oidc.enabled() && config.auth.oidc.redirect_url.is_empty() {
            config.auth.oidc.redirect_url = format!("{}{}", config.server.public_url.as_str(), oidc::CALLBACK);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_env(variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::from_layers(None, environment).map_err(|invalid| invalid.to_string())
    }

    fn from_file(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::from_layers(Some(file.path()), []).map_err(|invalid| invalid.to_string())
    }

    /// As text, since secrets compare by it; `Debug` would mask them.
    fn text(config: &Config) -> String {
        serde_json::to_string_pretty(config).expect("maps with text keys")
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let documented = Config::from_layers(Some(Path::new("config/default.toml")), []).expect("valid");
        assert_eq!(text(&documented), text(&Config::default()));
        // Every key stands there, not just none that differs.
        let toml = std::fs::read_to_string("config/default.toml").expect("readable");
        let figment = figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(&toml));
        let named: serde_json::Value = figment.extract().expect("a table");
        assert_eq!(named, serde_json::to_value(Config::default()).expect("maps with text keys"));
    }

    #[test]
    fn the_example_for_production_is_valid() {
        let config = Config::from_layers(Some(Path::new("config/production.toml")), []).expect("valid");
        assert!(matches!(config.store.url, StoreUrl::Postgres(_)));
        assert!(!config.cluster.redis_url.is_empty());
    }

    #[test]
    fn later_layers_win() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "[limits]\ninflight = 7\nreplay = 8\n[log]\nlevel = \"debug\"").expect("written");
        let environment = [("ROUNDTABLE__LIMITS__INFLIGHT".to_owned(), "9".to_owned())];
        let config = Config::from_layers(Some(file.path()), environment).expect("valid");
        assert_eq!((config.limits.inflight, config.limits.replay, config.limits.stall_s), (9, 8, 60));
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn the_environment_reads_as_the_type_of_the_key() {
        let config = from_env(&[
            ("ROUNDTABLE__SERVER__ALLOWED_ORIGINS", "https://a.example, http://b.example:81"),
            ("ROUNDTABLE__SERVER__TRUSTED_PROXIES", "10.0.0.1,192.168.0.0/16,::1"),
            ("ROUNDTABLE__SERVER__COMPRESSION", "false"),
            ("ROUNDTABLE__AUTH__JWT__SECRET", "0123456789"),
            ("ROUNDTABLE__CLUSTER__NAME", "42"),
            ("ROUNDTABLE__STORE__URL", "postgres://u:p@h/db"),
            ("ROUNDTABLE__CLUSTER__REDIS_URL", "redis://a,redis://b"),
            ("ROUNDTABLE__ADMIN__BIND", "[::1]:0"),
            ("ROUNDTABLE__LOG__LEVEL", "info,roundtable=trace"),
            ("ROUNDTABLE__LOG__FORMAT", "json"),
            ("ROUNDTABLE_SOMETHING", "of others"),
        ])
        .expect("valid");
        let origins: Vec<_> = config.server.allowed_origins.iter().map(Origin::as_str).collect();
        assert_eq!(origins, ["https://a.example", "http://b.example:81"]);
        assert_eq!(config.server.trusted_proxies.len(), 3);
        assert!(!config.server.compression);
        assert_eq!(config.auth.jwt.secret.expose(), "0123456789");
        assert_eq!(config.cluster.name, "42");
        assert_eq!(config.cluster.redis_url.kind(), Some(RedisKind::Cluster));
        assert_eq!(config.log.format, LogFormat::Json);
        assert!(
            from_env(&[("ROUNDTABLE__SERVER__ALLOWED_ORIGINS", "")]).expect("valid").server.allowed_origins.is_empty()
        );
        assert!(from_env(&[("ROUNDTABLE__CLUSTER__REDIS_URL", "")]).expect("valid").cluster.redis_url.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line_with_what_is_allowed() {
        for (variable, value, parts) in [
            ("LIMITS__INFLIGHT", "many", ["limits.inflight", "many", "integer"]),
            ("LIMITS__INFLIGHT", "0", ["limits.inflight", "0", "1 to 65536"]),
            ("LIMITS__INFLIGHT", "-1", ["limits.inflight", "-1", "integer"]),
            ("LIMITS__MESSAGES_PER_MINUTE", "5000000000", ["limits.messages_per_minute", "5000000000", "integer"]),
            ("LIMITS__OUTBOUND_BYTES", "2048", ["limits.outbound_bytes", "2048", "limits.frame_bytes"]),
            ("SERVER__BIND", "localhost", ["server.bind", "localhost", "an address with a port"]),
            ("SERVER__BIND", "127.0.0.1:9464", ["admin.bind", "127.0.0.1:9464", "server.bind"]),
            ("SERVER__COMPRESSION", "yes", ["server.compression", "yes", "true or false"]),
            ("SERVER__ALLOWED_ORIGINS", "https://a,b", ["server.allowed_origins", "b", "https://"]),
            ("SERVER__TRUSTED_PROXIES", "everyone", ["server.trusted_proxies", "everyone", "10.0.0.0/8"]),
            ("STORE__URL", "mysql://u:geheim@h/d", ["store.url", "mysql://u:***@h/d", "sqlite://"]),
            ("CLUSTER__REDIS_URL", "http://x:geheim@h", ["cluster.redis_url", "http://x:***@h", "redis://"]),
            ("CLUSTER__REDIS_URL", "redis://:geheim@h", ["cluster.redis_url", "redis://:***@h", "sqlite"]),
            ("CLUSTER__NAME", "{a}", ["cluster.name", "{a}", "A–Z"]),
            ("LOG__FORMAT", "xml", ["log.format", "xml", "pretty"]),
            ("LOG__LEVEL", "loud", ["log.level", "loud", "debug"]),
            ("LOG__LEVEL", "", ["log.level", "", "debug"]),
            ("LOG__LEVEL", "roundtable=loud", ["log.level", "roundtable=loud", "debug"]),
            ("LIMITS__INFLIHGT", "3", ["ROUNDTABLE__LIMITS__INFLIHGT", "limits.inflihgt", "unknown"]),
            ("LIMITS", "3", ["ROUNDTABLE__LIMITS", "limits", "unknown"]),
            ("LIMITS__INFLIGHT__X", "3", ["ROUNDTABLE__LIMITS__INFLIGHT__X", "limits.inflight.x", "unknown"]),
            ("AUTH__JWT", "3", ["ROUNDTABLE__AUTH__JWT", "auth.jwt", "unknown"]),
        ] {
            let line = from_env(&[(&format!("ROUNDTABLE__{variable}"), value)]).expect_err(variable);
            assert!(!line.contains('\n') && !line.contains("geheim"), "{line}");
            for part in parts {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
        }
    }

    #[test]
    fn a_file_is_held_to_the_same() {
        for (file, parts) in [
            ("[limits]\ninflihgt = 3", ["limits.inflihgt: unknown", "known here", "inflight"]),
            ("[limit]\ninflight = 3", ["limit", "unknown", "limits"]),
            ("[limits]\ninflight = \"3\"", ["limits.inflight", "3", "integer"]),
            ("[limits]\ninflight = -3", ["limits.inflight", "-3", "integer"]),
            ("[server]\nallowed_origins = [\"*\"]", ["server.allowed_origins", "*", "https://"]),
            ("[store]\nurl = \"mysql://u:geheim@h/d\"", ["store.url", "***", "postgres://"]),
            ("[auth.jwt]\nsecret = 7", ["auth.jwt.secret", "***", "string"]),
            ("limits = 3", ["limits", "3", ""]),
            ("[limits\n", ["--config", "", ""]),
        ] {
            let line = from_file(file).expect_err(file);
            assert!(!line.contains('\n') && !line.contains("geheim"), "{line}");
            for part in parts {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
        }
        let missing = Config::from_layers(Some(Path::new("nowhere.toml")), []).expect_err("no such file").to_string();
        assert!(missing.contains("nowhere.toml"), "{missing}");
    }
}
