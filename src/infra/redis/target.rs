//! Which Redis: the URL of the settings, and how a connection to it is made.
//!
//! Invariant: a URL that parsed here never fails later for its form; a connection attempt looks everything up anew (names,
//! the master of a sentinel, the slots of a cluster).

use std::time::Duration;

use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion,
    PushInfo, RedisFuture, RedisResult, Value,
};

/// Longest wait for a connection to be usable.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// Longest wait for an answer.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_millis(800);
/// Commands that may wait in front of one connection.
const PIPELINE_COMMANDS: usize = 4_096;

const FORMS: &str = "allowed are redis://[[user]:password@]host[:port][/db], rediss://…, \
     redis+sentinel://[[user]:password@]host[:port][,host…]/master[/db], and several redis:// or rediss:// URLs \
     separated by commas for a Redis Cluster";

/// Where to connect.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Node(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionAddr>, master: String, node: ConnectionInfo },
    Cluster(Vec<ConnectionInfo>),
}

/// What is called with everything Redis pushes on a connection; must not block.
pub(super) type OnPush = std::sync::Arc<dyn Fn(PushInfo) + Send + Sync>;

/// One usable connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Target {
    /// # Errors
    /// One line that says what is wrong and what is allowed; secrets masked.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{:?}: {what}; {FORMS}", masked(url));
        if let Some(rest) = url.strip_prefix("redis+sentinel://") {
            return Self::parse_sentinel(rest).map_err(|what| wrong(&what));
        }
        let mut infos = Vec::new();
        for one in url.split(',') {
            let one = one.trim();
            if !one.starts_with("redis://") && !one.starts_with("rediss://") {
                return Err(wrong("not a Redis URL"));
            }
            infos.push(connection_info(one).map_err(|what| wrong(&what))?);
        }
        if infos.len() == 1 {
            return Ok(Self::Node(infos.remove(0)));
        }
        if infos.iter().any(|info| info.redis_settings().db() != 0) {
            return Err(wrong("a Redis Cluster has no database but 0"));
        }
        // The client library refuses nodes that differ in credentials.
        cluster_builder(&infos).build().map_err(|error| wrong(&error.to_string()))?;
        Ok(Self::Cluster(infos))
    }

    fn parse_sentinel(rest: &str) -> Result<Self, String> {
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (format!("{userinfo}@"), rest),
            None => (String::new(), rest),
        };
        let mut parts = rest.split('/');
        let hosts = parts.next().unwrap_or_default();
        let master = parts.next().filter(|name| !name.is_empty()).ok_or("the name of the master is missing")?;
        let db = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return Err("too many slashes".to_owned());
        }
        let mut sentinels = Vec::new();
        let mut node = None;
        for host in hosts.split(',') {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let host = if has_port { host.to_owned() } else { format!("{host}:26379") };
            let info = connection_info(&format!("redis://{userinfo}{host}/{db}"))?;
            sentinels.push(info.addr().clone());
            node = Some(info);
        }
        let node = node.ok_or("a host is missing")?;
        Ok(Self::Sentinel { sentinels, master: master.to_owned(), node })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// A new connection, within [`CONNECT_DEADLINE`].
    pub(super) async fn connect(&self, on_push: OnPush) -> Result<Connection, String> {
        match tokio::time::timeout(CONNECT_DEADLINE, self.open(on_push)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("no connection in time".to_owned()),
        }
    }

    async fn open(&self, on_push: OnPush) -> RedisResult<Connection> {
        match self {
            Self::Node(info) => open_node(info.clone(), on_push).await,
            Self::Sentinel { sentinels, master, node } => {
                let settings = node.redis_settings();
                let mut builder =
                    SentinelClientBuilder::new(sentinels.iter().cloned(), master, SentinelServerType::Master)?
                        .set_client_to_redis_db(settings.db());
                if let Some(username) = settings.username() {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = settings.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                let found = builder.build()?.async_get_client().await?;
                open_node(node.clone().set_addr(found.get_connection_info().addr().clone()), on_push).await
            }
            Self::Cluster(infos) => {
                let client = cluster_builder(infos).push_sender(sender(on_push)).build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
        }
    }
}

async fn open_node(info: ConnectionInfo, on_push: OnPush) -> RedisResult<Connection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(Some(ANSWER_DEADLINE))
        .set_pipeline_buffer_size(PIPELINE_COMMANDS)
        .set_push_sender(sender(on_push));
    let connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(Connection::Node(connection))
}

fn sender(on_push: OnPush) -> impl AsyncPushSender {
    move |push: PushInfo| -> Result<(), ()> {
        on_push(push);
        Ok(())
    }
}

fn cluster_builder(infos: &[ConnectionInfo]) -> ClusterClientBuilder {
    ClusterClientBuilder::new(infos.iter().cloned())
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(CONNECT_DEADLINE)
        .response_timeout(ANSWER_DEADLINE)
        .overall_response_timeout(Some(ANSWER_DEADLINE))
        .retries(2)
        .min_retry_wait(10)
        .max_retry_wait(100)
        .tcp_settings(tcp_settings())
}

/// RESP3, because a subscription shares its connection with the commands that watch over it.
fn connection_info(url: &str) -> Result<ConnectionInfo, String> {
    let info = url.into_connection_info().map_err(|error| error.to_string())?;
    if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = info.addr()
        && host.is_empty()
    {
        return Err("a host is missing".to_owned());
    }
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The URL with everything between `//` and `@` hidden.
fn masked(url: &str) -> String {
    let mut out = String::new();
    // A password may hold a comma, so parts are looked for by their scheme.
    let mut rest = url;
    while let Some(at) = rest.find("://") {
        let (scheme, tail) = rest.split_at(at + 3);
        let end = [",redis://", ",rediss://"].iter().filter_map(|next| tail.find(next)).min().unwrap_or(tail.len());
        let (one, others) = tail.split_at(end);
        out += scheme;
        match one.rsplit_once('@') {
            Some((_secret, host)) => out += &format!("***@{host}"),
            None => out += one,
        }
        rest = others;
    }
    // Without a scheme nothing says which part is secret.
    if out.is_empty() && url.contains('@') { "***".to_owned() } else { out + rest }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_url_parses() {
        for url in ["redis://h", "redis://:pw@h:1/2", "rediss://u:pw@h:6380", "redis://[::1]:6379"] {
            assert!(matches!(Target::parse(url), Ok(Target::Node(_))), "{url}");
        }
        let Ok(Target::Sentinel { sentinels, master, node }) = Target::parse("redis+sentinel://:p%40w@a:1,b/main/3")
        else {
            panic!("a sentinel URL");
        };
        assert_eq!(sentinels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:26379"]);
        assert_eq!((master.as_str(), node.redis_settings().db()), ("main", 3));
        assert_eq!(node.redis_settings().password(), Some("p@w"));
        assert!(matches!(Target::parse("redis://a:1,redis://b:2"), Ok(Target::Cluster(infos)) if infos.len() == 2));
    }

    #[test]
    fn a_wrong_url_is_told_in_one_line_without_its_secrets() {
        for url in [
            "",
            "localhost:6379",
            "http://u:secret@h",
            "u:secret@h:1",
            "redis://",
            "redis://u:secret@h:port",
            "redis://u:secret@h/notanumber",
            "redis://u:secret@a,redis://u:se,cret@b/1",
            "redis://u:secret@a,redis://u:secret2@b",
            "redis+sentinel://:secret@h",
            "redis+sentinel://:secret@h/main/0/x",
            "redis+sentinel://:secret@h/main/x",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(!error.contains("secret") && !error.contains("cret@"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.contains("redis+sentinel://"), "{error}");
        }
    }
}
