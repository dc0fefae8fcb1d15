//! When nothing goes wrong any more, everything comes to an end: every request is answered (once), every reader stands at
//! the head, nothing is held or counted that is not there.

use crate::sim::history::History;

pub fn check(history: &History) -> Result<(), String> {
    if history.unfinished.is_empty() { Ok(()) } else { Err(history.unfinished.join("; ")) }
}
