//! A text as it is compared: compatibility forms (full width, half width, ligatures) as plain ones, lower case, blanks as
//! one space each.
//!
//! Invariant: what a character becomes depends on the marks that follow it and on nothing else, so a part of a text folds
//! to a part of the folded text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// Characters of a folded text at most: twice the longest message, since some characters fold to many.
pub const FOLDED_CHARS: usize = 8_000;

/// A folded text and where each of its characters comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    pub text: String,
    /// For each character of `text`, the scalar values of the original that it stands for: first and one past the last.
    pub places: Vec<(usize, usize)>,
}

/// Folds a text; what is past [`FOLDED_CHARS`] is left out.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut count = 0;
    each(text, |c, _, _| {
        folded.push(c);
        count += 1;
        count < FOLDED_CHARS
    });
    folded
}

/// As [`fold`], with the places.
pub fn fold_with_places(text: &str) -> Folded {
    let mut folded = Folded { text: String::with_capacity(text.len()), places: Vec::new() };
    each(text, |c, from, to| {
        folded.text.push(c);
        folded.places.push((from, to));
        folded.places.len() < FOLDED_CHARS
    });
    folded
}

/// Whether a character belongs to the one before it: marks, and the half-width sounding marks of katakana.
fn follows(c: char) -> bool {
    !c.is_ascii() && (canonical_combining_class(c) != 0 || matches!(c, '\u{ff9e}' | '\u{ff9f}'))
}

/// Gives each folded character with its place, until `take` has enough.
fn each(text: &str, mut take: impl FnMut(char, usize, usize) -> bool) {
    let mut chars = text.chars().enumerate().peekable();
    let mut after_blank = true;
    let mut cluster: Vec<char> = Vec::new();
    while let Some((from, first)) = chars.next() {
        if first.is_whitespace() {
            if !std::mem::replace(&mut after_blank, true) && !take(' ', from, from + 1) {
                return;
            }
            continue;
        }
        after_blank = false;
        let alone = chars.peek().is_none_or(|&(_, next)| !follows(next));
        if first.is_ascii() && alone {
            if !take(first.to_ascii_lowercase(), from, from + 1) {
                return;
            }
            continue;
        }
        cluster.clear();
        cluster.push(first);
        let mut to = from + 1;
        while let Some(&(at, next)) = chars.peek()
            && follows(next)
        {
            cluster.push(next);
            to = at + 1;
            chars.next();
        }
        for c in cluster.iter().copied().nfkc().flat_map(char::to_lowercase) {
            // Some compatibility forms hold a space: it is one.
            let c = if c.is_whitespace() { ' ' } else { c };
            if !take(c, from, to) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_mean_the_same_are_the_same() {
        for (text, folded) in [
            ("Hello, World", "hello, world"),
            ("ＡＢＣ１２３", "abc123"),
            ("ｶﾞｷﾞ ﾊﾟﾝ", "ガギ パン"),
            ("  a\u{3000}\n\t b ", "a b "),
            ("ﬁne", "fine"),
            ("ÉCOLE", "école"),
            ("E\u{301}COLE", "école"),
            ("会議", "会議"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
    }

    #[test]
    fn places_lead_back_to_the_original() {
        let folded = fold_with_places("x ｶﾞﬁ E\u{301}");
        assert_eq!(folded.text, "x ガfi é");
        assert_eq!(folded.places, [(0, 1), (1, 2), (2, 4), (4, 5), (4, 5), (5, 6), (6, 8)]);
    }

    #[test]
    fn a_text_that_would_grow_is_cut() {
        assert_eq!(fold(&"\u{fdfa}".repeat(4_000)).chars().count(), FOLDED_CHARS);
        assert_eq!(fold_with_places(&"a".repeat(9_000)).places.len(), FOLDED_CHARS);
    }
}
