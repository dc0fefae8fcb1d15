//! Pages of history: read from the store after the room has said that the caller may read.
//!
//! Bound: a session has one page at a time in memory, and none is begun while too much waits for its reader.

use std::rc::Rc;

use bytes::Bytes;

use super::core::{PageJob, SessionCore};
use crate::actors::frame;
use crate::actors::hub::Hub;
use crate::entry::Shown;
use crate::ids::RoomId;
use crate::ports::{Range, StoreError};
use crate::protocol::{self, Encoding, ServerFrame};
use crate::refusal::Refusal;

impl Hub {
    /// Begins the next page of a session, if one waits and it may.
    pub fn next_page(&self, core: &Rc<SessionCore>) {
        let job = {
            let mut state = core.state.borrow_mut();
            let Some(pages) = &mut state.pages else { return };
            if pages.busy || core.outbox.is_over() {
                return;
            }
            match pages.waiting.pop_front() {
                Some(job) => {
                    pages.busy = true;
                    job
                }
                None => {
                    state.pages = None;
                    return;
                }
            }
        };
        let core = Rc::clone(core);
        actix_rt::spawn(async move {
            if let Some(hub) = Hub::current() {
                hub.page(&core, job).await;
            }
        });
    }

    async fn page(&self, core: &Rc<SessionCore>, job: PageJob) {
        let PageJob { room, reference, range, limit } = job;
        let frame_bytes = self.bounds().frame_bytes;
        let page = self.read_page(core, &room, range, limit, frame_bytes).await;
        if let Some(pages) = &mut core.state.borrow_mut().pages {
            pages.busy = false;
        }
        {
            let mut state = core.state.borrow_mut();
            state.inflight = state.inflight.saturating_sub(1);
        }
        match page {
            Ok((entries, more)) => {
                let payload = fitting(core.wire.encoding, &room, (entries, more), range, reference, frame_bytes);
                self.push(core, frame::message(core.wire, &payload));
            }
            Err(StoreError::Unavailable(_)) => {
                let refusal = Refusal::unavailable("the store can't be reached now");
                self.send(core, &ServerFrame::Error(refusal), reference);
            }
            Err(StoreError::Fault(error)) => {
                let fault = format!("{:08x}{:08x}", core.key.slot, core.key.generation);
                tracing::error!(fault.id = %fault, session.id = %core.key, room.id = %room, error = %error, "a page of history can't be read");
                self.send(core, &ServerFrame::Error(Refusal::internal(fault)), reference);
            }
        }
        self.flush();
        self.next_page(core);
    }

    /// The entries, and whether there are more.
    async fn read_page(
        &self,
        core: &SessionCore,
        room: &RoomId,
        range: Range,
        limit: u32,
        max_bytes: usize,
    ) -> Result<(Vec<Shown>, bool), StoreError> {
        let store = &self.context().store;
        let page = store.page(room, range, limit, max_bytes).await?;
        let shown = match core.user() {
            Some(user) => store.shown(room, user, page.entries).await?,
            None => Vec::new(),
        };
        Ok((shown, page.more))
    }
}

/// The page as one frame's payload of at most `frame_bytes` or one entry; what does not fit is left out at its far end.
fn fitting(
    encoding: Encoding,
    room: &RoomId,
    (mut entries, mut more): (Vec<Shown>, bool),
    range: Range,
    reference: Option<u64>,
    frame_bytes: usize,
) -> Bytes {
    loop {
        let payload = protocol::history(encoding, room, &entries, more, reference);
        if payload.len() <= frame_bytes || entries.len() <= 1 {
            return payload;
        }
        let keep = (entries.len() * frame_bytes / payload.len()).clamp(1, entries.len() - 1);
        match range {
            Range::After(_) => entries.truncate(keep),
            Range::Before(_) | Range::Newest => {
                entries.drain(..entries.len() - keep);
            }
        }
        more = true;
    }
}
