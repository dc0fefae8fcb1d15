//! A room's log over HTTP: a page of it, and a message into it, as `history` and `send` on the WebSocket.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::credentials::SignedIn;
use super::paging::{cursor, encode, limit};
use super::{Api, room_of};
use crate::domain::command::{Command, Reply};
use crate::entry::{Entry, rfc3339};
use crate::http::problem::Answer;
use crate::http::query::{Fields, Query};
use crate::ids::{MessageId, RoomId, Seq};
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::Range;
use crate::protocol::{data, text};
use crate::refusal::Refusal;

/// Bytes of text and data of one page, about: 200 of the longest messages would be several megabytes.
const PAGE_BYTES: usize = 1024 * 1024;

#[derive(Serialize)]
struct History {
    room: RoomId,
    /// In rising `seq`.
    items: Vec<Entry>,
    /// Whether there are more in the direction asked.
    more: bool,
    /// The cursor of the next page in that direction.
    next: Option<String>,
}

#[derive(Serialize)]
struct Sent {
    room: RoomId,
    id: MessageId,
    seq: Seq,
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
    api.admit(&room, who.caller).await?;
    let page = api.store().page(&room, range, limit, PAGE_BYTES).await?;
    let next = match range {
        Range::After(_) => page.entries.last().map(|entry| format!("a{}", entry.seq)),
        Range::Before(_) | Range::Newest => page.entries.first().map(|entry| format!("b{}", entry.seq)),
    };
    let next = next.filter(|_| page.more).map(|place| encode(&place));
    Ok(HttpResponse::Ok().json(History { room, items: page.entries, more: page.more, next }))
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
    let command = Command::Send { id: id.clone(), text, reply_to, data, over_rate_ms, refused: None };
    match api.ask(&room, who.caller, command).await? {
        Reply::Sent { seq, at, duplicate } => {
            let sent = Sent { room, id, seq, at: rfc3339(at), duplicate };
            Ok(if duplicate { HttpResponse::Ok().json(sent) } else { HttpResponse::Created().json(sent) })
        }
        other => Err(api.odd(&other).into()),
    }
}
