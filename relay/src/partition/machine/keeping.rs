//! The retention: forgotten, carried and renewed records; and the steps of the clock.

use super::{ForgottenFiles, Machine, ROOM};
use crate::{
    decisions::pause,
    partition::state::{LaneId, Payload},
};
use jiff::Timestamp;
use prost::Message as _;
use std::collections::HashMap;
use talaria_core::time::before;
use talaria_proto::v1::{CarriedDelivery, DeliveryTask, EventCarried, EventsForgotten, record::What};

/// Work of the retention that needs I/O.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// Whether to call [`Machine::renew`].
    pub renew: bool,
    /// The sequences of the events to carry: each comes back to [`Machine::carry`] with its payload.
    pub carry: Vec<u64>,
    /// The jobs whose files to remove, which then come to [`Machine::files_removed`].
    pub remove: Vec<ForgottenFiles>,
}

impl Machine {
    /// The wall clock was set back: waiting deliveries keep their distance to the present.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.renew(0, now);
        let lanes: Vec<LaneId> = self.routes.drain().map(|(lane, _)| lane).collect();
        for lane in lanes {
            self.update_gate(lane);
        }
    }

    pub(crate) fn set_clock_settled(&mut self, is_settled: bool) {
        self.is_clock_settled = is_settled;
    }

    /// Forgets expired events, and gives the other work of the retention.
    pub(crate) fn keep(&mut self, now: Timestamp, max: usize) -> Keeping {
        if !self.is_clock_settled || self.is_draining {
            return Keeping::default();
        }
        self.close_notices(now);
        let retention = self.config.retention;
        if let Some(seq) = self.state.forgettable(before(now, retention)) {
            self.push_what(now, 0, What::EventsForgotten(EventsForgotten { before: seq }));
        }
        let remove = self.forget_jobs(before(now, retention), now);
        Keeping {
            remove,
            renew: self.opened_at < before(now, retention / 4),
            carry: self.state.to_carry(before(now, retention / 2), max),
        }
    }

    /// Ends the pauses whose time is over; not while the wall clock is not believed, because sent requests cannot be undone.
    pub(crate) fn end_pauses(&mut self, now: Timestamp) {
        if !self.is_clock_settled || self.is_draining {
            return;
        }
        let over = self.state.pauses_over(now);
        for ended in &over {
            tracing::info!(tenant = ended.tenant, route = ended.route, by = ended.requested_by, "pause over");
            for record in pause::over(ended, now) {
                self.push(record);
            }
        }
        if !over.is_empty() {
            self.set_windows();
        }
    }

    /// Repeats the small state, so that no earlier record is needed for it. The partition has no event between the last planned
    /// one and `quiet_through`.
    pub(crate) fn renew(&mut self, quiet_through: u64, now: Timestamp) {
        self.opened_at = now;
        let mut record = self.state.opened(&self.identity, now);
        if let Some(What::Opened(opened)) = &mut record.what {
            opened.planned_through = opened.planned_through.max(quiet_through);
        }
        self.push(record);
    }

    pub(crate) fn payload(&self, event_seq: u64) -> Payload {
        self.state.payload(event_seq)
    }

    /// Records an event with waiting deliveries again, with the view's history of its deliveries.
    pub(crate) fn carry(&mut self, event_seq: u64, carried: EventCarried, now: Timestamp) {
        // The current tasks, if no attempt is under way.
        let Some(tasks) = self.state.carried(event_seq) else { return };
        let mut known: HashMap<String, CarriedDelivery> = carried
            .waiting
            .into_iter()
            .filter_map(|known| Some((known.task.as_ref()?.delivery_id.clone(), known)))
            .collect();
        let waiting = tasks.into_iter().map(|task| {
            let known = known.remove(&task.delivery_id).unwrap_or_default();
            CarriedDelivery { task: Some(task), ..known }
        });
        let carried = EventCarried { waiting: waiting.collect(), ..carried };
        if carried.encoded_len() + ROOM <= self.largest {
            self.push_what(now, event_seq, What::EventCarried(carried));
        }
    }

    /// Whether a delivery of an event waits.
    pub(crate) fn waits(&self, event_seq: u64) -> bool {
        self.state.waits(event_seq)
    }

    /// The deliveries of an event that wait.
    pub(crate) fn tasks_of(&self, event_seq: u64) -> Vec<DeliveryTask> {
        self.state.carried(event_seq).unwrap_or_default()
    }
}
