//! How long to wait before something that failed is tried again: doubling, within bounds, with jitter.

/// Milliseconds before the try that follows `failures` failures (from 1); `chance` is from 0 to 1 and spreads it by a
/// quarter around the middle.
pub fn wait_ms(failures: u32, least: u64, most: u64, chance: f64) -> u64 {
    let doubled = least.saturating_mul(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
    let middle = doubled.clamp(least, most.max(least)) as f64;
    (middle * (0.75 + 0.5 * chance.clamp(0.0, 1.0))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_within_its_bounds() {
        let wait = |failures| wait_ms(failures, 1_000, 3_600_000, 0.5);
        assert_eq!([wait(1), wait(2), wait(3), wait(12)], [1_000, 2_000, 4_000, 2_048_000]);
        assert_eq!([wait(13), wait(64), wait(65), wait(u32::MAX)], [3_600_000; 4]);
        assert_eq!((wait_ms(1, 1_000, 5_000, 0.0), wait_ms(1, 1_000, 5_000, 1.0)), (750, 1_250));
    }
}
