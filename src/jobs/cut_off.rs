//! Looks, on every node, for people who were erased or banned from the server, so that a node that was not told of it
//! (the bus may lose that) learns of it all the same.
//!
//! Invariant: everybody who is cut off at a time at which this node can reach the store, or later, is told of here
//! within [`EVERY`] and about the time until the store is back; telling somebody twice is harmless.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::domain::revoked::Revoked;
use crate::ids::Millis;
use crate::ports::{CutOff, MessageStore, StoreError};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How far back each look goes: longer than a transaction may take between its clock and its commit.
const OVERLAP_MS: Millis = 30_000;
/// How often each is told: a second time for what was under way at the first, such as credentials being checked.
const TIMES: u8 = 2;

/// Tells this node until `stop`.
pub fn start(store: Arc<dyn MessageStore>, tell: impl Fn(Revoked) + 'static, mut stop: watch::Receiver<bool>) {
    actix_rt::spawn(async move {
        let mut looked = Looked::default();
        while timeout(EVERY, stop.wait_for(|stop| *stop)).await.is_err() {
            match looked.look(&*store).await {
                Ok(found) => found.into_iter().for_each(&tell),
                // The next look goes as far back as this one would have.
                Err(error) => tracing::debug!(error = %error, "cut_off.unknown"),
            }
        }
    });
}

#[derive(Default)]
struct Looked {
    /// `None`: not yet.
    until: Option<Millis>,
    told: HashMap<CutOff, u8>,
}

impl Looked {
    async fn look(&mut self, store: &dyn MessageStore) -> Result<Vec<Revoked>, StoreError> {
        let until = match self.until {
            Some(until) => until,
            None => store.cut_off(Millis::MAX).await?.0,
        };
        let (now, found) = store.cut_off(until - OVERLAP_MS).await?;
        self.until = Some(now);
        Ok(self.news(found))
    }

    fn news(&mut self, found: Vec<CutOff>) -> Vec<Revoked> {
        let mut before = std::mem::take(&mut self.told);
        let mut news = Vec::new();
        for cut_off in found {
            let times = before.remove(&cut_off).unwrap_or(0);
            if times < TIMES {
                let user = cut_off.user.clone();
                news.push(if cut_off.erased { Revoked::Person(user) } else { Revoked::user(user) });
            }
            self.told.insert(cut_off, times.saturating_add(1).min(TIMES));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    #[test]
    fn each_is_told_twice_and_again_when_it_happens_again() {
        let user = UserId::parse("alice").expect("a valid id");
        let erased = |at| CutOff { user: user.clone(), at, erased: true };
        let mut looked = Looked::default();
        assert_eq!(looked.news(vec![erased(1)]), [Revoked::Person(user.clone())]);
        assert_eq!(looked.news(vec![erased(1)]).len(), 1);
        assert_eq!(looked.news(vec![erased(1)]), []);
        assert_eq!(looked.news(vec![erased(1), erased(2)]).len(), 1);
        assert_eq!(looked.news(Vec::new()), []);
        assert!(looked.told.is_empty(), "nothing is remembered for longer than it is found");
        let banned = CutOff { erased: false, ..erased(3) };
        assert_eq!(looked.news(vec![banned]), [Revoked::user(user.clone())]);
    }
}
