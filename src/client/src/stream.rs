//! Carries a connection where WebSockets are blocked: server-sent events for what comes, posts for what goes. The same
//! frames, as JSON.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, ORIGIN, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::closing::{Ending, Pace};
use crate::driver::Shared;
use crate::error::{Code, Error};
use crate::frames::{ClientFrame, Encoding, ServerFrame, decode, encode};

const POST_FRAMES: usize = 64;
/// About one frame's bound: a post is never much larger than a frame may be.
const POST_BYTES: usize = 60_000;
const POST_PATIENCE: Duration = Duration::from_secs(15);
const REPEAT: Pace = Pace { jitter: Duration::from_millis(300), most: Duration::from_secs(3) };
/// What an event may have at most: the server's frames are far smaller, and a proxy's page that never ends is no event.
const EVENT_BYTES: usize = 8 << 20;

/// Until it ends, or nobody has anything to say any more.
pub(crate) async fn carry(
    shared: Arc<Shared>,
    number: u64,
    address: usize,
    token: Option<String>,
    mut frames: UnboundedReceiver<ClientFrame>,
) {
    let url = format!("{}/api/v1/stream", shared.address(address));
    let name = watch::Sender::new(None);
    let reading = read(&shared, number, &url, token, &name);
    let writing = write(&shared, number, &url, name.subscribe(), &mut frames);
    let ending = tokio::select! {
        ending = reading => Some(ending),
        ending = writing => ending,
    };
    if let Some(ending) = ending {
        shared.with(|core| core.ended(number, &ending));
    }
}

pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn refused(what: &str, answer: &Response) -> Ending {
    let status = answer.status();
    let mut ending = Ending::broken(format!("{what} was refused with HTTP {}", status.as_u16()));
    ending.status = Some(if status.is_success() { 502 } else { status.as_u16() });
    ending.retry_after = retry_after(answer);
    ending
}

/// Takes what comes; how it ends.
async fn read(
    shared: &Shared,
    number: u64,
    url: &str,
    token: Option<String>,
    name: &watch::Sender<Option<String>>,
) -> Ending {
    let mut request = shared.http.get(url).header(ACCEPT, "text/event-stream");
    match (token, &shared.options.cookie) {
        (Some(token), _) => request = request.bearer_auth(token),
        (None, Some(cookie)) => {
            let origin = url.trim_end_matches("/api/v1/stream");
            request = request.header(COOKIE, format!("roundtable_session={cookie}")).header(ORIGIN, origin);
        }
        (None, None) => {}
    }
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Ending::broken(format!("the stream broke: {}", why(&error))),
    };
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !answer.status().is_success() || !kind.starts_with("text/event-stream") {
        return refused("the stream", &answer);
    }
    let mut events = Events::default();
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => events.rest.extend_from_slice(&bytes),
            Ok(None) => return Ending::broken("the stream ended"),
            Err(error) => return Ending::broken(format!("the stream broke: {}", why(&error))),
        }
        while let Some((kind, data)) = events.next() {
            let told = match &*kind {
                "open" => serde_json::from_slice(&data).map(|Open { stream }| {
                    name.send_replace(Some(stream));
                    shared.with(|core| core.opened(number));
                    None
                }),
                "close" => serde_json::from_slice(&data)
                    .map(|Close { code, reason }| Some(Ending { code, ..Ending::broken(reason) })),
                "message" => match decode::<ServerFrame>(&data, Encoding::Json) {
                    Ok(frame) => {
                        shared.with(|core| core.frame(number, frame));
                        continue;
                    }
                    Err(error) => return Ending::broken(format!("a frame that cannot be read: {error}")),
                },
                _ => continue,
            };
            match told {
                Ok(None) => {}
                Ok(Some(ending)) => return ending,
                Err(error) => return Ending::broken(format!("an event {kind} that cannot be read: {error}")),
            }
        }
        if events.rest.len() + events.data.len() > EVENT_BYTES {
            return Ending::broken("an event without an end");
        }
    }
}

#[derive(Deserialize)]
struct Open {
    stream: String,
}

#[derive(Deserialize)]
struct Close {
    code: u16,
    reason: String,
}

/// Server-sent events out of the bytes as they come.
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    kind: String,
    data: Vec<u8>,
}

impl Events {
    /// The next whole event: its name and its data.
    fn next(&mut self) -> Option<(String, Vec<u8>)> {
        let mut used = 0;
        let mut found = None;
        while let Some(length) = self.rest[used..].iter().position(|byte| *byte == b'\n') {
            let line = self.rest[used..used + length].strip_suffix(b"\r").unwrap_or(&self.rest[used..used + length]);
            used += length + 1;
            if line.is_empty() {
                let kind = std::mem::take(&mut self.kind);
                if !self.data.is_empty() {
                    let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                    found = Some((kind, std::mem::take(&mut self.data)));
                    break;
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            } else if let Some(kind) = line.strip_prefix(b"event:") {
                self.kind = String::from_utf8_lossy(kind).trim().to_owned();
            }
        }
        self.rest.drain(..used);
        found
    }
}

/// Brings what goes, one post at a time; what was not answered is repeated under the same number, which the server takes
/// once. How it ends, where it does not just end because nobody has anything to say any more.
async fn write(
    shared: &Shared,
    number: u64,
    url: &str,
    mut name: watch::Receiver<Option<String>>,
    frames: &mut UnboundedReceiver<ClientFrame>,
) -> Option<Ending> {
    let mut n = 0u64;
    let mut left_over: Option<Vec<u8>> = None;
    loop {
        let mut body = match left_over.take() {
            Some(json) => json,
            None => match encode(&frames.recv().await?, Encoding::Json) {
                Ok(json) => json,
                Err(why) => return Some(Ending::broken(why)),
            },
        };
        let mut count = 1;
        while count < POST_FRAMES
            && let Ok(frame) = frames.try_recv()
        {
            match encode(&frame, Encoding::Json) {
                Ok(json) if body.len() + json.len() > POST_BYTES => {
                    left_over = Some(json);
                    break;
                }
                Ok(json) => {
                    body.push(b',');
                    body.extend_from_slice(&json);
                    count += 1;
                }
                Err(why) => return Some(Ending::broken(why)),
            }
        }
        n += 1;
        let mut post = format!("{{\"n\":{n},\"frames\":[").into_bytes();
        post.extend_from_slice(&body);
        post.extend_from_slice(b"]}");
        // Nothing is written before it is open.
        let stream = name.wait_for(Option::is_some).await.ok()?.clone().unwrap_or_default();
        let request = || {
            let request = shared.http.post(url).header("x-roundtable-stream", &stream);
            request.header(CONTENT_TYPE, "application/json").timeout(POST_PATIENCE).body(post.clone())
        };
        if let Err(ending) = bring(shared, request).await {
            return Some(ending);
        }
        shared.with(|core| core.written(number, count));
    }
}

async fn bring(shared: &Shared, request: impl Fn() -> RequestBuilder) -> Result<(), Ending> {
    let began = Instant::now();
    for attempt in 0.. {
        let mut wait = REPEAT.wait(attempt, shared.chance());
        match request().send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) if answer.status().as_u16() != 429 && !answer.status().is_server_error() => {
                // It has ended, wherever it was: another one is opened, as after any break.
                let reason = format!("a post was refused with HTTP {}", answer.status().as_u16());
                return Err(Ending::broken(reason));
            }
            Ok(answer) => wait = wait.max(retry_after(&answer).unwrap_or_default()),
            // Unknown whether it arrived.
            Err(_) => {}
        }
        if began.elapsed() > POST_PATIENCE {
            break;
        }
        tokio::time::sleep(wait).await;
    }
    Err(Ending::broken("a post was not taken"))
}

/// An error with its causes: reqwest's own words leave out what one looks for.
pub(crate) fn why(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        said = format!("{said}: {next}");
        cause = next.source();
    }
    said
}

pub(crate) fn http(#[cfg(feature = "tls")] tls: Option<&Arc<rustls::ClientConfig>>) -> Result<Client, Error> {
    // Again does nothing; plain HTTP asks for it too.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder();
    #[cfg(feature = "tls")]
    let builder = match tls {
        Some(tls) => builder.tls_backend_preconfigured(rustls::ClientConfig::clone(tls)),
        None => builder,
    };
    builder.build().map_err(|error| Error::new(Code::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_their_bytes_are_cut() {
        let text =
            "event: open\r\ndata: {\"stream\":\"s\"}\r\n\r\n: ping\n\ndata: one\ndata: two\n\nevent:close\ndata:x\n\n";
        let wanted = [("open", "{\"stream\":\"s\"}"), ("message", "one\ntwo"), ("close", "x")];
        for piece in [1, 2, 7, text.len()] {
            let mut events = Events::default();
            let mut found = Vec::new();
            for bytes in text.as_bytes().chunks(piece) {
                events.rest.extend_from_slice(bytes);
                while let Some((kind, data)) = events.next() {
                    found.push((kind, String::from_utf8(data).expect("text")));
                }
            }
            let found: Vec<_> = found.iter().map(|(kind, data)| (&**kind, &**data)).collect();
            assert_eq!(found, wanted, "in pieces of {piece}");
        }
    }
}
