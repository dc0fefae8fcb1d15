//! What somebody looks for: words that must all be there, and "quoted phrases". What is typed without a blank must stand
//! in the text without one.

use super::QUERY_CHARS;
use super::fold::fold;
use super::terms::{self, counts, stretches, told_by_terms};

/// Characters that a word needs to be looked for within words.
const WITHIN_CHARS: usize = 3;

/// One word or phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// As it stands in a folded text.
    pub literal: String,
    /// All of these are among the terms of a text that has it.
    pub terms: Vec<String>,
    /// Whether the terms say everything: a text that has them has the item.
    pub told: bool,
    /// Whether it may be looked for within words as well.
    pub within: bool,
}

/// A query, understood. Has at least one item, and at least one term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub items: Vec<Item>,
}

impl Wanted {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// What is allowed, for whoever typed it.
    pub fn parse(typed: &str) -> Result<Self, String> {
        let typed = typed.trim();
        let length = typed.chars().take(QUERY_CHARS + 1).count();
        if !(1..=QUERY_CHARS).contains(&length) {
            return Err(format!("must have 1 to {QUERY_CHARS} characters"));
        }
        let mut items: Vec<Item> = Vec::new();
        // Every second part stands between quotation marks; the last one even if its closing mark is missing.
        for (index, part) in typed.split(['"', '\u{ff02}', '\u{201c}', '\u{201d}']).enumerate() {
            let folded = fold(part);
            if index % 2 == 1 {
                items.extend(Item::of(&folded));
            } else {
                items.extend(folded.split(' ').filter_map(Item::of));
            }
        }
        let mut seen = std::collections::HashSet::new();
        items.retain(|item| seen.insert(item.literal.clone()));
        if items.is_empty() {
            return Err("must hold a letter or a digit".to_owned());
        }
        if items.iter().all(|item| item.terms.is_empty()) {
            return Err("one character of a script without blanks between words is too little; give two or more".into());
        }
        Ok(Self { items })
    }

    /// All terms, each once.
    pub fn terms(&self) -> Vec<&str> {
        Self::sorted(self.items.iter())
    }

    /// The terms of the items that are not to be looked for within words.
    pub fn whole_terms(&self) -> Vec<&str> {
        Self::sorted(self.items.iter().filter(|item| !item.within))
    }

    fn sorted<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<&'a str> {
        let mut terms: Vec<&str> = items.flat_map(|item| item.terms.iter().map(String::as_str)).collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    /// What a text with all terms must still be looked at for.
    pub fn untold(&self) -> Vec<&str> {
        self.items.iter().filter(|item| !item.told).map(|item| item.literal.as_str()).collect()
    }

    /// Words that may be looked for within words.
    pub fn within(&self) -> Vec<&str> {
        self.items.iter().filter(|item| item.within).map(|item| item.literal.as_str()).collect()
    }

    /// Whether a folded text has every item, if only within words.
    pub fn is_in(&self, folded: &str) -> bool {
        self.items.iter().all(|item| folded.contains(&item.literal))
    }
}

impl Item {
    /// `None` where there is nothing to look for.
    fn of(folded: &str) -> Option<Self> {
        let literal = folded.trim_matches(|c| !counts(c));
        let all = stretches(literal);
        let first = *all.first()?;
        let alone = all.len() == 1;
        Some(Self {
            literal: literal.to_owned(),
            terms: terms::terms(literal).into_iter().map(str::to_owned).collect(),
            told: alone && told_by_terms(first),
            within: alone && !first.run && told_by_terms(first) && literal.chars().nth(WITHIN_CHARS - 1).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(typed: &str) -> Vec<(String, bool, bool)> {
        let wanted = Wanted::parse(typed).expect("something to look for");
        wanted.items.into_iter().map(|item| (item.literal, item.told, item.within)).collect()
    }

    fn item(literal: &str, told: bool, within: bool) -> (String, bool, bool) {
        (literal.to_owned(), told, within)
    }

    #[test]
    fn words_and_phrases_are_told_apart() {
        assert_eq!(items(" Weekly  meeting "), [item("weekly", true, true), item("meeting", true, true)]);
        assert_eq!(items("ab \"Weekly meeting!\""), [item("ab", true, false), item("weekly meeting", false, false)]);
        assert_eq!(items("\"open end"), [item("open end", false, false)]);
        assert_eq!(items("会議"), [item("会議", true, false)]);
        assert_eq!(items("会議室"), [item("会議室", false, false)]);
        assert_eq!(items("user@example.com,"), [item("user@example.com", false, false)]);
        assert_eq!(items("第3回\u{3000}第3回"), [item("第3回", false, false)]);
        assert_eq!(items(&"x".repeat(100)), [item(&"x".repeat(100), false, false)]);
        assert_eq!(items("明日 本"), [item("明日", true, false), item("本", false, false)]);
    }

    #[test]
    fn what_can_not_be_looked_for_is_refused() {
        for (typed, rule) in [
            ("", "1 to 200"),
            (" \u{3000} ", "1 to 200"),
            (&*"x".repeat(201), "1 to 200"),
            ("!? —", "a letter or a digit"),
            ("\"\"", "a letter or a digit"),
            ("本", "two or more"),
            ("本 人", "two or more"),
        ] {
            let said = Wanted::parse(typed).expect_err("nothing to look for");
            assert!(said.contains(rule), "{typed}: {said}");
        }
        assert!(Wanted::parse(&"x".repeat(200)).is_ok());
    }

    proptest! {
        /// Whatever stands in a text as words of its own is found in it.
        #[test]
        fn a_text_has_its_own_words(text in "[a-zA-Z会議室第ｶﾞÉ0-9 ,.'-]{1,60}") {
            if let Ok(wanted) = Wanted::parse(&text) {
                let folded = fold(&text);
                prop_assert!(wanted.is_in(&folded));
                let has = terms::terms(&folded);
                for term in wanted.terms() {
                    prop_assert!(has.contains(&term), "{term}");
                }
            }
        }

        #[test]
        fn nothing_typed_is_a_panic(typed in "\\PC{0,220}|[\"\u{0}-\u{20}会a\u{301}]{0,40}") {
            if let Ok(wanted) = Wanted::parse(&typed) {
                prop_assert!(!wanted.terms().is_empty());
            }
        }
    }
}
