//! A room's log over HTTP: a page of it or of a thread, how far one has read, and a message into it, as `history`, `read`
//! and `send` on the WebSocket.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::paging::{cursor, encode, limit};
use super::{Api, room_of};
use crate::domain::acts::Act;
use crate::domain::command::{Command, Reply, Signal};
use crate::entry::{Shown, rfc3339};
use crate::http::problem::Answer;
use crate::http::query::{self, Fields, Query};
use crate::ids::{MessageId, RoomId, Seq};
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::{self, Range};
use crate::protocol::{data, schemas, text};
use crate::refusal::Refusal;

/// Bytes of text and data of one page, about: 200 of the longest messages would be several megabytes.
const PAGE_BYTES: usize = 1024 * 1024;

#[derive(Serialize, ToSchema)]
pub struct History {
    room: RoomId,
    /// In rising `seq`.
    items: Vec<Shown>,
    /// Whether there are more in the direction asked.
    more: bool,
    /// The cursor of the next page in that direction.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Thread {
    room: RoomId,
    /// The message that the thread began with.
    #[schema(value_type = u64)]
    root: Seq,
    /// The root and the replies, in rising `seq`.
    items: Vec<Shown>,
    /// The cursor of the next page.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Sent {
    room: RoomId,
    id: MessageId,
    #[schema(value_type = u64)]
    seq: Seq,
    #[schema(schema_with = schemas::at)]
    at: String,
    duplicate: bool,
}

pub async fn page(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let limit = limit(&query)?;
    let before = query.integer("before", 0..=WIRE_INTEGER_MAX)?.map(Range::Before);
    let after = query.integer("after", 0..=WIRE_INTEGER_MAX)?.map(Range::After);
    let mut asked = before.into_iter().chain(after).chain(cursor(&query, parse_place)?);
    let range = asked.next().unwrap_or(Range::Newest);
    if asked.next().is_some() {
        return Err(Refusal::bad_request("before: only one of before, after and cursor can be given").into());
    }
    // Takes its place behind what the caller sent before, so that the page shows it.
    let viewer = who.caller.user.clone();
    api.admit(&room, who.caller).await?;
    let page = api.store().page(&room, range, limit, PAGE_BYTES).await?;
    let next = match range {
        Range::After(_) => page.entries.last().map(|entry| format!("a{}", entry.seq)),
        Range::Before(_) | Range::Newest => page.entries.first().map(|entry| format!("b{}", entry.seq)),
    };
    let next = next.filter(|_| page.more).map(|place| encode(&place));
    let items = api.store().shown(&room, &viewer, page.entries).await?;
    Ok(HttpResponse::Ok().json(History { room, items, more: page.more, next }))
}

/// The thread that a message is of.
pub async fn thread(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let message = query::path(&request, "seq", |text| seq(text).ok_or("must be the seq of a message"))?;
    let limit = limit(&query)?;
    let after = query.integer("after", 0..=WIRE_INTEGER_MAX)?;
    let cursor = cursor(&query, |text| seq(text).ok_or(()))?;
    if after.is_some() && cursor.is_some() {
        return Err(Refusal::bad_request("after: only one of after and cursor can be given").into());
    }
    let viewer = who.caller.user.clone();
    api.admit(&room, who.caller).await?;
    let after = after.or(cursor).unwrap_or(0);
    let thread = api.store().thread(&room, message, after, limit, PAGE_BYTES).await?;
    let Some(ports::Thread { root, page }) = thread else {
        return Err(Refusal::not_found("seq names no message of this room").into());
    };
    let next = page.entries.last().filter(|_| page.more).map(|entry| encode(&entry.seq.to_string()));
    let items = api.store().shown(&room, &viewer, page.entries).await?;
    Ok(HttpResponse::Ok().json(Thread { room, root, items, next }))
}

/// A `seq` as it stands in a path: digits only.
fn seq(text: &str) -> Option<Seq> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|&seq| seq <= WIRE_INTEGER_MAX)
}

/// Raises the caller's read mark, at most to the head, and tells the room's readers, the caller's other sessions among
/// them.
pub async fn read(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let room = room_of(&request)?;
    let seq = fields.integer("seq", 0..=WIRE_INTEGER_MAX)?.ok_or_else(|| Refusal::bad_request("seq: is missing"))?;
    let caller = who.caller;
    api.permit(&room, caller.clone(), Act::MarkRead).await?;
    // Durable before it is answered; what the room writes behind changes nothing any more.
    api.store().raise_read_marks(&[(room.clone(), caller.user.clone(), seq)]).await?;
    api.hub.signal(&caller, &room, Signal::Read { seq });
    Ok(HttpResponse::NoContent().finish())
}

fn parse_place(text: &str) -> Result<Range, ()> {
    let (direction, seq) = text.split_at_checked(1).ok_or(())?;
    let seq = seq.parse().map_err(|_| ())?;
    match direction {
        "a" => Ok(Range::After(seq)),
        "b" => Ok(Range::Before(seq)),
        _ => Err(()),
    }
}

pub async fn post(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let room = room_of(&request)?;
    let id: MessageId = fields.required("id")?;
    let text = text::message_text(&fields.required::<String>("text")?)?;
    let reply_to = fields.integer("reply_to", 0..=WIRE_INTEGER_MAX)?;
    let data = fields.raw("data").map(data).transpose()?;
    let over_rate_ms = api.hub.context().rates.over_ms(&who.caller.user);
    let command = Command::Send { id: id.clone(), text, reply_to, data, over_rate_ms };
    match api.ask(&room, who.caller, command).await? {
        Reply::Sent { seq, at, duplicate } => {
            let sent = Sent { room, id, seq, at: rfc3339(at), duplicate };
            Ok(if duplicate { HttpResponse::Ok().json(sent) } else { HttpResponse::Created().json(sent) })
        }
        other => Err(api.odd(&other).into()),
    }
}
