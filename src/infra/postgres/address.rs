//! Connections to a database the way its URL says: in the clear, or TLS with the server's certificate checked.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::postgres_url::{self, Trust};

/// A URL that names no database we can go to.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("the store's URL must be {0}")]
    Url(&'static str),
    #[error("sslrootcert {}: {why}", path.display())]
    Roots { path: PathBuf, why: String },
    #[error("the system has no certificates of authorities; name a file by sslrootcert")]
    NoRoots,
}

/// A database and the way to it.
#[derive(Clone)]
pub struct Address {
    pub config: Config,
    pub trust: Trust,
    tls: Option<MakeRustlsConnect>,
}

/// Carries a client's questions and their answers; ends with the client.
pub type Connection = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

impl Address {
    /// Of a URL as [`postgres_url::read`] takes it.
    ///
    /// # Errors
    /// What is wrong with the URL, or with the file that it names.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (config, trust) = postgres_url::read(url).map_err(AddressError::Url)?;
        let tls = match &trust {
            Trust::Clear => None,
            Trust::System => Some(connector(system_roots()?)),
            Trust::File(path) => Some(connector(roots_of(path)?)),
        };
        Ok(Self { config, trust, tls })
    }

    /// Opens one connection, by `config` in place of its own.
    ///
    /// # Errors
    /// Of the way there, of TLS, or the server's.
    pub async fn connect_by(&self, config: &Config) -> Result<(Client, Connection), tokio_postgres::Error> {
        Ok(match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, Box::pin(connection))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, Box::pin(connection))
            }
        })
    }
}

/// The error with its causes, which the library's own text leaves out.
pub fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn connector(roots: RootCertStore) -> MakeRustlsConnect {
    // Refused where there is one already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn system_roots() -> Result<RootCertStore, AddressError> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken == 0 { Err(AddressError::NoRoots) } else { Ok(roots) }
}

fn roots_of(path: &Path) -> Result<RootCertStore, AddressError> {
    let wrong = |why: String| AddressError::Roots { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate is in it".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_authorities_has_to_hold_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("an authority.pem");
        let url = format!(
            "postgres://h/d?sslmode=verify-full&sslrootcert={}",
            file.display().to_string().replace(' ', "%20")
        );
        let says = || Address::parse(&url).err().map(|error| error.to_string());
        assert!(says().is_some_and(|why| why.contains("an authority.pem")));
        std::fs::write(&file, "nothing").expect("written");
        assert!(says().is_some_and(|why| why.contains("no certificate")));
        let pair = rcgen::generate_simple_self_signed(["h".to_owned()]).expect("a certificate");
        std::fs::write(&file, pair.cert.pem()).expect("written");
        assert_eq!(says(), None);
    }
}
