//! Which nodes seem dead: an inbox that nobody listens on, twice, some time apart.
//!
//! Invariant: one look is under way per node at most, and nobody is condemned by a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::NodeId;

/// Between two looks at an inbox that nobody seemed to listen on: longer than a node needs to subscribe again.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion {
    /// Since when.
    suspects: BTreeMap<NodeId, Duration>,
    looking: BTreeSet<NodeId>,
    condemned: BTreeSet<NodeId>,
}

impl Suspicion {
    /// Somebody met nobody there.
    pub(super) fn suspect(&mut self, node: NodeId, now: Duration) {
        self.suspects.entry(node).or_insert(now);
    }

    /// Whether to look at this node now; the answer comes through [`Suspicion::saw`].
    pub(super) fn look(&mut self, node: &NodeId) -> bool {
        self.looking.insert(node.clone())
    }

    /// `listens`: whether anybody does; `None`: nobody knows.
    pub(super) fn saw(&mut self, node: &NodeId, listens: Option<bool>, now: Duration) {
        self.looking.remove(node);
        match (listens, self.suspects.get(node)) {
            (Some(false), None) => self.suspect(node.clone(), now),
            (Some(false), Some(since)) if now >= *since + SECOND_LOOK => {
                self.condemned.insert(node.clone());
            }
            (Some(false), Some(_)) => {}
            // Starts over.
            (Some(true) | None, _) => self.acquit(node),
        }
    }

    /// Cleared, or gone.
    pub(super) fn acquit(&mut self, node: &NodeId) {
        self.suspects.remove(node);
        self.condemned.remove(node);
    }

    pub(super) fn condemned(&self) -> Option<&NodeId> {
        self.condemned.first()
    }

    fn waiting(&self) -> impl Iterator<Item = (&NodeId, Duration)> {
        let waits = |node: &NodeId| !self.looking.contains(node) && !self.condemned.contains(node);
        self.suspects.iter().filter(move |(node, _)| waits(node)).map(|(node, since)| (node, *since + SECOND_LOOK))
    }

    /// Who is due for the second look.
    pub(super) fn due(&self, now: Duration) -> Vec<NodeId> {
        self.waiting().filter(|(_, at)| now >= *at).map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn next_look(&self) -> Option<Duration> {
        self.waiting().map(|(_, at)| at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_looks_apart_condemn() {
        let ms = Duration::from_millis;
        let node = NodeId::parse("a").expect("a valid id");
        let mut suspicion = Suspicion::default();
        assert!(suspicion.look(&node) && !suspicion.look(&node), "one look at a time");
        suspicion.saw(&node, Some(false), ms(10));
        suspicion.suspect(node.clone(), ms(60));
        assert_eq!(suspicion.due(ms(109)), []);
        assert_eq!(suspicion.next_look(), Some(ms(110)));
        assert_eq!(suspicion.due(ms(110)), vec![node.clone()]);
        assert!(suspicion.look(&node));
        assert_eq!(suspicion.due(ms(111)), [], "it is being looked at");
        suspicion.saw(&node, Some(true), ms(112));
        assert_eq!((suspicion.condemned(), suspicion.next_look()), (None, None));

        suspicion.saw(&node, Some(false), ms(200));
        suspicion.saw(&node, Some(false), ms(299));
        assert_eq!(suspicion.condemned(), None, "too soon after the first");
        suspicion.saw(&node, Some(false), ms(300));
        assert_eq!(suspicion.condemned(), Some(&node));
        suspicion.acquit(&node);
        assert_eq!(suspicion.condemned(), None);
    }
}
