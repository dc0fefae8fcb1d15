//! How fast a person may write: one token bucket per user and node, shared by WebSocket and HTTP.
//!
//! Bound: one small entry per user who wrote within the last refill; the others are swept out.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::ids::UserId;

pub struct MessageRates {
    limiter: Option<DefaultKeyedRateLimiter<UserId>>,
    clock: DefaultClock,
}

impl MessageRates {
    /// `limits.messages_per_minute` and `limits.messages_burst`; 0 in either means no limit.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute)
            .zip(NonZeroU32::new(burst))
            .map(|(per_minute, burst)| RateLimiter::keyed(Quota::per_minute(per_minute).allow_burst(burst)));
        Self { limiter, clock: DefaultClock::default() }
    }

    /// Takes one token; where there is none: milliseconds until there will be one.
    pub fn over_ms(&self, user: &UserId) -> Option<u64> {
        let wait = self.limiter.as_ref()?.check_key(user).err()?.wait_time_from(self.clock.now());
        Some(wait.as_millis().max(1) as u64)
    }

    /// Forgets users whose bucket is full again. To be called every few seconds.
    pub fn sweep(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rates = MessageRates::new(60, 3);
        let user = UserId::parse("alice").expect("a valid id");
        let other = UserId::parse("bob").expect("a valid id");
        assert_eq!([(); 3].map(|()| rates.over_ms(&user)), [None; 3]);
        let wait = rates.over_ms(&user).expect("over the rate");
        assert!((1..=1_000).contains(&wait), "{wait}");
        assert_eq!(rates.over_ms(&other), None);
        assert!((0..100).all(|_| MessageRates::new(0, 20).over_ms(&user).is_none()));
    }
}
