//! Mirrors `actors/bus.rs`: one publish at a time, frames of a link numbered, the last number of a quiet link repeated, a
//! missing number noticed.

use std::collections::BTreeMap;

use super::wire::{NodeIx, RoomIx, Time, Wire};

/// When the last number of a quiet link is repeated, counted from the last frame.
pub const REPEATS: [Time; 4] = [100, 400, 1_500, 5_000];

/// What travels as one publish.
#[derive(Clone, Debug)]
pub struct Frame {
    pub from: NodeIx,
    pub number: u64,
    pub envelopes: Vec<(RoomIx, Wire)>,
}

#[derive(Default)]
struct LinkOut {
    number: u64,
    queue: Vec<(RoomIx, Wire)>,
    sent: u64,
}

/// A node's links. A restarted node is another one, so that a link's life needs no name here.
#[derive(Default)]
pub struct Links {
    out: BTreeMap<NodeIx, LinkOut>,
    incoming: BTreeMap<NodeIx, u64>,
    pub publishing: bool,
}

impl Links {
    /// True where a publish must be started.
    pub fn queue(&mut self, to: NodeIx, room: RoomIx, message: Wire) -> bool {
        let first = self.out.values().all(|link| link.queue.is_empty());
        self.out.entry(to).or_default().queue.push((room, message));
        first && !self.publishing
    }

    /// The frames of one publish, each with what [`Links::repeat`] must be called with.
    pub fn pump(&mut self, from: NodeIx) -> Vec<(NodeIx, Frame, u64)> {
        if self.publishing {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for (&to, link) in &mut self.out {
            if link.queue.is_empty() {
                continue;
            }
            link.number += 1;
            link.sent += 1;
            let envelopes = std::mem::take(&mut link.queue);
            frames.push((to, Frame { from, number: link.number, envelopes }, link.sent));
        }
        self.publishing = !frames.is_empty();
        frames
    }

    /// The empty frame of a link where nothing was sent since `sent`.
    pub fn repeat(&self, from: NodeIx, to: NodeIx, sent: u64) -> Option<Frame> {
        let link = self.out.get(&to).filter(|link| link.sent == sent && link.queue.is_empty())?;
        Some(Frame { from, number: link.number, envelopes: Vec::new() })
    }

    /// Whether a number is missing before this frame.
    pub fn lost_any(&mut self, frame: &Frame) -> bool {
        let expected_step = u64::from(!frame.envelopes.is_empty());
        let before = self.incoming.insert(frame.from, frame.number).unwrap_or(0);
        frame.number != before + expected_step
    }

    pub fn node_lost(&mut self, node: NodeIx) {
        self.out.remove(&node);
        self.incoming.remove(&node);
    }
}
