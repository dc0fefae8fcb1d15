//! Everything of a person's own, in one archive.
//!
//! Invariant: an export holds one page in memory, and reads the next when the socket has taken this one; an archive that did
//! not come whole has no `end` line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use serde::Serialize;

use super::Api;
use super::credentials::SignedIn;
use crate::actors::hub::unix_ms;
use crate::domain::scopes::Scopes;
use crate::entry::{Data as Json, Role, rfc3339};
use crate::http::attachments::{Attachments, hex};
use crate::http::problem::Answer;
use crate::ids::{AttachmentId, MessageId, Millis, RoomId, Seq, UserId};
use crate::ports::{
    Attachment, Credential, CredentialId, Kind, MessageStore, NEVER, OwnMessage, Place, StoreError, Subject, Webhook,
};
use crate::refusal::Refusal;

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
    /// Who they are at the provider where they log in.
    Subject {
        issuer: String,
        subject: String,
    },
    /// A session that is logged in; its token is known to its client alone.
    Session {
        created_at: String,
        last_seen_at: String,
        expires_at: String,
        client: Option<String>,
        address: Option<String>,
    },
    /// An access token; itself it is known to who has it.
    Token {
        id: String,
        name: Option<String>,
        scopes: Vec<&'static str>,
        room: Option<RoomId>,
        created_at: String,
        last_seen_at: String,
        expires_at: Option<String>,
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
    /// A file they uploaded.
    Attachment {
        id: AttachmentId,
        room: RoomId,
        message: MessageId,
        at: String,
        name: String,
        mime: String,
        bytes: u64,
        sha256: String,
        /// From the server's root; needs no credentials. Null: the server serves no files.
        url: Option<String>,
        url_expires_at: Option<String>,
    },
    /// A webhook they made; `room` null: for all rooms.
    Webhook {
        id: String,
        room: Option<RoomId>,
        at: String,
        url: String,
        kinds: Vec<String>,
        active: bool,
    },
    /// The last line: the archive is whole.
    End {
        messages: u64,
    },
}

/// What comes next.
enum Part {
    Profile,
    Credentials(Kind, Option<CredentialId>),
    Rooms(i64),
    Messages(Place),
    Reactions(Place, String),
    Reports(i64),
    Attachments(Option<AttachmentId>),
    WebhooksOfAll,
    /// Of the rooms behind this one.
    Webhooks(i64),
    End,
    Over,
}

struct Export {
    store: Arc<dyn MessageStore>,
    /// Signs where files are to be had.
    files: Option<Arc<Attachments>>,
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
        files: api.attachments().ok().cloned(),
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
                let exported_at = rfc3339(unix_ms());
                lines.push(Line::Profile { user: user.clone(), name, exported_at });
                let subject = store.oidc_subject(user).await?;
                lines.extend(subject.map(|Subject { issuer, subject }| Line::Subject { issuer, subject }));
                Part::Credentials(Kind::Login, None)
            }
            Part::Credentials(kind, after) => {
                let found = store.credentials(user, kind, unix_ms(), after, PAGE).await?;
                let next = match (found.last(), kind) {
                    (Some(last), _) => Part::Credentials(kind, Some(last.id)),
                    (None, Kind::Login) => Part::Credentials(Kind::Token, None),
                    (None, Kind::Token) => Part::Rooms(0),
                };
                lines.extend(found.into_iter().map(|own| credential(kind, own)));
                next
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
                let next = found.last().map_or(Part::Attachments(None), |last| Part::Reports(last.no));
                lines.extend(found.into_iter().map(|own| Line::Report {
                    room: own.room,
                    seq: own.seq,
                    at: rfc3339(own.at),
                    reason: own.reason.unwrap_or_default(),
                }));
                next
            }
            Part::Attachments(after) => {
                let found = store.attachments_of(user, after.as_ref(), PAGE).await?;
                let next = found.last().map_or(Part::WebhooksOfAll, |last| Part::Attachments(Some(last.id.clone())));
                for own in found {
                    lines.push(self.attachment(own).await?);
                }
                next
            }
            Part::WebhooksOfAll => {
                lines.extend(own_webhooks(store.webhooks(None).await?, user));
                Part::Webhooks(0)
            }
            Part::Webhooks(after) => {
                let rooms = store.own_rooms(user, after, PAGE).await?;
                for own in &rooms {
                    lines.extend(own_webhooks(store.webhooks(Some(&own.room)).await?, user));
                }
                rooms.last().map_or(Part::End, |last| Part::Webhooks(last.room_no))
            }
            Part::End => {
                lines.push(Line::End { messages: self.messages });
                Part::Over
            }
            Part::Over => Part::Over,
        })
    }

    async fn attachment(&self, own: Attachment) -> Result<Line, StoreError> {
        let link = match &self.files {
            Some(files) => Some(files.links.sign(&*self.store, &own.id, unix_ms().unsigned_abs() / 1_000).await?),
            None => None,
        };
        let end = link.as_ref().map(|link| Millis::try_from(link.expires.saturating_mul(1_000)).unwrap_or(NEVER));
        Ok(Line::Attachment {
            id: own.id,
            room: own.room,
            message: own.message,
            at: rfc3339(own.at),
            name: own.name,
            mime: own.mime,
            bytes: own.bytes,
            sha256: hex(&own.sha256),
            url: link.map(|link| link.url),
            url_expires_at: end.map(rfc3339),
        })
    }
}

fn credential(kind: Kind, own: Credential) -> Line {
    let (created_at, last_seen_at) = (rfc3339(own.created_at), rfc3339(own.last_seen_at));
    match kind {
        Kind::Login => {
            let (client, address) = (own.device.client, own.device.address);
            Line::Session { created_at, last_seen_at, expires_at: rfc3339(own.expires_at), client, address }
        }
        Kind::Token => {
            let (scopes, room) = own.grant.map_or((Scopes::default(), None), |grant| (grant.scopes, grant.room));
            let (id, name, scopes) = (own.id.to_string(), own.name, scopes.names());
            let expires_at = (own.expires_at < NEVER).then(|| rfc3339(own.expires_at));
            Line::Token { id, name, scopes, room, created_at, last_seen_at, expires_at }
        }
    }
}

fn own_webhooks(hooks: Vec<Webhook>, user: &UserId) -> impl Iterator<Item = Line> {
    hooks.into_iter().filter(move |hook| hook.made_by == *user).map(|hook| Line::Webhook {
        id: hook.id,
        room: hook.room,
        at: rfc3339(hook.made_at),
        url: hook.url,
        kinds: hook.kinds,
        active: hook.active,
    })
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
