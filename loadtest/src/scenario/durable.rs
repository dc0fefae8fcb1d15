//! `durable` as a series: for each number of rooms first the most that is acked when every sender's window is always full,
//! then how long an ack takes on a schedule, at half of that.

use crate::crowd::session::nonce;
use crate::fail::Result;
use crate::report::outcome::{Ending, Outcome};
use crate::scenario::command::Stage;
use crate::scenario::{Scenario, Size, plan};

/// One run for each of `rooms` where a rate is given, else two.
pub fn series(stage: &Stage, size: &Size, rooms: &[usize], runs: &mut Vec<Outcome>) -> Result<()> {
    for &rooms in rooms {
        let in_rooms = if rooms == 1 { "1 room".to_owned() } else { format!("{rooms} rooms") };
        let mut most = None;
        for half in [false, true] {
            let mut size = Size { rooms, ..size.clone() };
            let mut label = format!("{in_rooms}, {}/s", size.sends_per_s);
            if size.sends_per_s.is_infinite() {
                label = format!("{in_rooms}, closed loop");
                if half {
                    let Some(most) = most else { break };
                    size.sends_per_s = most / 2.0;
                    label = format!("{in_rooms}, half of that, {:.0}/s", size.sends_per_s);
                }
            } else if half {
                break;
            }
            let (population, load) = plan(Scenario::Durable, &nonce(), &size);
            let outcome = stage.run("durable", &label, population, load)?;
            most = outcome.figure("acked_per_s").filter(|rate| *rate > 0.0);
            let over = outcome.ending != Ending::Finished;
            runs.push(outcome);
            if over {
                return Ok(());
            }
        }
    }
    Ok(())
}
