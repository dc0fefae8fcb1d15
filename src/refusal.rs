//! What a request is refused with: one vocabulary for WebSocket `error` frames and HTTP problems.

use serde::{Deserialize, Serialize};

/// The error codes of the contract; nothing else ever reaches a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    RateLimited,
    Overloaded,
    Unavailable,
    Internal,
}

impl Code {
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Unavailable | Self::Internal)
    }
}

/// A refusal: the code, a sentence that carries the remedy, and when to try again where that helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// Milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms.max(1));
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub fn rate_limited(message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self::new(Code::RateLimited, message).retry_after(retry_after_ms)
    }

    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(Code::Overloaded, message).retry_after(1_000)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message).retry_after(500)
    }

    /// A fault; `id` stands in the log line too.
    pub fn internal(id: impl std::fmt::Display) -> Self {
        Self::new(Code::Internal, format!("a fault on our side; the log has it as {id}"))
    }

    /// One answer for invitations that were never made, have ended, were revoked or are used up.
    pub fn no_such_invitation() -> Self {
        Self::not_found("no such invitation, or it has ended or is used up; ask for a new one")
    }

    /// One answer for rooms that don't exist, are deleted, or are hidden from the caller.
    pub fn no_such_room() -> Self {
        Self::not_found("no such room, or it is private and you are not a member")
    }
}
