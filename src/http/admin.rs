//! The admin listener: health, readiness, metrics, the cluster as this node sees it, drain, and a page that shows it all. Not for
//! the public.
//!
//! Invariant: `/livez` and `/readyz` wait for nothing, so that a probe is answered whatever is away; `/health` asks the
//! store and Redis, each for at most [`CHECK_WAIT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::Recipient;
use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;

use super::overview::{self, Overview};
use super::problem::{Answer, Problem, not_allowed};
use super::query::Query;
use super::{operator, security};
use crate::actors::messages::{ClusterStatus, Describe, KnownNode};
use crate::ids::{RoomId, ShardId};
use crate::metrics::Metrics;
use crate::ports::{ClusterBus, MessageStore, NodeState};
use crate::refusal::Refusal;

/// Longest wait for one check of `/health`, and for the cluster's description.
const CHECK_WAIT: Duration = Duration::from_secs(2);

/// Whether this node should get traffic. Set by startup and by those who notice, read by `/readyz`.
#[derive(Debug)]
pub struct Readiness {
    starting: AtomicBool,
    draining: AtomicBool,
    store_lost: AtomicBool,
    /// In a cluster: cut off from Redis for longer than the lease.
    redis_lost: AtomicBool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            starting: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            store_lost: AtomicBool::new(false),
            redis_lost: AtomicBool::new(false),
        }
    }
}

impl Readiness {
    /// Migrations are run and the listeners are open.
    pub fn started(&self) {
        self.starting.store(false, Ordering::Relaxed);
    }

    /// Not undone.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn set_store_lost(&self, lost: bool) {
        self.store_lost.store(lost, Ordering::Relaxed);
    }

    pub fn set_redis_lost(&self, lost: bool) {
        self.redis_lost.store(lost, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Why this node should get no traffic; empty: ready.
    pub fn reasons(&self) -> Vec<&'static str> {
        [
            (&self.starting, "starting"),
            (&self.draining, "draining"),
            (&self.store_lost, "cut off from the store"),
            (&self.redis_lost, "cut off from Redis for longer than the lease"),
        ]
        .into_iter()
        .filter_map(|(flag, reason)| flag.load(Ordering::Relaxed).then_some(reason))
        .collect()
    }
}

/// What the admin listener shows and may set off.
#[derive(Clone)]
pub struct AdminState {
    pub readiness: Arc<Readiness>,
    pub metrics: Arc<Metrics>,
    pub store: Arc<dyn MessageStore>,
    /// In a cluster.
    pub bus: Option<Arc<dyn ClusterBus>>,
    pub cluster: Recipient<Describe>,
    pub overview: Arc<Overview>,
    /// Starts the drain and returns at once; called again it does nothing more.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

/// The routes, with the security headers around them.
pub fn routes(state: AdminState) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        let page = operator::addresses().fold(web::scope(""), |scope, address| {
            let file = web::resource(address).get(operator::file).head(operator::file);
            scope.service(file.default_service(not_allowed("GET, HEAD")))
        });
        config.app_data(Data::new(state)).service(
            page.wrap(from_fn(|request, next| security::around(None, false, request, next)))
                .service(web::resource("/livez").get(livez).head(livez).default_service(not_allowed("GET, HEAD")))
                .service(web::resource("/readyz").get(readyz).head(readyz).default_service(not_allowed("GET, HEAD")))
                .service(web::resource("/health").get(health).default_service(not_allowed("GET")))
                .service(web::resource("/metrics").get(metrics).default_service(not_allowed("GET")))
                .service(web::resource("/cluster").get(cluster).default_service(not_allowed("GET")))
                .service(web::resource("/overview").get(overview::overview).default_service(not_allowed("GET")))
                .service(web::resource("/drain").post(drain).default_service(not_allowed("POST")))
                .default_service(web::to(|| async {
                    Problem::from(Refusal::not_found(
                        "the admin listener has /, /livez, /readyz, /health, /metrics, /cluster, /overview and /drain",
                    ))
                    .response()
                })),
        );
    }
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

async fn readyz(state: Data<AdminState>) -> HttpResponse {
    let reasons = state.readiness.reasons();
    if reasons.is_empty() {
        HttpResponse::Ok().json(json!({"status": "ready"}))
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "1"))
            .json(json!({"status": "not ready", "reasons": reasons}))
    }
}

#[derive(Serialize)]
pub(super) struct Check {
    status: &'static str,
    latency_ms: f64,
}

/// Times one question to something this node needs.
pub(super) async fn check<E: std::fmt::Display>(name: &str, question: impl Future<Output = Result<(), E>>) -> Check {
    let start = Instant::now();
    let status = match tokio::time::timeout(CHECK_WAIT, question).await {
        Ok(Ok(())) => "ok",
        Ok(Err(error)) => {
            tracing::debug!(check = name, error = %error, "a health check failed");
            "failed"
        }
        Err(_) => "timeout",
    };
    Check { status, latency_ms: (start.elapsed().as_secs_f64() * 1e6).round() / 1e3 }
}

/// Always 200: this is for people and dashboards; `/readyz` is what routes traffic.
async fn health(state: Data<AdminState>) -> HttpResponse {
    let redis = async {
        match &state.bus {
            Some(bus) => Some(check("redis", bus.ping()).await),
            None => None,
        }
    };
    let (store, redis) = futures_util::join!(check("store", state.store.ping()), redis);
    let checks: BTreeMap<_, _> = [("store", Some(store)), ("redis", redis)]
        .into_iter()
        .filter_map(|(name, check)| Some((name, check?)))
        .collect();
    let status = if checks.values().all(|check| check.status == "ok") { "ok" } else { "degraded" };
    HttpResponse::Ok().json(json!({"status": status, "checks": checks}))
}

async fn metrics(state: Data<AdminState>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(state.metrics.render())
}

async fn cluster(state: Data<AdminState>, query: Query) -> Answer {
    let room = query.optional("room", |text| RoomId::parse(text).map_err(str::to_owned))?;
    let status = described(&state).await?;
    Ok(HttpResponse::Ok().json(match room {
        Some(room) => {
            let shard = ShardId::of(&room);
            let owner = status.owners.get(usize::from(shard.0)).cloned().flatten();
            json!({"room": room, "shard": shard, "owner": owner})
        }
        None => describe(&status),
    }))
}

/// The cluster, as this node sees it.
///
/// # Errors
/// `unavailable` where the cluster actor says nothing.
pub(super) async fn described(state: &AdminState) -> Result<ClusterStatus, Refusal> {
    tokio::time::timeout(CHECK_WAIT, state.cluster.send(Describe))
        .await
        .map_err(|_| Refusal::unavailable("the cluster actor did not answer in time"))?
        .map_err(|_| Refusal::unavailable("the cluster actor is not running"))
}

pub(super) fn state_name(node: &KnownNode) -> &'static str {
    match node.record.state {
        _ if !node.alive => "lost",
        NodeState::Starting => "starting",
        NodeState::Ready => "ready",
        NodeState::Draining => "draining",
    }
}

fn describe(status: &ClusterStatus) -> serde_json::Value {
    let mut shards: BTreeMap<_, u32> = BTreeMap::new();
    for owner in status.owners.iter().flatten() {
        *shards.entry(owner).or_default() += 1;
    }
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|node| {
            let record = &node.record;
            json!({
                "id": record.id, "state": state_name(node), "sessions": record.sessions, "rooms": record.rooms,
                "shards": shards.get(&record.id).copied().unwrap_or(0),
            })
        })
        .collect();
    json!({"node": status.node, "nodes": nodes, "shards": status.owners.len()})
}

async fn drain(request: HttpRequest, state: Data<AdminState>) -> Answer {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    operator::of_our_own(request.headers(), host)?;
    tracing::info!("drain asked for on the admin listener");
    (state.drain)();
    Ok(HttpResponse::Accepted().json(json!({"status": "draining"})))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use actix::{Actor, Context, Handler};
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;
    use crate::ids::NodeId;
    use crate::infra::loopback::LoopbackBus;
    use crate::infra::sqlite::SqliteStore;
    use crate::ports::NodeRecord;

    /// Describes a cluster of a node that owns every other shard and one that is lost.
    struct Two;

    impl Actor for Two {
        type Context = Context<Self>;
    }

    impl Handler<Describe> for Two {
        type Result = ClusterStatus;

        fn handle(&mut self, _: Describe, _: &mut Self::Context) -> ClusterStatus {
            let known = |id, state, alive| {
                let record = NodeRecord { id: node(id), state, sessions: 7, rooms: 3 };
                KnownNode { record, alive, since: Instant::now() }
            };
            ClusterStatus {
                node: node("a"),
                state: NodeState::Ready,
                nodes: vec![known("a", NodeState::Draining, true), known("b", NodeState::Ready, false)],
                owners: ShardId::all().map(|shard| (shard.0 % 2 == 0).then(|| node("a"))).collect(),
                leased: true,
                heard: None,
            }
        }
    }

    pub fn node(id: &str) -> NodeId {
        NodeId::parse(id).expect("a valid id")
    }

    pub fn state(directory: &Path, drained: Arc<AtomicBool>) -> AdminState {
        let metrics = Metrics::new();
        AdminState {
            readiness: Arc::default(),
            overview: Overview::new(metrics.clone(), Arc::default()),
            metrics,
            store: Arc::new(SqliteStore::open(&directory.join("roundtable.db")).expect("a new store")),
            bus: Some(Arc::new(LoopbackBus::new())),
            cluster: Two.start().recipient(),
            drain: Arc::new(move || drained.store(true, Ordering::Relaxed)),
        }
    }

    #[actix_web::test]
    async fn the_admin_listener_answers_with_what_the_contract_names() {
        let data = tempfile::TempDir::new().expect("a temporary directory");
        let drained = Arc::new(AtomicBool::new(false));
        let state = state(data.path(), drained.clone());
        let readiness = state.readiness.clone();
        let service = init_service(App::new().configure(routes(state))).await;
        let get = async |path: &str| {
            let response = call_service(&service, TestRequest::get().uri(path).to_request()).await;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            assert_eq!(headers.get("x-content-type-options").expect("on every answer"), "nosniff");
            (status, headers, String::from_utf8(read_body(response).await.to_vec()).expect("text"))
        };
        let json = async |path: &str| {
            let (status, _, body) = get(path).await;
            (status, serde_json::from_str::<serde_json::Value>(&body).expect("JSON"))
        };

        assert_eq!(get("/livez").await.0, 200);
        assert_eq!(json("/readyz").await, (503, json!({"status": "not ready", "reasons": ["starting"]})));
        readiness.started();
        assert_eq!(get("/readyz").await.0, 200);
        readiness.set_store_lost(true);
        readiness.set_redis_lost(true);
        assert_eq!(json("/readyz").await.1["reasons"].as_array().map(Vec::len), Some(2));
        assert_eq!(get("/livez").await.0, 200, "alive whatever is away");
        readiness.set_store_lost(false);
        readiness.set_redis_lost(false);
        assert_eq!(get("/readyz").await.0, 200);
        readiness.draining();
        assert_eq!(json("/readyz").await.1["reasons"], json!(["draining"]));

        let health = json("/health").await.1;
        assert_eq!(health["status"], "ok");
        for name in ["store", "redis"] {
            assert_eq!(health["checks"][name]["status"], "ok");
            assert!(health["checks"][name]["latency_ms"].is_number());
        }

        let (status, headers, text) = get("/metrics").await;
        assert_eq!(status, 200);
        assert!(
            headers
                .get("content-type")
                .expect("a type")
                .to_str()
                .expect("text")
                .starts_with("text/plain; version=0.0.4")
        );
        assert!(text.contains("roundtable_sessions"));

        let cluster = json("/cluster").await.1;
        let expected = json!({
            "node": "a", "shards": 1024, "nodes": [
                {"id": "a", "state": "draining", "sessions": 7, "rooms": 3, "shards": 512},
                {"id": "b", "state": "lost", "sessions": 7, "rooms": 3, "shards": 0},
            ],
        });
        assert_eq!(cluster, expected);
        // lobby lies in shard 125, which is nobody's here; general in 345; a in 248.
        assert_eq!(json("/cluster?room=lobby").await.1, json!({"room": "lobby", "shard": 125, "owner": null}));
        assert_eq!(json("/cluster?room=a").await.1, json!({"room": "a", "shard": 248, "owner": "a"}));
        assert_eq!(get("/cluster?room=A").await.0, 400);

        assert_eq!(get("/drain").await.0, 405);
        assert!(!drained.load(Ordering::Relaxed));
        let response = call_service(&service, TestRequest::post().uri("/drain").to_request()).await;
        assert_eq!(response.status(), 202);
        assert!(drained.load(Ordering::Relaxed));
        assert_eq!(get("/api/v1/me").await.0, 404);
    }
}
