//! What a client was told about its request is so, and stays so: the entry stands at the acked place, by the acked time,
//! as asked for. A refusal that is not "unknown" means that nothing was stored. Nothing is in a log that nobody asked for.

use std::collections::HashMap;

use roundtable::domain::command::{Command, Reply};
use roundtable::entry::{Body, Entry};

use crate::sim::history::{Fact, History, Request};

pub fn check(history: &History) -> Result<(), String> {
    for (_, fact) in &history.facts {
        let Fact::Answered { req, result, .. } = fact else { continue };
        let request = &history.requests[req];
        let entry = match result {
            Ok(Reply::Sent { seq, at, .. }) => {
                let entry = stands(history, request, *seq)?;
                if entry.at != *at {
                    return Err(format!("{request:?} was answered with another time than {entry:?}"));
                }
                entry
            }
            Ok(Reply::Changed { seq: Some(seq) }) => stands(history, request, *seq)?,
            _ => continue,
        };
        if !fits(entry, request, history) {
            return Err(format!("{request:?} was answered with {entry:?}"));
        }
    }
    nothing_invented(history)?;
    refused_means_not_stored(history)
}

fn stands<'a>(history: &'a History, request: &Request, seq: u64) -> Result<&'a Entry, String> {
    let log = &history.logs[request.room];
    let entry = (seq as usize).checked_sub(1).and_then(|index| log.entries.get(index));
    entry.map(|entry| &**entry).ok_or_else(|| format!("{request:?} was answered with {seq} of {}", log.head()))
}

fn fits(entry: &Entry, request: &Request, history: &History) -> bool {
    entry.user == history.users[request.client]
        && match (&entry.body, &request.command) {
            (Body::Message(message), Command::Send { id, text, reply_to, .. }) => {
                message.id == *id && message.text.as_ref() == Some(text) && message.reply_to == *reply_to
            }
            (Body::Edit { target: at, text: new, .. }, Command::Edit { target, text }) => {
                at == target && new.as_ref() == Some(text)
            }
            (Body::Delete { target: at }, Command::Delete { target }) => at == target,
            (Body::Reaction { target: at, active: on, .. }, Command::React { target, active, .. }) => {
                at == target && on == active
            }
            _ => false,
        }
}

fn nothing_invented(history: &History) -> Result<(), String> {
    let mut asked: HashMap<(usize, usize), Vec<&Request>> = HashMap::new();
    for request in history.requests.values() {
        asked.entry((request.room, request.client)).or_default().push(request);
    }
    for (room, log) in history.logs.iter().enumerate() {
        for entry in &log.entries {
            let client = history.users.iter().position(|user| *user == entry.user).unwrap_or(usize::MAX);
            let of = asked.get(&(room, client)).map_or(&[][..], Vec::as_slice);
            if !of.iter().any(|request| fits(entry, request, history)) {
                return Err(format!("room {room}: nobody asked for {entry:?}"));
            }
        }
    }
    Ok(())
}

fn refused_means_not_stored(history: &History) -> Result<(), String> {
    let mut doubtful: HashMap<u64, usize> = HashMap::new();
    for request in history.requests.values() {
        *doubtful.entry(request.ask).or_default() += 1;
    }
    for (_, fact) in &history.facts {
        let Fact::Answered { req, result: Err(refusal), .. } = fact else { continue };
        let request = &history.requests[req];
        let Command::Send { id, .. } = &request.command else { continue };
        if refusal.code.retryable() || doubtful[&request.ask] > 1 {
            continue;
        }
        let user = &history.users[request.client];
        let stored = history.logs[request.room]
            .entries
            .iter()
            .find(|entry| entry.user == *user && matches!(&entry.body, Body::Message(message) if message.id == *id));
        if let Some(entry) = stored {
            return Err(format!("{request:?} was refused with {refusal:?}, but there is {entry:?}"));
        }
    }
    Ok(())
}
