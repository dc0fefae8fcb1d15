//! How an idle room stops without losing a request: nobody may hold its handle any more when it does.
//!
//! In steps: the room asks the router how often it was handed out; asks every hub to let go of the handle; and when all
//! have, tells the router, which forgets it only if it was not handed out meanwhile. Any traffic in between calls it off.

use std::time::Duration;

use actix::{ActorContext, AsyncContext, Context};

use super::{Role, RoomActor};
use crate::actors::envelope::PeerMessage;
use crate::actors::messages::RoomNews;

/// A room without readers and requests for one to two of these stops.
const IDLE_CHECK: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Stopping {
    /// Traffic since the last look.
    touched: bool,
    /// Of the attempt under way; late answers to an older one don't count.
    token: u64,
    awaited: usize,
    handed_out: Option<u64>,
}

impl Stopping {
    pub(super) fn touch(&mut self) {
        self.touched = true;
        self.handed_out = None;
    }
}

impl RoomActor {
    pub(super) fn watch_idleness(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(IDLE_CHECK, |actor, ctx| {
            // Whatever went wrong between the nodes (an owner that died and came back, say) ends here at the latest.
            if actor.feed.has_readers() {
                actor.watch(ctx);
            }
            let busy = std::mem::take(&mut actor.stopping.touched) || !actor.is_idle();
            if !busy {
                actor.cx.news.do_send(RoomNews::Idle(actor.id.clone()));
            }
        });
    }

    fn is_idle(&self) -> bool {
        let role_idle = match &self.role {
            Role::Unowned | Role::Opening { .. } => false,
            Role::Missing => true,
            Role::Owner(owning) => owning.is_idle(),
            Role::Mirror(mirroring) => mirroring.out.is_empty(),
        };
        role_idle && self.held.is_empty() && self.requests == 0 && !self.feed.has_readers()
    }

    pub(super) fn handed_out(&mut self, count: u64, ctx: &mut Context<Self>) {
        if self.stopping.touched || !self.is_idle() {
            return;
        }
        self.stopping.handed_out = Some(count);
        self.stopping.token += 1;
        let token = self.stopping.token;
        self.stopping.awaited = self.feed.release(token, &ctx.address().recipient());
    }

    pub(super) fn released(&mut self, token: u64, released: bool) {
        let stopping = &mut self.stopping;
        if token != stopping.token {
            return;
        }
        if !released {
            stopping.handed_out = None;
        }
        stopping.awaited = stopping.awaited.saturating_sub(1);
        if let (0, Some(handed_out)) = (stopping.awaited, stopping.handed_out) {
            self.cx.news.do_send(RoomNews::Stopping { room: self.id.clone(), handed_out });
        }
    }

    pub(super) fn stop_answer(&mut self, stop: bool, ctx: &mut Context<Self>) {
        if !stop {
            return;
        }
        if let Role::Mirror(mirroring) = &self.role {
            let owner = mirroring.owner.clone();
            self.tell(&owner, PeerMessage::Unwatch);
        }
        tracing::debug!(room.id = %self.id, "room.stopped");
        ctx.stop();
    }
}
