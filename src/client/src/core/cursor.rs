//! A cursor over a room's log that survives everything: what to subscribe with, and which entries are next.
//!
//! Invariant: what [`Cursor::take`] lets pass is consecutive from where the cursor was placed; a jump is only ever made
//! by [`Cursor::subscribed`], which says so.

use std::time::Duration;

use super::types::{RoomState, Status, Subscribe, Ticket};
use crate::frames::{ClientFrame, Entry, Subscribed, Verdict};

/// How a placed cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Goes,
    /// Entries behind `from` up to the head are left out.
    Reset {
        from: u64,
    },
    /// They are to be read from the history first.
    Fill {
        from: u64,
    },
}

/// Reading what a reset would leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filling {
    /// Its first entry came.
    pub begun: bool,
    /// The next page waits until the application has taken what it has.
    pub held: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    pub state: RoomState,
    /// What the subscription began with, where there is one.
    pub wanted: Option<Subscribe>,
    /// The last entry that was told; none: not known yet.
    pub at: Option<u64>,
    /// Raised with each subscribe: an answer to an older one decides nothing.
    pub placing: u64,
    pub placed: Option<Ticket>,
    /// Told, and not taken by the application.
    pub untaken: usize,
    pub filling: Option<Filling>,
    /// The read mark that is wanted, and the one that was said on this connection.
    pub marked: u64,
    pub told_mark: u64,
    /// When "is typing" was said last.
    pub typed: Option<Duration>,
    /// What was shown of the state.
    pub shown: RoomState,
}

impl Cursor {
    pub fn begin(&mut self, wanted: Subscribe, ticket: Ticket) -> Option<Ticket> {
        let (after, ..) = wanted.parts();
        self.wanted = Some(wanted);
        self.at = after;
        self.state.seq = after.unwrap_or(0);
        self.untaken = 0;
        self.filling = None;
        self.state.status = Status::Waiting;
        self.placed.replace(ticket)
    }

    /// The request that puts the cursor where it belongs.
    pub fn place(&mut self, room: &str) -> Option<ClientFrame> {
        let (_, last, _) = self.wanted?.parts();
        self.placing += 1;
        self.filling = None;
        self.state.status = Status::Waiting;
        // The place reached counts, and only where there is none yet what was asked for at first.
        Some(ClientFrame::subscribe(room, self.at, if self.at.is_some() { None } else { last }))
    }

    /// What is on its way is void.
    pub fn unplace(&mut self) {
        self.placing += 1;
        self.filling = None;
        if self.wanted.is_some() && self.state.status != Status::Paused {
            self.state.status = Status::Waiting;
        }
    }

    pub fn end(&mut self) -> Option<Ticket> {
        self.wanted = None;
        self.placing += 1;
        self.filling = None;
        self.state.status = Status::Idle;
        self.placed.take()
    }

    pub fn subscribed(&mut self, answer: &Subscribed) -> Begin {
        let (_, _, fill) = self.wanted.unwrap_or_default().parts();
        let head = answer.head;
        (self.state.head, self.state.online) = (head, answer.online);
        self.state.role.clone_from(&answer.role);
        let from = self.at;
        let reset = answer.verdict == Verdict::Reset;
        if reset
            && fill
            && let Some(from) = from.filter(|from| *from < head)
        {
            self.placing += 1;
            self.state.status = Status::Waiting;
            self.filling = Some(Filling { begun: false, held: false });
            return Begin::Fill { from };
        }
        if reset || (from.is_none() && answer.verdict == Verdict::Live) {
            self.at = Some(head);
            if self.untaken == 0 {
                self.state.seq = head;
            }
        }
        let behind = answer.verdict == Verdict::Replay && self.at.is_none_or(|at| at < head);
        self.state.status = if behind { Status::CatchingUp } else { Status::Live };
        if reset { Begin::Reset { from: from.unwrap_or(0) } } else { Begin::Goes }
    }

    /// Those of `events` that are next; `false`: one is missing before the others, and the cursor has to be placed again.
    pub fn take(&mut self, events: Vec<Entry>) -> (Vec<Entry>, bool) {
        // Before the cursor is placed whatever comes is of an older one; it comes again.
        if !matches!(self.state.status, Status::Live | Status::CatchingUp) {
            return (Vec::new(), true);
        }
        let mut next = Vec::with_capacity(events.len());
        for entry in events {
            match self.at {
                Some(at) if entry.seq <= at => continue,
                // Not what the protocol promises.
                Some(at) if entry.seq != at + 1 => return (next, false),
                _ => self.pass(entry, &mut next),
            }
        }
        if self.state.status == Status::CatchingUp && self.at.unwrap_or(0) >= self.state.head {
            self.state.status = Status::Live;
        }
        (next, true)
    }

    /// Those of a page of history that are next, while filling; `false`: the page does not go on where the last one ended.
    pub fn fill(&mut self, events: Vec<Entry>) -> (Vec<Entry>, bool) {
        let mut next = Vec::with_capacity(events.len());
        for entry in events {
            let at = self.at.unwrap_or(0);
            if entry.seq <= at {
                continue;
            }
            // What retention has removed stands before the first entry of all; behind that there is no gap.
            let begun = self.filling.is_some_and(|filling| filling.begun);
            if entry.seq != at + 1 && begun {
                return (next, false);
            }
            self.pass(entry, &mut next);
            if let Some(filling) = &mut self.filling {
                filling.begun = true;
            }
        }
        (next, true)
    }

    fn pass(&mut self, entry: Entry, next: &mut Vec<Entry>) {
        self.at = Some(entry.seq);
        self.state.head = self.state.head.max(entry.seq);
        self.untaken += 1;
        next.push(entry);
    }
}
