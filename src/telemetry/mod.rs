//! What the process says of itself while it runs: structured log lines on standard error, panics among them, and reports
//! of errors and traces of requests to whoever collects those.

mod error_reports;
pub mod traces;

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

pub use error_reports::Reporting;

use crate::config::{Log, LogFormat, Sentry};
use crate::metrics::Metrics;

/// What actix-http says, as an error, of every request that it can't read.
const NONSENSE: &str = "actix_http::h1=off";

/// Starts logging for the process; a second call changes nothing. `log` has been checked with the other settings.
pub fn init(log: &Log) {
    start(log, None);
}

/// Starts logging and, if that is set, reporting errors. Reports are sent for as long as the answer is kept.
pub fn init_and_report(log: &Log, sentry: &Sentry) -> Option<Reporting> {
    let (reporting, reports) = error_reports::start(sentry).unzip();
    start(log, reports);
    reporting
}

fn start(log: &Log, reports: Option<error_reports::ErrorReports>) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // A client that sends nonsense is no fault of ours, and must not be able to fill a log with errors.
    let filter = filter.add_directive(NONSENSE.parse().expect("a directive that is well-formed"));
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    // An error here means that a test or an embedding program logs already: theirs stays.
    let _ = registry().with(filter).with(lines).with(reports).try_init();
}

/// Logs and counts every panic of the process from here on. A panic costs its session or room; the process stays.
pub fn watch_panics(metrics: Arc<Metrics>) {
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        let place = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        // What a panic says may quote what was being worked on, so of its payload only our own constants are logged.
        let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
        let backtrace = std::backtrace::Backtrace::capture();
        let thread = std::thread::current();
        tracing::error!(
            fault.id = %fault_id(),
            panic.place = %place,
            panic.said = %said,
            panic.thread = thread.name().unwrap_or("unnamed"),
            panic.backtrace = %backtrace,
            "panicked"
        );
    }));
}

/// A name for a fault, in the answer to the client and in the log line: 12 hexadecimal digits.
pub fn fault_id() -> String {
    format!("{:012x}", rand::random::<u64>() >> 16)
}
