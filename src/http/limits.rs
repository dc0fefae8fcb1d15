//! Rates of HTTP calls: by client address, logins apart, and by user.
//!
//! Bounds: each rate remembers at most about [`KEYS`] addresses or users precisely. Above, until enough of them have been
//! quiet for a while, they share [`SLOTS`] buckets: memory stays bounded and the rate still holds for each of them,
//! only that some neighbours pay for each other.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::auth::host;
use crate::config::Limits;
use crate::ids::UserId;
use crate::refusal::Refusal;

/// Addresses or users that are counted one by one.
const KEYS: usize = 65_536;
/// Buckets that the others share.
const SLOTS: u64 = 4_096;
/// Checks between two clean-ups; so many more may be remembered.
const SWEEP_CHECKS: u32 = 4_096;

/// A token bucket an address or user: a minute's worth at once, refilled evenly.
pub struct Rate<K: Hash + Eq + Clone> {
    /// What a refusal says.
    message: &'static str,
    clock: DefaultClock,
    exact: DefaultKeyedRateLimiter<K>,
    shared: DefaultKeyedRateLimiter<u64>,
    hasher: RandomState,
    checks: AtomicU32,
    full: AtomicBool,
    most: usize,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `None` for 0: no limit.
    pub fn per_minute(times: u32, message: &'static str) -> Option<Self> {
        Some(Self::with_bound(NonZeroU32::new(times)?, KEYS, message))
    }

    fn with_bound(times: NonZeroU32, most: usize, message: &'static str) -> Self {
        let quota = Quota::per_minute(times);
        Self {
            message,
            clock: DefaultClock::default(),
            exact: RateLimiter::dashmap(quota),
            shared: RateLimiter::dashmap(quota),
            hasher: RandomState::new(),
            checks: AtomicU32::new(0),
            full: AtomicBool::new(false),
            most,
        }
    }

    /// Takes one from the bucket of `key`.
    ///
    /// # Errors
    /// `rate_limited` with the time when the next one will be there.
    pub fn take(&self, key: K) -> Result<(), Refusal> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_CHECKS == SWEEP_CHECKS - 1 {
            self.sweep();
        }
        let verdict = if self.full.load(Ordering::Relaxed) {
            self.shared.check_key(&(self.hasher.hash_one(&key) % SLOTS))
        } else {
            self.exact.check_key(&key)
        };
        verdict.map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            Refusal::rate_limited(self.message, ms)
        })
    }

    /// Forgets those whose bucket is full again.
    fn sweep(&self) {
        self.exact.retain_recent();
        let full = self.exact.len() >= self.most;
        if full != self.full.swap(full, Ordering::Relaxed) {
            tracing::warn!(full, keys = self.exact.len(), "rates share buckets");
        }
        if !full {
            self.shared.retain_recent();
        }
    }
}

impl Rate<IpAddr> {
    /// Takes one from the bucket of the host with this address.
    ///
    /// # Errors
    /// As [`Rate::take`].
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        self.take(host(address))
    }
}

/// The rates of the HTTP API; shared by all worker threads.
#[derive(Default)]
pub struct Rates {
    /// All calls.
    pub calls: Option<Rate<IpAddr>>,
    /// Posts to streams.
    pub posts: Option<Rate<IpAddr>>,
    /// Login and register, which cost a password hash.
    pub logins: Option<Rate<IpAddr>>,
    /// All calls with credentials.
    pub users: Option<Rate<UserId>>,
}

impl Rates {
    /// `limits.http_per_minute`, `limits.stream_posts_per_minute`, `limits.logins_per_minute`,
    /// `limits.http_per_user_minute`; 0: no limit.
    pub fn new(limits: &Limits) -> Self {
        const ADDRESS: &str = "too many calls from your address";
        Self {
            calls: Rate::per_minute(limits.http_per_minute, ADDRESS),
            posts: Rate::per_minute(limits.stream_posts_per_minute, "too many posts from your address"),
            logins: Rate::per_minute(limits.logins_per_minute, ADDRESS),
            users: Rate::per_minute(limits.http_per_user_minute, "too many calls of yours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn each_address_has_its_own_bucket() {
        let rate = Rate::per_minute(3, "").expect("a limit");
        for _ in 0..3 {
            rate.check(v4(1)).expect("within the rate");
        }
        let refusal = rate.check(v4(1)).expect_err("over it");
        assert!((1..=20_000).contains(&refusal.retry_after_ms.expect("says when")));
        rate.check(v4(2)).expect("another address");
        assert!(Rate::<IpAddr>::per_minute(0, "").is_none());
    }

    #[test]
    fn an_ipv6_host_can_not_help_itself_with_more_addresses() {
        let rate = Rate::per_minute(1, "").expect("a limit");
        rate.check("2001:db8::1".parse().expect("an address")).expect("the first");
        assert!(rate.check("2001:db8::2".parse().expect("an address")).is_err());
        assert!(rate.check("2001:db8:0:1::2".parse().expect("an address")).is_ok());
        rate.check("::ffff:0.0.0.7".parse().expect("an address")).expect("the first");
        assert!(rate.check(v4(7)).is_err(), "the same address, written another way");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_still_limited() {
        let rate = Rate::with_bound(NonZeroU32::MIN, 1_000, "");
        let allowed = (0..100_000).filter(|&n| rate.check(v4(n)).is_ok()).count();
        assert!(rate.exact.len() <= 1_000 + SWEEP_CHECKS as usize);
        assert!(rate.shared.len() <= SLOTS as usize);
        assert!(allowed <= 1_000 + SWEEP_CHECKS as usize + SLOTS as usize);
    }
}
