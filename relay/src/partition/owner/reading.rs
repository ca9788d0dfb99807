//! What is read for an owner beside its work.

use crate::{
    delivery::attempt::read_event,
    partition::state::Payload,
    view::{View, query},
};
use std::{collections::HashMap, time::Duration};
use talaria_bus::{Bus, Error, Partition, Stored};
use talaria_proto::v1::{Attempt as Attempted, CarriedDelivery, Delivery, DeliveryTask, EventCarried};
use talaria_telemetry::LogLimiter;
use tokio::sync::mpsc;

static CANNOT_CARRY: LogLimiter = LogLimiter::new();

/// Events that are taken in one go.
const EVENTS: usize = 256;

/// The pause before the events are asked for again when the bus does not give them, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Reads what comes into the partition behind a sequence, one step ahead, whatever happens to the bus meanwhile.
pub(super) async fn read_ahead(
    bus: Bus,
    partition: Partition,
    mut after: u64,
    incoming: mpsc::Sender<Vec<Stored>>,
) {
    let mut delay = RETRY_DELAYS.0;
    loop {
        let read = async {
            let mut events = bus.events(partition, after).await?;
            loop {
                let stored = events.next(EVENTS).await?;
                (after, delay) = (stored.last().map_or(after, |stored| stored.seq), RETRY_DELAYS.0);
                if incoming.send(stored).await.is_err() {
                    return Ok::<_, Error>(());
                }
            }
        };
        match read.await {
            Ok(()) => return,
            Err(error) => {
                // All partitions have the same trouble at once.
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(%error, %partition, left_out, "event subscription failed");
                }
            }
        }
        tokio::time::sleep(delay).await;
        delay = (2 * delay).min(RETRY_DELAYS.1);
    }
}

/// An event with its payload, and its deliveries with what the view knows of them.
pub(super) async fn read_carried(
    bus: &Bus,
    view: &View,
    seq: u64,
    payload: Payload,
    tasks: Vec<DeliveryTask>,
) -> Option<EventCarried> {
    let event = match read_event(bus, seq, payload).await {
        Ok(Some(event)) => (*event).clone(),
        Ok(None) => {
            if let Some(left_out) = CANNOT_CARRY.admit() {
                tracing::error!(seq, left_out, "an event that still waits is not kept any more");
            }
            return None;
        }
        Err(error) => {
            if let Some(left_out) = CANNOT_CARRY.admit() {
                tracing::warn!(%error, seq, left_out, "event read failed");
            }
            return None;
        }
    };
    let known = view.read(move |connection| query::histories_of(connection, seq)).await;
    let mut known: HashMap<String, (Delivery, Vec<Attempted>)> = known
        .inspect_err(|error| {
            if let Some(left_out) = CANNOT_CARRY.admit() {
                tracing::warn!(%error, seq, left_out, "the status view cannot tell what is carried");
            }
        })
        .unwrap_or_default()
        .into_iter()
        .map(|history| (history.delivery.id.clone(), (history.delivery, history.attempts)))
        .collect();
    let waiting = tasks.into_iter().map(|task| {
        let (delivery, attempts) = known.remove(&task.delivery_id).unzip();
        CarriedDelivery { task: Some(task), delivery, attempts: attempts.unwrap_or_default() }
    });
    let waiting = waiting.collect();
    let done = known.into_values().map(|(delivery, _)| delivery);
    let done = done.filter(|delivery| delivery.state().is_final()).collect();
    Some(EventCarried { event: Some(event), waiting, done })
}
