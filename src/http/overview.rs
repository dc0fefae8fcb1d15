//! `GET /overview`: what an operator looks at, in one answer. The page at `/` shows it.
//!
//! Invariants: an answer has at most [`MOST_BYTES`]; one is made at most once in [`FRESH`], however many ask; nothing that
//! carries messages waits for it. It names rooms, and holds no text and no user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use serde::Serialize;

use super::admin::{AdminState, Check, check, described, state_name};
use super::problem::Answer;
use crate::actors::messages::{ClusterStatus, KnownNode};
use crate::actors::room::busy::{Busiest, Busy, MARK_EVERY};
use crate::ids::{NodeId, RoomId};
use crate::metrics::Metrics;
use crate::metrics::pace::{Pace, Rates, SAMPLE_EVERY};
use crate::refusal::Refusal;

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// Rooms that are named.
const ROOMS: usize = 20;
/// Nodes that are listed; of more it is only said how many they are.
const NODES: usize = 256;
/// The largest answer. Nodes and shards make most of it.
pub const MOST_BYTES: usize = 64 * 1024;

/// What the overview is made of, besides what the admin listener has anyway.
pub struct Overview {
    began: Instant,
    metrics: Arc<Metrics>,
    pace: Pace,
    busy: Arc<Busy>,
    drain: Mutex<Option<DrainBegan>>,
    /// The newest answer. Held while the next one is made.
    last: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
}

struct DrainBegan {
    at: Instant,
    sessions: i64,
    shards: i64,
}

impl Overview {
    pub fn new(metrics: Arc<Metrics>, busy: Arc<Busy>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            pace: Pace::new(metrics.clone()),
            metrics,
            busy,
            drain: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        })
    }

    /// Takes what later answers are measured against, until the process ends.
    pub async fn keep(self: Arc<Self>) {
        let mut marked = Instant::now();
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            let now = Instant::now();
            self.pace.sample(now);
            if now.duration_since(marked) >= MARK_EVERY {
                marked = now;
                let busy = self.busy.clone();
                // It looks at every room, and this thread has commits to make.
                let _done = actix_web::rt::task::spawn_blocking(move || busy.mark(now)).await;
            }
        }
    }

    /// What is left is told as a part of what there is now.
    pub fn drain_begins(&self) {
        let (sessions, shards) = (self.metrics.sessions.get(), self.metrics.shards_owned.get());
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        drain.get_or_insert(DrainBegan { at: Instant::now(), sessions, shards });
    }

    fn drain(&self) -> Option<Drain> {
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        drain.as_ref().map(|began| Drain {
            for_s: began.at.elapsed().as_secs(),
            sessions_before: began.sessions,
            sessions_left: self.metrics.sessions.get(),
            shards_before: began.shards,
            shards_left: self.metrics.shards_owned.get(),
        })
    }
}

#[derive(Serialize)]
struct Snapshot {
    node: Own,
    drain: Option<Drain>,
    now: Now,
    rates: Pacing,
    commits: Commits,
    checks: Checks,
    cluster: Cluster,
    shards: Shards,
    rooms: Rooms,
}

#[derive(Serialize)]
struct Own {
    id: NodeId,
    version: &'static str,
    state: &'static str,
    /// Why it should get no traffic.
    reasons: Vec<&'static str>,
    uptime_s: u64,
}

#[derive(Serialize)]
struct Drain {
    for_s: u64,
    sessions_before: i64,
    sessions_left: i64,
    shards_before: i64,
    shards_left: i64,
}

#[derive(Serialize)]
struct Now {
    sessions: i64,
    subscriptions: i64,
    rooms: i64,
    /// Entries that wait for a group commit.
    commit_queue: i64,
    /// Bytes that wait for other nodes.
    link_queue_bytes: i64,
}

#[derive(Serialize)]
struct Pacing {
    over_s: f64,
    entries_per_s: f64,
    repeats_per_s: f64,
    deliveries_per_s: f64,
    connections_per_s: f64,
    inbound_bytes_per_s: f64,
    outbound_bytes_per_s: f64,
}

#[derive(Serialize)]
struct Commits {
    count: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
struct Checks {
    store: Check,
    /// In a cluster.
    redis: Option<Check>,
}

#[derive(Serialize)]
struct Cluster {
    /// Whether this node's lease lives.
    leased: bool,
    /// How old the other nodes' figures are.
    heard_s: Option<f64>,
    nodes: Vec<Node>,
    /// How many there are above [`NODES`].
    nodes_left_out: usize,
}

#[derive(Serialize)]
struct Node {
    id: NodeId,
    state: &'static str,
    sessions: u64,
    rooms: u64,
    shards: u32,
    /// How long this node has seen it in the cluster; of a lost one, how long it is gone.
    since_s: u64,
}

/// The shard table, as this node sees it.
#[derive(Serialize)]
struct Shards {
    owners: Vec<NodeId>,
    /// For each shard its owner's place in `owners`; nothing: nobody's.
    map: Vec<Option<u16>>,
}

/// Those of this node that were written to most.
#[derive(Serialize)]
struct Rooms {
    over_s: f64,
    busiest: Vec<Room>,
}

#[derive(Serialize)]
struct Room {
    room: RoomId,
    entries: u64,
}

/// The handler.
pub async fn overview(state: Data<AdminState>) -> Answer {
    let mut last = state.overview.last.lock().await;
    let body = match &*last {
        Some((made, body)) if made.elapsed() < FRESH => body.clone(),
        _ => {
            let body = snapshot(&state).await?;
            *last = Some((Instant::now(), body.clone()));
            body
        }
    };
    Ok(HttpResponse::Ok().insert_header(header::ContentType::json()).body(body))
}

async fn snapshot(state: &AdminState) -> Result<Bytes, Refusal> {
    let overview = &state.overview;
    let busy = overview.busy.clone();
    let busiest = async {
        let looked = actix_web::rt::task::spawn_blocking(move || busy.busiest(ROOMS, Instant::now())).await;
        looked.unwrap_or(Busiest { over: Duration::ZERO, rooms: Vec::new() })
    };
    let redis = async {
        match &state.bus {
            Some(bus) => Some(check("redis", bus.ping()).await),
            None => None,
        }
    };
    let (status, store, redis, busiest) =
        futures_util::join!(described(state), check("store", state.store.ping()), redis, busiest);
    let snapshot = made(state, &status?, Checks { store, redis }, busiest);
    let body = serde_json::to_vec(&snapshot).map_err(|error| {
        tracing::error!(error = %error, "the overview can't be written");
        Refusal::unavailable("the overview can't be written")
    })?;
    Ok(Bytes::from(body))
}

fn made(state: &AdminState, status: &ClusterStatus, checks: Checks, busiest: Busiest) -> Snapshot {
    let (overview, metrics) = (&state.overview, &state.metrics);
    let reasons = state.readiness.reasons();
    let rates = overview.pace.rates(Instant::now());
    let (shards, held) = shards(status);
    Snapshot {
        node: Own {
            id: status.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            state: match reasons.first() {
                None => "ready",
                Some(_) if state.readiness.is_draining() => "draining",
                Some(&"starting") => "starting",
                Some(_) => "not ready",
            },
            reasons,
            uptime_s: overview.began.elapsed().as_secs(),
        },
        drain: overview.drain(),
        now: Now {
            sessions: metrics.sessions.get(),
            subscriptions: metrics.subscriptions.get(),
            rooms: metrics.rooms.get(),
            commit_queue: metrics.commit_queue(),
            link_queue_bytes: metrics.link_queue_bytes.get(),
        },
        commits: Commits {
            count: rates.commits,
            p50_ms: milliseconds(rates.commit_p50),
            p95_ms: milliseconds(rates.commit_p95),
            p99_ms: milliseconds(rates.commit_p99),
        },
        rates: pacing(&rates),
        checks,
        cluster: Cluster {
            leased: status.leased,
            heard_s: status.heard.map(|heard| rounded(heard.elapsed().as_secs_f64())),
            nodes: status.nodes.iter().take(NODES).map(|node| listed(node, &held)).collect(),
            nodes_left_out: status.nodes.len().saturating_sub(NODES),
        },
        shards,
        rooms: Rooms {
            over_s: rounded(busiest.over.as_secs_f64()),
            busiest: busiest.rooms.into_iter().map(|(room, entries)| Room { room, entries }).collect(),
        },
    }
}

fn listed(node: &KnownNode, held: &HashMap<&NodeId, u32>) -> Node {
    let KnownNode { record, since, .. } = node;
    Node {
        id: record.id.clone(),
        state: state_name(node),
        sessions: record.sessions,
        rooms: record.rooms,
        shards: held.get(&record.id).copied().unwrap_or(0),
        since_s: since.elapsed().as_secs(),
    }
}

/// The table, and how many shards each owner has.
fn shards(status: &ClusterStatus) -> (Shards, HashMap<&NodeId, u32>) {
    let (mut owners, mut places, mut held) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut place = |owner| {
        *held.entry(owner).or_insert(0) += 1;
        let known = places.get(owner).copied();
        known.or_else(|| {
            let next = u16::try_from(owners.len()).ok().filter(|next| usize::from(*next) < NODES)?;
            owners.push(NodeId::clone(owner));
            places.insert(owner, next);
            Some(next)
        })
    };
    let map = status.owners.iter().map(|owner| owner.as_ref().and_then(&mut place)).collect();
    (Shards { owners, map }, held)
}

fn pacing(rates: &Rates) -> Pacing {
    Pacing {
        over_s: rounded(rates.over.as_secs_f64()),
        entries_per_s: rounded(rates.entries),
        repeats_per_s: rounded(rates.repeats),
        deliveries_per_s: rounded(rates.deliveries),
        connections_per_s: rounded(rates.opened),
        inbound_bytes_per_s: rounded(rates.bytes_in),
        outbound_bytes_per_s: rounded(rates.bytes_out),
    }
}

fn milliseconds(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| rounded(seconds * 1e3))
}

/// To a hundredth: more would only look exact.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::tests::{node, state};
    use crate::ids::ShardId;
    use crate::ports::{NodeRecord, NodeState};

    #[actix_web::test]
    async fn the_largest_answer_keeps_its_bound() {
        let data = tempfile::TempDir::new().expect("a temporary directory");
        let state = state(data.path(), Arc::default());
        let id = |n: usize| node(&format!("n-{n:012x}"));
        let known = |n| KnownNode {
            record: NodeRecord { id: id(n), state: NodeState::Draining, sessions: u64::MAX, rooms: u64::MAX },
            alive: true,
            since: Instant::now(),
        };
        let status = ClusterStatus {
            node: id(0),
            state: NodeState::Ready,
            nodes: (0..NODES + 44).map(known).collect(),
            owners: ShardId::all().map(|shard| Some(id(usize::from(shard.0) % (NODES + 44)))).collect(),
            leased: true,
            heard: Some(Instant::now()),
        };
        let rooms = (0..ROOMS).map(|n| (RoomId::parse(&format!("{n:064}")).expect("a valid id"), u64::MAX)).collect();
        let (store, redis) = (check("store", state.store.ping()).await, Some(check("redis", state.store.ping()).await));
        state.overview.drain_begins();
        let busiest = Busiest { over: Duration::MAX, rooms };
        let snapshot = made(&state, &status, Checks { store, redis }, busiest);
        assert_eq!((snapshot.cluster.nodes.len(), snapshot.cluster.nodes_left_out), (NODES, 44));
        assert_eq!((snapshot.shards.owners.len(), snapshot.shards.map.len()), (NODES, 1_024));
        assert_eq!(
            (snapshot.shards.map[0], snapshot.shards.map[NODES]),
            (Some(0), None),
            "who is not listed has no place"
        );
        let bytes = serde_json::to_vec(&snapshot).expect("JSON").len();
        assert!((MOST_BYTES / 2..=MOST_BYTES).contains(&bytes), "{bytes}");
    }
}
