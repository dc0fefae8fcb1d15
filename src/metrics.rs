//! What the server counts about itself, for Prometheus.
//!
//! One [`Metrics`] a node, handed around as an `Arc`; fields are incremented where the thing happens. Names are
//! `roundtable_<noun>_<what>_<unit>[_total]`. What is counted by methods of one topic is in that topic's file. Invariant:
//! labels have few values that are fixed here, never an id.

mod commits;
mod connections;
mod hooks;
mod make;
pub mod pace;
mod people;
mod way;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use self::commits::Commits;
use self::connections::Connections;
pub use self::connections::{ConnectRefusal, Forward, Transport};
use self::hooks::Hooks;
pub use self::hooks::{HookAnswer, WebhookOutcome};
use self::make::{LATENCY, Maker};
use self::people::People;
pub use self::way::FetchSource;
use self::way::Way;
use crate::refusal::Code;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,

    // ---- sessions and rooms
    pub sessions: IntGauge,
    pub people: People,
    pub subscriptions: IntGauge,
    pub rooms: IntGauge,
    pub mirrors: IntGauge,
    pub sessions_opened: IntCounter,
    /// Counted from when they are chosen, before their hub tells them.
    pub sessions_leaving: IntGauge,
    pub rebalanced: IntCounter,
    connections: Connections,
    pub stream_posts: IntCounter,
    job_steps: IntCounterVec,
    job_failures: IntCounterVec,
    deletion_costs: [IntCounter; 2],
    refusals: [IntCounter; 9],
    hooks: Hooks,
    pub webhook_events: IntCounter,

    // ---- the way of a message
    pub entries_committed: IntCounter,
    pub entries_duplicate: IntCounter,
    /// Entries put into outboxes: entries × readers.
    pub deliveries: IntCounter,
    commits: Commits,
    way: Way,
    pub outbound_bytes: IntCounter,
    pub inbound_bytes: IntCounter,
    pub writes: IntCounter,

    // ---- cursors and hints
    pub cursor_pauses: IntCounter,
    pub cursor_resets: IntCounter,
    pub hints_dropped: IntCounter,
    pub stalls: IntCounter,

    // ---- queues, in items and bytes
    pub room_requests: IntGauge,
    pub room_request_bytes: IntGauge,
    pub link_queue_bytes: IntGauge,

    // ---- store
    pub store_errors: IntCounter,
    /// 1 while the store's gate is open.
    pub store_up: IntGauge,
    pub rooms_opened: IntCounter,
    pub fences: IntCounter,

    // ---- bus and cluster
    pub bus_frames_sent: IntCounter,
    pub bus_frames_received: IntCounter,
    pub bus_bytes_sent: IntCounter,
    pub bus_bytes_received: IntCounter,
    pub bus_gaps: IntCounter,
    pub bus_errors: IntCounter,
    pub link_drops: IntCounter,
    pub stream_resends: IntCounter,
    pub shards_owned: IntGauge,
    pub shard_moves: IntCounter,
    pub nodes: IntGauge,
    pub lease_losses: IntCounter,

    // ---- HTTP, credentials, faults
    http_requests: HistogramVec,
    pub logins_failed: IntCounter,
    pub password_hashes_waiting: IntGauge,
    pub panics: IntCounter,
    pub traces_sent: IntCounter,
    pub traces_dropped: IntCounter,
    pub search_indexed: IntCounter,
    pub search_latency: Histogram,
    attachments_kept: IntCounter,
    attachment_bytes: IntCounter,
    pub attachment_downloads: IntCounter,
    build: IntGaugeVec,
    pub ready: IntGauge,
    /// When the listener's certificate ends, Unix seconds; 0: it has none.
    pub tls_expires: IntGauge,
    pub backup_taken: IntGauge,
    start: Gauge,
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the first collector of a new registry");
        let make = Maker(registry.clone());
        let metrics = Self {
            sessions: make.gauge("sessions", "Open connections of clients."),
            people: People::new(&make),
            connections: Connections::new(&make),
            stream_posts: make.counter("stream_posts", "Posts of frames to streams that came to this node."),
            subscriptions: make.gauge("subscriptions", "Subscriptions of all sessions."),
            rooms: make.gauge("rooms", "Rooms that run on this node, mirrors of other nodes' rooms among them."),
            mirrors: make.gauge("mirrors", "Rooms of other nodes with readers here."),
            sessions_opened: make.counter("sessions_opened", "Connections that were taken."),
            sessions_leaving: make.gauge("sessions_leaving", "Sessions that have to go and have not gone yet."),
            rebalanced: make.counter("sessions_rebalanced", "Sessions asked to come again since others have room."),
            job_steps: make.keep(IntCounterVec::new(
                Opts::new("roundtable_job_steps_total", "Steps of background jobs that were done."),
                &["job"],
            )),
            job_failures: make.keep(IntCounterVec::new(
                Opts::new("roundtable_job_failures_total", "Steps of background jobs that failed and are tried again."),
                &["job"],
            )),
            deletion_costs: make.counters(
                "pod_deletion_cost_updates",
                "Requests to tell Kubernetes what it costs to let this pod go, by what became of them.",
                "outcome",
                ["told", "failed"],
            ),
            refusals: make.counters(
                "requests_refused",
                "Requests answered with an error, by code.",
                "code",
                Code::ALL.map(Code::as_str),
            ),

            hooks: Hooks::new(&make),
            webhook_events: make.counter("webhook_events", "Entries that webhooks have taken."),

            entries_committed: make.counter("entries_committed", "Entries that the store made durable for this node."),
            entries_duplicate: make.counter("entries_duplicate", "Sends that were repeats."),
            deliveries: make.counter("deliveries", "Entries put into the outboxes of sessions."),
            search_indexed: make
                .counter("search_indexed_entries", "Entries of logs that this node brought into the index of texts."),
            search_latency: make.histogram("search_latency_seconds", "From a search to its answer.", LATENCY),
            commits: Commits::new(&make),
            way: Way::new(&make),
            outbound_bytes: make.counter("outbound_bytes", "Bytes written to WebSockets."),
            inbound_bytes: make.counter("inbound_bytes", "Bytes read from WebSockets."),
            writes: make.counter("socket_writes", "Writes to WebSockets, each of any number of frames."),

            cursor_pauses: make
                .counter("cursor_pauses", "Times a session's cursors paused because too much waited for its reader."),
            cursor_resets: make.counter("cursor_resets", "Subscriptions that could not be resumed."),
            hints_dropped: make
                .counter("hints_dropped", "Typing, presence and read marks that slow readers did not get."),
            stalls: make.counter("stalls", "Sessions closed because their reader took nothing."),

            room_requests: make.gauge("room_requests_items", "Requests that rooms of this node hold."),
            room_request_bytes: make.gauge("room_requests_bytes", "Bytes of requests that rooms of this node hold."),
            link_queue_bytes: make.gauge("link_queue_bytes", "Bytes that wait for other nodes."),

            store_errors: make.counter("store_errors", "Calls of the store that failed."),
            store_up: make.gauge("store_up", "1 while the store answers."),
            rooms_opened: make.counter("rooms_opened", "Rooms that this node became the owner of."),
            fences: make.counter("fences", "Appends refused because another owner has the room."),

            bus_frames_sent: make.counter("bus_frames_sent", "Frames published to other nodes."),
            bus_frames_received: make.counter("bus_frames_received", "Frames from other nodes."),
            bus_bytes_sent: make.counter("bus_sent_bytes", "Bytes published to other nodes."),
            bus_bytes_received: make.counter("bus_received_bytes", "Bytes from other nodes."),
            bus_gaps: make.counter("bus_gaps", "Missing numbers on links from other nodes."),
            bus_errors: make.counter("bus_errors", "Calls of the bus that failed."),
            link_drops: make.counter("link_drops", "Envelopes dropped because too much waited for a node."),
            stream_resends: make.counter("stream_resends", "Requests to owners that were sent again."),
            shards_owned: make.gauge("shards_owned", "Shards that this node owns."),
            shard_moves: make.counter("shard_moves", "Shards that this node took or gave."),
            nodes: make.gauge("nodes", "Nodes with a living lease."),
            lease_losses: make.counter("lease_losses", "Times this node's lease ran out."),

            http_requests: make.keep(HistogramVec::new(
                HistogramOpts::new("roundtable_http_requests_latency_seconds", "HTTP requests by class of status.")
                    .buckets(LATENCY.to_vec()),
                &["class"],
            )),
            logins_failed: make.counter("logins_failed", "Logins with a wrong user or password."),
            password_hashes_waiting: make.gauge("password_hashes_waiting", "Password checks that run or wait."),
            panics: make.counter("panics", "Panics, each of which cost at most one session or one room."),
            traces_sent: make.counter("traces_sent", "Spans of traces that the collector took."),
            traces_dropped: make.counter(
                "traces_dropped",
                "Spans of traces dropped: too many waited, or the collector did not take them.",
            ),
            attachments_kept: make.counter("attachments_kept", "Files that were uploaded and kept."),
            attachment_bytes: make.counter("attachments_kept_bytes", "Bytes of files that were uploaded and kept."),
            attachment_downloads: make
                .counter("attachments_downloads", "Times that a file, or a part of one, was served."),
            build: make
                .keep(IntGaugeVec::new(Opts::new("roundtable_build_info", "1, with the version."), &["version"])),
            ready: make.gauge("ready", "1 while the node takes traffic."),
            tls_expires: make.gauge(
                "tls_certificate_expires_timestamp_seconds",
                "When the listener's certificate ends, Unix time; 0: it has none.",
            ),
            backup_taken: make.gauge(
                "backup_taken_timestamp_seconds",
                "When the newest verified backup was taken, Unix time; 0: none is known.",
            ),
            start: make.keep(Gauge::new("roundtable_start_time_seconds", "When the node started, Unix time.")),
            registry,
        };
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        metrics.start.set(now.as_secs_f64());
        Arc::new(metrics)
    }

    /// A request was answered with an error.
    pub fn refused(&self, code: Code) {
        self.refusals[code as usize].inc();
    }

    /// A background job runs here: both its series are there from now on, so that a rate sees its first step and failure.
    pub fn job_started(&self, job: &'static str) {
        let _ = (self.job_steps.with_label_values(&[job]), self.job_failures.with_label_values(&[job]));
    }

    /// A background job did a step.
    pub fn job_stepped(&self, job: &'static str) {
        self.job_steps.with_label_values(&[job]).inc();
    }

    /// A background job's step failed.
    pub fn job_failed(&self, job: &'static str) {
        self.job_failures.with_label_values(&[job]).inc();
    }

    /// Kubernetes was told what this pod costs, or not.
    pub fn deletion_cost_told(&self, told: bool) {
        self.deletion_costs[usize::from(!told)].inc();
    }

    /// An upload became a file of `bytes`.
    pub fn attachment_kept(&self, bytes: u64) {
        self.attachments_kept.inc();
        self.attachment_bytes.inc_by(bytes);
    }

    /// An HTTP request was answered.
    pub fn http(&self, status: u16, took: Duration) {
        let class = match status {
            0..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.http_requests.with_label_values(&[class]).observe(took.as_secs_f64());
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        self.commits.refresh();
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(error = %error, "metrics can't be written");
            String::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn everything_is_rendered_under_its_own_name_from_the_start() {
        let metrics = Metrics::new();
        metrics.refused(Code::RateLimited);
        metrics.closed(Some(4201));
        metrics.closed(Some(4999));
        metrics.connect_refused(ConnectRefusal::Unavailable);
        metrics.fetched(FetchSource::Store);
        metrics.committed(2, 7, Duration::from_millis(3));
        metrics.durable(Instant::now());
        metrics.handed_over(Instant::now());
        metrics.http(404, Duration::from_millis(1));
        metrics.job_started("expiry");
        let text = metrics.render();
        for line in [
            "roundtable_job_steps_total{job=\"expiry\"} 0",
            "roundtable_job_failures_total{job=\"expiry\"} 0",
            "roundtable_requests_refused_total{code=\"rate_limited\"} 1",
            "roundtable_requests_refused_total{code=\"internal\"} 0",
            "roundtable_sessions_closed_total{code=\"4201\"} 1",
            "roundtable_sessions_closed_total{code=\"other\"} 1",
            "roundtable_connections_refused_total{reason=\"unavailable\"} 1",
            "roundtable_cursor_fetches_total{source=\"store\"} 1",
            "roundtable_commit_batch_items_sum 7",
            "roundtable_http_requests_latency_seconds_count{class=\"4xx\"} 1",
            "roundtable_receipt_to_commit_latency_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[test]
    fn names_follow_the_pattern() {
        for line in Metrics::new().render().lines().filter(|line| line.starts_with("# TYPE roundtable_")) {
            let mut words = line.split(' ').skip(2);
            let (name, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(name.ends_with("_seconds"), name.contains("latency") || name.contains("time"), "{line}");
        }
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (a, b) = (Metrics::new(), Metrics::new());
        a.sessions.inc();
        assert_eq!((a.sessions.get(), b.sessions.get()), (1, 0));
    }

    #[test]
    fn alerts_and_dashboards_name_only_metrics_that_exist() {
        let metrics = Metrics::new();
        // Those whose labels are known only in use.
        metrics.job_started("expiry");
        metrics.http(200, Duration::from_millis(1));
        let text = metrics.render();
        let known: std::collections::HashSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let mut named = 0;
        for folder in ["helm/roundtable/alerts", "helm/roundtable/dashboards"] {
            for file in std::fs::read_dir(folder).expect("the chart's folder") {
                let file = file.expect("an entry").path();
                let text = std::fs::read_to_string(&file).expect("a text");
                let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
                for word in words.filter(|word| word.starts_with("roundtable_")) {
                    assert!(known.contains(word), "{}: there is no metric {word}", file.display());
                    named += 1;
                }
            }
        }
        assert!(named > 30, "{named}");
    }
}
