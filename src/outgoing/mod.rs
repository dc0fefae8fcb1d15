//! Requests to servers of others: webhooks and the hook before a message is stored.
//!
//! Invariants: an address that a person named leads to what [`addresses::Reach`] allows, whatever its DNS says, and no
//! redirect is followed; every request ends within its deadline; of an answer at most [`ANSWER_BYTES`] are read.

pub mod addresses;
pub mod before_send;
pub mod signature;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use url::Url;

use self::addresses::{Private, Reach, Resolver};
use self::signature::{SIGNATURE, signature};

/// Bytes of an answer that are read.
pub const ANSWER_BYTES: usize = 32 * 1024;
/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(20);
/// Connections to one host that are kept.
const IDLE_CONNECTIONS: usize = 8;

/// A client for one purpose.
pub struct Client {
    http: reqwest::Client,
    reach: Arc<Reach>,
}

/// A server answered.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    /// As far as it was read.
    pub body: Vec<u8>,
}

/// Nobody answered, or nobody may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the address is in a private network")]
    Private,
    #[error("no connection")]
    NoConnection,
    #[error("no answer in time")]
    TooLate,
    #[error("the answer broke off")]
    BrokeOff,
}

impl Client {
    /// Trusts the certificates that the system trusts.
    ///
    /// # Errors
    /// Where the system's certificates can't be read.
    pub fn new(reach: Reach) -> Result<Self, String> {
        // The only provider of the build; a second call finds the first's.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let reach = Arc::new(reach);
        let http = reqwest::Client::builder()
            // A proxy of the environment would be asked for names that only our own resolver may look up.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT_WITHIN)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .dns_resolver(Resolver(Arc::clone(&reach)))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, reach })
    }

    /// Posts a signed JSON body; the whole takes at most `within`.
    ///
    /// # Errors
    /// Where there is no answer. Any status is one.
    pub async fn post(
        &self,
        url: &Url,
        body: Vec<u8>,
        secrets: impl IntoIterator<Item = &str>,
        headers: &[(HeaderName, HeaderValue)],
        within: Duration,
    ) -> Result<Answered, Failure> {
        self.reach.check(url).map_err(|_| Failure::Private)?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut request = self
            .http
            .post(url.clone())
            .header(USER_AGENT, concat!("roundtable/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        let signed = signature(secrets, at, &body);
        if signed.contains(",v1=") {
            request = request.header(SIGNATURE, signed);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let exchange = async {
            let mut response = request.body(body).send().await.map_err(|error| failure(&error))?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|_| Failure::BrokeOff)? {
                let room = ANSWER_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
            Ok(Answered { status, body })
        };
        tokio::time::timeout(within, exchange).await.unwrap_or(Err(Failure::TooLate))
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Private>() {
            return Failure::Private;
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        Failure::TooLate
    } else if error.is_connect() {
        Failure::NoConnection
    } else {
        Failure::BrokeOff
    }
}
