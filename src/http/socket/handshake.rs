//! Whether a request to upgrade becomes a WebSocket: path, RFC 6455's headers, origin, credentials, subprotocol and
//! compression; and the bytes of the answer.
//!
//! Invariant: nothing here waits or remembers; what needs the store (is the token good?) comes after.

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{Method, RequestHead, StatusCode};
use base64::Engine;

use super::extensions;
use crate::config::Config;
use crate::http::problem::Problem;
use crate::metrics::ConnectRefusal;
use crate::protocol::{self, Encoding};
pub use crate::protocol::{COOKIE, PATH};
use crate::refusal::Refusal;

/// What a request has to do with the page that makes it, as the browser says.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Agreed {
    pub encoding: Encoding,
    /// Whether the client asked for a subprotocol, which the answer then names.
    named: bool,
    pub deflate: bool,
    /// Of `Authorization` or the cookie.
    pub token: Option<String>,
    accept: String,
}

/// Why not; becomes an HTTP answer like any other of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    pub problem: Problem,
    pub reason: ConnectRefusal,
}

impl Rejected {
    /// With the status that goes with the refusal's code.
    pub fn new(reason: ConnectRefusal, refusal: Refusal) -> Self {
        Self { problem: refusal.into(), reason }
    }

    fn handshake(detail: impl Into<String>) -> Self {
        Self::new(ConnectRefusal::Handshake, Refusal::bad_request(detail))
    }
}

/// Reads a request to upgrade.
///
/// # Errors
/// [`Rejected`]: what to answer instead.
pub fn agree(head: &RequestHead, config: &Config) -> Result<Agreed, Rejected> {
    if head.uri.path() != PATH {
        let refusal = Refusal::not_found("only /ws takes WebSocket connections");
        return Err(Rejected::new(ConnectRefusal::Handshake, refusal));
    }
    let headers = head.headers();
    if head.method != Method::GET
        || !has_token(headers, &header::UPGRADE, "websocket")
        || !has_token(headers, &header::CONNECTION, "upgrade")
    {
        return Err(Rejected::handshake("not a WebSocket handshake as in RFC 6455"));
    }
    if text(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let refusal = Refusal::bad_request("Sec-WebSocket-Version must be 13");
        let problem = Problem::with_status(StatusCode::UPGRADE_REQUIRED, refusal);
        return Err(Rejected { problem, reason: ConnectRefusal::Handshake });
    }
    let key = text(headers, &header::SEC_WEBSOCKET_KEY).unwrap_or_default().trim();
    if !base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Rejected::handshake("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let asked = protocol::choose_subprotocol(texts(headers, &header::SEC_WEBSOCKET_PROTOCOL))
        .map_err(|unknown| Rejected::handshake(unknown.to_string()))?;
    Ok(Agreed {
        encoding: asked.unwrap_or(Encoding::Json),
        named: asked.is_some(),
        deflate: config.server.compression
            && extensions::accepts_deflate(texts(headers, &header::SEC_WEBSOCKET_EXTENSIONS)),
        token: credentials(headers, config)?,
        accept: accept(key),
    })
}

/// The token of a request for a stream. Browsers name no `Origin` when a page asks its own host for something, but most say
/// what the two have to do with each other, which no page can forge.
///
/// # Errors
/// As [`agree`].
pub fn stream_credentials(headers: &HeaderMap, config: &Config) -> Result<Option<String>, Rejected> {
    let own = !headers.contains_key(header::ORIGIN) && text(headers, &SEC_FETCH_SITE) == Some("same-origin");
    token(headers, || own || own_origin(headers, config))
}

/// The token of the request. A cookie counts only from our own pages, since browsers send it along from any.
fn credentials(headers: &HeaderMap, config: &Config) -> Result<Option<String>, Rejected> {
    token(headers, || own_origin(headers, config))
}

fn token(headers: &HeaderMap, is_own: impl FnOnce() -> bool) -> Result<Option<String>, Rejected> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        // Another scheme is a credential that is not good.
        return Ok(Some(token.unwrap_or_default()));
    }
    let cookie = texts(headers, &header::COOKIE)
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .map(|value| value.trim_matches('"').to_owned());
    if cookie.is_some() && !is_own() {
        let detail = "the session cookie needs an Origin equal to the host or on server.allowed_origins";
        return Err(Rejected::new(ConnectRefusal::Origin, Refusal::forbidden(detail)));
    }
    Ok(cookie)
}

fn own_origin(headers: &HeaderMap, config: &Config) -> bool {
    let (Some(origin), Some(host)) = (text(headers, &header::ORIGIN), text(headers, &header::HOST)) else {
        return false;
    };
    let Ok(url) = url::Url::parse(origin) else { return false };
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    // The host as the same kind of URL, so that case and default ports don't matter.
    let same = url::Url::parse(&format!("{}://{host}", url.scheme())).is_ok_and(|own| own.origin() == url.origin());
    same || config.server.allowed_origins.iter().any(|allowed| allowed.as_str() == url.origin().ascii_serialization())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn texts<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).filter_map(|value| value.to_str().ok())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    texts(headers, name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// `Sec-WebSocket-Accept` for a key.
fn accept(key: &str) -> String {
    let key = actix_http::ws::hash_key(key.as_bytes());
    String::from_utf8_lossy(&key).into_owned()
}

impl Agreed {
    /// The bytes of `101 Switching Protocols`. `bears`: header lines that it bears as every answer does.
    pub fn response(&self, bears: &str) -> Vec<u8> {
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n{bears}",
            self.accept
        );
        if self.named {
            response += &format!("sec-websocket-protocol: {}\r\n", self.encoding.subprotocol());
        }
        if self.deflate {
            response += &format!("sec-websocket-extensions: {}\r\n", extensions::ACCEPTED);
        }
        response += "\r\n";
        response.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use actix_http::test::TestRequest;

    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("host", "chat.example:8080"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn ask(uri: &str, headers: &[(&str, &str)]) -> Result<Agreed, Rejected> {
        let mut config = Config::default();
        config.server.allowed_origins.0.push("https://app.example".parse().expect("an origin"));
        let mut request = TestRequest::default();
        request.uri(uri).method(Method::GET);
        for (name, value) in GOOD.iter().filter(|(name, _)| !headers.iter().any(|(other, _)| other == name)) {
            request.append_header((*name, *value));
        }
        for (name, value) in headers {
            request.append_header((*name, *value));
        }
        agree(request.finish().head(), &config)
    }

    fn status(uri: &str, headers: &[(&str, &str)]) -> u16 {
        ask(uri, headers).map_or_else(|rejected| rejected.problem.status().as_u16(), |_| 101)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let agreed = ask("/ws", &[]).expect("a good handshake");
        assert_eq!((agreed.encoding, agreed.deflate, agreed.token.as_deref()), (Encoding::Json, false, None));
        let response = String::from_utf8(agreed.response("")).expect("text");
        assert!(response.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!response.contains("protocol:") && response.ends_with("\r\n\r\n"));
    }

    #[test]
    fn what_is_offered_is_chosen_from() {
        let offers = [
            ("sec-websocket-protocol", "chat, roundtable.v1.msgpack"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ];
        let agreed = ask("/ws?x=1", &offers).expect("a good handshake");
        let response = String::from_utf8(agreed.response("")).expect("text");
        assert!(response.contains("sec-websocket-protocol: roundtable.v1.msgpack\r\n"));
        assert!(response.contains("sec-websocket-extensions: permessage-deflate; server_no_context_takeover; "));
        let rejected = ask("/ws", &[("sec-websocket-protocol", "chat")]).expect_err("unknown");
        assert!(rejected.problem.status() == 400 && rejected.problem.refusal.message.contains("roundtable.v1.json"));
    }

    #[test]
    fn bad_handshakes_are_refused() {
        assert_eq!(status("/other", &[]), 404);
        assert_eq!(status("/ws", &[("connection", "close")]), 400);
        assert_eq!(status("/ws", &[("upgrade", "h2c")]), 400);
        assert_eq!(status("/ws", &[("sec-websocket-version", "8")]), 426);
        assert_eq!(status("/ws", &[("sec-websocket-key", "short")]), 400);
    }

    #[test]
    fn a_cookie_counts_from_our_own_pages_only() {
        let cookie = ("cookie", "a=b; roundtable_session=secret");
        assert_eq!(status("/ws", &[cookie]), 403);
        assert_eq!(status("/ws", &[cookie, ("origin", "https://evil.example")]), 403);
        assert_eq!(status("/ws", &[cookie, ("origin", "http://chat.example")]), 403);
        assert_eq!(status("/ws", &[cookie, ("origin", "null")]), 403);
        assert_eq!(status("/ws", &[cookie, ("origin", "http://Chat.Example:8080")]), 101);
        assert_eq!(status("/ws", &[cookie, ("origin", "https://app.example")]), 101);
        assert_eq!(status("/ws", &[cookie, ("origin", "https://chat.example"), ("host", "chat.example")]), 101);
        let agreed = ask("/ws", &[cookie, ("authorization", "Bearer  tok")]).expect("a good handshake");
        assert_eq!(agreed.token.as_deref(), Some("tok"), "a bearer token beats the cookie");
        assert_eq!(status("/ws", &[("origin", "https://evil.example")]), 101, "no cookie, no matter");
    }
}
