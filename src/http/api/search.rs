//! Searching messages: what the caller may read, best first, as plain text.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::credentials::SignedIn;
use super::paging::{List, cursor, encode, limit};
use crate::domain::acts::Act;
use crate::domain::search::highlight;
use crate::domain::search::rank::{Place, score};
use crate::domain::search::wanted::Wanted;
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::Query;
use crate::ids::{Millis, RoomId, Seq, UserId};
use crate::ports::{Match, Search};
use crate::refusal::Refusal;

/// Bytes of texts of one page, about: 200 of the longest messages would be several megabytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// Texts read at a time.
const READ_AT_ONCE: usize = 50;

/// A message that was found.
#[derive(Serialize, ToSchema)]
pub struct Found {
    room: RoomId,
    #[schema(value_type = u64)]
    seq: Seq,
    user: UserId,
    at: String,
    /// The whole present text.
    text: String,
    /// A plain piece of it, around the first match.
    snippet: String,
    /// Places in `snippet`, in Unicode scalar values: first and one past the last.
    highlights: Vec<(usize, usize)>,
    /// From 0 to 1.
    score: f64,
}

/// Where a page ended, and what the pages of one search have in common.
#[derive(Clone, Copy)]
struct Paging {
    /// When the first page was asked for.
    began: Millis,
    /// The newest number in the index then.
    newest: i64,
    last: Place,
}

impl Paging {
    fn encode(self) -> String {
        let Self { began, newest, last } = self;
        encode(&format!("{began}.{newest}.{:x}.{}", last.score.to_bits(), last.id))
    }

    fn parse(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(());
        let (began, newest) = (next()?.parse().map_err(|_| ())?, next()?.parse().map_err(|_| ())?);
        let score = u64::from_str_radix(next()?, 16).map(f64::from_bits).map_err(|_| ())?;
        let id = next()?.parse().map_err(|_| ())?;
        if parts.next().is_some() || !score.is_finite() {
            return Err(());
        }
        Ok(Self { began, newest, last: Place { score, id } })
    }
}

pub async fn search(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    if !api.hub.context().config.search.enabled {
        return Err(Refusal::not_found("search is turned off on this server").into());
    }
    let wanted = query.optional("q", Wanted::parse)?.ok_or_else(|| Refusal::bad_request("q: is missing"))?;
    let room = query.optional("room", RoomId::parse)?;
    let from = query.optional("from", UserId::parse)?;
    let (limit, after) = (limit(&query)? as usize, cursor(&query, Paging::parse)?);
    if let Some(room) = &room {
        api.permit(room, who.caller.clone(), Act::Search).await?;
        if api.record(room).await?.encrypted {
            let why = "room: the texts of this room are encrypted in the store, so they can't be searched";
            return Err(Refusal::bad_request(why).into());
        }
    }

    let timed = Instant::now();
    let asker = (!who.caller.admin).then(|| who.caller.user.clone());
    let newest = after.map(|after| after.newest);
    let matches = api.store().search(Search { wanted: wanted.clone(), asker, room, from, newest }).await?;
    let began = after.map_or_else(now_ms, |after| after.began);
    let place = |one: &Match| Place { score: score(&wanted, &one.body, one.at, began), id: one.id };
    let mut ranked: Vec<(Place, Match)> = matches.found.into_iter().map(|one| (place(&one), one)).collect();
    ranked.retain(|(place, _)| after.is_none_or(|after| place.is_behind(after.last)));
    ranked.sort_by(|(a, _), (b, _)| a.order(*b));

    let mut ranked = ranked.into_iter().peekable();
    let (mut items, mut bytes, mut last): (Vec<Found>, usize, Option<Place>) = (Vec::new(), 0, None);
    // What was deleted or edited since it was indexed falls out here, and the next ones take its place.
    while items.len() < limit && bytes < PAGE_BYTES && ranked.peek().is_some() {
        let some: Vec<(Place, Match)> = ranked.by_ref().take((limit - items.len()).min(READ_AT_ONCE)).collect();
        let places: Vec<_> = some.iter().map(|(_, one)| (one.no, one.seq)).collect();
        let texts = api.store().present_texts(&places).await?;
        for ((place, one), text) in some.into_iter().zip(texts) {
            last = Some(place);
            let Some(text) = text else { continue };
            let Some(snippet) = highlight::snippet(&wanted, &text) else { continue };
            bytes += text.len();
            items.push(Found {
                room: one.room,
                seq: one.seq,
                user: one.user,
                at: rfc3339(one.at),
                text,
                snippet: snippet.text,
                highlights: snippet.highlights,
                score: place.score,
            });
        }
    }
    let next = last.filter(|_| ranked.peek().is_some());
    let next = next.map(|last| Paging { began, newest: matches.newest, last }.encode());
    api.hub.context().metrics.search_latency.observe(timed.elapsed().as_secs_f64());
    Ok(HttpResponse::Ok().json(List { items, next }))
}

fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_it_was() {
        let paging = Paging { began: 1_700_000_000_123, newest: 7, last: Place { score: 0.123_456_789, id: 3 } };
        let text = format!("{}.{}.{:x}.{}", paging.began, paging.newest, paging.last.score.to_bits(), paging.last.id);
        let parsed = Paging::parse(&text).expect("ours");
        assert_eq!((parsed.began, parsed.newest, parsed.last), (paging.began, paging.newest, paging.last));
        for foreign in ["", "1.2", "1.2.3.4.5", "a.1.1.1", "1.2.7ff8000000000000.4", "1.2.zz.4"] {
            assert!(Paging::parse(foreign).is_err(), "{foreign}");
        }
    }
}
