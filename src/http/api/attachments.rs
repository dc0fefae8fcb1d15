//! Files that belong to messages: uploading one, and where it is to be had.
//!
//! An upload names the message that it is for, by the id that its sender gives or will give it; so sending needs to know
//! nothing of files. Whoever may read the room is shown a file as long as its message is in the log and not deleted.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{self, ContentDisposition, HeaderMap};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use super::credentials::SignedIn;
use super::{Api, room_of};
use crate::domain::acts::Act;
use crate::domain::command::Caller;
use crate::domain::rules;
use crate::entry::rfc3339;
use crate::http::attachments::{Attachments, Declared, PER_MESSAGE, hex};
use crate::http::problem::{Answer, Problem, fault};
use crate::http::query::{self, Query};
use crate::ids::{AttachmentId, MessageId, Millis, RoomId, UserId};
use crate::ports::{Attachment, Kept};
use crate::refusal::Refusal;

/// Files that one call describes.
const DESCRIBED: usize = 100;
/// Unicode scalar values of a file's name.
const NAME_CHARS: usize = 200;

/// A file as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Attachment)]
pub struct File {
    id: AttachmentId,
    room: RoomId,
    user: UserId,
    /// The message that it belongs to, by its sender's name for it.
    message: MessageId,
    name: String,
    /// By its content.
    r#type: String,
    bytes: u64,
    /// Hexadecimal.
    sha256: String,
    at: String,
    /// From the server's root; needs no credentials.
    url: String,
    url_expires_at: String,
}

/// Files asked for together.
#[derive(Serialize, ToSchema)]
#[schema(as = Attachments)]
pub struct Files {
    items: Vec<File>,
}

pub fn now_ms() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(now.as_millis()).unwrap_or(Millis::MAX)
}

async fn described(api: &Api, files: &Attachments, file: Attachment) -> Result<File, Problem> {
    let link = files.links.sign(api.store(), &file.id, now_ms().unsigned_abs() / 1_000).await?;
    Ok(File {
        id: file.id,
        room: file.room,
        user: file.user,
        message: file.message,
        name: file.name,
        r#type: file.mime,
        bytes: file.bytes,
        sha256: hex(&file.sha256),
        at: rfc3339(file.at),
        url: link.url,
        url_expires_at: rfc3339(Millis::try_from(link.expires * 1_000).unwrap_or(Millis::MAX)),
    })
}

pub async fn upload(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query, body: Payload) -> Answer {
    let files = api.attachments()?.clone();
    let room = room_of(&request)?;
    let message = query.optional("message", MessageId::parse)?;
    let message = message.ok_or_else(|| {
        Refusal::bad_request("message: is missing; it is the id that you give the message that the file belongs to")
    })?;
    let own_id = query.optional("id", MessageId::parse)?;
    let name = match query.optional("name", |name| Ok::<_, &str>(name.to_owned()))? {
        Some(name) => name,
        None => declared_name(request.headers())?,
    };
    let name = clean_name(&name)?;
    let (user, caller) = (who.caller.user.clone(), who.caller.clone());
    may_attach(&api, &room, who.caller).await?;
    let _slot = files.upload_slot(&user)?;
    let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let declared = Declared {
        bytes: text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok()),
        mime: text(header::CONTENT_TYPE),
    };
    let store = api.hub.context().store.clone();
    let uploaded = files.receive(store, &user, declared, body).await?;
    // That may have taken minutes, in which they may have been muted, removed or banned.
    may_attach(&api, &room, caller).await?;
    let file = Attachment {
        id: match own_id {
            Some(own_id) => id_of(&room, &user, &own_id)?,
            None => AttachmentId::parse(uploaded.object.as_str()).map_err(|rule| fault(&rule))?,
        },
        object: uploaded.object.clone(),
        room,
        user,
        message,
        name,
        mime: uploaded.mime.to_owned(),
        bytes: uploaded.bytes,
        sha256: uploaded.sha256,
        at: now_ms(),
    };
    let kept = api.store().keep_upload(&file, files.bounds()).await?;
    uploaded.settled();
    match kept {
        Kept::New => {
            api.hub.context().metrics.attachment_kept(file.bytes);
            Ok(HttpResponse::Created().json(described(&api, &files, file).await?))
        }
        Kept::Known(known) => Ok(HttpResponse::Ok().json(described(&api, &files, *known).await?)),
        Kept::Taken => Err(Refusal::conflict("id: you have uploaded another file under this id").into()),
        Kept::OverQuota { used } => Err(files.over_quota(used)),
        Kept::Full => Err(Refusal::conflict(format!("message: it has {PER_MESSAGE} files, as many as it may")).into()),
        Kept::Late => Err(Refusal::unavailable("the upload took too long; try again").into()),
    }
}

async fn may_attach(api: &Api, room: &RoomId, caller: Caller) -> Result<(), Problem> {
    api.permit(room, caller, Act::Attach).await?;
    if api.record(room).await?.archived { Err(rules::archived().into()) } else { Ok(()) }
}

pub async fn get(api: Data<Api>, who: SignedIn, request: HttpRequest) -> Answer {
    let files = api.attachments()?.clone();
    let room = room_of(&request)?;
    let id = query::path(&request, "attachment", AttachmentId::parse)?;
    let user = who.caller.user.clone();
    api.admit(&room, who.caller).await?;
    match api.store().attachments(&room, &[id], &user).await?.pop() {
        Some(file) => Ok(HttpResponse::Ok().json(described(&api, &files, file).await?)),
        None => Err(no_such_file().into()),
    }
}

/// Several at once, for a page of history; those that the caller may not see, or that are gone, are left out.
pub async fn list(api: Data<Api>, who: SignedIn, request: HttpRequest, query: Query) -> Answer {
    let files = api.attachments()?.clone();
    let room = room_of(&request)?;
    let ids = query.optional("ids", |text| text.split(',').map(AttachmentId::parse).collect::<Result<Vec<_>, _>>())?;
    let ids = ids.filter(|ids| ids.len() <= DESCRIBED).ok_or_else(|| {
        Refusal::bad_request(format!("ids: must be 1 to {DESCRIBED} ids of attachments, with commas between"))
    })?;
    let user = who.caller.user.clone();
    api.admit(&room, who.caller).await?;
    let mut items = Vec::new();
    for file in api.store().attachments(&room, &ids, &user).await? {
        items.push(described(&api, &files, file).await?);
    }
    Ok(HttpResponse::Ok().json(Files { items }))
}

pub fn no_such_file() -> Refusal {
    Refusal::not_found("there is no such file, or no longer")
}

/// The id of a file that its uploader has named: the same, whenever and wherever it is sent again.
fn id_of(room: &RoomId, user: &UserId, own_id: &MessageId) -> Result<AttachmentId, Refusal> {
    let mut hash = Sha256::new();
    for part in ["roundtable attachment", room.as_str(), user.as_str(), own_id.as_str()] {
        hash.update(part);
        hash.update([0]);
    }
    AttachmentId::parse(&hex(&hash.finalize()[..16])).map_err(|rule| fault(&rule))
}

/// The name that the header `Content-Disposition` gives; empty where there is none.
fn declared_name(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(value) = headers.get(header::CONTENT_DISPOSITION) else { return Ok(String::new()) };
    let wrong = || Refusal::bad_request("Content-Disposition: must be like attachment; filename*=UTF-8''a%20name.png");
    let disposition = ContentDisposition::from_raw(value).map_err(|_| wrong())?;
    match disposition.get_filename_ext() {
        Some(name) => String::from_utf8(name.value.clone()).map_err(|_| wrong()),
        None => Ok(disposition.get_filename().unwrap_or_default().to_owned()),
    }
}

/// A name without a path, and without what can't be seen: control characters, and those that turn the direction of what
/// stands behind them, which make `gpj.exe` look like `exe.jpg`.
fn clean_name(name: &str) -> Result<String, Refusal> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let unseen = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = last.chars().filter(|c| !unseen(c)).nfc().collect();
    let name = name.trim().trim_start_matches('.').trim_start();
    if name.chars().count() > NAME_CHARS {
        return Err(Refusal::bad_request(format!("name: must have at most {NAME_CHARS} characters")));
    }
    Ok(if name.is_empty() { "file".to_owned() } else { name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_path_and_what_can_not_be_seen() {
        for (given, clean) in [
            ("写真 1.png", "写真 1.png"),
            ("C:\\fakepath\\a.png", "a.png"),
            ("../../etc/passwd", "passwd"),
            ("a\r\nSet-Cookie: x\0.png", "aSet-Cookie: x.png"),
            ("invoice\u{202e}gpj.exe", "invoicegpj.exe"),
            ("..", "file"),
            ("...htaccess", "htaccess"),
            ("say \"hi\".txt", "say \"hi\".txt"),
            ("/", "file"),
            ("", "file"),
            ("e\u{301}.txt", "é.txt"),
        ] {
            assert_eq!(clean_name(given).as_deref(), Ok(clean), "{given:?}");
        }
        assert!(clean_name(&"日".repeat(200)).is_ok());
        assert!(clean_name(&"日".repeat(201)).expect_err("too long").message.starts_with("name: "));
    }

    #[test]
    fn the_header_names_a_file_in_either_form() {
        let named = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_DISPOSITION, header::HeaderValue::from_str(value).expect("a value"));
            declared_name(&headers)
        };
        assert_eq!(named("attachment; filename=\"a \\\"b\\\".png\"").as_deref(), Ok("a \"b\".png"));
        assert_eq!(named("attachment; filename=x; filename*=UTF-8''%E6%97%A5.png").as_deref(), Ok("日.png"));
        assert_eq!(named("attachment").as_deref(), Ok(""));
        assert!(named("attachment; filename*=UTF-8''%ff").is_err());
    }
}
