//! When a room's entries wait for each other: one write of ten entries costs what one write of one does.
//!
//! Rule: nothing waits while there is time. A room whose fan-out takes long may use about half of its thread: the next
//! one begins no sooner than twice the last one's length after the last one began. Small rooms never wait.

use std::time::Duration;

/// A fan-out shorter than this costs too little for its entries to wait.
pub const FREE: Duration = Duration::from_micros(500);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_millis(25);

/// How long after the begin of a fan-out that took `spent` the next one of the same room may begin.
pub fn pause(spent: Duration) -> Duration {
    if spent < FREE { Duration::ZERO } else { (spent * 2).min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rooms_never_wait_and_large_ones_wait_a_little() {
        assert_eq!(pause(Duration::from_micros(30)), Duration::ZERO);
        assert_eq!(pause(Duration::from_millis(6)), Duration::from_millis(12));
        assert_eq!(pause(Duration::from_secs(3)), LONGEST);
    }
}
