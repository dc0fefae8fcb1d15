//! Group commit: takes every room's waiting append the moment a lane is free and makes one transaction of them. No timer:
//! at low load a lane is always free, at high load batches grow by themselves.
//!
//! Invariants: a room has one append here at a time (its own rule), so lanes never reorder a room. Every append is
//! answered within [`COMMIT_TIMEOUT`]. While the store is away the gate is shut: what comes is refused at once, until a
//! probe finds the store again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};

use crate::actors::messages::{Append, AppendDone, Flush, ReadMark};
use crate::ids::{RoomId, Seq, UserId};
use crate::limits::COMMIT_ITEMS;
use crate::metrics::Metrics;
use crate::ports::{Appended, MessageStore, News, Outcome, RoomNo, StoreError};
use crate::telemetry::traces::{Said, Span, Traces};

/// After this an append counts as in doubt.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);
/// How often an unreachable store is tried.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// How long read marks gather.
const MARKS_EVERY: Duration = Duration::from_millis(500);
/// Read marks that wait at most; at the bound they are written at once, and while the store is away the newest are
/// dropped (a reader's next mark makes good for it).
const MARKS_WAITING: usize = 50_000;

/// Whether the store answers; shared with the rooms, so that they refuse at once while it does not.
#[derive(Clone, Debug)]
pub struct StoreGate(Arc<AtomicBool>);

impl Default for StoreGate {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl StoreGate {
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, open: bool) -> bool {
        self.0.swap(open, Ordering::Relaxed)
    }
}

pub struct PersistenceActor {
    store: Arc<dyn MessageStore>,
    gate: StoreGate,
    metrics: Arc<Metrics>,
    /// Each with when it came.
    waiting: VecDeque<(Instant, Append)>,
    waiting_items: usize,
    /// When the oldest append of each batch under way came.
    under_way: Vec<Instant>,
    lanes: usize,
    marks: HashMap<(RoomId, UserId), Seq>,
    writing_marks: bool,
    flushes: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Who is told of the rooms that got entries.
    news: Vec<News>,
    traces: Option<Arc<Traces>>,
}

impl PersistenceActor {
    /// `lanes`: transactions under way at a time.
    pub fn new(store: Arc<dyn MessageStore>, gate: StoreGate, lanes: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            gate,
            metrics,
            waiting: VecDeque::new(),
            waiting_items: 0,
            under_way: Vec::with_capacity(lanes),
            lanes,
            marks: HashMap::new(),
            writing_marks: false,
            flushes: Vec::new(),
            news: Vec::new(),
            traces: None,
        }
    }

    /// Commits of requests that are traced are told of there.
    pub fn traced(mut self, traces: Option<Arc<Traces>>) -> Self {
        self.traces = traces;
        self
    }

    /// The rooms that get entries are noted there from now on.
    pub fn telling(mut self, news: News) -> Self {
        self.news.push(news);
        self
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while self.under_way.len() < self.lanes
            && let Some(&(oldest, _)) = self.waiting.front()
        {
            let (mut items, mut appends, mut replies, mut traced) = (0, Vec::new(), Vec::new(), Vec::new());
            while items < COMMIT_ITEMS
                && let Some((_, next)) = self.waiting.pop_front()
            {
                items += next.append.items.len();
                traced.extend(next.traced);
                replies.push((next.append.no, next.reply));
                appends.push(next.append);
            }
            self.waiting_items -= items;
            self.under_way.push(oldest);
            let rooms = appends.len();
            let span = traced.first().map(|first| Span::under(*first, false));
            let (store, began) = (self.store.clone(), Instant::now());
            let commit = async move {
                match tokio::time::timeout(COMMIT_TIMEOUT, store.append(appends)).await {
                    Ok(result) => result,
                    Err(_) => Err(StoreError::Unavailable("no answer to an append in time".into())),
                }
            };
            ctx.spawn(commit.into_actor(self).map(move |result, actor, ctx| {
                if let Some(at) = actor.under_way.iter().position(|came| *came == oldest) {
                    actor.under_way.swap_remove(at);
                }
                actor.metrics.committed(rooms, items, began.elapsed());
                if let (Some(span), Some(traces)) = (span, &actor.traces) {
                    let failed = result.is_err().then_some(Said::Failed);
                    let said: Vec<_> = [Some(Said::Batch(rooms, items)), failed].into_iter().flatten().collect();
                    traces.end_batch(&span, &traced[1..], &said);
                }
                actor.answer(replies, result, ctx);
                actor.pump(ctx);
                actor.settle_flushes();
            }));
        }
        self.tell_what_waits();
    }

    fn tell_what_waits(&self) {
        let came = self.under_way.iter().chain(self.waiting.front().map(|(came, _)| came));
        self.metrics.commits_wait(self.waiting_items, came.min().copied());
    }

    fn answer(
        &mut self,
        replies: Vec<(RoomNo, actix::Recipient<AppendDone>)>,
        result: Result<Vec<Appended>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        match result {
            Ok(results) => {
                self.tell(replies.iter().map(|(room, _)| *room).zip(&results));
                for ((_, reply), appended) in replies.into_iter().zip(results) {
                    if appended == Appended::Fenced {
                        self.metrics.fences.inc();
                    }
                    reply.do_send(AppendDone(Ok(appended)));
                }
            }
            Err(error) => {
                self.metrics.store_errors.inc();
                if let StoreError::Unavailable(_) = &error {
                    self.shut(&error, ctx);
                } else {
                    tracing::error!(error = %error, "store.append.failed");
                }
                for (_, reply) in replies {
                    reply.do_send(AppendDone(Err(error.clone())));
                }
            }
        }
    }

    fn tell<'a>(&self, done: impl Iterator<Item = (RoomNo, &'a Appended)> + Clone) {
        let grew = |appended: &Appended| match appended {
            Appended::Done(outcomes) => outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended { .. })),
            Appended::Fenced => false,
        };
        for news in &self.news {
            news.note(done.clone().filter(|(_, appended)| grew(appended)).map(|(room, _)| room));
        }
    }

    /// Refuses everything that waits and probes until the store answers.
    fn shut(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if self.gate.set(false) {
            tracing::warn!(error = %error, waiting = self.waiting.len(), "store.away");
            self.probe(ctx);
        }
        self.waiting_items = 0;
        for (_, append) in self.waiting.drain(..) {
            append.reply.do_send(AppendDone(Err(error.clone())));
        }
    }

    fn probe(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let probe = async move {
            tokio::time::sleep(PROBE_EVERY).await;
            tokio::time::timeout(COMMIT_TIMEOUT, store.ping()).await
        };
        ctx.spawn(probe.into_actor(self).map(|result, actor, ctx| match result {
            Ok(Ok(())) => {
                actor.gate.set(true);
                tracing::info!("store.back");
            }
            _ => actor.probe(ctx),
        }));
    }

    fn write_marks(&mut self, ctx: &mut Context<Self>) {
        if self.writing_marks || self.marks.is_empty() || !self.gate.is_open() {
            return;
        }
        self.writing_marks = true;
        let marks: Vec<_> = self.marks.drain().map(|((room, user), seq)| (room, user, seq)).collect();
        let store = self.store.clone();
        let write = async move {
            let result = tokio::time::timeout(COMMIT_TIMEOUT, store.raise_read_marks(&marks)).await;
            (marks, matches!(result, Ok(Ok(()))))
        };
        ctx.spawn(write.into_actor(self).map(|(marks, written), actor, _| {
            actor.writing_marks = false;
            if !written {
                actor.metrics.store_errors.inc();
                marks.into_iter().for_each(|(room, user, seq)| actor.note(room, user, seq));
            }
            actor.settle_flushes();
        }));
    }

    fn note(&mut self, room: RoomId, user: UserId, seq: Seq) {
        let known = self.marks.len();
        match self.marks.entry((room, user)) {
            std::collections::hash_map::Entry::Occupied(mut mark) => {
                let seq = seq.max(*mark.get());
                mark.insert(seq);
            }
            std::collections::hash_map::Entry::Vacant(mark) if known < MARKS_WAITING => {
                mark.insert(seq);
            }
            std::collections::hash_map::Entry::Vacant(_) => self.metrics.hints_dropped.inc(),
        }
    }

    fn settle_flushes(&mut self) {
        let idle = self.waiting.is_empty() && self.under_way.is_empty();
        if idle && !self.writing_marks && (self.marks.is_empty() || !self.gate.is_open()) {
            for flush in self.flushes.drain(..) {
                // Whoever asked may be gone.
                let _ = flush.send(());
            }
        }
    }
}

impl Actor for PersistenceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4_096);
        ctx.run_interval(MARKS_EVERY, |actor, ctx| {
            actor.write_marks(ctx);
            actor.settle_flushes();
        });
    }
}

impl Handler<Append> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Self::Context) {
        if !self.gate.is_open() {
            append.reply.do_send(AppendDone(Err(StoreError::Unavailable("away".into()))));
            return;
        }
        self.waiting_items += append.append.items.len();
        self.waiting.push_back((Instant::now(), append));
        // Later in this turn of the loop: what else is in the mailbox goes into the same transaction.
        if self.waiting.len() == 1 {
            ctx.spawn(async {}.into_actor(self).map(|(), actor, ctx| actor.pump(ctx)));
        } else {
            self.tell_what_waits();
        }
    }
}

impl Handler<ReadMark> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, mark: ReadMark, ctx: &mut Self::Context) {
        self.note(mark.room, mark.user, mark.seq);
        if self.marks.len() >= MARKS_WAITING {
            self.write_marks(ctx);
        }
    }
}

impl Handler<Flush> for PersistenceActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) -> Self::Result {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.flushes.push(done);
        self.write_marks(ctx);
        self.settle_flushes();
        Box::pin(async move {
            // The actor is gone: so is what it held.
            let _ = wait.await;
        })
    }
}
