//! What browsers are told and believed: security headers on every answer, CORS, and where a call that changes something
//! may come from.
//!
//! Invariants: no answer leaves without the headers, errors and unknown addresses included; an origin is trusted only if
//! it is the request's own host or is listed, compared whole; `*` is never sent.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use ipnet::IpNet;
use tracing::Instrument;

use super::request_id::{self, RequestId};
use crate::refusal::Refusal;
use crate::telemetry::traces;

/// Nothing may be loaded, framed, submitted or run: right for JSON, and for a page without scripts or styles.
const CSP: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// For our own pages: what is ours may run, nothing inline.
pub const PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                            font-src 'self'; media-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
                            form-action 'self'; frame-ancestors 'none'";
/// Nothing here needs any of it.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), display-capture=(), \
                           browsing-topics=()";
/// A year.
const HSTS: &str = "max-age=31536000";
/// The header that proves a call with the cookie to come from our own client.
pub const CSRF_HEADER: &str = "X-CSRF-Token";

/// What every answer bears, unless a handler said otherwise.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Sets what every answer bears; what a handler set itself stays.
///
/// `hsts`: the client came by https, or the setting asks for it.
pub fn secure(headers: &mut HeaderMap, hsts: bool) {
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
}

/// The same as lines of a head, for an answer that is written by hand.
pub fn lines(hsts: bool) -> String {
    let mut lines: String = HEADERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if hsts {
        lines += &format!("{}: {HSTS}\r\n", header::STRICT_TRANSPORT_SECURITY);
    }
    lines
}

/// Whether the client came by https: what a trusted proxy says of it, else whether this listener speaks TLS.
pub fn came_by_https(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], tls: bool) -> bool {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|net| net.contains(&peer)) {
        return tls;
    }
    let first = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()?.split(',').next());
    let forwarded = |element| {
        pairs(element).find_map(|(name, value)| name.trim().eq_ignore_ascii_case("proto").then(|| unquoted(value)))
    };
    match first(HeaderName::from_static("x-forwarded-proto")).or_else(|| first(header::FORWARDED).and_then(forwarded)) {
        Some(proto) => proto.trim().eq_ignore_ascii_case("https"),
        None => tls,
    }
}

fn pairs(element: &str) -> impl Iterator<Item = (&str, &str)> {
    element.split(';').filter_map(|pair| pair.split_once('='))
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// The other origins that browsers may call us from (`server.allowed_origins`), each `scheme://host[:port]`.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    pub fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        Self { allowed: allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect() }
    }

    /// Whether none are listed.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// The request's `Origin`, where it is a listed one.
    pub fn listed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)).then_some(origin)
    }

    /// Whether a browser's page at the request's `Origin` is one of ours: the request's own host, or a listed one.
    /// Without an `Origin` there is no browser that has to be told apart.
    ///
    /// # Errors
    /// `forbidden` for a foreign origin, `null` included.
    pub fn check(&self, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        if self.listed(headers).is_some() || origin.to_str().is_ok_and(|origin| same_host(origin, host)) {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "calls from this origin are not allowed; the server's setting is server.allowed_origins",
        ))
    }

    /// Lets pages at listed origins read the answer.
    pub fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.allowed.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("Location, Retry-After, WWW-Authenticate, X-Request-Id"),
            );
        }
    }
}

/// Whether `origin` is a page of `host` (as in the `Host` header). The scheme is left open, since a proxy may have
/// ended TLS; default ports count as none.
fn same_host(origin: &str, host: &str) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => ":80",
        Some("https") => ":443",
        _ => return false,
    };
    let Some(authority) = origin.authority() else { return false };
    let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && bare(authority.as_str()) == bare(host)
}

/// Whether the request is a browser's question before a call from another origin.
fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The middleware around a whole listener: security headers, the request's id, and CORS where `origins` are given.
pub async fn around<B: MessageBody>(
    origins: Option<&Origins>,
    hsts: bool,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let id = RequestId::of(request.headers());
    let origin = origins.and_then(|origins| origins.listed(request.headers()).cloned());
    let mut response = if origin.is_some() && is_preflight(&request) {
        let answer = HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, PUT, DELETE"))
            .insert_header((
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Authorization, Content-Type, X-CSRF-Token, X-Request-Id, X-Roundtable-Stream",
            ))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
            .finish();
        request.into_response(answer).map_into_right_body()
    } else {
        let span = tracing::info_span!("http", request.id = %id, trace_id = tracing::field::Empty);
        if let Some(context) = traces::current() {
            span.record("trace_id", format_args!("{:032x}", context.trace));
        }
        id.clone().within(next.call(request).instrument(span)).await?.map_into_left_body()
    };
    secure(response.headers_mut(), hsts);
    response.headers_mut().insert(request_id::HEADER, id.value());
    if let Some(origins) = origins {
        origins.allow(origin.as_ref(), response.headers_mut());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_can_say_https() {
        let trusted = ["10.0.0.0/8".parse().expect("a net")];
        for (peer, name, value, https) in [
            ("10.0.0.1", "x-forwarded-proto", "https", true),
            ("::ffff:10.0.0.1", "x-forwarded-proto", "HTTPS", true),
            ("10.0.0.1", "x-forwarded-proto", "http", false),
            ("1.2.3.4", "x-forwarded-proto", "https", false),
            ("10.0.0.1", "forwarded", "for=9.9.9.9; proto=\"https\"", true),
            ("10.0.0.1", "forwarded", "for=9.9.9.9", false),
            ("1.2.3.4", "forwarded", "proto=https", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            let peer = peer.parse().expect("an address");
            assert_eq!(came_by_https(peer, &headers, &trusted, false), https, "{peer} {value}");
        }
        // Our own TLS counts where no proxy of ours knows better.
        let none = HeaderMap::new();
        assert!(came_by_https("1.2.3.4".parse().expect("an address"), &none, &trusted, true));
        assert!(came_by_https("10.0.0.1".parse().expect("an address"), &none, &trusted, true));
        let mut http = HeaderMap::new();
        http.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("http"));
        assert!(!came_by_https("10.0.0.1".parse().expect("an address"), &http, &trusted, true));
        assert!(came_by_https("1.2.3.4".parse().expect("an address"), &http, &trusted, true));
    }

    #[test]
    fn an_origin_is_ours_if_it_is_the_host_or_listed() {
        for (origin, host, ours) in [
            ("https://chat.example", "chat.example", true),
            ("https://chat.example", "chat.example:443", true),
            ("http://chat.example:80", "chat.example", true),
            ("http://localhost:8080", "localhost:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("HTTP://LOCALHOST:8080", "localhost:8080", true),
            ("https://other.example", "chat.example", true),
            ("https://other.example.evil", "chat.example", false),
            ("https://evil-chat.example", "chat.example", false),
            ("https://chat.example:8443", "chat.example", false),
            ("http://other.example", "chat.example", false),
            ("null", "chat.example", false),
            ("", "", false),
            ("file://chat.example", "chat.example", false),
            ("https://user@chat.example", "chat.example", false),
        ] {
            let origins = Origins::new(["https://other.example".to_owned()]);
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a header value"));
            assert_eq!(origins.check(&headers, host).is_ok(), ours, "{origin} at {host}");
        }
        assert!(Origins::default().check(&HeaderMap::new(), "chat.example").is_ok());
    }
}
