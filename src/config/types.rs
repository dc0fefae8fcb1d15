//! Types of settings that have rules of their own. Each reads from and writes to the text that stands in a file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::postgres_url;

/// A text that must not be shown. Its `Debug` shows none of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

/// Several values: a list in a file, comma-separated in the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// Types that are a text in files and keep their rule in `FromStr`.
macro_rules! as_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

/// Scheme, host and port of a browser's page, as in the header `Origin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

as_text!(Origin);

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "origins like https://chat.example.org, without a path";
        let url = Url::parse(text).map_err(|_| rule)?;
        let origin = url.origin().ascii_serialization();
        let bare = text.trim_end_matches('/');
        let is_web = matches!(url.scheme(), "http" | "https");
        // Whoever writes the default port means the origin that browsers send without it.
        let only_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if is_web && only_origin && url.username().is_empty() && !bare.ends_with(['?', '#']) {
            Ok(Self(origin))
        } else {
            Err(rule)
        }
    }
}

/// An address and port to listen on, or none (empty).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

as_text!(OptionalAddress);

impl FromStr for OptionalAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| "empty, or an address and port like 0.0.0.0:80")
    }
}

impl Serialize for OptionalAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.map(|address| address.to_string()).unwrap_or_default())
    }
}

/// The https origin of a server, or none (empty).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HttpsUrl(String);

as_text!(HttpsUrl);

impl HttpsUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpsUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let rule = "empty, or like https://chat.example.org, without a path";
        let origin: Origin = text.parse().map_err(|_| rule)?;
        if origin.as_str().starts_with("https://") { Ok(Self(origin.0)) } else { Err(rule) }
    }
}

/// Addresses: one, or a network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Network(pub IpNet);

as_text!(Network);

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "addresses or networks like 10.0.0.7 or 10.0.0.0/8";
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map(Self).map_err(|_| rule)
    }
}

/// Which store, and where.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Relative to the working directory.
    Sqlite(PathBuf),
    /// The whole URL.
    Postgres(Secret),
}

as_text!(StoreUrl);

impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "sqlite://<path> or postgres://user:password@host/database";
        if let Some(path) = text.strip_prefix("sqlite://") {
            return if path.is_empty() || path.contains(['?', '#', '\0']) {
                Err(rule)
            } else {
                Ok(Self::Sqlite(PathBuf::from(path)))
            };
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match postgres_url::read(text) {
                Ok(_) => Ok(Self::Postgres(Secret::new(text))),
                Err(postgres_url::PLACE) => Err(rule),
                Err(wrong) => Err(wrong),
            };
        }
        Err(rule)
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sqlite(path) => serializer.collect_str(&format_args!("sqlite://{}", path.display())),
            Self::Postgres(url) => serializer.serialize_str(url.expose()),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "\"sqlite://{}\"", path.display()),
            Self::Postgres(url) => fmt::Debug::fmt(&masked(url.expose()), f),
        }
    }
}

/// Where the bytes of attachments are.
#[derive(Clone, PartialEq, Eq)]
pub enum BlobsUrl {
    /// Nowhere: there are no attachments.
    Off,
    /// Relative to the working directory.
    Folder(PathBuf),
    /// The whole URL.
    S3(Secret),
}

as_text!(BlobsUrl);

impl FromStr for BlobsUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "empty, file://<folder>, or s3://[key:secret@]bucket[/prefix][?endpoint=https://…&region=…]";
        if text.is_empty() {
            return Ok(Self::Off);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.is_empty() || path.contains(['?', '#', '\0']) {
                Err(rule)
            } else {
                Ok(Self::Folder(PathBuf::from(path)))
            };
        }
        let url = Url::parse(text).map_err(|_| rule)?;
        let known = url.query_pairs().all(|(name, value)| match &*name {
            "region" => !value.is_empty(),
            "endpoint" => Url::parse(&value).is_ok_and(|at| matches!(at.scheme(), "http" | "https") && has_host(&at)),
            _ => false,
        });
        let keyed = url.username().is_empty() == url.password().is_none();
        if url.scheme() == "s3" && has_host(&url) && url.port().is_none() && url.fragment().is_none() && known && keyed
        {
            Ok(Self::S3(Secret::new(text)))
        } else {
            Err(rule)
        }
    }
}

impl Serialize for BlobsUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(""),
            Self::Folder(path) => serializer.collect_str(&format_args!("file://{}", path.display())),
            Self::S3(url) => serializer.serialize_str(url.expose()),
        }
    }
}

impl fmt::Debug for BlobsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("\"\""),
            Self::Folder(path) => write!(f, "\"file://{}\"", path.display()),
            Self::S3(url) => fmt::Debug::fmt(&masked(url.expose()), f),
        }
    }
}

/// Types of content: one, or all that begin like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MimePattern(String);

as_text!(MimePattern);

impl MimePattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it means this type; `only_by_name`: a pattern with a star does not reach it.
    pub fn matches(&self, mime: &str, only_by_name: bool) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => !only_by_name && mime.starts_with(start),
            None => self.0 == mime,
        }
    }
}

impl FromStr for MimePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "types like image/png, image/* or application/vnd.oasis.opendocument.*";
        let text = text.to_ascii_lowercase();
        let (kind, rest) = text.split_once('/').ok_or(rule)?;
        let of = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'_'));
        let rest = rest.strip_suffix('*').unwrap_or(if rest.is_empty() { "/" } else { rest });
        if !kind.is_empty() && of(kind) && of(rest) { Ok(Self(text)) } else { Err(rule) }
    }
}

/// How Redis is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Single,
    /// One server that sentinels name.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// Where Redis is; empty: nowhere, a single node.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisUrls(Vec<Secret>);

as_text!(RedisUrls);

impl RedisUrls {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URLs as given.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Secret::expose)
    }

    /// `None` where there is none.
    pub fn kind(&self) -> Option<RedisKind> {
        match &*self.0 {
            [] => None,
            [url] if url.expose().starts_with("redis+sentinel://") => Some(RedisKind::Sentinel),
            [_] => Some(RedisKind::Single),
            _ => Some(RedisKind::Cluster),
        }
    }
}

impl FromStr for RedisUrls {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "empty, redis://host, rediss://host, redis+sentinel://host,host/master, or several redis:// or rediss:// comma-separated";
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // Sentinels share one URL: their hosts stand comma-separated inside it, the master's name behind them.
        if let Some(rest) = text.strip_prefix("redis+sentinel://") {
            let behind_user = rest.rsplit_once('@').map_or(rest, |(_, behind)| behind);
            let (hosts, master) = behind_user.split_once('/').unwrap_or((behind_user, ""));
            let named = !master.split('/').next().unwrap_or_default().is_empty();
            let hosts_given =
                hosts.split(',').all(|host| Url::parse(&format!("redis://{host}")).is_ok_and(|url| has_host(&url)));
            return if named && hosts_given { Ok(Self(vec![Secret::new(text)])) } else { Err(rule) };
        }
        text.split(',')
            .map(str::trim)
            .map(|one| match Url::parse(one) {
                Ok(url) if matches!(url.scheme(), "redis" | "rediss") && has_host(&url) => Ok(Secret::new(one)),
                _ => Err(rule),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn has_host(url: &Url) -> bool {
    url.host_str().is_some_and(|host| !host.is_empty())
}

impl Serialize for RedisUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.urls().collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.urls().map(masked)).finish()
    }
}

/// A text with the passwords of the URLs in it masked.
pub(super) fn masked(text: &str) -> String {
    text.split(',')
        .map(|url| {
            let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
            let end = rest.find('/').unwrap_or(rest.len());
            // A password may itself hold a slash or an @ that should have been escaped: rather hide too much.
            let at = rest.rfind('@').unwrap_or(0).max(rest[..end].rfind('@').unwrap_or(0));
            let query = rest.find('?').map_or("", |_| "?***");
            let host_end = rest[at..].find('?').map_or(rest.len(), |q| at + q);
            match rest[..at].split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***{}{query}", &rest[at..host_end]),
                None => format!("{scheme}://{}{query}", &rest[..host_end]),
            }
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    Pretty,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        assert_eq!(masked("postgres://u:p@ss/w@h:1/db"), "postgres://u:***@h:1/db");
        assert_eq!(masked("postgres://u@h/db?password=x"), "postgres://u@h/db?***");
        assert_eq!(masked("redis://:p@h,rediss://h2"), "redis://:***@h,rediss://h2");
        assert_eq!(masked("redis://:p?w@h/0"), "redis://:***@h/0?***");
        let url: StoreUrl = "postgres://u:secret@h/db".parse().expect("well-formed");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(format!("{:?}", Secret::new("x")), "\"***\"");
    }

    #[test]
    fn urls_follow_their_rules() {
        for good in ["sqlite://data/a.db", "sqlite:///var/a.db", "postgres://h/db", "postgresql://u:p@h:1/db"] {
            let url: StoreUrl = good.parse().expect(good);
            assert_eq!(serde_json::to_value(&url).expect("a string"), good);
        }
        for bad in ["", "sqlite://", "sqlite:data/a.db", "mysql://h/db", "postgres://", "postgres://h:99999/db"] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
        let kind = |text: &str| text.parse::<RedisUrls>().map(|urls| urls.kind());
        assert_eq!(kind(""), Ok(None));
        assert_eq!(kind("redis://h:1/2"), Ok(Some(RedisKind::Single)));
        assert_eq!(kind("rediss://u:p@h"), Ok(Some(RedisKind::Single)));
        assert_eq!(kind("redis+sentinel://h:1,h2:2/mymaster"), Ok(Some(RedisKind::Sentinel)));
        assert_eq!(kind("redis://a,redis://b"), Ok(Some(RedisKind::Cluster)));
        for bad in [
            "h:1",
            "http://h",
            "redis://",
            "redis://a,http://b",
            "redis://a,",
            "redis+sentinel://",
            "redis+sentinel://h:1",
            "redis+sentinel://h:1,/m",
        ] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_of_attachments_follow_their_rule() {
        for good in [
            "",
            "file://data/attachments",
            "file:///var/lib/a b",
            "s3://bucket",
            "s3://k:s%2F@bucket/pre/fix?endpoint=http://127.0.0.1:9000&region=eu",
        ] {
            let url: BlobsUrl = good.parse().expect(good);
            assert_eq!(serde_json::to_value(&url).expect("a string"), good);
            assert!(!format!("{url:?}").contains("s%2F"), "{url:?}");
        }
        for bad in ["data", "file://", "s3://", "s3://k@b", "s3://b?x=1", "s3://b?endpoint=h:1", "gs://b", "s3:b"] {
            assert!(bad.parse::<BlobsUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_of_types_follow_their_rule() {
        let matches = |pattern: &str, mime: &str, only_by_name| {
            pattern.parse::<MimePattern>().expect(pattern).matches(mime, only_by_name)
        };
        assert!(matches("image/*", "image/png", false) && !matches("image/*", "image/svg+xml", true));
        assert!(matches("image/svg+xml", "image/svg+xml", true) && !matches("image/pn", "image/png", false));
        assert!(matches("Application/vnd.oasis.*", "application/vnd.oasis.x", false));
        for bad in ["", "image", "image/", "/png", "*", "*/*", "im*ge/png", "image/p*g", "image/a b", "a/b;c=d"] {
            assert!(bad.parse::<MimePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_follow_their_rule() {
        let origin = |text: &str| text.parse::<Origin>().map(|origin| origin.as_str().to_owned());
        assert_eq!(origin("https://Chat.example.org"), Ok("https://chat.example.org".to_owned()));
        assert_eq!(origin("http://localhost:3000/"), Ok("http://localhost:3000".to_owned()));
        assert_eq!(origin("https://a:443"), Ok("https://a".to_owned()));
        for bad in ["*", "chat.example.org", "https://a/b", "ftp://a", "https://a?x", "null", "https://u@a"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
