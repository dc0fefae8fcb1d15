//! Accounts: making one, logging in and out, and one's own record.
//!
//! Invariants: a refused login does not tell whether the user exists, in its words or in its time; both ways to a
//! session are limited by address and refused to pages of foreign origins, so that nobody is logged in as somebody else
//! behind their back.

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use super::credentials::{DEVICE_COOKIE, SignedIn, device_cookie, no_cookie, session_cookie};
use super::sessions::end_logins;
use super::{Api, Client};
use crate::auth::{AuthError, By, LoggedIn, csrf_token, guessable};
use crate::config;
use crate::domain::revoked::Revoked;
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::Fields;
use crate::ids::{RoomId, UserId};
use crate::ports::{Created, Device, User};
use crate::protocol::{schemas, text};
use crate::refusal::Refusal;

/// A login that was just made.
#[derive(Serialize, ToSchema)]
pub struct Session {
    token: String,
    user: User,
}

/// What a person sees of themselves.
#[derive(Serialize, ToSchema)]
pub struct Me {
    user: User,
    /// For `X-CSRF-Token`.
    csrf_token: String,
    /// When the credentials end; null: never.
    #[schema(schema_with = nullable_at)]
    expires_at: Option<String>,
    /// How they came: by `login`, `token` or `jwt`.
    by: By,
    /// What they may be used for.
    scopes: Vec<&'static str>,
    /// The one room that they are for; null: all.
    room: Option<RoomId>,
}

/// A record after it was changed.
#[derive(Serialize, ToSchema)]
pub struct Renamed {
    user: User,
}

fn nullable_at() -> utoipa::openapi::schema::Schema {
    schemas::nullable(schemas::at())
}

/// What both ways to a session ask first.
fn check_origin(api: &Api, request: &HttpRequest) -> Result<(), Refusal> {
    if let Some(rate) = &api.shared.rates.logins {
        rate.check(Client::of(request).address)?;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    api.shared.origins.check(request.headers(), host)
}

/// Longest name of a client that is kept, characters.
const CLIENT_CHARS: usize = 200;

/// What is kept of where a login came from.
fn device(request: &HttpRequest) -> Device {
    let client = request.headers().get(header::USER_AGENT).map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.chars().filter(|c| !c.is_control()).take(CLIENT_CHARS).collect()
    });
    Device { client, address: Some(Client::of(request).address.to_string()) }
}

/// A new password of `user`; `field` names it in refusals.
fn new_password(fields: &Fields, field: &str, user: &UserId) -> Result<String, Refusal> {
    let password = text::password(&fields.required::<String>(field)?).map_err(|refusal| {
        let rule = refusal.message.trim_start_matches("password: ");
        Refusal::bad_request(format!("{field}: {rule}"))
    })?;
    guessable::check(field, user, &password)?;
    Ok(password)
}

pub async fn register(api: Data<Api>, request: HttpRequest, fields: Fields) -> Answer {
    check_origin(&api, &request)?;
    let id: UserId = fields.required("user")?;
    let name = fields.text("name", text::name)?;
    let password = new_password(&fields, "password", &id)?;
    let hash = api.auth().hash_password(password).await.map_err(Refusal::from)?;
    let user = User { id, name };
    if api.store().create_account(&user, &hash).await? == Created::Taken {
        return Err(Refusal::conflict("user: this id is taken").into());
    }
    let device = api.auth().device_of(&user.id, &hash).map_err(Refusal::from)?;
    session(&api, &request, user, &device, HttpResponse::Created()).await
}

pub async fn login(api: Data<Api>, request: HttpRequest, fields: Fields) -> Answer {
    check_origin(&api, &request)?;
    let id: UserId = fields.required("user")?;
    let password = fields.required::<String>("password")?;
    let known = check_password(&api, &request, &id, &password).await.map_err(Refusal::from)?;
    session(&api, &request, known.user, &known.device, HttpResponse::Ok()).await
}

async fn check_password(
    api: &Api,
    request: &HttpRequest,
    user: &UserId,
    password: &str,
) -> Result<LoggedIn, AuthError> {
    let device = request.cookie(DEVICE_COOKIE);
    let device = device.as_ref().map(|cookie| cookie.value());
    let checked = api.auth().check_password(user, password, Client::of(request).address, device).await;
    if matches!(checked, Err(AuthError::Unauthenticated(_) | AuthError::Throttled(_))) {
        api.hub.context().metrics.logins_failed.inc();
    }
    checked
}

/// Makes a login; the oldest one goes where a user has too many.
pub async fn issue_session(api: &Api, request: &HttpRequest, user: &UserId) -> Result<config::Secret, Refusal> {
    let issued = api.auth().issue(user, device(request)).await?;
    for hash in issued.ended {
        api.revoked(Revoked::Login(hash));
    }
    Ok(issued.token)
}

/// Makes a login and gives it to the client, as token and as cookie.
async fn session(
    api: &Api,
    request: &HttpRequest,
    user: User,
    known_by: &str,
    mut answer: HttpResponseBuilder,
) -> Answer {
    let issued = issue_session(api, request, &user.id).await?;
    let (token, https) = (issued.expose(), Client::of(request).https);
    answer.cookie(session_cookie(token, api.shared.session_s, https)).cookie(device_cookie(known_by, https));
    Ok(answer.json(Session { token: token.to_owned(), user }))
}

/// Ends this login (or access token) everywhere. A JWT has no login to end: it is good until it expires.
pub async fn logout(api: Data<Api>, request: HttpRequest, who: SignedIn) -> Answer {
    if let Some(hash) = who.identity.login {
        api.store().revoke_login(&hash).await?;
        api.revoked(Revoked::Login(hash));
    }
    Ok(HttpResponse::NoContent().cookie(no_cookie(Client::of(&request).https)).finish())
}

pub async fn me(api: Data<Api>, who: SignedIn) -> Answer {
    // What the credentials say of the name may be a little old.
    let user = api.store().user(&who.caller.user).await?.ok_or_else(gone)?;
    let identity = &who.identity;
    Ok(HttpResponse::Ok().json(Me {
        user,
        csrf_token: csrf_token(&who.token),
        expires_at: identity.expires_at.map(rfc3339),
        by: identity.by,
        scopes: identity.scopes().names(),
        room: identity.grant.as_ref().and_then(|grant| grant.room.clone()),
    }))
}

fn gone() -> Refusal {
    Refusal::unauthenticated("the user of these credentials is gone")
}

pub async fn rename(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let name = fields.text("name", text::name)?.ok_or_else(|| Refusal::bad_request("name: is missing"))?;
    if !api.store().rename_user(&who.caller.user, &name).await? {
        return Err(gone().into());
    }
    api.revoked(Revoked::Known(who.caller.user.clone()));
    Ok(HttpResponse::Ok().json(Renamed { user: User { id: who.caller.user, name: Some(name) } }))
}

/// A new password for whoever knows the old one; all other logins end.
pub async fn change_password(api: Data<Api>, request: HttpRequest, who: SignedIn, fields: Fields) -> Answer {
    if let Some(rate) = &api.shared.rates.logins {
        rate.check(Client::of(&request).address)?;
    }
    let user = &who.caller.user;
    let old = fields.required::<String>("old")?;
    let new = new_password(&fields, "new", user)?;
    // Not 401: the credentials of the call are good.
    let wrong = |error| match error {
        AuthError::Unauthenticated(_) => Refusal::forbidden("old: is not the password of this account"),
        error => Refusal::from(error),
    };
    let known = check_password(&api, &request, user, &old).await.map_err(wrong)?;
    let device = api.auth().change_password(&known, new).await.map_err(wrong)?;
    end_logins(&api, &who).await?;
    Ok(HttpResponse::NoContent().cookie(device_cookie(&device, Client::of(&request).https)).finish())
}
