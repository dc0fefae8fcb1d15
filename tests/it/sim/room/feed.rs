//! Mirrors `actors/room/feed.rs` with one hub a node: the ring of recent entries and what the hub is told of them.

use std::rc::Rc;

use roundtable::domain::ring::Ring;
use roundtable::entry::{Body, Entry, Mentions};
use roundtable::ids::{Seq, UserId};

use crate::sim::wire::{Out, Run, ToHub};

/// Entries in a ring: few, so that fetches meet the store often.
const RING_ENTRIES: usize = 12;

pub struct Feed {
    ring: Ring<Rc<Entry>>,
    readers: u32,
}

impl Feed {
    pub fn new() -> Self {
        Self { ring: Ring::new(RING_ENTRIES, usize::MAX, |bytes| bytes), readers: 0 }
    }

    pub fn head(&self) -> Seq {
        self.ring.head()
    }

    pub fn has_readers(&self) -> bool {
        self.readers > 0
    }

    pub fn readers(&self) -> u32 {
        self.readers
    }

    pub fn add_reader(&mut self) {
        self.readers += 1;
    }

    pub fn remove_reader(&mut self) {
        self.readers = self.readers.saturating_sub(1);
    }

    /// As `append`.
    pub fn append(&mut self, entries: Vec<Rc<Entry>>) -> Run {
        for entry in &entries {
            self.ring.push(entry.clone(), 1);
            self.follow(entry);
        }
        entries.into()
    }

    /// As `deliver`.
    pub fn deliver(&self, run: Run, out: &mut Vec<Out>) {
        if self.has_readers() {
            out.push(Out::Hub(ToHub::Deliver(run)));
        }
    }

    /// As `advance`.
    pub fn advance(&mut self, head: Seq, out: &mut Vec<Out>) {
        if head <= self.ring.head() {
            return;
        }
        self.ring.clear_to(head);
        if self.has_readers() {
            out.push(Out::Hub(ToHub::Advance(head)));
        }
    }

    /// As `reload`.
    pub fn reload(&mut self, head: Seq, recent: Vec<Rc<Entry>>, out: &mut Vec<Out>) {
        let behind = self.ring.head() < head;
        self.ring.clear_to(head - recent.len() as Seq);
        for entry in recent {
            self.ring.push(entry, 1);
        }
        if behind && self.has_readers() {
            out.push(Out::Hub(ToHub::Advance(head)));
        }
    }

    /// As `after`.
    pub fn after(&self, after: Seq, limit: usize) -> Option<Vec<Rc<Entry>>> {
        if after > self.head() {
            return Some(Vec::new());
        }
        self.ring.after(after, limit)
    }

    pub fn evict(&self, user: Option<UserId>, out: &mut Vec<Out>) {
        if self.has_readers() {
            out.push(Out::Hub(ToHub::Evict(user)));
        }
    }

    /// As `follow`.
    fn follow(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Edit { target, text: Some(text), mentions } => self.ring.replace(*target, |kept| {
                changed(kept, |body| match body {
                    Body::Message(message) if message.text.is_some() => {
                        message.text = Some(text.clone());
                        message.mentions = mentions.clone();
                        true
                    }
                    _ => false,
                })
            }),
            Body::Delete { target } => {
                let edits: Vec<Seq> = self
                    .ring
                    .iter()
                    .filter(|kept| matches!(kept.body, Body::Edit { target: of, .. } if of == *target))
                    .map(|kept| kept.seq)
                    .collect();
                for seq in edits.into_iter().chain([*target]) {
                    self.ring.replace(seq, |kept| changed(kept, erase));
                }
            }
            _ => {}
        }
    }
}

fn erase(body: &mut Body) -> bool {
    match body {
        Body::Message(message) => {
            message.mentions = Mentions::default();
            message.text.take().is_some()
        }
        Body::Edit { text, mentions, .. } => {
            *mentions = Mentions::default();
            text.take().is_some()
        }
        _ => false,
    }
}

fn changed(kept: &Rc<Entry>, change: impl FnOnce(&mut Body) -> bool) -> Option<(Rc<Entry>, usize)> {
    let mut entry = (**kept).clone();
    change(&mut entry.body).then(|| (Rc::new(entry), 1))
}
