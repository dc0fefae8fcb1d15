//! Reports of messages and what is decided on them; bans from the server.
//!
//! Invariant: a report refers to a message and shows it as it is now, so that what is erased is gone from here too.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::deed;
use super::credentials::SignedIn;
use super::paging::{cursor, limit, list, list_by};
use super::{Api, room_of, user_of};
use crate::actors::hub::unix_ms;
use crate::domain::acts::Act;
use crate::domain::audit::{Deed, What};
use crate::domain::command::{Command, Reply};
use crate::domain::revoked::Revoked;
use crate::entry::rfc3339;
use crate::http::problem::Answer;
use crate::http::query::{self, Fields, Query};
use crate::ids::{RoomId, Seq, UserId};
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::{self, ReportQuery, Reported};
use crate::protocol::text;
use crate::refusal::Refusal;

/// Reports of one person that nobody has decided on, at most.
const OPEN_MOST: u32 = 50;
/// When somebody with that many is to try again: a moderator has to act first.
const OPEN_AGAIN_MS: u64 = 60 * 60 * 1_000;

/// A report as its maker is told of it.
#[derive(Serialize, ToSchema)]
pub struct MadeReport {
    report: i64,
    room: RoomId,
    #[schema(value_type = u64)]
    seq: Seq,
    duplicate: bool,
}

/// A report as those who decide see it.
#[derive(Serialize, ToSchema)]
pub struct Report {
    report: i64,
    room: RoomId,
    #[schema(value_type = u64)]
    seq: Seq,
    at: String,
    reporter: UserId,
    /// Null: its reporter was erased.
    reason: Option<String>,
    /// Who wrote the message.
    user: Option<UserId>,
    /// The message as it is now; null: it was deleted.
    text: Option<String>,
    state: &'static str,
    closed: Option<Decision>,
}

/// What was decided.
#[derive(Serialize, ToSchema)]
pub struct Decision {
    at: String,
    by: UserId,
    action: String,
    note: Option<String>,
}

/// Somebody who is banned from the server.
#[derive(Serialize, ToSchema)]
pub struct ServerBan {
    user: UserId,
    at: String,
    by: UserId,
}

impl Report {
    fn of(report: ports::Report) -> Self {
        let decision = |closed: ports::Closed| Decision {
            at: rfc3339(closed.at),
            by: closed.by,
            action: closed.action,
            note: closed.note,
        };
        Self {
            report: report.no,
            room: report.room,
            seq: report.seq,
            at: rfc3339(report.at),
            reporter: report.reporter,
            reason: report.reason,
            user: report.author,
            text: report.text,
            state: if report.closed.is_some() { "closed" } else { "open" },
            closed: report.closed.map(decision),
        }
    }
}

/// What is done about a message that was reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    None,
    /// The message is deleted.
    Deleted,
    /// Its author is banned from the room.
    Banned,
}

impl Action {
    const ALL: [Self; 3] = [Self::None, Self::Deleted, Self::Banned];

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Deleted => "deleted",
            Self::Banned => "banned",
        }
    }
}

fn number_of(request: &HttpRequest, name: &str) -> Result<u64, Refusal> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && *number <= WIRE_INTEGER_MAX);
        number.ok_or("must be a whole number from 0 to 2^53")
    };
    query::path(request, name, number)
}

fn report_no(request: &HttpRequest) -> Result<i64, Refusal> {
    Ok(i64::try_from(number_of(request, "report")?).unwrap_or(i64::MAX))
}

/// By anybody who may read the message; once a person and message.
pub async fn report(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let (room, seq) = (room_of(&request)?, number_of(&request, "seq")?);
    let reason = text::note("reason", &fields.required::<String>("reason")?)?;
    let reporter = who.caller.user.clone();
    api.permit(&room, who.caller, Act::Report).await?;
    let reported = api.store().report(&room, seq, &reporter, unix_ms(), &reason, OPEN_MOST).await?;
    let made = |report, duplicate| MadeReport { report, room, seq, duplicate };
    match reported {
        Reported::New(no) => Ok(HttpResponse::Created().json(made(no, false))),
        Reported::Known(no) => Ok(HttpResponse::Ok().json(made(no, true))),
        Reported::NoSuchMessage => Err(Refusal::not_found("seq: names no message of this room").into()),
        Reported::TooMany => {
            let why = format!("you have {OPEN_MOST} reports that nobody has decided on");
            Err(Refusal::rate_limited(why, OPEN_AGAIN_MS).into())
        }
    }
}

/// The queue of a room's moderators.
pub async fn of_room(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    api.permit(&room, who.caller, Act::Moderate).await?;
    queue(&api, Some(&room), &query).await
}

/// The queue of all rooms, for administrators.
pub async fn all(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    who.admin()?;
    queue(&api, None, &query).await
}

async fn queue(api: &Api, room: Option<&RoomId>, query: &Query) -> Answer {
    let (limit, after) = (limit(query)?, cursor(query, str::parse::<i64>)?.unwrap_or(0));
    let state = query.optional("state", |state| match state {
        "open" => Ok(true),
        "closed" => Ok(false),
        _ => Err("must be open or closed"),
    });
    let open = state?.unwrap_or(true);
    let found = api.store().reports(ReportQuery { room, open, after, limit: limit + 1 }).await?;
    Ok(list_by(found.into_iter().map(Report::of).collect(), limit, |shown: &Report| shown.report.to_string()))
}

/// Decides on a report. What it takes is done by the room itself, by the same rules as if the caller asked for it there.
pub async fn close(api: Data<Api>, who: SignedIn, request: HttpRequest, fields: Fields) -> Answer {
    let (room, no) = (room_of(&request)?, report_no(&request)?);
    if fields.required::<String>("state")? != "closed" {
        return Err(Refusal::bad_request("state: must be closed").into());
    }
    let action = match fields.optional::<String>("action")? {
        None => Action::None,
        Some(asked) => Action::ALL
            .into_iter()
            .find(|action| action.as_str() == asked)
            .ok_or_else(|| Refusal::bad_request("action: must be none, deleted or banned"))?,
    };
    let note = fields.optional::<String>("note")?.map(|note| text::note("note", &note)).transpose()?;
    let caller = who.caller;
    api.permit(&room, caller.clone(), Act::Moderate).await?;
    let no_such = || Refusal::not_found("report: there is no such report of this room");
    let report = api.store().report_of(&room, no).await?.ok_or_else(no_such)?;
    if let Some(closed) = &report.closed {
        // The same decision again is a repeat.
        if closed.by == caller.user && closed.action == action.as_str() && closed.note == note {
            return Ok(HttpResponse::Ok().json(Report::of(report)));
        }
        return Err(Refusal::conflict("the report was closed already").into());
    }
    match (action, &report.author) {
        (Action::None, _) => {}
        (Action::Deleted, _) => {
            let delete = Command::Delete { target: report.seq };
            match api.ask(&room, caller.clone(), delete).await? {
                Reply::Changed { .. } => {}
                other => return Err(api.odd(&other).into()),
            }
        }
        (Action::Banned, Some(author)) => {
            api.ask(&room, caller.clone(), Command::Ban { user: author.clone() }).await?;
        }
        (Action::Banned, None) => return Err(Refusal::conflict("the message is not kept any more").into()),
    }
    let deed = Deed {
        whom: report.author,
        seq: Some(report.seq),
        detail: Some(format!("report {no}, {}", action.as_str())),
        ..deed(&caller, What::ReportClosed)
    };
    api.store().close_report(&room, no, action.as_str(), note.as_deref(), &deed).await?;
    let report = api.store().report_of(&room, no).await?.ok_or_else(no_such)?;
    Ok(HttpResponse::Ok().json(Report::of(report)))
}

/// Who is banned from the server.
pub async fn bans(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    who.admin()?;
    let (limit, cursor) = (limit(&query)?, cursor(&query, UserId::parse)?);
    let found = api.store().server_bans(cursor.as_ref(), limit + 1).await?;
    let items = found.into_iter().map(|(user, at, by)| ServerBan { user, at: rfc3339(at), by }).collect();
    Ok(list(items, limit, |ban: &ServerBan| ban.user.as_str()))
}

/// Also somebody who was never here: their first JWT is refused then.
pub async fn ban(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    who.admin()?;
    let user = user_of(&request)?;
    if user == who.caller.user {
        return Err(Refusal::bad_request("user: nobody bans themselves").into());
    }
    let deed = Deed { whom: Some(user.clone()), ..deed(&who.caller, What::ServerBanned) };
    api.store().ban_from_server(&user, &deed).await?;
    // Also where they were banned already: their sessions should be gone, and this is cheap.
    (api.shared.revoke)(Revoked::user(user));
    Ok(HttpResponse::NoContent().finish())
}

pub async fn unban(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    who.admin()?;
    let user = user_of(&request)?;
    let deed = Deed { whom: Some(user.clone()), ..deed(&who.caller, What::ServerBanLifted) };
    api.store().lift_server_ban(&user, &deed).await?;
    Ok(HttpResponse::NoContent().finish())
}
