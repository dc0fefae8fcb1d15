//! Long lines made short enough to draw, without losing a peak.
//!
//! Invariant: the least and the greatest value of the whole line are among what is left, and a gap only stays where a
//! whole bucket is one.

/// At most `limit` (2 or more) points of a line of values at the times `at`, ascending. Where there are more, each
/// stretch of time keeps its least and its greatest value, in the order in which they came, a quarter and three quarters
/// into the stretch: so the lines of one timeline keep their times in common.
pub fn thin(at: &[f64], values: &[Option<f64>], limit: usize) -> (Vec<f64>, Vec<Option<f64>>) {
    let n = at.len().min(values.len());
    if n <= limit {
        return (at[..n].to_vec(), values[..n].to_vec());
    }
    let buckets = (limit / 2).max(1);
    let (mut times, mut thinned) = (Vec::with_capacity(2 * buckets), Vec::with_capacity(2 * buckets));
    for bucket in 0..buckets {
        let (from, until) = (bucket * n / buckets, (bucket + 1) * n / buckets);
        let (start, end) = (at[from], at[until - 1]);
        times.extend([start + (end - start) / 4.0, start + (end - start) * 3.0 / 4.0]);
        let known = || values[from..until].iter().enumerate().filter_map(|(i, value)| Some((i, (*value)?)));
        let least = known().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let greatest = known().max_by(|(_, a), (_, b)| a.total_cmp(b));
        thinned.extend(match (least, greatest) {
            (Some((first, least)), Some((second, greatest))) if first <= second => [Some(least), Some(greatest)],
            (Some((_, least)), Some((_, greatest))) => [Some(greatest), Some(least)],
            _ => [None, None],
        });
    }
    (times, thinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_hours_become_a_thousand_points_and_keep_each_peak_near_its_time() {
        let at: Vec<f64> = (0..14_400).map(f64::from).collect();
        let mut values: Vec<Option<f64>> = at.iter().map(|t| Some(5.0 + (t / 100.0).sin())).collect();
        values[7_777] = Some(2_500.0);
        values[12_001] = Some(0.5);
        let (times, thinned) = thin(&at, &values, 1_000);
        assert_eq!((times.len(), thinned.len()), (1_000, 1_000));
        let peak = thinned.iter().position(|v| *v == Some(2_500.0)).unwrap();
        assert!((times[peak] - 7_777.0).abs() < 29.0);
        assert!(thinned.contains(&Some(0.5)));
        assert!(times.is_sorted());
    }

    #[test]
    fn short_lines_stay_as_they_are_and_gaps_stay_gaps() {
        assert_eq!(thin(&[], &[], 1_000), (vec![], vec![]));
        assert_eq!(thin(&[1.0], &[None], 1_000), (vec![1.0], vec![None]));
        let at: Vec<f64> = (0..100).map(f64::from).collect();
        let values: Vec<_> = (0..100).map(|i| (i < 50).then_some(1.0)).collect();
        let (_, thinned) = thin(&at, &values, 10);
        assert_eq!(thinned, [vec![Some(1.0); 5], vec![Some(1.0)], vec![None; 4]].concat());
    }
}
