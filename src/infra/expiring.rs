//! One step of erasing what has disappeared from a room: which of the entries looked at go, and when to look again. What both
//! stores share. Pure.
//!
//! Invariant: everything at or before `upto` that had a text had expired and is erased, so the next step starts behind it.

use crate::entry::Room;
use crate::ids::Millis;

/// An entry behind those that are done.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub seq: i64,
    pub at: Millis,
    /// A message that is not erased.
    pub has_text: bool,
}

/// What to write down.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Messages to erase.
    pub erased: Vec<i64>,
    /// Nothing is left to do up to here.
    pub upto: i64,
    /// When to look again; `None`: never, unless the room gets a `ttl_s`.
    pub due: Option<Millis>,
}

/// `seen`: entries behind `upto` in rising `seq`, without a gap; fewer than were asked for only at the head of the log.
///
/// While the room has a `ttl_s`, the step ends at the first message that has not expired: it will be the next, if `at`s do
/// not step back. Without one, what expired before it was taken away is erased to the end of the log.
pub fn step(room: &Room, seen: &[Seen], upto: i64, asked: usize, now: Millis) -> Step {
    let cutoff = room.expiry().cutoff(now).unwrap_or(0);
    let ttl_ms = i64::from(room.ttl_s) * 1_000;
    let mut step = Step { erased: Vec::new(), upto, due: None };
    for entry in seen {
        if entry.has_text && entry.at <= cutoff {
            step.erased.push(entry.seq);
        } else if entry.has_text && ttl_ms > 0 {
            step.due = Some(entry.at + ttl_ms);
            return step;
        }
        step.upto = entry.seq;
    }
    let more = seen.len() >= asked;
    // Whatever is sent from now on lasts for the whole time.
    step.due = if more { Some(now) } else { (ttl_ms > 0).then_some(now + ttl_ms) };
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RoomKind;
    use crate::ids::RoomId;

    const NOW: Millis = 1_700_000_000_000;

    fn room(ttl_s: u32, expired_before: Millis) -> Room {
        let id = RoomId::parse("r").expect("a valid id");
        Room { ttl_s, expired_before, ..Room::new(id, RoomKind::Public) }
    }

    /// Seconds ago; 0: an entry without a text.
    fn log(ages: &[i64]) -> Vec<Seen> {
        let seen = |(index, &age)| Seen { seq: index as i64 + 1, at: NOW - age * 1_000, has_text: age > 0 };
        ages.iter().enumerate().map(seen).collect()
    }

    #[test]
    fn ends_at_the_first_that_has_not_expired_and_comes_back_when_it_does() {
        let step = step(&room(60, 0), &log(&[100, 0, 60, 59, 10]), 0, 10, NOW);
        assert_eq!(step, Step { erased: vec![1, 3], upto: 3, due: Some(NOW + 1_000) });
    }

    #[test]
    fn goes_on_at_once_where_there_may_be_more() {
        let full = step(&room(60, 0), &log(&[100, 100]), 0, 2, NOW);
        assert_eq!(full, Step { erased: vec![1, 2], upto: 2, due: Some(NOW) });
        let end = step(&room(60, 0), &log(&[100, 100]), 0, 3, NOW);
        assert_eq!(end.due, Some(NOW + 60_000), "nothing can expire before");
        let nothing = step(&room(60, 0), &[], 7, 3, NOW);
        assert_eq!(nothing, Step { erased: vec![], upto: 7, due: Some(NOW + 60_000) });
    }

    #[test]
    fn what_expired_while_there_was_a_ttl_goes_to_the_last_one_though_it_was_taken_away() {
        let off = room(0, NOW - 60_000);
        let step = step(&off, &log(&[100, 30, 70]), 0, 10, NOW);
        assert_eq!(step, Step { erased: vec![1, 3], upto: 3, due: None });
    }
}
