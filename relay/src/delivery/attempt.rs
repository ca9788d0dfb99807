//! One attempt: reads the event, makes the request, sends it, and says what came of it.

use super::forward::Forwarder;
use crate::{
    clock::Clock,
    decisions::{prepare, step::Sent},
    partition::{Attempt, Outcome, Payload},
};
use metrics::histogram;
use opentelemetry::KeyValue;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use talaria_bus::{Bus, Error};
use talaria_core::{config::Route, time::since};
use talaria_proto::{
    time::from_proto,
    v1::{DeliveryTask, Event, record::What},
};
use talaria_telemetry::{
    LogLimiter,
    trace::{Kind, Span, Tracer},
};

/// The first pause before the event is read again when the bus does not give it, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Sends attempts. Clones share it.
#[derive(Clone)]
pub(crate) struct Sender {
    bus: Bus,
    clock: Clock,
    forwarder: Forwarder,
    tracer: Arc<Tracer>,
}

/// An attempt that was made.
pub(crate) struct Made {
    pub outcome: Outcome,
    /// Of the attempt, until its outcome is known.
    pub span: Span,
    pub http_status: Option<u16>,
    pub took: Duration,
    /// What was sent, if it is still kept.
    pub event: Option<Arc<Event>>,
}

impl Sender {
    pub(crate) fn new(bus: Bus, clock: Clock, forwarder: Forwarder) -> Self {
        Self { bus, clock, forwarder, tracer: Arc::default() }
    }

    /// Makes an attempt, with its event if that is at hand. Dropped on its way, the request may have been sent.
    pub(crate) async fn send(&self, attempt: &Attempt, event: Option<Arc<Event>>) -> Made {
        let Attempt { task, id, route, secret, .. } = attempt;
        while let Some(slot) = attempt.not_before.filter(|slot| *slot > self.clock.now()) {
            self.clock.sleep_towards(slot).await;
        }
        let event = match event {
            Some(event) => Some(event),
            // In a box, because it is seldom needed, and each attempt has room for it.
            None => Box::pin(self.event(attempt)).await,
        };
        let traceparent = event.as_ref().map_or("", |event| event.traceparent.as_str());
        // Part of the event's trace, however long after it; the request is part of this.
        let mut span = self.tracer.span("attempt", Kind::Client, traceparent, SystemTime::now());
        let (started_at, start) = (self.clock.now(), Instant::now());
        let prepared = match &event {
            Some(event) => {
                let traceparent = span.traceparent().unwrap_or_default();
                let signing = prepare::Signing { secret: *secret, now: started_at };
                prepare::request(route, event, task, *id, &traceparent, signing)
            }
            None => Err("its event is not kept any more".to_owned()),
        };
        let request = match prepared {
            Ok(request) => request,
            Err(why) => {
                span.fail("not_sent");
                return Made {
                    outcome: Outcome::NotSent(why),
                    span,
                    http_status: None,
                    took: Duration::ZERO,
                    event,
                };
            }
        };
        if task.attempts == 0 {
            let lag = since(started_at, from_proto(task.received_at.as_ref()));
            histogram!("talaria_first_attempt_seconds").record(lag);
        }
        span.set_attributes(|| described(task, route));
        let guarded = request.guarded.clone();
        let (exchange, timings) = self.forwarder.exchange(route, request).await;
        let (took, http_status) = (start.elapsed(), exchange.status());
        let sent = Sent { started_at, took, exchange, timings, secret: *secret, guarded };
        Made { outcome: Outcome::Sent(Box::new(sent)), span, http_status, took, event }
    }

    /// The event with its payload; `None` when it is not kept any more. Asks until the bus answers.
    async fn event(&self, attempt: &Attempt) -> Option<Arc<Event>> {
        let (mut delay, longest) = RETRY_DELAYS;
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
            tokio::time::sleep(delay).await;
            delay = (2 * delay).min(longest);
        }
    }
}

/// An event with its payload, from the events or from the commit that carried it.
pub(crate) async fn read_event(
    bus: &Bus,
    event_seq: u64,
    payload: Payload,
) -> Result<Option<Arc<Event>>, Error> {
    let commit = match payload {
        Payload::Event(seq) => return bus.event(seq).await,
        Payload::Carried(seq) => bus.commit(seq).await?,
    };
    let carried = commit.into_iter().flat_map(|commit| commit.records).find_map(|record| match record.what {
        Some(What::EventCarried(carried)) if record.event_seq == event_seq => carried.event,
        _ => None,
    });
    Ok(carried.map(Arc::new))
}

/// What a trace says about an attempt. The URL may hold secrets behind its host.
fn described(task: &DeliveryTask, route: &Route) -> Vec<KeyValue> {
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
