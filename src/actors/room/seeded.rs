//! The two bugs of a room that `seeded_bug` knows of. Built only with the feature `seeded-bugs`, never in a release.

use std::time::Duration;

use actix::{AsyncContext, Context};

use super::{Role, RoomActor};
use crate::actors::messages::{Append, AppendDone, Origin};
use crate::domain::command::Reply;
use crate::ids::Seq;
use crate::ports::{Appended, Change, Outcome, RoomAppend};
use crate::seeded_bug::{self, Bug};

/// How long an append that was acknowledged too early is held back. A commit takes a few milliseconds: too small a
/// window for a fault to fall into within a minute or two.
const HEAD_START: Duration = Duration::from_millis(150);

impl RoomActor {
    /// `ack-before-commit`: tells this node's own senders that their messages are in the log, at the places that they
    /// will most likely have, and hands the append on a little later. What a dying node or a refusing store loses in
    /// between was acknowledged. Gives the append back where there is nothing to be early with: then it goes its honest
    /// way. (The honest answer comes later all the same; sessions ignore a second one.)
    pub(super) fn acknowledge_first(&mut self, append: RoomAppend, ctx: &mut Context<Self>) -> Option<RoomAppend> {
        let Role::Owner(owning) = &self.role else { return Some(append) };
        // Other changes may turn out to log nothing: the places behind them can't be told yet.
        let countable = |change: &Change| matches!(change, Change::Message { only_if_known: false, .. });
        if !seeded_bug::is(Bug::AckBeforeCommit) || !append.items.iter().all(|item| countable(&item.change)) {
            return Some(append);
        }
        let first = owning.owner.room().head + 1;
        let early: Vec<_> = owning
            .owner
            .under_way()
            .zip(first..)
            .filter_map(|((token, item), seq)| match token.origin {
                Origin::Session { key, corr } => Some((key, corr, seq, item.at)),
                _ => None,
            })
            .collect();
        if early.is_empty() {
            return Some(append);
        }
        for (key, corr, seq, at) in early {
            self.answer_session(key, corr, Ok(Reply::Sent { seq, at, duplicate: false }));
        }
        self.flush();
        ctx.run_later(HEAD_START, |actor, ctx| {
            actor.cx.append.do_send(Append { append, traced: Vec::new(), reply: ctx.address().recipient() });
        });
        None
    }
}

/// `no-epoch-check`: the owner counts entries by itself from its own head on, whatever numbers the store gave them.
pub(super) fn counted_alone(done: AppendDone, head: Seq) -> AppendDone {
    let AppendDone(Ok(Appended::Done(mut outcomes))) = done else { return done };
    if seeded_bug::is(Bug::NoEpochCheck) {
        let logged = outcomes.iter_mut().filter_map(|outcome| match outcome {
            Outcome::Appended { seq, .. } => Some(seq),
            _ => None,
        });
        logged.zip(head + 1..).for_each(|(seq, own)| *seq = own);
    }
    AppendDone(Ok(Appended::Done(outcomes)))
}
