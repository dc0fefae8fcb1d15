//! Login by an OpenID Connect provider: there, and back again; and which ways to log in there are.
//!
//! Invariants: a browser is only ever sent to the provider or to our own page; a login is finished only by the browser that
//! began it; no page shows what the request said.

use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::account::issue_session;
use super::credentials::session_cookie;
use super::{Api, Client};
use crate::auth::oidc::{LOGIN_S, Oidc, OidcError};
use crate::http::problem::{Answer, Problem};
use crate::http::query::Query;
use crate::http::security::PAGE_CSP;
use crate::ports::User;
use crate::refusal::Refusal;

/// The cookie of a login under way.
const COOKIE: &str = "roundtable_oidc";
/// Where it is sent.
const COOKIE_PATH: &str = "/api/v1/oidc";

/// The ways to log in that this server has.
#[derive(Serialize, ToSchema)]
pub struct Ways {
    password: bool,
    oidc: Option<OidcWay>,
}

/// A login provider, as a button shows it.
#[derive(Serialize, ToSchema)]
pub struct OidcWay {
    label: String,
    /// Where to send the browser.
    login: &'static str,
}

/// How one can log in here; for the web client, before anybody has.
pub async fn ways(api: Data<Api>) -> HttpResponse {
    let oidc = api.auth().oidc().map(|oidc| OidcWay { label: oidc.label().to_owned(), login: "/api/v1/oidc/login" });
    HttpResponse::Ok().json(Ways { password: true, oidc })
}

pub async fn login(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    match begin(&api, &request).await {
        Ok(answer) => answer,
        Err(problem) => page_or_problem(&request, &problem),
    }
}

async fn begin(api: &Api, request: &HttpRequest) -> Answer {
    let oidc = provider(api, request)?;
    let begun = oidc.begin().await.map_err(Refusal::from)?;
    let cookie = login_cookie(&begun.cookie, LOGIN_S as i64, Client::of(request).https);
    Ok(HttpResponse::Found().insert_header((header::LOCATION, begun.url)).cookie(cookie).finish())
}

/// Characters of a state, which is ours, and of the name of an error.
pub const STATE_CHARS: usize = 200;
/// Characters of a provider's code. With the others it fits into what is read of a request's head, however it is escaped.
pub const CODE_CHARS: usize = 4_000;

pub async fn callback(api: Data<Api>, request: HttpRequest, query: Query) -> HttpResponse {
    let https = Client::of(&request).https;
    let mut answer = match finish(&api, &request, &query).await {
        Ok(answer) => answer,
        Err(problem) => page_or_problem(&request, &problem),
    };
    // Whatever came of it, this login is over.
    if answer.add_cookie(&login_cookie("", 0, https)).is_err() {
        tracing::error!("the cookie of a login under way could not be taken back");
    }
    answer
}

async fn finish(api: &Api, request: &HttpRequest, query: &Query) -> Answer {
    let oidc = provider(api, request)?;
    let of = |name, most| {
        let bounded = |text: &str| {
            let fits = text.chars().count() <= most;
            fits.then(|| text.to_owned()).ok_or_else(|| format!("must have at most {most} characters"))
        };
        query.optional(name, bounded).map(Option::unwrap_or_default)
    };
    let cookie = request.cookie(COOKIE).map(|cookie| cookie.value().to_owned()).unwrap_or_default();
    let (state, code, error) = (of("state", STATE_CHARS)?, of("code", CODE_CHARS)?, of("error", STATE_CHARS)?);
    oidc.check(&cookie, &state).map_err(Refusal::from)?;
    match &*error {
        "" => {}
        "temporarily_unavailable" | "server_error" => {
            return Err(Refusal::from(OidcError::Away(format!("it sent the browser back with {error}"))).into());
        }
        _ => return Err(Refusal::forbidden("the login provider let you not through; log in again").into()),
    }
    let person = oidc.finish(&cookie, &state, &code).await.map_err(Refusal::from)?;
    let User { id, .. } =
        api.store().oidc_user(&person.subject, &person.wanted, person.name.as_deref()).await?.ok_or_else(|| {
            Refusal::forbidden("your user id here is or was somebody else's; ask whoever runs this server")
        })?;
    let session = issue_session(api, request, &id).await?;
    let cookie = session_cookie(session.expose(), api.shared.session_s, Client::of(request).https);
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/")).cookie(cookie.into_owned()).finish())
}

fn provider<'a>(api: &'a Api, request: &HttpRequest) -> Result<&'a Oidc, Problem> {
    let oidc = api.auth().oidc().ok_or_else(Problem::no_such_address)?;
    if let Some(rate) = &api.shared.rates.logins {
        rate.check(Client::of(request).address)?;
    }
    Ok(oidc)
}

/// Lax: the browser comes back by a link of the provider's.
fn login_cookie(value: &str, seconds: i64, https: bool) -> Cookie<'static> {
    Cookie::build(COOKIE, value.to_owned())
        .path(COOKIE_PATH)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(https)
        .max_age(CookieDuration::seconds(seconds))
        .finish()
}

/// A person is shown a page; a program gets a problem.
fn page_or_problem(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let mut answer = problem.response();
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return answer;
    }
    let title = problem.status().canonical_reason().unwrap_or("Error");
    let html = include_str!("../../web/login-failed.html")
        .replace("{title}", &escaped(title))
        .replace("{detail}", &escaped(&problem.refusal.message));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(PAGE_CSP));
    answer.set_body(actix_web::body::BoxBody::new(html))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
