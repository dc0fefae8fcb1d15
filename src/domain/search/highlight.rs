//! Where in a text the match is: a plain piece of the text around it, and which of its characters to set off.

use super::fold::fold_with_places;
use super::wanted::Wanted;

/// Scalar values of a snippet at most, the marks of omission aside.
const SNIPPET_CHARS: usize = 240;
/// Scalar values before the first match.
const BEFORE: usize = 60;
/// Highlights of one snippet.
const HIGHLIGHTS: usize = 64;
/// Stands where the snippet leaves something out.
const OMITTED: char = '…';

/// A piece of a text; `highlights` are places in `text`, in Unicode scalar values, first and one past the last, rising and
/// apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub text: String,
    pub highlights: Vec<(usize, usize)>,
}

/// The piece of `text` around what was wanted; `None`: it is not in it.
pub fn snippet(wanted: &Wanted, text: &str) -> Option<Snippet> {
    let folded = fold_with_places(text);
    if !wanted.is_in(&folded.text) {
        return None;
    }
    let marks = merged(found(wanted, &folded.text, &folded.places));
    let length = text.chars().count();
    let from = if length <= SNIPPET_CHARS {
        0
    } else {
        let first = marks.first().map_or(0, |&(from, _)| from);
        first.saturating_sub(BEFORE).min(length - SNIPPET_CHARS)
    };
    let to = (from + SNIPPET_CHARS).min(length);
    let mut piece = String::new();
    let mut shift = 0;
    if from > 0 {
        piece.push(OMITTED);
        shift = 1;
    }
    piece.extend(text.chars().skip(from).take(to - from));
    if to < length {
        piece.push(OMITTED);
    }
    let highlights = marks
        .into_iter()
        .map(|(a, b)| (a.max(from), b.min(to)))
        .filter(|(a, b)| a < b)
        .map(|(a, b)| (a - from + shift, b - from + shift))
        .take(HIGHLIGHTS)
        .collect();
    Some(Snippet { text: piece, highlights })
}

/// All places of all items in the original.
fn found(wanted: &Wanted, folded: &str, places: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for item in &wanted.items {
        let count = item.literal.chars().count();
        let (mut bytes, mut index) = (0, 0);
        for (at, _) in folded.match_indices(&item.literal) {
            index += folded[bytes..at].chars().count();
            bytes = at;
            if let (Some(first), Some(last)) = (places.get(index), places.get(index + count.saturating_sub(1))) {
                all.push((first.0, last.1));
            }
        }
    }
    all
}

/// Rising, those that touch as one.
fn merged(mut all: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    all.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::with_capacity(all.len());
    for (from, to) in all {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(query: &str, text: &str) -> Option<(String, Vec<String>)> {
        let snippet = snippet(&Wanted::parse(query).expect("a query"), text)?;
        let marked = |&(from, to): &(usize, usize)| snippet.text.chars().skip(from).take(to - from).collect();
        Some((snippet.text.clone(), snippet.highlights.iter().map(marked).collect()))
    }

    #[test]
    fn what_was_wanted_is_set_off_as_it_was_written() {
        let (text, marks) = of("meeting \"at noon\"", "The MEETING is AT\nnoon, meetings follow").expect("found");
        assert_eq!(text, "The MEETING is AT\nnoon, meetings follow");
        assert_eq!(marks, ["MEETING", "AT\nnoon", "meeting"]);
        assert_eq!(of("ガイド 会議", "😀ｶﾞｲﾄﾞの会議室").expect("found").1, ["ｶﾞｲﾄﾞ", "会議"]);
        assert_eq!(of("abc bcd", "xABCDx").expect("found").1, ["ABCD"], "what touches is one");
        assert_eq!(of("gone", "something else"), None);
    }

    #[test]
    fn markup_stays_what_it_is() {
        let (text, marks) = of("script", "<script>alert(1)</script> & more").expect("found");
        assert_eq!(text, "<script>alert(1)</script> & more");
        assert_eq!(marks, ["script", "script"]);
    }

    #[test]
    fn a_long_text_is_cut_around_the_first_match() {
        let text = format!("{}needle{}", "x ".repeat(500), " y".repeat(500));
        let (piece, marks) = of("needle", &text).expect("found");
        assert!(piece.starts_with('…') && piece.ends_with('…'));
        assert_eq!(piece.chars().count(), SNIPPET_CHARS + 2);
        assert_eq!(marks, ["needle"]);
        let (piece, marks) = of("needle", &format!("{}needle", "x ".repeat(500))).expect("found");
        assert!(piece.starts_with('…') && piece.ends_with("needle"));
        assert_eq!(marks, ["needle"]);
    }

    proptest! {
        #[test]
        fn highlights_are_within_the_snippet_and_apart(query in "[a-c会議]{2,4}", text in "[a-cA-C会議ｶﾞ ]{0,600}") {
            let Ok(wanted) = Wanted::parse(&query) else { return Ok(()) };
            if let Some(snippet) = snippet(&wanted, &text) {
                let length = snippet.text.chars().count();
                prop_assert!(length <= SNIPPET_CHARS + 2 && !snippet.highlights.is_empty());
                let mut before = None;
                for (from, to) in snippet.highlights {
                    prop_assert!(from < to && to <= length && before.is_none_or(|before| before < from));
                    before = Some(to);
                }
            }
        }
    }
}
