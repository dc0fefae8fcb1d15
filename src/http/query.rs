//! Reading what a call says: query, path and JSON body, each refused with the name of the field that is wrong.
//!
//! Invariants: unknown fields are ignored; a body is read to its bound ([`BODY_BYTES`] mostly), whatever its declared length,
//! and for [`BODY_WAIT`] at most.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::BytesMut;
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::problem::Problem;
use crate::refusal::Refusal;

/// Bytes of the largest body taken: a message's text, escaped, with its data.
pub const BODY_BYTES: usize = 64 * 1024;
/// Longest wait for a body.
const BODY_WAIT: Duration = Duration::from_secs(15);

/// The query's parameters; of one given twice the last counts.
#[derive(Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// The parameter as `parse` reads it.
    ///
    /// # Errors
    /// `bad_request` that names the parameter, with what `parse` says of it.
    pub fn optional<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        parse(text).map(Some).map_err(|error| Refusal::bad_request(format!("{name}: {error}")))
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// `bad_request` that names the parameter and the range.
    pub fn integer(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        self.optional(name, |text| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            number
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }
}

impl FromRequest for Query {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::parse(request.query_string())))
    }
}

/// A part of the path as `parse` reads it.
///
/// # Errors
/// `bad_request` that names the part.
pub fn path<T>(
    request: &HttpRequest,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, Refusal> {
    let text = request.match_info().query(name);
    parse(text).map_err(|rule| Refusal::bad_request(format!("{name}: {rule}")))
}

/// A JSON object as the body of a call. An empty body reads as an empty object.
#[derive(Debug, Default)]
pub struct Fields(HashMap<String, Box<RawValue>>);

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            Refusal::bad_request(if error.is_data() {
                "the body must be a JSON object".to_owned()
            } else {
                format!("the body is not valid JSON: {error}")
            })
        })
    }

    /// Reads a body of at most `most` bytes, where that is another bound than [`BODY_BYTES`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn read(request: &HttpRequest, payload: Payload, most: usize) -> Result<Self, Problem> {
        Ok(Self::parse(&body(request, payload, most).await?)?)
    }

    /// The field's JSON as it was sent, null included; `None` where it is missing.
    pub fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|raw| &**raw)
    }

    /// The field, of the type asked for; `None` where it is missing or null.
    ///
    /// # Errors
    /// `bad_request` that names the field.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(raw) = self.raw(name).map(RawValue::get).filter(|raw| *raw != "null") else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|error| {
            let text = error.to_string();
            // The place is that within the field, which helps nobody.
            let text = text.rfind(" at line ").map_or(&*text, |at| &text[..at]);
            Refusal::bad_request(format!("{name}: {text}"))
        })
    }

    /// The field, which must be there.
    ///
    /// # Errors
    /// `bad_request` that names the field.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T, Refusal> {
        self.optional(name)?.ok_or_else(|| Refusal::bad_request(format!("{name}: is missing")))
    }

    /// A whole number within `range`, where there is one.
    ///
    /// # Errors
    /// `bad_request` that names the field and the range.
    pub fn integer(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let number = self.optional::<u64>(name);
        number.ok().filter(|number| number.is_none_or(|number| range.contains(&number))).ok_or_else(|| {
            Refusal::bad_request(format!("{name}: must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// A text as `check` gives it, where there is one.
    ///
    /// # Errors
    /// `bad_request` that names the field.
    pub fn text(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<String, Refusal>,
    ) -> Result<Option<String>, Refusal> {
        self.optional::<String>(name)?.map(|text| check(&text)).transpose()
    }
}

impl FromRequest for Fields {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Self::read(&request, payload, BODY_BYTES).await })
    }
}

/// The bytes of a body.
async fn body(request: &HttpRequest, payload: Payload, most: usize) -> Result<BytesMut, Problem> {
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > most as u64) {
        return Err(Problem::too_large(most));
    }
    tokio::time::timeout(BODY_WAIT, read(payload, most))
        .await
        .map_err(|_| Refusal::bad_request("the body did not arrive in time"))?
}

async fn read(mut payload: Payload, most: usize) -> Result<BytesMut, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Refusal::bad_request(format!("the body broke off: {error}")))?;
        if body.len() + chunk.len() > most {
            return Err(Problem::too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named() {
        let fields = Fields::parse(br#"{"user": 5, "name": null, "more": {}, "id": "a b"}"#).expect("an object");
        let says = |refusal: Refusal| refusal.message;
        assert!(says(fields.required::<String>("user").expect_err("a number")).starts_with("user: "));
        assert_eq!(says(fields.required::<String>("password").expect_err("missing")), "password: is missing");
        assert_eq!(says(fields.required::<String>("name").expect_err("null")), "name: is missing");
        assert_eq!(fields.optional::<String>("name"), Ok(None));
        assert!(
            says(fields.required::<crate::ids::RoomId>("id").expect_err("a blank")).starts_with("id: a room id is")
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for bad in ["[]", "5", "{", "{\"a\"}", "\u{feff}{}", "nonsense"] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
        assert!(Fields::parse(b" \n").expect("nothing").0.is_empty());
        let deep = format!("{{\"a\": {}}}", "[".repeat(60_000));
        assert!(Fields::parse(deep.as_bytes()).is_err(), "must not overflow the stack");
    }

    #[test]
    fn numbers_of_a_query_are_checked() {
        let query = Query::parse("limit=10&after=%31&before=-1&x=1e3&y=+5&z=&big=99999999999999999999");
        assert_eq!(query.integer("limit", 1..=200), Ok(Some(10)));
        assert_eq!(query.integer("after", 0..=9), Ok(Some(1)));
        assert_eq!(query.integer("none", 0..=9), Ok(None));
        for bad in ["before", "x", "y", "z", "big"] {
            let refusal = query.integer(bad, 0..=9).expect_err("not within the range");
            assert!(refusal.message.starts_with(bad), "{}", refusal.message);
        }
    }
}
