//! What people write: normalised once, here, for WebSocket and HTTP alike.
//!
//! Invariants: what these functions give is NFC with `\n` line ends, holds no control character but newline and tab,
//! and is within its length in Unicode scalar values, counted after normalisation.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::limits::{EMOJI_CHARS, NAME_CHARS, NOTE_CHARS, PASSWORD_CHARS, TEXT_CHARS, TOPIC_CHARS};
use crate::refusal::Refusal;

/// A message's text: 1–4,000 scalar values, not blank.
///
/// # Errors
/// `bad_request` that names the field and the rule.
pub fn message_text(value: &str) -> Result<String, Refusal> {
    let text = normalised("text", value, TEXT_CHARS)?;
    if text.chars().all(char::is_whitespace) {
        return Err(Refusal::bad_request("text: must not be empty or blank"));
    }
    Ok(text)
}

/// A user's or room's name: at most 100 scalar values.
///
/// # Errors
/// `bad_request` that names the field and the rule.
pub fn name(value: &str) -> Result<String, Refusal> {
    normalised("name", value, NAME_CHARS)
}

/// A room's topic: at most 1,000 scalar values.
///
/// # Errors
/// `bad_request` that names the field and the rule.
pub fn topic(value: &str) -> Result<String, Refusal> {
    normalised("topic", value, TOPIC_CHARS)
}

/// What somebody tells a moderator, or a moderator writes down: 1–1,000 scalar values, not blank.
///
/// # Errors
/// `bad_request` that names `field` and the rule.
pub fn note(field: &'static str, value: &str) -> Result<String, Refusal> {
    let note = normalised(field, value, NOTE_CHARS)?;
    if note.chars().all(char::is_whitespace) {
        return Err(Refusal::bad_request(format!("{field}: must not be empty or blank")));
    }
    Ok(note)
}

/// A reaction: 1–32 scalar values, not blank.
///
/// # Errors
/// `bad_request` that names the field and the rule.
pub fn emoji(value: &str) -> Result<String, Refusal> {
    let emoji = normalised("emoji", value, EMOJI_CHARS)?;
    if emoji.chars().all(char::is_whitespace) {
        return Err(Refusal::bad_request("emoji: must not be empty or blank"));
    }
    Ok(emoji)
}

/// What a client calls itself in `hello`: at most 100 scalar values.
pub(super) fn client(value: &str) -> Result<String, Refusal> {
    normalised("client", value, NAME_CHARS)
}

/// A password: 8–200 scalar values. NFC, so that it is the same from every keyboard; otherwise as typed.
///
/// # Errors
/// `bad_request` that names the field and the rule, and never the password.
pub fn password(value: &str) -> Result<String, Refusal> {
    let password = if is_nfc_quick(value.chars()) == IsNormalized::Yes {
        value.to_owned()
    } else {
        // Normalisation of a longer text than can be right would be work for nothing.
        value.chars().take(4 * PASSWORD_CHARS.end()).nfc().collect()
    };
    if PASSWORD_CHARS.contains(&password.chars().count()) {
        Ok(password)
    } else {
        Err(Refusal::bad_request(format!(
            "password: must have {} to {} characters",
            PASSWORD_CHARS.start(),
            PASSWORD_CHARS.end()
        )))
    }
}

fn normalised(field: &str, value: &str, most: usize) -> Result<String, Refusal> {
    let value: Cow<'_, str> =
        if value.contains("\r\n") { Cow::Owned(value.replace("\r\n", "\n")) } else { Cow::Borrowed(value) };
    if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Refusal::bad_request(format!(
            "{field}: must not hold control characters other than newline and tab"
        )));
    }
    let value = if value.is_ascii() || is_nfc_quick(value.chars()) == IsNormalized::Yes {
        value.into_owned()
    } else {
        value.nfc().collect()
    };
    if value.len() > most && value.chars().count() > most {
        return Err(Refusal::bad_request(format!("{field}: must have at most {most} characters")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_normalised() {
        assert_eq!(message_text("e\u{301}").as_deref(), Ok("é"));
        assert_eq!(message_text("a\r\nb\tc\n").as_deref(), Ok("a\nb\tc\n"));
        for bad in ["a\rb", "\u{0}", "a\u{7f}", "\u{85}", "\r\r\n", "", " \n\t", "\u{3000}"] {
            assert!(message_text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_counted_in_scalar_values_after_normalisation() {
        assert!(message_text(&"é".repeat(4_000)).is_ok());
        assert!(message_text(&"e\u{301}".repeat(4_000)).is_ok());
        assert!(message_text(&"😀".repeat(4_000)).is_ok());
        assert!(message_text(&"😀".repeat(4_001)).is_err());
        assert!(message_text(&"a\r\n".repeat(2_000)).is_ok());
        // U+0958 grows by normalisation.
        assert!(message_text(&"\u{958}".repeat(2_000)).is_ok());
        assert!(message_text(&"\u{958}".repeat(2_001)).is_err());
        assert!(name(&"n".repeat(100)).is_ok() && name("").is_ok());
        assert!(name(&"n".repeat(101)).is_err());
        assert!(topic(&"t".repeat(1_000)).is_ok());
        assert!(topic(&"t".repeat(1_001)).is_err());
        assert!(emoji("👩‍👩‍👧‍👦").is_ok());
        assert!(emoji("").is_err() && emoji(&"😀".repeat(33)).is_err());
        assert!(password("1234567").is_err() && password("12345678").is_ok());
        assert!(password(&"p".repeat(200)).is_ok() && password(&"p".repeat(201)).is_err());
        assert_eq!(password("e\u{301}1234567").as_deref(), Ok("é1234567"));
    }

    #[test]
    fn refusals_name_the_field() {
        let refusal = topic("\u{1}").expect_err("a control character");
        assert!(refusal.message.starts_with("topic: "));
    }

    proptest! {
        #[test]
        fn what_is_taken_satisfies_the_rules_and_is_taken_again_unchanged(value in ".{0,60}|[a-zé\u{301}\u{308}\r\n\t ]{0,30}") {
            if let Ok(text) = message_text(&value) {
                prop_assert!(unicode_normalization::is_nfc(&text));
                prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
                prop_assert!(text.chars().count() <= TEXT_CHARS && !text.trim().is_empty());
                prop_assert_eq!(message_text(&text), Ok(text.clone()));
            }
        }
    }
}
