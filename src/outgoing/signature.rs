//! The signature of a request to somebody else's server: HMAC-SHA256 over its time and body, so that the receiver knows
//! who sent it, that nothing was changed, and that it is not an old one sent again.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The header it stands in.
pub const SIGNATURE: &str = "X-Roundtable-Signature";

/// The value of the header: `t=<Unix seconds>,v1=<hex>`, with one `v1` a secret (two while one is being replaced).
pub fn signature<'a>(secrets: impl IntoIterator<Item = &'a str>, at: u64, body: &[u8]) -> String {
    let mut header = format!("t={at}");
    for secret in secrets {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(format!("{at}.").as_bytes());
        mac.update(body);
        header.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            write!(header, "{byte:02x}").expect("a String takes everything");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_others_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whs_secret
        let known = "42359816b9cdac4fb62fa04459d2218b257ca9331d835e02a9c7808b91b58019";
        assert_eq!(signature(["whs_secret"], 1_700_000_000, br#"{"a":1}"#), format!("t=1700000000,v1={known}"));
        let both = signature(["whs_new", "whs_secret"], 1_700_000_000, br#"{"a":1}"#);
        assert!(both.starts_with("t=1700000000,v1=") && both.ends_with(&format!(",v1={known}")), "{both}");
    }
}
