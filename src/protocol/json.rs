//! Reading a JSON frame: one pass that borrows the raw values of the known fields, no tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::request::{Field, Fields, Raw};

/// Splits a frame; the message is for the client.
pub(super) fn fields(frame: &[u8]) -> Result<Fields<'_>, String> {
    // Checked once for the whole frame: afterwards every value is a plain borrow.
    let text = std::str::from_utf8(frame).map_err(|_| "a frame must be valid UTF-8".to_owned())?;
    serde_json::from_str::<Fields>(text).map_err(|error| match error.classify() {
        Category::Data => "a frame must be one object".to_owned(),
        _ => format!("not valid JSON: {error}"),
    })
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;

        impl<'de> Visitor<'de> for Split {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<Key>()? {
                    match key.0 {
                        Some(field) => fields.set(field, Raw::Json(map.next_value::<&RawValue>()?)),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Split)
    }
}

/// A key, if it is one that we know.
struct Key(Option<Field>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl Visitor<'_> for Known {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(Field::of(key)))
            }

            // A key that is no Unicode text (a lone surrogate) is a key that we don't know.
            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(Key(std::str::from_utf8(key).ok().and_then(Field::of)))
            }
        }

        deserializer.deserialize_bytes(Known)
    }
}

/// The string that a raw value is; `None` for other types and for lone surrogates.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The integer that a raw value is: digits only, so neither `1.0` nor `-0`.
pub(super) fn integer(raw: &str) -> Option<u64> {
    if raw.bytes().all(|b| b.is_ascii_digit()) { raw.parse().ok() } else { None }
}
