//! One id, one entry, one answer: a message is in its log once, every repeat is told the same place and time, and only one
//! answer says that it was new.

use std::collections::{HashMap, HashSet};

use roundtable::domain::command::{Command, Reply};
use roundtable::entry::Body;

use crate::sim::history::{Fact, History};

pub fn check(history: &History) -> Result<(), String> {
    for (room, log) in history.logs.iter().enumerate() {
        let mut known = HashSet::new();
        for entry in &log.entries {
            if let Body::Message(message) = &entry.body
                && !known.insert((&entry.user, &message.id))
            {
                return Err(format!("room {room} has {:?} of {:?} twice", message.id, entry.user));
            }
        }
    }
    let mut told = HashMap::new();
    let mut new = HashSet::new();
    for (_, fact) in &history.facts {
        let Fact::Answered { req, result: Ok(Reply::Sent { seq, at, duplicate }), .. } = fact else { continue };
        let request = &history.requests[req];
        let Command::Send { id, .. } = &request.command else { continue };
        let key = (request.room, request.client, id);
        if *told.entry(key).or_insert((*seq, *at)) != (*seq, *at) {
            return Err(format!("{request:?} was told {seq}, and before {:?}", told[&key]));
        }
        if !duplicate && !new.insert(key) {
            return Err(format!("{request:?} was new twice"));
        }
    }
    Ok(())
}
