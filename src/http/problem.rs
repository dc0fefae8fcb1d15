//! Refusals as HTTP answers: `application/problem+json` (RFC 9457).
//!
//! Invariant: whatever the API answers with a status of 400 or above has a body of this form, with a `code` of the
//! contract; a fault's cause goes to the log under the id that the answer names, and never to the client.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_id::RequestId;
use crate::ports::StoreError;
use crate::refusal::{Code, Refusal};

/// What a problem's `type` begins with; its code follows. A name, not an address: nodes know no address of their own docs.
const PROBLEM_TYPE: &str = "urn:roundtable:problem:";

/// An error answer: the refusal, and what HTTP adds to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {refusal}")]
pub struct Problem {
    pub refusal: Refusal,
    status: StatusCode,
    /// Value of `Allow`, for 405.
    allow: Option<Cow<'static, str>>,
}

/// What every handler gives.
pub type Answer = Result<HttpResponse, Problem>;

/// A problem as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// With a fault: the request's id, which the log line has too.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Problem {
    pub fn with_status(status: StatusCode, refusal: Refusal) -> Self {
        Self { refusal, status, allow: None }
    }

    /// 413: a body of more than `bytes`.
    pub fn too_large(bytes: usize) -> Self {
        Self::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::bad_request(format!("the body must have at most {bytes} bytes")),
        )
    }

    /// 413: a person's files would take more than they may.
    pub fn over_quota(used: u64, quota: u64) -> Self {
        let text =
            format!("your files take {used} of the {quota} bytes that they may: delete messages with files first");
        Self::with_status(StatusCode::PAYLOAD_TOO_LARGE, Refusal::bad_request(text))
    }

    /// 416: none of the bytes asked for are there.
    pub fn no_such_range(bytes: u64) -> Self {
        Self::with_status(
            StatusCode::RANGE_NOT_SATISFIABLE,
            Refusal::bad_request(format!("Range: the file has {bytes} bytes")),
        )
    }

    /// 405; `allow` lists the methods that there are.
    pub fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Self {
        let allow = allow.into();
        let refusal = Refusal::bad_request(format!("this address knows the methods {allow}"));
        Self { allow: Some(allow), ..Self::with_status(StatusCode::METHOD_NOT_ALLOWED, refusal) }
    }

    /// 404 for an address that is none of ours.
    pub fn no_such_address() -> Self {
        Refusal::not_found("there is nothing at this address; the API is under /api/v1").into()
    }

    /// 426: a plain request where only a WebSocket upgrade makes sense.
    pub fn upgrade_required() -> Self {
        Self::with_status(
            StatusCode::UPGRADE_REQUIRED,
            Refusal::bad_request("this address speaks WebSocket: ask for an upgrade"),
        )
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer.
    pub fn response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        for header in self.headers() {
            answer.insert_header(header);
        }
        answer.json(self.body())
    }

    /// The answer's bytes after the security headers of every answer, where no service of actix-web's writes it; the
    /// connection ends after it.
    pub fn last_words(&self, security: &str) -> Vec<u8> {
        let body = serde_json::to_string(&self.body()).expect("texts and numbers are JSON");
        let (code, title) = (self.status.as_u16(), self.status.canonical_reason().unwrap_or("Error"));
        let mut head = format!("HTTP/1.1 {code} {title}\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
        for (name, value) in self.headers() {
            head += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        format!("{head}{security}\r\n{body}").into_bytes()
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        if let (Some(ms), Code::RateLimited | Code::Overloaded | Code::Unavailable) =
            (self.refusal.retry_after_ms, self.refusal.code)
        {
            headers.push((header::RETRY_AFTER, ms.div_ceil(1_000).into()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.push((header::UPGRADE, HeaderValue::from_static("websocket")));
            headers.push((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.push((header::ALLOW, allow));
        }
        headers
    }

    fn body(&self) -> Body<'_> {
        let refusal = &self.refusal;
        let fault = refusal.code == Code::Internal;
        Body {
            r#type: format!("{PROBLEM_TYPE}{}", refusal.code.as_str()),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &refusal.message,
            code: refusal.code.as_str(),
            retryable: refusal.code.retryable(),
            retry_after_ms: refusal.retry_after_ms,
            request_id: RequestId::current().filter(|_| fault).map(|id| id.to_string()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // 429 and 503 always say when.
        let refusal = match refusal {
            Refusal {
                code: Code::RateLimited | Code::Overloaded | Code::Unavailable, retry_after_ms: None, ..
            } => refusal.retry_after(1_000),
            refusal => refusal,
        };
        Self::with_status(status, refusal)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                Refusal::unavailable("the store can't be reached now; whether it was done is unknown").into()
            }
            StoreError::Fault(cause) => fault(&cause).into(),
        }
    }
}

/// Logs a fault of ours under a new id, and gives the refusal that names it.
pub fn fault(cause: &dyn std::fmt::Display) -> Refusal {
    let id = crate::telemetry::fault_id();
    tracing::error!(fault.id = %id, error = %cause, "an HTTP call failed");
    Refusal::internal(id)
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

/// The answer of a resource to methods it does not have.
pub fn not_allowed(allow: impl Into<Cow<'static, str>>) -> actix_web::Route {
    let allow = allow.into();
    actix_web::web::to(move |request: HttpRequest| {
        let allow = allow.clone();
        // `OPTIONS` is answered where a browser asks from an origin that is not allowed: with what there is, and no CORS.
        let answer = if request.method() == Method::OPTIONS {
            HttpResponse::NoContent().insert_header((header::ALLOW, &*allow)).finish()
        } else {
            Problem::method_not_allowed(allow).response()
        };
        std::future::ready(answer)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    async fn body(problem: Problem) -> serde_json::Value {
        let bytes = to_bytes(problem.response().into_body()).await.expect("a body in memory");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[actix_web::test]
    async fn every_code_has_its_status_and_body() {
        let expected = [400, 401, 403, 404, 409, 429, 503, 503, 500];
        for (code, status) in Code::ALL.into_iter().zip(expected) {
            let problem = Problem::from(Refusal::new(code, "why"));
            assert_eq!(problem.status().as_u16(), status, "{code:?}");
            let response = problem.response();
            assert_eq!(response.headers().get(header::CONTENT_TYPE).expect("a type"), "application/problem+json");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), matches!(status, 429 | 503));
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
            let body = body(problem).await;
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["status"], status);
            assert_eq!(body["detail"], "why");
            assert_eq!(body["retryable"], code.retryable());
        }
    }

    /// A row of the table and a section for each code, with its status and its type; none for what is no code.
    #[test]
    fn the_page_of_errors_has_every_code_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let page = std::fs::read_to_string(path).expect("docs/errors.md is there");
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| [`")).collect();
        assert_eq!(sections, Code::ALL.map(Code::as_str));
        assert_eq!(rows.len(), Code::ALL.len());
        for (code, row) in Code::ALL.into_iter().zip(rows) {
            let (name, status) = (code.as_str(), Problem::from(Refusal::new(code, "why")).status().as_u16());
            assert!(row.starts_with(&format!("| [`{name}`](#{name}) | {status} ")), "{row}");
            let (_, section) = page.split_once(&format!("\n## {name}\n")).expect("a section");
            let text = section.split("\n## ").next().unwrap_or_default();
            assert!(text.trim().len() > 60, "{name} says nothing");
        }
        assert!(page.contains(&format!("`{PROBLEM_TYPE}<code>`")), "the page says what `type` is");
    }

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        let response = Problem::from(Refusal::rate_limited("slow down", 1_001)).response();
        assert_eq!(response.headers().get(header::RETRY_AFTER).expect("given"), "2");
    }

    #[actix_web::test]
    async fn a_fault_tells_the_client_an_id_and_nothing_else() {
        let body = body(StoreError::Fault("secret table is gone".into()).into()).await;
        assert!(!body.to_string().contains("secret"));
        assert_eq!(body["code"], "internal");
    }
}
