//! Who calls: by `Authorization: Bearer`, else by the session cookie.
//!
//! Invariant: a call that may change something and bears the cookie needs the CSRF token as well, since browsers send
//! cookies wherever a call comes from; a Bearer token is only ever sent on purpose.

use std::pin::Pin;

use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use super::{Api, Client, scopes};
use crate::auth::{Identity, csrf_matches};
use crate::domain::audit::Whence;
use crate::domain::command::Caller;
use crate::http::problem::Problem;
use crate::http::security::CSRF_HEADER;
use crate::http::socket::handshake::COOKIE;
use crate::ids::RoomId;
use crate::refusal::Refusal;

/// A caller whose credentials were found good.
pub struct SignedIn {
    pub caller: Caller,
    pub identity: Identity,
    /// As it was sent.
    pub token: String,
}

impl SignedIn {
    /// # Errors
    /// `forbidden` for anybody but an administrator.
    pub fn must_be_admin(&self) -> Result<(), Refusal> {
        if self.caller.admin { Ok(()) } else { Err(Refusal::forbidden("only for administrators of the server")) }
    }
}

impl SignedIn {
    /// What concerns the whole server is for administrators.
    ///
    /// # Errors
    /// `forbidden` to everybody else.
    pub fn admin(&self) -> Result<(), Refusal> {
        if self.caller.admin { Ok(()) } else { Err(Refusal::forbidden("only administrators may do that")) }
    }
}

impl FromRequest for SignedIn {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let api = request.app_data::<Data<Api>>().ok_or_else(|| super::fault(&"the API's state is missing"))?;
            let (token, by_cookie) = token(&request)?;
            let identity = api.auth().authenticate(&token).await.map_err(Refusal::from)?;
            if let Some(rate) = &api.shared.rates.users {
                rate.take(identity.user.id.clone())?;
            }
            let room = request.match_info().get("room").and_then(|room| RoomId::parse(room).ok());
            identity.allows(scopes::need(&request, room.as_ref()))?;
            if by_cookie && !request.method().is_safe() {
                check_csrf(request.headers(), &token)?;
            }
            let from = Whence(Client::of(&request).address.to_string());
            let caller = Caller { user: identity.user.id.clone(), admin: identity.admin, from: Some(Box::new(from)) };
            Ok(Self { caller, identity, token })
        })
    }
}

/// The token that was sent, and whether by cookie.
fn token(request: &HttpRequest) -> Result<(String, bool), Refusal> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        return match bearer {
            Some(token) if !token.is_empty() => Ok((token.to_owned(), false)),
            _ => Err(Refusal::unauthenticated("the Authorization header must be: Bearer, a space, the token")),
        };
    }
    match request.cookie(COOKIE) {
        Some(cookie) => Ok((cookie.value().to_owned(), true)),
        None => {
            Err(Refusal::unauthenticated("log in: send a token in the Authorization header, or the session cookie"))
        }
    }
}

fn check_csrf(headers: &HeaderMap, token: &str) -> Result<(), Refusal> {
    let sent = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if csrf_matches(token, sent) {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "calls with the cookie that change something need the header X-CSRF-Token, as in GET /api/v1/me",
    ))
}

/// The cookie that holds a login's token for as long as it lasts.
pub fn session_cookie(token: &str, seconds: i64, https: bool) -> Cookie<'_> {
    Cookie::build(COOKIE, token)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(https)
        .max_age(CookieDuration::seconds(seconds))
        .finish()
}

/// The cookie of a device that has logged in before ([`crate::auth::LoggedIn`]).
pub const DEVICE_COOKIE: &str = "roundtable_device";
/// As long as browsers keep one.
const DEVICE_DAYS: i64 = 400;

/// The cookie by which a device is known again at the next login.
pub fn device_cookie(value: &str, https: bool) -> Cookie<'_> {
    Cookie::build(DEVICE_COOKIE, value)
        .path("/api/v1")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(https)
        .max_age(CookieDuration::days(DEVICE_DAYS))
        .finish()
}

/// Tells the browser to forget the cookie.
pub fn no_cookie(https: bool) -> Cookie<'static> {
    session_cookie("", 0, https).into_owned()
}
