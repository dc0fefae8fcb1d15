//! The audit log: what is written into it besides what rooms write themselves, and reading it.
//!
//! Invariant: where a call came from is shown to administrators only; that a room's owner made somebody a moderator does
//! not make that person's address theirs to know.

use actix_web::HttpRequest;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::paging::{cursor, limit, list_by};
use super::{Api, room_of};
use crate::actors::hub::unix_ms;
use crate::domain::acts::Act;
use crate::domain::audit::{Deed, What};
use crate::domain::command::Caller;
use crate::entry::rfc3339;
use crate::http::problem::{Answer, Problem};
use crate::http::query::Query;
use crate::ids::{RoomId, Seq, UserId};
use crate::ports::Audited;

/// A line of the audit log.
#[derive(Serialize, ToSchema)]
pub struct AuditLine {
    no: i64,
    at: String,
    by: UserId,
    act: String,
    room: Option<RoomId>,
    user: Option<UserId>,
    #[schema(value_type = Option<u64>)]
    seq: Option<Seq>,
    detail: Option<String>,
    /// The client's address; for administrators, and of HTTP calls alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

/// What the caller does now, to be completed.
pub fn deed(caller: &Caller, what: What) -> Deed {
    Deed {
        at: unix_ms(),
        by: caller.user.clone(),
        from: caller.from.as_deref().cloned(),
        what,
        whom: None,
        seq: None,
        detail: None,
    }
}

impl Api {
    /// Writes down what was done, before it is answered: who was told that it is done finds it here. For what has no
    /// transaction of its own that does so; changes of open rooms, erasure, bans from the server and reports have.
    pub(super) async fn audit(&self, room: Option<&RoomId>, deed: &Deed) -> Result<(), Problem> {
        Ok(self.store().audit(room, deed).await?)
    }
}

/// For a room's owners.
pub async fn of_room(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let room = room_of(&request)?;
    let shows_addresses = who.caller.admin;
    api.permit(&room, who.caller, Act::SeeAudit).await?;
    lines(&api, Some(&room), shows_addresses, &query).await
}

/// Everything, for administrators.
pub async fn all(api: Data<Api>, who: SignedIn, query: Query) -> Answer {
    who.admin()?;
    lines(&api, None, true, &query).await
}

async fn lines(api: &Api, room: Option<&RoomId>, shows_addresses: bool, query: &Query) -> Answer {
    let (limit, before) = (limit(query)?, cursor(query, str::parse::<i64>)?);
    let found = api.store().audited(room, before, limit + 1).await?;
    let line = |line: Audited| AuditLine {
        no: line.no,
        at: rfc3339(line.at),
        by: line.by,
        act: line.act,
        room: line.room,
        user: line.whom,
        seq: line.seq,
        detail: line.detail,
        from: line.from.filter(|_| shows_addresses),
    };
    Ok(list_by(found.into_iter().map(line).collect(), limit, |line: &AuditLine| line.no.to_string()))
}
