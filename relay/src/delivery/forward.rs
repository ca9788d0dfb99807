//! One exchange with Hermes, under one deadline and with a limited answer.

use crate::{
    decisions::exchange::{Answer, CutShort, Exchange, Timings},
    decisions::prepare::HermesRequest,
    delivery::decompress::decompress,
    delivery::outbound::{
        Clients, MAX_AGE, causes,
        connect::{Failure, Fresh},
        refusal,
        resolve::Resolver,
    },
};
use http::{HeaderMap, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{
    self,
    connect::{CaptureConnection, capture_connection},
};
use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use talaria_core::config::{Config, Route};
use tokio::{sync::watch, time::timeout_at};

/// In bytes. Hermes' answers have a few hundred.
const LARGEST_ANSWER: usize = 64 * 1024;

/// The most jitter of a timeout, as a part of it. Hundreds of exchanges with routes that hang begin together, and would otherwise
/// end together again and again.
const TIMEOUT_JITTER: f64 = 0.1;

/// Sends requests. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Forwarder {
    clients: Arc<Clients>,
}

impl Default for Forwarder {
    fn default() -> Self {
        Self::with(Resolver::system(), MAX_AGE)
    }
}

impl Forwarder {
    fn with(resolver: Arc<Resolver>, max_age: Duration) -> Self {
        Self { clients: Arc::new(Clients::new(resolver, max_age)) }
    }

    /// Drops connections that no route of this configuration may use; exchanges under way go on.
    pub(crate) fn keep_only(&self, config: &Config) {
        self.clients.keep_only(config);
    }

    /// Calls [`Forwarder::keep_only`] whenever the configuration changes.
    pub(crate) async fn follow(self, mut config: watch::Receiver<Arc<Config>>) {
        while config.changed().await.is_ok() {
            let now = Arc::clone(&config.borrow_and_update());
            self.keep_only(&now);
        }
        // The configuration never changes again.
        std::future::pending::<()>().await;
    }

    /// Sends a route's request and reads the answer, within the route's `timeout` and its jitter.
    pub(crate) async fn exchange(&self, route: &Route, request: HermesRequest) -> (Exchange, Timings) {
        let start = Instant::now();
        let mut timings = Timings::default();
        let exchange = self.exchange_until(start, route, request, &mut timings).await;
        timings.total = start.elapsed();
        (exchange, timings)
    }

    async fn exchange_until(
        &self,
        start: Instant,
        route: &Route,
        request: HermesRequest,
        timings: &mut Timings,
    ) -> Exchange {
        let end =
            (start + route.timeout + route.timeout.mul_f64(rand::random::<f64>() * TIMEOUT_JITTER)).into();
        let (client, mut outgoing) = match (self.clients.of(route), post(route, request)) {
            (Ok(client), Ok(outgoing)) => (client, outgoing),
            (Err(why), _) | (_, Err(why)) => return Exchange::NotSent(why),
        };
        outgoing.extensions_mut().extend(self.clients.casing(route));
        let connection = capture_connection(&mut outgoing);
        let answered = timeout_at(end, client.request(outgoing)).await;
        let is_connected = self.note_connection(&connection, start, timings);
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return failed(&error, route, timings),
            Err(_) if !is_connected => {
                return Exchange::NotSent(format!("no connection within {:?}", route.timeout));
            }
            Err(_) => return Exchange::Lost(format!("nothing within {:?}", route.timeout)),
        };
        timings.first_byte = Some(start.elapsed());
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: text(response.headers(), header::RETRY_AFTER)
                .and_then(|value| retry_after(&value, SystemTime::now())),
            location: text(response.headers(), header::LOCATION),
            ..Answer::default()
        };
        let codings = joined(response.headers(), header::CONTENT_ENCODING);
        answer.cut_short = match timeout_at(end, read(response.into_body(), &mut answer.body)).await {
            Ok(cut_short) => cut_short,
            Err(_) => Some(CutShort::BrokenOff(format!("not whole within {:?}", route.timeout))),
        };
        decompress(&mut answer, &codings, LARGEST_ANSWER);
        Exchange::Answered(answer)
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
        if fresh.is_some_and(|fresh| self.clients.is_last_request(fresh.age())) {
            connected.poison();
        }
        true
    }
}

fn post(route: &Route, request: HermesRequest) -> Result<http::Request<Full<bytes::Bytes>>, String> {
    let uri = Uri::try_from(route.url.as_str()).map_err(|error| format!("the route's url: {error}"))?;
    let mut outgoing = http::Request::new(Full::new(request.body));
    *outgoing.method_mut() = http::Method::POST;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = request.headers;
    Ok(outgoing)
}

/// The result of a failed request. It was not sent if there was no connection, or if the connection had ended before.
fn failed(error: &legacy::Error, route: &Route, timings: &mut Timings) -> Exchange {
    if let Some(failure) = causes(error).find_map(|cause| cause.downcast_ref::<Failure>()) {
        timings.connecting = failure.timings;
        let exchange = if failure.not_allowed { Exchange::NotAllowed } else { Exchange::NotSent };
        return exchange(failure.why.clone());
    }
    let was_closed = causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_canceled));
    if error.is_connect() || was_closed {
        return Exchange::NotSent("the connection had been closed".into());
    }
    match refusal(route.url.host_str().unwrap_or_default(), error) {
        Some(why) => Exchange::NotSent(why),
        None => Exchange::Lost(describe(error.source().unwrap_or(error))),
    }
}

/// Reads up to the cap. Gives the reason if the body is incomplete.
async fn read(mut incoming: Incoming, body: &mut Vec<u8>) -> Option<CutShort> {
    loop {
        let chunk = match incoming.frame().await {
            None => return None,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Some(CutShort::BrokenOff(describe(&error))),
        };
        let room = LARGEST_ANSWER - body.len();
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if chunk.len() > room {
            return Some(CutShort::TooLong(LARGEST_ANSWER));
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

/// Seconds, or a date. The standard has whole seconds; some servers send fractions. A number that is too large becomes the
/// longest duration.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let is_number = value.starts_with(|first: char| first.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number {
        let seconds: f64 = value.parse().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default())
}

/// The error and its innermost cause.
fn describe(error: &(dyn StdError + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error);
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner { outer } else { format!("{outer}: {inner}") }
}

#[cfg(test)]
mod tests;
