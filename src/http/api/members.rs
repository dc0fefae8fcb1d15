//! Who belongs to a room, with which role, and who may not come in. The room itself decides who may change that.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::{Api, room_of, user_of};
use crate::domain::acts::Act;
use crate::domain::command::{Command, Reply};
use crate::entry::Role;
use crate::http::problem::Answer;
use crate::http::query::{Fields, Query};
use crate::ids::UserId;
use crate::refusal::Refusal;

#[derive(Serialize, ToSchema)]
pub struct Member {
    user: UserId,
    role: Role,
}

#[derive(Serialize, ToSchema)]
pub struct Banned {
    user: UserId,
}

pub async fn members(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, UserId::parse)?);
    api.admit(&room, who.caller).await?;
    let members = api.store().members(&room, cursor.as_ref(), limit + 1).await?;
    let items = members.into_iter().map(|(user, role)| Member { user, role }).collect();
    Ok(list(items, limit, |member: &Member| member.user.as_str()))
}

pub async fn set(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let (room, user) = (room_of(&request)?, user_of(&request)?);
    let role = Role::parse(&fields.required::<String>("role")?)
        .ok_or_else(|| Refusal::bad_request("role: must be owner, moderator, member or muted"))?;
    match api.ask(&room, who.caller, Command::SetRole { user: user.clone(), role }).await? {
        Reply::Member { role: Some(role) } => Ok(HttpResponse::Ok().json(Member { user, role })),
        other => Err(api.odd(&other).into()),
    }
}

pub async fn remove(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, user) = (room_of(&request)?, user_of(&request)?);
    api.ask(&room, who.caller, Command::RemoveMember { user }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// For those who may ban: the list of names is nobody else's business.
pub async fn bans(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, UserId::parse)?);
    api.permit(&room, who.caller, Act::SeeBans).await?;
    let bans = api.store().bans(&room, cursor.as_ref(), limit + 1).await?;
    Ok(list(bans.into_iter().map(|user| Banned { user }).collect(), limit, |banned: &Banned| banned.user.as_str()))
}

pub async fn ban(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, user) = (room_of(&request)?, user_of(&request)?);
    api.ask(&room, who.caller, Command::Ban { user }).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn unban(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, user) = (room_of(&request)?, user_of(&request)?);
    api.ask(&room, who.caller, Command::Unban { user }).await?;
    Ok(HttpResponse::NoContent().finish())
}
