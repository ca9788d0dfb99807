//! `POST /callbacks/{tenant}`.

use crate::{
    accept::{Callback, Refusal, Why, accept},
    address::{self, Client, Sender},
    body::{self, Unread},
    connections::Place,
    limits::{self, Limit, Limits},
    problem::Problem,
    quiet::Quiet,
};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Method, Request, StatusCode, request};
use hyper::body::Incoming;
use metrics::{counter, histogram};
use opentelemetry::KeyValue;
use std::{
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_bus::{
    Clock, LogLimit, Publisher,
    time::{from_proto, since},
    trace::{self, Kind, Span, Tracer},
};
use talaria_core::{
    config::Config,
    openrouter::{IDEMPOTENCY_KEY_HEADER, signature},
};
use talaria_proto::v1::{Event, QuarantinedCallback};
use tokio::{sync::watch, time::Instant};

/// A bus that takes longer than this to store something counts as unavailable. The sender tries again, and what
/// was stored after all is then a duplicate.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// A bus that is away makes every callback fail.
static NOT_STORED: LogLimit = LogLimit::new();

/// How much of an unknown tenant's name is logged.
const LONGEST_NAME: usize = 64;

pub(crate) struct State {
    /// As it is now.
    pub config: watch::Receiver<Arc<Config>>,
    publisher: Publisher,
    clock: Clock,
    limits: Limits,
    quiet: Quiet,
    tracer: Tracer,
}

/// A label for metrics, and what the sender is told.
type Refused = (&'static str, Problem);

/// A request as it is when its head has come.
struct Asked<'a> {
    tenant: &'a str,
    headers: &'a HeaderMap,
    client: Client,
    place: &'a Place,
}

impl State {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, publisher: Publisher, clock: Clock) -> Self {
        Self {
            config,
            publisher,
            clock,
            limits: Limits::default(),
            quiet: Quiet::default(),
            tracer: Tracer::default(),
        }
    }

    /// Answers a request that came over the connection at this place.
    pub(crate) async fn answer(&self, peer: IpAddr, place: &Place, request: Request<Incoming>) -> Response {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let (config, body) = (Arc::clone(&self.config.borrow()), Body::new(body));
        let client = address::client(peer, &head.headers, &config.ingress);
        let limits = &config.ingress.limits;
        let answered = match (self.limits.admit(client, start, limits), tenant(&head)) {
            (Err((limit, wait)), _) => {
                body::linger(body);
                Err(self.limited(limit, client, Problem::too_many(wait).unread()))
            }
            (Ok(()), Err(problem)) => {
                self.limits.refused(client, start, limits);
                place.waits();
                return problem.into_response();
            }
            (Ok(()), Ok(tenant)) => {
                let asked = Asked { tenant, headers: &head.headers, client, place };
                self.take(&config, asked, body).await
            }
        };
        place.waits();
        let (result, response) = match answered {
            Ok(result) => (result, StatusCode::NO_CONTENT.into_response()),
            Err((result, problem)) => (result, problem.into_response()),
        };
        counter!("talaria_callbacks_total", "result" => result).increment(1);
        histogram!("talaria_callback_seconds", "result" => result).record(start.elapsed());
        response
    }

    async fn take(&self, config: &Config, asked: Asked<'_>, body: Body) -> Result<&'static str, Refused> {
        let ingress = &config.ingress;
        let Asked { tenant, headers, client, place } = asked;
        let refused = |label, problem| {
            self.limits.refused(client, Instant::now(), &ingress.limits);
            (label, problem)
        };
        // Whoever is told so before his body is read has not sent it for nothing.
        if self.limits.storing.room(ingress.limits.storing) == 0 {
            body::linger(body);
            return Err(self.shed(Limit::Storing, client, Problem::overloaded().unread()));
        }
        let mut held = self.limits.bodies.nothing();
        let room = self.limits.share_of_bodies(client, Instant::now(), &ingress.limits);
        let body = body::read(body, ingress.max_body_bytes, ingress.body_timeout, &mut held, room).await;
        place.works();
        let body = body.map_err(|unread| match unread {
            Unread::NoRoom => self.shed(Limit::Bodies, client, Problem::overloaded().unread()),
            Unread::TooLarge => refused("too_large", Problem::too_large(ingress.max_body_bytes)),
            Unread::TooSlow => refused("too_slow", Problem::too_slow()),
            Unread::Broken => refused("broken", Problem::broken()),
        })?;
        let signature = joined(headers, signature::HEADER);
        let idempotency_key = joined(headers, IDEMPOTENCY_KEY_HEADER);
        let callback = Callback {
            tenant,
            signature: signature.as_deref(),
            idempotency_key: idempotency_key.as_deref(),
            traceparent: joined(headers, trace::HEADER).unwrap_or_default(),
            body,
            received_at: self.clock.now(),
        };
        let signed = match accept(&config.tenants, callback) {
            Err(Refusal::Stranger(why)) => {
                self.stranger(why, tenant, client);
                return Err(refused("unauthorized", Problem::unauthorized()));
            }
            Err(Refusal::NotAnEvent(quarantined)) => Err(quarantined),
            Ok(event) => Ok(event),
        };
        self.limits
            .verified(client, tenant, Instant::now(), &ingress.limits)
            .map_err(|(limit, wait)| self.limited(limit, client, Problem::too_many(wait)))?;
        let mut storing = self.limits.storing.nothing();
        if !storing.grow_to(1, ingress.limits.storing) {
            return Err(self.shed(Limit::Storing, client, Problem::overloaded()));
        }
        match signed {
            Ok(event) => self.store(event, client).await,
            Err(quarantined) => self.quarantine(*quarantined).await,
        }
    }

    fn stranger(&self, why: Why, tenant: &str, client: Client) {
        counter!("talaria_callbacks_refused_total", "reason" => why.label()).increment(1);
        if let Some(left_out) = self.line_about(client) {
            // A stranger's path may be long.
            let tenant: String = tenant.chars().take(LONGEST_NAME).collect();
            tracing::info!(tenant, reason = why.label(), client = %client.address, left_out, "callback refused");
        }
    }

    fn limited(&self, limit: Limit, client: Client, problem: Problem) -> Refused {
        limits::reached(limit);
        if let Some(left_out) = self.line_about(client) {
            tracing::warn!(limit = limit.key(), client = %client.address, left_out, "callback limited");
        }
        ("limited", problem)
    }

    fn shed(&self, limit: Limit, client: Client, problem: Problem) -> Refused {
        limits::reached(limit);
        if let Some(left_out) = self.line_about(client) {
            let limit = limit.key();
            tracing::warn!(limit, client = %client.address, left_out, "no room for a callback");
        }
        ("shed", problem)
    }

    /// Whether a line about a client is written, and then how many about clients were left out before it.
    fn line_about(&self, client: Client) -> Option<u64> {
        self.quiet.writes(Sender::from(client.address), Instant::now())
    }

    /// What is signed has a span and a line in the log, whatever becomes of it.
    async fn store(&self, mut event: Event, client: Client) -> Result<&'static str, Refused> {
        let received_at = from_proto(event.received_at.as_ref());
        let mut span = self.tracer.span("callback", Kind::Server, &event.traceparent, received_at.into());
        let mut publish = self.tracer.span(
            "publish",
            Kind::Producer,
            &span.traceparent().unwrap_or_default(),
            SystemTime::now(),
        );
        event.traceparent = publish.traceparent().unwrap_or_else(|| {
            let (trace, parent) = rand::random();
            trace::invented(trace, parent)
        });
        let event = Arc::new(event);
        span.say(|| described(&event));
        publish.say(|| {
            vec![
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", "events"),
                KeyValue::new("messaging.message.id", event.id.clone()),
            ]
        });
        let taken = self.publish(Arc::clone(&event), publish).await;
        let (result, status) = match &taken {
            Ok(result) => (*result, StatusCode::NO_CONTENT),
            Err((result, problem)) => (*result, problem.status()),
        };
        span.say(|| {
            vec![
                KeyValue::new("talaria.result", result),
                KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            ]
        });
        if status.is_server_error() {
            span.fail(result);
        }
        let took = since(self.clock.now(), received_at);
        tracing::info!(
            event = event.id,
            tenant = event.tenant,
            kind = event.r#type,
            job = event.job_id,
            client = %client.address,
            result,
            status = status.as_u16(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            trace = trace::trace_id(&event.traceparent),
            "callback"
        );
        taken
    }

    async fn publish(&self, event: Arc<Event>, mut span: Span) -> Result<&'static str, Refused> {
        if let Some(key) = event.idempotency_key.as_ref().filter(|_| !event.idempotency_key_matches) {
            let Event { id, tenant, job_id: job, .. } = &*event;
            tracing::warn!(event = %id, tenant, job, key, "the unsigned idempotency key does not name this job and status");
        }
        // In a box, as every connection has room for its whole answer, and moves it twice a callback.
        let published = stored(Box::pin(self.publisher.publish(event))).await;
        if published.is_err() {
            span.fail("unavailable");
        }
        drop(span);
        published.map(|()| "accepted")
    }

    async fn quarantine(&self, quarantined: QuarantinedCallback) -> Result<&'static str, Refused> {
        let problem = Problem::not_an_event(&quarantined.reason);
        tracing::warn!(
            tenant = quarantined.tenant,
            id = quarantined.id,
            reason = quarantined.reason,
            "callback quarantined"
        );
        stored(Box::pin(self.publisher.quarantine(quarantined))).await?;
        Err(("quarantined", problem))
    }
}

/// The tenant that a request names, or what else it asks for. A tenant's name needs no decoding, and what would need it
/// is no tenant's name.
fn tenant(head: &request::Parts) -> Result<&str, Problem> {
    let name = head.uri.path().strip_prefix("/callbacks/");
    let name = name.filter(|name| !name.is_empty() && !name.contains('/')).ok_or_else(Problem::not_found)?;
    if head.method == Method::POST { Ok(name) } else { Err(Problem::method_not_allowed()) }
}

async fn stored<T>(work: impl Future<Output = Result<T, talaria_bus::Error>>) -> Result<T, Refused> {
    let reason = match tokio::time::timeout(STORE_DEADLINE, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) if error.is_too_large() => {
            if let Some(left_out) = NOT_STORED.admit() {
                tracing::warn!(%error, left_out, "callback refused");
            }
            return Err(("too_large", Problem::too_large_for_bus()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the bus took longer than {STORE_DEADLINE:?}"),
    };
    if let Some(left_out) = NOT_STORED.admit() {
        tracing::error!(reason, left_out, "callback not stored");
    }
    Err(("unavailable", Problem::unavailable()))
}

/// What a trace says of an event.
fn described(event: &Event) -> Vec<KeyValue> {
    vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/callbacks/{tenant}"),
        KeyValue::new("talaria.tenant", event.tenant.clone()),
        KeyValue::new("talaria.event.id", event.id.clone()),
        KeyValue::new("talaria.event.type", event.r#type.clone()),
        KeyValue::new("talaria.job.id", event.job_id.clone()),
    ]
}

/// All lines of a header, joined as HTTP says that they may be. What is not text counts as empty.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}
