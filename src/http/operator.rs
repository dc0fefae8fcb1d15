//! The operators' page at `/` of the admin listener: a few files in this program, which show `GET /overview`. And the guard of
//! what the page, as opposed to any other page, may set off.

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use super::security::Origins;
use crate::refusal::Refusal;

/// Its own files and the overview; nothing inline, nothing of others, and no text that becomes a part of the page as HTML.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                   require-trusted-types-for 'script'; trusted-types 'none'";

/// Address, type and content.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/operator/index.html")),
    ("/operator.css", "text/css; charset=utf-8", include_str!("../web/operator/operator.css")),
    ("/operator.js", "text/javascript; charset=utf-8", include_str!("../web/operator/operator.js")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("../web/operator/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../web/operator/icon.svg")),
];

/// The addresses of the page and what it loads.
pub fn addresses() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(address, ..)| *address)
}

/// One of [`addresses`].
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let file = FILES.iter().find(|(address, ..)| *address == request.path());
    let (_, kind, text) = file.ok_or_else(Problem::no_such_address)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, *kind))
        .insert_header((header::CONTENT_SECURITY_POLICY, CSP))
        .body(*text))
}

/// Whether a call may come from where it comes from: from our own page, or from no browser at all.
///
/// # Errors
/// `forbidden` for another site's page, which could otherwise make an operator's browser send it.
pub fn of_our_own(headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    // Browsers say it, and no page can make them say something else; `none` is a person who typed the address.
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err(Refusal::forbidden("this is not for pages of other sites"));
    }
    Origins::default().check(headers, host).map_err(|_| Refusal::forbidden("this is not for pages of other origins"))
}
