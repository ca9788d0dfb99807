//! How long events are kept, and what the streams are needed for.

use super::{State, kept::KeptEvents, time::nanos};
use jiff::Timestamp;
use talaria_bus::Floors;

/// What a state needs of the streams, if all of it is durable.
pub(super) fn floors(kept: &KeptEvents, planned_through: u64, opened_at: Option<u64>) -> Floors {
    let events = kept.first_plain().map_or(planned_through.saturating_add(1), |first| first.event_seq);
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

    /// Events of which something waits and whose base record is older, in the order of these records. An event with an attempt
    /// under way is passed over: the record of its start must not be trimmed before its end is recorded.
    pub(crate) fn to_carry(&self, older_than: Timestamp, max: usize) -> Vec<u64> {
        let older_than = nanos(older_than);
        let is_old = self.kept.iter().filter(|kept| kept.waits() && kept.base_at < older_than);
        let rests = is_old.filter(|kept| {
            kept.base.seq().is_some() && !self.of_event(kept).any(|(_, waiting)| waiting.is_under_way)
        });
        rests.map(|kept| kept.event_seq).take(max).collect()
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
