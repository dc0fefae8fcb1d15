//! Sending every session elsewhere: all are told at once, then they are closed in a spread, each after its answers.
//!
//! Bound: a session whose requests stay unanswered is closed [`LAST_ANSWERS`] after its turn came.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Hub;
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
    /// Those that still wait for answers, with the end of their patience.
    leaving: VecDeque<(Instant, SessionKey)>,
}

impl Hub {
    /// Begins (a second time changes nothing).
    pub(super) fn drain(&self, over: Duration) {
        let mut state = self.state.borrow_mut();
        if state.drain.is_some() {
            return;
        }
        let staying: VecDeque<SessionKey> = state.sessions.iter().map(|(_, core)| core.key).collect();
        let notice = ServerFrame::Notice {
            code: "draining",
            message: "this node is leaving; reconnect when the connection is closed".into(),
            reconnect_after_ms: Some(0),
        };
        for (_, core) in &state.sessions {
            self.send(core, &notice, None);
        }
        state.drain =
            Some(Drain { begin: Instant::now(), over, total: staying.len(), staying, leaving: VecDeque::new() });
        drop(state);
        self.sweep_drain();
    }

    /// Lets those go whose turn has come.
    pub(super) fn sweep_drain(&self) {
        let mut state = self.state.borrow_mut();
        let Some(mut drain) = state.drain.take() else { return };
        let now = Instant::now();
        let share = now.duration_since(drain.begin).as_secs_f64() / drain.over.as_secs_f64().max(0.001);
        let due = (drain.total as f64 * share).ceil() as usize;
        while drain.total - drain.staying.len() < due {
            let Some(key) = drain.staying.pop_front() else { break };
            if let Some(core) = state.session(key) {
                core.leave();
                drain.leaving.push_back((now + LAST_ANSWERS, key));
            }
        }
        drain.leaving.retain(|&(until, key)| state.session(key).is_some_and(|core| !let_go(core, now >= until)));
        state.drain = Some(drain);
    }
}

/// Closes a session that has all its answers; true where it is gone.
fn let_go(core: &Rc<SessionCore>, anyway: bool) -> bool {
    let answered = core.state.borrow().inflight == 0;
    if answered || anyway {
        core.close(Closing::DRAINING);
    }
    answered || anyway
}
