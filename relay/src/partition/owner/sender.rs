//! The sender of attempts: reads the event, prepares the request, and exchanges it with Hermes.

use super::attempts::EndedAttempt;
use crate::clock::Clock;
use crate::{
    backoff::Backoff,
    decisions::{evidence::Observed, exchange::Sent, prepare},
    delivery::forward::Forwarder,
    evidence::Evidence,
    partition::{machine::Attempt, state::Payload},
};
use metrics::histogram;
use opentelemetry::KeyValue;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use talaria_bus::{Bus, Error};
use talaria_core::config::Route;
use talaria_core::time::since;
use talaria_proto::time::from_proto;
use talaria_proto::v1::{DeliveryTask, Event, record::What};
use talaria_telemetry::{
    LogLimiter,
    trace::{Kind, Tracer},
};
use tokio::sync::OwnedSemaphorePermit;

/// The first and the longest pause after a failed read of an event.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Sender {
    bus: Bus,
    clock: Clock,
    forwarder: Forwarder,
    evidence: Evidence,
    tracer: Arc<Tracer>,
}

impl Sender {
    pub(crate) fn new(bus: Bus, clock: Clock, forwarder: Forwarder, evidence: Evidence) -> Self {
        Self { bus, clock, forwarder, evidence, tracer: Arc::default() }
    }

    /// Makes an attempt, with its event if that is in memory. If the future is dropped, the request may have been sent.
    pub(super) async fn send(
        &self,
        attempt: Box<Attempt>,
        event: Option<Arc<Event>>,
        permit: OwnedSemaphorePermit,
    ) -> EndedAttempt {
        while let Some(slot) = attempt.not_before.filter(|slot| *slot > self.clock.now()) {
            self.clock.sleep_towards(slot).await;
        }
        let event = match event {
            Some(event) => Some(event),
            // In a box, because it is rarely needed and would make each attempt's future larger.
            None => Box::pin(self.event(&attempt)).await,
        };
        let Attempt { task, id, route, secret, job, .. } = &*attempt;
        let traceparent = event.as_ref().map_or("", |event| event.traceparent.as_str());
        // A span in the event's trace, and the parent of Hermes' request.
        let mut span = self.tracer.span("attempt", Kind::Client, traceparent, SystemTime::now());
        let (started_at, start) = (self.clock.now(), Instant::now());
        let prepared = match &event {
            Some(event) => {
                let traceparent = span.traceparent().unwrap_or_default();
                let signing = prepare::Signing { secret: *secret, now: started_at };
                prepare::request(route, event, task, *id, job.as_deref(), &traceparent, signing)
            }
            None => Err("its event is not kept any more".to_owned()),
        };
        let outcome = match prepared {
            Ok(request) => {
                if task.attempts == 0 {
                    let lag = since(started_at, from_proto(task.received_at.as_ref()));
                    histogram!("talaria_first_attempt_seconds").record(lag);
                }
                span.set_attributes(|| attributes(task, route));
                let remarks = request.remarks.clone();
                let kept = self.evidence.is_kept().then(|| (request.headers.clone(), request.body.clone()));
                let (exchange, timings) = self.forwarder.exchange(route, request).await;
                let took = start.elapsed();
                if let Some((headers, body)) = kept {
                    self.evidence.keep(Observed {
                        delivery: task.delivery_id.clone(),
                        tenant: task.tenant.clone(),
                        number: task.attempts + 1,
                        started_at,
                        route: Arc::clone(route),
                        headers,
                        body,
                        exchange: exchange.clone(),
                    });
                }
                Ok(Box::new(Sent { started_at, took, exchange, timings, secret: *secret, remarks }))
            }
            Err(why) => {
                span.fail("not_sent");
                Err(why)
            }
        };
        EndedAttempt { attempt, outcome, span, event, _permit: permit }
    }

    /// The event with its payload; `None` when it is not kept any more. Retries until the bus answers.
    async fn event(&self, attempt: &Attempt) -> Option<Arc<Event>> {
        let mut backoff = Backoff::new(RETRY_DELAYS.0, RETRY_DELAYS.1);
        loop {
            match read_event(&self.bus, attempt.task.event_seq, attempt.payload).await {
                Ok(event) => return event,
                Err(error) => {
                    static FAILED: LogLimiter = LogLimiter::new();
                    if let Some(left_out) = FAILED.admit() {
                        let delivery = &attempt.task.delivery_id;
                        tracing::warn!(%error, delivery, left_out, "event read failed");
                    }
                }
            }
            backoff.sleep().await;
        }
    }
}

/// An event with its payload, from the events or from the commit that carried it.
pub(super) async fn read_event(
    bus: &Bus,
    event_seq: u64,
    payload: Payload,
) -> Result<Option<Arc<Event>>, Error> {
    let commit = match payload {
        Payload::Event(seq) => return bus.event_at(seq).await,
        Payload::Carried(seq) => bus.commit_at(seq).await?,
    };
    let carried = commit.into_iter().flat_map(|commit| commit.records).find_map(|record| match record.what {
        Some(What::EventCarried(carried)) if record.event_seq == event_seq => carried.event,
        _ => None,
    });
    Ok(carried.map(Arc::new))
}

/// An attempt's attributes in a trace. Of the URL only the host, because the rest may hold secrets.
fn attributes(task: &DeliveryTask, route: &Route) -> Vec<KeyValue> {
    let url = &route.url;
    vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("url.scheme", url.scheme().to_owned()),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(url.port_or_known_default().unwrap_or_default())),
        KeyValue::new("talaria.tenant", task.tenant.clone()),
        KeyValue::new("talaria.route", task.route.clone()),
        KeyValue::new("talaria.delivery.id", task.delivery_id.clone()),
        KeyValue::new("talaria.attempt", i64::from(task.attempts) + 1),
    ]
}
