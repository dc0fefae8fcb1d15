//! One's own logins and access tokens: seeing them, ending them, making tokens.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::audit::deed;
use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use crate::auth::USER_TOKENS;
use crate::domain::audit::{Deed, What};
use crate::domain::revoked::Revoked;
use crate::domain::scopes::{Grant, Scope, Scopes};
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::{self, Fields, Query};
use crate::ids::{Millis, RoomId};
use crate::ports::{Credential, CredentialId, Keep, Kind, NEVER};
use crate::protocol::text;
use crate::refusal::Refusal;

/// Longest life of an access token that has an end, seconds: ten years.
pub const TOKEN_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

#[derive(Serialize, ToSchema)]
#[schema(as = Login)]
pub struct Session {
    id: String,
    created_at: String,
    /// May be some minutes old.
    last_seen_at: String,
    expires_at: String,
    /// As it calls itself.
    client: Option<String>,
    address: Option<String>,
    /// The one that asks.
    current: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
pub struct Token {
    id: String,
    name: Option<String>,
    scopes: Vec<&'static str>,
    /// The one room that it is for; null: all.
    room: Option<RoomId>,
    created_at: String,
    /// May be some minutes old.
    last_seen_at: String,
    /// Null: never.
    expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NewAccessToken)]
pub struct NewToken {
    /// Shown this once.
    token: String,
    #[serde(flatten)]
    shown: Token,
}

fn end(at: Millis) -> Option<String> {
    (at < NEVER).then(|| rfc3339(at))
}

fn id_of(request: &HttpRequest) -> Result<CredentialId, Refusal> {
    query::path(request, "id", CredentialId::parse)
}

pub async fn sessions(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    let current = who.identity.login.as_ref().map(CredentialId::of);
    let shown = |login: Credential| Session {
        id: login.id.to_string(),
        created_at: rfc3339(login.created_at),
        last_seen_at: rfc3339(login.last_seen_at),
        expires_at: rfc3339(login.expires_at),
        client: login.device.client,
        address: login.device.address,
        current: Some(login.id) == current,
    };
    let (limit, found) = owned(&api, &who, &query, Kind::Login).await?;
    Ok(list(found.into_iter().map(shown).collect(), limit, |session: &Session| &session.id))
}

pub async fn tokens(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    let (limit, found) = owned(&api, &who, &query, Kind::Token).await?;
    Ok(list(found.into_iter().map(shown).collect(), limit, |token: &Token| &token.id))
}

fn shown(token: Credential) -> Token {
    let (scopes, room) = token.grant.map_or((Scopes::default(), None), |grant| (grant.scopes, grant.room));
    Token {
        id: token.id.to_string(),
        name: token.name,
        scopes: scopes.names(),
        room,
        created_at: rfc3339(token.created_at),
        last_seen_at: rfc3339(token.last_seen_at),
        expires_at: end(token.expires_at),
    }
}

/// One page, and one more.
async fn owned(
    api: &Api,
    who: &SignedIn,
    query: &Query,
    kind: Kind,
) -> Result<(u32, Vec<Credential>), crate::http::problem::Problem> {
    let (limit, cursor) = (limit(query)?, cursor(query, CredentialId::parse)?);
    let found = api.store().credentials(&who.caller.user, kind, super::unix_ms(), cursor, limit + 1).await?;
    Ok((limit, found))
}

pub async fn end_session(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    end_one(&api, &who, Kind::Login, id_of(&request)?).await
}

pub async fn end_token(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    end_one(&api, &who, Kind::Token, id_of(&request)?).await
}

async fn end_one(api: &Api, who: &SignedIn, kind: Kind, id: CredentialId) -> Answer {
    let Some(hash) = api.store().end_credential(&who.caller.user, kind, id).await? else {
        return Err(Refusal::not_found("id: none of yours, or it has ended already").into());
    };
    api.revoked(Revoked::Login(hash));
    if kind == Kind::Token {
        api.audit(None, &Deed { detail: Some(id.to_string()), ..deed(&who.caller, What::TokenRevoked) }).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// All but the one that asks; access tokens stay.
pub async fn end_others(api: Data<Api>, who: SignedIn) -> Answer {
    end_logins(&api, &who).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all of the caller's logins but the one that asks.
pub(super) async fn end_logins(api: &Api, who: &SignedIn) -> Result<(), crate::http::problem::Problem> {
    let keep = Keep::TokensAnd(who.identity.login.as_ref());
    for hash in api.store().end_all(&who.caller.user, keep).await? {
        api.revoked(Revoked::Login(hash));
    }
    Ok(())
}

pub async fn make_token(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let name = fields.text("name", text::name)?.filter(|name| !name.trim().is_empty());
    let name = name.ok_or_else(|| Refusal::bad_request("name: is missing or blank"))?;
    let grant = Grant { scopes: scopes(&who, &fields)?, room: fields.optional("room")? };
    // A token gives no more than those that made it have.
    if let Some(own) = who.identity.grant.as_ref().and_then(|own| own.room.clone())
        && grant.room.as_ref() != Some(&own)
    {
        return Err(Refusal::forbidden(format!("room: must be {own}, as for the token that asks")).into());
    }
    let expires_in_s = lasting(&who, fields.integer("expires_in_s", 1..=TOKEN_SECONDS)?)?;
    let made = api.auth().issue_token(&who.caller.user, name.clone(), grant.clone(), expires_in_s).await;
    let Some(made) = made.map_err(Refusal::from)? else {
        let full = format!("a user has at most {USER_TOKENS} access tokens; end one first");
        return Err(Refusal::conflict(full).into());
    };
    let id = CredentialId::of(&made.hash).to_string();
    let detail = Some(format!("{id} {}", grant.scopes.names().join(" ")));
    api.audit(grant.room.as_ref(), &Deed { detail, ..deed(&who.caller, What::TokenMade) }).await?;
    let shown = Token {
        id,
        name: Some(name),
        scopes: grant.scopes.names(),
        room: grant.room,
        created_at: rfc3339(made.created_at),
        last_seen_at: rfc3339(made.created_at),
        expires_at: end(made.expires_at),
    };
    Ok(HttpResponse::Created().json(NewToken { token: made.token.expose().to_owned(), shown }))
}

/// Made by an access token, a token ends with it at the latest: otherwise its end would be worth nothing.
fn lasting(who: &SignedIn, asked_s: Option<u64>) -> Result<Option<u64>, Refusal> {
    let Some(ends_at) = who.identity.expires_at.filter(|_| who.identity.grant.is_some()) else { return Ok(asked_s) };
    let left_s = u64::try_from((ends_at - super::unix_ms()) / 1_000).unwrap_or(0).max(1);
    match asked_s {
        Some(asked_s) if asked_s > left_s => {
            let rule = format!("expires_in_s: at most {left_s}, which the access token that asks has left");
            Err(Refusal::forbidden(rule))
        }
        asked_s => Ok(asked_s.or(Some(left_s))),
    }
}

fn scopes(who: &SignedIn, fields: &Fields) -> Result<Scopes, Refusal> {
    let allowed = || Refusal::bad_request("scopes: must be a list of one or more of read, write, rooms, account");
    let named: Vec<String> = fields.required("scopes")?;
    let scopes: Option<Vec<Scope>> = named.iter().map(|name| Scope::parse(name)).collect();
    let scopes = scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(allowed)?;
    let own = who.identity.scopes();
    if let Some(scope) = scopes.iter().find(|scope| !own.has(**scope)) {
        return Err(Refusal::forbidden(format!("this access token lacks the scope {}", scope.as_str())));
    }
    Ok(scopes.into_iter().collect())
}
