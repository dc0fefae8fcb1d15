//! Traces: what a sampled request did, from the session or the HTTP call through the room to the store, and on other nodes.
//!
//! Invariants: whether a request is traced is decided once, where it comes in; what is not traced costs one branch a place.
//! A span holds [`Said`] and times, nothing else, so no text, token, name or address can get into one. Nothing waits for
//! a collector: [`export`] holds a bounded number of spans and drops what is beyond.

mod export;

use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use self::export::Export;
use crate::config;
use crate::domain::trace::{Parent, TraceContext};
use crate::ids::{NodeId, RoomId, Seq};
use crate::metrics::Metrics;
use crate::refusal::Code;

/// Requests of one commit that its span names at most.
const LINKS: usize = 32;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An HTTP call, to its answer.
    Http,
    /// A message over a WebSocket or stream, from the session to its answer.
    SessionSend,
    /// In the room that owns the log: the wait for its turn, the judgement, and the commit.
    RoomAppend,
    /// In the mirror of a room: to the owner and back.
    BusForward,
    /// One transaction of many rooms.
    PersistenceBatch,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http.request",
            Self::SessionSend => "session.send",
            Self::RoomAppend => "room.append",
            Self::BusForward => "bus.forward",
            Self::PersistenceBatch => "persistence.batch",
        }
    }

    fn kind(self) -> SpanKind {
        match self {
            Self::Http | Self::SessionSend => SpanKind::Server,
            Self::RoomAppend => SpanKind::Internal,
            Self::BusForward | Self::PersistenceBatch => SpanKind::Client,
        }
    }
}

/// All that a span can say.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    Room(&'a RoomId),
    Seq(Seq),
    /// Whose room it is, as the mirror knows it.
    Owner(&'a NodeId),
    Refused(Code),
    /// Rooms and entries of a commit.
    Batch(usize, usize),
    /// It failed here, by no fault of the caller's.
    Failed,
    /// One of the methods that HTTP defines, or `_OTHER`: a client can make up any word.
    Method(&'static str),
    /// The pattern that the path fits, not the path.
    Route(&'a str),
    Status(u16),
}

/// A span that has begun. One that is dropped was never told of.
#[derive(Debug)]
pub struct Span {
    pub context: TraceContext,
    parent: Option<NonZeroU64>,
    /// The parent is of another process.
    remote: bool,
    began: SystemTime,
}

impl Span {
    fn new(trace: NonZeroU128, parent: Option<NonZeroU64>, remote: bool) -> Box<Self> {
        let span = NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN);
        Box::new(Self { context: TraceContext { trace, span }, parent, remote, began: SystemTime::now() })
    }

    fn root() -> Box<Self> {
        Self::new(NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN), None, false)
    }

    /// `remote`: the parent is of another process.
    pub fn under(parent: TraceContext, remote: bool) -> Box<Self> {
        Self::new(parent.trace, Some(parent.span), remote)
    }
}

/// The trace of the HTTP call that is being answered, where it is traced.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Answers an HTTP call that is traced.
pub async fn within<F: Future>(context: TraceContext, answering: F) -> F::Output {
    CURRENT.scope(context, answering).await
}

/// Where spans of this node go.
pub struct Traces {
    export: Export,
    scope: InstrumentationScope,
    node: NodeId,
    /// Of 2^64 requests so many are traced.
    sampled: u128,
}

impl Traces {
    /// `None`: traces are off.
    ///
    /// # Errors
    /// Where what sends them can't be made.
    pub fn start(settings: &config::Traces, node: &NodeId, metrics: &Metrics) -> Result<Option<Arc<Self>>, String> {
        if settings.otlp_url.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            export: Export::start(settings, node, metrics)?,
            scope: InstrumentationScope::builder("roundtable").with_version(env!("CARGO_PKG_VERSION")).build(),
            node: node.clone(),
            // Exact for 0 and for 1.
            sampled: (settings.sample * (u64::MAX as f64 + 1.0)) as u128,
        })))
    }

    fn sample(&self) -> bool {
        u128::from(rand::random::<u64>()) < self.sampled
    }

    /// Decides about a request that comes in.
    pub fn root(&self) -> Option<Box<Span>> {
        self.sample().then(Span::root)
    }

    /// Decides about a request whose caller may have decided already.
    pub fn continued(&self, traceparent: Option<&str>) -> Option<Box<Span>> {
        match traceparent.and_then(Parent::parse) {
            Some(Parent::Sampled(parent)) => Some(Span::under(parent, true)),
            Some(Parent::NotSampled) => None,
            None => self.root(),
        }
    }

    /// A commit for these requests: it is of the trace of the first, and names the others.
    pub fn end_batch(&self, span: &Span, others: &[TraceContext], said: &[Said<'_>]) {
        let mut links = SpanLinks::default();
        links.links.extend(others.iter().take(LINKS).map(|other| Link::with_context(context(*other, false))));
        links.dropped_count = u32::try_from(others.len().saturating_sub(LINKS)).unwrap_or(u32::MAX);
        self.tell(span, Step::PersistenceBatch, said, links);
    }

    pub fn end(&self, span: &Span, step: Step, said: &[Said<'_>]) {
        self.tell(span, step, said, SpanLinks::default());
    }

    fn tell(&self, span: &Span, step: Step, said: &[Said<'_>], links: SpanLinks) {
        let mut attributes = Vec::with_capacity(said.len() + 2);
        attributes.push(KeyValue::new("node.id", self.node.as_str().to_owned()));
        let mut status = Status::Unset;
        for one in said {
            if matches!(one, Said::Failed | Said::Refused(Code::Internal) | Said::Status(500..)) {
                status = Status::error("");
            }
            attributes_of(*one, &mut attributes);
        }
        self.export.take(SpanData {
            span_context: context(span.context, false),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.get())),
            parent_span_is_remote: span.remote,
            span_kind: step.kind(),
            name: step.name().into(),
            start_time: span.began,
            // The clock may have been set back meanwhile.
            end_time: SystemTime::now().max(span.began),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what waits, for a bounded time. Blocks.
    pub fn finish(&self) {
        self.export.finish();
    }
}

fn context(of: TraceContext, remote: bool) -> SpanContext {
    let (trace, span) = (TraceId::from(of.trace.get()), SpanId::from(of.span.get()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, remote, TraceState::NONE)
}

fn attributes_of(said: Said<'_>, to: &mut Vec<KeyValue>) {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match said {
        Said::Room(room) => to.push(KeyValue::new("room.id", room.as_str().to_owned())),
        Said::Seq(seq) => to.push(KeyValue::new("seq", number(seq))),
        Said::Owner(node) => to.push(KeyValue::new("owner.id", node.as_str().to_owned())),
        Said::Refused(code) => to.push(KeyValue::new("refused", code.as_str())),
        Said::Batch(rooms, entries) => {
            to.push(KeyValue::new("rooms", number(rooms as u64)));
            to.push(KeyValue::new("entries", number(entries as u64)));
        }
        Said::Failed => {}
        Said::Method(method) => to.push(KeyValue::new("http.request.method", method)),
        Said::Route(route) => to.push(KeyValue::new("http.route", route.to_owned())),
        Said::Status(status) => to.push(KeyValue::new("http.response.status_code", i64::from(status))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::export::WAITING;
    use super::*;

    #[test]
    fn what_a_silent_collector_leaves_is_bounded_and_so_is_the_wait_for_it() {
        // Connections are taken by the system, and nobody answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let otlp_url = format!("http://{}/v1/traces", silent.local_addr().expect("bound"));
        let settings = config::Traces { otlp_url, sample: 1.0, ..config::Traces::default() };
        let (node, metrics) = (NodeId::parse("n-1").expect("valid"), Metrics::new());
        let traces = Traces::start(&settings, &node, &metrics).expect("settings that are fine").expect("on");
        let span = traces.root().expect("all are sampled");
        for _ in 0..WAITING + 100 {
            traces.end(&span, Step::SessionSend, &[Said::Seq(1)]);
        }
        assert_eq!(metrics.traces_dropped.get(), 100);
        let began = Instant::now();
        traces.finish();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }

    #[test]
    fn samples_are_about_what_is_wanted() {
        let of_a_thousand = |sample| {
            let settings = config::Traces {
                otlp_url: "http://127.0.0.1:9/v1/traces".to_owned(),
                sample,
                ..config::Traces::default()
            };
            let (node, metrics) = (NodeId::parse("n-1").expect("valid"), Metrics::new());
            let traces = Traces::start(&settings, &node, &metrics).expect("settings that are fine").expect("on");
            (0..1_000).filter(|_| traces.root().is_some()).count()
        };
        assert_eq!((of_a_thousand(0.0), of_a_thousand(1.0)), (0, 1_000));
        // Twelve times the standard deviation.
        assert!((300..700).contains(&of_a_thousand(0.5)));
    }
}
