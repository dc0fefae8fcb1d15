//! Invitations: links with a token that let whoever has one into a room. The token is shown once, to who makes it.
//!
//! Invariant: an invitation that was never made, has ended, was revoked or is used up gives the same answer.

use std::ops::RangeInclusive;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::deed;
use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::rooms::Shown;
use super::{Api, now_ms, room_of};
use crate::auth::{invitation_hash, invitation_token};
use crate::domain::acts::Act;
use crate::domain::audit::{Deed, What};
use crate::domain::command::{Command, Proof, Reply};
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::{self, Fields, Query};
use crate::ids::{RoomId, UserId};
use crate::ports::{self, Invited};
use crate::refusal::{Code, Refusal};

/// How long an invitation may last, seconds: a minute to a year.
pub const LASTS_S: RangeInclusive<u64> = 60..=365 * 24 * 60 * 60;
/// How long it lasts where nothing is said: a week.
const LASTS_DEFAULT_S: u64 = 7 * 24 * 60 * 60;
/// How often one may be used, where that is said.
pub const USES: RangeInclusive<u64> = 1..=100_000;
/// Invitations of one room that can still be used.
const LIVE: u32 = 100;

#[derive(Serialize, ToSchema)]
pub struct Invitation {
    id: String,
    made_by: UserId,
    made_at: String,
    expires_at: String,
    /// Null: any number.
    uses_left: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub struct MadeInvitation {
    #[serde(flatten)]
    invitation: Invitation,
    room: RoomId,
    /// For `POST invitations/{token}/accept`; it is not shown again.
    token: String,
}

impl From<ports::Invitation> for Invitation {
    fn from(invitation: ports::Invitation) -> Self {
        let ports::Invitation { id, made_by, made_at, expires_at, uses_left } = invitation;
        Self { id, made_by, made_at: rfc3339(made_at), expires_at: rfc3339(expires_at), uses_left }
    }
}

pub async fn invite(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let room = room_of(&request)?;
    let lasts_s = fields.integer("expires_in_s", LASTS_S)?.unwrap_or(LASTS_DEFAULT_S);
    let uses_left = fields.integer("uses", USES)?.and_then(|uses| u32::try_from(uses).ok());
    let made_by = who.caller.user.clone();
    let deed = deed(&who.caller, What::InvitationMade);
    api.permit(&room, who.caller, Act::Invite).await?;
    let now = now_ms();
    let (token, hash) = invitation_token().map_err(Refusal::from)?;
    let expires_at = now + i64::try_from(lasts_s * 1_000).unwrap_or(i64::MAX / 2);
    let id = format!("{:016x}", rand::random::<u64>());
    let invitation = ports::Invitation { id, made_by, made_at: now, expires_at, uses_left };
    match api.store().invite(&room, &invitation, &hash, LIVE).await? {
        Invited::New => {
            let detail = Some(invitation.id.clone());
            api.audit(Some(&room), &Deed { detail, ..deed }).await?;
        }
        Invited::NoSuchRoom => return Err(Refusal::no_such_room().into()),
        Invited::TooMany => {
            let rule = format!("a room has at most {LIVE} invitations at a time; revoke one first");
            return Err(Refusal::conflict(rule).into());
        }
    }
    let token = token.expose().to_owned();
    Ok(HttpResponse::Created().json(MadeInvitation { invitation: invitation.into(), room, token }))
}

pub async fn invitations(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, id)?);
    api.permit(&room, who.caller, Act::Invite).await?;
    let found = api.store().invitations(&room, now_ms(), cursor.as_deref(), limit + 1).await?;
    Ok(list(found.into_iter().map(Invitation::from).collect(), limit, |invitation: &Invitation| invitation.id.as_str()))
}

/// Idempotent.
pub async fn revoke(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, id) = (room_of(&request)?, query::path(&request, "invitation", id)?);
    let deed = Deed { detail: Some(id.clone()), ..deed(&who.caller, What::InvitationRevoked) };
    api.permit(&room, who.caller, Act::Invite).await?;
    api.store().revoke_invitation(&room, &id).await?;
    api.audit(Some(&room), &deed).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes the caller a member. One who is a member already takes no use, so that a repeat costs nothing.
pub async fn accept(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let hash = invitation_hash(request.match_info().query("token")).ok_or_else(Refusal::no_such_invitation)?;
    let room = api.store().invitation_room(&hash, now_ms()).await?.ok_or_else(Refusal::no_such_invitation)?;
    let role = match api.ask(&room, who.caller, Command::Enter(Proof::Invitation(hash))).await {
        Ok(Reply::Member { role }) => role,
        Ok(other) => return Err(api.odd(&other).into()),
        // The room is gone: its invitations are no more than any other that is.
        Err(refusal) if refusal.code == Code::NotFound => return Err(Refusal::no_such_invitation().into()),
        Err(refusal) => return Err(refusal.into()),
    };
    Ok(HttpResponse::Ok().json(Shown { room: api.record(&room).await?, role, online: None }))
}

fn id(text: &str) -> Result<String, &'static str> {
    let valid = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if valid { Ok(text.to_owned()) } else { Err("must be the id of an invitation") }
}
