//! What the server counts about itself, for Prometheus.
//!
//! One [`Metrics`] a node, handed around as an `Arc`; fields are incremented where the thing happens. Names are
//! `roundtable_<noun>_<what>_<unit>[_total]`. Invariant: labels have few values that are fixed here, never an id.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::refusal::Code;

/// Where a cursor's fetch was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchSource {
    Ring,
    Store,
}

/// Why a connection was turned away before or at the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// Credentials that are wrong or expired.
    Unauthenticated,
    /// A cookie from another origin.
    Origin,
    /// No known subprotocol, or no proper upgrade.
    Handshake,
    /// Too many connections or requests of one address.
    RateLimited,
    /// Starting, draining or full.
    Unavailable,
}

/// What the hook before a message is stored said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    Allow,
    Change,
    Refuse,
    /// Nothing in time, or nothing that makes sense.
    Away,
}

/// What became of a request to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    Delivered,
    /// To be tried again.
    Failed,
    /// Given up.
    Dead,
    /// The receiver wants no more.
    Gone,
}

/// Why a session was closed by us: the contract's close codes, and the WebSocket's own.
const CLOSE_CODES: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1009, 1011, 4000, 4003, 4100, 4200, 4201, 4202, 4203, 4300, 4301];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,

    // ---- sessions and rooms
    pub sessions: IntGauge,
    pub subscriptions: IntGauge,
    pub rooms: IntGauge,
    pub mirrors: IntGauge,
    pub sessions_opened: IntCounter,
    closes: IntCounterVec,
    job_steps: IntCounterVec,
    job_failures: IntCounterVec,
    connects_refused: [IntCounter; 5],
    refusals: [IntCounter; 9],
    hook_answers: [IntCounter; 4],
    hook_latency: Histogram,
    webhook_requests: [IntCounter; 4],
    webhook_latency: Histogram,
    pub webhook_events: IntCounter,

    // ---- the way of a message
    pub entries_committed: IntCounter,
    pub entries_duplicate: IntCounter,
    /// Entries put into outboxes: entries × readers.
    pub deliveries: IntCounter,
    /// Entries of one room in one group commit are `commit_items`; rooms are `commit_rooms`.
    pub commit_items: Histogram,
    pub commit_rooms: Histogram,
    commit_latency: Histogram,
    receipt_to_commit: Histogram,
    receipt_to_handover: Histogram,
    pub outbound_bytes: IntCounter,
    pub inbound_bytes: IntCounter,
    pub writes: IntCounter,

    // ---- cursors and hints
    pub cursor_pauses: IntCounter,
    pub cursor_resets: IntCounter,
    cursor_fetches: [IntCounter; 2],
    pub hints_dropped: IntCounter,
    pub stalls: IntCounter,

    // ---- queues, in items and bytes
    pub persistence_queue: IntGauge,
    pub persistence_queue_bytes: IntGauge,
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
    pub restarts: IntCounter,
    pub search_indexed: IntCounter,
    pub search_latency: Histogram,
    attachments_kept: IntCounter,
    attachment_bytes: IntCounter,
    pub attachment_downloads: IntCounter,
    build: IntGaugeVec,
    pub ready: IntGauge,
    /// When the listener's certificate ends, Unix seconds; 0: it has none.
    pub tls_expires: IntGauge,
    start: Gauge,
}

/// Seconds; from a tenth of a millisecond, since a commit takes that little here, to what a client would call an outage.
const LATENCY: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];

/// Registers with one registry; a name that is taken twice is a mistake in this file, which the test below meets.
struct Maker(Registry);

impl Maker {
    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names and labels are constants of this file and well-formed");
        self.0.register(Box::new(metric.clone())).expect("every name occurs once in this file");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(format!("roundtable_{name}_total"), help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(format!("roundtable_{name}"), help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(format!("roundtable_{name}"), help).buckets(buckets.to_vec());
        self.keep(Histogram::with_opts(opts))
    }

    /// One counter a value of the label, all there from the start.
    fn counters<const N: usize>(&self, name: &str, help: &str, label: &str, values: [&str; N]) -> [IntCounter; N] {
        let family = self.keep(IntCounterVec::new(Opts::new(format!("roundtable_{name}_total"), help), &[label]));
        values.map(|value| family.with_label_values(&[value]))
    }
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
            sessions: make.gauge("sessions", "Open WebSocket connections."),
            subscriptions: make.gauge("subscriptions", "Subscriptions of all sessions."),
            rooms: make.gauge("rooms", "Rooms that this node owns and runs."),
            mirrors: make.gauge("mirrors", "Rooms of other nodes with readers here."),
            sessions_opened: make.counter("sessions_opened", "Connections that were taken."),
            job_steps: make.keep(IntCounterVec::new(
                Opts::new("roundtable_job_steps_total", "Steps of background jobs that were done."),
                &["job"],
            )),
            job_failures: make.keep(IntCounterVec::new(
                Opts::new("roundtable_job_failures_total", "Steps of background jobs that failed and are tried again."),
                &["job"],
            )),
            closes: make.keep(IntCounterVec::new(
                Opts::new(
                    "roundtable_sessions_closed_total",
                    "Connections that ended, by close code; other: none or unknown.",
                ),
                &["code"],
            )),
            connects_refused: make.counters(
                "connections_refused",
                "Connections turned away before or at the upgrade, by reason.",
                "reason",
                ["unauthenticated", "origin", "handshake", "rate_limited", "unavailable"],
            ),
            refusals: make.counters(
                "requests_refused",
                "Requests answered with an error, by code.",
                "code",
                Code::ALL.map(Code::as_str),
            ),

            hook_answers: make.counters(
                "hook_before_send_answers",
                "Texts that the hook before sending was asked about, by what it said.",
                "answer",
                ["allow", "change", "refuse", "away"],
            ),
            hook_latency: make.histogram(
                "hook_before_send_latency_seconds",
                "From a question to the hook before sending to its answer.",
                LATENCY,
            ),
            webhook_requests: make.counters(
                "webhook_requests",
                "Requests to webhooks, by what became of them.",
                "outcome",
                ["delivered", "failed", "dead", "gone"],
            ),
            webhook_latency: make.histogram(
                "webhook_requests_latency_seconds",
                "From a request to a webhook to its answer.",
                LATENCY,
            ),
            webhook_events: make.counter("webhook_events", "Entries that webhooks have taken."),

            entries_committed: make.counter("entries_committed", "Entries that the store made durable for this node."),
            entries_duplicate: make.counter("entries_duplicate", "Sends that were repeats."),
            deliveries: make.counter("deliveries", "Entries put into the outboxes of sessions."),
            search_indexed: make
                .counter("search_indexed_entries", "Entries of logs that this node brought into the index of texts."),
            search_latency: make.histogram("search_latency_seconds", "From a search to its answer.", LATENCY),
            commit_items: make.histogram("commit_batch_items", "Items of one group commit.", SIZES),
            commit_rooms: make.histogram("commit_batch_rooms", "Rooms of one group commit.", SIZES),
            commit_latency: make.histogram(
                "commit_latency_seconds",
                "From handing a batch to the store to its answer.",
                LATENCY,
            ),
            receipt_to_commit: make.histogram(
                "receipt_to_commit_latency_seconds",
                "From reading a request's frame to its entry being durable, on the owner's node.",
                LATENCY,
            ),
            receipt_to_handover: make.histogram(
                "receipt_to_handover_latency_seconds",
                "From reading a request's frame to its entry being handed to the readers' sockets of that node.",
                LATENCY,
            ),
            outbound_bytes: make.counter("outbound_bytes", "Bytes written to WebSockets."),
            inbound_bytes: make.counter("inbound_bytes", "Bytes read from WebSockets."),
            writes: make.counter("socket_writes", "Writes to WebSockets, each of any number of frames."),

            cursor_pauses: make
                .counter("cursor_pauses", "Times a session's cursors paused because too much waited for its reader."),
            cursor_resets: make.counter("cursor_resets", "Subscriptions that could not be resumed."),
            cursor_fetches: make.counters(
                "cursor_fetches",
                "Reads for cursors that were behind, by source.",
                "source",
                ["ring", "store"],
            ),
            hints_dropped: make
                .counter("hints_dropped", "Typing, presence and read marks that slow readers did not get."),
            stalls: make.counter("stalls", "Sessions closed because their reader took nothing."),

            persistence_queue: make.gauge("persistence_queue_items", "Items that wait for a group commit."),
            persistence_queue_bytes: make.gauge("persistence_queue_bytes", "Bytes that wait for a group commit."),
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
            restarts: make.counter("actor_restarts", "Actors that were started again after a panic."),
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
            start: make.keep(Gauge::new("roundtable_start_time_seconds", "When the node started, Unix time.")),
            registry,
        };
        for code in CLOSE_CODES {
            metrics.closes.with_label_values(&[code_name(code)]);
        }
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        metrics.start.set(now.as_secs_f64());
        Arc::new(metrics)
    }

    /// A request was answered with an error.
    pub fn refused(&self, code: Code) {
        self.refusals[code as usize].inc();
    }

    /// A connection was turned away.
    pub fn connect_refused(&self, reason: ConnectRefusal) {
        self.connects_refused[reason as usize].inc();
    }

    /// A session ended; `None`: without a close frame.
    pub fn closed(&self, code: Option<u16>) {
        self.closes.with_label_values(&[code.map_or("other", code_name)]).inc();
    }

    /// The hook before sending was asked.
    pub fn hook_answered(&self, answer: HookAnswer) {
        self.hook_answers[answer as usize].inc();
    }

    /// The hook before sending answered, or was given up.
    pub fn hook_took(&self, took: Duration) {
        self.hook_latency.observe(took.as_secs_f64());
    }

    /// A request to a webhook ended.
    pub fn webhook_answered(&self, outcome: WebhookOutcome, took: Duration) {
        self.webhook_requests[outcome as usize].inc();
        self.webhook_latency.observe(took.as_secs_f64());
    }

    /// A background job did a step.
    pub fn job_stepped(&self, job: &'static str) {
        self.job_steps.with_label_values(&[job]).inc();
    }

    /// A background job's step failed.
    pub fn job_failed(&self, job: &'static str) {
        self.job_failures.with_label_values(&[job]).inc();
    }

    /// A cursor that was behind was served.
    pub fn fetched(&self, source: FetchSource) {
        self.cursor_fetches[source as usize].inc();
    }

    /// An upload became a file of `bytes`.
    pub fn attachment_kept(&self, bytes: u64) {
        self.attachments_kept.inc();
        self.attachment_bytes.inc_by(bytes);
    }

    /// A group commit was answered.
    pub fn committed(&self, rooms: usize, items: usize, took: Duration) {
        self.commit_rooms.observe(rooms as f64);
        self.commit_items.observe(items as f64);
        self.commit_latency.observe(took.as_secs_f64());
    }

    /// An entry became durable; `received`: when its frame was read.
    pub fn durable(&self, received: Instant) {
        self.receipt_to_commit.observe(received.elapsed().as_secs_f64());
    }

    /// An entry was handed to the sockets; `received`: when its frame was read.
    pub fn handed_over(&self, received: Instant) {
        self.receipt_to_handover.observe(received.elapsed().as_secs_f64());
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
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(error = %error, "metrics can't be written");
            String::new()
        })
    }
}

/// The label of a close code; codes that we don't know share one.
fn code_name(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1007 => "1007",
        1009 => "1009",
        1011 => "1011",
        4000 => "4000",
        4003 => "4003",
        4100 => "4100",
        4200 => "4200",
        4201 => "4201",
        4202 => "4202",
        4203 => "4203",
        4300 => "4300",
        4301 => "4301",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
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
        let text = metrics.render();
        for line in [
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
}
