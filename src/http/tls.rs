//! TLS of the public listener: the certificate, and its change while the server runs.
//!
//! Invariant: the pair in use was read whole, and key and certificate belong together. A new pair that can't be used is
//! said once and the old one stays; connections that are there keep the certificate that they began with.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_rt::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode;

use crate::config::{Invalid, Tls};
use crate::metrics::Metrics;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a client may take for its handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// The listener's certificate, as it is now.
#[derive(Debug)]
pub struct Certificate {
    files: [PathBuf; 2],
    current: RwLock<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    expires_at: u64,
}

impl Certificate {
    /// Reads the files that the settings name; `None` where they name none.
    ///
    /// # Errors
    /// The setting that can't be used, and why.
    pub fn load(tls: &Tls) -> Result<Option<Arc<Self>>, Invalid> {
        if !tls.enabled() {
            return Ok(None);
        }
        let files = [PathBuf::from(&tls.cert_file), PathBuf::from(&tls.key_file)];
        let pair = read(&files).map_err(|wrong| match wrong {
            Wrong::Certificate(why) => {
                let allowed =
                    format!("a readable PEM file with the server's certificate and those up to the root ({why})");
                Invalid::new("server.tls.cert_file", &tls.cert_file, &allowed)
            }
            Wrong::Key(why) => {
                let allowed = format!("a readable PEM file with the private key of server.tls.cert_file ({why})");
                Invalid::new("server.tls.key_file", &tls.key_file, &allowed)
            }
        })?;
        Ok(Some(Arc::new(Self { files, current: RwLock::new(pair) })))
    }

    /// Reads the files again whenever they change, for as long as the process lives.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut seen = self.stamps();
        self.show(&metrics);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.stamps();
            if now == seen || now.contains(&None) {
                continue;
            }
            // Half of a pair may be there before the other: what is refused now is read again with the next change.
            seen = now;
            match read(&self.files) {
                Ok(pair) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
                    self.show(&metrics);
                    tracing::info!("tls.certificate.changed");
                }
                Err(wrong) => tracing::error!(error = %wrong, "tls.certificate.refused"),
            }
        }
    }

    fn show(&self, metrics: &Metrics) {
        let expires_at = self.current().expires_at;
        metrics.tls_expires.set(i64::try_from(expires_at).unwrap_or(i64::MAX));
        if expires_at <= now_s() {
            tracing::warn!(expired_at = expires_at, "tls.certificate.expired");
        }
    }

    fn current(&self) -> Pair {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By which a change is noticed.
    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        self.files.each_ref().map(|file| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("the certificate: {0}")]
    Certificate(String),
    #[error("the key: {0}")]
    Key(String),
}

fn read([cert_file, key_file]: &[PathBuf; 2]) -> Result<Pair, Wrong> {
    let certificate = |why: &dyn std::fmt::Display| Wrong::Certificate(why.to_string());
    let key = |why: &dyn std::fmt::Display| Wrong::Key(why.to_string());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert_file).and_then(Iterator::collect).map_err(|error| certificate(&error))?;
    let own = chain.first().ok_or_else(|| certificate(&"it holds no certificate"))?;
    let parsed = x509_cert::Certificate::from_der(own).map_err(|error| certificate(&error))?;
    let expires_at = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    let private = PrivateKeyDer::from_pem_file(key_file).map_err(|error| key(&error))?;
    let pair =
        CertifiedKey::from_der(chain, private, &crypto::ring::default_provider()).map_err(|error| key(&error))?;
    Ok(Pair { key: Arc::new(pair), expires_at })
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Makes TLS sessions with the certificate of the moment.
///
/// # Errors
/// Where the library does not take the settings that are fixed here.
pub fn acceptor(certificate: Arc<Certificate>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A client that comes back to this node is spared the key exchange, and this node remembers none of them.
    config.ticketer = crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The handshake; `None` where there came none that can be used, which is the client's affair.
pub async fn accept(acceptor: &TlsAcceptor, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "tls.handshake.failed");
            None
        }
        Err(_) => {
            tracing::debug!("tls.handshake.timeout");
            None
        }
    }
}
