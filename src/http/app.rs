//! Serves the web client: the files that `src/web/app` was built into, as they are in this program.
//!
//! Invariants: nothing is read from a disk; a name that holds a hash of its content may be kept for ever, anything else is asked
//! for again each time and answered with 304 where it has not changed; only addresses that the client knows as its own give the
//! page, whatever else is not there.

use actix_web::http::header::{
    self, AcceptEncoding, ContentEncoding, Encoding, EntityTag, Header, HeaderValue, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use super::security;

/// One file of the client, with its compressed forms.
struct File {
    name: &'static str,
    kind: &'static str,
    /// Its name changes with its content.
    hashed: bool,
    /// Changes with its content.
    tag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

/// Written by the client's build, and so never out of step with its folder.
static FILES: &[File] = include!("../web/dist/table.in");

const PAGE: &str = "index.html";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// The page that all addresses of the client show.
pub async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    send(&request, of(PAGE)?)
}

/// A file at the root, as `/icon.svg`.
pub async fn at_root(request: HttpRequest) -> Result<HttpResponse, Problem> {
    send(&request, of(request.path().trim_start_matches('/'))?)
}

/// A file whose name is a hash of its content.
pub async fn asset(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let file = of(request.match_info().get("file").unwrap_or_default())?;
    if file.hashed { send(&request, file) } else { Err(Problem::no_such_address()) }
}

fn of(name: &str) -> Result<&'static File, Problem> {
    FILES.iter().find(|file| file.name == name).ok_or_else(Problem::no_such_address)
}

fn send(request: &HttpRequest, file: &'static File) -> Result<HttpResponse, Problem> {
    let (suffix, encoding, bytes) = match accepted(request) {
        ContentEncoding::Brotli => ("-br", Some("br"), file.brotli),
        ContentEncoding::Gzip => ("-gz", Some("gzip"), file.gzip),
        _ => ("", None, file.plain),
    };
    // A strong tag is of the very bytes, so each form has its own.
    let tag = EntityTag::new_strong(format!("{}{suffix}", file.tag));
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((header::CACHE_CONTROL, if file.hashed { FOR_EVER } else { ASK_AGAIN }))
        .insert_header((header::VARY, "Accept-Encoding"))
        .insert_header(header::ETag(tag));
    if file.name == PAGE {
        answer.insert_header((header::CONTENT_SECURITY_POLICY, security::PAGE_CSP));
    }
    if known {
        return Ok(answer.finish());
    }
    answer.insert_header((header::CONTENT_TYPE, file.kind));
    if let Some(encoding) = encoding {
        answer.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static(encoding)));
    }
    Ok(answer.body(bytes))
}

/// The form to send: the smallest that is taken. Who says nothing gets the plain one.
fn accepted(request: &HttpRequest) -> ContentEncoding {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        return ContentEncoding::Identity;
    }
    let takes = |encoding| {
        let offered = [encoding, Encoding::identity()];
        let chosen = AcceptEncoding::parse(request).ok().and_then(|accept| accept.negotiate(offered.iter()));
        chosen.is_some_and(|chosen| chosen == offered[0])
    };
    if takes(Encoding::brotli()) {
        ContentEncoding::Brotli
    } else if takes(Encoding::gzip()) {
        ContentEncoding::Gzip
    } else {
        ContentEncoding::Identity
    }
}
