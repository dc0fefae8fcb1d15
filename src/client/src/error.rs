//! Every failure that an application can meet, with what to do about it.

use std::fmt;
use std::time::Duration;

use crate::frames::Refusal;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What went wrong, in one word: the server's, the same over WebSocket and HTTP, or the client's own.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// Of a server that is newer than this.
            Other(String),
        }

        impl Code {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for Code {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$name,)*
                    _ => Self::Other(word.to_owned()),
                }
            }
        }
    };
}
codes! {
    BadRequest = "bad_request",
    Unauthenticated = "unauthenticated",
    Forbidden = "forbidden",
    NotFound = "not_found",
    Conflict = "conflict",
    RateLimited = "rate_limited",
    Overloaded = "overloaded",
    Unavailable = "unavailable",
    Internal = "internal",
    /// The server could not be reached, or the connection ended.
    Network = "network",
    /// The client was closed.
    Closed = "closed",
    /// The application took the request back.
    Cancelled = "cancelled",
    /// No answer in time.
    Timeout = "timeout",
    /// Too many messages, or too much text, wait to be sent.
    OutboxFull = "outbox_full",
    /// Too many requests wait to be sent.
    QueueFull = "queue_full",
    /// Close 40xx: the server does not want this client back.
    Protocol = "protocol",
    /// Close 4003: banned from the server, or the login was ended.
    Revoked = "revoked",
    /// Close 41xx.
    TooManyConnections = "too_many_connections",
    /// The credentials are of somebody else than `Options::user`.
    DifferentUser = "different_user",
}

/// A failure, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    pub message: String,
    /// The same request may work later.
    pub retryable: bool,
    pub retry_after: Option<Duration>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The close code, where the connection ended.
    pub close_code: Option<u16>,
}

impl Error {
    /// One of the client's own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        use Code::{Network, OutboxFull, QueueFull, Timeout, TooManyConnections};
        let retryable = matches!(code, Network | Timeout | OutboxFull | QueueFull | TooManyConnections);
        Self { code, message: message.into(), retryable, retry_after: None, status: None, close_code: None }
    }

    /// Whether the request may have taken effect all the same: only repeating it (a message with the same id) can tell.
    pub fn unknown(&self) -> bool {
        use Code::{Closed, Internal, Network, Overloaded, Timeout, Unavailable};
        matches!(self.code, Unavailable | Overloaded | Internal | Network | Timeout | Closed)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: Code::from(&*refusal.code),
            message: refusal.message,
            retryable: refusal.retryable,
            retry_after: refusal.retry_after_ms.map(Duration::from_millis),
            status: None,
            close_code: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}
