//! Which events are carried or forgotten, and the floors of the streams.

use super::{
    State,
    jobs::Jobs,
    kept::{Kept, KeptEvents},
    time::nanos,
};
use jiff::Timestamp;
use talaria_bus::Floors;
use talaria_proto::v1::DeliveryTask;

/// The floors of a state that is durable.
pub(super) fn floors(kept: &KeptEvents, jobs: &Jobs, planned_through: u64, opened_at: Option<u64>) -> Floors {
    let next = planned_through.saturating_add(1);
    let events = kept.first_in_stream().map_or(next, |first| first.min(next));
    // Nothing may be trimmed before `Opened` repeats the small state.
    let opened = opened_at.unwrap_or(0);
    let first = kept.oldest().and_then(|(_, first)| first.base.seq());
    let journal = first.into_iter().chain(jobs.floor()).fold(opened, u64::min);
    Floors { events, journal }
}

impl State {
    /// The sequences before which a relay that takes the partition over needs nothing. Records that are not durable yet do
    /// not raise them.
    pub(crate) fn floors(&self) -> Floors {
        self.commits.lower(floors(&self.kept, &self.jobs, self.planned_through, self.opened_at))
    }

    /// The events with waiting deliveries whose base record is older, in the order of these records, without those that cannot
    /// be carried now. Ends at the first record that is not older: the journal can only be trimmed up to it.
    pub(crate) fn to_carry(&self, older_than: Timestamp, max: usize) -> Vec<u64> {
        let older_than = nanos(older_than);
        let is_old = self.kept.iter().take_while(|kept| kept.base_at < older_than);
        is_old
            .filter(|kept| kept.waits() && self.can_be_carried(kept))
            .map(|kept| kept.event_seq)
            .take(max)
            .collect()
    }

    /// The waiting deliveries for the `EventCarried` of an event; `None` if it cannot be carried now.
    pub(crate) fn carried(&self, event_seq: u64) -> Option<Vec<DeliveryTask>> {
        let kept = self.kept.by_seq(event_seq).filter(|kept| self.can_be_carried(kept))?;
        Some(self.of_event(kept).filter_map(|(_, waiting)| self.task_of(kept, waiting)).collect())
    }

    /// No event is carried while one of its attempts is under way: `EventCarried` does not say so. After `AttemptStarted` was
    /// trimmed, the next owner would not know of the attempt.
    fn can_be_carried(&self, kept: &Kept) -> bool {
        kept.base.seq().is_some() && !self.of_event(kept).any(|(_, waiting)| waiting.is_under_way)
    }

    /// The ids of the jobs that can be forgotten because they did not change at or after a time.
    pub(crate) fn forgettable_jobs(&self, older_than: Timestamp) -> Vec<String> {
        self.jobs.forgettable(nanos(older_than), |event| self.kept.by_id(event).is_some_and(Kept::waits))
    }

    /// `EventsForgotten.before`: the base record of the first event that has a waiting delivery, or whose last record is not
    /// older. `None` if no event is before it.
    pub(crate) fn forgettable(&self, older_than: Timestamp) -> Option<u64> {
        let older_than = nanos(older_than);
        let mut last = None;
        for kept in self.kept.iter() {
            let Some(seq) = kept.base.seq() else { break };
            if kept.waits() || kept.last_at >= older_than {
                // Events before it may be in the same commit.
                let first = self.kept.oldest()?.1.base.seq()?;
                return (first < seq).then_some(seq);
            }
            last = Some(seq + 1);
        }
        last
    }
}
