//! Errors in Connect's form: a code, a text, and the HTTP status that belongs to the code.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status, body::Body};

/// The longest text of an error, in characters. It may repeat a client's own text.
const LONGEST: usize = 1000;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub code: Code,
    pub message: String,
    /// Where it differs from the code's.
    http: Option<StatusCode>,
    header: Option<(header::HeaderName, &'static str)>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), http: None, header: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(Code::DeadlineExceeded, "the time that the client gave is over")
    }

    /// A fault of the HTTP request, with the status that HTTP has for it, and the header that says what would be right.
    pub(crate) fn http(
        status: StatusCode,
        header: Option<(header::HeaderName, &'static str)>,
        message: impl Into<String>,
    ) -> Self {
        Self { http: Some(status), header, ..Self::new(Code::Unimplemented, message) }
    }

    pub(crate) fn with(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Whether it concerns the HTTP request and not the call, so that also a stream is not begun.
    pub(crate) fn is_of_http(&self) -> bool {
        self.http.is_some()
    }

    /// As JSON, for the body of an answer and for the end of a stream.
    pub(crate) fn json(&self) -> serde_json::Value {
        let message: String = self.message.chars().take(LONGEST).collect();
        json!({"code": name(self.code), "message": message})
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.http.unwrap_or_else(|| status(self.code))
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = answer(self.json().to_string().into());
        *response.status_mut() = self.status();
        if self.code == Code::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// An answer in JSON. No cache keeps it, and no browser takes it for a page.
pub(crate) fn answer(json: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(json)));
    guard(&mut response, "application/json");
    response
}

/// Sets the headers that every answer has.
pub(crate) fn guard(response: &mut Response<Body>, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

/// The codes by their names in Connect.
pub(crate) const NAMES: [(Code, &str); 16] = [
    (Code::Cancelled, "canceled"),
    (Code::Unknown, "unknown"),
    (Code::InvalidArgument, "invalid_argument"),
    (Code::DeadlineExceeded, "deadline_exceeded"),
    (Code::NotFound, "not_found"),
    (Code::AlreadyExists, "already_exists"),
    (Code::PermissionDenied, "permission_denied"),
    (Code::ResourceExhausted, "resource_exhausted"),
    (Code::FailedPrecondition, "failed_precondition"),
    (Code::Aborted, "aborted"),
    (Code::OutOfRange, "out_of_range"),
    (Code::Unimplemented, "unimplemented"),
    (Code::Internal, "internal"),
    (Code::Unavailable, "unavailable"),
    (Code::DataLoss, "data_loss"),
    (Code::Unauthenticated, "unauthenticated"),
];

fn name(code: Code) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == code).map_or("unknown", |(_, name)| name)
}

/// By Connect's table of error codes.
fn status(code: Code) -> StatusCode {
    match code {
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_and_the_statuses_of_connect() {
        for number in 1..=16 {
            let code = Code::from_i32(number);
            let fault = Fault::new(code, "why");
            assert_eq!(name(code) == "unknown", code == Code::Unknown, "{code:?}");
            assert_eq!(fault.json(), json!({"code": name(code), "message": "why"}));
            assert!(fault.status().as_u16() >= 400, "{code:?}");
        }
        assert_eq!(status(Code::Cancelled).as_u16(), 499);
        let response = Fault::new(Code::Unauthenticated, "").response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
    }

    #[test]
    fn texts_are_bounded() {
        let fault = Fault::invalid("é".repeat(5000));
        assert_eq!(fault.json()["message"].as_str().unwrap().chars().count(), LONGEST);
    }
}
