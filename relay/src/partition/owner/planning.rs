//! Planning: the events that came in, with their logs, metrics and spans.

use super::Running;
use crate::{decisions::unmatched::why_unmatched, partition::machine::Planned};
use metrics::counter;
use opentelemetry::KeyValue;
use std::{sync::Arc, time::SystemTime};
use talaria_bus::{Incoming, Stored};
use talaria_proto::v1::{Event, EventSource};
use talaria_telemetry::{
    LogLimiter,
    trace::{Kind, Span},
};

impl Running {
    pub(super) fn plan(&mut self, stored: &[Stored]) {
        let now = self.now();
        for stored in stored {
            let planned = self.machine.event(stored, now);
            let Incoming::Event(event) = &stored.what else { continue };
            match planned {
                Planned::ForRoutes => {
                    self.tools.recent.insert(stored.seq, event);
                    counter!("talaria_events_planned_total", "routes" => "some").increment(1);
                }
                Planned::ForNone => {
                    counter!("talaria_events_planned_total", "routes" => "none").increment(1);
                    if event.source() != EventSource::Notice {
                        self.warn_unmatched(event);
                    }
                }
                Planned::Repeated => counter!("talaria_events_repeated_total", "body" => "same").increment(1),
                Planned::Conflict => {
                    counter!("talaria_events_repeated_total", "body" => "other").increment(1);
                    tracing::warn!(
                        event = event.id,
                        tenant = event.tenant,
                        kind = event.r#type,
                        job = event.job_id,
                        "event repeated with another body; the first one stands"
                    );
                }
                Planned::Nothing => continue,
            }
            if let (Planned::ForRoutes | Planned::ForNone, Some(cost)) = (planned, event.cost_micros) {
                counter!("talaria_cost_microdollars_total").increment(cost.try_into().unwrap_or(0));
            }
            self.spans.push(self.span(event));
        }
    }

    /// Logs that no route takes an event: OpenRouter's callback was answered with 204.
    fn warn_unmatched(&self, event: &Event) {
        static UNMATCHED: LogLimiter = LogLimiter::new();
        let Some(left_out) = UNMATCHED.admit() else { return };
        let config = Arc::clone(&self.tools.config.borrow());
        let because = why_unmatched(&event.r#type, config.tenants.get(&event.tenant).map(AsRef::as_ref));
        let help = format!(
            "talaria explain {id} says why, and talaria replay {id} --route ROUTE hands it over once a route takes it",
            id = event.id
        );
        tracing::warn!(
            event = event.id,
            tenant = event.tenant,
            kind = event.r#type,
            job = event.job_id,
            because,
            help,
            left_out,
            "no route takes an event"
        );
    }

    /// The span of an event's plan, until that is durable.
    fn span(&self, event: &Event) -> Span {
        let mut span = self.tracer.span("plan", Kind::Consumer, &event.traceparent, SystemTime::now());
        span.set_attributes(|| {
            vec![
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", "events"),
                KeyValue::new("messaging.message.id", event.id.clone()),
                KeyValue::new("talaria.tenant", event.tenant.clone()),
                KeyValue::new("talaria.event.id", event.id.clone()),
            ]
        });
        span
    }
}
