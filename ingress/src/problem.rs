//! Error answers as RFC 9457 problem documents.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// An error answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Closes the connection, because the rest of the body is not read.
    pub(crate) fn unread(self) -> Self {
        self.with(header::CONNECTION, "close")
    }

    /// The same for an unknown tenant and for every fault of a signature. The client already knows the compression.
    pub(crate) fn unauthorized(compressed: Option<&str>) -> Self {
        let mut detail = "The callback is not signed by a sender that is known here.".to_owned();
        if let Some(coding) = compressed {
            detail += &format!(
                " Its body is compressed ({coding}), and signatures are verified over the bytes as they come: send it \
                 without Content-Encoding."
            );
        }
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, "X-OpenRouter-Signature")
    }

    pub(crate) fn not_an_event(reason: &str) -> Self {
        let detail =
            format!("The callback is signed, but it is not an event: {reason}. It is kept for the operator.");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("The body is longer than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).unread()
    }

    pub(crate) fn too_large_for_bus() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is longer than what can be stored.")
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time.").unread()
    }

    pub(crate) fn broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The body could not be read.").unread()
    }

    pub(crate) fn unavailable() -> Self {
        let detail = "The callback could not be stored. It was not accepted; send it again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, "5")
    }

    /// The tenant's secret is missing here.
    pub(crate) fn not_verifiable() -> Self {
        let detail = "Callbacks cannot be verified now. It was not accepted; send it again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, "60")
    }

    /// A limit of the client or the tenant was reached. Does not reveal which.
    pub(crate) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests. Send it again later.");
        problem.headers.push((header::RETRY_AFTER, seconds.max(1).into()));
        problem
    }

    /// A limit for all clients was reached.
    pub(crate) fn overloaded() -> Self {
        let detail = "There is no room for the callback now. It was not accepted; send it again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, "5")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Callbacks go to POST /callbacks/{tenant}.")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Callbacks are POSTed.").with(header::ALLOW, "POST")
    }

    /// The same for every link that gives nothing.
    pub(crate) fn no_such_file() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no such file, or its link has expired.")
    }

    pub(crate) fn file_unavailable() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "The file cannot be fetched now. Ask again later.")
    }

    pub(crate) fn file_method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Files are asked for with GET or HEAD.")
            .with(header::ALLOW, "GET, HEAD")
    }

    pub(crate) fn health_method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Health is asked for with GET or HEAD.")
            .with(header::ALLOW, "GET, HEAD")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (self.status, [content_type], document.to_string()).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
