//! Serves the bytes of files, to whoever has a signed address.
//!
//! Invariants: the type is that of the content, and no browser guesses another; nothing runs: what could is offered for
//! download, and all of it is sandboxed; a file whose message is erased is gone at once, whatever its address says.

use actix_web::body::SizedStream;
use actix_web::http::header::{
    self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue, Header, HeaderName, Range,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{StreamExt, stream};

use super::Api;
use super::attachments::{no_such_file, now_ms};
use crate::http::attachments::{away, hex};
use crate::http::links::BadLink;
use crate::http::problem::{Answer, Problem};
use crate::http::query::{self, Query};
use crate::http::sniff;
use crate::ids::AttachmentId;
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::Attachment;
use crate::refusal::Refusal;

/// Nothing may run or be loaded, whatever the file is taken for.
const CSP: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

pub async fn download(api: Data<Api>, request: HttpRequest, query: Query) -> Answer {
    let files = api.attachments()?.clone();
    let id = query::path(&request, "attachment", AttachmentId::parse).map_err(|_| no_such_file())?;
    let forged = || Refusal::forbidden("this address was not made here, or was changed on its way");
    let expires = query.integer("exp", 0..=WIRE_INTEGER_MAX).ok().flatten().ok_or_else(forged)?;
    let signature = query.optional("sig", |text| Ok::<_, &str>(text.to_owned()))?.ok_or_else(forged)?;
    let now = now_ms().unsigned_abs() / 1_000;
    match files.links.check(api.store(), &id, expires, &signature, now).await? {
        Ok(()) => {}
        Err(BadLink::Forged) => return Err(forged().into()),
        Err(BadLink::Expired) => {
            let text = "this address has expired; ask for a new one: GET /api/v1/rooms/{room}/attachments/{id}";
            return Err(Refusal::forbidden(text).into());
        }
    }
    let file = api.store().attachment(&id).await?.ok_or_else(no_such_file)?;
    let tag = format!("\"{}\"", hex(&file.sha256));
    let mut answer = HttpResponse::build(StatusCode::OK);
    answer
        .insert_header((header::ETAG, tag.as_str()))
        .insert_header((header::CACHE_CONTROL, format!("private, immutable, max-age={}", expires - now)))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CONTENT_SECURITY_POLICY, CSP))
        .insert_header((HeaderName::from_static("cross-origin-resource-policy"), api.shared.files_policy()));
    let sent = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if sent(header::IF_NONE_MATCH).is_some_and(|tags| tags == "*" || tags.split(',').any(|one| one.trim() == tag)) {
        return Ok(answer.status(StatusCode::NOT_MODIFIED).finish());
    }
    let (first, last) = match wanted(&request, file.bytes, sent(header::IF_RANGE).is_none_or(|one| one == tag)) {
        Wanted::All => (0, file.bytes - 1),
        Wanted::Part(first, last) => {
            let range = format!("bytes {first}-{last}/{}", file.bytes);
            answer.status(StatusCode::PARTIAL_CONTENT).insert_header((header::CONTENT_RANGE, range));
            (first, last)
        }
        Wanted::Nothing => {
            let mut refused = Problem::no_such_range(file.bytes).response();
            if let Ok(range) = header::HeaderValue::from_str(&format!("bytes */{}", file.bytes)) {
                refused.headers_mut().insert(header::CONTENT_RANGE, range);
            }
            return Ok(refused);
        }
    };
    answer.insert_header((header::CONTENT_TYPE, file.mime.as_str())).insert_header(disposition(&file));
    let length = last - first + 1;
    if request.method() == Method::HEAD {
        return Ok(answer.body(SizedStream::new(length, stream::empty::<Result<_, std::io::Error>>())));
    }
    let slot = files.download_slot()?;
    let chunks = files.blobs.read(&file.object, first..last + 1).await.map_err(away)?;
    api.hub.context().metrics.attachment_downloads.inc();
    // The slot is held for as long as the answer lasts.
    let chunks = chunks.map(move |chunk| {
        let _held = &slot;
        chunk
    });
    Ok(answer.body(SizedStream::new(length, chunks)))
}

/// Which bytes are asked for.
enum Wanted {
    All,
    /// Both included.
    Part(u64, u64),
    /// None that there are.
    Nothing,
}

/// Several ranges at once, and what is no range of bytes, count as none, as the standard allows.
fn wanted(request: &HttpRequest, bytes: u64, same: bool) -> Wanted {
    if !same || !request.headers().contains_key(header::RANGE) {
        return Wanted::All;
    }
    match Range::parse(request) {
        Ok(Range::Bytes(ranges)) => match ranges.as_slice() {
            [one] => one.to_satisfiable_range(bytes).map_or(Wanted::Nothing, |(first, last)| Wanted::Part(first, last)),
            _ => Wanted::All,
        },
        _ => Wanted::All,
    }
}

/// Both forms of the name: the plain one for what knows no other, in ASCII.
fn disposition(file: &Attachment) -> ContentDisposition {
    let plain: String = file
        .name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\%;".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    let full = ExtendedValue {
        charset: Charset::Ext("UTF-8".to_owned()),
        language_tag: None,
        value: file.name.as_bytes().to_vec(),
    };
    ContentDisposition {
        disposition: if sniff::is_shown(&file.mime) { DispositionType::Inline } else { DispositionType::Attachment },
        parameters: vec![DispositionParam::Filename(plain), DispositionParam::FilenameExt(full)],
    }
}
