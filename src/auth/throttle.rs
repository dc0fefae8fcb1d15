//! Guessing passwords gets slower with each wrong guess, and locks nobody out.
//!
//! Three counts: of a user from one address; of a user from everywhere, for those who guess from many addresses; and of a
//! device that has logged in as the user before, which is counted by itself alone. So somebody under attack still gets
//! in where they did before: from a device with its cookie, or from an address where a login of theirs lives.
//!
//! A try counts as wrong until it was right, so tries at the same time are no way around. Bounds: [`MOST`] counts a node,
//! those longest unused are forgotten first; each is forgotten [`MEMORY`] after its last try. Counts are a node's own.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::cache::Cache;
use crate::ids::UserId;

const MOST: usize = 65_536;
const MEMORY: Duration = Duration::from_secs(30 * 60);

/// Whose tries are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Of a user, from an address.
    From(UserId, IpAddr),
    /// Of a user, from everywhere.
    Anywhere(UserId),
    /// Of a user, by a device that was let in before; the nonce of its cookie.
    Device(UserId, [u8; 16]),
}

/// How many wrong ones are free, and the longest wait after more; the first is a second, then twice as long each.
struct Rule {
    free: u32,
    longest: Duration,
}

impl Who {
    fn rule(&self) -> Rule {
        match self {
            Self::From(..) | Self::Device(..) => Rule { free: 5, longest: Duration::from_secs(300) },
            // Shorter, since it meets the innocent too: those at a new device while somebody guesses.
            Self::Anywhere(_) => Rule { free: 20, longest: Duration::from_secs(30) },
        }
    }
}

impl Rule {
    fn wait(&self, wrong: u32) -> Duration {
        match wrong.checked_sub(self.free + 1) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(20)).min(self.longest),
        }
    }
}

#[derive(Clone, Copy)]
struct Count {
    wrong: u32,
    until: Option<Instant>,
}

pub(super) struct Throttle(Cache<Who, Count>);

impl Throttle {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST, MEMORY))
    }

    /// Counts a try.
    ///
    /// # Errors
    /// It is too early: how long to wait. Not counted.
    pub(super) fn begin(&self, who: &Who, now: Instant) -> Result<(), Duration> {
        let rule = who.rule();
        self.0.change(who, |count| {
            let count = count.unwrap_or(Count { wrong: 0, until: None });
            if let Some(until) = count.until.filter(|until| *until > now) {
                return (count, Err(until - now));
            }
            let wrong = count.wrong.saturating_add(1);
            (Count { wrong, until: Some(now + rule.wait(wrong)) }, Ok(()))
        })
    }

    /// A try that was counted was not wrong, or was none.
    pub(super) fn forgive(&self, who: &Who) {
        self.0.change(who, |count| {
            (Count { wrong: count.map_or(0, |count| count.wrong.saturating_sub(1)), until: None }, ())
        });
    }

    /// It was right: nothing of it is remembered.
    pub(super) fn forget(&self, who: &Who) {
        self.0.remove(who);
    }
}

/// What counts as one host: an IPv4 address, or the /64 that one IPv6 host usually has to itself.
pub fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice(from: u8) -> Who {
        Who::From(UserId::parse("alice").expect("a valid id"), IpAddr::from([10, 0, 0, from]))
    }

    #[test]
    fn waits_grow_with_each_wrong_guess_and_end() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let mut now = start;
        for _ in 0..6 {
            throttle.begin(&alice(1), now).expect("free, and the first beyond");
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = throttle.begin(&alice(1), now).expect_err("too early");
            assert!(throttle.begin(&alice(1), now + wait - Duration::from_millis(1)).is_err());
            waits.push(wait.as_secs());
            now += wait;
            throttle.begin(&alice(1), now).expect("waited as told");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        throttle.begin(&alice(2), start).expect("another address has a count of its own");
        throttle.forget(&alice(1));
        throttle.begin(&alice(1), now).expect("it was right");
    }

    #[test]
    fn tries_at_the_same_time_are_counted_one_by_one() {
        let throttle = Throttle::new();
        let now = Instant::now();
        let passed = (0..100).filter(|_| throttle.begin(&alice(1), now).is_ok()).count();
        assert_eq!(passed, 6);
        throttle.forgive(&alice(1));
        throttle.begin(&alice(1), now).expect("one was none");
    }
}
