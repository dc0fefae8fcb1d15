//! A room's log over HTTP: a page of it or of a thread, how far one has read, and a message into it, as `history`, `read`
//! and `send` on the WebSocket.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::paging::{cursor, encode, limit, list};
use super::{Api, room_of, seq_of};
use crate::domain::acts::Act;
use crate::domain::command::{Command, Reply, Signal};
use crate::entry::{Body, Entry, Shown, rfc3339};
use crate::http::problem::{Answer, Problem};
use crate::http::query::{Fields, Query};
use crate::ids::{MessageId, Millis, RoomId, Seq, UserId};
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::{self, Range, Revision};
use crate::protocol::{data, schemas, text};
use crate::refusal::Refusal;
use crate::telemetry::traces;

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
    /// With `around` and `at`, which page in both directions: the cursor of the page before this one.
    previous: Option<String>,
}

/// One message, and where it is found.
#[derive(Serialize, ToSchema)]
pub struct One {
    room: RoomId,
    #[serde(flatten)]
    entry: Entry,
    /// The path of its address for people.
    link: String,
}

/// A text that an edit replaced.
#[derive(Serialize, ToSchema)]
pub struct Replaced {
    text: String,
    /// When it was set.
    at: String,
    /// `seq` of the edit.
    #[schema(value_type = u64)]
    replaced_by: Seq,
    #[serde(skip)]
    place: String,
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
    let around = query.integer("around", 1..=WIRE_INTEGER_MAX)?.map(Place::Around);
    let at = query.optional("at", instant)?.map(Place::At);
    let ranges = before.into_iter().chain(after).chain(cursor(&query, parse_place)?).map(Place::Range);
    let mut asked = ranges.chain(around).chain(at);
    let place = asked.next().unwrap_or(Place::Range(Range::Newest));
    if asked.next().is_some() {
        let rule = "before: only one of before, after, around, at and cursor can be given";
        return Err(Refusal::bad_request(rule).into());
    }
    // Takes its place behind what the caller sent before, so that the page shows it.
    let viewer = who.caller.user.clone();
    api.admit(&room, who.caller).await?;
    let range = match place {
        Place::Range(range) => range,
        Place::Around(seq) => return in_the_middle(&api, room, &viewer, seq, limit / 2, limit).await,
        Place::At(at) => {
            let seq = api.store().seq_at(&room, at).await?;
            return in_the_middle(&api, room, &viewer, seq, 0, limit).await;
        }
    };
    let page = api.store().page(&room, range, limit, PAGE_BYTES).await?;
    let next = match range {
        Range::After(_) => page.entries.last().map(|entry| format!("a{}", entry.seq)),
        Range::Before(_) | Range::Newest => page.entries.first().map(|entry| format!("b{}", entry.seq)),
    };
    let next = next.filter(|_| page.more).map(|place| encode(&place));
    let items = api.store().shown(&room, &viewer, page.entries).await?;
    Ok(HttpResponse::Ok().json(History { room, items, more: page.more, next, previous: None }))
}

/// The thread that a message is of.
pub async fn thread(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let message = seq_of(&request)?;
    let limit = limit(&query)?;
    let after = query.integer("after", 0..=WIRE_INTEGER_MAX)?;
    let cursor = cursor(&query, str::parse)?;
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

/// Which page is asked for.
enum Place {
    Range(Range),
    Around(Seq),
    At(Millis),
}

/// A time as RFC 3339 has it, in any zone.
fn instant(text: &str) -> Result<Millis, &'static str> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let ms = time.map(|time| time.unix_timestamp_nanos() / 1_000_000);
    ms.ok()
        .and_then(|ms| Millis::try_from(ms).ok())
        .ok_or("must be a time as in RFC 3339, such as 2026-01-31T09:00:00Z")
}

/// `limit` entries of which up to `before` lie before `seq`; the others begin with it.
async fn in_the_middle(api: &Api, room: RoomId, viewer: &UserId, seq: Seq, before: u32, limit: u32) -> Answer {
    let store = api.store();
    let mut items = Vec::new();
    if before > 0 {
        items = store.page(&room, Range::Before(seq), before, PAGE_BYTES / 2).await?.entries;
    }
    let left = limit - u32::try_from(items.len()).unwrap_or(limit);
    let rest = store.page(&room, Range::After(seq.saturating_sub(1)), left, PAGE_BYTES / 2).await?;
    items.extend(rest.entries);
    let next = items.last().filter(|_| rest.more).map(|last| encode(&format!("a{}", last.seq)));
    // The log starts with 1 and has no gap. A page with nothing in it stands behind the head.
    let first = items.first().map_or(seq, |first| first.seq);
    let previous = (first > 1).then(|| encode(&format!("b{first}")));
    let items = store.shown(&room, viewer, items).await?;
    Ok(HttpResponse::Ok().json(History { room, items, more: rest.more, next, previous }))
}

pub async fn one(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, seq) = (room_of(&request)?, seq_of(&request)?);
    api.admit(&room, who.caller).await?;
    let entry = message(&api, &room, seq).await?;
    let link = format!("/r/{room}/{seq}");
    Ok(HttpResponse::Ok().json(One { room, entry, link }))
}

/// The message `seq`, in its present form.
async fn message(api: &Api, room: &RoomId, seq: Seq) -> Result<Entry, Problem> {
    let page = match seq.checked_sub(1) {
        Some(before) => api.store().page(room, Range::After(before), 1, PAGE_BYTES).await?.entries,
        None => Vec::new(),
    };
    let found = page.into_iter().find(|entry| entry.seq == seq && matches!(entry.body, Body::Message(_)));
    Ok(found.ok_or_else(|| Refusal::not_found("seq: names no message of this room"))?)
}

pub async fn revisions(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let (room, seq) = (room_of(&request)?, seq_of(&request)?);
    let (limit, cursor) = (limit(&query)?, cursor(&query, str::parse)?);
    api.permit(&room, who.caller, Act::SeeRevisions).await?;
    message(&api, &room, seq).await?;
    let found = api.store().revisions(&room, seq, cursor.unwrap_or(0), limit + 1).await?;
    let replaced = |kept: Revision| Replaced {
        text: kept.text,
        at: rfc3339(kept.at),
        replaced_by: kept.replaced_by,
        place: kept.replaced_by.to_string(),
    };
    Ok(list(found.into_iter().map(replaced).collect(), limit, |kept: &Replaced| kept.place.as_str()))
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
    let trace = traces::current().map(Box::new);
    let command = Command::Send { id: id.clone(), text, reply_to, data, over_rate_ms, refused: None, trace };
    match api.ask(&room, who.caller, command).await? {
        Reply::Sent { seq, at, duplicate } => {
            let sent = Sent { room, id, seq, at: rfc3339(at), duplicate };
            Ok(if duplicate { HttpResponse::Ok().json(sent) } else { HttpResponse::Created().json(sent) })
        }
        other => Err(api.odd(&other).into()),
    }
}
