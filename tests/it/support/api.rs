//! A caller of the HTTP API: status and JSON body of each answer, problems checked for their form.

use reqwest::Method;
use serde_json::Value;

use super::{tokens, within};

/// One person's HTTP client for one node.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
}

/// An answer: what the server said, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// `Null` where there is no body.
    pub body: Value,
}

impl Api {
    /// As `user`, with a JWT; `base` is `http://host:port`.
    pub fn of(base: &str, user: &str) -> Self {
        Self::with(base, Some(tokens::of(user)))
    }

    /// With any token or none.
    pub fn with(base: &str, token: Option<String>) -> Self {
        super::provider();
        Self { base: base.to_owned(), token, client: reqwest::Client::new() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body), &[]).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body), &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None, &[]).await
    }

    /// Uploads a file; `path` with its query.
    pub async fn upload(&self, path: &str, bytes: impl Into<reqwest::Body>) -> Answer {
        let request = self.client.post(format!("{}/api/v1/{path}", self.base)).body(bytes);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Answer::read(within("an answer to an upload", request.send()).await.expect("an answer")).await
    }

    /// Any call. `path` is under `/api/v1/`, or starts with `/` for anything else. A problem is checked for its form.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let url =
            if path.starts_with('/') { format!("{}{path}", self.base) } else { format!("{}/api/v1/{path}", self.base) };
        let mut request = self.client.request(method.clone(), &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        within(&format!("an answer to {method} {path}"), async {
            let response = request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            Answer::read(response).await
        })
        .await
    }
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("the body to its end");
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Self { status, headers, body }
    }

    /// Fails unless the status is `status`; gives the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        self.body
    }

    /// Fails unless it is a problem with this status and code, in the form of RFC 9457.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "content type {kind}");
        assert_eq!(self.body["code"], code, "{:?}", self.body);
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
