//! The listener that sends plain HTTP to https: the same host and path, by 308, and nothing else.
//!
//! Invariant: it never sends anybody to a place that the request's path, query or body names: the host is that of
//! `server.public_url`, or the request's own where it has the form of one.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use super::security;
use crate::config::Server;
use crate::refusal::Refusal;

/// Where to.
#[derive(Debug)]
pub struct Redirect {
    /// `https://host[:port]`; empty: that of the request.
    public_url: String,
    /// Of the https listener, as written in URLs: empty for 443.
    port: String,
}

impl Redirect {
    /// `port`: where the https listener really listens.
    pub fn new(server: &Server, port: u16) -> Arc<Self> {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        Arc::new(Self { public_url: server.public_url.as_str().to_owned(), port })
    }

    fn target(&self, headers: &HeaderMap, path: &str) -> Option<String> {
        if !self.public_url.is_empty() {
            return Some(format!("{}{path}", self.public_url));
        }
        let host = host(headers.get(header::HOST)?.to_str().ok()?)?;
        Some(format!("https://{host}{}{path}", self.port))
    }
}

/// The host's name or address without its port, where it is one.
fn host(text: &str) -> Option<&str> {
    let (name, port) = match text.rfind(':') {
        Some(at) if !text[at..].contains(']') => (&text[..at], &text[at + 1..]),
        _ => (text, ""),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            name.len() <= 253
                && name.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
        }
    };
    (named && port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5).then_some(name)
}

pub fn routes(redirect: Arc<Redirect>) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(Data::from(redirect)).service(
            web::scope("")
                .wrap(from_fn(|request, next| security::around(None, false, request, next)))
                .default_service(web::to(answer)),
        );
    }
}

async fn answer(redirect: Data<Redirect>, request: HttpRequest) -> HttpResponse {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // `OPTIONS *` and the like name no place to be sent to.
    match redirect.target(request.headers(), if path.starts_with('/') { path } else { "/" }) {
        Some(target) => HttpResponse::PermanentRedirect().insert_header((header::LOCATION, target)).finish(),
        None => Problem::from(Refusal::bad_request("Host: must be a name or an address")).response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (text, name) in [
            ("chat.example", Some("chat.example")),
            ("chat.example:8080", Some("chat.example")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[2001:db8::1]:8080", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            ("evil.example/x", None),
            ("user@evil.example", None),
            ("a b", None),
            ("", None),
            (":80", None),
            ("a..b", None),
            ("a:x", None),
            ("[::1", None),
            ("a:1:2", None),
            ("chat.example#", None),
            ("chat.example\\", None),
        ] {
            assert_eq!(host(text), name, "{text}");
        }
    }
}
