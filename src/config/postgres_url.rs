//! A database's URL as libpq takes it, and what it says of the way there.
//!
//! `sslmode` and `sslrootcert` are read here: the library knows the one only in part and the other not at all. Where TLS
//! is asked for, the server's certificate has to be valid for the host that the URL names. libpq's weaker modes `require`
//! and `verify-ca` ask for no less here, since a certificate that nobody checks protects from nobody.

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

/// How the server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not at all: the connection is in the clear.
    Clear,
    /// By an authority that the system trusts.
    System,
    /// By an authority of this PEM file.
    File(PathBuf),
}

/// What a URL has to be like.
pub const PLACE: &str = "postgres://user:password@host/database";
const MODES: &str = "a URL whose sslmode is disable, allow, prefer, require, verify-ca or verify-full";
const ROOTS: &str = "a URL with sslrootcert only where sslmode is verify-full";

/// Reads `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE`.
///
/// # Errors
/// What the URL should be like instead; never a part of it.
pub fn read(url: &str) -> Result<(Config, Trust), &'static str> {
    let (mut mode, mut roots) = (None, None);
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let others = query.split('&').filter(|pair| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            mode = Some(value);
            false
        }
        Some(("sslrootcert", value)) => {
            roots = Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned());
            false
        }
        _ => !pair.is_empty(),
    });
    let others = others.collect::<Vec<_>>().join("&");
    let whole = if others.is_empty() { place.to_owned() } else { format!("{place}?{others}") };
    let mut config: Config = whole.parse().map_err(|_| PLACE)?;
    if config.get_hosts().is_empty() {
        return Err(PLACE);
    }
    let trust = match (mode, roots) {
        (None | Some("disable" | "allow" | "prefer"), None) => Trust::Clear,
        (None | Some("disable" | "allow" | "prefer"), Some(_)) => return Err(ROOTS),
        (Some("require" | "verify-ca" | "verify-full"), None) => Trust::System,
        (Some("require" | "verify-ca" | "verify-full"), Some(file)) if file == "system" => Trust::System,
        (Some("require" | "verify-ca" | "verify-full"), Some(file)) => Trust::File(file.into()),
        (Some(_), _) => return Err(MODES),
    };
    config.ssl_mode(if trust == Trust::Clear { SslMode::Disable } else { SslMode::Require });
    Ok((config, trust))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says_of_tls_is_read_and_the_rest_is_passed_on() {
        let (config, trust) = read("postgres://u:p@h:5433/d?application_name=x").expect("a URL");
        assert_eq!(
            (config.get_application_name(), config.get_ssl_mode(), trust),
            (Some("x"), SslMode::Disable, Trust::Clear)
        );
        for mode in ["disable", "allow", "prefer"] {
            assert_eq!(read(&format!("postgres://h/d?sslmode={mode}")).expect("a URL").1, Trust::Clear, "{mode}");
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://h/d?sslrootcert=/a%20b.pem&sslmode={mode}&connect_timeout=3");
            let (config, trust) = read(&url).expect("a URL");
            assert_eq!((config.get_ssl_mode(), trust), (SslMode::Require, Trust::File("/a b.pem".into())));
            assert!(config.get_connect_timeout().is_some());
        }
        for system in ["sslmode=verify-full", "sslmode=verify-full&sslrootcert=system"] {
            assert_eq!(read(&format!("postgres://h/d?{system}")).expect("a URL").1, Trust::System);
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_of_it_shown() {
        let says = |query: &str| match read(&format!("postgres://u:geheim@h/d{query}")) {
            Ok(_) => panic!("{query} is right"),
            Err(wrong) => wrong,
        };
        assert!(says("?sslmode=verify").contains("verify-full"));
        assert!(says("?sslrootcert=/x").contains("only where"));
        assert!(says("?sslmode=prefer&sslrootcert=/x").contains("only where"));
        assert!(says("?nonsense=1").contains("postgres://user"));
        for query in ["?sslmode=geheim", "?nonsense=geheim", "?sslrootcert=geheim"] {
            assert!(!says(query).contains("geheim"));
        }
        assert_eq!(read("postgres:///d").err(), Some(PLACE));
    }
}
