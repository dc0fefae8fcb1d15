//! Every queue has its bound: the requests a room holds, the frames that wait for a client.

use crate::sim::history::History;
use crate::sim::hub::OUTBOX;
use crate::sim::room::ROOM_REQUESTS;

pub fn check(history: &History) -> Result<(), String> {
    // One more is counted while it is refused; one frame may go over the budget.
    if history.most_requests > ROOM_REQUESTS + 1 {
        return Err(format!("a room held {} requests of {ROOM_REQUESTS}", history.most_requests));
    }
    if history.longest_outbox > OUTBOX + 1 {
        return Err(format!("{} frames waited for a client, of {OUTBOX}", history.longest_outbox));
    }
    Ok(())
}
