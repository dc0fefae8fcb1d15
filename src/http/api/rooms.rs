//! Rooms: making, finding, changing and deleting them, and coming and going.

use std::ops::RangeInclusive;

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::{Api, room_of};
use crate::domain::command::{Command, Proof, Reply};
use crate::domain::direct::{direct_id, is_direct_id};
use crate::entry::{Role, Room, RoomKind, RoomPatch};
use crate::http::problem::Answer;
use crate::http::query::{Fields, Query};
use crate::ids::{RoomId, Seq, UserId};
use crate::ports::{Created, MyRoom};
use crate::protocol::text;
use crate::refusal::Refusal;

/// Longest pause between two messages that a room may ask for, seconds.
pub const SLOW_MODE_MAX_S: u32 = 24 * 60 * 60;
/// How long messages may last in a room where they disappear, seconds: a minute to a year.
pub const TTL_S: RangeInclusive<u32> = 60..=365 * 24 * 60 * 60;

/// A room as it is shown: its record and the caller's role.
#[derive(Serialize, ToSchema)]
pub struct Shown {
    #[serde(flatten)]
    pub room: Room,
    pub role: Option<Role>,
    /// Distinct users with a subscription, where the room was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<u32>,
}

/// A room in its member's own list.
#[derive(Serialize, ToSchema)]
pub struct Mine {
    #[serde(flatten)]
    room: Room,
    role: Role,
    #[schema(value_type = u64)]
    read_seq: Seq,
    /// Messages of others after `read_seq`.
    unread: u64,
    /// Those of them that call the caller, or everybody.
    mentions: u64,
}

/// What a patch did.
#[derive(Serialize, ToSchema)]
pub struct Patched {
    #[serde(flatten)]
    room: Room,
    /// Of the logged entry; null where nothing differed.
    #[schema(value_type = Option<u64>)]
    seq: Option<Seq>,
}

/// What the caller is in the room now.
#[derive(Serialize, ToSchema)]
pub struct Joined {
    role: Option<Role>,
}

pub async fn create(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let id: RoomId = fields.required("id")?;
    if is_direct_id(&id) {
        return Err(Refusal::conflict("id: this form is kept for direct rooms").into());
    }
    let kind = match fields.required::<String>("kind")?.as_str() {
        "public" => RoomKind::Public,
        "private" => RoomKind::Private,
        _ => return Err(Refusal::bad_request("kind: must be public or private").into()),
    };
    let room = Room {
        name: fields.text("name", text::name)?,
        topic: fields.text("topic", text::topic)?,
        ttl_s: ttl(&fields)?.unwrap_or(0),
        edit_history: fields.optional("edit_history")?.unwrap_or(false),
        ..Room::new(id, kind)
    };
    match api.store().create_room(&room, &who.caller.user, None).await? {
        Created::New => Ok(created(room, Some(Role::Owner))),
        Created::Taken => Err(Refusal::conflict("id: this room exists, or existed and was deleted").into()),
    }
}

/// Seconds until a message disappears: 0 (never), or within [`TTL_S`].
fn ttl(fields: &Fields) -> Result<Option<u32>, Refusal> {
    let rule = || {
        let (least, most) = (TTL_S.start(), TTL_S.end());
        Refusal::bad_request(format!("ttl_s: must be 0, or a whole number from {least} to {most}"))
    };
    let ttl_s: Option<u32> = fields.optional("ttl_s").map_err(|_| rule())?;
    if ttl_s.is_none_or(|ttl_s| ttl_s == 0 || TTL_S.contains(&ttl_s)) { Ok(ttl_s) } else { Err(rule()) }
}

fn created(room: Room, role: Option<Role>) -> HttpResponse {
    HttpResponse::Created().insert_header((header::LOCATION, format!("/api/v1/rooms/{}", room.id))).json(Shown {
        room,
        role,
        online: None,
    })
}

pub async fn all(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    let (limit, cursor) = (limit(&query)?, cursor(&query, RoomId::parse)?);
    let rooms = api.store().rooms(&who.caller.user, cursor.as_ref(), limit + 1).await?;
    let items = rooms.into_iter().map(|(room, role)| Shown { room, role, online: None }).collect();
    Ok(list(items, limit, |shown: &Shown| shown.room.id.as_str()))
}

pub async fn mine(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    let (limit, cursor) = (limit(&query)?, cursor(&query, RoomId::parse)?);
    let rooms = api.store().my_rooms(&who.caller.user, cursor.as_ref(), limit + 1).await?;
    let items = rooms
        .into_iter()
        .map(|MyRoom { room, role, read_seq, unread, mentions }| Mine { room, role, read_seq, unread, mentions })
        .collect();
    Ok(list(items, limit, |mine: &Mine| mine.room.id.as_str()))
}

pub async fn get(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let id = room_of(&request)?;
    let admitted = api.admit(&id, who.caller).await?;
    let mut room = api.record(&id).await?;
    // The record may have been read behind entries that came after the admission.
    room.head = room.head.max(admitted.head);
    Ok(HttpResponse::Ok().json(Shown { room, role: admitted.role, online: Some(admitted.online) }))
}

pub async fn patch(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let id = room_of(&request)?;
    let patch = RoomPatch {
        name: fields.text("name", text::name)?,
        topic: fields.text("topic", text::topic)?,
        slow_mode_s: fields.integer("slow_mode_s", 0..=u64::from(SLOW_MODE_MAX_S))?.map(|s| s as u32),
        archived: fields.optional("archived")?,
        ttl_s: ttl(&fields)?,
        edit_history: fields.optional("edit_history")?,
    };
    let seq = match api.ask(&id, who.caller, Command::Patch(patch)).await? {
        Reply::Changed { seq } => seq,
        other => return Err(api.odd(&other).into()),
    };
    Ok(HttpResponse::Ok().json(Patched { room: api.record(&id).await?, seq }))
}

pub async fn delete(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    api.ask(&room_of(&request)?, who.caller, Command::DeleteRoom).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn join(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    match api.ask(&room_of(&request)?, who.caller, Command::Join).await? {
        Reply::Member { role } => Ok(HttpResponse::Ok().json(Joined { role })),
        other => Err(api.odd(&other).into()),
    }
}

pub async fn leave(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    api.ask(&room_of(&request)?, who.caller, Command::Leave).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The room of the caller and one other, made when it is first asked for.
pub async fn direct(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let me = who.caller.user.clone();
    let other: UserId = fields.required("user")?;
    if other == me {
        return Err(Refusal::bad_request("user: a direct room is with somebody else").into());
    }
    let store = api.store();
    if store.user(&other).await?.is_none() {
        return Err(Refusal::not_found("user: there is no such user").into());
    }
    let room = Room::new(direct_id(&me, &other), RoomKind::Direct);
    if store.create_room(&room, &me, Some(&other)).await? == Created::New {
        let role = store.role(&room.id, &me).await?;
        return Ok(created(room, role));
    }
    let Some(found) = store.room(&room.id).await? else {
        return Err(Refusal::conflict("the room of the two of you was deleted").into());
    };
    let mut role = store.role(&found.id, &me).await?;
    if role.is_none() {
        // They left it, and asking for it is coming back.
        role = match api.ask(&found.id, who.caller, Command::Enter(Proof::Pair(other))).await? {
            Reply::Member { role } => role,
            other => return Err(api.odd(&other).into()),
        };
    }
    Ok(HttpResponse::Ok().json(Shown { room: found, role, online: None }))
}
