//! Whom `https://` addresses are believed.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Code, Error};

/// Trusts the system's authorities (or those of `SSL_CERT_FILE`), and those of `more`, in PEM.
pub(crate) fn config(more: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let wrong = |what: String| Error::new(Code::BadRequest, format!("root_certificates: {what}"));
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // A system's store may hold what rustls does not read; one certificate is not all of them.
    roots.add_parsable_certificates(system.certs);
    let mut given = 0;
    for certificate in CertificateDer::pem_slice_iter(more) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        given += 1;
    }
    if given == 0 && !more.is_empty() {
        return Err(wrong("no certificate in PEM".to_owned()));
    }
    if roots.is_empty() {
        let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(wrong(format!("none, and the system has none either{why}")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let garbled = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, wanted) in [(&b"no PEM at all"[..], "no certificate in PEM"), (garbled, "")] {
            let error = config(pem).expect_err("no certificate");
            assert_eq!(error.code, Code::BadRequest);
            let said = error.to_string();
            assert!(said.contains("root_certificates: ") && said.contains(wanted), "{said}");
        }
    }
}
