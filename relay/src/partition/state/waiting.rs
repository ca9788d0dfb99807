//! A waiting delivery in few bytes: its lane has the names, its event has the id and the time of receipt.

use super::{
    kept::Kept,
    lanes::LaneId,
    slab::Ix,
    time::{MISSING, read, read_optional, write, write_optional},
};
use crate::decisions::{admission, pace::Priority};
use talaria_core::id::{DeliveryId, RouteKey};
use talaria_proto::v1::DeliveryTask;

/// A waiting delivery. The fields mean the same as those of [`DeliveryTask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub due: i64,
    pub lane: LaneId,
    /// The next waiting delivery of the event.
    pub next: Ix,
    pub lost_at: i64,
    pub age_from: i64,
    pub generation: u32,
    pub attempts: u32,
    pub counted_attempts: u32,
    pub step: u32,
    pub route_faults: u32,
    pub lost_attempt: u32,
    pub unsettled_attempt: u32,
    pub slot_reserved: bool,
    pub is_under_way: bool,
}

impl Waiting {
    /// A delivery that was just planned.
    pub(super) fn planned(lane: LaneId, due: i64) -> Self {
        Self {
            due,
            lane,
            next: Ix::NONE,
            lost_at: MISSING,
            age_from: MISSING,
            generation: 1,
            attempts: 0,
            counted_attempts: 0,
            step: 0,
            route_faults: 0,
            lost_attempt: 0,
            unsettled_attempt: 0,
            slot_reserved: false,
            is_under_way: false,
        }
    }

    pub(super) fn from_task(lane: LaneId, task: &DeliveryTask) -> Self {
        Self {
            due: read(task.due_at.as_ref()),
            lane,
            next: Ix::NONE,
            lost_at: read_optional(task.lost_at.as_ref()),
            age_from: read_optional(task.age_from.as_ref()),
            generation: task.generation,
            attempts: task.attempts,
            counted_attempts: task.counted_attempts,
            step: task.step,
            route_faults: task.route_faults,
            lost_attempt: task.lost_attempt,
            unsettled_attempt: task.unsettled_attempt,
            slot_reserved: task.slot_reserved,
            is_under_way: false,
        }
    }

    pub(super) fn to_task(
        self,
        kept: &Kept,
        route: RouteKey,
        tenant: &str,
        route_name: &str,
    ) -> DeliveryTask {
        DeliveryTask {
            delivery_id: DeliveryId { event: kept.id, route }.to_string(),
            event_seq: kept.event_seq,
            tenant: tenant.to_owned(),
            route: route_name.to_owned(),
            due_at: Some(write(self.due)),
            received_at: Some(write(kept.received_at)),
            generation: self.generation,
            attempts: self.attempts,
            counted_attempts: self.counted_attempts,
            step: self.step,
            route_faults: self.route_faults,
            lost_attempt: self.lost_attempt,
            lost_at: write_optional(self.lost_at),
            slot_reserved: self.slot_reserved,
            age_from: write_optional(self.age_from),
            unsettled_attempt: self.unsettled_attempt,
        }
    }

    pub(super) fn priority(&self) -> Priority {
        let Self { generation, counted_attempts, .. } = *self;
        admission::priority(&DeliveryTask { generation, counted_attempts, ..DeliveryTask::default() })
    }
}
