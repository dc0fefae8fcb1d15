//! Builds a node from its settings, runs it, and takes it down again in the one drain sequence.
//!
//! Threads: the worker threads take connections and run sessions, hubs and rooms; the core thread (the caller's) runs
//! router, cluster, bus and persistence; the admin listener has a thread of its own.
//!
//! Invariant of the drain: not ready → shards handed over → sessions told to go in a spread → everything accepted is
//! written → lease given back → exit, all within `server.shutdown_s`; each step has its own bound.

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix::{Actor, Addr, Recipient};
use actix_rt::Arbiter;
use actix_server::Server;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::actors::bus::{BusActor, BusPorts};
use crate::actors::cluster::{ClusterActor, ClusterConfig, RouterPort};
use crate::actors::envelope::Envelope;
use crate::actors::hub::{Hub, HubContext};
use crate::actors::messages::{
    Describe, DrainShards, Flush, HubIndex, KnownNode, LeaveCluster, RevokedHere, ToHub, ToNode,
};
use crate::actors::persistence::{PersistenceActor, StoreGate};
use crate::actors::posts::{Peers, Posts};
use crate::actors::room::RoomContext;
use crate::actors::room::busy::Busy;
use crate::actors::room::feed::Hubs;
use crate::actors::router::{Connect, RegisterHub, RouterActor};
use crate::actors::session::rates::MessageRates;
use crate::auth::Authenticator;
use crate::blobs::Blobs;
use crate::config::{Config, StoreUrl};
use crate::domain::revoked::Revoked;
use crate::http::admin::{AdminState, Readiness};
use crate::http::api::streams::Streams;
use crate::http::api::{RevokePort, Shared};
use crate::http::attachments::Attachments;
use crate::http::overview::Overview;
use crate::http::redirect::Redirect;
use crate::http::server::{self, BindError};
use crate::http::socket::Gate;
use crate::http::tls::{self, Certificate};
use crate::ids::NodeId;
use crate::infra::loopback::LoopbackBus;
use crate::infra::postgres::{PostgresOptions, PostgresStore};
use crate::infra::redis::RedisBus;
use crate::infra::sealed::KeyRing;
use crate::infra::sqlite::SqliteStore;
use crate::jobs::{self, Jobs, cut_off, encryption, erasure, pod_deletion_cost, webhooks};
use crate::metrics::Metrics;
use crate::outgoing::before_send::BeforeSend;
use crate::ports::{ClusterBus, EncryptionLeft, MessageStore, News, NodeState, StoreError};
use crate::telemetry;
use crate::telemetry::traces::Traces;

/// How often a store that is away at the start is tried.
const STORE_AGAIN: Duration = Duration::from_millis(500);
/// How often readiness looks at store and lease.
const READINESS_EVERY: Duration = Duration::from_millis(500);
/// How long the store may be silent before the node counts as cut off from it.
const STORE_SILENCE: Duration = Duration::from_secs(2);
/// How often idle senders' rates are forgotten.
const RATES_EVERY: Duration = Duration::from_secs(60);
/// Appends under way at a time.
const LANES: usize = 2;
/// The spread of a drain for each session that has to go; bounded by most of `server.shutdown_s`.
const SPREAD_PER_SESSION: Duration = Duration::from_millis(2);

/// Why a node did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{0}")]
    Store(StoreError),
    #[error("{0}")]
    Setting(String),
    #[error("the server could not be started: {0}")]
    Server(#[from] std::io::Error),
}

/// The store that the settings name; does not connect yet.
///
/// # Errors
/// Where the file can't be opened or the address makes no sense.
pub fn store(config: &Config) -> Result<Arc<dyn MessageStore>, StartError> {
    let ring = KeyRing::new(&config.encryption).map_err(StartError::Setting)?;
    match &config.store.url {
        StoreUrl::Sqlite(path) => {
            let store = SqliteStore::open(Path::new(path)).map_err(StartError::Store)?;
            Ok(Arc::new(store.encrypting(ring)))
        }
        StoreUrl::Postgres(url) => {
            let options =
                PostgresOptions { connections: config.store.connections as u32, ..PostgresOptions::default() };
            let store = PostgresStore::connect(url.expose(), options).map_err(StartError::Store)?;
            Ok(Arc::new(store.encrypting(ring)))
        }
    }
}

fn bus(config: &Config) -> Result<Arc<dyn ClusterBus>, StartError> {
    if config.cluster.redis_url.is_empty() {
        return Ok(Arc::new(LoopbackBus::new()));
    }
    let urls: Vec<&str> = config.cluster.redis_url.urls().collect();
    let bus = RedisBus::new(&urls.join(","), &config.cluster.name).map_err(StartError::Setting)?;
    Ok(Arc::new(bus))
}

/// A run of the process is a node of its own: a restarted one is another.
fn node_id() -> NodeId {
    let id = format!("n-{:012x}", rand::random::<u64>() & 0xffff_ffff_ffff);
    NodeId::parse(&id).expect("hexadecimal digits make a node id")
}

/// Serves until SIGTERM or SIGINT, then drains. Runs on the caller's thread, inside an actix system.
///
/// # Errors
/// Where an address is taken, a setting can't be used, or the store refuses for good.
pub async fn run(config: Config) -> Result<(), StartError> {
    let public = server::bind(config.server.bind)?;
    let admin = server::bind(config.admin.bind)?;
    let redirect = config.server.redirect_bind.0.map(server::bind).transpose()?;
    let (config, metrics, node) = (Arc::new(config), Metrics::new(), node_id());
    telemetry::watch_panics(metrics.clone());
    let (store, bus) = (store(&config)?, bus(&config)?);
    tracing::info!(node.id = %node, http = %public.address, admin = %admin.address, "node.starting");

    let in_cluster = !config.cluster.redis_url.is_empty();
    let attachments = Attachments::new(&config).map_err(StartError::Setting)?;
    if in_cluster && attachments.as_ref().is_some_and(|files| files.blobs.is_folder()) {
        tracing::warn!("attachments.url is a folder: every node of the cluster must see the same one");
    }

    let busy = Arc::new(Busy::default());
    let overview = Overview::new(metrics.clone(), busy.clone());
    let traces = Traces::start(&config.traces, &node, &metrics).map_err(StartError::Setting)?;
    let watched = (metrics.clone(), busy, traces.clone());
    let core = Core::start(&config, node.clone(), store.clone(), bus.clone(), watched);
    actix_rt::spawn(overview.clone().keep());
    let readiness = Arc::new(Readiness::default());
    let (drain, drain_asked) = watch::channel(false);
    let admin_server = server::admin(
        admin,
        AdminState {
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            store: store.clone(),
            bus: in_cluster.then(|| bus.clone()),
            cluster: core.cluster.clone().recipient(),
            overview: overview.clone(),
            drain: Arc::new(move || {
                drain.send_replace(true);
            }),
        },
    )?;
    let admin_handle = admin_server.handle();
    actix_rt::spawn(admin_server);

    let mut stop = Stop { drain_asked, signalled: signals() };
    if ready_the_store(&store, &mut stop).await? {
        let auth = Authenticator::new(&config.auth, store.clone(), &metrics)
            .map_err(|e| StartError::Setting(e.to_string()))?;
        let auth = Arc::new(auth);
        core.tend_credentials(&auth, in_cluster);
        let rates = Arc::new(MessageRates::new(config.limits.messages_per_minute, config.limits.messages_burst));
        forget_idle_rates(rates.clone());
        let before_send = BeforeSend::new(&config.hooks.before_send, metrics.clone()).map_err(StartError::Setting)?;
        let context = HubContext {
            node,
            router: core.router.clone().recipient(),
            store: store.clone(),
            auth,
            rates,
            before_send: before_send.map(Arc::new),
            config: config.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
        };
        let gate = Gate::new(config.limits.connections_per_ip);
        let redirect_server = match redirect {
            Some(listener) => {
                let redirect = Redirect::new(&config.server, public.address.port());
                Some(server::redirecting(listener, redirect)?)
            }
            None => None,
        };
        let redirect_handle = redirect_server.as_ref().map(Server::handle);
        redirect_server.map(actix_rt::spawn);
        let public_server = core.serve(public, context, gate.clone(), attachments.clone())?;
        let public_handle = public_server.handle();
        actix_rt::spawn(public_server);
        core.watch_readiness(readiness.clone(), gate.clone(), in_cluster);
        let jobs = core.start_jobs(attachments.map(|files| files.blobs.clone()));
        tracing::info!("node.serving");

        stop.asked().await;
        jobs.stop();
        overview.drain_begins();
        core.drain(&readiness, &gate, Duration::from_secs(config.server.shutdown_s)).await;
        stop.signalled().await;
        core.leave().await;
        timeout(Duration::from_secs(1), public_handle.stop(false)).await.ok();
        if let Some(handle) = redirect_handle {
            timeout(Duration::from_secs(1), handle.stop(false)).await.ok();
        }
    }
    timeout(Duration::from_secs(1), admin_handle.stop(false)).await.ok();
    if let Some(traces) = traces {
        traces.finish();
    }
    tracing::info!("node.stopped");
    Ok(())
}

/// Does what is left to do for encrypted rooms, which a running node does by itself, and says how far it is.
///
/// # Errors
/// Where the store can't be reached, or a key is missing.
pub async fn rekey(config: &Config, mut say: impl FnMut(EncryptionLeft)) -> Result<(), StartError> {
    let store = store(config)?;
    store.migrate().await.map_err(StartError::Store)?;
    store.check_keys().await.map_err(StartError::Store)?;
    let mut said: Option<Instant> = None;
    loop {
        if said.is_none_or(|said| said.elapsed() >= Duration::from_secs(1)) {
            said = Some(Instant::now());
            say(store.encryption_left().await.map_err(StartError::Store)?);
        }
        if !store.encrypt_some(encryption::ENTRIES).await.map_err(StartError::Store)? {
            say(store.encryption_left().await.map_err(StartError::Store)?);
            return Ok(());
        }
    }
}

/// Runs the migrations and looks whether encrypted rooms can be read; tries again while the store is away. False: asked to
/// stop before it was done.
///
/// # Errors
/// Where a key is missing.
async fn ready_the_store(store: &Arc<dyn MessageStore>, stop: &mut Stop) -> Result<bool, StartError> {
    let mut said = false;
    loop {
        let migrated = async {
            let done = store.migrate().await?;
            Ok::<_, StoreError>((done, store.check_keys().await))
        };
        match migrated.await {
            Ok((_, Err(StoreError::Fault(what)))) => return Err(StartError::Setting(what)),
            Ok((done, checked)) => {
                if !done.is_empty() {
                    tracing::info!(migrations = ?done, "store.migrated");
                }
                if checked.is_ok() {
                    return Ok(true);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = %error, "store.away");
                }
            }
        }
        tokio::select! {
            () = sleep(STORE_AGAIN) => {}
            () = stop.signalled() => return Ok(false),
        }
    }
}

/// Users who have not sent for a while have a full bucket: they need not be remembered.
fn forget_idle_rates(rates: Arc<MessageRates>) {
    actix_rt::spawn(async move {
        loop {
            sleep(RATES_EVERY).await;
            rates.sweep();
        }
    });
}

/// What ends a node: a signal, or (for the drain alone) the admin listener.
struct Stop {
    drain_asked: watch::Receiver<bool>,
    signalled: watch::Receiver<bool>,
}

impl Stop {
    /// A drain is wanted.
    async fn asked(&mut self) {
        let (drain, signal) = (&mut self.drain_asked, &mut self.signalled);
        tokio::select! {
            _ = drain.wait_for(|asked| *asked) => {}
            _ = signal.wait_for(|asked| *asked) => {}
        }
    }

    /// The process is to end.
    async fn signalled(&mut self) {
        if self.signalled.wait_for(|asked| *asked).await.is_err() {
            // Signals can't be listened to: only a kill ends the process.
            std::future::pending::<()>().await;
        }
    }
}

fn signals() -> watch::Receiver<bool> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tell, told) = watch::channel(false);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let tell = tell.clone();
                actix_rt::spawn(async move {
                    signals.recv().await;
                    tracing::info!("node.signalled");
                    tell.send_replace(true);
                });
            }
            Err(error) => tracing::error!(error = %error, "signals can't be listened to"),
        }
    }
    told
}

/// The actors of the core thread.
struct Core {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    node: NodeId,
    store: Arc<dyn MessageStore>,
    hubs: Hubs,
    router: Addr<RouterActor>,
    cluster: Addr<ClusterActor>,
    persistence: Addr<PersistenceActor>,
    to_nodes: Recipient<ToNode>,
    posts: Arc<Posts>,
    gate: StoreGate,
    /// Rooms with entries that webhooks may have to be told of.
    webhook_news: News,
}

impl Core {
    fn start(
        config: &Arc<Config>,
        node: NodeId,
        store: Arc<dyn MessageStore>,
        bus: Arc<dyn ClusterBus>,
        (metrics, busy, traces): (Arc<Metrics>, Arc<Busy>, Option<Arc<Traces>>),
    ) -> Self {
        let hubs: Hubs = Arc::new(RwLock::new(Vec::new()));
        let gate = StoreGate::default();
        let webhook_news = News::default();
        let persistence = PersistenceActor::new(store.clone(), gate.clone(), LANES, metrics.clone())
            .telling(webhook_news.clone())
            .traced(traces.clone())
            .start();
        let router = RouterActor::new(hubs.clone()).start();
        let ports = RouterPort {
            owners: router.clone().recipient(),
            lost: router.clone().recipient(),
            release: router.clone().recipient(),
        };
        let peers = Peers::default();
        let lease = Duration::from_millis(config.cluster.lease_ms);
        let cluster =
            ClusterActor::new(ClusterConfig { node: node.clone(), lease }, bus.clone(), ports, metrics.clone())
                .telling(peers.clone())
                .balancing(config.cluster.rebalance_per_minute, hubs.clone())
                .start();
        let bus_ports = BusPorts {
            frames: router.clone().recipient(),
            broken: router.clone().recipient(),
            news: cluster.clone().recipient(),
        };
        let links = BusActor::new(node.clone(), bus.clone(), bus_ports, metrics.clone()).start_with_inbox();
        let to_nodes: Recipient<ToNode> = links.clone().recipient();
        let posts = Posts::new(node.clone(), hubs.clone(), peers, to_nodes.clone(), metrics.clone());
        let rooms = RoomContext {
            node: node.clone(),
            store: store.clone(),
            gate: gate.clone(),
            hubs: hubs.clone(),
            append: persistence.clone().recipient(),
            marks: persistence.clone().recipient(),
            bus: to_nodes.clone(),
            news: router.clone().recipient(),
            metrics: metrics.clone(),
            busy,
            traces,
        };
        router.do_send(Connect {
            rooms: Arc::new(rooms),
            released: cluster.clone().recipient(),
            lost: links.recipient(),
            posts: posts.clone(),
        });
        Self {
            config: config.clone(),
            metrics,
            node,
            store,
            hubs,
            router,
            cluster,
            persistence,
            to_nodes,
            posts,
            gate,
            webhook_news,
        }
    }
}

impl Core {
    /// Starts the worker threads; each registers its hub with the router before it takes a connection.
    fn serve(
        &self,
        listener: server::Listener,
        context: HubContext,
        gate: Arc<Gate>,
        attachments: Option<Arc<Attachments>>,
    ) -> Result<Server, StartError> {
        let shared = Shared::new(&self.config, self.revoke_port());
        if let Some(attachments) = attachments {
            shared.serve_attachments(attachments);
        }
        shared.serve_streams(Streams { gate: gate.clone(), posts: self.posts.clone() });
        let (router, next) = (self.router.clone(), Arc::new(AtomicU16::new(0)));
        let start_worker = Arc::new(move || {
            let index = HubIndex(next.fetch_add(1, Ordering::Relaxed));
            let (recipient, hub) = Hub::start(index, context.clone());
            router.do_send(RegisterHub { index, hub: recipient, arbiter: Arbiter::current() });
            hub
        });
        let workers = match self.config.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        Ok(server::public(listener, workers, shared, gate, start_worker, self.tls()?)?)
    }

    /// Makes TLS sessions, where the settings name a certificate; from here on its files are watched.
    fn tls(&self) -> Result<Option<TlsAcceptor>, StartError> {
        let setting = |error: &dyn std::fmt::Display| StartError::Setting(error.to_string());
        let Some(certificate) = Certificate::load(&self.config.server.tls).map_err(|error| setting(&error))? else {
            return Ok(None);
        };
        actix_rt::spawn(certificate.clone().watch(self.metrics.clone()));
        tls::acceptor(certificate).map(Some).map_err(|error| setting(&error))
    }

    /// Starts the work that belongs to no request.
    fn start_jobs(&self, blobs: Option<Blobs>) -> jobs::Running {
        let (jobs, running) = Jobs::new(self.node.clone(), self.store.clone(), self.metrics.clone());
        jobs::backups::start(&jobs, &self.metrics);
        jobs::credentials::sweep(&jobs);
        jobs.start_expiry();
        if self.config.search.enabled {
            jobs::indexer::start(&jobs, &self.metrics);
        }
        jobs.start("erasure", erasure::EVERY, erasure::step);
        jobs.start("encryption", encryption::EVERY, encryption::step);
        let router = self.router.clone();
        let tell = move |revoked| router.do_send(RevokedHere { revoked, at: std::time::Instant::now() });
        cut_off::start(self.store.clone(), tell, jobs.stopping());
        let server = pod_deletion_cost::ApiServer::of_environment();
        let every = pod_deletion_cost::EVERY;
        pod_deletion_cost::start(&self.config.kubernetes, server, &self.metrics, every, jobs.stopping());
        webhooks::start(&jobs, &self.config.webhooks, self.webhook_news.clone());
        if let Some(blobs) = blobs {
            jobs::attachments::start(&jobs, blobs, Duration::from_secs(self.config.attachments.unreferenced_s));
        }
        running
    }

    /// Starts what each node does for its own credentials.
    fn tend_credentials(&self, auth: &Arc<Authenticator>, in_cluster: bool) {
        actix_rt::spawn(jobs::credentials::write_seen(auth.clone(), self.store.clone()));
        if !in_cluster {
            auth.stands_alone();
            return;
        }
        let hubs = self.hubs.clone();
        let tell = move |revoked: Revoked, at| {
            for hub in hubs.read().iter().flat_map(|hubs| hubs.iter()).flatten() {
                hub.do_send(ToHub::Revoked { revoked: revoked.clone(), at });
            }
        };
        actix_rt::spawn(jobs::credentials::watch_revoked(auth.clone(), self.store.clone(), tell));
    }

    /// Tells this node's and every other node's hubs that something was revoked.
    fn revoke_port(&self) -> RevokePort {
        let (router, cluster, to_nodes) = (self.router.clone(), self.cluster.clone(), self.to_nodes.clone());
        let node = self.node.clone();
        Arc::new(move |revoked: Revoked| {
            router.do_send(RevokedHere { revoked: revoked.clone(), at: std::time::Instant::now() });
            let (cluster, to_nodes, node) = (cluster.clone(), to_nodes.clone(), node.clone());
            actix_rt::spawn(async move {
                let Ok(status) = cluster.send(Describe).await else { return };
                let envelope = Envelope::Revoked(revoked).encode();
                for KnownNode { record, alive, .. } in status.nodes {
                    if alive && record.id != node {
                        to_nodes.do_send(ToNode { node: record.id, envelope: envelope.clone() });
                    }
                }
            });
        })
    }

    /// Keeps readiness true to the store and, in a cluster, to the lease.
    fn watch_readiness(&self, readiness: Arc<Readiness>, gate: Arc<Gate>, in_cluster: bool) {
        let (store, cluster, store_gate, metrics) =
            (self.store.clone(), self.cluster.clone(), self.gate.clone(), self.metrics.clone());
        actix_rt::spawn(async move {
            let mut answered = Instant::now();
            let mut starting = true;
            loop {
                if matches!(timeout(STORE_SILENCE, store.ping()).await, Ok(Ok(()))) {
                    answered = Instant::now();
                }
                let lost = !store_gate.is_open() || answered.elapsed() > STORE_SILENCE;
                readiness.set_store_lost(lost);
                metrics.store_up.set(i64::from(!lost));
                if let Ok(status) = cluster.send(Describe).await {
                    readiness.set_redis_lost(in_cluster && !status.leased);
                    if starting && status.state != NodeState::Starting {
                        starting = false;
                        readiness.started();
                        gate.set_open(true);
                        tracing::info!("node.ready");
                    }
                }
                metrics.ready.set(i64::from(readiness.reasons().is_empty()));
                sleep(if starting { READINESS_EVERY / 10 } else { READINESS_EVERY }).await;
            }
        });
    }

    /// The drain, as far as it goes without the end of the process. Takes at most about four fifths of `within`.
    async fn drain(&self, readiness: &Readiness, gate: &Gate, within: Duration) {
        let began = Instant::now();
        readiness.draining();
        gate.set_open(false);
        self.metrics.ready.set(0);
        let sessions = self.metrics.sessions.get().max(0) as u32;
        tracing::info!(sessions, "drain.began");
        if timeout(within.mul_f32(0.3), self.cluster.send(DrainShards)).await.is_err() {
            tracing::warn!("drain.shards.unfinished");
        }
        let handed_over = began.elapsed();
        let spread = (SPREAD_PER_SESSION * sessions).min(within.mul_f32(0.4));
        for hub in self.hubs.read().iter().flat_map(|hubs| hubs.iter()).flatten() {
            hub.do_send(ToHub::Drain { over_ms: spread.as_millis() as u64 });
        }
        let patience = Instant::now() + spread + within.mul_f32(0.1);
        while self.metrics.sessions.get() > 0 && Instant::now() < patience {
            sleep(Duration::from_millis(20)).await;
        }
        if timeout(within.mul_f32(0.1), self.persistence.send(Flush)).await.is_err() {
            tracing::warn!("drain.flush.unfinished");
        }
        tracing::info!(
            shards_ms = handed_over.as_millis() as u64,
            total_ms = began.elapsed().as_millis() as u64,
            left = self.metrics.sessions.get(),
            "drain.ended"
        );
    }

    async fn leave(&self) {
        if timeout(Duration::from_secs(1), self.cluster.send(LeaveCluster)).await.is_err() {
            tracing::warn!("the lease could not be given back; it runs out by itself");
        }
    }
}
