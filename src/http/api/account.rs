//! Accounts: making one, logging in and out, and one's own record.
//!
//! Invariants: a refused login does not tell whether the user exists, in its words or in its time; both ways to a
//! session are limited by address and refused to pages of foreign origins, so that nobody is logged in as somebody else
//! behind their back.

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::credentials::{SignedIn, no_cookie, session_cookie};
use super::{Api, Client};
use crate::auth::{csrf_token, password};
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::Fields;
use crate::ids::UserId;
use crate::ports::{Created, User};
use crate::protocol::text;
use crate::refusal::Refusal;

#[derive(Serialize)]
struct Session {
    token: String,
    user: User,
}

#[derive(Serialize)]
struct Me {
    user: User,
    /// For `X-CSRF-Token`.
    csrf_token: String,
    /// When the credentials end.
    expires_at: String,
}

/// What both ways to a session ask first.
fn check_origin(api: &Api, request: &HttpRequest) -> Result<(), Refusal> {
    if let Some(rate) = &api.shared.rates.logins {
        rate.check(Client::of(request).address)?;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    api.shared.origins.check(request.headers(), host)
}

pub async fn register(api: Data<Api>, request: HttpRequest, fields: Fields) -> Answer {
    check_origin(&api, &request)?;
    let id: UserId = fields.required("user")?;
    let name = fields.text("name", text::name)?;
    let password = text::password(&fields.required::<String>("password")?)?;
    let taken = || Refusal::conflict("user: this id is taken");
    let hash = password::hash(password).await?;
    let user = User { id, name };
    match api.shared.store.create_account(&user, &hash).await? {
        Created::New => {}
        Created::Taken => return Err(taken().into()),
    }
    session(&api, &request, user, HttpResponse::Created()).await
}

pub async fn login(api: Data<Api>, request: HttpRequest, fields: Fields) -> Answer {
    check_origin(&api, &request)?;
    let id: UserId = fields.required("user")?;
    let password = fields.required::<String>("password")?;
    let wrong = || Refusal::unauthenticated("user or password is wrong");
    // What can't be a password is nobody's.
    let password = text::password(&password).map_err(|_| wrong())?;
    let (user, hash) = api.shared.store.password_hash(&id).await?.unzip();
    let matches = password::verify(password, hash).await?;
    let user = user.filter(|_| matches).ok_or_else(wrong)?;
    session(&api, &request, user, HttpResponse::Ok()).await
}

/// Makes a login and gives it to the client, as token and as cookie.
async fn session(api: &Api, request: &HttpRequest, user: User, mut answer: actix_web::HttpResponseBuilder) -> Answer {
    let token = api.shared.authenticator.issue(&user.id).await?;
    let seconds = i64::try_from(api.shared.session.as_secs()).unwrap_or(i64::MAX);
    answer.cookie(session_cookie(&token, seconds, Client::of(request).https));
    Ok(answer.json(Session { token, user }))
}

/// Ends this login everywhere. A JWT has no login to end: it is good until it expires.
pub async fn logout(api: Data<Api>, request: HttpRequest, who: SignedIn) -> Answer {
    if let Some(secret_hash) = who.identity.secret_hash {
        api.shared.store.revoke_login(&secret_hash).await?;
        (api.shared.revoke)(secret_hash);
    }
    Ok(HttpResponse::NoContent().cookie(no_cookie(Client::of(&request).https)).finish())
}

pub async fn me(who: SignedIn) -> Answer {
    Ok(HttpResponse::Ok().json(Me {
        csrf_token: csrf_token(&who.token),
        expires_at: rfc3339(who.identity.expires_at),
        user: who.identity.user,
    }))
}

pub async fn rename(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let name = fields.text("name", text::name)?.ok_or_else(|| Refusal::bad_request("name: is missing"))?;
    if !api.shared.store.rename_user(&who.caller.user, &name).await? {
        return Err(Refusal::unauthenticated("the user of these credentials is gone").into());
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({"user": User { id: who.caller.user, name: Some(name) }})))
}
