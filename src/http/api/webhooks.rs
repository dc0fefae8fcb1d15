//! Webhooks: of a room, for its owners, and for all rooms, for admins.
//!
//! Invariant: a secret is shown when it is made, and never again.

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use super::audit::deed;
use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::{Api, room_of};
use crate::actors::hub::unix_ms;
use crate::config;
use crate::domain::acts::Act;
use crate::domain::audit::{Deed, What};
use crate::entry::{KINDS, rfc3339};
use crate::http::problem::{Answer, Problem, fault};
use crate::http::query::{self, Fields, Query};
use crate::ids::{RoomId, Seq, UserId};
use crate::outgoing::addresses::Reach;
use crate::ports::{Changed, DeadLetter, HOOKS_MAX, Made, NewWebhook, Webhook, WebhookPatch};
use crate::refusal::Refusal;

/// Bytes of an address.
pub const URL_BYTES: usize = 2_000;
/// For how long the old secret signs beside a new one.
const OLD_SECRET: Duration = Duration::from_secs(24 * 60 * 60);
/// Rooms that a new hook for all rooms begins with before the call is answered; the others follow soon.
const FILLED_AT_ONCE: u32 = 5_000;

/// A hook as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct Shown {
    id: String,
    /// Null: all rooms.
    room: Option<RoomId>,
    url: String,
    /// Kinds of entries it is told of; empty: all.
    kinds: Vec<String>,
    active: bool,
    /// Why the server switched it off.
    off_reason: Option<String>,
    /// False while a hook for all rooms is still being set up.
    ready: bool,
    made_by: UserId,
    made_at: String,
    /// Only where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Shown {
    fn of(hook: Webhook, secret: Option<String>) -> Self {
        let Webhook { id, room, url, kinds, active, off_reason, made_by, made_at, ready } = hook;
        Self { id, room, url, kinds, active, off_reason, ready, made_by, made_at: rfc3339(made_at), secret }
    }
}

/// A batch that was given up: where it stands in which log.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct Dead {
    id: String,
    /// Null: the room is gone.
    room: Option<RoomId>,
    #[schema(value_type = u64)]
    after: Seq,
    #[schema(value_type = u64)]
    to: Seq,
    at: String,
    attempts: u32,
    reason: String,
    /// It is about to be tried again.
    waiting: bool,
}

impl Dead {
    fn of(letter: DeadLetter) -> Self {
        let DeadLetter { no, room, after, to, at, attempts, reason, waiting } = letter;
        Self { id: no.to_string(), room, after, to, at: rfc3339(at), attempts, reason, waiting }
    }
}

/// The room whose hooks are meant (`None`: those for all rooms), for somebody who may manage them.
async fn scope(api: &Api, who: &SignedIn, request: &HttpRequest) -> Result<Option<RoomId>, Problem> {
    if request.match_info().get("room").is_none() {
        who.must_be_admin()?;
        return Ok(None);
    }
    let room = room_of(request)?;
    api.permit(&room, who.caller.clone(), Act::ManageWebhooks).await?;
    Ok(Some(room))
}

fn hook_of(request: &HttpRequest) -> Result<String, Refusal> {
    query::path(request, "hook", |text| {
        let named = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if named { Ok(text.to_owned()) } else { Err("a webhook id is as in the list of webhooks") }
    })
}

fn dead_of(request: &HttpRequest) -> Result<i64, Refusal> {
    query::path(request, "dead", |text| text.parse().map_err(|_| "an id of a dead letter is as in their list"))
}

/// The hook of the path, which must be there.
async fn found(api: &Api, room: Option<&RoomId>, request: &HttpRequest) -> Result<Webhook, Problem> {
    let hook = api.store().webhook(room, &hook_of(request)?).await?;
    Ok(hook.ok_or_else(no_such_hook)?)
}

fn no_such_hook() -> Refusal {
    Refusal::not_found("hook: there is no such webhook here")
}

/// 256 random bits behind a prefix by which leaked ones can be found.
fn new_secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| fault(&error))?;
    Ok(format!("whs_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// An address that the settings allow. Where a name leads is looked at each time it is used.
fn address(text: &str, settings: &config::Webhooks) -> Result<String, Refusal> {
    let bad = |rule: &str| Refusal::bad_request(format!("url: {rule}"));
    if text.len() > URL_BYTES {
        return Err(bad(&format!("must have at most {URL_BYTES} bytes")));
    }
    let scheme = if settings.allow_http { "must be an https:// or http:// URL" } else { "must be an https:// URL" };
    let url = Url::parse(text).map_err(|_| bad(scheme))?;
    let known = url.scheme() == "https" || (url.scheme() == "http" && settings.allow_http);
    if !known || !url.has_host() {
        return Err(bad(scheme));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(bad("must have no user name, password or fragment"));
    }
    let networks = settings.allow_networks.iter().map(|network| network.0).collect();
    let reach = Reach { all: settings.allow_private, networks };
    if reach.check(&url).is_err() || (!reach.all && is_local_name(&url)) {
        return Err(bad("must not lead into a private network"));
    }
    let url = String::from(url);
    if url.len() > URL_BYTES { Err(bad(&format!("must have at most {URL_BYTES} bytes"))) } else { Ok(url) }
}

/// A name that never is in the internet. Others are looked at when they are resolved.
fn is_local_name(url: &Url) -> bool {
    let name = url.domain().map(|name| name.trim_end_matches('.')).unwrap_or_default();
    name == "localhost" || name.ends_with(".localhost")
}

fn kinds(fields: &Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(mut kinds) = fields.optional::<Vec<String>>("kinds")? else { return Ok(None) };
    if kinds.iter().any(|kind| !KINDS.contains(&&**kind)) {
        return Err(Refusal::bad_request(format!("kinds: must be some of {}", KINDS.join(", "))));
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(Some(kinds))
}

pub async fn create(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let settings = &api.hub.context().config.webhooks;
    let url = address(&fields.required::<String>("url")?, settings)?;
    let made_at = unix_ms();
    let deed = deed(&who.caller, What::WebhookMade);
    let secret = new_secret()?;
    let hook = Webhook {
        id: format!("wh_{:016x}", rand::random::<u64>()),
        room,
        url,
        kinds: kinds(&fields)?.unwrap_or_default(),
        active: true,
        off_reason: None,
        made_by: who.caller.user,
        made_at,
        ready: false,
    };
    match api.store().create_webhook(&NewWebhook { hook, secret: secret.clone() }).await? {
        Made::New(mut hook) => {
            api.audit(hook.room.as_ref(), &Deed { detail: Some(hook.id.clone()), ..deed }).await?;
            let path = match &hook.room {
                Some(room) => format!("/api/v1/rooms/{room}/webhooks/{}", hook.id),
                None => format!("/api/v1/admin/webhooks/{}", hook.id),
            };
            if !hook.ready {
                api.store().fill_webhooks(FILLED_AT_ONCE).await?;
                hook = api.store().webhook(None, &hook.id).await?.unwrap_or(hook);
            }
            let shown = Shown::of(hook, Some(secret));
            Ok(HttpResponse::Created().insert_header((header::LOCATION, path)).json(shown))
        }
        Made::Known(hook) => Ok(HttpResponse::Ok().json(Shown::of(hook, None))),
        Made::TooMany => {
            Err(Refusal::conflict(format!("at most {HOOKS_MAX} webhooks are allowed here; delete one first")).into())
        }
        Made::NoSuchRoom => Err(Refusal::no_such_room().into()),
    }
}

pub async fn all(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, str::parse::<String>)?);
    // There are never many: pages are cut here. By id, so that the place of one that is gone is still known.
    let mut hooks = api.store().webhooks(room.as_ref()).await?;
    hooks.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let behind = hooks.into_iter().filter(|hook| cursor.as_ref().is_none_or(|cursor| hook.id > *cursor));
    let items = behind.take(limit as usize + 1).map(|hook| Shown::of(hook, None)).collect();
    Ok(list(items, limit, |shown: &Shown| &shown.id))
}

pub async fn get(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let hook = found(&api, room.as_ref(), &request).await?;
    Ok(HttpResponse::Ok().json(Shown::of(hook, None)))
}

pub async fn patch(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let id = hook_of(&request)?;
    let settings = &api.hub.context().config.webhooks;
    let secret = match fields.optional::<bool>("rotate_secret")? {
        Some(true) => Some(new_secret()?),
        _ => None,
    };
    let patch = WebhookPatch {
        url: fields.text("url", |url| address(url, settings))?,
        kinds: kinds(&fields)?,
        active: fields.optional("active")?,
        secret: secret.clone().map(|secret| (secret, OLD_SECRET)),
    };
    let changed: Vec<&str> = [
        (patch.url.is_some(), "url"),
        (patch.kinds.is_some(), "kinds"),
        (patch.active == Some(true), "on"),
        (patch.active == Some(false), "off"),
        (patch.secret.is_some(), "secret"),
    ]
    .into_iter()
    .filter_map(|(is_so, name)| is_so.then_some(name))
    .collect();
    match api.store().change_webhook(room.as_ref(), &id, &patch).await? {
        Changed::Done(hook) => {
            let detail = Some(format!("{id} {}", changed.join(" ")));
            api.audit(room.as_ref(), &Deed { detail, ..deed(&who.caller, What::WebhookChanged) }).await?;
            Ok(HttpResponse::Ok().json(Shown::of(hook, secret)))
        }
        Changed::NoSuchHook => Err(no_such_hook().into()),
        Changed::Taken => Err(Refusal::conflict("url: another webhook here has this address").into()),
    }
}

pub async fn delete(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let id = hook_of(&request)?;
    if !api.store().delete_webhook(room.as_ref(), &id).await? {
        return Err(no_such_hook().into());
    }
    api.audit(room.as_ref(), &Deed { detail: Some(id), ..deed(&who.caller, What::WebhookDeleted) }).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn dead(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, str::parse::<i64>)?);
    let hook = found(&api, room.as_ref(), &request).await?;
    let letters = api.store().dead_letters(&hook.id, cursor, limit + 1).await?;
    Ok(list(letters.into_iter().map(Dead::of).collect(), limit, |dead: &Dead| &dead.id))
}

pub async fn retry_dead(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let (hook, no) = (found(&api, room.as_ref(), &request).await?, dead_of(&request)?);
    if !api.store().retry_dead_letter(&hook.id, no).await? {
        return Err(Refusal::not_found("dead: there is no such dead letter; it may have been delivered").into());
    }
    let detail = Some(format!("{} {no}", hook.id));
    api.audit(room.as_ref(), &Deed { detail, ..deed(&who.caller, What::DeadLetterRetried) }).await?;
    Ok(HttpResponse::Accepted().finish())
}

pub async fn drop_dead(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let room = scope(&api, &who, &request).await?;
    let (hook, no) = (found(&api, room.as_ref(), &request).await?, dead_of(&request)?);
    if !api.store().drop_dead_letter(&hook.id, no).await? {
        return Err(Refusal::not_found("dead: there is no such dead letter").into());
    }
    let detail = Some(format!("{} {no}", hook.id));
    api.audit(room.as_ref(), &Deed { detail, ..deed(&who.caller, What::DeadLetterDropped) }).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_settings() {
        let strict = config::Webhooks::default();
        assert_eq!(address("https://Example.org:443/a?b", &strict).as_deref(), Ok("https://example.org/a?b"));
        for bad in [
            "",
            "example.org",
            "http://example.org/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "https://",
            "https://u@example.org/",
            "https://u:p@example.org/",
            "https://example.org/#a",
            "https://localhost/",
            "https://a.localhost./",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data/",
        ] {
            let refusal = address(bad, &strict).expect_err(bad);
            assert!(refusal.message.starts_with("url: "), "{bad}: {}", refusal.message);
        }
        assert!(address(&format!("https://example.org/{}", "x".repeat(2_000)), &strict).is_err());
        let open = config::Webhooks { allow_http: true, allow_private: true, ..strict };
        assert!(address("http://127.0.0.1:8080/hook", &open).is_ok());
        assert!(address("file:///etc/passwd", &open).is_err());
    }
}
