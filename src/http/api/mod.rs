//! The HTTP API under `/api/v1`, PROTOCOL's other half: accounts, rooms, members, messages.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Resource, Responder};
use ipnet::IpNet;

mod account;
mod admin;
mod attachments;
mod audit;
mod credentials;
mod endpoint;
mod endpoints;
mod export;
mod files;
mod invitations;
mod members;
mod messages;
mod moderation;
mod oidc;
mod paging;
mod pins;
mod privacy;
mod rooms;
mod scopes;
mod search;
mod sessions;
pub mod streams;
mod webhooks;

use self::streams::Streams;
use super::app;
use super::attachments::Attachments;
use super::client_address::client_ip;
use super::limits::Rates;
use super::problem::{Problem, fault, not_allowed};
use super::{query, security};
use crate::actors::hub::{Hub, unix_ms};
use crate::actors::room::now_ms;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::domain::acts::{self, Act};
use crate::domain::command::{Caller, Command, Reply};
use crate::domain::revoked::Revoked;
use crate::entry::{Role, Room};
use crate::ids::{RoomId, Seq, UserId};
use crate::limits::WIRE_INTEGER_MAX;
use crate::ports::{MessageStore, StoreError};
use crate::refusal::Refusal;
use crate::telemetry::traces::{self, Said, Step};

/// Tells every node that something was revoked: the sessions that stand on it close, and nobody takes it as known any
/// more.
pub type RevokePort = Arc<dyn Fn(Revoked) + Send + Sync>;

/// What the API of all worker threads shares, besides what their hubs have.
pub struct Shared {
    rates: Rates,
    origins: security::Origins,
    /// `server.trusted_proxies`.
    proxies: Vec<IpNet>,
    /// `server.hsts`: also without https.
    hsts: bool,
    /// This listener speaks TLS.
    tls: bool,
    /// How long a client may take no byte of an answer.
    stall: Duration,
    /// How long a login lasts; the cookie's `Max-Age`, seconds.
    session_s: i64,
    revoke: RevokePort,
    exports: Arc<export::Exports>,
    /// Set once, before the first call, where they are not turned off.
    attachments: OnceLock<Arc<Attachments>>,
    /// Set once, before the first call.
    streams: OnceLock<Streams>,
}

impl Shared {
    pub fn new(config: &Config, revoke: RevokePort) -> Arc<Self> {
        let (server, limits) = (&config.server, &config.limits);
        Arc::new(Self {
            rates: Rates::new(limits),
            origins: security::Origins::new(server.allowed_origins.iter().map(|origin| origin.as_str().to_owned())),
            proxies: server.trusted_proxies.iter().map(|network| network.0).collect(),
            hsts: server.hsts,
            tls: server.tls.enabled(),
            stall: Duration::from_secs(limits.stall_s),
            session_s: i64::from(config.auth.session_days) * 24 * 60 * 60,
            revoke,
            exports: Arc::default(),
            attachments: OnceLock::new(),
            streams: OnceLock::new(),
        })
    }

    /// Files are taken and served from now on.
    pub fn serve_attachments(&self, attachments: Arc<Attachments>) {
        let _only_once = self.attachments.set(attachments);
    }

    /// Streams are opened and posted to from now on.
    pub fn serve_streams(&self, streams: Streams) {
        let _only_once = self.streams.set(streams);
    }

    /// Whose pages may show files (`Cross-Origin-Resource-Policy`): our own, and those of origins that may call us.
    fn files_policy(&self) -> &'static str {
        if self.origins.is_empty() { "same-origin" } else { "cross-origin" }
    }

    /// How long a client may take no byte of an answer.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// Whether answers bear HSTS however the client came.
    pub fn hsts(&self) -> bool {
        self.hsts
    }
}

/// What the handlers of one worker thread have at hand.
pub struct Api {
    shared: Arc<Shared>,
    hub: Rc<Hub>,
}

/// A room's answer to somebody who may read it.
struct Admitted {
    role: Option<Role>,
    head: Seq,
    online: u32,
}

impl Api {
    fn store(&self) -> &dyn MessageStore {
        &*self.hub.context().store
    }

    fn auth(&self) -> &Authenticator {
        &self.hub.context().auth
    }

    /// Tells every node, after the store was told, and this one before anything else.
    fn revoked(&self, revoked: Revoked) {
        self.auth().forget(&revoked);
        (self.shared.revoke)(revoked);
    }

    /// Ends sessions everywhere, on nodes that miss the message too.
    async fn end_sessions(&self, revoked: Revoked) -> Result<(), StoreError> {
        self.store().note_revoked(&revoked).await?;
        self.revoked(revoked);
        Ok(())
    }

    /// # Errors
    /// `not_found` where they are turned off.
    fn attachments(&self) -> Result<&Arc<Attachments>, Refusal> {
        let off = || Refusal::not_found("attachments are turned off on this server; the setting is attachments.url");
        self.shared.attachments.get().ok_or_else(off)
    }

    /// # Errors
    /// `unavailable` while the node starts.
    fn streams(&self) -> Result<&Streams, Refusal> {
        self.shared.streams.get().ok_or_else(|| Refusal::unavailable("this node is starting; try again"))
    }

    async fn ask(&self, room: &RoomId, caller: Caller, command: Command) -> Result<Reply, Refusal> {
        self.hub.ask(room.clone(), caller, command).await
    }

    /// Asks the room whether `caller` may read it.
    async fn admit(&self, room: &RoomId, caller: Caller) -> Result<Admitted, Refusal> {
        match self.ask(room, caller, Command::Admit { subscribe: false }).await? {
            Reply::Admitted { role, head, online, .. } => Ok(Admitted { role, head, online }),
            other => Err(self.odd(&other)),
        }
    }

    /// Asks the room whether `caller` may read it, and the table of acts whether they may do this in it. Every call that
    /// concerns a room and is no [`Command`] comes through here.
    async fn permit(&self, room: &RoomId, caller: Caller, act: Act) -> Result<Admitted, Problem> {
        let admin = caller.admin;
        let admitted = self.admit(room, caller).await?;
        acts::may(&self.record(room).await?, admitted.role, admin, act)?;
        Ok(admitted)
    }

    /// The room's record, for somebody who may see it.
    async fn record(&self, room: &RoomId) -> Result<Room, Problem> {
        Ok(self.store().room(room).await?.ok_or_else(Refusal::no_such_room)?)
    }

    /// A room answered something that is no answer to the command.
    fn odd(&self, reply: &Reply) -> Refusal {
        fault(&format_args!("a room gave an answer of the wrong kind: {:?}", std::mem::discriminant(reply)))
    }
}

fn room_of(request: &HttpRequest) -> Result<RoomId, Refusal> {
    query::path(request, "room", RoomId::parse)
}

fn seq_of(request: &HttpRequest) -> Result<Seq, Refusal> {
    query::path(request, "seq", |text| {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number.filter(|seq| *seq <= WIRE_INTEGER_MAX).ok_or("must be the number of an entry")
    })
}

fn user_of(request: &HttpRequest) -> Result<UserId, Refusal> {
    query::path(request, "user", UserId::parse)
}

/// The public listener's routes, with the security headers around all of them.
pub fn routes(shared: Arc<Shared>, hub: Rc<Hub>) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.app_data(Data::new(Api { shared, hub })).service(
            web::scope("")
                .wrap(from_fn(around))
                .service(read_only(web::resource(["/", "/join"]), app::page))
                .service(read_only(web::resource("/r/{room}"), room_page))
                .service(read_only(web::resource(["/icon.svg", "/app.webmanifest"]), app::at_root))
                .service(read_only(web::resource("/assets/{file}"), app::asset))
                .service(web::resource("/ws").to(upgrade_required))
                .service(read_only(web::resource("/r/{room}/{seq}"), link))
                .service(v1())
                .service(
                    web::resource("/files/{attachment}")
                        .get(files::download)
                        .head(files::download)
                        .default_service(not_allowed("GET, HEAD"))
                        .wrap(from_fn(limited)),
                )
                .default_service(web::to(no_such_address)),
        );
    }
}

/// The routes of the API, with the rate by address before them.
fn v1() -> impl HttpServiceFactory {
    endpoint::mount(web::scope(endpoint::BASE), endpoints::endpoints())
        .default_service(web::to(no_such_address))
        .wrap(from_fn(limited))
}

/// Where a call comes from; in the request's extensions.
#[derive(Clone, Copy)]
struct Client {
    address: IpAddr,
    https: bool,
}

impl Client {
    fn of(request: &HttpRequest) -> Self {
        let unknown = Self { address: Ipv4Addr::UNSPECIFIED.into(), https: false };
        request.extensions().get().copied().unwrap_or(unknown)
    }
}

/// Around everything: who calls from where, and what every answer bears.
async fn around<B: MessageBody + 'static>(
    api: Data<Api>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let begin = Instant::now();
    let shared = &api.shared;
    let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
    let client = Client {
        address: client_ip(peer, request.headers(), &shared.proxies),
        https: security::came_by_https(peer, request.headers(), &shared.proxies, shared.tls),
    };
    request.extensions_mut().insert(client);
    let context = api.hub.context();
    let given = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let span = context.traces.as_ref().and_then(|traces| traces.continued(given("traceparent")));
    let answering = security::around(Some(&shared.origins), client.https || shared.hsts, request, next);
    let response = match &span {
        Some(span) => traces::within(span.context, answering).await?,
        None => answering.await?,
    };
    let status = response.status().as_u16();
    context.metrics.http(status, begin.elapsed());
    if let (Some(span), Some(traces)) = (&span, &context.traces) {
        let route = response.request().match_pattern();
        let said = [
            Said::Method(method_of(response.request())),
            Said::Route(route.as_deref().unwrap_or_default()),
            Said::Status(status),
        ];
        traces.end(span, Step::Http, &said);
    }
    Ok(response)
}

/// The method as a word of ours.
fn method_of(request: &HttpRequest) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == request.method().as_str()).unwrap_or("_OTHER")
}

/// The rate by address of all calls but those of streams: opening one is as free as a WebSocket is, and posts have a rate of
/// their own.
async fn limited<B: MessageBody + 'static>(
    api: Data<Api>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let of_streams = request.path().strip_prefix(endpoint::BASE) == Some(streams::PATH);
    if let Some(rate) = &api.shared.rates.calls
        && !of_streams
        && let Err(refusal) = rate.check(Client::of(request.request()).address)
    {
        return Ok(request.into_response(Problem::from(refusal).response()).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// A resource that can only be read.
fn read_only<F, Args>(resource: Resource, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource.get(handler.clone()).head(handler).default_service(not_allowed("GET, HEAD"))
}

/// A room's address: the page, as for a link.
async fn room_page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    match room_of(&request) {
        Ok(_) => app::page(request).await,
        Err(_) => Err(Problem::no_such_address()),
    }
}

/// A link to a message: the page that opens it, whatever there is behind the link; whether the reader may see that is asked
/// by the page.
async fn link(request: HttpRequest) -> Result<HttpResponse, Problem> {
    match (room_of(&request), seq_of(&request)) {
        (Ok(_), Ok(_)) => app::page(request).await,
        _ => Err(Problem::no_such_address()),
    }
}

/// A plain request to the WebSocket's address.
async fn upgrade_required() -> HttpResponse {
    Problem::upgrade_required().response()
}

async fn no_such_address() -> HttpResponse {
    Problem::no_such_address().response()
}

#[cfg(test)]
pub(super) mod tests;
