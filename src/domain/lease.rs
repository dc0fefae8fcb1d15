//! The lease as a node itself counts it: by its own monotonic clock, always shorter than the bus counts it.
//!
//! Invariant: [`Lease::holds`] turns false before the bus can have given the lease up, because it counts from the start
//! of the request that renewed it (the bus counts from a later moment) and less a margin (clocks run at different speeds).

use std::time::Duration;

/// Times are on the node's own monotonic clock, as time since any fixed moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    length: Duration,
    /// When the request began that was last known to renew it.
    renewed: Option<Duration>,
}

impl Lease {
    /// A lease of `length` that is not held yet.
    pub fn new(length: Duration) -> Self {
        Self { length, renewed: None }
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// Kept between the own end of the lease and the bus's: a tenth, for what passes between noticing the end and
    /// everyone having stopped.
    pub fn margin(&self) -> Duration {
        self.length / 10
    }

    /// How often to renew.
    pub fn beat_every(&self) -> Duration {
        self.length / 3
    }

    /// How soon to try again after a failed beat.
    pub fn retry_every(&self) -> Duration {
        self.length / 20
    }

    /// A beat that began at `began` succeeded. Answers may come in any order.
    pub fn renew(&mut self, began: Duration) {
        self.renewed = self.renewed.max(Some(began));
    }

    /// The bus says that it is gone.
    pub fn lose(&mut self) {
        self.renewed = None;
    }

    /// When to stop accepting, unless it is renewed before; `None`: it isn't held.
    pub fn ends(&self) -> Option<Duration> {
        Some(self.renewed? + self.length - self.margin())
    }

    /// Whether this node may act as an owner.
    pub fn holds(&self, now: Duration) -> bool {
        self.ends().is_some_and(|ends| now < ends)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_holds_from_the_start_of_the_last_good_beat() {
        let mut lease = Lease::new(ms(2_000));
        assert!(!lease.holds(ms(0)));
        lease.renew(ms(1_000));
        assert!(lease.holds(ms(2_799)));
        assert!(!lease.holds(ms(2_800)));
        lease.renew(ms(500));
        assert_eq!(lease.ends(), Some(ms(2_800)), "a late answer to an early beat shortens nothing");
        lease.lose();
        assert!(!lease.holds(ms(1_000)));
    }

    proptest! {
        /// The bus renews at some moment between the request's start and its answer, on a clock up to 1 % faster.
        #[test]
        fn it_ends_before_the_bus_ends_it(
            length in 300_u64..60_000,
            beats in prop::collection::vec((1_u64..5_000, 0_u64..900, 0.0_f64..1.0), 1..20),
        ) {
            let mut lease = Lease::new(ms(length));
            let (mut now, mut bus_ends) = (0, 0.0_f64);
            for (pause, travel, arrived) in beats {
                now += pause;
                lease.renew(ms(now));
                bus_ends = bus_ends.max((now as f64 + travel as f64 * arrived) + length as f64 / 1.01);
                let ends = lease.ends().expect("it was renewed").as_millis() as f64;
                prop_assert!(ends < bus_ends);
            }
        }
    }
}
