//! Responses: small, complete, the same for HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use std::borrow::Cow;

/// A whole answer. `Content-Length` follows from the body; connection handling is the session's.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields beyond what the session adds; names in lower case.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with("content-type", "application/json").body(body)
    }

    /// A JSON error: a stable code for programs, a message that says what to do next.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "error": { "code": code, "message": message } });
        let response = Self::json(status, body.to_string()).with("cache-control", "no-store");
        if matches!(status, 429 | 503) { response.with("retry-after", "1") } else { response }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
