//! What time decides: heartbeats, stalls, deadlines, the ends of credentials. Judged here, since a session can't notice
//! that it stands still. Ten times a second, a tenth of the sessions each time.

use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::rooms::ANSWER_WITHIN;
use super::{HEARTBEAT_S, Hub};
use crate::actors::frame::{self, Closing};
use crate::actors::outbox;
use crate::actors::session::core::{Asked, Phase, SECOND, SIGNALS, SessionCore, Tick};
use crate::domain::revoked::{Ending, Revoked};
use crate::ids::Millis;
use crate::protocol::ServerFrame;
use crate::refusal::Refusal;

/// Seconds within which `hello` must come.
const HELLO_S: Tick = 10;
/// How often a live session says that its login is in use.
const SEEN_EVERY: Tick = 300 * SECOND;
/// Milliseconds before the end of credentials at which it is announced.
const EXPIRY_NOTICE_MS: Millis = 60_000;

/// The wall clock, in Unix milliseconds.
pub fn unix_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

impl Hub {
    /// One tick.
    pub(super) fn sweep(&self) {
        let now = self.now();
        let wall = unix_ms();
        let mut due: Vec<Rc<SessionCore>> = Vec::new();
        {
            let state = self.state.borrow();
            let first = (now % SECOND) as usize;
            let slots = (first..state.sessions.capacity()).step_by(SECOND as usize);
            due.extend(slots.filter_map(|slot| state.sessions.get(slot)).cloned());
        }
        for core in &due {
            self.judge(core, now, wall);
        }
        self.sweep_fetches(now);
        self.sweep_rooms(now);
        self.sweep_drain();
        self.flush();
        let (writes, bytes) = outbox::take_written();
        self.context.metrics.writes.inc_by(writes);
        self.context.metrics.outbound_bytes.inc_by(bytes);
        if now.is_multiple_of(10 * SECOND) && self.index.0 == 0 {
            self.context.rates.sweep();
        }
    }

    fn judge(&self, core: &Rc<SessionCore>, now: Tick, wall: Millis) {
        if core.outbox.is_finished() {
            return;
        }
        let mut session = core.state.borrow_mut();
        session.signals_left = SIGNALS;
        if core.outbox.took_progress() {
            session.progress = now;
        } else if now.saturating_sub(session.progress) >= self.bounds.stall {
            self.context.metrics.stalls.inc();
            core.close_at_once(Closing::STALLED);
            return;
        }
        match session.phase {
            Phase::Open(_) => core.release(),
            _ if now.saturating_sub(session.opened) >= HELLO_S * SECOND => {
                core.close(Closing::UNAUTHENTICATED);
                return;
            }
            _ => {}
        }
        if let Some(expires_at) = session.expires_at {
            if wall >= expires_at {
                core.close(Closing::EXPIRED);
                return;
            }
            if !session.expiry_noticed && expires_at - wall <= EXPIRY_NOTICE_MS {
                session.expiry_noticed = true;
                let message = "send refresh with a new token before the old one ends".into();
                let notice = ServerFrame::Notice { code: "credentials_expiring", message, reconnect_after_ms: None };
                self.send(core, &notice, None);
            }
        }
        if now >= session.next_ping {
            session.next_ping = now + HEARTBEAT_S * SECOND;
            // Every few minutes, without a clock of its own: where a heartbeat steps over the mark.
            if now / SEEN_EVERY != now.saturating_sub(HEARTBEAT_S * SECOND) / SEEN_EVERY
                && let Some(login) = session.login.as_deref()
            {
                self.context.auth.in_use(*login);
            }
            // While bytes wait it is the reader's progress that shows whether it lives; its pongs may be unread, too.
            if core.outbox.waiting_bytes() == 0 && !core.is_held() {
                if session.pings_unanswered >= 2 {
                    core.close(Closing::NO_HEARTBEAT);
                    return;
                }
                session.pings_unanswered += 1;
                self.push(core, frame::ping(core.wire.framing));
            }
        }
        self.expire_requests(core, &mut session);
    }

    /// Answers what a room should have answered.
    fn expire_requests(&self, core: &Rc<SessionCore>, session: &mut crate::actors::session::core::SessionState) {
        if session.pending.is_empty() {
            return;
        }
        let now = Instant::now();
        let overdue: Vec<u32> = session
            .pending
            .iter()
            .filter(|pending| pending.kind.counts() && now.duration_since(pending.since) >= ANSWER_WITHIN)
            .map(|pending| pending.corr)
            .collect();
        for corr in overdue {
            let Some(mut pending) = session.answered(corr) else { continue };
            let refusal = Refusal::unavailable("the room did not answer in time; repeat with the same id");
            self.send(core, &ServerFrame::Error(refusal), pending.reference);
            if matches!(pending.kind, Asked::Recheck) {
                core.close(Closing::TRY_AGAIN);
            }
            if let Asked::Subscribe { unsubscribes, .. } = &pending.kind {
                self.confirm_unsubscribes(core, unsubscribes);
                // If it is admitted after all, the room must learn that nobody reads.
                pending.kind = Asked::Forgotten;
                session.pending.push(pending);
            }
        }
    }

    /// Once a second: looks for rooms that are gone with readers here.
    fn sweep_rooms(&self, now: Tick) {
        if !now.is_multiple_of(SECOND) {
            return;
        }
        let mut state = self.state.borrow_mut();
        let lost: Vec<u32> =
            state.rooms.iter().filter(|(_, room)| room.is_lost()).map(|(slot, _)| slot as u32).collect();
        for slot in lost {
            self.lost(&mut state, slot);
        }
        self.sweep_readmissions(&mut state);
    }

    /// Closes the sessions that stand on what was revoked at `at`.
    pub(super) fn revoked(&self, revoked: &Revoked, at: Instant) {
        self.context.auth.forget(revoked);
        // Who was told to sign in again, and has, is not told twice. Those who came in the same tenth of a second can't be
        // told from them, and are let be.
        let then = self.tick_of(at);
        let state = self.state.borrow();
        for (_, core) in &state.sessions {
            let session = core.state.borrow();
            let (user, login) = match &session.phase {
                // Let in by its upgrade, not greeted yet.
                Phase::New(Some(identity)) => (Some(&identity.user.id), identity.login.as_ref()),
                _ => (core.user(), session.login.as_deref()),
            };
            match revoked {
                Revoked::Login(hash) if login == Some(hash) => core.close(Closing::REVOKED),
                Revoked::Person(whose) if user == Some(whose) => core.close(Closing::REVOKED),
                Revoked::Login(_) | Revoked::Person(_) | Revoked::Known(_) => {}
                Revoked::User { user: whose, but, ending } => {
                    if user != Some(whose) || but.is_some() && login == but.as_ref() {
                        continue;
                    }
                    match ending {
                        Ending::Revoked => core.close(Closing::REVOKED),
                        Ending::SignIn if session.opened < then => core.close(Closing::DISCONNECTED),
                        Ending::SignIn => {}
                    }
                }
            }
        }
    }
}
