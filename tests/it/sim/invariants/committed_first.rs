//! Nobody is told or shown anything before the store has committed it; and what is shown is what was committed, at most
//! with another present text.

use std::collections::BTreeMap;

use roundtable::domain::command::Reply;
use roundtable::entry::{Body, Entry};

use crate::sim::history::{Fact, History};

pub fn check(history: &History) -> Result<(), String> {
    let texts: Vec<_> = history.logs.iter().map(|log| log.texts()).collect();
    for (at, fact) in &history.facts {
        match fact {
            Fact::Answered {
                req,
                result: Ok(Reply::Sent { seq, .. } | Reply::Changed { seq: Some(seq) }),
                log_head,
            } if seq > log_head => {
                return Err(format!("at {at}, {:?} was acked as {seq} of {log_head}", history.requests[req]));
            }
            Fact::Subscribed { head, log_head, room, .. } if head > log_head => {
                return Err(format!("at {at}, room {room} was said to go up to {head} of {log_head}"));
            }
            Fact::Saw { client, room, entry, log_head, .. } => {
                if entry.seq > *log_head {
                    return Err(format!("at {at}, client {client} saw {entry:?} of {log_head}"));
                }
                let committed = &history.logs[*room].entries[entry.seq as usize - 1];
                if !same(entry, committed, &texts[*room]) {
                    return Err(format!("at {at}, client {client} saw {entry:?} for {committed:?}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Texts that each message ever had.
type Texts<'a> = BTreeMap<u64, std::collections::BTreeSet<&'a str>>;

fn same(shown: &Entry, committed: &Entry, texts: &Texts) -> bool {
    let text_known =
        |text: &Option<String>| text.as_ref().is_none_or(|text| texts[&committed.seq].contains(text.as_str()));
    shown.user == committed.user
        && shown.at == committed.at
        && match (&shown.body, &committed.body) {
            (Body::Message(shown), Body::Message(committed)) => {
                shown.id == committed.id && shown.reply_to == committed.reply_to && text_known(&shown.text)
            }
            (Body::Edit { target, text, .. }, Body::Edit { target: of, text: committed, .. }) => {
                target == of && (text == committed || text.is_none())
            }
            (shown, committed) => shown == committed,
        }
}
