//! A subscription is a cursor over the log: it starts where it was asked to, and gets every entry from there on once, in
//! order, without a gap. It starts elsewhere only where the contract says so, and nothing comes of one that is over.

use std::collections::HashMap;

use roundtable::domain::cursor::{Verdict, Wish};

use crate::sim::history::{Fact, History};
use crate::sim::hub::REPLAY;

pub fn check(history: &History) -> Result<(), String> {
    let mut next: HashMap<(u64, usize), u64> = HashMap::new();
    for (at, fact) in &history.facts {
        match fact {
            Fact::Subscribed { client, conn, room, wish, head, verdict, log_head } => {
                let start = match (wish, verdict) {
                    (Wish::Head, Verdict::Live) => head + 1,
                    (Wish::After(after), Verdict::Live) if after == head => head + 1,
                    (Wish::After(after), Verdict::Replay) if after < head => after + 1,
                    (Wish::After(after), Verdict::Reset) if after > log_head || head - after.min(head) > REPLAY => {
                        head + 1
                    }
                    (Wish::Last(count), Verdict::Live) if (*count).min(*head) == 0 => head + 1,
                    (Wish::Last(count), Verdict::Replay) => head + 1 - count.min(head),
                    _ => {
                        return Err(format!(
                            "at {at}, client {client} asked for {wish:?} and got {verdict:?} at {head} of {log_head}"
                        ));
                    }
                };
                next.insert((*conn, *room), start);
            }
            Fact::Unsubscribed { conn, room } => {
                next.remove(&(*conn, *room));
            }
            Fact::Saw { client, conn, room, entry, .. } => match next.get_mut(&(*conn, *room)) {
                Some(next) if *next == entry.seq => *next += 1,
                Some(next) => {
                    return Err(format!(
                        "at {at}, client {client} in room {room} saw {} in place of {next}",
                        entry.seq
                    ));
                }
                None => return Err(format!("at {at}, client {client} saw {entry:?} without a subscription")),
            },
            Fact::Answered { .. } => {}
        }
    }
    Ok(())
}
