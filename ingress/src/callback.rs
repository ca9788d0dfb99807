//! The callback endpoint, `POST /callbacks/{tenant}`, and `/callbacks/{tenant}/{token}` for a single job. [`refusing`] has the
//! refusals.

mod refusing;

use crate::{
    accept::{Callback, NotAccepted, accept},
    address::{self, Client},
    body::{self, Unread},
    connections::Permit,
    limits::{Admission, Limit, Limits},
    listener::Unserved,
    media,
    path::without_token,
    problem::Problem,
    reason::Reason,
    refusal_log::RefusalLog,
    refusals::{Refusals, Refused},
};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Method, Request, StatusCode, request};
use hyper::body::Incoming;
use jiff::Timestamp;
use metrics::histogram;
use opentelemetry::KeyValue;
use std::{
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_bus::Publisher;
use talaria_core::{
    config::Config,
    openrouter::{
        IDEMPOTENCY_KEY_HEADER,
        path::{self, CallbackPath},
        signature::{self, Signature},
    },
    time::since,
};
use talaria_proto::{
    time::from_proto,
    v1::{Event, QuarantinedCallback},
};

use talaria_telemetry::{
    LogLimiter, OTHER, TenantCounter, UNKNOWN,
    trace::{self, Kind, Span, Tracer},
};
use tokio::{sync::watch, time::Instant};

/// Callbacks by the tenant in their path and by result.
pub static CALLBACKS: TenantCounter =
    TenantCounter::new("talaria_callbacks_total", "result", &[OTHER, UNKNOWN]);

/// The deadline for the bus. Beyond it, the bus counts as unavailable and the client retries; an event that was stored after all
/// is then a duplicate.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// Shared, because an unavailable bus makes every callback fail.
static NOT_STORED: LogLimiter = LogLimiter::new();

/// The operator's hint for a callback that was not stored.
const NOT_STORED_HINT: &str =
    "the ingress' log says why, behind `callback not stored`, and its /readyz whether it is still so";

pub(crate) struct State {
    pub config: watch::Receiver<Arc<Config>>,
    pub publisher: Publisher,
    /// Of clients' addresses, also for requests that are no callbacks.
    pub limits: Limits,
    log: RefusalLog,
    /// Shared with the tasks that diagnose a refusal after the answer.
    pub refusals: Arc<Refusals>,
    tracer: Tracer,
}

/// The answer to a request that was not accepted, with its label for metrics, which only callbacks have.
type Answer = (Option<&'static str>, Problem);

/// A request whose head was received.
struct Asked<'a> {
    head: &'a request::Parts,
    /// The tenant in its path and the callback token, or why it is no callback.
    target: Result<CallbackPath<'a>, Reason>,
    client: Client,
    admission: Admission,
    permit: &'a Permit,
}

impl Asked<'_> {
    /// The tenant in its path; empty if it is no callback, which is no tenant's name.
    fn tenant(&self) -> &str {
        self.target.map_or("", |path| path.tenant)
    }

    /// The configured tenant in its path, or an empty name.
    fn known<'c>(&self, config: &'c Config) -> &'c str {
        let known = config.tenants.get(self.tenant());
        known.map_or("", |tenant| tenant.name.as_str())
    }

    fn refused<'r>(&'r self, tenant: &'r str, reason: Reason, problem: &Problem) -> Refused<'r> {
        let (client, path) = (self.client.address, without_token(self.head.uri.path()));
        Refused { reason, tenant, client, path, status: problem.status().as_u16() }
    }
}

impl State {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, publisher: Publisher) -> Self {
        Self {
            config,
            publisher,
            limits: Limits::default(),
            log: RefusalLog::default(),
            refusals: Arc::default(),
            tracer: Tracer::default(),
        }
    }

    /// Answers a request over the connection with this permit.
    pub(crate) async fn answer(&self, peer: IpAddr, permit: &Permit, request: Request<Incoming>) -> Response {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let (config, body) = (Arc::clone(&self.config.borrow()), Body::new(body));
        let client = address::client(peer, &head.headers, &config.ingress);
        let may_be_signed = || may_be_signed(&config, &head.headers, Timestamp::now());
        let limits = &config.ingress.limits;
        let asked = |admission| Asked { head: &head, target: target(&head), client, admission, permit };
        let answered = match self.limits.admit(client, may_be_signed, start, limits) {
            Err((limit, wait)) => {
                body::linger(body);
                let problem = Problem::too_many(wait).unread();
                Err(self.limited(&config, &asked(Admission::Free), limit, "limited", problem))
            }
            Ok(admission) => match asked(admission) {
                // The body is not read: no tenant's signature can match.
                Asked { target: Err(reason), .. } if !may_be_signed() => {
                    Err(self.misplaced(&config, &asked(admission), reason))
                }
                asked => self.accept(&config, asked, body).await,
            },
        };
        let (result, response) = match answered {
            Ok(result) => (Some(result), StatusCode::NO_CONTENT.into_response()),
            Err((result, problem)) => (result, problem.into_response()),
        };
        if let Some(result) = result {
            CALLBACKS.increment(tenant_label(&config, &head), result);
            histogram!("talaria_callback_seconds", "result" => result).record(start.elapsed());
        }
        response
    }

    /// Counts a client that got no answer from [`Self::answer`].
    pub(crate) fn unserved(&self, peer: IpAddr, why: Unserved) {
        let is_proxy = self.config.borrow().ingress.trusted_proxies.contain(peer);
        let (reason, status) = match why {
            // The limit was counted by the connections.
            Unserved::Share => (Reason::Limit(Limit::ConnectionsPerAddress), 0),
            Unserved::NotHttp => (Reason::BadRequest, 400),
            Unserved::Tls => (Reason::Tls, 400),
            Unserved::Http2 => (Reason::Http2, 0),
            Unserved::HeadTooLarge => (Reason::HeadTooLarge, 431),
            Unserved::HeadTooSlow => (Reason::HeadTooSlow, 0),
        };
        let client = Client { address: peer.to_canonical(), is_proxy };
        self.refuse(&Refused { reason, tenant: "", client: client.address, path: "", status }, client);
    }

    async fn accept(&self, config: &Config, asked: Asked<'_>, body: Body) -> Result<&'static str, Answer> {
        let ingress = &config.ingress;
        let Asked { client, admission, permit, .. } = asked;
        let headers = &asked.head.headers;
        let unread = |reason: Reason, problem: Problem| {
            self.limits.refused(client, Instant::now(), &ingress.limits);
            self.refused(config, &asked, reason, &problem);
            (Some(reason.label()), problem)
        };
        let shed = |limit, problem| self.limited(config, &asked, limit, "shed", problem);
        // Refused before the client sends the body in vain.
        if self.limits.storing.room(ingress.limits.storing) == 0 {
            body::linger(body);
            return Err(shed(Limit::Storing, Problem::overloaded().unread()));
        }
        let mut share = self.limits.bodies.share();
        let room = self.limits.room_for_bodies(client, admission, Instant::now(), &ingress.limits);
        let body = body::read(body, ingress.max_body_bytes, ingress.body_timeout, &mut share, room).await;
        permit.works();
        let body = body.map_err(|why| match why {
            Unread::NoRoom => shed(Limit::Bodies, Problem::overloaded().unread()),
            Unread::TooLarge => unread(Reason::TooLarge, Problem::too_large(ingress.max_body_bytes)),
            Unread::TooSlow => unread(Reason::TooSlow, Problem::too_slow()),
            Unread::Broken => unread(Reason::Broken, Problem::broken()),
        })?;
        let signature = joined(headers, signature::HEADER);
        let idempotency_key = joined(headers, IDEMPOTENCY_KEY_HEADER);
        let compressed = body::compression(headers, &body);
        let callback = Callback {
            tenant: asked.tenant(),
            token: asked.target.map_or("", |path| path.token),
            signature: signature.as_deref(),
            idempotency_key: idempotency_key.as_deref(),
            traceparent: joined(headers, trace::HEADER).unwrap_or_default(),
            compressed,
            body: body.clone(),
            received_at: Timestamp::now(),
        };
        let signed = match accept(&config.tenants, callback) {
            Err(NotAccepted::Misdirected(signer)) => {
                return Err(self.misdirected(&asked, &signer, compressed));
            }
            Err(NotAccepted::Unauthorized(why)) => {
                return Err(self.unauthorized(config, &asked, why, signature, compressed, body));
            }
            Err(NotAccepted::NotAnEvent(quarantined)) => Err(quarantined),
            Ok(event) => Ok(Event { media_urls: media::links(config, &event), ..event }),
        };
        let tenant = asked.known(config);
        self.limits.verified(client, tenant, Instant::now(), &ingress.limits).map_err(|(limit, wait)| {
            self.limited(config, &asked, limit, "limited", Problem::too_many(wait))
        })?;
        let mut storing = self.limits.storing.share();
        if !storing.grow_to(1, ingress.limits.storing) {
            return Err(shed(Limit::Storing, Problem::overloaded()));
        }
        let stored = match signed {
            Ok(event) => self.store(event, client).await,
            Err(quarantined) => self.quarantine(*quarantined).await,
        };
        if let Err((Some("unavailable"), problem)) = &stored {
            // Logged and counted already.
            self.refusals.record(&asked.refused(tenant, Reason::NotStored, problem));
            self.refusals.explain(tenant, Reason::NotStored, NOT_STORED_HINT);
        }
        stored
    }

    /// Stores an event, with a span and a log line for every outcome.
    async fn store(&self, mut event: Event, client: Client) -> Result<&'static str, Answer> {
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
            trace::unsampled(trace, parent)
        });
        let event = Arc::new(event);
        span.set_attributes(|| attributes(&event));
        publish.set_attributes(|| publish_attributes(&event));
        let published = self.publish(Arc::clone(&event), publish).await;
        let (result, status) = match &published {
            Ok(result) => (*result, StatusCode::NO_CONTENT),
            Err((result, problem)) => (result.unwrap_or_default(), problem.status()),
        };
        span.set_attributes(|| {
            vec![
                KeyValue::new("talaria.result", result),
                KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            ]
        });
        if status.is_server_error() {
            span.fail(result);
        }
        let took = since(Timestamp::now(), received_at);
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
        published
    }

    async fn publish(&self, event: Arc<Event>, mut span: Span) -> Result<&'static str, Answer> {
        if let Some(key) = event.idempotency_key.as_ref().filter(|_| !event.idempotency_key_matches) {
            let Event { id, tenant, job_id: job, .. } = &*event;
            tracing::warn!(event = %id, tenant, job, key, "the unsigned idempotency key does not name this job and status");
        }
        // Boxed, because every connection has room for its whole future, and moves it twice per callback.
        let published = stored(Box::pin(self.publisher.publish(event))).await;
        if published.is_err() {
            span.fail("unavailable");
        }
        drop(span);
        published.map(|()| "accepted")
    }

    async fn quarantine(&self, quarantined: QuarantinedCallback) -> Result<&'static str, Answer> {
        let problem = Problem::not_an_event(&quarantined.reason);
        tracing::warn!(
            tenant = quarantined.tenant,
            id = quarantined.id,
            reason = quarantined.reason,
            "callback quarantined"
        );
        stored(Box::pin(self.publisher.quarantine(quarantined))).await?;
        Err((Some("quarantined"), problem))
    }
}

/// The tenant and the token in a request's path, or why it is no callback.
fn target(head: &request::Parts) -> Result<CallbackPath<'_>, Reason> {
    let target = path::read(head.uri.path()).ok_or(Reason::WrongPath)?;
    if head.method == Method::POST { Ok(target) } else { Err(Reason::WrongMethod) }
}

/// The configured tenant in a request's path, for metrics: any client can write any path.
fn tenant_label<'c>(config: &'c Config, head: &request::Parts) -> &'c str {
    let known = target(head).ok().and_then(|path| config.tenants.get(path.tenant));
    known.map_or(UNKNOWN, |tenant| tenant.name.as_str())
}

/// Whether a request may be signed by some tenant's OpenRouter, judged by its head alone.
fn may_be_signed(config: &Config, headers: &HeaderMap, now: Timestamp) -> bool {
    let Some(header) = joined(headers, signature::HEADER) else { return false };
    let tolerance = config.tenants.values().map(|tenant| tenant.tolerance).max().unwrap_or_default();
    Signature::parse(&header).is_ok_and(|signature| signature.is_recent(tolerance, now))
}

async fn stored<T>(work: impl Future<Output = Result<T, talaria_bus::Error>>) -> Result<T, Answer> {
    let reason = match tokio::time::timeout(STORE_DEADLINE, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) if error.is_too_large() => {
            if let Some(left_out) = NOT_STORED.admit() {
                tracing::warn!(%error, left_out, "callback refused");
            }
            return Err((Some("too_large"), Problem::too_large_for_bus()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the bus took longer than {STORE_DEADLINE:?}"),
    };
    if let Some(left_out) = NOT_STORED.admit() {
        tracing::error!(reason, left_out, "callback not stored");
    }
    Err((Some("unavailable"), Problem::unavailable()))
}

/// The attributes of an event's span.
fn attributes(event: &Event) -> Vec<KeyValue> {
    vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/callbacks/{tenant}"),
        KeyValue::new("talaria.tenant", event.tenant.clone()),
        KeyValue::new("talaria.event.id", event.id.clone()),
        KeyValue::new("talaria.event.type", event.r#type.clone()),
        KeyValue::new("talaria.job.id", event.job_id.clone()),
    ]
}

/// The attributes of the span in which an event is stored.
pub(crate) fn publish_attributes(event: &Event) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.operation.type", "send"),
        KeyValue::new("messaging.destination.name", "events"),
        KeyValue::new("messaging.message.id", event.id.clone()),
    ]
}

/// All lines of a header, joined by commas as RFC 9110 allows. A line that is not text counts as empty.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}
