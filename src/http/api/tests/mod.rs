//! The API over a real SQLite store, from the request to the answer. Rooms are asked through a real hub, but no room
//! runs here: what only they can answer is tested with whole nodes in `tests/`.

mod accounts;
mod guards;
mod rooms;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use actix::{Actor, Context, Handler};
use actix_http::Request;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, Error};
use serde_json::Value;
use tempfile::TempDir;

use super::{RevokePort, Shared, routes};
use crate::actors::hub::{Hub, HubContext};
use crate::actors::messages::{HubIndex, Lookup};
use crate::actors::session::rates::MessageRates;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::domain::revoked::Revoked;
use crate::ids::NodeId;
use crate::infra::sqlite::SqliteStore;
use crate::metrics::Metrics;
use crate::ports::MessageStore;

/// A node without rooms: lookups stay unanswered, so that calls to rooms end at their deadline.
struct NoRooms;

impl Actor for NoRooms {
    type Context = Context<Self>;
}

impl Handler<Lookup> for NoRooms {
    type Result = ();

    fn handle(&mut self, _: Lookup, _: &mut Self::Context) {}
}

/// One worker thread's API, with what stands behind it.
struct Node<S> {
    service: S,
    store: Arc<dyn MessageStore>,
    revoked: Receiver<Revoked>,
    _data: TempDir,
}

/// An answer, read to its end.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }

    /// The status and code of a problem, whose form is checked.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert!(body["type"].is_string() && body["title"].is_string() && body["detail"].is_string());
        assert!(body["retryable"].is_boolean());
        (self.status.as_u16(), body["code"].as_str().expect("a code").to_owned())
    }
}

/// Settings without the limits by address, which tests of their own turn on.
pub fn unlimited() -> Config {
    let mut config = Config::default();
    config.limits.http_per_minute = 0;
    config.limits.http_per_user_minute = 0;
    config.limits.logins_per_minute = 0;
    config
}

/// What a hub needs, over a new store in `directory`.
pub async fn context(config: &Arc<Config>, directory: &Path) -> HubContext {
    let store = SqliteStore::open(&directory.join("roundtable.db")).expect("a new store");
    let store: Arc<dyn MessageStore> = Arc::new(store);
    store.migrate().await.expect("a new store");
    let metrics = Metrics::new();
    HubContext {
        node: NodeId::parse("node").expect("a valid id"),
        router: NoRooms.start().recipient(),
        store: store.clone(),
        auth: Arc::new(Authenticator::new(&config.auth, store, &metrics).expect("no keys to read")),
        rates: Arc::new(MessageRates::new(0, 0)),
        config: config.clone(),
        before_send: None,
        traces: None,
        metrics,
    }
}

async fn node(
    config: Config,
) -> Node<impl Service<Request, Response = ServiceResponse<impl actix_web::body::MessageBody>, Error = Error>> {
    let data = TempDir::new().expect("a temporary directory");
    let config = Arc::new(config);
    let context = context(&config, data.path()).await;
    let store = context.store.clone();
    let (tell, revoked) = channel();
    let revoke: RevokePort = Arc::new(move |revoked| tell.send(revoked).expect("the test listens"));
    let (_, hub) = Hub::start(HubIndex(0), context);
    let service = init_service(App::new().configure(routes(Shared::new(&config, revoke), hub))).await;
    Node { service, store, revoked, _data: data }
}

impl<S, B> Node<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: actix_web::body::MessageBody,
{
    async fn call(&self, request: TestRequest) -> Reply {
        let response = match self.service.call(request.to_request()).await {
            Ok(response) => response,
            Err(error) => panic!("no answer of ours: {error}"),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: read_body(response).await.to_vec() }
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call(bearer(TestRequest::post().uri(path), token).set_json(body)).await
    }

    async fn get(&self, path: &str, token: &str) -> Reply {
        self.call(bearer(TestRequest::get().uri(path), token)).await
    }

    /// Registers a user; gives the token.
    async fn register(&self, user: &str) -> String {
        let body = serde_json::json!({"user": user, "password": "correct horse"});
        let reply = self.post("/api/v1/register", "", body).await;
        assert_eq!(reply.status, 201);
        reply.json()["token"].as_str().expect("a token").to_owned()
    }
}

fn bearer(request: TestRequest, token: &str) -> TestRequest {
    if token.is_empty() { request } else { request.insert_header((header::AUTHORIZATION, format!("Bearer {token}"))) }
}
