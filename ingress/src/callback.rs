//! `POST /callbacks/{tenant}`.

use crate::{
    accept::{Callback, Refusal, accept},
    body::{self, Unread},
    problem::Problem,
    trace,
};
use axum::{
    Router,
    body::Body,
    extract::State as Extract,
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode, Uri};
use metrics::{counter, histogram};
use std::{future::Future, sync::Arc, time::Duration, time::Instant};
use talaria_bus::{Bus, Clock, Published, time::to_proto};
use talaria_core::{
    config::Config,
    openrouter::{IDEMPOTENCY_KEY_HEADER, signature},
};
use talaria_proto::v1::{Event, EventConflict, Fact, QuarantinedCallback, fact::What};
use tokio::sync::watch;

/// A bus that takes longer than this to store something counts as unavailable. The sender tries again, and what
/// was stored after all is then a duplicate.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// How much of an unknown tenant's name is logged.
const LONGEST_NAME: usize = 64;

pub(crate) struct State {
    /// As it is now.
    pub config: watch::Receiver<Arc<Config>>,
    pub bus: Bus,
    pub clock: Clock,
}

pub(crate) fn router(state: State) -> Router {
    Router::new()
        .route("/callbacks/{tenant}", post(callback).fallback(|| async { Problem::method_not_allowed() }))
        .fallback(|| async { Problem::not_found() })
        // Each request has a clone of its own.
        .with_state(Arc::new(state))
}

async fn callback(Extract(state): Extract<Arc<State>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let start = Instant::now();
    // A tenant's name needs no decoding, and what would need it is no tenant's name.
    let tenant = uri.path().strip_prefix("/callbacks/").unwrap_or_default();
    let (result, response) = match state.handle(tenant, &headers, body).await {
        Ok(result) => (result, StatusCode::NO_CONTENT.into_response()),
        Err((result, problem)) => (result, problem.into_response()),
    };
    counter!("talaria_callbacks_total", "result" => result).increment(1);
    histogram!("talaria_callback_seconds", "result" => result).record(start.elapsed());
    response
}

/// A label for metrics, and what the sender is told.
type Refused = (&'static str, Problem);

impl State {
    async fn handle(&self, tenant: &str, headers: &HeaderMap, body: Body) -> Result<&'static str, Refused> {
        let config = Arc::clone(&self.config.borrow());
        let ingress = &config.ingress;
        let body =
            body::read(body, ingress.max_body_bytes, ingress.body_timeout).await.map_err(|unread| {
                match unread {
                    Unread::TooLarge => ("too_large", Problem::too_large(ingress.max_body_bytes)),
                    Unread::TooSlow => ("too_slow", Problem::too_slow()),
                    Unread::Broken => ("broken", Problem::broken()),
                }
            })?;
        let signature = joined(headers, signature::HEADER);
        let idempotency_key = joined(headers, IDEMPOTENCY_KEY_HEADER);
        let callback = Callback {
            tenant,
            signature: signature.as_deref(),
            idempotency_key: idempotency_key.as_deref(),
            traceparent: trace::parent(joined(headers, trace::HEADER).as_deref(), rand::random),
            body,
            received_at: self.clock.now(),
        };
        match accept(&config.tenants, callback) {
            Ok(event) => self.publish(Arc::new(event)).await,
            Err(Refusal::Stranger(why)) => {
                counter!("talaria_callbacks_refused_total", "reason" => why.label()).increment(1);
                // A stranger's path may be long, and he may come often.
                let tenant: String = tenant.chars().take(LONGEST_NAME).collect();
                tracing::info!(tenant, reason = why.label(), "callback refused");
                Err(("unauthorized", Problem::unauthorized()))
            }
            Err(Refusal::NotAnEvent(quarantined)) => self.quarantine(*quarantined).await,
        }
    }

    async fn publish(&self, event: Arc<Event>) -> Result<&'static str, Refused> {
        let (id, tenant, kind, job) = (&event.id, &event.tenant, &event.r#type, &event.job_id);
        let log = tracing::debug_span!("callback", event = %id, tenant, kind, job);
        if let Some(key) = event.idempotency_key.as_ref().filter(|_| !event.idempotency_key_matches) {
            tracing::warn!(event = %id, tenant, job, key, "the unsigned idempotency key does not name this job and status");
        }
        match stored(self.bus.publish(Arc::clone(&event))).await? {
            Published::New { seq } => {
                tracing::debug!(parent: &log, seq, "callback accepted");
                Ok("accepted")
            }
            Published::Duplicate { payload_sha256, .. } if payload_sha256 == event.payload_sha256 => {
                tracing::debug!(parent: &log, "callback repeated");
                Ok("repeated")
            }
            Published::Duplicate { seq, .. } => {
                tracing::warn!(event = %id, tenant, kind, job, seq, "callback repeated with another body; the first one stands");
                let conflict = What::EventConflict(EventConflict {
                    event_id: event.id.clone(),
                    received_at: event.received_at,
                    payload_sha256: event.payload_sha256.clone(),
                    payload: event.payload.clone(),
                });
                self.record(seq, conflict).await?;
                Ok("conflict")
            }
        }
    }

    async fn quarantine(&self, quarantined: QuarantinedCallback) -> Result<&'static str, Refused> {
        let problem = Problem::not_an_event(&quarantined.reason);
        tracing::warn!(
            tenant = quarantined.tenant,
            id = quarantined.id,
            reason = quarantined.reason,
            "callback quarantined"
        );
        self.record(0, What::CallbackQuarantined(quarantined)).await?;
        Err(("quarantined", problem))
    }

    async fn record(&self, event_seq: u64, what: What) -> Result<(), Refused> {
        let fact = Fact { at: Some(to_proto(self.clock.now())), event_seq, what: Some(what) };
        stored(self.bus.record(vec![fact])).await
    }
}

async fn stored<T>(work: impl Future<Output = Result<T, talaria_bus::Error>>) -> Result<T, Refused> {
    let reason = match tokio::time::timeout(STORE_DEADLINE, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) if error.is_too_large() => {
            tracing::warn!(%error, "callback refused");
            return Err(("too_large", Problem::too_large_for_bus()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the bus took longer than {STORE_DEADLINE:?}"),
    };
    tracing::error!(reason, "callback not stored");
    Err(("unavailable", Problem::unavailable()))
}

/// All lines of a header, joined as HTTP says that they may be. What is not text counts as empty.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}
