//! A person's own: everything of it in one archive, and all of it gone.
//!
//! Invariants: an export holds one page in memory, and reads the next when the socket has taken this one; an archive that
//! did not come whole has no `end` line. Who is erased can do nothing more from the moment of the answer; what they wrote
//! is gone with the answer where it is little, and soon after where it is much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Serialize;

use super::audit::deed;
use super::credentials::{SignedIn, no_cookie};
use super::{Api, Client};
use crate::domain::audit::What;
use crate::domain::revoked::Revoked;
use crate::entry::{Data as Json, Role, rfc3339};
use crate::http::problem::Answer;
use crate::ids::{MessageId, RoomId, Seq, UserId};
use crate::ports::{Erasing, MessageStore, OwnMessage, Place, StoreError};
use crate::refusal::Refusal;

/// Items of one step of erasing, and how long its call goes on with steps before it leaves the rest to the job.
const ERASE_STEP: u32 = 500;
const ERASE_AT_ONCE: Duration = Duration::from_secs(1);

/// Ends the account: its id is never given out again.
pub async fn erase(api: Data<Api>, request: HttpRequest, who: SignedIn) -> Answer {
    let user = who.caller.user.clone();
    if !api.store().erase(&deed(&who.caller, What::PersonErased)).await? {
        return Err(Refusal::unauthenticated("the user of these credentials is gone").into());
    }
    (api.shared.revoke)(Revoked::Person(user.clone()));
    let began = Instant::now();
    while began.elapsed() < ERASE_AT_ONCE {
        match api.store().erase_some(ERASE_STEP).await {
            Ok(Erasing::Step(_)) => {}
            Ok(Erasing::Round(whose)) => {
                // What rooms have read since they were told first.
                (api.shared.revoke)(Revoked::Person(whose.clone()));
                if whose == user {
                    break;
                }
            }
            Ok(Erasing::Nothing) => break,
            Err(error) => {
                // It is on the list: the job goes on with it.
                tracing::debug!(error = %error, "erasure.left.to.job");
                break;
            }
        }
    }
    Ok(HttpResponse::NoContent().cookie(no_cookie(Client::of(&request).https)).finish())
}

// ------------------------------------------------------------------------------------------------------- export

/// Exports under way on one node, at most.
const EXPORTS_MOST: usize = 16;
/// How long one may take; one whose reader stalled for longer makes room for others.
const EXPORT_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Items of one page: at most a few megabytes.
const PAGE: u32 = 200;

/// The exports under way, by user: when each began.
#[derive(Default)]
pub struct Exports(Mutex<HashMap<UserId, Instant>>);

/// One that is under way; dropped, it is over.
struct UnderWay {
    exports: Arc<Exports>,
    user: UserId,
    began: Instant,
}

impl Exports {
    fn begin(self: &Arc<Self>, user: &UserId) -> Result<UnderWay, Refusal> {
        let mut exports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exports.retain(|_, began| began.elapsed() < EXPORT_WITHIN);
        if exports.contains_key(user) {
            return Err(Refusal::conflict("an export of yours is under way; wait for its end"));
        }
        if exports.len() >= EXPORTS_MOST {
            return Err(Refusal::overloaded("too many exports are under way").retry_after(30_000));
        }
        let began = Instant::now();
        exports.insert(user.clone(), began);
        Ok(UnderWay { exports: Arc::clone(self), user: user.clone(), began })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut exports = self.exports.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After its time it may be another's.
        if exports.get(&self.user) == Some(&self.began) {
            exports.remove(&self.user);
        }
    }
}

/// One line of the archive.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Profile {
        user: UserId,
        name: Option<String>,
        exported_at: String,
    },
    /// A session that was logged in; its token is known to its client alone.
    Session {
        expires_at: String,
    },
    /// A room that remembers the person; `role` null: not a member (any more).
    Room {
        room: RoomId,
        role: Option<Role>,
        banned: bool,
        read_seq: Seq,
    },
    Message {
        room: RoomId,
        seq: Seq,
        at: String,
        id: MessageId,
        /// Null: deleted.
        text: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Json>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_to: Option<Seq>,
        #[serde(skip_serializing_if = "Option::is_none")]
        edited_at: Option<String>,
    },
    Reaction {
        room: RoomId,
        target: Seq,
        emoji: String,
    },
    Report {
        room: RoomId,
        seq: Seq,
        at: String,
        reason: String,
    },
    /// The last line: the archive is whole.
    End {
        messages: u64,
    },
}

/// What comes next.
enum Part {
    Profile,
    Sessions,
    Rooms(i64),
    Messages(Place),
    Reactions(Place, String),
    Reports(i64),
    End,
    Over,
}

struct Export {
    store: Arc<dyn MessageStore>,
    user: UserId,
    next: Part,
    messages: u64,
    under_way: UnderWay,
}

/// Everything of the caller's as JSON Lines.
pub async fn export(api: Data<Api>, who: SignedIn) -> Answer {
    let user = who.caller.user;
    let export = Export {
        store: Arc::clone(&api.hub.context().store),
        under_way: api.shared.exports.begin(&user)?,
        user: user.clone(),
        next: Part::Profile,
        messages: 0,
    };
    let pages = stream::try_unfold(export, |mut export| async move {
        let page = export.page().await.inspect_err(|error| tracing::warn!(error = %error, "export.failed"))?;
        Ok::<_, StoreError>(page.map(|page| (page, export)))
    });
    let name = format!("attachment; filename=\"{user}.jsonl\"");
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((header::CONTENT_DISPOSITION, name))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(pages))
}

impl Export {
    /// The next lines; `None`: that was all.
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.under_way.began.elapsed() > EXPORT_WITHIN {
            return Err(StoreError::Unavailable("an export took too long".to_owned()));
        }
        let mut lines = Vec::new();
        while lines.is_empty() {
            self.next = match std::mem::replace(&mut self.next, Part::Over) {
                Part::Over => return Ok(None),
                part => self.part(part, &mut lines).await?,
            };
        }
        let mut page = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut page, line).map_err(|error| StoreError::Fault(error.to_string()))?;
            page.push(b'\n');
        }
        Ok(Some(page.into()))
    }

    /// Reads one page of a part; gives what comes next.
    async fn part(&mut self, part: Part, lines: &mut Vec<Line>) -> Result<Part, StoreError> {
        let (store, user) = (&*self.store, &self.user);
        Ok(match part {
            Part::Profile => {
                let name = store.user(user).await?.and_then(|user| user.name);
                let exported_at = rfc3339(crate::actors::hub::unix_ms());
                lines.push(Line::Profile { user: user.clone(), name, exported_at });
                Part::Sessions
            }
            Part::Sessions => {
                let logins = store.own_logins(user).await?;
                lines.extend(logins.into_iter().map(|at| Line::Session { expires_at: rfc3339(at) }));
                Part::Rooms(0)
            }
            Part::Rooms(after) => {
                let rooms = store.own_rooms(user, after, PAGE).await?;
                let next = rooms.last().map_or(Part::Messages(Place::default()), |last| Part::Rooms(last.room_no));
                lines.extend(rooms.into_iter().map(|own| Line::Room {
                    room: own.room,
                    role: own.role,
                    banned: own.banned,
                    read_seq: own.read_seq,
                }));
                next
            }
            Part::Messages(after) => {
                let found = store.own_messages(user, after, PAGE).await?;
                let next = found
                    .last()
                    .map_or(Part::Reactions(Place::default(), String::new()), |(place, _)| Part::Messages(*place));
                let before = lines.len();
                lines.extend(found.into_iter().filter_map(|(_, message)| message).map(message));
                self.messages += (lines.len() - before) as u64;
                next
            }
            Part::Reactions(place, emoji) => {
                let found = store.own_reactions(user, (place, &emoji), PAGE).await?;
                let next =
                    found.last().map_or(Part::Reports(0), |last| Part::Reactions(last.place, last.emoji.clone()));
                lines.extend(found.into_iter().map(|own| Line::Reaction {
                    room: own.room,
                    target: own.target,
                    emoji: own.emoji,
                }));
                next
            }
            Part::Reports(after) => {
                let found = store.own_reports(user, after, PAGE).await?;
                let next = found.last().map_or(Part::End, |last| Part::Reports(last.no));
                lines.extend(found.into_iter().map(|own| Line::Report {
                    room: own.room,
                    seq: own.seq,
                    at: rfc3339(own.at),
                    reason: own.reason.unwrap_or_default(),
                }));
                next
            }
            Part::End => {
                lines.push(Line::End { messages: self.messages });
                Part::Over
            }
            Part::Over => Part::Over,
        })
    }
}

fn message(own: OwnMessage) -> Line {
    Line::Message {
        room: own.room,
        seq: own.seq,
        at: rfc3339(own.at),
        id: own.id,
        text: own.text,
        data: own.data,
        reply_to: own.reply_to,
        edited_at: own.edited_at.map(rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;

    #[test]
    fn exports_are_one_a_user_and_few_a_node() {
        let user = |n: usize| UserId::parse(&format!("u{n}")).expect("a valid id");
        let exports = Arc::new(Exports::default());
        let code = |n| exports.begin(&user(n)).err().map(|refusal| refusal.code);
        let first = exports.begin(&user(0)).ok();
        assert!(first.is_some());
        assert_eq!(code(0), Some(Code::Conflict));
        let others: Vec<_> = (1..EXPORTS_MOST).map(|n| exports.begin(&user(n)).ok()).collect();
        assert!(others.iter().all(Option::is_some));
        assert_eq!(code(EXPORTS_MOST), Some(Code::Overloaded));
        drop(first);
        assert_eq!(code(EXPORTS_MOST), None, "one that was let go of is over");
        assert_eq!(code(0), None);
        drop(others);
        assert!(exports.0.lock().expect("no panic while held").is_empty());
    }
}
