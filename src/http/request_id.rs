//! The id of a request: taken from `X-Request-Id` where it has the form of one, else made; on the answer, in the log lines
//! of the request and in what a fault is told with, so that a report can be followed through proxies.

use std::fmt;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest one taken from a client.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// 1–64 of `A–Z a–z 0–9 . _ -`: harmless in headers and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&HEADER).and_then(|value| value.to_str().ok()).filter(|text| is_one(text));
        given.map_or_else(Self::made, |text| Self(text.to_owned()))
    }

    fn made() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("letters, digits and . _ - make a header value")
    }

    /// The request's that is being answered, where one is.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Answers the request as this one.
    pub async fn within<F: Future>(self, answering: F) -> F::Output {
        CURRENT.scope(self, answering).await
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_one(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_could_do_harm_is_replaced() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(text).expect("a header value"));
            RequestId::of(&headers).to_string()
        };
        for good in ["a", "A.b_c-9", &"x".repeat(64), "4bf92f3577b34da6a3ce929d0e0e4736"] {
            assert_eq!(of(good), good);
        }
        for bad in ["", "a b", "<script>", "a\tb", "a,b", "%0d%0a", "\"x\"", &"x".repeat(65)] {
            let made = of(bad);
            assert!(made != bad && is_one(&made), "{bad}: {made}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
