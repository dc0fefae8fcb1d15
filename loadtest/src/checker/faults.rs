//! The lies that were found: how many of each kind, and the first of them in words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Examples kept of a kind; further ones are only counted.
const EXAMPLES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Acked, but not in the history, or not at the acked seq.
    Lost,
    /// In the history twice, shown to an observer twice, or one id with two seqs.
    Repeated,
    /// Against the order of its sender, or before something that was there already.
    Reordered,
    /// In the history or shown, but never sent so.
    Invented,
    /// A seq left out: in the history, or for an observer.
    Gap,
    /// Two observers, or an observer and the history, have different entries at one seq.
    Disagreement,
    /// Shown to somebody, but beyond the end of the history.
    Forgotten,
    /// A watcher who did not come to the head in time, or who was not let in again.
    Behind,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Repeated => "repeated",
            Self::Reordered => "reordered",
            Self::Invented => "invented",
            Self::Gap => "gap",
            Self::Disagreement => "disagreement",
            Self::Forgotten => "forgotten",
            Self::Behind => "behind",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Faults {
    pub counts: BTreeMap<Kind, u64>,
    pub examples: Vec<String>,
}

impl Faults {
    pub fn add(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= EXAMPLES as u64 {
            self.examples.push(format!("{}: {}", kind.name(), what()));
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        self.examples.extend(other.examples);
    }

    /// The examples, the first of each kind before the second of any, so that many of one kind hide no other.
    pub fn varied(&self) -> Vec<String> {
        let mut so_far = BTreeMap::new();
        let numbered = self.examples.iter().map(|example| {
            let kind = example.split(':').next().unwrap_or_default();
            let number = so_far.entry(kind).and_modify(|n| *n += 1).or_insert(0);
            (*number, example)
        });
        let mut numbered: Vec<(usize, &String)> = numbered.filter(|&(number, _)| number < EXAMPLES).collect();
        numbered.sort_by_key(|&(number, _)| number);
        numbered.into_iter().map(|(_, example)| example.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_of_one_kind_hide_no_other() {
        let (mut faults, mut others) = (Faults::default(), Faults::default());
        for n in 0..100 {
            faults.add(Kind::Reordered, || n.to_string());
            others.add(Kind::Reordered, || n.to_string());
        }
        others.add(Kind::Lost, || "x".into());
        faults.merge(others);
        assert_eq!(faults.counts, BTreeMap::from([(Kind::Reordered, 200), (Kind::Lost, 1)]));
        let examples = faults.varied();
        assert_eq!(examples[..3], ["reordered: 0", "lost: x", "reordered: 1"]);
        assert_eq!(examples.len(), EXAMPLES + 1, "twenty of a kind, however many workers");
    }
}
