//! Sending sessions elsewhere: every one, all told at once and then closed in a spread, or a few, so that nodes that came
//! later get theirs. Each is closed after its answers.
//!
//! Bound: a session whose requests stay unanswered is closed [`LAST_ANSWERS`] after its turn came.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Hub, State};
use crate::actors::frame::Closing;
use crate::actors::messages::SessionKey;
use crate::actors::session::core::SessionCore;
use crate::protocol::ServerFrame;

/// How long a session's unanswered requests are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A drain under way.
pub struct Drain {
    begin: Instant,
    over: Duration,
    total: usize,
    /// Those whose turn has not come.
    staying: VecDeque<SessionKey>,
}

/// What a session is told that has to go.
fn notice(message: &'static str) -> ServerFrame {
    ServerFrame::Notice { code: "draining", message: message.into(), reconnect_after_ms: Some(0) }
}

impl Hub {
    /// Begins (a second time changes nothing).
    pub(super) fn drain(&self, over: Duration) {
        let mut state = self.state.borrow_mut();
        if state.drain.is_some() {
            return;
        }
        let staying: VecDeque<SessionKey> = state.sessions.iter().map(|(_, core)| core.key).collect();
        let notice = notice("this node is leaving; reconnect when the connection is closed");
        for (_, core) in &state.sessions {
            self.send(core, &notice, None);
        }
        state.drain = Some(Drain { begin: Instant::now(), over, total: staying.len(), staying });
        drop(state);
        self.sweep_drain();
    }

    /// Lets `count` sessions go that are not on their way already, in the order of their slots, beginning after the last
    /// one that had to: one that came again has a slot that was passed lately, and is not asked soon again.
    pub(super) fn let_go(&self, count: usize) {
        let mut state = self.state.borrow_mut();
        if state.drain.is_some() {
            self.context.metrics.sessions_leaving.sub(count as i64);
            return;
        }
        let until = Instant::now() + LAST_ANSWERS;
        let notice = notice("another node has room; reconnect when the connection is closed");
        let slots = state.sessions.capacity();
        let mut told = 0;
        for _ in 0..slots {
            if told == count {
                break;
            }
            let slot = state.next_to_go;
            state.next_to_go = (slot + 1) % slots;
            let Some(core) = state.sessions.get(slot).filter(|core| !core.is_leaving()).cloned() else { continue };
            self.send(&core, &notice, None);
            core.leave();
            state.leaving.push_back((until, core.key));
            told += 1;
        }
        self.context.metrics.rebalanced.inc_by(told as u64);
        // Those that are not here were chosen in vain.
        self.context.metrics.sessions_leaving.sub((count - told) as i64);
    }

    /// Lets those go whose turn has come.
    pub(super) fn sweep_drain(&self) {
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        let leaving = &self.context.metrics.sessions_leaving;
        leaving.add(state.turns_come(now) as i64);
        let mut waiting = std::mem::take(&mut state.leaving);
        let before = waiting.len();
        waiting.retain(|&(until, key)| {
            let there = state.session(key);
            if let Some(core) = there {
                let_go(core, now >= until);
            }
            there.is_some()
        });
        leaving.sub((before - waiting.len()) as i64);
        state.leaving = waiting;
    }
}

impl State {
    /// Of the drain; how many turns have come.
    fn turns_come(&mut self, now: Instant) -> usize {
        let Some(mut drain) = self.drain.take() else { return 0 };
        let share = now.duration_since(drain.begin).as_secs_f64() / drain.over.as_secs_f64().max(0.001);
        let due = (drain.total as f64 * share).ceil() as usize;
        let before = self.leaving.len();
        while drain.total - drain.staying.len() < due {
            let Some(key) = drain.staying.pop_front() else { break };
            if let Some(core) = self.session(key) {
                core.leave();
                self.leaving.push_back((now + LAST_ANSWERS, key));
            }
        }
        self.drain = Some(drain);
        self.leaving.len() - before
    }
}

/// Closes a session that has all its answers.
fn let_go(core: &Rc<SessionCore>, anyway: bool) {
    if !core.outbox.is_finished() && (anyway || core.state.borrow().inflight == 0) {
        core.close(Closing::DRAINING);
    }
}
