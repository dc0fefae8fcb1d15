//! Where a request stands in a trace, in the form of the W3C's `traceparent`: it goes along with a request that is traced,
//! through the actors and to other nodes, and is nowhere else.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of a trace that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: NonZeroU128,
    pub span: NonZeroU64,
}

/// What a caller's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    Sampled(TraceContext),
    /// The caller decided that this is not traced.
    NotSampled,
}

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl Parent {
    /// `None`: it has not the form of one. Of later versions what this one knows is read, as the standard wants it.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = head.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let sized = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        let ended = rest.is_empty() || version != "00" && rest.starts_with('-');
        if !sized || !ended || version == "ff" || ![version, trace, span, flags].into_iter().all(lower) {
            return None;
        }
        let trace = NonZeroU128::new(u128::from_str_radix(trace, 16).ok()?)?;
        let span = NonZeroU64::new(u64::from_str_radix(span, 16).ok()?)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(if sampled { Self::Sampled(TraceContext { trace, span }) } else { Self::NotSampled })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for TraceContext {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Parent::parse(text) {
            Some(Parent::Sampled(context)) => Ok(context),
            _ => Err("not a traceparent that is sampled"),
        }
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let Some(Parent::Sampled(context)) = Parent::parse(given) else { panic!("it is one") };
        assert_eq!(context.to_string(), given);
        assert_eq!(Parent::parse(&given.replace("-01", "-00")), Some(Parent::NotSampled));
        assert_eq!(Parent::parse(&format!("cc{}-later", &given[2..])), Some(Parent::Sampled(context)));
        for bad in [
            "",
            "00",
            &given[1..],
            &given.to_uppercase(),
            &format!("{given}-later"),
            &format!("ff{}", &given[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7--01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba9éb7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }
}
