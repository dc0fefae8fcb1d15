//! Judges a history: is the log what the promises say, given what was sent, what was acknowledged and what readers saw?
//!
//! It knows four faults: *lost* (acknowledged, but not at its place), *repeated* (one id twice, or a gap in the
//! numbers), *reordered* (a sender's messages in another order than sent) and *invented* (an entry that nobody sent).

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// A message as its sender knows it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub user: String,
    pub id: String,
    pub text: String,
    /// Where the server said it is; `None`: never answered.
    pub seq: Option<u64>,
}

/// Checks the whole `log` of a room against what everyone knows.
///
/// `sent`: of each sender in the order of sending, one after another. `readers`: what each saw, from the first entry on
/// or from anywhere else, in the order it came. Gives the number of entries.
///
/// # Panics
/// With every fault found.
#[track_caller]
pub fn check(log: &[Value], sent: &[Sent], readers: &[(String, Vec<Value>)]) -> usize {
    let faults = faults(log, sent, readers);
    assert!(
        faults.is_empty(),
        "{} faults in {} entries:\n{}",
        faults.len(),
        log.len(),
        faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
    log.len()
}

fn faults(log: &[Value], sent: &[Sent], readers: &[(String, Vec<Value>)]) -> Vec<String> {
    let mut faults = Vec::new();
    let known: HashMap<(&str, &str), &Sent> = sent.iter().map(|s| ((&*s.user, &*s.id), s)).collect();
    let mut places = HashMap::new();
    for (at, entry) in log.iter().enumerate() {
        if entry["seq"] != at as u64 + 1 {
            faults.push(format!("gap: entry {} has seq {}", at + 1, entry["seq"]));
        }
        let key = (entry["user"].as_str().unwrap_or(""), entry["id"].as_str().unwrap_or(""));
        match known.get(&key) {
            Some(message) if entry["text"] == *message.text => {}
            _ => faults.push(format!("invented: {entry}")),
        }
        if places.insert(key, at as u64 + 1).is_some() {
            faults.push(format!("repeated: {entry}"));
        }
    }
    let mut last: HashMap<&str, u64> = HashMap::new();
    for message in sent {
        let place = places.get(&(&*message.user, &*message.id)).copied();
        if message.seq.is_some() && place != message.seq {
            faults.push(format!("lost: {message:?} is at {place:?}"));
        }
        if let Some(place) = place {
            let before = last.insert(&message.user, place).unwrap_or(0);
            if before > place {
                faults.push(format!("reordered: {message:?} is at {place}, the one sent before it at {before}"));
            }
        }
    }
    for (reader, seen) in readers {
        let mut places = HashSet::new();
        for entry in seen {
            let seq = entry["seq"].as_u64().unwrap_or(0);
            if seq == 0 || log.get(seq as usize - 1) != Some(entry) {
                faults.push(format!("{reader} saw {entry}, which the log does not have there"));
            }
            if !places.insert(seq) {
                faults.push(format!("{reader} saw {seq} twice"));
            }
        }
        let seqs: Vec<u64> = seen.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
        if !seqs.windows(2).all(|two| two[0] + 1 == two[1]) {
            faults.push(format!("{reader} saw entries out of order or with a gap"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(seq: u64, id: &str) -> Value {
        json!({"seq": seq, "kind": "message", "user": "a", "at": "2026-01-01T00:00:00.000Z", "id": id, "text": id})
    }

    fn sent(id: &str, seq: Option<u64>) -> Sent {
        Sent { user: "a".into(), id: id.into(), text: id.into(), seq }
    }

    #[test]
    fn it_accepts_what_is_right_and_names_each_fault() {
        let log = [entry(1, "x"), entry(2, "y")];
        let both = [sent("x", Some(1)), sent("y", None)];
        assert_eq!(check(&log, &both, &[("r".into(), log.to_vec())]), 2);
        let find = |log: &[Value], sent: &[Sent], seen: &[Value]| faults(log, sent, &[("r".into(), seen.to_vec())]);
        assert!(find(&log[..1], &[sent("x", Some(1)), sent("y", Some(2))], &[])[0].starts_with("lost"));
        assert!(find(&[entry(1, "x"), entry(2, "x")], &both, &[])[0].starts_with("repeated"));
        assert!(
            find(&[entry(1, "y"), entry(2, "x")], &[sent("x", None), sent("y", None)], &[])[0].starts_with("reord")
        );
        assert!(find(&log, &both[..1], &[])[0].starts_with("invented"));
        assert!(find(&[entry(1, "x"), entry(3, "y")], &both, &[])[0].starts_with("gap"));
        assert!(find(&log, &both, &[entry(2, "y"), entry(1, "x")])[0].contains("out of order"));
        assert!(find(&log, &both, &[entry(1, "z")])[0].contains("does not have"));
    }
}
