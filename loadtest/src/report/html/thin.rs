//! Long lines made short enough to draw, without losing a peak.
//!
//! Invariant: the least and the greatest value of the whole line are in its band, and a gap only stays where a whole
//! stretch is one.

/// A line as it is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thinned {
    pub at: Vec<f64>,
    /// The values; where it was thinned, the median of each stretch.
    pub values: Vec<Option<f64>>,
    /// The least and the greatest value of each stretch; empty where nothing was thinned.
    pub band: Vec<Option<(f64, f64)>>,
}

/// A line of values at the times `at`, ascending, with at most `limit` points. One with more is cut into `limit / 2`
/// stretches alike, each of which keeps its median, its least and its greatest value. Lines of one timeline keep their
/// times in common.
pub fn thin(at: &[f64], values: &[Option<f64>], limit: usize) -> Thinned {
    let n = at.len().min(values.len());
    if n <= limit {
        return Thinned { at: at[..n].to_vec(), values: values[..n].to_vec(), band: Vec::new() };
    }
    let stretches = (limit / 2).max(1);
    let mut thinned = Thinned::default();
    for stretch in 0..stretches {
        let (from, until) = (stretch * n / stretches, (stretch + 1) * n / stretches);
        let mut known: Vec<f64> = values[from..until].iter().copied().flatten().collect();
        known.sort_by(f64::total_cmp);
        thinned.at.push((at[from] + at[until - 1]) / 2.0);
        thinned.values.push(known.get(known.len() / 2).copied());
        thinned.band.push(known.first().copied().zip(known.last().copied()));
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_hours_become_five_hundred_stretches_and_keep_each_peak_near_its_time() {
        let at: Vec<f64> = (0..14_400).map(f64::from).collect();
        let mut values: Vec<Option<f64>> = at.iter().map(|t| Some(5.0 + (t / 100.0).sin())).collect();
        values[7_777] = Some(2_500.0);
        values[12_001] = Some(0.5);
        let Thinned { at, values, band } = thin(&at, &values, 1_000);
        assert_eq!([at.len(), values.len(), band.len()], [500; 3]);
        let peak = band.iter().position(|b| b.is_some_and(|(_, greatest)| greatest == 2_500.0)).unwrap();
        assert!((at[peak] - 7_777.0).abs() < 29.0);
        assert!(values[peak].unwrap() < 7.0, "one second does not move the line");
        assert!(band.iter().flatten().any(|(least, _)| *least == 0.5));
        assert!(at.is_sorted());
    }

    #[test]
    fn short_lines_stay_as_they_are_and_gaps_stay_gaps() {
        assert_eq!(thin(&[], &[], 1_000), Thinned::default());
        assert_eq!(thin(&[1.0], &[None], 1_000), Thinned { at: vec![1.0], values: vec![None], band: vec![] });
        let at: Vec<f64> = (0..100).map(f64::from).collect();
        let values: Vec<_> = (0..100).map(|i| (i < 50).then_some(1.0)).collect();
        let thinned = thin(&at, &values, 20);
        assert_eq!(thinned.values, [vec![Some(1.0); 5], vec![None; 5]].concat());
        assert_eq!(thinned.band, [vec![Some((1.0, 1.0)); 5], vec![None; 5]].concat());
    }
}
