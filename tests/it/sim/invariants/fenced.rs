//! Once a room was opened by another owner, its former one changes nothing any more.

use crate::sim::history::History;

pub fn check(history: &History) -> Result<(), String> {
    for (room, log) in history.logs.iter().enumerate() {
        for commit in &log.commits {
            if commit.epoch != commit.newest {
                return Err(format!("room {room}: {commit:?}"));
            }
        }
    }
    Ok(())
}
