//! Requests of one connection for one room take effect in the order sent. Judged by messages that were asked for once, and
//! by repeats as long as they stayed on their connection: whatever of them is in the log stands in their order.

use std::collections::{BTreeMap, HashMap};

use roundtable::domain::command::Command;
use roundtable::entry::Body;

use crate::sim::history::History;

pub fn check(history: &History) -> Result<(), String> {
    let mut attempts: HashMap<u64, usize> = HashMap::new();
    for request in history.requests.values() {
        *attempts.entry(request.ask).or_default() += 1;
    }
    let mut places = HashMap::new();
    for (room, log) in history.logs.iter().enumerate() {
        for entry in &log.entries {
            if let Body::Message(message) = &entry.body {
                places.entry((room, entry.user.clone(), message.id.clone())).or_insert(entry.seq);
            }
        }
    }
    let mut last: BTreeMap<(u64, usize), (u64, u64)> = BTreeMap::new();
    for (req, request) in &history.requests {
        let Command::Send { id, .. } = &request.command else { continue };
        if attempts[&request.ask] > 1 {
            continue;
        }
        let Some(&seq) = places.get(&(request.room, history.users[request.client].clone(), id.clone())) else {
            continue;
        };
        let before = last.insert((request.conn, request.room), (seq, *req));
        if let Some((before_seq, before)) = before
            && before_seq > seq
        {
            return Err(format!(
                "request {before} took place {before_seq}, {req} of {} took {seq}: {request:?}",
                request.at
            ));
        }
    }
    Ok(())
}
