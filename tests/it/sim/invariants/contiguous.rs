//! A log is 1, 2, 3, … without gap or repeat, and every commit goes on where the one before ended.

use crate::sim::history::History;

pub fn check(history: &History) -> Result<(), String> {
    for (room, log) in history.logs.iter().enumerate() {
        for (entry, seq) in log.entries.iter().zip(1..) {
            if entry.seq != seq {
                return Err(format!("room {room}: {} at place {seq}", entry.seq));
            }
        }
        let mut next = 1;
        for commit in &log.commits {
            if commit.first != next {
                return Err(format!("room {room}: a commit begins at {}, not at {next}", commit.first));
            }
            next += commit.entries;
        }
    }
    Ok(())
}
