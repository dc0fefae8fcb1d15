//! The session: one actor per connection, on its worker's thread. Decodes, authenticates, limits and answers; owns nothing
//! that matters when it dies.
//!
//! It is an actix-web-actors `WebsocketContext` actor, driven by the connection's own pump (`http::socket`), which feeds
//! it whole messages; what it says goes through the outbox of its [`SessionCore`], so that order and bytes are ours.
//!
//! Invariants: nothing is done for a client before its hello was accepted; every request is answered exactly once.

pub mod core;
mod pages;
pub mod rates;
mod requests;
mod scopes;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix::{Actor, ActorContext, StreamHandler};
use actix_http::ws::{Message, ProtocolError};
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use futures_util::Stream;

use self::core::{Phase, SessionCore};
use crate::actors::frame::{self, Closing};
use crate::actors::hub::{HEARTBEAT_S, Hub, unix_ms};
use crate::auth::{AuthError, Identity};
use crate::limits::{DATA_BYTES, TEXT_CHARS};
use crate::protocol::{self, Encoding, Request, ServerFrame, WelcomeLimits};
use crate::refusal::{Code, Refusal};

/// Longest random wait of clients before they reconnect after an unexpected end, in milliseconds.
const JITTER_MS: u64 = 1_000;
/// Longest wait between two tries to reconnect, in milliseconds.
const BACKOFF_MAX_MS: u64 = 30_000;

pub struct Session {
    core: Rc<SessionCore>,
    hub: Rc<Hub>,
}

impl Session {
    /// Makes the actor and the stream that drives it. The stream must be polled after every change of the inbox; it
    /// yields nothing but what others may write through the context.
    pub fn start(core: Rc<SessionCore>, hub: Rc<Hub>) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        WebsocketContext::with_factory(futures_util::stream::pending(), |context| {
            Self::add_stream(Incoming(Rc::clone(&core)), context);
            Self { core, hub }
        })
    }

    fn frame(&self, bytes: &[u8]) {
        let decoded = protocol::decode(self.core.wire.encoding, bytes);
        let is_open = matches!(self.core.state.borrow().phase, Phase::Open(_));
        match decoded {
            Ok(frame) if is_open => self.request(frame.reference, frame.request),
            Ok(frame) => match frame.request {
                Request::Hello { token, .. } => self.hello(frame.reference, token),
                _ => self.turn_away(frame.reference, Refusal::unauthenticated("the first frame must be a hello")),
            },
            Err(error) if is_open => self.refuse(error.reference, error.refusal),
            Err(error) => self.turn_away(error.reference, error.refusal),
        }
    }

    fn refuse(&self, reference: Option<u64>, refusal: Refusal) {
        self.hub.send(&self.core, &ServerFrame::Error(refusal), reference);
    }

    fn turn_away(&self, reference: Option<u64>, refusal: Refusal) {
        self.refuse(reference, refusal);
        self.core.close(Closing::UNAUTHENTICATED);
    }

    fn hello(&self, reference: Option<u64>, token: Option<String>) {
        let by_upgrade = match std::mem::replace(&mut self.core.state.borrow_mut().phase, Phase::Checking) {
            Phase::New(identity) => identity,
            Phase::Checking | Phase::Open(_) => None,
        };
        match (token, by_upgrade) {
            (Some(token), _) => {
                let hub = Rc::clone(&self.hub);
                self.check(reference, async move { hub.context().auth.authenticate(&token).await });
            }
            (None, Some(identity)) if self.hub.context().auth.is_current(&identity) => {
                welcome(&self.hub, &self.core, reference, &identity);
            }
            (None, Some(identity)) => {
                let hub = Rc::clone(&self.hub);
                self.check(reference, async move { hub.context().auth.again(&identity).await });
            }
            (None, None) => {
                self.turn_away(reference, Refusal::unauthenticated("neither hello nor the upgrade had credentials"))
            }
        }
    }

    /// Checks the credentials of a hello; frames behind it wait.
    fn check(&self, reference: Option<u64>, found: impl Future<Output = Result<Identity, AuthError>> + 'static) {
        self.core.hold();
        let (core, hub) = (Rc::clone(&self.core), Rc::clone(&self.hub));
        actix_rt::spawn(async move {
            match found.await {
                Ok(identity) => welcome(&hub, &core, reference, &identity),
                Err(refusal) => {
                    let refusal = Refusal::from(refusal);
                    let code = refusal.code;
                    hub.send(&core, &ServerFrame::Error(refusal), reference);
                    core.close(match code {
                        Code::Forbidden => Closing::BANNED,
                        code if code.retryable() => Closing::TRY_AGAIN,
                        _ => Closing::UNAUTHENTICATED,
                    });
                }
            }
            core.release();
            hub.flush();
        });
    }
}

fn welcome(hub: &Rc<Hub>, core: &Rc<SessionCore>, reference: Option<u64>, identity: &Identity) {
    if identity.expires_at.is_some_and(|expires_at| expires_at <= unix_ms()) {
        hub.send(core, &ServerFrame::Error(Refusal::unauthenticated("the credentials have expired")), reference);
        core.close(Closing::UNAUTHENTICATED);
        return;
    }
    hub.identified(core, identity);
    let limits = &hub.context().config.limits;
    let frame = ServerFrame::Welcome {
        user: identity.user.id.clone(),
        name: identity.user.name.clone(),
        session: format!("{}.{}.{}", core.key.hub.0, core.key.slot, core.key.generation),
        node: hub.context().node.clone(),
        server: concat!("roundtable/", env!("CARGO_PKG_VERSION")).into(),
        heartbeat_s: u64::from(HEARTBEAT_S),
        jitter_ms: JITTER_MS,
        backoff_max_ms: BACKOFF_MAX_MS,
        limits: WelcomeLimits {
            frame_bytes: limits.frame_bytes as u64,
            text_chars: TEXT_CHARS as u64,
            data_bytes: DATA_BYTES as u64,
            inflight: limits.inflight as u64,
            subscriptions: limits.subscriptions as u64,
            replay: limits.replay,
            messages_per_minute: u64::from(limits.messages_per_minute),
            messages_burst: u64::from(limits.messages_burst),
        },
    };
    hub.send(core, &frame, reference);
}

impl Actor for Session {
    type Context = WebsocketContext<Self>;
}

impl StreamHandler<Result<Message, ProtocolError>> for Session {
    fn handle(&mut self, message: Result<Message, ProtocolError>, context: &mut Self::Context) {
        match message {
            Ok(Message::Text(text)) if self.core.wire.encoding == Encoding::Json => self.frame(text.as_bytes()),
            Ok(Message::Binary(bytes)) if self.core.wire.encoding == Encoding::MsgPack => self.frame(&bytes),
            Ok(Message::Text(_) | Message::Binary(_)) => self.core.close(Closing::WRONG_KIND),
            Ok(Message::Ping(payload)) => self.hub.push(&self.core, frame::pong(&payload)),
            Ok(Message::Pong(_)) => self.core.state.borrow_mut().pings_unanswered = 0,
            Ok(Message::Close(reason)) => {
                let code = reason.map(|reason| u16::from(reason.code));
                self.core.outbox.finish(frame::close_echo(code), code.unwrap_or_default(), false);
            }
            // The pump hands over whole messages only.
            Ok(Message::Continuation(_) | Message::Nop) => {}
            Err(_) => context.stop(),
        }
    }
}

/// The messages that the pump has read.
struct Incoming(Rc<SessionCore>);

impl Stream for Incoming {
    type Item = Result<Message, ProtocolError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let core = &self.0;
        if core.outbox.is_finished() {
            return Poll::Ready(None);
        }
        if core.is_held() {
            return Poll::Pending;
        }
        let mut inbox = core.inbox.borrow_mut();
        match inbox.pop_front() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => {
                // Gives its memory back; the pump polls again when there is more.
                *inbox = std::collections::VecDeque::new();
                Poll::Pending
            }
        }
    }
}
