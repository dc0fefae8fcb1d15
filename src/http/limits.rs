//! Rates by client address: all calls of the API, and logins apart.
//!
//! Bounds: each rate remembers at most about [`ADDRESSES`] addresses precisely. Above, until enough of them have been
//! quiet for a while, addresses share [`SLOTS`] buckets: memory stays bounded and the rate still holds for each of them,
//! only that some neighbours pay for each other.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::refusal::Refusal;

/// Addresses that are counted one by one.
const ADDRESSES: usize = 65_536;
/// Buckets that the others share.
const SLOTS: u64 = 4_096;
/// Checks between two clean-ups; so many addresses more may be remembered.
const SWEEP_CHECKS: u32 = 4_096;

/// A token bucket an address: a minute's worth at once, refilled evenly.
pub struct AddressRate {
    clock: DefaultClock,
    exact: DefaultKeyedRateLimiter<IpAddr>,
    shared: DefaultKeyedRateLimiter<u64>,
    hasher: RandomState,
    checks: AtomicU32,
    full: AtomicBool,
    most: usize,
}

impl AddressRate {
    /// `None` for 0: no limit.
    pub fn per_minute(times: u32) -> Option<Self> {
        Some(Self::with_bound(NonZeroU32::new(times)?, ADDRESSES))
    }

    fn with_bound(times: NonZeroU32, most: usize) -> Self {
        let quota = Quota::per_minute(times);
        Self {
            clock: DefaultClock::default(),
            exact: RateLimiter::dashmap(quota),
            shared: RateLimiter::dashmap(quota),
            hasher: RandomState::new(),
            checks: AtomicU32::new(0),
            full: AtomicBool::new(false),
            most,
        }
    }

    /// Takes one from the address's bucket.
    ///
    /// # Errors
    /// `rate_limited` with the time when the next one will be there.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_CHECKS == SWEEP_CHECKS - 1 {
            self.sweep();
        }
        let key = bucket(address);
        let verdict = if self.full.load(Ordering::Relaxed) {
            self.shared.check_key(&(self.hasher.hash_one(key) % SLOTS))
        } else {
            self.exact.check_key(&key)
        };
        verdict.map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            Refusal::rate_limited("too many calls from your address", ms)
        })
    }

    /// Forgets addresses whose bucket is full again.
    fn sweep(&self) {
        self.exact.retain_recent();
        let full = self.exact.len() >= self.most;
        if full != self.full.swap(full, Ordering::Relaxed) {
            tracing::warn!(full, addresses = self.exact.len(), "rates by address share buckets");
        }
        if !full {
            self.shared.retain_recent();
        }
    }
}

/// Who counts as one: an IPv4 address, or the /64 that one IPv6 host usually has to itself.
fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// The rates of the HTTP API; shared by all worker threads.
#[derive(Default)]
pub struct AddressRates {
    /// All calls.
    pub calls: Option<AddressRate>,
    /// Login and register, which cost a password hash.
    pub logins: Option<AddressRate>,
}

impl AddressRates {
    /// Each per minute and address; 0: no limit.
    pub fn new(calls_per_minute: u32, logins_per_minute: u32) -> Self {
        Self { calls: AddressRate::per_minute(calls_per_minute), logins: AddressRate::per_minute(logins_per_minute) }
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
        let rate = AddressRate::per_minute(3).expect("a limit");
        for _ in 0..3 {
            rate.check(v4(1)).expect("within the rate");
        }
        let refusal = rate.check(v4(1)).expect_err("over it");
        assert!((1..=20_000).contains(&refusal.retry_after_ms.expect("says when")));
        rate.check(v4(2)).expect("another address");
        assert!(AddressRate::per_minute(0).is_none());
    }

    #[test]
    fn an_ipv6_host_can_not_help_itself_with_more_addresses() {
        let rate = AddressRate::per_minute(1).expect("a limit");
        rate.check("2001:db8::1".parse().expect("an address")).expect("the first");
        assert!(rate.check("2001:db8::2".parse().expect("an address")).is_err());
        assert!(rate.check("2001:db8:0:1::2".parse().expect("an address")).is_ok());
        rate.check("::ffff:0.0.0.7".parse().expect("an address")).expect("the first");
        assert!(rate.check(v4(7)).is_err(), "the same address, written another way");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_still_limited() {
        let rate = AddressRate::with_bound(NonZeroU32::MIN, 1_000);
        let allowed = (0..100_000).filter(|&n| rate.check(v4(n)).is_ok()).count();
        assert!(rate.exact.len() <= 1_000 + SWEEP_CHECKS as usize);
        assert!(rate.shared.len() <= SLOTS as usize);
        assert!(allowed <= 1_000 + SWEEP_CHECKS as usize + SLOTS as usize);
    }
}
