//! Keeps the index of texts behind the logs. Each node brings in what it committed itself, so nobody has to look through
//! all rooms for the few with news; one node looks through all of them now and then, for what a node that died left over
//! and for logs that are older than the index.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Jobs, Left};
use crate::metrics::Metrics;
use crate::ports::RoomNo;

/// How often a node looks for its own news, in memory.
const NEWS_EVERY: Duration = Duration::from_millis(500);
/// How often all rooms are looked at. What a dead node left over is found after this, and after the end of that node's
/// lease of the sweep where it had it.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

pub fn start(jobs: &Jobs, metrics: &Arc<Metrics>) {
    let indexed = metrics.search_indexed.clone();
    jobs.start_on_every_node("index-news", NEWS_EVERY, move |store| {
        let indexed = indexed.clone();
        async move {
            let entries = store.index_news().await?;
            indexed.inc_by(entries);
            Ok(if entries > 0 { Left::More } else { Left::Nothing })
        }
    });
    let (indexed, place) = (metrics.search_indexed.clone(), Rc::new(Cell::new(RoomNo(0))));
    jobs.start("index-sweep", SWEEP_EVERY, move |store| {
        let (indexed, place) = (indexed.clone(), Rc::clone(&place));
        async move {
            let swept = store.index_behind(place.get()).await?;
            indexed.inc_by(swept.entries);
            place.set(swept.next.unwrap_or(RoomNo(0)));
            Ok(if swept.next.is_some() { Left::More } else { Left::Nothing })
        }
    });
}
