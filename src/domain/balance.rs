//! Whether this node has far more than its share of sessions, and how many of them it asks to come again now: after nodes
//! were added, the old ones would keep all their connections for ever.
//!
//! Invariants: never more than `per_minute`; never so many that this node could come to have less than its share, wherever
//! those are that were just asked; nobody while the shares are about even. Who comes again may come to this node too, so it
//! goes on until it is near its share, but not for ever: where asking does not help it stops until nodes come or go.

use std::collections::VecDeque;
use std::time::Duration;

/// So much above its share a node begins: this part of the share, and as many sessions more.
const BEGIN_PART: u64 = 4;
const BEGIN_MORE: u64 = 16;
/// So much above it, it stops; what others have under way that nobody counts stays below that.
const END_PART: u64 = 50;
const END_MORE: u64 = 4;
/// How long it must have had too many: a storm of reconnects or a rolling restart passes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Within this, and within so many beats, one who was asked has gone, come again and been counted where it came.
const SETTLED: Duration = Duration::from_secs(5);
const SETTLED_BEATS: u32 = 4;
/// Asking does not help if the surplus is still there after this many times as many were asked as it takes where they come
/// to any node in turn.
const TRIES: u64 = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct Balance {
    per_second: f64,
    settled: Duration,
    /// Sessions that may be asked now.
    credit: f64,
    last: Duration,
    phase: Phase,
    /// Of the beats within `settled`.
    lately: VecDeque<Beat>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Duration,
    /// Sessions of all nodes, as far as they were counted.
    all: u64,
    asked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Even,
    /// Too many, since then.
    Waiting(Duration),
    /// So many may be asked still.
    Asking(u64),
    /// Asking did not help among so many nodes.
    Futile(u64),
}

/// What is to be done after a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Nothing,
    /// Ask so many.
    Ask(u64),
    /// Nothing any more: those that were asked came back here. Said once.
    GiveUp,
}

impl Balance {
    /// `per_minute`: 0 asks nobody, ever. `beat`: how often the nodes hear of each other.
    pub fn new(per_minute: u32, beat: Duration) -> Self {
        let (per_second, settled) = (f64::from(per_minute) / 60.0, SETTLED.max(beat * SETTLED_BEATS));
        Self { per_second, settled, credit: 0.0, last: Duration::ZERO, phase: Phase::Even, lately: VecDeque::new() }
    }

    /// How many are to be asked, at `now` by a clock that never goes back. `leaving`: those of `own` that have to go already.
    /// `others`: sessions of the other nodes that take traffic, as they said themselves lately.
    pub fn beat(&mut self, now: Duration, own: u64, leaving: u64, others: impl IntoIterator<Item = u64>) -> Advice {
        if self.per_second == 0.0 {
            return Advice::Nothing;
        }
        let passed = now.saturating_sub(std::mem::replace(&mut self.last, now));
        while self.lately.front().is_some_and(|beat| now.saturating_sub(beat.at) >= self.settled) {
            self.lately.pop_front();
        }
        let (nodes, all) = others.into_iter().fold((1, own), |(nodes, all), one| (nodes + 1, all + one));
        self.lately.push_back(Beat { at: now, all, asked: 0 });
        let on_the_way: u64 = self.lately.iter().map(|beat| beat.asked).sum();
        let own = own.saturating_sub(leaving);
        // One who is on the way is counted nowhere for a while.
        let all = self.lately.iter().map(|beat| beat.all).fold(all, u64::max);
        let share = all.div_ceil(nodes);
        let (begin, end) = (share + share / BEGIN_PART + BEGIN_MORE, share + share / END_PART + END_MORE);
        self.phase = match self.phase {
            Phase::Futile(among) if among == nodes && own > end => Phase::Futile(among),
            // Those on the way may come back here.
            Phase::Asking(left) if own + on_the_way > end => Phase::Asking(left),
            Phase::Waiting(since) if own > begin && now.saturating_sub(since) >= PATIENCE => {
                Phase::Asking((own - share).saturating_mul(TRIES * nodes))
            }
            Phase::Waiting(since) if own > begin => Phase::Waiting(since),
            _ if own > begin => Phase::Waiting(now),
            _ => Phase::Even,
        };
        let Phase::Asking(left) = self.phase else {
            self.credit = 0.0;
            return Advice::Nothing;
        };
        // What is not used now is lost, but for the part of a session.
        self.credit = self.credit.min(1.0) + passed.as_secs_f64() * self.per_second;
        if left == 0 && on_the_way == 0 {
            self.phase = Phase::Futile(nodes);
            return Advice::GiveUp;
        }
        // Where some are on the way all the time, they are never counted.
        let enough = end + on_the_way.div_ceil(nodes);
        let count = own.saturating_sub(enough).min(self.credit as u64).min(left);
        if count == 0 {
            return Advice::Nothing;
        }
        self.credit -= count as f64;
        self.phase = Phase::Asking(left - count);
        if let Some(beat) = self.lately.back_mut() {
            beat.asked = count;
        }
        Advice::Ask(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEAT_MS: u64 = 700;
    const BEAT: Duration = Duration::from_millis(BEAT_MS);

    /// A cluster whose nodes hear of each other late, and whose sessions take their time to come again.
    struct Model {
        nodes: Vec<(Balance, u64)>,
        /// What each said of itself at its last beats, the newest last.
        said: VecDeque<Vec<u64>>,
        /// Sessions that were asked and are counted by their old node still, by beat; then by none; `lag` beats each.
        staying: VecDeque<Vec<u64>>,
        away: VecDeque<u64>,
        beat: u64,
        asked: u64,
        gave_up: u64,
    }

    impl Model {
        fn new(per_minute: u32, sessions: &[u64], lag: usize) -> Self {
            Self {
                nodes: sessions.iter().map(|&count| (Balance::new(per_minute, BEAT), count)).collect(),
                said: (0..2).map(|_| sessions.to_vec()).collect(),
                staying: (0..lag).map(|_| vec![0; sessions.len()]).collect(),
                away: (0..lag).map(|_| 0).collect(),
                beat: 0,
                asked: 0,
                gave_up: 0,
            }
        }

        fn sessions(&self) -> Vec<u64> {
            self.nodes.iter().map(|(_, count)| *count).collect()
        }

        /// `choose`: where a session comes, of the sessions a node.
        fn run(&mut self, seconds: u64, choose: &mut dyn FnMut(&[u64]) -> usize) {
            for _ in 0..seconds * 1_000 / BEAT_MS {
                self.beat += 1;
                let now = Duration::from_millis(self.beat * BEAT_MS);
                let said = self.said.pop_front().expect("two");
                let mut staying = vec![0; self.nodes.len()];
                for (n, (balance, own)) in self.nodes.iter_mut().enumerate() {
                    let others = said.iter().enumerate().filter(|&(other, _)| other != n).map(|(_, &count)| count);
                    let leaving = self.staying.iter().map(|staying| staying[n]).sum();
                    match balance.beat(now, *own, leaving, others) {
                        Advice::Nothing => {}
                        Advice::Ask(count) => {
                            staying[n] = count;
                            self.asked += count;
                        }
                        Advice::GiveUp => self.gave_up += 1,
                    }
                }
                self.staying.push_back(staying);
                let gone = self.staying.pop_front().expect("the lag");
                for (node, gone) in self.nodes.iter_mut().zip(&gone) {
                    node.1 -= gone;
                }
                self.away.push_back(gone.iter().sum());
                for _ in 0..self.away.pop_front().expect("the lag") {
                    let to = choose(&self.sessions());
                    self.nodes[to].1 += 1;
                }
                self.said.push_back(self.sessions());
            }
        }
    }

    fn emptiest(sessions: &[u64]) -> usize {
        (0..sessions.len()).min_by_key(|&n| sessions[n]).expect("a node")
    }

    /// Alone beside nodes that stay as they are: how many are asked within so many seconds.
    fn asked(per_minute: u32, own: u64, others: &[u64], seconds: u64) -> u64 {
        let mut balance = Balance::new(per_minute, BEAT);
        let beats = (1..=seconds * 1_000 / BEAT_MS).map(|beat| Duration::from_millis(beat * BEAT_MS));
        beats
            .filter_map(|now| match balance.beat(now, own, 0, others.iter().copied()) {
                Advice::Ask(count) => Some(count),
                Advice::Nothing | Advice::GiveUp => None,
            })
            .sum()
    }

    #[test]
    fn a_new_node_gets_its_share_and_then_it_is_quiet() {
        let mut model = Model::new(600, &[1_000, 1_000, 0], 1);
        model.run(300, &mut emptiest);
        let sessions = model.sessions();
        assert!(sessions.iter().all(|count| (620..=685).contains(count)), "{sessions:?}");
        let before = model.asked;
        assert!(before <= 2_000 / 3, "{before}");
        model.run(300, &mut emptiest);
        assert_eq!((model.asked, model.gave_up), (before, 0));
    }

    #[test]
    fn a_load_balancer_that_takes_turns_needs_more_turns() {
        let mut next = 0;
        let mut model = Model::new(6_000, &[1_000, 1_000, 0], 1);
        model.run(300, &mut |sessions| {
            next += 1;
            next % sessions.len()
        });
        let sessions = model.sessions();
        assert!(sessions.iter().all(|count| (620..=685).contains(count)), "{sessions:?}");
        assert!(model.asked <= 2_000 && model.gave_up == 0, "{} {}", model.asked, model.gave_up);
    }

    #[test]
    fn who_comes_back_every_time_is_left_alone_until_nodes_come() {
        let mut model = Model::new(6_000, &[1_000, 0], 1);
        model.run(600, &mut |_| 0);
        assert_eq!((model.asked, model.gave_up), (500 * 2 * TRIES, 1));
        model.nodes.push((Balance::new(6_000, BEAT), 0));
        model.said.iter_mut().for_each(|said| said.push(0));
        model.staying.iter_mut().for_each(|staying| staying.push(0));
        model.run(600, &mut emptiest);
        assert!(model.sessions().iter().all(|count| (300..=345).contains(count)), "{:?}", model.sessions());
    }

    #[test]
    fn no_more_than_so_many_a_minute() {
        for per_minute in [1, 7, 60, 6_000] {
            let asked = asked(per_minute, 1_000_000, &[0], 60);
            let most = u64::from(per_minute);
            assert!(asked <= most && asked + 2 + most / 8 >= most, "{asked} of {per_minute}");
        }
        // A long time without anybody to ask saves nothing up.
        let mut balance = Balance::new(600, BEAT);
        let hour = Duration::from_secs(3_600);
        assert_eq!(balance.beat(hour, 10, 0, [10]), Advice::Nothing);
        assert_eq!(balance.beat(hour, 1_000, 0, [0]), Advice::Nothing, "patience");
        assert_eq!(balance.beat(hour + PATIENCE - BEAT, 1_000, 0, [0]), Advice::Nothing, "patience");
        assert_eq!(balance.beat(hour + PATIENCE, 1_000, 0, [0]), Advice::Ask(7));
        assert_eq!(balance.beat(hour + PATIENCE + BEAT * 2, 1_000, 0, [0]), Advice::Ask(14));
    }

    #[test]
    fn small_differences_lone_nodes_and_the_setting_off_ask_nobody() {
        assert_eq!(asked(600, 120, &[100, 100], 60), 0);
        assert_eq!(asked(600, 30, &[0], 60), 0);
        assert_eq!(asked(600, 1_000, &[], 60), 0);
        assert_eq!(asked(0, 1_000, &[0], 60), 0);
        assert_eq!(asked(600, 0, &[1_000], 60), 0);
        // Nor what has passed before the patience is at its end.
        assert_eq!(asked(600, 1_000, &[0], 4), 0);
    }

    proptest! {
        /// However late the nodes hear and however fast they ask: nobody who was asked leaves its node with less than the
        /// share, and it comes to an end.
        #[test]
        fn no_node_asks_itself_under_its_share(
            per_minute in 1u32..1_000_000,
            sessions in prop::collection::vec(0u64..3_000, 2..6),
            lag in 1usize..3,
            turns in any::<bool>(),
        ) {
            let all: u64 = sessions.iter().sum();
            let share = all / sessions.len() as u64;
            let low: Vec<u64> = sessions.iter().map(|&count| count.min(share)).collect();
            let mut model = Model::new(per_minute, &sessions, lag);
            let mut next = 0;
            let mut choose = |sessions: &[u64]| {
                next += 1;
                if turns { next % sessions.len() } else { emptiest(sessions) }
            };
            for _ in 0..60 {
                model.run(10, &mut choose);
                for (count, low) in model.sessions().iter().zip(&low) {
                    prop_assert!(count >= low, "{:?} of {sessions:?}", model.sessions());
                }
            }
            let before = model.asked;
            let most = u64::from(per_minute) * 11 + 2;
            prop_assert!(before <= most * sessions.len() as u64);
            if per_minute > 60_000 {
                model.run(60, &mut choose);
                prop_assert_eq!(model.asked, before);
            }
        }
    }
}
