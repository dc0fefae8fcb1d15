//! In which order everything of a person is looked for: what both stores share of an erasure. Pure.
//!
//! Invariants: memberships end first, so that nothing of theirs is added behind the place that was looked at; each stage
//! goes on from the place that is stored, in the transaction of what it erased; the second round begins late enough for
//! whatever was under way at the first (a call with cached credentials, an index that is filled behind the log).

use crate::ids::Millis;
use crate::infra::codes;
use crate::ports::{Place, StoreError};

/// How long after the wish the second round begins: longer than any cache of credentials or request lives.
pub const SECOND_ROUND_MS: Millis = 60_000;
/// Memberships ended in one step: each may look through a room's members for its next owner.
pub const ROOMS_A_STEP: u32 = 20;

/// What is looked for; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Rooms,
    /// Messages with their edits, and what other tables hold of them.
    Messages,
    /// Reactions in the log.
    Reacted,
    /// Reactions that are set.
    Reactions,
    /// Reasons of reports they made.
    Reports,
    /// Notes of reports they closed.
    Notes,
    /// Files they uploaded, whether their message came or not.
    Attachments,
    /// Logins that were under way when the wish came.
    Credentials,
}

/// What stands in `erasures` of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub asked_at: Millis,
    /// 0 or 1.
    pub round: i16,
    pub stage: Stage,
    pub place: Place,
    /// `None`: done.
    pub due_at: Option<Millis>,
}

impl Stage {
    const ALL: [Self; 8] = [
        Self::Rooms,
        Self::Messages,
        Self::Reacted,
        Self::Reactions,
        Self::Reports,
        Self::Notes,
        Self::Attachments,
        Self::Credentials,
    ];

    pub fn code(self) -> i16 {
        self as i16
    }

    /// # Errors
    /// A fault where the number means nothing to this release.
    pub fn parse(code: i16) -> Result<Self, StoreError> {
        let known = Self::ALL.into_iter().find(|stage| stage.code() == code);
        known.ok_or_else(|| codes::unknown("stage of an erasure", code))
    }

    fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == self.code() + 1)
    }
}

impl Progress {
    /// After a step at `now`: `Some` place to go on from, or nothing of this kind is left. True: a round ended.
    pub fn advance(&mut self, left: Option<Place>, now: Millis) -> bool {
        if let Some(place) = left {
            self.place = place;
            return false;
        }
        self.place = Place::default();
        if let Some(next) = self.stage.next() {
            self.stage = next;
            return false;
        }
        self.stage = Stage::Rooms;
        self.due_at = (self.round == 0).then(|| now.max(self.asked_at + SECOND_ROUND_MS));
        self.round += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_looked_for_twice_and_then_it_is_done() {
        let begun = Place { room_no: 1, seq: 1 };
        let mut progress =
            Progress { asked_at: 1_000, round: 0, stage: Stage::Rooms, place: begun, due_at: Some(1_000) };
        assert!(!progress.advance(Some(Place { room_no: 2, seq: 3 }), 1_001));
        assert_eq!((progress.stage, progress.place), (Stage::Rooms, Place { room_no: 2, seq: 3 }));
        let ends = (0..8).map(|_| progress.advance(None, 1_002)).collect::<Vec<_>>();
        assert_eq!(ends, [false, false, false, false, false, false, false, true]);
        assert_eq!((progress.round, progress.stage, progress.due_at), (1, Stage::Rooms, Some(61_000)));
        assert_eq!((0..8).filter(|_| progress.advance(None, 70_000)).count(), 1);
        assert_eq!(progress.due_at, None);
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.code()), Ok(stage));
        }
        assert!(Stage::parse(8).is_err());
    }
}
