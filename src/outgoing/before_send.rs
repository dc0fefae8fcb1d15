//! The operator's hook that every new text is shown to before it is stored. It may let it pass, change it or refuse it.
//!
//! Invariants: an answer is there within the deadline, counted from the question, whatever the hook does; a hook that is
//! away costs the first few messages their deadline, then one message now and then. It is the operator's own server, so
//! its address may be private.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use super::addresses::Reach;
use super::{Answered, Client};
use crate::config::{self, Secret, WhenAway};
use crate::domain::breaker::{Breaker, Passage};
use crate::domain::command::{Caller, Command};
use crate::entry::Data;
use crate::ids::{MessageId, RoomId, Seq, UserId};
use crate::metrics::{HookAnswer, Metrics};
use crate::protocol::text;
use crate::refusal::Refusal;

/// When to send again while the hook is away.
const AGAIN_MS: u64 = 1_000;
/// Characters of a reason that senders are told.
const REASON_CHARS: usize = 200;

pub struct BeforeSend {
    client: Client,
    url: Url,
    secret: Secret,
    deadline: Duration,
    when_away: WhenAway,
    /// Empty: all.
    rooms: HashSet<RoomId>,
    breaker: Mutex<Breaker>,
    places: Semaphore,
    started: Instant,
    metrics: Arc<Metrics>,
}

/// What the hook is asked.
#[derive(Serialize)]
struct Question<'a> {
    room: &'a RoomId,
    user: &'a UserId,
    kind: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Seq>,
}

/// What it answers.
#[derive(Deserialize)]
struct Wire {
    action: Action,
    text: Option<String>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Allow,
    Change,
    Refuse,
}

enum Verdict {
    Allow,
    Change(String),
    Refuse(Refusal),
    /// No answer, or none that can be understood.
    Away,
}

impl BeforeSend {
    /// `None` where there is no hook.
    ///
    /// # Errors
    /// Where there can be no client for it.
    pub fn new(config: &config::BeforeSend, metrics: Arc<Metrics>) -> Result<Option<Self>, String> {
        let Some(url) = config.url.0.clone() else { return Ok(None) };
        let client = Client::new(Reach { all: true, networks: Vec::new() })?;
        Ok(Some(Self {
            client,
            url,
            secret: config.secret.clone(),
            deadline: Duration::from_millis(config.deadline_ms),
            when_away: config.when_away,
            rooms: config.rooms.iter().map(|room| room.0.clone()).collect(),
            breaker: Mutex::default(),
            places: Semaphore::new(config.inflight),
            started: Instant::now(),
            metrics,
        }))
    }

    /// Whether the hook is to be asked about this.
    pub fn concerns(&self, room: &RoomId, command: &Command) -> bool {
        let has_text = match command {
            // Over the rate nothing is stored: it is a repeat, or refused.
            Command::Send { over_rate_ms, .. } => over_rate_ms.is_none(),
            Command::Edit { .. } => true,
            _ => false,
        };
        has_text && (self.rooms.is_empty() || self.rooms.contains(room))
    }

    /// The command as the hook lets it pass. A message that it refuses goes on too, marked, since it may be a repeat.
    ///
    /// # Errors
    /// The refusal of an edit.
    pub async fn judge(&self, room: &RoomId, caller: &Caller, mut command: Command) -> Result<Command, Refusal> {
        let verdict = self.ask(room, caller, &command).await;
        let refusal = match verdict {
            Verdict::Allow => return Ok(command),
            Verdict::Change(new) => {
                if let Command::Send { text, .. } | Command::Edit { text, .. } = &mut command {
                    *text = new;
                }
                return Ok(command);
            }
            Verdict::Away if self.when_away == WhenAway::Allow => return Ok(command),
            Verdict::Away => {
                Refusal::unavailable("messages can't be checked now; repeat with the same id").retry_after(AGAIN_MS)
            }
            Verdict::Refuse(refusal) => refusal,
        };
        match &mut command {
            Command::Send { refused, .. } => {
                *refused = Some(refusal);
                Ok(command)
            }
            _ => Err(refusal),
        }
    }

    async fn ask(&self, room: &RoomId, caller: &Caller, command: &Command) -> Verdict {
        let user = &caller.user;
        let question = match command {
            Command::Send { id, text, reply_to, data, .. } => Question {
                room,
                user,
                kind: "message",
                text,
                id: Some(id),
                reply_to: *reply_to,
                data: data.as_ref(),
                target: None,
            },
            Command::Edit { target, text } => {
                Question { room, user, kind: "edit", text, id: None, reply_to: None, data: None, target: Some(*target) }
            }
            _ => return Verdict::Allow,
        };
        let verdict = match serde_json::to_vec(&question) {
            Ok(body) => self.put(body).await,
            Err(_) => Verdict::Away,
        };
        self.metrics.hook_answered(match verdict {
            Verdict::Allow => HookAnswer::Allow,
            Verdict::Change(_) => HookAnswer::Change,
            Verdict::Refuse(_) => HookAnswer::Refuse,
            Verdict::Away => HookAnswer::Away,
        });
        verdict
    }

    async fn put(&self, body: Vec<u8>) -> Verdict {
        let begin = Instant::now();
        // Waiting for a place is a matter of our own load: it says nothing of the hook.
        let place = match tokio::time::timeout(self.deadline, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Verdict::Away,
        };
        if self.breaker().pass(self.now_ms()) == Passage::Away {
            return Verdict::Away;
        }
        let secret = Some(self.secret.expose()).filter(|secret| !secret.is_empty());
        let within = self.deadline.saturating_sub(begin.elapsed());
        let answered = self.client.post(&self.url, body, secret, &[], within).await;
        drop(place);
        self.metrics.hook_took(begin.elapsed());
        let verdict = match &answered {
            Ok(answered) => read(answered),
            Err(failure) => Err(failure.to_string()),
        };
        match verdict {
            Ok(verdict) => {
                self.breaker().succeeded();
                verdict
            }
            Err(why) => {
                if self.breaker().failed(self.now_ms()) {
                    tracing::warn!(why, "hook.before_send.away");
                }
                Verdict::Away
            }
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// # Errors
/// What is wrong with the answer, without anything of it.
fn read(answered: &Answered) -> Result<Verdict, String> {
    if !(200..300).contains(&answered.status) {
        return Err(format!("status {}", answered.status));
    }
    let wire: Wire = serde_json::from_slice(&answered.body).map_err(|_| "not an answer that is known".to_owned())?;
    match (wire.action, wire.text) {
        (Action::Allow, _) => Ok(Verdict::Allow),
        (Action::Change, Some(changed)) => {
            text::message_text(&changed).map(Verdict::Change).map_err(|_| "a text that is not allowed".to_owned())
        }
        (Action::Change, None) => Err("a change without a text".to_owned()),
        (Action::Refuse, _) => {
            let reason = wire.reason.unwrap_or_default();
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS).collect();
            let reason = if reason.trim().is_empty() { "the message was not let through".to_owned() } else { reason };
            Ok(Verdict::Refuse(Refusal::forbidden(reason)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Result<Verdict, String> {
        read(&Answered { status, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn answers_are_read_strictly() {
        assert!(matches!(said(200, r#"{"action":"allow"}"#), Ok(Verdict::Allow)));
        assert!(matches!(said(201, r#"{"action":"change","text":"a\r\nb"}"#), Ok(Verdict::Change(t)) if t == "a\nb"));
        assert!(
            matches!(said(200, r#"{"action":"refuse","reason":"no\u0000!"}"#), Ok(Verdict::Refuse(r)) if r.message == "no!")
        );
        assert!(matches!(said(200, r#"{"action":"refuse"}"#), Ok(Verdict::Refuse(r)) if !r.message.is_empty()));
        let long = format!(r#"{{"action":"change","text":"{}"}}"#, "x".repeat(4_001));
        for (status, body) in [
            (500, r#"{"action":"allow"}"#),
            (302, r#"{"action":"allow"}"#),
            (200, ""),
            (200, "{}"),
            (200, r#"{"action":"maybe"}"#),
            (200, r#"{"action":"change"}"#),
            (200, r#"{"action":"change","text":" "}"#),
            (200, r#"{"action":"change","text":"\u0007"}"#),
            (200, &*long),
        ] {
            assert!(said(status, body).is_err(), "{status} {body}");
        }
    }
}
