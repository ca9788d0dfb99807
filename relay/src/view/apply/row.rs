//! A delivery's row while a batch is folded.

use super::{super::schema::Attempts, LaneKey};
use crate::decisions::fold::Folded;
use jiff::Timestamp;
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{CarriedDelivery, Delivery, DeliveryState, Event},
};

pub(super) struct Row {
    pub lane: i64,
    /// The state in the stored row.
    pub stored: Option<i32>,
    pub folded: Folded,
    /// Encoded.
    pub attempts: Vec<u8>,
    /// The attempt under way, and when it was started.
    pub started: Option<(u32, i64)>,
}

impl Row {
    pub(super) fn new(lane: LaneKey, folded: Folded) -> Self {
        Self { lane: lane.number, stored: None, folded, attempts: Vec::new(), started: None }
    }

    /// A waiting delivery of a carried event.
    pub(super) fn waiting(lane: LaneKey, waiting: &CarriedDelivery, event: &Event, at: Timestamp) -> Self {
        let task = waiting.task.clone().unwrap_or_default();
        let id = task.delivery_id;
        // The view from which it was read may have been behind, unlike the task.
        let delivery = Delivery {
            state: DeliveryState::Waiting.into(),
            generation: task.generation,
            attempts: task.attempts,
            counted_attempts: task.counted_attempts,
            next_attempt_at: task.due_at,
            model: event.model.clone(),
            ..waiting.delivery.clone().unwrap_or_else(|| Delivery {
                reason: "waits since before what is kept of the journal".to_owned(),
                ..Folded::planned(id, &task.route, event, at).delivery
            })
        };
        let mut row = Self::new(lane, Folded { delivery, step: task.step });
        waiting.attempts.iter().for_each(|attempt| Attempts::push(&mut row.attempts, attempt));
        row
    }

    /// A finished delivery of a carried event. Its number of attempts is a lower bound of its step.
    pub(super) fn done(lane: LaneKey, done: &Delivery, event: &Event) -> Self {
        let delivery = Delivery { model: event.model.clone(), ..done.clone() };
        Self::new(lane, Folded { delivery, step: done.attempts })
    }

    /// From the event's receipt to its delivery, in microseconds; `None` for a replay, which tells nothing about the route.
    pub(super) fn latency(&self) -> Option<i64> {
        let delivery = &self.folded.delivery;
        let received_at = delivery.received_at.as_ref()?;
        (delivery.state() == DeliveryState::Delivered && delivery.replayed_at.is_none()).then(|| {
            let took = since(from_proto(delivery.updated_at.as_ref()), from_proto(Some(received_at)));
            i64::try_from(took.as_micros()).unwrap_or(i64::MAX)
        })
    }
}
