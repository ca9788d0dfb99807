//! `POST /runs/{tenant}/{route}`: reports about the agent's runs, from the extension at Hermes.
//!
//! A report shows no token and no origin: its signature admits it. Until that is verified, a request costs its head, at most
//! [`LONGEST`] bytes, and a hash of them. Refused reports are counted: with too many, one that cannot be genuine is refused before
//! its body is read, and a genuine one is still recorded.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use talaria_core::report::Signed;
use talaria_relay::{Api, Connection, NotRecorded};
use talaria_telemetry::LogLimiter;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tonic::body::Body;

/// The prefix of the paths.
pub(crate) const PREFIX: &str = "/runs/";

/// The most bytes of a report.
const LONGEST: usize = 16 * 1024;

/// For a body to arrive whole: less than a new connection has for its first request, so that it is answered.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The most reports that are verified and recorded at once.
const AT_ONCE: usize = 64;

/// The most refused reports in each [`WINDOW`] that are answered 401.
const REFUSED: u32 = 120;

const WINDOW: Duration = Duration::from_secs(60);

/// When a client may try again, in seconds.
const RETRY_AFTER: &str = "5";

/// The longest path in a log line, in characters: it is untrusted.
const LONGEST_PATH: usize = 100;

/// Takes reports.
pub(crate) struct Runs {
    api: Api,
    permits: Semaphore,
    refused: Mutex<Refused>,
}

impl Runs {
    pub(crate) fn new(api: Api) -> Self {
        Self { api, permits: Semaphore::new(AT_ONCE), refused: Mutex::default() }
    }

    /// Answers a request whose path begins with [`PREFIX`], and which has the extension of its connection.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.record(request).await {
            Ok(()) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(problem) => problem.response(),
        }
    }

    async fn record(&self, request: Request<Incoming>) -> Result<(), Problem> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Reports are POSTed.");
            return Err(problem.with(header::ALLOW, "POST"));
        }
        if !is_json(head.headers.get(header::CONTENT_TYPE)) {
            return Err(
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "A report is application/json.").unread()
            );
        }
        // Of two headers of one name, the signed one is unknown.
        let only = |name: &str| {
            let mut values = head.headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none())?.to_str().ok()
        };
        let signed = Signed::parse(only).filter(|signed| signed.is_recent(self.api.now()));
        let Some(signed) = signed else { return Err(self.refuse(head.uri.path()).unread()) };
        let body = read(body).await?;
        // Only now: a client that sends no body must not keep others away.
        let overloaded = |_| Problem::unavailable("There is no room for the report now.");
        let _permit = self.permits.try_acquire().map_err(overloaded)?;
        let path = head.uri.path().strip_prefix(PREFIX).and_then(|path| path.split_once('/'));
        let connection = head.extensions.get::<Connection>();
        let recorded = self.api.record_run(path.unwrap_or_default(), &signed, &body, connection).await;
        recorded.map_err(|why| match why {
            NotRecorded::NotSigned => self.refuse(head.uri.path()),
            NotRecorded::Invalid(why) => {
                Problem::new(StatusCode::BAD_REQUEST, format!("Not a report: {why}."))
            }
            NotRecorded::NotKnown => {
                Problem::new(StatusCode::NOT_FOUND, "The route has no such delivery, or it was not sent.")
            }
            NotRecorded::Unavailable(why) => {
                static UNAVAILABLE: LogLimiter = LogLimiter::new();
                if let Some(left_out) = UNAVAILABLE.admit() {
                    tracing::warn!(why, left_out, "a report of a run could not be recorded");
                }
                Problem::unavailable("The report could not be recorded now.")
            }
        })
    }

    /// The answer to a report without a valid signature: the same for an unknown tenant or route.
    fn refuse(&self, path: &str) -> Problem {
        static REFUSALS: LogLimiter = LogLimiter::new();
        if let Some(left_out) = REFUSALS.admit() {
            let path: String = path.chars().take(LONGEST_PATH).collect();
            tracing::warn!(
                path,
                left_out,
                "refused a report of a run: it is not signed with a secret of the route, or not in time"
            );
        }
        let too_many = self.refused.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if too_many {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many reports were refused.");
            return problem.with(header::RETRY_AFTER, "60");
        }
        let detail = "The report is not signed by a sender that is known here.";
        Problem::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, "webhook-signature")
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let media_type = content_type.and_then(|it| it.to_str().ok()?.split(';').next());
    media_type.is_some_and(|it| it.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(body: Incoming) -> Result<Bytes, Problem> {
    let Ok(body) = timeout(BODY_TIMEOUT, Limited::new(body, LONGEST).collect()).await else {
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time.").unread());
    };
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is longer than {LONGEST} bytes."))
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "The body could not be read.")
        }
    });
    Ok(body.map_err(Problem::unread)?.to_bytes())
}

/// The refused reports of the current window.
#[derive(Default)]
struct Refused {
    since: Option<Instant>,
    count: u32,
}

impl Refused {
    /// Counts one. Whether it is one too many.
    fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count > REFUSED
    }
}

/// An error answer, as a problem document of RFC 9457.
struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, &'static str)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    fn unavailable(detail: &str) -> Self {
        let detail = format!("{detail} Send it again.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, RETRY_AFTER)
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Closes the connection, because the body is not read.
    fn unread(self) -> Self {
        self.with(header::CONNECTION, "close")
    }

    fn response(self) -> Response<Body> {
        let document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = crate::fault::answer(document.to_string().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_json_with_or_without_parameters() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(
                is_json(HeaderValue::from_str(content_type).ok().as_ref()),
                expected,
                "{content_type}"
            );
        }
        assert!(!is_json(None));
    }

    #[tokio::test(start_paused = true)]
    async fn refused_reports_are_429_after_120_in_a_minute() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        assert_eq!((0..150).filter(|_| refused.count(start)).count(), 30);
        assert!(!refused.count(start + WINDOW));
    }
}
