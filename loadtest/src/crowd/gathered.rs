//! What all workers have reported so far: the live figures, the seconds of the timeline, and the waits by the time at
//! which sends were due.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::crowd::news::Interval;
use crate::crowd::session::Live;
use crate::crowd::tally::histogram;
use crate::report::outcome::Second;

/// How each worker stands.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    connected: u64,
    waiting: u64,
    oldest_due_s: Option<f64>,
}

pub struct Gathered {
    pub live: Live,
    standing: Vec<Standing>,
    pub timeline: Vec<Second>,
    /// Of the second under way.
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
    /// Of the last whole second.
    pub ack_p99_ms: Option<f64>,
    pub delivery_p99_ms: Option<f64>,
    /// Of all since it was last taken, for the steps of a ramp.
    since_taken: (Histogram<u64>, Histogram<u64>),
    /// By second of the load in which sends were due.
    waits: BTreeMap<u32, f64>,
}

fn quantile(histogram: &Histogram<u64>, q: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(q) as f64 / 1e3)
}

impl Gathered {
    pub fn new(workers: usize) -> Self {
        Self {
            live: Live::default(),
            standing: vec![Standing::default(); workers],
            timeline: vec![Second::default()],
            ack: histogram(),
            delivery: histogram(),
            ack_p99_ms: None,
            delivery_p99_ms: None,
            since_taken: (histogram(), histogram()),
            waits: BTreeMap::new(),
        }
    }

    /// News of a worker, at `now_s` of the load.
    pub fn add(&mut self, worker: usize, news: &Interval, now_s: f64) {
        self.turn_to(now_s);
        if let Some(standing) = self.standing.get_mut(worker) {
            *standing = Standing { connected: news.connected, waiting: news.waiting, oldest_due_s: news.oldest_due_s };
        }
        let live = &mut self.live;
        live.sent += news.sent;
        live.acked += news.acked;
        live.delivered += news.delivered;
        live.errors += news.errors;
        live.connected = self.standing.iter().map(|standing| standing.connected).sum();
        live.waiting = self.standing.iter().map(|standing| standing.waiting).sum();
        for (news, now, taken) in [
            (&news.ack, &mut self.ack, &mut self.since_taken.0),
            (&news.delivery, &mut self.delivery, &mut self.since_taken.1),
        ] {
            news.add_to(now);
            news.add_to(taken);
        }
        for &(second, wait) in &news.waits {
            let longest = self.waits.entry(second).or_default();
            *longest = wait.max(*longest);
        }
        if let Some(second) = self.timeline.last_mut() {
            second.sent += news.sent;
            second.acked += news.acked;
            second.delivered += news.delivered;
            second.errors += news.errors;
            (second.connected, second.waiting) = (live.connected, live.waiting);
        }
    }

    /// Ends the seconds that are over. `true`: at least one has ended.
    pub fn turn_to(&mut self, now_s: f64) -> bool {
        let mut turned = false;
        while self.timeline.last().is_some_and(|second| second.at_s + 1.0 <= now_s) {
            turned = true;
            let (live, at_s) = (&self.live, self.timeline.last().map_or(0.0, |second| second.at_s));
            (self.ack_p99_ms, self.delivery_p99_ms) = (quantile(&self.ack, 0.99), quantile(&self.delivery, 0.99));
            if let Some(second) = self.timeline.last_mut() {
                second.ack_p50_ms = quantile(&self.ack, 0.5);
                second.ack_p99_ms = self.ack_p99_ms;
                second.delivery_p50_ms = quantile(&self.delivery, 0.5);
                second.delivery_p99_ms = self.delivery_p99_ms;
            }
            self.ack.reset();
            self.delivery.reset();
            self.timeline.push(Second {
                at_s: at_s + 1.0,
                connected: live.connected,
                waiting: live.waiting,
                ..Second::default()
            });
        }
        turned
    }

    /// The timeline with its longest waits, without a last second that has only begun.
    pub fn into_timeline(mut self) -> Vec<Second> {
        self.timeline.pop();
        for second in &mut self.timeline {
            second.longest_wait_ms = self.waits.get(&(second.at_s as u32)).copied();
        }
        self.timeline
    }

    /// See [`crate::crowd::session::Session::longest_wait_ms`].
    pub fn longest_wait_ms(&self, from_s: f64, until_s: f64, now_s: f64) -> Option<f64> {
        let range = from_s.max(0.0) as u32..=until_s.max(0.0) as u32;
        let acked = self.waits.range(range).map(|(_, &wait)| wait);
        let oldest = self.standing.iter().filter_map(|standing| standing.oldest_due_s);
        let waiting = oldest.filter(|&due| due >= from_s && due <= until_s).map(|due| (now_s - due) * 1e3);
        acked.chain(waiting).max_by(f64::total_cmp)
    }

    /// p99 of acks and deliveries since the last call.
    pub fn take_p99s(&mut self) -> (Option<f64>, Option<f64>) {
        let found = (quantile(&self.since_taken.0, 0.99), quantile(&self.since_taken.1, 0.99));
        self.since_taken.0.reset();
        self.since_taken.1.reset();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::news::Sparse;

    #[test]
    fn seconds_end_one_by_one_and_keep_what_happened_in_them() {
        let mut gathered = Gathered::new(1);
        let news = |acked| Interval { acked, ack: Sparse(vec![(2_000, acked)]), ..Interval::default() };
        gathered.add(0, &news(3), 0.5);
        gathered.add(0, &news(4), 2.5);
        gathered.turn_to(3.0);
        let timeline = gathered.into_timeline();
        assert_eq!(timeline.iter().map(|second| second.acked).collect::<Vec<_>>(), [3, 0, 4]);
        assert_eq!(timeline.iter().map(|second| second.ack_p99_ms.is_some()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_send_that_still_waits_counts_as_much_as_one_that_was_acked() {
        let mut gathered = Gathered::new(1);
        let news = Interval { waits: vec![(1, 20.0), (5, 90.0)], oldest_due_s: Some(2.0), ..Interval::default() };
        gathered.add(0, &news, 6.0);
        assert_eq!(gathered.longest_wait_ms(0.0, 1.9, 6.0), Some(20.0));
        assert_eq!(gathered.longest_wait_ms(0.0, 2.5, 6.0), Some(4_000.0));
        assert_eq!(gathered.longest_wait_ms(3.0, 4.0, 6.0), None);
    }
}
