//! Plans events as they come: matches each against its tenant's routes.

use crate::plan::plan;
use metrics::counter;
use opentelemetry::KeyValue;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_bus::{
    Bus, Clock, Error, Plan, Stored,
    trace::{Kind, Span, Tracer},
};
use talaria_core::config::Config;
use talaria_proto::v1::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many events are planned in one go.
const BATCH: usize = 256;

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Works until it is told to stop.
pub(crate) async fn run(
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    clock: Clock,
    stop: CancellationToken,
) {
    let work = async {
        let tracer = Tracer::default();
        loop {
            if let Err(error) = next(&config, &bus, &clock, &tracer).await {
                tracing::error!(%error, "cannot plan events");
                clock.sleep(PATIENCE).await;
            }
        }
    };
    // A plan that was sent and not awaited is made, or is made again.
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

async fn next(
    config: &watch::Receiver<Arc<Config>>,
    bus: &Bus,
    clock: &Clock,
    tracer: &Tracer,
) -> Result<(), Error> {
    let events = bus.unplanned(BATCH).await?;
    let config = Arc::clone(&config.borrow());
    let now = clock.now();
    let plan_one =
        |stored: &Stored| plan(stored, config.tenants.get(&stored.event.tenant).map(AsRef::as_ref), now);
    let spans: Vec<Span> = events.iter().map(|stored| begin(tracer, &stored.event)).collect();
    let plans: Vec<Plan> = events.iter().map(plan_one).collect();
    let wanted = plans.iter().filter(|plan| !plan.deliveries.is_empty()).count();
    let unwanted = plans.len() - wanted;
    bus.plan(plans).await?;
    drop(spans);
    counter!("talaria_events_planned_total", "routes" => "some").increment(wanted as u64);
    counter!("talaria_events_planned_total", "routes" => "none").increment(unwanted as u64);
    Ok(())
}

/// The span of an event's plan, which ends when it is durable.
fn begin(tracer: &Tracer, event: &Event) -> Span {
    let mut span = tracer.span("plan", Kind::Consumer, &event.traceparent, SystemTime::now());
    span.say(|| {
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
