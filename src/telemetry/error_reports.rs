//! Error reports to Sentry, or whatever speaks its protocol: one for each line of the log at level error, panics among
//! them.
//!
//! Invariants: a report holds what is listed here and nothing else: the line's own name, the fields of [`FIELDS`], and of
//! free text what [`scrubbed`] leaves. At most `events_per_minute` leave this node, and few wait; those beyond are dropped,
//! the log has them all. Nothing waits for a report.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::redirect::Policy;
use sentry::protocol::{Event as Report, Level, Map, Value};
use sentry::transports::ReqwestHttpTransportOptions;
use sentry::types::Dsn;
use sentry::{ClientInitGuard, Hub, Transport, TransportFactory, TransportOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Sentry;

/// Fields of a log line that may leave: names of ours, and numbers. True: free text, which is scrubbed.
const FIELDS: [(&str, bool); 14] = [
    ("error", true),
    ("fault.id", false),
    ("first", false),
    ("head", false),
    ("hub", false),
    ("job", false),
    ("panic.backtrace", false),
    ("panic.place", false),
    ("panic.said", true),
    ("panic.thread", false),
    ("request.id", false),
    ("room.id", false),
    ("session.id", false),
    ("shard", false),
];
/// Longest text of one field, in bytes; a backtrace fits.
const FIELD_BYTES: usize = 8 * 1024;
/// Reports that wait to be sent.
const WAITING: usize = 32;
/// How long the end of the process waits for reports that have not left.
const FLUSH: Duration = Duration::from_secs(2);
/// How long one report may take to be sent.
const SEND: Duration = Duration::from_secs(10);
/// A run of letters, digits and signs this long, with a digit in it, may be a token.
const TOKEN_BYTES: usize = 20;

/// Keeps reports going. When it is dropped, what is left is sent, for as long as [`FLUSH`].
pub struct Reporting(#[expect(dead_code, reason = "kept, and never dropped")] ManuallyDrop<ClientInitGuard>);

impl Drop for Reporting {
    fn drop(&mut self) {
        // The guard itself is never dropped, and asking for a flush waits where too many reports wait: either would
        // hold the end of the process for as long as the other side does not answer.
        let Some(client) = Hub::main().client() else { return };
        let (done, flushed) = mpsc::channel();
        thread::spawn(move || {
            client.flush(Some(FLUSH));
            let _ = done.send(());
        });
        let _ = flushed.recv_timeout(FLUSH);
    }
}

/// Sends over HTTP, by a client that waits for no answer forever.
struct Patient(reqwest::Client);

impl TransportFactory for Patient {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(ReqwestHttpTransportOptions::from(options).with_client(self.0.clone()).build())
    }
}

/// Starts to report, if that is set.
pub fn start(settings: &Sentry) -> Option<(Reporting, ErrorReports)> {
    let dsn: Dsn = settings.dsn.expose().parse().ok()?;
    let per_minute = NonZeroU32::new(settings.events_per_minute)?;
    // Does nothing where another part was first.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(SEND).redirect(Policy::none()).build().ok()?;
    let guard = sentry::init(
        sentry::ClientOptions::new()
            .dsn(&dsn.to_string())
            .transport(Patient(client))
            .release(concat!("roundtable@", env!("CARGO_PKG_VERSION")))
            .environment(settings.environment.clone())
            // Without these, which would tell of the machine: its name, its system, its libraries.
            .default_integrations(false)
            .send_default_pii(false)
            .max_breadcrumbs(0)
            .transport_channel_capacity(WAITING),
    );
    Some((
        Reporting(ManuallyDrop::new(guard)),
        ErrorReports { allowed: RateLimiter::direct(Quota::per_minute(per_minute)) },
    ))
}

/// Makes a report of each line of the log that it is shown: those at level error.
pub struct ErrorReports {
    allowed: DefaultDirectRateLimiter,
}

/// The request that a span is of.
struct RequestId(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ErrorReports {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(span), Some(Value::String(request))) = (context.span(id), fields.known.remove("request.id")) {
            span.extensions_mut().insert(RequestId(request));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != tracing::Level::ERROR || self.allowed.check().is_err() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(RequestId(request)) = span.extensions().get() {
                    fields.known.insert("request.id".to_owned(), Value::from(request.as_str()));
                }
            }
        }
        let place = fields.known.get("panic.place").and_then(Value::as_str).map(str::to_owned);
        let fingerprint =
            [Some(fields.message.clone()), place].into_iter().flatten().map(Cow::Owned).collect::<Vec<_>>();
        sentry::capture_event(Report {
            level: Level::Error,
            fingerprint: Cow::Owned(fingerprint),
            message: Some(fields.message),
            logger: Some(event.metadata().target().to_owned()),
            extra: fields.known,
            ..Report::default()
        });
    }
}

/// What of a line may leave.
#[derive(Default)]
struct Fields {
    message: String,
    known: Map<String, Value>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = scrubbed(text);
        } else if let Some((name, free)) = FIELDS.iter().find(|(name, _)| *name == field.name()) {
            let text = if *free { scrubbed(text) } else { cut(text).to_owned() };
            self.known.insert((*name).to_owned(), Value::from(text));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(FIELD_BYTES)]
}

/// `text` without what may be somebody's: quoted text, addresses but for their host, mail addresses, and what looks
/// like a token.
fn scrubbed(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    // What stands between two quotation marks is every other part.
    for (n, part) in cut(text).split('"').enumerate() {
        if n > 0 {
            clean.push('"');
        }
        if n % 2 == 1 {
            clean.push_str("***");
            continue;
        }
        for word in part.split_inclusive(char::is_whitespace) {
            let bare = word.trim_end();
            scrub_word(bare, &mut clean);
            clean.push_str(&word[bare.len()..]);
        }
    }
    clean
}

fn scrub_word(word: &str, clean: &mut String) {
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest.split(['/', '?', '#', ')', ',', ';', '\'']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let _ = write!(clean, "{scheme}://{host}");
        if rest.len() > host.len() {
            clean.push_str("/***");
        }
    } else if word.contains('@') || is_token(word) {
        clean.push_str("***");
    } else {
        clean.push_str(word);
    }
}

fn is_token(word: &str) -> bool {
    word.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.=+/%~".contains(letter)))
        .any(|run| run.len() >= TOKEN_BYTES && run.bytes().any(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_somebodys_is_taken_out() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
        for (text, left) in [
            ("db error: connection reset by peer", "db error: connection reset by peer"),
            (
                "error sending request for url (https://u:p@hooks.example.org:8443/t/s3cret?x=1)",
                "error sending request for url (https://hooks.example.org:8443/***",
            ),
            (&format!("Bearer {token} is no good"), "Bearer *** is no good"),
            (&format!("token={token}"), "***"),
            ("invalid value \"a text of somebody's\" for \"x\"", "invalid value \"***\" for \"***\""),
            ("an open \"quotation", "an open \"***"),
            ("mail to alice@example.org failed", "mail to *** failed"),
            ("redis://:geheim@10.0.0.1", "redis://10.0.0.1/***"),
            ("shard 17 of 256,  epoch 3", "shard 17 of 256,  epoch 3"),
        ] {
            assert_eq!(scrubbed(text), left);
        }
        let long = "あ".repeat(FIELD_BYTES);
        assert!(scrubbed(&long).len() <= FIELD_BYTES);
    }
}
