//! Passwords that are guessed first: those that leaks have shown to be common, and the user's own id.
//!
//! The list (`common_passwords.txt`) is made from the ranking of passwords of zxcvbn 4.5.0 (PyPI; MIT, the notice stands at
//! the head of the file): of its 30,000, those with at least 8 characters, in small letters, the most common ones up to
//! 96 KiB, sorted.

use crate::ids::UserId;
use crate::refusal::Refusal;

const LIST: &str = include_str!("common_passwords.txt");

/// Whether `password` is good enough for `user`; `field` names it in the refusal.
///
/// # Errors
/// `bad_request` that says what is wrong with it.
pub fn check(field: &str, user: &UserId, password: &str) -> Result<(), Refusal> {
    let lower = password.to_lowercase();
    if lower == user.as_str().to_lowercase() {
        return Err(Refusal::bad_request(format!("{field}: must not be the user id")));
    }
    if is_common(&lower) {
        return Err(Refusal::bad_request(format!(
            "{field}: is among the most common passwords of leaked lists; choose one that nobody else would"
        )));
    }
    Ok(())
}

/// Halves the text until a line is left.
fn is_common(password: &str) -> bool {
    let lines = LIST.split_once("\n\n").map_or(LIST, |(_, lines)| lines);
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        let middle = low + (high - low) / 2;
        // Lines are ASCII, so that any place is one between characters.
        let start = lines[low..middle].rfind('\n').map_or(low, |at| low + at + 1);
        let end = lines[middle..high].find('\n').map_or(high, |at| middle + at);
        match lines[start..end].cmp(password) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start.saturating_sub(1).max(low),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_is_found_and_nothing_else() {
        assert!(LIST.len() <= 100 * 1024 && LIST.is_ascii());
        let (notice, lines) = LIST.split_once("\n\n").expect("a notice");
        assert!(notice.contains("MIT"));
        let lines: Vec<&str> = lines.lines().collect();
        assert!(lines.len() > 9_000 && lines.is_sorted());
        for line in &lines {
            assert!(is_common(line), "{line}");
            assert!(!is_common(&format!("{line}\u{1}")) && !is_common(&format!("\u{1}{line}")), "{line}");
        }
        for other in ["", "~~~~~~~~~~", "correct horse battery", "\n", "password\n", "こんにちは"] {
            assert!(!is_common(other), "{other}");
        }
    }

    #[test]
    fn the_refusal_says_why() {
        let alice = UserId::parse("Alice-1234").expect("a valid id");
        let why = |password: &str| check("new", &alice, password).map_err(|refusal| refusal.message);
        assert!(why("PassWord").expect_err("common").starts_with("new: is among the most common"));
        assert!(why("aLICE-1234").expect_err("the id").contains("user id"));
        assert_eq!(why("alice-12345"), Ok(()));
    }
}
