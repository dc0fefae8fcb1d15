//! The terms of a folded text: its words, and of scripts that write no blanks between words every two neighbouring
//! characters. A two-character word such as 会議 is one term; a longer one is the terms of its pairs.

use unicode_normalization::char::canonical_combining_class;

/// Characters of a word that count; longer words are told apart by looking at the text.
pub const WORD_CHARS: usize = 64;

/// What a character is to the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Part of a word.
    Word,
    /// Of a script that is written without blanks between words.
    Run,
    /// Between words.
    Gap,
}

fn class(c: char) -> Class {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() { Class::Word } else { Class::Gap };
    }
    if canonical_combining_class(c) != 0 {
        return if is_run(c) { Class::Run } else { Class::Word };
    }
    if !c.is_alphanumeric() {
        return Class::Gap;
    }
    if is_run(c) { Class::Run } else { Class::Word }
}

/// Thai, Lao, Myanmar, Khmer, Chinese, Japanese, Korean. (Korean writes blanks, but hangs particles on its words.)
fn is_run(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff
        | 0x1100..=0x11ff | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3031..=0x3035 | 0x303b..=0x303c
        | 0x3041..=0x3096 | 0x3099..=0x309f | 0x30a1..=0x30fa | 0x30fc..=0x30ff | 0x3105..=0x318e | 0x31a0..=0x31bf
        | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xa960..=0xa97f | 0xac00..=0xd7ff | 0xf900..=0xfaff
        | 0x1b000..=0x1b16f | 0x20000..=0x323af)
}

/// Whether a character is part of any term.
pub fn counts(c: char) -> bool {
    class(c) != Class::Gap
}

/// Whether a word could go on from `a` to `b`: then a match that ends between them is within a word. Scripts without
/// blanks have no such thing.
pub fn joined(a: char, b: char) -> bool {
    class(a) == Class::Word && class(b) == Class::Word
}

/// A stretch of characters of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<'a> {
    pub text: &'a str,
    /// Of a script without blanks between words.
    pub run: bool,
}

/// The stretches of a folded text, in order, without the gaps.
pub fn stretches(folded: &str) -> Vec<Stretch<'_>> {
    let mut all = Vec::new();
    let mut open: Option<(usize, Class)> = None;
    for (at, c) in folded.char_indices() {
        let class = class(c);
        match open {
            Some((_, of)) if of == class => {}
            _ => {
                if let Some((from, of)) = open.take() {
                    all.push(Stretch { text: &folded[from..at], run: of == Class::Run });
                }
                open = (class != Class::Gap).then_some((at, class));
            }
        }
    }
    if let Some((from, of)) = open {
        all.push(Stretch { text: &folded[from..], run: of == Class::Run });
    }
    all
}

/// The pairs of neighbouring characters of a run.
fn pairs(run: &str) -> impl Iterator<Item = &str> {
    let starts = run.char_indices().map(|(at, _)| at);
    let ends = run.char_indices().skip(2).map(|(at, _)| at).chain(std::iter::once(run.len()));
    let several = run.chars().nth(1).is_some();
    starts.zip(ends).take_while(move |_| several).map(|(from, to)| &run[from..to])
}

/// A word as a term.
fn word(word: &str) -> &str {
    word.char_indices().nth(WORD_CHARS).map_or(word, |(at, _)| &word[..at])
}

/// Whether the terms of a stretch say all of it: then nobody need look at the text.
pub fn told_by_terms(stretch: Stretch<'_>) -> bool {
    let count = stretch.text.chars().take(WORD_CHARS + 1).count();
    if stretch.run { count == 2 } else { count <= WORD_CHARS }
}

/// The terms under which a folded text is found, each once, in order.
pub fn terms(folded: &str) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for stretch in stretches(folded) {
        if stretch.run {
            all.extend(pairs(stretch.text));
        } else {
            all.push(word(stretch.text));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fold::fold;
    use super::*;

    fn of(text: &str) -> Vec<String> {
        terms(&fold(text)).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn words_and_pairs_are_terms() {
        assert_eq!(of("The meeting, the MEETING"), ["meeting", "the"]);
        assert_eq!(of("明日の会議"), ["の会", "会議", "日の", "明日"]);
        assert_eq!(of("第3回 Rust会議!"), ["3", "rust", "会議"]);
        assert_eq!(of("user@example.com don't"), ["com", "don", "example", "t", "user"]);
        assert_eq!(of("ｶﾞｲﾄﾞ"), ["イド", "ガイ"]);
        assert_eq!(of("नमस्ते"), ["नमस्ते"], "marks don't end a word");
        assert_eq!(of("本 😀 — !"), [""; 0]);
        assert_eq!(of(&"x".repeat(100)), ["x".repeat(WORD_CHARS)]);
    }

    proptest! {
        /// What the stores rely on: terms can be joined by blanks, quoted, and put beside marks.
        #[test]
        fn a_term_holds_letters_and_digits_alone(text in "\\PC{0,40}|[a-z会議ガ゛ﾞ\u{301} ,.'\"#]{0,30}") {
            for term in of(&text) {
                prop_assert!(!term.is_empty() && term.chars().all(counts), "{term:?}");
                prop_assert!(!term.contains(['\'', '"', '\\', '#', ' ']));
            }
        }

        /// A pair or a word that stands in a text is found in it.
        #[test]
        fn every_part_of_a_run_is_found(before in "[あ-ん]{0,5}", word in "[一-龠]{2,6}", after in "[ア-ン]{0,5}") {
            let text = of(&format!("{before}{word}{after}"));
            for term in of(&word) {
                prop_assert!(text.contains(&term));
            }
        }
    }
}
