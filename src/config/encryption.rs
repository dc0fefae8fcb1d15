//! Encryption of texts at rest: which rooms, and the keys that the rooms' own keys are under.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Invalid, Secret};

/// Of one key.
pub const KEY_BYTES: usize = 32;
/// Longest name of a key.
const NAME_CHARS: usize = 32;

/// `[encryption]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encryption {
    /// Which rooms get a key of their own. A room that has one keeps it.
    pub rooms: EncryptedRooms,
    /// `NAME:BASE64` of each key, with commas, blanks or line ends between them.
    pub keys: Secret,
    /// A file with the same.
    pub keys_file: String,
    /// Name of the key that new and rewrapped keys of rooms are under; empty: the only one.
    pub active: String,
}

/// Whose texts are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncryptedRooms {
    #[default]
    None,
    /// Private and direct rooms.
    Private,
    All,
}

/// A key with its name.
pub type NamedKey = (String, [u8; KEY_BYTES]);

impl Encryption {
    /// The keys of the ring, and the name of the active one; `None`: there are none.
    ///
    /// # Errors
    /// Where something is wrong with them; no key is ever shown.
    pub fn ring(&self) -> Result<Option<(Vec<NamedKey>, String)>, Invalid> {
        let wrong = |allowed: String| Invalid::new("encryption.keys", "***", &allowed);
        let mut keys: Vec<NamedKey> = Vec::new();
        let parts = self.keys.expose().split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
        for (index, part) in parts.enumerate() {
            let place = index + 1;
            let Some((name, key)) = part.split_once(':').filter(|(name, _)| is_name(name)) else {
                return Err(wrong(format!(
                    "NAME:BASE64 for each key, with a name of 1 to {NAME_CHARS} of A-Z a-z 0-9 . _ - (number {place} is \
                     not like that)"
                )));
            };
            let bytes = STANDARD.decode(key).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
            let Some(bytes) = bytes else {
                return Err(wrong(format!("{KEY_BYTES} bytes in base64 for each key ({name} is not like that)")));
            };
            if keys.iter().any(|(known, _)| known == name) {
                return Err(wrong(format!("each name once ({name} is there twice)")));
            }
            keys.push((name.to_owned(), bytes));
        }
        if keys.is_empty() {
            if self.rooms != EncryptedRooms::None {
                return Err(wrong("given (or encryption.keys_file is) where encryption.rooms is not none".to_owned()));
            }
            return Ok(None);
        }
        let active = match (self.active.as_str(), keys.as_slice()) {
            ("", [(only, _)]) => only.clone(),
            (name, keys) if keys.iter().any(|(known, _)| known == name) => name.to_owned(),
            (name, keys) => {
                let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
                let allowed = format!("the name of a key in encryption.keys: {}", names.join(", "));
                return Err(Invalid::new("encryption.active", name, &allowed));
            }
        };
        Ok(Some((keys, active)))
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn ring(keys: &str, active: &str) -> Result<Option<(Vec<NamedKey>, String)>, String> {
        let keys = Secret::new(keys);
        let settings = Encryption { rooms: EncryptedRooms::All, keys, active: active.into(), ..Encryption::default() };
        settings.ring().map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn a_ring_has_named_keys_of_which_one_is_active() {
        let (keys, active) = ring(&format!("a:{ONE}\n b-2:{TWO},\n"), "b-2").expect("valid").expect("keys");
        assert_eq!((keys, active.as_str()), (vec![("a".into(), [0; 32]), ("b-2".into(), [1; 32])], "b-2"));
        assert_eq!(ring(&format!("a:{ONE}"), "").expect("valid").expect("keys").1, "a", "the only one");
        assert_eq!(Encryption::default().ring().expect("valid"), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_shown() {
        for (keys, active, parts) in [
            (String::new(), "", ["encryption.keys", "given"]),
            (ONE.into(), "", ["encryption.keys", "number 1"]),
            (format!("a:{ONE},b c:{TWO}"), "a", ["encryption.keys", "number 2"]),
            (format!("a:{}", &ONE[4..]), "a", ["encryption.keys", "a is not like that"]),
            (format!("a:{ONE},a:{TWO}"), "a", ["encryption.keys", "twice"]),
            (format!("a:{ONE},b:{TWO}"), "", ["encryption.active", "a, b"]),
            (format!("a:{ONE}"), "b", ["encryption.active", "a"]),
        ] {
            let line = ring(&keys, active).expect_err("wrong");
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
            assert!(!line.contains("AAAAA") && !line.contains("AQEBA"), "{line}");
        }
    }
}
