//! The client: one connection for all its rooms, kept by a task of its own.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::core::{Answer, Bounds, Core, Event, OutboxItem, Patience, Setup, State, Ticket, TokenReason, Transports};
use crate::driver::{self, Shared, Waits};
use crate::error::{Code, Error};
use crate::frames::{Encoding, Limits, User};
use crate::room::{Room, Sending, Shelf, unexpected};
use crate::storage::OutboxStorage;

/// What a source of tokens comes to: a token, or none to go without one.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send>>;

/// Who one is.
#[derive(Clone, Default)]
pub enum Token {
    /// No token; the cookie counts, where there is one.
    #[default]
    None,
    /// A session token, access token or JWT.
    Fixed(String),
    /// Asked whenever a fresh one is needed. An error is tried again after a wait.
    Source(Arc<dyn Fn(TokenReason) -> TokenFuture + Send + Sync>),
}

impl Token {
    /// A source out of an async function.
    pub fn from_source<F>(source: impl Fn(TokenReason) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        Self::Source(Arc::new(move |why| Box::pin(source(why))))
    }
}

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self::Fixed(token.to_owned())
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self::Fixed(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(…)",
            Self::Source(_) => "Source(…)",
        })
    }
}

/// How a client is to be.
#[derive(Clone)]
pub struct Options {
    /// Where the server is, `https://chat.example.org` or `http://…`; another one is tried after each failure.
    pub addresses: Vec<String>,
    pub token: Token,
    /// The value of the session cookie, as an alternative to a token.
    pub cookie: Option<String>,
    /// Whose client this is, where it is known: then unsent messages are kept from the first moment on, and nobody else's
    /// credentials are used.
    pub user: Option<String>,
    pub encoding: Encoding,
    pub transport: Transports,
    /// Name and version of the application, for the server's log.
    pub client: String,
    /// Where unsent messages are kept; without one in memory, as long as the client is there.
    pub storage: Option<Arc<dyn OutboxStorage>>,
    /// Keep messages that the server refused in the outbox, for `retry` and `discard`.
    pub keep_failed: bool,
    pub bounds: Bounds,
    pub patience: Patience,
    /// Certificates of authorities in PEM that are trusted beside the system's: where a server's is of one's own. Needs the
    /// feature `tls`.
    pub root_certificates: Vec<u8>,
}

impl Options {
    /// With a server and the defaults.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            addresses: vec![address.into()],
            token: Token::None,
            cookie: None,
            user: None,
            encoding: Encoding::Json,
            transport: Transports::Auto,
            client: concat!("roundtable-client-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            storage: None,
            keep_failed: false,
            bounds: Bounds::default(),
            patience: Patience::default(),
            root_certificates: Vec::new(),
        }
    }

    #[must_use]
    pub fn token(self, token: impl Into<Token>) -> Self {
        Self { token: token.into(), ..self }
    }
}

/// Ends the client when the last one who holds it is gone.
pub(crate) struct Handle(pub Arc<Shared>);

impl Handle {
    pub fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        self.0.with(act)
    }

    pub fn ask(&self, act: impl FnOnce(&mut Core, Ticket)) -> Waits {
        driver::ask(&self.0, act)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(Core::close);
    }
}

/// See the module. Cheap to clone; the connection ends with the last clone, and the last [`Room`].
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    rooms: Arc<Mutex<HashMap<String, Arc<Shelf>>>>,
}

impl Client {
    /// A client that does nothing yet. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// `bad_request`, with the option that is wrong.
    pub fn new(mut options: Options) -> Result<Self, Error> {
        if options.addresses.is_empty() {
            return Err(Error::new(Code::BadRequest, "addresses: none"));
        }
        for address in &options.addresses {
            let secure = address.starts_with("https://");
            if !secure && !address.starts_with("http://") {
                return Err(Error::new(
                    Code::BadRequest,
                    format!("addresses: {address} does not begin with http(s)://"),
                ));
            }
            if secure && !cfg!(feature = "tls") {
                return Err(Error::new(Code::BadRequest, format!("addresses: {address} needs the feature `tls`")));
            }
        }
        if !options.root_certificates.is_empty() && !cfg!(feature = "tls") {
            return Err(Error::new(Code::BadRequest, "root_certificates: needs the feature `tls`"));
        }
        let transport = match options.transport {
            other if cfg!(feature = "http") => other,
            Transports::Stream => {
                return Err(Error::new(Code::BadRequest, "transport: streams need the feature `http`"));
            }
            _ => Transports::WebSocket,
        };
        let core = Core::new(Setup {
            addresses: options.addresses.len(),
            token: match &options.token {
                Token::Fixed(token) => Some(token.clone()),
                _ => None,
            },
            token_source: matches!(options.token, Token::Source(_)),
            user: options.user.clone(),
            client: options.client.clone(),
            transport,
            keep_failed: options.keep_failed,
            bounds: options.bounds,
            patience: options.patience,
        });
        // Held by nobody else, so that it is free once the client is closed.
        let storage = options.storage.take();
        let shared = Shared::new(core, options)?;
        driver::start(&shared, storage);
        Ok(Self { rooms: Arc::clone(&shared.shelves), handle: Arc::new(Handle(shared)) })
    }

    /// Connects, and from then on stays connected. Resolves with the first welcome.
    ///
    /// # Errors
    /// Only where it needs the application: new credentials (`unauthenticated`), or the server does not want it back.
    pub async fn connect(&self) -> Result<User, Error> {
        match self.handle.ask(|core, ticket| core.connect(ticket)).await? {
            Answer::Online(user) => Ok(user),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends it, and waits until the storage has what is unsent. Whoever waits for anything is told `closed`.
    pub async fn close(&self) {
        self.handle.with(Core::close);
        self.handle.0.ended().await;
    }

    /// The room of that id. Nothing is asked of the server by this.
    pub fn room(&self, id: &str) -> Room {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = rooms.entry(id.to_owned()).or_insert_with(|| Arc::new(Shelf::new()));
        Room { id: id.into(), client: Arc::clone(&self.handle), shelf: Arc::clone(shelf) }
    }

    /// How the connection is, and each change (of several at once the last).
    pub fn state(&self) -> watch::Receiver<State> {
        self.handle.0.state.subscribe()
    }

    /// What happens besides entries. Whoever does not read loses the oldest, and is told how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.handle.0.events.subscribe()
    }

    /// Who one is; known with the first connection.
    pub fn user(&self) -> Option<User> {
        self.handle.with(|core| core.user().cloned())
    }

    pub fn limits(&self) -> Option<Limits> {
        self.handle.with(|core| core.limits().cloned())
    }

    /// A new token, for the present connection and those to come; after `unauthorized` it connects again.
    ///
    /// # Errors
    /// The server's refusal of it.
    pub async fn set_token(&self, token: impl Into<String>) -> Result<(), Error> {
        let token = token.into();
        self.handle.ask(|core, ticket| core.set_token(token, ticket)).await.map(drop)
    }

    /// The round trip to the server, now.
    ///
    /// # Errors
    /// `network` without a connection.
    pub async fn ping(&self) -> Result<std::time::Duration, Error> {
        match self.handle.ask(|core, ticket| core.ping(ticket)).await? {
            Answer::Pong(lag) => Ok(lag),
            other => Err(unexpected(&other)),
        }
    }

    /// What is not sent yet, in the order in which it was given.
    pub fn outbox(&self) -> Vec<OutboxItem> {
        self.handle.with(|core| core.outbox().cloned().collect())
    }

    /// Sends a failed message again, with its id.
    pub fn retry(&self, room: &str, id: &str) -> Sending {
        Sending::new(id, self.handle.ask(|core, ticket| core.retry(room, id, ticket)))
    }

    /// Takes a message out. One that is `sending` may be in the log all the same. `false`: it is not here (any more).
    pub fn discard(&self, room: &str, id: &str) -> bool {
        self.handle.with(|core| core.discard(room, id))
    }

    #[cfg(feature = "http")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}
