//! Brings spans to a collector over OTLP/HTTP, from a thread of its own.
//!
//! Invariants: at most [`WAITING`] spans wait or are on their way; those beyond, and those that the collector did not take,
//! are dropped and counted. Nothing but [`Export::finish`] waits for the collector, and that for [`FLUSH`] at most.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor};
use prometheus::IntCounter;
use reqwest::redirect::Policy;

use crate::config;
use crate::ids::NodeId;
use crate::metrics::Metrics;

/// Spans that wait for the collector, or are on their way to it.
pub(super) const WAITING: usize = 4_096;
/// Spans of one request to it.
const BATCH: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_secs(1);
/// How long one request may take.
const SEND: Duration = Duration::from_secs(5);
/// How long the end of the process waits for spans that have not left.
const FLUSH: Duration = Duration::from_secs(2);
/// What of a collector's answer is read.
const ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct Export {
    processor: Arc<BatchSpanProcessor>,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

impl Export {
    pub(super) fn start(settings: &config::Traces, node: &NodeId, metrics: &Metrics) -> Result<Self, String> {
        let otlp = Otlp::builder()
            .with_http()
            .with_http_client(Posting::new()?)
            .with_endpoint(&settings.otlp_url)
            .with_headers(settings.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            .with_timeout(SEND)
            // What a collector does not take is lost: a queue that stands still would lose what comes behind it.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| format!("traces.otlp_url: {error}"))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let (sent, dropped) = (metrics.traces_sent.clone(), metrics.traces_dropped.clone());
        let away = AtomicBool::new(false);
        let counting = Counting { otlp, waiting: waiting.clone(), sent, dropped: dropped.clone(), away };
        let config = BatchConfigBuilder::default()
            // Never full: fewer are let in.
            .with_max_queue_size(WAITING + BATCH)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let mut processor = BatchSpanProcessor::builder(counting).with_batch_config(config).build();
        // Nothing that the library finds out about the machine.
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", node.as_str().to_owned()),
            ])
            .build();
        processor.set_resource(&resource);
        Ok(Self { processor: Arc::new(processor), waiting, dropped })
    }

    pub(super) fn take(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
            return;
        }
        self.processor.on_end(span);
    }

    pub(super) fn finish(&self) {
        let (done, finished) = mpsc::channel();
        let processor = self.processor.clone();
        // A thread that may stay behind: asking to shut down waits where a request is under way.
        thread::spawn(move || {
            let _ = processor.shutdown_with_timeout(FLUSH);
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(FLUSH);
    }
}

/// Counts what is lost, and says once when the collector goes away and when it is back.
#[derive(Debug)]
struct Counting {
    otlp: Otlp,
    waiting: Arc<AtomicUsize>,
    sent: IntCounter,
    dropped: IntCounter,
    away: AtomicBool,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if result.is_err() {
            self.dropped.inc_by(spans as u64);
        } else {
            self.sent.inc_by(spans as u64);
        }
        if self.away.swap(result.is_err(), Ordering::Relaxed) != result.is_err() {
            match &result {
                // What it says may hold the address, and what the collector answered.
                Err(_) => tracing::warn!(spans, "traces.collector.away"),
                Ok(()) => tracing::info!("traces.collector.back"),
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// The reqwest of the house. The library's thread has no runtime, so this brings one.
struct Posting {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Posting {
    fn new() -> Result<Self, String> {
        // Does nothing where another part was first.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(SEND).redirect(Policy::none()).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            runtime: runtime.map_err(|error| error.to_string())?,
        })
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.client.execute(request.try_into()?).await?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if body.len() + part.len() > ANSWER_BYTES {
                return Err("the collector's answer is too long".into());
            }
            body.extend_from_slice(&part);
        }
        Ok(Response::builder().status(status).body(body.into())?)
    }
}

impl fmt::Debug for Posting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Posting")
    }
}

#[async_trait]
impl HttpClient for Posting {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // Only ever called by the library's own thread, which waits for this and has nothing else to do.
        self.runtime.block_on(self.post(request))
    }
}
