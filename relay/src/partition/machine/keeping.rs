//! What the retention and the clock ask for.

use super::{Machine, ROOM};
use crate::{
    decisions::pause,
    partition::state::{LaneId, Payload},
};
use jiff::Timestamp;
use prost::Message as _;
use std::collections::HashMap;
use talaria_core::time::before;
use talaria_proto::v1::{CarriedDelivery, DeliveryTask, EventCarried, EventsForgotten, record::What};

/// What the retention asks for beside what the machine did by itself.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// The small state is to be repeated: see [`Machine::renew`].
    pub renew: bool,
    /// The sequences of events that are to be carried: each comes back to [`Machine::carry`] with its payload.
    pub carry: Vec<u64>,
}

impl Machine {
    /// The wall clock was set back: what waits keeps its distance to the present.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.renew(0, now);
        let lanes: Vec<LaneId> = self.routes.drain().map(|(lane, _)| lane).collect();
        for lane in lanes {
            self.update_gate(lane);
        }
    }

    /// Whether the wall clock is believed.
    pub(crate) fn set_clock_settled(&mut self, is_settled: bool) {
        self.is_clock_settled = is_settled;
    }

    /// Keeps what the retention asks for: forgets what was kept for long enough, and says what else is to be done.
    pub(crate) fn keep(&mut self, now: Timestamp, max: usize) -> Keeping {
        if !self.is_clock_settled || self.is_draining {
            return Keeping::default();
        }
        let retention = self.config.retention;
        if let Some(seq) = self.state.forgettable(before(now, retention)) {
            self.push_what(now, 0, What::EventsForgotten(EventsForgotten { before: seq }));
        }
        Keeping {
            renew: self.opened_at < before(now, retention / 4),
            carry: self.state.to_carry(before(now, retention / 2), max),
        }
    }

    /// Ends the pauses whose time is over. Not while the wall clock is not believed: what was sent cannot be called back.
    pub(crate) fn end_pauses(&mut self, now: Timestamp) {
        if !self.is_clock_settled || self.is_draining {
            return;
        }
        let over = self.state.pauses_over(now);
        for ended in &over {
            tracing::info!(
                tenant = ended.tenant,
                route = ended.route,
                by = ended.requested_by,
                "a pause is over"
            );
            for record in pause::over(ended, now) {
                self.push(record);
            }
        }
        if !over.is_empty() {
            self.set_windows();
        }
    }

    /// Repeats the small state, so that nothing before is needed for it. No event of the partition stands between what was
    /// planned last and `quiet_through`.
    pub(crate) fn renew(&mut self, quiet_through: u64, now: Timestamp) {
        self.opened_at = now;
        let mut record = self.state.opened(&self.identity, now);
        if let Some(What::Opened(opened)) = &mut record.what {
            opened.planned_through = opened.planned_through.max(quiet_through);
        }
        self.push(record);
    }

    /// Where the payload of an event is.
    pub(crate) fn payload(&self, event_seq: u64) -> Payload {
        self.state.payload(event_seq)
    }

    /// Records an event again of which a delivery still waits, with what the view knows about its deliveries.
    pub(crate) fn carry(&mut self, event_seq: u64, carried: EventCarried, now: Timestamp) {
        // As they are by now, if none of them is under way.
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
