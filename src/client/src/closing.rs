//! What the end of a connection asks of its client.

use std::time::Duration;

/// A connection that just broke, or was given up.
pub const BROKEN: u16 = 1006;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The close code; [`BROKEN`] where there was none.
    pub code: u16,
    pub reason: String,
    /// The HTTP status of a refusal before the connection was there.
    pub status: Option<u16>,
    /// Its `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Ending {
    pub fn broken(reason: impl Into<String>) -> Self {
        Self { code: BROKEN, reason: reason.into(), status: None, retry_after: None }
    }
}

/// What to do after a connection that ended with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// 40xx: don't come back.
    End,
    /// 41xx: come back after a growing wait.
    Wait,
    /// 42xx: come back at once (after `reconnect_after_ms` where a notice gave one), best elsewhere.
    Move,
    /// 43xx: get new credentials first.
    Credentials,
    /// Anything else: come back after a random, growing wait.
    Backoff,
}

impl Remedy {
    pub fn of(code: u16) -> Self {
        match code {
            4000..=4099 => Self::End,
            4100..=4199 => Self::Wait,
            4200..=4299 => Self::Move,
            4300..=4399 => Self::Credentials,
            _ => Self::Backoff,
        }
    }
}

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub jitter: Duration,
    pub most: Duration,
}

impl Pace {
    /// How long to wait before attempt `attempt` (0 is the first): a random part of the jitter, then doubling. `chance` is
    /// a random number from 0 up to 1.
    pub fn wait(self, attempt: u32, chance: f64) -> Duration {
        let most = self.jitter.saturating_mul(1 << attempt.min(30)).min(self.most);
        let chance = chance.clamp(0.0, 1.0);
        // All of the first wait is random, so that everybody of a node that died does not come at once; later ones at
        // least half.
        if attempt == 0 { most.mul_f64(chance) } else { most.mul_f64(0.5 + chance / 2.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_to_do_by_its_hundreds() {
        let remedies = [3999, 4000, 4099, 4100, 4199, 4200, 4299, 4300, 4399, 4400, 1001, 1006, 1011].map(Remedy::of);
        use Remedy::{Backoff, Credentials, End, Move, Wait};
        let hundreds = [Backoff, End, End, Wait, Wait, Move, Move, Credentials, Credentials, Backoff];
        assert_eq!(remedies[..10], hundreds);
        assert_eq!(remedies[10..], [Backoff; 3]);
    }

    #[test]
    fn waits_are_random_at_first_then_double_up_to_the_most() {
        let pace = Pace { jitter: Duration::from_millis(1000), most: Duration::from_millis(5000) };
        let ms = |attempt, chance| pace.wait(attempt, chance).as_millis();
        assert_eq!([ms(0, 0.0), ms(0, 0.5), ms(1, 0.0), ms(1, 1.0), ms(2, 0.0)], [0, 500, 1000, 2000, 2000]);
        assert_eq!([ms(3, 1.0), ms(40, 0.0), ms(u32::MAX, 1.0)], [5000, 2500, 5000]);
    }
}
