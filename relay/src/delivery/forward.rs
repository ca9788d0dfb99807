//! One exchange with Hermes: one deadline over all of it, and no more read than is needed.

use crate::{
    decisions::classify::{Answer, CutShort, Exchange},
    decisions::prepare::Request,
    delivery::coding,
    delivery::outbound::{
        Clients, MAX_AGE, causes,
        connect::{Failure, Fresh},
        refusal,
        resolve::Resolver,
        timings::Timings,
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

/// Hermes' answers have a few hundred bytes; what is longer is not Hermes'.
const LARGEST_ANSWER: usize = 64 * 1024;

/// How much is added to a timeout at most, as a part of it. Hundreds of exchanges with routes that hang begin together, and would
/// end together again and again, each time with work that others wait for.
const SPREAD: f64 = 0.1;

/// Sends requests. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Forwarder {
    clients: Arc<Clients>,
}

impl Default for Forwarder {
    /// With connections of its own.
    fn default() -> Self {
        Self::with(Resolver::system(), MAX_AGE)
    }
}

impl Forwarder {
    fn with(resolver: Arc<Resolver>, max_age: Duration) -> Self {
        Self { clients: Arc::new(Clients::new(resolver, max_age)) }
    }

    /// Keeps connections of this configuration's kinds, and no others; what is under way goes on.
    pub(crate) fn keep_only(&self, config: &Config) {
        self.clients.keep_only(config);
    }

    /// Keeps connections of the kinds of the configuration in force.
    pub(crate) async fn follow(self, mut config: watch::Receiver<Arc<Config>>) {
        while config.changed().await.is_ok() {
            let now = Arc::clone(&config.borrow_and_update());
            self.keep_only(&now);
        }
        // It never changes again.
        std::future::pending::<()>().await;
    }

    /// Sends a route's request and waits for the whole answer, together at most for the route's `timeout`, or a little longer.
    pub(crate) async fn exchange(&self, route: &Route, request: Request) -> (Exchange, Timings) {
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
        request: Request,
        timings: &mut Timings,
    ) -> Exchange {
        let end = (start + route.timeout + route.timeout.mul_f64(rand::random::<f64>() * SPREAD)).into();
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
        coding::undo(&mut answer, &codings, LARGEST_ANSWER);
        Exchange::Answered(answer)
    }

    /// Notes what the connection took, and tells whether there was one: only then can anything have been sent. One that is
    /// old takes no other request.
    fn note_connection(&self, connection: &CaptureConnection, start: Instant, timings: &mut Timings) -> bool {
        let connected = connection.connection_metadata();
        let Some(connected) = connected.as_ref() else { return false };
        let mut extensions = http::Extensions::new();
        connected.get_extras(&mut extensions);
        let fresh = extensions.get::<Fresh>();
        match fresh.and_then(|fresh| fresh.take(start)) {
            Some(made) => timings.made = made,
            None => timings.reused = true,
        }
        if fresh.is_some_and(|fresh| self.clients.is_last_request(fresh.age())) {
            connected.poison();
        }
        true
    }
}

fn post(route: &Route, request: Request) -> Result<http::Request<Full<bytes::Bytes>>, String> {
    let uri = Uri::try_from(route.url.as_str()).map_err(|error| format!("the route's url: {error}"))?;
    let mut outgoing = http::Request::new(Full::new(request.body));
    *outgoing.method_mut() = http::Method::POST;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = request.headers;
    Ok(outgoing)
}

/// What a failed request means. It was not sent without a connection, nor if the connection had ended before.
fn failed(error: &legacy::Error, route: &Route, timings: &mut Timings) -> Exchange {
    if let Some(failure) = causes(error).find_map(|cause| cause.downcast_ref::<Failure>()) {
        timings.made = failure.made;
        let exchange = if failure.not_allowed { Exchange::NotAllowed } else { Exchange::NotSent };
        return exchange(failure.why.clone());
    }
    let was_closed = causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_canceled));
    if error.is_connect() || was_closed {
        return Exchange::NotSent("the connection had been closed".into());
    }
    match refusal(route.url.host_str().unwrap_or_default(), error) {
        Some(why) => Exchange::NotSent(why),
        None => Exchange::Lost(told(error.source().unwrap_or(error))),
    }
}

/// Reads up to the cap; says why if there is more or less.
async fn read(mut incoming: Incoming, body: &mut Vec<u8>) -> Option<CutShort> {
    loop {
        let chunk = match incoming.frame().await {
            None => return None,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Some(CutShort::BrokenOff(told(&error))),
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

/// All lines of a header, as one.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> String {
    let lines = headers.get_all(name).into_iter();
    lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect::<Vec<_>>().join(",")
}

/// Seconds, or a date. HTTP knows whole seconds alone; fractions are sent all the same. So many that no clock counts them are
/// the most that there are.
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

/// What went wrong, and the innermost cause, which says most.
fn told(error: &(dyn StdError + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error);
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner { outer } else { format!("{outer}: {inner}") }
}

#[cfg(test)]
mod tests;
