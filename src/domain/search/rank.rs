//! What a match is worth: how well the text fits, and how new it is. The order is total and, for one start of paging,
//! stays what it was.

use super::terms::joined;
use super::wanted::Wanted;
use crate::ids::Millis;

/// After this time newness is worth half.
const HALF_LIFE_MS: f64 = 30.0 * 24.0 * 60.0 * 60.0 * 1000.0;
/// The part of a score that age can't take.
const AGELESS: f64 = 0.25;
/// A match within a word, against one of a whole word.
const WITHIN: f64 = 0.5;
/// What a match counts that was found behind the part that is ranked.
const UNSEEN: f64 = 0.5;
/// Repetitions of an item that are counted.
const REPEATS: usize = 8;

/// A place in the order of results: better first, of equals the newer first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub score: f64,
    /// The message's number in the index.
    pub id: i64,
}

impl Place {
    /// Whether this one comes behind `other`.
    pub fn is_behind(self, other: Self) -> bool {
        self.order(other) == std::cmp::Ordering::Greater
    }

    /// As results are sorted.
    pub fn order(self, other: Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then(other.id.cmp(&self.id))
    }
}

/// From 0 to 1. `folded`: the text, or its beginning; `now`: when paging began.
pub fn score(wanted: &Wanted, folded: &str, at: Millis, now: Millis) -> f64 {
    let length = folded.chars().count().max(1) as f64;
    let mut fits = 0.0;
    let mut covered = 0.0;
    for item in &wanted.items {
        let (mut best, mut count) = (0.0_f64, 0_usize);
        for (from, matched) in folded.match_indices(&item.literal).take(REPEATS) {
            count += 1;
            best = best.max(if stands_alone(folded, from, matched) { 1.0 } else { WITHIN });
        }
        covered += count as f64 * item.literal.chars().count() as f64;
        // Said once: two thirds; often: nearly all.
        fits += if count == 0 { UNSEEN * 2.0 / 3.0 } else { best * count as f64 / (count as f64 + 0.5) };
    }
    fits /= wanted.items.len().max(1) as f64;
    // Of two that say it as often, the one that says little else.
    let dense = (covered / length).min(1.0);
    let age = now.saturating_sub(at).max(0) as f64;
    let newness = AGELESS + (1.0 - AGELESS) * (-age / HALF_LIFE_MS).exp2();
    (0.75 * fits + 0.25 * dense) * newness
}

/// Whether no word goes on before or behind the match.
fn stands_alone(folded: &str, from: usize, matched: &str) -> bool {
    let to = from + matched.len();
    let goes_on = |a: Option<char>, b: Option<char>| matches!((a, b), (Some(a), Some(b)) if joined(a, b));
    !goes_on(folded[..from].chars().next_back(), matched.chars().next())
        && !goes_on(matched.chars().next_back(), folded[to..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_700_000_000_000;
    const DAY: Millis = 24 * 60 * 60 * 1000;

    fn of(query: &str, text: &str, age: Millis) -> f64 {
        score(&Wanted::parse(query).expect("a query"), &super::super::fold::fold(text), NOW - age, NOW)
    }

    #[test]
    fn what_fits_better_comes_first() {
        let meeting = of("meeting", "the meeting is at noon", 0);
        assert!(meeting > of("meeting", "the meetings are at noon", 0), "a whole word");
        assert!(of("meeting", "meeting: the meeting is at noon", 0) > meeting, "said twice");
        assert!(of("meeting", "the meeting", 0) > meeting, "says little else");
        assert!(meeting > of("meeting", "the meeting is at noon", DAY), "newer");
        assert!(of("meeting", "the meeting", 700 * DAY) > 0.1, "age does not take all");
        assert!(of("会議", "会議室", 0) > 0.6, "no word ends in a run");
        assert_eq!(of("meeting", "the meeting", -DAY), of("meeting", "the meeting", 0), "the future is now");
    }

    #[test]
    fn the_order_is_total() {
        let place = |score, id| Place { score, id };
        assert!(place(0.5, 1).is_behind(place(0.6, 0)) && place(0.5, 1).is_behind(place(0.5, 2)));
        assert!(!place(0.5, 1).is_behind(place(0.5, 1)) && !place(0.5, 2).is_behind(place(0.5, 1)));
        for (query, text) in [("a", ""), ("aaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ("ab", "xabxabx")] {
            let score = of(query, text, 0);
            assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}
