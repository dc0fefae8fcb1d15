//! Once a room was opened again, by another owner or its own after an append of unknown outcome, nothing that was sent off
//! before changes it any more. So appends take effect in the order they were sent off within each epoch.

use crate::sim::history::History;

pub fn check(history: &History) -> Result<(), String> {
    for (room, log) in history.logs.iter().enumerate() {
        for commit in &log.commits {
            if commit.epoch != commit.newest {
                return Err(format!("room {room}: {commit:?}"));
            }
        }
        for two in log.commits.windows(2).filter(|two| two[0].epoch == two[1].epoch) {
            if two[0].issued > two[1].issued {
                return Err(format!("room {room}: {:?} was overtaken by {:?}", two[1], two[0]));
            }
        }
    }
    Ok(())
}
