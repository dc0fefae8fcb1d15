//! Pinned messages. Pins are no entries of the log; who opens a room asks for them.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::deed;
use super::credentials::SignedIn;
use super::paging::{cursor, limit, list};
use super::{Api, now_ms, room_of, seq_of};
use crate::domain::acts::Act;
use crate::domain::audit::{Deed, What};
use crate::entry::{Entry, rfc3339};
use crate::http::problem::Answer;
use crate::http::query::Query;
use crate::ids::{Millis, Seq, UserId};
use crate::ports::{self, Pin};
use crate::refusal::Refusal;

/// Pins of one room.
const PINS: u32 = 100;

#[derive(Serialize, ToSchema)]
pub struct Pinned {
    /// In its present form.
    message: Entry,
    pinned_by: UserId,
    pinned_at: String,
    #[serde(skip)]
    place: String,
}

/// Idempotent: who pins first is who pinned it.
pub async fn pin(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, seq) = (room_of(&request)?, seq_of(&request)?);
    let user = who.caller.user.clone();
    let deed = Deed { seq: Some(seq), ..deed(&who.caller, What::MessagePinned) };
    api.permit(&room, who.caller, Act::Pin).await?;
    match api.store().pin(&room, seq, &user, now_ms(), PINS).await? {
        ports::Pinned::Done => {
            api.audit(Some(&room), &deed).await?;
            Ok(HttpResponse::NoContent().finish())
        }
        ports::Pinned::NoSuchMessage => Err(Refusal::not_found("seq: names no message of this room").into()),
        ports::Pinned::Deleted => Err(Refusal::conflict("the message is deleted").into()),
        ports::Pinned::TooMany => {
            Err(Refusal::conflict(format!("a room has at most {PINS} pins; take one away first")).into())
        }
    }
}

pub async fn unpin(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let (room, seq) = (room_of(&request)?, seq_of(&request)?);
    let deed = Deed { seq: Some(seq), ..deed(&who.caller, What::MessageUnpinned) };
    api.permit(&room, who.caller, Act::Pin).await?;
    api.store().unpin(&room, seq).await?;
    api.audit(Some(&room), &deed).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// For everybody who may read the room, the newest pin first.
pub async fn pins(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, parse_place)?);
    api.admit(&room, who.caller).await?;
    let shown = |pin: Pin| Pinned {
        place: format!("{}.{}", pin.at, pin.entry.seq),
        message: pin.entry,
        pinned_by: pin.by,
        pinned_at: rfc3339(pin.at),
    };
    let pins = api.store().pins(&room, PINS).await?.into_iter();
    let items = pins.filter(|pin| cursor.is_none_or(|cursor| (pin.at, pin.entry.seq) < cursor)).map(shown).collect();
    Ok(list(items, limit, |pin: &Pinned| pin.place.as_str()))
}

fn parse_place(text: &str) -> Result<(Millis, Seq), ()> {
    let (at, seq) = text.split_once('.').ok_or(())?;
    Ok((at.parse().map_err(|_| ())?, seq.parse().map_err(|_| ())?))
}
