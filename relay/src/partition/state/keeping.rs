//! How long events are kept, and what the streams are needed for.

use super::{
    State,
    kept::{Kept, KeptEvents},
    time::nanos,
};
use jiff::Timestamp;
use talaria_bus::Floors;
use talaria_proto::v1::DeliveryTask;

/// What a state needs of the streams, if all of it is durable.
pub(super) fn floors(kept: &KeptEvents, planned_through: u64, opened_at: Option<u64>) -> Floors {
    let next = planned_through.saturating_add(1);
    let events = kept.first_in_stream().map_or(next, |first| first.min(next));
    // Nothing of a partition that was never opened may go.
    let opened = opened_at.unwrap_or(0);
    let first = kept.oldest().and_then(|(_, first)| first.base.seq());
    Floors { events, journal: first.map_or(opened, |first| first.min(opened)) }
}

impl State {
    /// The sequences before which nothing of the streams is needed, by a relay that takes the partition over now. What is
    /// not durable yet frees nothing.
    pub(crate) fn floors(&self) -> Floors {
        self.commits.lower(floors(&self.kept, self.planned_through, self.opened_at))
    }

    /// Events of which something waits, that can be carried, and whose base record is older, in the order of these records.
    /// Looks at each event that is kept.
    pub(crate) fn to_carry(&self, older_than: Timestamp, max: usize) -> Vec<u64> {
        let older_than = nanos(older_than);
        let is_old = self.kept.iter().filter(|kept| kept.waits() && kept.base_at < older_than);
        is_old.filter(|kept| self.can_be_carried(kept)).map(|kept| kept.event_seq).take(max).collect()
    }

    /// What waits of an event that is to be carried now; `None` if it cannot be carried now.
    pub(crate) fn carried(&self, event_seq: u64) -> Option<Vec<DeliveryTask>> {
        let kept = self.kept.by_seq(event_seq).filter(|kept| self.can_be_carried(kept))?;
        Some(self.of_event(kept).filter_map(|(_, waiting)| self.task_of(kept, waiting)).collect())
    }

    /// Not while an attempt is under way: `EventCarried` does not say so, and with the attempt's start before it trimmed, the
    /// attempt would be hidden from the next owner.
    fn can_be_carried(&self, kept: &Kept) -> bool {
        kept.base.seq().is_some() && !self.of_event(kept).any(|(_, waiting)| waiting.is_under_way)
    }

    /// The sequence before which all events can be forgotten: in the order of their base records, up to the first one of which
    /// something waits, or about which something was recorded later than this. `None` if there is no event before it.
    pub(crate) fn forgettable(&self, older_than: Timestamp) -> Option<u64> {
        let older_than = nanos(older_than);
        let mut last = None;
        for kept in self.kept.iter() {
            let Some(seq) = kept.base.seq() else { break };
            if kept.waits() || kept.last_at >= older_than {
                // It shares its commit with others.
                let first = self.kept.oldest()?.1.base.seq()?;
                return (first < seq).then_some(seq);
            }
            last = Some(seq + 1);
        }
        last
    }
}
