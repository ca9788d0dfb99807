//! One exchange: a request, its answer, and the time that each step took.

use crate::{
    Clients, Policy,
    connect::{Failure, Fresh},
    decompress::decompress,
    retry_after::retry_after,
    tls::{causes, refusal},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{
    self,
    connect::{CaptureConnection, capture_connection},
};
use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant, SystemTime},
};
use tokio::time::timeout_at;

/// A request that was sent, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Nothing was sent: no address, no connection, no TLS.
    NotSent(String),
    /// Nothing was sent, because the tenant does not allow the address.
    NotAllowed(String),
    /// The request may have been sent, and no answer came back.
    Lost(String),
    /// An answer came back.
    Answered(Answer),
}

impl Exchange {
    /// The status of the answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::NotSent(_) | Self::NotAllowed(_) | Self::Lost(_) => None,
        }
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Retry-After, from now.
    pub retry_after: Option<Duration>,
    /// The target of a redirect, which is not followed.
    pub location: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body without its content coding, up to a cap.
    pub body: Vec<u8>,
    /// Why the body is not complete.
    pub cut_short: Option<CutShort>,
}

/// Why an answer's body is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// It is longer than this cap, in bytes.
    TooLong(usize),
    /// The connection broke off.
    BrokenOff(String),
    /// Its content coding could not be undone.
    Unreadable(String),
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it is longer than {bytes} bytes"),
            Self::BrokenOff(why) | Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// The time that each step of an exchange took. A step that was not reached is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Empty on a reused connection.
    pub connecting: ConnectTimings,
    /// From the start to the answer's head.
    pub first_byte: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
    /// Whether the connection is of an earlier exchange.
    pub reused: bool,
}

/// The time that each step to a connection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectTimings {
    /// `None` where the URL names an address.
    pub dns: Option<Duration>,
    /// To the address that answered.
    pub connect: Option<Duration>,
    /// The handshake.
    pub tls: Option<Duration>,
}

/// The bounds of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start to the end of the answer.
    pub timeout: Duration,
    /// Added to the timeout, and not named in messages.
    pub jitter: Duration,
    /// The longest body of an answer that is read, in bytes.
    pub answer: usize,
}

impl Clients {
    /// Sends a request and reads the answer. Redirects are not followed.
    pub async fn exchange(
        &self,
        policy: &Policy,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> (Exchange, Timings) {
        let start = Instant::now();
        let mut timings = Timings::default();
        let exchange = self.exchange_until(start, policy, request, limits, &mut timings).await;
        timings.total = start.elapsed();
        (exchange, timings)
    }

    async fn exchange_until(
        &self,
        start: Instant,
        policy: &Policy,
        request: Request<Full<Bytes>>,
        limits: Limits,
        timings: &mut Timings,
    ) -> Exchange {
        let Limits { timeout, jitter, answer: cap } = limits;
        let end = start + timeout + jitter;
        let response = match self.send(start, policy, request, (end, timeout), timings).await {
            Ok(response) => response,
            Err(exchange) => return exchange,
        };
        timings.first_byte = Some(start.elapsed());
        let (head, body) = response.into_parts();
        let mut answer = Answer {
            status: head.status.as_u16(),
            retry_after: text(&head.headers, header::RETRY_AFTER)
                .and_then(|value| retry_after(&value, SystemTime::now())),
            location: text(&head.headers, header::LOCATION),
            headers: head.headers,
            ..Answer::default()
        };
        let codings = joined(&answer.headers, header::CONTENT_ENCODING);
        let reading = read(body, &mut answer.body, cap);
        answer.cut_short = match timeout_at(end.into(), reading).await {
            Ok(cut_short) => cut_short,
            Err(_) => Some(CutShort::BrokenOff(format!("not whole within {timeout:?}"))),
        };
        decompress(&mut answer, &codings, cap);
        Exchange::Answered(answer)
    }

    /// Sends a request and reads the head of the answer until `end`. The error is never [`Exchange::Answered`].
    pub(crate) async fn send(
        &self,
        start: Instant,
        policy: &Policy,
        mut request: Request<Full<Bytes>>,
        (end, timeout): (Instant, Duration),
        timings: &mut Timings,
    ) -> Result<Response<Incoming>, Exchange> {
        let client = self.of_policy(policy).map_err(Exchange::NotSent)?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let connection = capture_connection(&mut request);
        let answered = timeout_at(end.into(), client.request(request)).await;
        let is_connected = self.note_connection(&connection, start, timings);
        match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(&error, policy, &host, timings)),
            Err(_) if !is_connected => Err(Exchange::NotSent(format!("no connection within {timeout:?}"))),
            Err(_) => Err(Exchange::Lost(format!("nothing within {timeout:?}"))),
        }
    }

    /// Notes the connection's timings. Whether there was a connection: without one nothing can have been sent. An old connection
    /// takes no other request.
    fn note_connection(&self, connection: &CaptureConnection, start: Instant, timings: &mut Timings) -> bool {
        let connected = connection.connection_metadata();
        let Some(connected) = connected.as_ref() else { return false };
        let mut extensions = http::Extensions::new();
        connected.get_extras(&mut extensions);
        let fresh = extensions.get::<Fresh>();
        match fresh.and_then(|fresh| fresh.take(start)) {
            Some(connecting) => timings.connecting = connecting,
            None => timings.reused = true,
        }
        if fresh.is_some_and(|fresh| self.is_last_request(fresh.age())) {
            connected.poison();
        }
        true
    }
}

/// The result of a failed request. It was not sent if there was no connection, or if the connection had ended before.
fn failed(error: &legacy::Error, policy: &Policy, host: &str, timings: &mut Timings) -> Exchange {
    if let Some(failure) = causes(error).find_map(|cause| cause.downcast_ref::<Failure>()) {
        timings.connecting = failure.timings;
        let exchange = if failure.not_allowed { Exchange::NotAllowed } else { Exchange::NotSent };
        return exchange(failure.why.clone());
    }
    let was_closed = causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_canceled));
    if error.is_connect() || was_closed {
        return Exchange::NotSent("the connection had been closed".into());
    }
    match refusal(policy.peer, host, error) {
        Some(why) => Exchange::NotSent(why),
        None => Exchange::Lost(describe(error.source().unwrap_or(error))),
    }
}

/// Reads up to the cap. Gives the reason if the body is incomplete.
async fn read(mut incoming: Incoming, body: &mut Vec<u8>, cap: usize) -> Option<CutShort> {
    loop {
        let chunk = match incoming.frame().await {
            None => return None,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Some(CutShort::BrokenOff(describe(&error))),
        };
        let room = cap - body.len();
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if chunk.len() > room {
            return Some(CutShort::TooLong(cap));
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// All lines of a header, joined.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> String {
    let lines = headers.get_all(name).into_iter();
    lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect::<Vec<_>>().join(",")
}

/// The error and its innermost cause.
pub(crate) fn describe(error: &(dyn StdError + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error);
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner { outer } else { format!("{outer}: {inner}") }
}
