//! Negotiates permessage-deflate (RFC 7692 §7.1): always without context takeover on either side, so that a connection
//! keeps no compressor and a broadcast is compressed once for everyone.

/// What the server answers when it takes an offer.
pub const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Whether one of the offers in the values of `Sec-WebSocket-Extensions` can be honoured. Offers that ask for a smaller
/// server window than the one broadcasts are compressed with, or that break the RFC, are declined.
pub fn accepts_deflate<'a>(headers: impl IntoIterator<Item = &'a str>) -> bool {
    headers.into_iter().flat_map(|value| value.split(',')).any(takes)
}

fn takes(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut seen = Vec::new();
    parts.all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let fresh = !seen.contains(&name);
        seen.push(name);
        fresh
            && match (name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => true,
                ("client_max_window_bits", Some(bits)) => window(bits).is_some(),
                ("server_max_window_bits", Some(bits)) => window(bits) == Some(15),
                _ => false,
            }
    })
}

/// 8 to 15, without leading zeros.
fn window(bits: &str) -> Option<u8> {
    bits.parse().ok().filter(|parsed| (8..=15).contains(parsed) && !bits.starts_with(['0', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_taken_or_declined_as_the_rfc_says() {
        for taken in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            "permessage-deflate;client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=\"15\"",
            "x-other, permessage-deflate",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        ] {
            assert!(accepts_deflate([taken]), "{taken}");
        }
        for declined in [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert!(!accepts_deflate([declined]), "{declined}");
        }
        assert!(accepts_deflate(["x-other", "permessage-deflate"]));
        assert!(!accepts_deflate([]));
    }
}
