//! Where a delivery stands, folded from the records about it.
//!
//! Records may come twice and in any order: a crash repeats what was journalled, and replicas read at their own
//! pace. So nothing here counts or appends; every record says where it stands among its delivery's records, and the
//! furthest one wins. What is left is a maximum, which does not care for order or repetition.

use jiff::Timestamp;
use prost::Message as _;
use talaria_bus::time::{from_proto, to_proto};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{Attempt, Delivery, DeliveryRef, DeliveryState, DeliveryStatus, Event};

/// A delivery, and how far its records have been followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// What is known.
    pub delivery: Delivery,
    /// The step of the record that says where it stands; 0 for its planning.
    pub step: u32,
}

impl Folded {
    /// A delivery of which nothing is known but its name.
    pub fn new(named: &DeliveryRef) -> Self {
        let event_id = named.id.parse::<DeliveryId>().map(|id| id.event.to_string()).unwrap_or_default();
        let delivery = Delivery {
            id: named.id.clone(),
            event_id,
            tenant: named.tenant.clone(),
            route: named.route.clone(),
            state: DeliveryState::Waiting.into(),
            generation: 1,
            ..Delivery::default()
        };
        Self { delivery, step: 0 }
    }

    /// It was planned for this event.
    pub fn plan(&mut self, event: &Event, at: Timestamp) {
        let delivery = &mut self.delivery;
        delivery.event_type.clone_from(&event.r#type);
        delivery.job_id.clone_from(&event.job_id);
        delivery.received_at = event.received_at;
        if self.step == 0 {
            delivery.reason = "planned".into();
            // Planned twice, after a crash: the first time counts.
            let first = delivery.updated_at.as_ref().map_or(at, |known| from_proto(Some(known)).min(at));
            delivery.updated_at = Some(to_proto(first));
            delivery.next_attempt_at = delivery.updated_at;
        }
    }

    /// A record says where it stands.
    pub fn stand(&mut self, status: &DeliveryStatus, at: Timestamp) {
        if self.rank() >= (status.step, at, status.encode_to_vec()) {
            return;
        }
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

    /// What another status has to beat. Two records with the same step come of an attempt that was repeated
    /// because the first one's record was written and its delivery not let go; any rule will do, as long as it is
    /// the same everywhere.
    fn rank(&self) -> (u32, Timestamp, Vec<u8>) {
        if self.step == 0 {
            return (0, Timestamp::MAX, Vec::new());
        }
        let delivery = &self.delivery;
        let status = DeliveryStatus {
            step: self.step,
            state: delivery.state,
            reason: delivery.reason.clone(),
            generation: delivery.generation,
            attempts: delivery.attempts,
            counted_attempts: delivery.counted_attempts,
            next_attempt_at: delivery.next_attempt_at,
        };
        (self.step, from_proto(delivery.updated_at.as_ref()), status.encode_to_vec())
    }
}

/// Which of two records of the same attempt is kept.
pub fn attempt(known: Option<Attempt>, new: Attempt) -> Attempt {
    let rank = |attempt: &Attempt| (from_proto(attempt.started_at.as_ref()), attempt.encode_to_vec());
    match known {
        Some(known) if rank(&known) >= rank(&new) => known,
        _ => new,
    }
}
