//! Lists in pages: `{items, next}`, asked for with `limit` and `cursor`.
//!
//! Invariant: a cursor is opaque to clients (base64url of the last id seen), and one that we did not make is refused.

use actix_web::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::http::query::Query;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::refusal::Refusal;

/// One page of a list; `next` is null on the last one.
#[derive(Serialize)]
pub struct List<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// `limit` of the query, within its bounds.
///
/// # Errors
/// `bad_request` that names it.
pub fn limit(query: &Query) -> Result<u32, Refusal> {
    let limit = query.integer("limit", 1..=u64::from(PAGE_MAX))?;
    Ok(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(PAGE_DEFAULT))
}

/// What stands in `cursor`, as `parse` reads it.
///
/// # Errors
/// `bad_request` for one that none of our answers held.
pub fn cursor<T, E>(query: &Query, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, Refusal> {
    query.optional("cursor", |text| {
        let foreign = "is not a cursor of an answer of ours";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign)?;
        let inner = std::str::from_utf8(&bytes).map_err(|_| foreign)?;
        parse(inner).map_err(|_| foreign)
    })
}

/// The opaque form of what a page ended with.
pub fn encode(inner: &str) -> String {
    URL_SAFE_NO_PAD.encode(inner)
}

/// As [`list`], by a key that is made.
pub fn list_by<T: Serialize>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> HttpResponse {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|last| encode(&key(last)));
    HttpResponse::Ok().json(List { items, next })
}

/// A page of what was read: `limit + 1` items at most were asked for, and the extra one tells whether there are more.
pub fn list<T: Serialize>(items: Vec<T>, limit: u32, key: impl Fn(&T) -> &str) -> HttpResponse {
    list_by(items, limit, |item| key(item).to_owned())
}
