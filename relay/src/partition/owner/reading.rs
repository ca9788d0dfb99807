//! Reads for an owner, while it works: the events that come in, and the events to carry.

use super::sender::read_event;
use crate::{
    backoff::Backoff,
    partition::state::Payload,
    view::{View, query},
};
use std::{collections::HashMap, time::Duration};
use talaria_bus::{Bus, Error, Partition, Stored};
use talaria_proto::v1::{Attempt as Attempted, CarriedDelivery, Delivery, DeliveryTask, EventCarried};
use talaria_telemetry::LogLimiter;
use tokio::sync::mpsc;

static CANNOT_CARRY: LogLimiter = LogLimiter::new();

/// The most events in one batch.
const EVENTS: usize = 256;

/// The first and the longest pause after a failed subscription.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Reads the events of the partition after a sequence, one batch ahead. Subscribes again after failures.
pub(super) async fn read_ahead(
    bus: Bus,
    partition: Partition,
    mut after: u64,
    incoming: mpsc::Sender<Vec<Stored>>,
) {
    let mut backoff = Backoff::new(RETRY_DELAYS.0, RETRY_DELAYS.1);
    loop {
        let read = async {
            let mut events = bus.events(partition, after).await?;
            loop {
                let stored = events.next(EVENTS).await?;
                after = stored.last().map_or(after, |stored| stored.seq);
                backoff.reset();
                if incoming.send(stored).await.is_err() {
                    return Ok::<_, Error>(());
                }
            }
        };
        match read.await {
            Ok(()) => return,
            Err(error) => {
                // All partitions fail at once.
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(%error, %partition, left_out, "event subscription failed");
                }
            }
        }
        backoff.sleep().await;
    }
}

/// An event with its payload, and its deliveries with their history from the view.
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
                tracing::error!(seq, left_out, "event of a waiting delivery is gone");
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
                tracing::warn!(%error, seq, left_out, "delivery history read failed");
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
