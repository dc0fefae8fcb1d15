//! A circuit breaker: after a few failures in turn something is taken for away, and only a probe now and then finds out
//! whether it is back. Time is given, in milliseconds of any clock that does not step back.

/// Failures in turn after which it counts as away.
pub const FAILURES: u32 = 5;
/// How long nothing but one probe is let through, milliseconds.
pub const AWAY_MS: u64 = 5_000;

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Ask.
    Ask,
    /// It is away: don't ask.
    Away,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// While it is away: when the next probe may go.
    probe_at: Option<u64>,
}

impl Breaker {
    /// May a request go now? Where it is away, the one that is told to ask is the probe.
    pub fn pass(&mut self, now: u64) -> Passage {
        match self.probe_at {
            None => Passage::Ask,
            Some(at) if now >= at => {
                self.probe_at = Some(now + AWAY_MS);
                Passage::Ask
            }
            Some(_) => Passage::Away,
        }
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether it counts as away from now on, and did not before.
    pub fn failed(&mut self, now: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES || self.probe_at.is_some() {
            return false;
        }
        self.probe_at = Some(now + AWAY_MS);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_turn_and_closes_by_a_probe() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            assert!(!breaker.failed(0));
        }
        breaker.succeeded();
        for n in 1..=FAILURES {
            assert_eq!(breaker.pass(100), Passage::Ask);
            assert_eq!(breaker.failed(100), n == FAILURES);
        }
        assert_eq!(breaker.pass(100 + AWAY_MS - 1), Passage::Away);
        assert_eq!(breaker.pass(100 + AWAY_MS), Passage::Ask, "the probe");
        assert_eq!(breaker.pass(100 + AWAY_MS), Passage::Away, "one at a time");
        assert!(!breaker.failed(100 + AWAY_MS));
        assert_eq!(breaker.pass(100 + 2 * AWAY_MS), Passage::Ask);
        breaker.succeeded();
        assert_eq!(breaker.pass(100 + 2 * AWAY_MS), Passage::Ask);
        assert_eq!(breaker.pass(100 + 2 * AWAY_MS), Passage::Ask);
    }
}
