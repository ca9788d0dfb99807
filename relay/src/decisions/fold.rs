//! The status of a delivery, folded from the records about it in the order of the journal.
//!
//! A record holds absolute values, so the last one counts, whatever its time is.

use jiff::Timestamp;
use talaria_proto::{
    time::to_proto,
    v1::{Delivery, DeliveryState, DeliveryStatus, Event},
};

/// A delivery as the records so far describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Folded {
    pub delivery: Delivery,
    /// The step of the last record that changed its status; 0 for its planning.
    pub step: u32,
}

impl Folded {
    /// The status after `EventPlanned`.
    pub(crate) fn planned(id: String, route: &str, event: &Event, at: Timestamp) -> Self {
        let at = Some(to_proto(at));
        let delivery = Delivery {
            id,
            event_id: event.id.clone(),
            tenant: event.tenant.clone(),
            route: route.to_owned(),
            event_type: event.r#type.clone(),
            job_id: event.job_id.clone(),
            state: DeliveryState::Waiting.into(),
            reason: "planned".to_owned(),
            generation: 1,
            received_at: event.received_at,
            updated_at: at,
            next_attempt_at: at,
            model: event.model.clone(),
            ..Delivery::default()
        };
        Self { delivery, step: 0 }
    }

    /// A record of time `at` changed the status.
    pub(crate) fn apply(&mut self, status: &DeliveryStatus, at: Timestamp) {
        self.step = status.step;
        let delivery = &mut self.delivery;
        delivery.state = status.state;
        delivery.reason.clone_from(&status.reason);
        delivery.generation = status.generation;
        delivery.attempts = status.attempts;
        delivery.counted_attempts = status.counted_attempts;
        delivery.next_attempt_at = status.next_attempt_at;
        delivery.updated_at = Some(to_proto(at));
    }
}
