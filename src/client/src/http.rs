//! The HTTP API, as far as a client needs it: any call, with the client's credentials. Each is one request; nothing is
//! repeated by itself.

use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, Token};
use crate::error::{Code, Error};

pub use reqwest::Method;

/// `application/problem+json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
    title: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Client {
    /// A call of `/api/v1/{path}`; null where the answer has no body. With a token, or the cookie where there is none (then
    /// calls that change something ask for the CSRF token first).
    ///
    /// # Errors
    /// The server's refusal with its `status`; `network` where it could not be reached.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Error> {
        let csrf = if self.by_cookie() && method != Method::GET {
            let me = self.once(Method::GET, "me", None, None).await?;
            me["csrf_token"].as_str().map(str::to_owned)
        } else {
            None
        };
        self.once(method, path, body, csrf).await
    }

    fn by_cookie(&self) -> bool {
        let options = &self.shared().options;
        options.cookie.is_some() && matches!(options.token, Token::None)
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        csrf: Option<String>,
    ) -> Result<Value, Error> {
        let shared = self.shared();
        let url = format!("{}/api/v1/{path}", shared.address(shared.with(|core| core.address())));
        let mut request = shared.http.request(method, url);
        if let Some(token) = shared.with(|core| core.token().map(str::to_owned)) {
            request = request.bearer_auth(token);
        } else if let Some(cookie) = &shared.options.cookie {
            request = request.header("cookie", format!("roundtable_session={cookie}"));
        }
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let network = |error: reqwest::Error| Error::new(Code::Network, crate::stream::why(&error));
        let answer = request.send().await.map_err(network)?;
        let (status, after) = (answer.status(), crate::stream::retry_after(&answer));
        let bytes = answer.bytes().await.map_err(network)?;
        if status.is_success() {
            let none = bytes.is_empty();
            let value = if none { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
            return value.map_err(|error| Error::new(Code::Internal, format!("an answer that is no JSON: {error}")));
        }
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        let word = problem.code.unwrap_or_else(|| "internal".to_owned());
        let message = problem.detail.or(problem.title).unwrap_or_else(|| format!("HTTP {}", status.as_u16()));
        let mut error = Error::new(Code::from(&*word), message);
        error.retryable = status.as_u16() == 429 || status.is_server_error();
        error.retry_after = problem.retry_after_ms.map(std::time::Duration::from_millis).or(after);
        error.status = Some(status.as_u16());
        Err(error)
    }
}
