//! What each fault of a run cost, and the sums by kind.

use crate::chaos::fault::Kind;
use crate::report::table::{Table, median};

/// A fault that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub kind: Kind,
    /// Seconds since the load began.
    pub begun_s: f64,
    pub healed_s: Option<f64>,
    /// Of a send that was due from its begin until a while after it was healed, what other faults that went on with it
    /// cost included; `None` where none was due.
    pub longest_wait_ms: Option<f64>,
}

/// By kind: how many, how long until they were healed, and the longest wait that each caused.
pub fn by_kind(faults: &[Happened]) -> Table {
    let mut table =
        Table::new(&["fault", "count", "median s until healed", "median longest wait ms", "worst longest wait ms"]);
    let mut kinds: Vec<Kind> = faults.iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of_kind = || faults.iter().filter(move |fault| fault.kind == kind);
        let healed = of_kind().filter_map(|fault| Some(fault.healed_s? - fault.begun_s));
        let waits = || of_kind().filter_map(|fault| fault.longest_wait_ms);
        let count = of_kind().count() as f64;
        table.row(&kind.name(), &[Some(count), median(healed), median(waits()), waits().reduce(f64::max)]);
    }
    table
}

/// The longest wait of all.
pub fn worst_wait_ms(faults: &[Happened]) -> Option<f64> {
    faults.iter().filter_map(|fault| fault.longest_wait_ms).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_by_kind_and_what_is_not_known_is_left_out() {
        let fault = |kind, healed_s, longest_wait_ms| Happened { kind, begun_s: 10.0, healed_s, longest_wait_ms };
        let faults = [
            fault(Kind::Kill, Some(12.0), Some(100.0)),
            fault(Kind::Kill, Some(16.0), Some(300.0)),
            fault(Kind::Kill, None, None),
            fault(Kind::Freeze, Some(20.0), Some(900.0)),
        ];
        let text = by_kind(&faults).render();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows, [vec!["kill", "3", "4", "200", "300"], vec!["freeze", "1", "10", "900", "900"]]);
        assert_eq!(worst_wait_ms(&faults), Some(900.0));
        assert_eq!(worst_wait_ms(&[]), None);
    }
}
