//! An authority of the test's own, certificates of it in files, and ways to a node that speaks TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::node::Node;
use super::{provider, within};

/// The authority, and the folder with the pair that a node is to use.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    dir: TempDir,
}

impl Authority {
    /// With a first certificate in place, good for 30 days.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Not the name of what it issues: OpenSSL would take that for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("signed");
        let (pem, der) = (own.pem(), own.der().clone());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Self { issuer: Issuer::new(params, key), pem, der, dir };
        authority.issue(30);
        authority
    }

    /// Puts a new pair in place, each file whole at once; gives when it ends, in Unix seconds.
    pub fn issue(&self, days: i64) -> i64 {
        let (certificate, key, until) = self.pair(days);
        self.place("cert.pem", &certificate);
        self.place("key.pem", &key);
        until
    }

    /// A certificate and its key as PEM, and when it ends.
    pub fn pair(&self, days: i64) -> (String, String, i64) {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("good names");
        let until = OffsetDateTime::now_utc() + time::Duration::days(days);
        params.not_after = until;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem(), until.unix_timestamp())
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes one file of the pair.
    pub fn place(&self, name: &str, pem: &str) {
        let whole = self.dir.path().join(format!("{name}.new"));
        std::fs::write(&whole, pem).expect("written");
        std::fs::rename(whole, self.dir.path().join(name)).expect("renamed");
    }

    pub fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file that whoever trusts this authority is to read.
    pub fn root_file(&self) -> String {
        self.place("root.pem", &self.pem);
        self.file("root.pem")
    }

    /// An HTTP client that trusts this authority alone and follows no redirect.
    pub fn client(&self) -> reqwest::Client {
        provider();
        let root = reqwest::Certificate::from_pem(self.pem.as_bytes()).expect("PEM");
        let builder = reqwest::Client::builder().tls_certs_only([root]);
        builder.redirect(reqwest::redirect::Policy::none()).build().expect("a client")
    }

    /// A TLS connection to `node`.
    ///
    /// # Errors
    /// Where the handshake fails.
    pub async fn connect(&self, node: &Node) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector().connect(name(), tcp(node).await).await
    }

    fn connector(&self) -> TlsConnector {
        provider();
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// A port whose plain connections go to `node` over TLS, so that everything that speaks plainly can be tried on it.
    pub async fn tunnel(&self, node: &Node) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (connector, node_port) = (self.connector(), node.http_port());
        tokio::spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let Ok(tcp) = TcpStream::connect(("127.0.0.1", node_port)).await else { return };
                    let Ok(mut sealed) = connector.connect(name(), tcp).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut plain, &mut sealed).await;
                });
            }
        });
        port
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

async fn tcp(node: &Node) -> TcpStream {
    within("the node listens", TcpStream::connect(("127.0.0.1", node.http_port()))).await.expect("the node listens")
}
