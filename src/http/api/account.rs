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
use crate::auth::{AuthError, csrf_token};
use crate::domain::revoked::Revoked;
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::Fields;
use crate::ids::UserId;
use crate::ports::{Created, User};
use crate::protocol::text;
use crate::refusal::Refusal;

#[derive(Serialize)]
struct Session<'a> {
    token: &'a str,
    user: User,
}

#[derive(Serialize)]
struct Me {
    user: User,
    /// For `X-CSRF-Token`.
    csrf_token: String,
    /// When the credentials end; null: never.
    expires_at: Option<String>,
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
    let hash = api.auth().hash_password(password).await.map_err(Refusal::from)?;
    let user = User { id, name };
    if api.store().create_account(&user, &hash).await? == Created::Taken {
        return Err(Refusal::conflict("user: this id is taken").into());
    }
    session(&api, &request, user, HttpResponse::Created()).await
}

pub async fn login(api: Data<Api>, request: HttpRequest, fields: Fields) -> Answer {
    check_origin(&api, &request)?;
    let id: UserId = fields.required("user")?;
    let password = fields.required::<String>("password")?;
    let user = match api.auth().check_password(&id, &password).await {
        Ok(user) => user,
        Err(error) => {
            if matches!(error, AuthError::Unauthenticated(_)) {
                api.hub.context().metrics.logins_failed.inc();
            }
            return Err(Refusal::from(error).into());
        }
    };
    session(&api, &request, user, HttpResponse::Ok()).await
}

/// Makes a login and gives it to the client, as token and as cookie.
async fn session(api: &Api, request: &HttpRequest, user: User, mut answer: actix_web::HttpResponseBuilder) -> Answer {
    let issued = api.auth().issue(&user.id).await.map_err(Refusal::from)?;
    let token = issued.token.expose();
    answer.cookie(session_cookie(token, api.shared.session_s, Client::of(request).https));
    Ok(answer.json(Session { token, user }))
}

/// Ends this login everywhere. A JWT has no login to end: it is good until it expires.
pub async fn logout(api: Data<Api>, request: HttpRequest, who: SignedIn) -> Answer {
    if let Some(hash) = who.identity.login {
        api.auth().revoke(&hash).await.map_err(Refusal::from)?;
        (api.shared.revoke)(Revoked::Login(hash));
    }
    Ok(HttpResponse::NoContent().cookie(no_cookie(Client::of(&request).https)).finish())
}

pub async fn me(api: Data<Api>, who: SignedIn) -> Answer {
    // What the credentials say of the name may be a little old.
    let user = api.store().user(&who.caller.user).await?.ok_or_else(gone)?;
    let expires_at = who.identity.expires_at.map(rfc3339);
    Ok(HttpResponse::Ok().json(Me { user, csrf_token: csrf_token(&who.token), expires_at }))
}

fn gone() -> Refusal {
    Refusal::unauthenticated("the user of these credentials is gone")
}

pub async fn rename(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let name = fields.text("name", text::name)?.ok_or_else(|| Refusal::bad_request("name: is missing"))?;
    if !api.store().rename_user(&who.caller.user, &name).await? {
        return Err(gone().into());
    }
    api.auth().forget_user(&who.caller.user);
    if let Some(hash) = &who.identity.login {
        api.auth().forget(hash);
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({"user": User { id: who.caller.user, name: Some(name) }})))
}
