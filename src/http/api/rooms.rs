//! Rooms: making, finding, changing and deleting them, and coming and going.

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::{Api, room_of};
use crate::domain::command::{Caller, Command, Reply};
use crate::entry::{Role, Room, RoomKind, RoomPatch};
use crate::http::problem::Answer;
use crate::http::query::{Fields, Query};
use crate::ids::{RoomId, Seq, UserId};
use crate::ports::Created;
use crate::protocol::text;
use crate::refusal::Refusal;

/// Longest pause between two messages that a room may ask for, seconds.
const SLOW_MODE_MAX_S: u32 = 24 * 60 * 60;

/// A room as it is shown: its record and the caller's role.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    room: Room,
    role: Option<Role>,
    /// Distinct users with a subscription, where the room was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<u32>,
}

/// A room in its member's own list.
#[derive(Serialize)]
struct Mine {
    #[serde(flatten)]
    room: Room,
    role: Role,
    read_seq: Seq,
    unread: u64,
}

/// What a patch did.
#[derive(Serialize)]
struct Patched {
    #[serde(flatten)]
    room: Room,
    /// Of the logged entry; null where nothing differed.
    seq: Option<Seq>,
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
        id,
        kind,
        name: fields.text("name", text::name)?,
        topic: fields.text("topic", text::topic)?,
        slow_mode_s: 0,
        archived: false,
        head: 0,
    };
    match api.store().create_room(&room, &who.caller.user, None).await? {
        Created::New => Ok(created(room, Some(Role::Owner))),
        Created::Taken => Err(Refusal::conflict("id: this room exists, or existed and was deleted").into()),
    }
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
        .map(|mine| Mine { room: mine.room, role: mine.role, read_seq: mine.read_seq, unread: mine.unread })
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
        Reply::Member { role } => Ok(HttpResponse::Ok().json(json!({"role": role}))),
        other => Err(api.odd(&other).into()),
    }
}

pub async fn leave(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    api.ask(&room_of(&request)?, who.caller, Command::Leave).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The room of the caller and one other, made when it is first asked for.
pub async fn direct(api: Data<Api>, who: SignedIn, fields: Fields) -> Answer {
    let me = who.caller.user;
    let other: UserId = fields.required("user")?;
    if other == me {
        return Err(Refusal::bad_request("user: a direct room is with somebody else").into());
    }
    let store = api.store();
    if store.user(&other).await?.is_none() {
        return Err(Refusal::not_found("user: there is no such user").into());
    }
    let room = Room {
        id: direct_id(&me, &other),
        kind: RoomKind::Direct,
        name: None,
        topic: None,
        slow_mode_s: 0,
        archived: false,
        head: 0,
    };
    if store.create_room(&room, &me, Some(&other)).await? == Created::New {
        let role = store.role(&room.id, &me).await?;
        return Ok(created(room, role));
    }
    let Some(found) = store.room(&room.id).await? else {
        return Err(Refusal::conflict("the room of the two of you was deleted").into());
    };
    let mut role = store.role(&found.id, &me).await?;
    if role.is_none() {
        // They left it, and asking for it is coming back. To the room they are a stranger now; that it is theirs follows
        // from its id, so they come in as an admin would.
        let back = Caller { user: me, admin: true, from: None };
        role = match api.ask(&found.id, back, Command::Join).await? {
            Reply::Member { role } => role,
            other => return Err(api.odd(&other).into()),
        };
    }
    Ok(HttpResponse::Ok().json(Shown { room: found, role, online: None }))
}

const DIRECT_PREFIX: &str = "dm-";
/// Bytes of the pair's hash in a direct room's id: as many as leave it a valid id.
const DIRECT_HASH_BYTES: usize = 30;

/// The id of two people's room, the same whoever asks.
fn direct_id(one: &UserId, other: &UserId) -> RoomId {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    // No user id holds a NUL, so no two pairs are hashed alike.
    let hash = Sha256::new().chain_update(first.as_str()).chain_update([0]).chain_update(second.as_str()).finalize();
    let hex: String = hash.iter().take(DIRECT_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    RoomId::parse(&format!("{DIRECT_PREFIX}{hex}")).expect("63 characters, lower case")
}

/// Whether an id has the form of direct rooms: nobody may take the place of two people's room beforehand.
fn is_direct_id(id: &RoomId) -> bool {
    id.as_str()
        .strip_prefix(DIRECT_PREFIX)
        .is_some_and(|hex| hex.len() == 2 * DIRECT_HASH_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_two_is_the_same_whoever_asks() {
        let user = |id| UserId::parse(id).expect("a user id");
        let id = direct_id(&user("alice"), &user("bob"));
        assert_eq!(id, direct_id(&user("bob"), &user("alice")));
        assert_ne!(id, direct_id(&user("Alice"), &user("bob")), "case matters");
        assert_ne!(direct_id(&user("ab"), &user("c")), direct_id(&user("a"), &user("bc")));
        assert!(is_direct_id(&id));
        assert!(!is_direct_id(&RoomId::parse("dm-general").expect("a room id")));
        let longest = "x".repeat(64);
        direct_id(&user(&longest), &user("y"));
    }
}
